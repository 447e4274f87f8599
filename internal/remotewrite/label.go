package remotewrite

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

const (
	tagLabel      = seriesLabels<<3 | byte(typeBytes)
	tagLabelName  = labelNameField<<3 | byte(typeBytes)
	tagLabelValue = labelValueField<<3 | byte(typeBytes)

	labelNameField  = 1
	labelValueField = 2
)

// A labelName is where a name stands, and how it begins.
type labelName struct {
	span
	first8 uint64
}

// scanLabels walks the labels that start at b[i], if any do, and returns where they end.
func (s *Scanner) scanLabels(b []byte, i int) (int, error) {
	for i < len(b) {
		before := s.labels
		end := s.scanUsualLabels(b, i)
		if err := s.checkText(b[:end], i, before); err != nil {
			return 0, err
		}
		if end == len(b) || b[end] == tagSample {
			return end, nil
		}
		f, reason := nextField(b, end)
		if reason != "" || f.number() != seriesLabels {
			return end, nil
		}
		if err := s.scanLabel(b[:f.to], f); err != nil {
			return 0, err
		}
		i = f.to
	}
	return i, nil
}

// scanUsualLabels walks labels as they are usually written: name, then value, every length in one byte. It stops at the first
// that is not, and where names is full. It is what the time goes into, hence one loop that calls nothing: what has to be looked
// at again, by lookAgain, is marked.
func (s *Scanner) scanUsualLabels(b []byte, i int) (end int) {
	n, last := s.labels, s.lastFirst8
	var descents, marked uint64 // marked: one bit for each of names
	b = b[:len(b):len(b)]
	for n < maxNames && i < len(b) {
		rest := b[i:]
		if len(rest) < 12 {
			break
		}
		head := binary.LittleEndian.Uint32(rest)
		if head&usualMask != usualHead {
			break
		}
		size, value := int(head>>8&0x7f)+2, int(head>>24)+6
		if value == 6 || value > size || size > len(rest) ||
			rest[value-2] != tagLabelValue || int(rest[value-1]) != size-value {
			break
		}
		first := cut8(binary.BigEndian.Uint64(rest[4:]), value-6)
		s.names[n] = labelName{newSpan(i+4, i+value-2), first}
		_, descent := bits.Sub64(first, last, 0)
		descents |= descent
		if first == last || notable(first) {
			marked |= 1 << n
		}
		last = first
		n++
		i += size
	}
	s.labels, s.lastFirst8 = n, last
	s.unsorted = s.unsorted || descents != 0
	s.lookAgain(b, marked)
	return i
}

// The first four bytes of a label as it is usually written: tag, length, tag of the name, length of the name. The lengths are
// free but for their highest bit, which would say that they go on.
const (
	usualMask = 0x80ff80ff
	usualHead = uint32(tagLabel) | uint32(tagLabelName)<<16
)

// lookAgain looks at the names that scanUsualLabels has marked.
func (s *Scanner) lookAgain(b []byte, marked uint64) {
	for ; marked != 0; marked &= marked - 1 {
		i := bits.TrailingZeros64(marked)
		name := s.names[i].span
		if i > 0 && string(s.names[i-1].of(b)) >= string(name.of(b)) {
			s.unsorted = true
		}
		s.note(b, name, usualValue(b, name))
	}
}

// usualValue is the value of a label as it is usually written: its tag and its length in one byte follow the name.
func usualValue(b []byte, name span) span {
	at := name.to() + 2
	return newSpan(at, at+int(b[at-1]))
}

// note takes note of a label that matters.
func (s *Scanner) note(b []byte, name, value span) {
	if text := name.of(b); string(text) == "__name__" {
		s.metric = value
	} else if reserved(text) {
		s.counts.Reserved++
	}
}

// scanLabel walks one label f, however it is written. b ends where the label does.
func (s *Scanner) scanLabel(b []byte, f field) error {
	if f.typ() != typeBytes {
		return s.wrongType(f, "labels of a series")
	}
	name, value, err := s.checkLabel(b, f.from)
	if err != nil {
		return err
	}
	first := first8(b, name)
	if s.labels < maxNames {
		s.names[s.labels] = labelName{name, first}
	}
	s.unsorted = s.unsorted || s.labels > 0 && first <= s.lastFirst8 // equal is unsure, which is as good
	s.labels, s.lastFirst8 = s.labels+1, first
	s.note(b, name, value)
	return nil
}

// checkText checks the names and values of labels that scanUsualLabels has walked: those from b[i] to the end of b, whose names
// begin at names[first]. They nearly always are ASCII, which is quickly seen for all of them at once.
func (s *Scanner) checkText(b []byte, i, first int) error {
	if ascii(b[i:]) {
		s.checkUsualNames(b, first)
		return nil
	}
	for i < len(b) {
		f, _ := nextField(b, i)
		if _, _, err := s.checkLabel(b[:f.to], f.from); err != nil {
			return err
		}
		i = f.to
	}
	return nil
}

func (s *Scanner) checkUsualNames(b []byte, first int) {
	if !s.lim.LegacyNames || first >= maxNames {
		return
	}
	for _, name := range s.names[first:s.labels] {
		s.checkLegacy(name.span, usualValue(b, name.span))
	}
}

// checkLabel checks the name and the value of the label at b[i:]. The error is about bytes that are malformed.
func (s *Scanner) checkLabel(b []byte, i int) (name, value span, err error) {
	at := i
	for i < len(b) {
		f, reason := nextField(b, i)
		if reason != "" {
			return name, value, s.malformed(i, "%s", reason)
		}
		if f.number() == labelNameField || f.number() == labelValueField {
			if f.typ() != typeBytes {
				return name, value, s.wrongType(f, "name or value of a label")
			}
			if f.number() == labelNameField {
				name = f.span()
			} else {
				value = f.span()
			}
			if !utf8.Valid(b[f.from:f.to]) {
				s.invalid(name, f.from, "name or value is not UTF-8")
			}
		}
		i = f.to
	}
	if name.len() == 0 {
		s.invalid(0, at, "a label without a name")
	}
	s.counts.measure(name.len(), value.len())
	s.checkLegacy(name, value)
	return name, value, nil
}
