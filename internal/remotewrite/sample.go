package remotewrite

import (
	"encoding/binary"
	"unicode/utf8"
)

const (
	tagSample          = seriesSamples<<3 | byte(typeBytes)
	tagSampleValue     = sampleValue<<3 | byte(typeFixed64)
	tagSampleTimestamp = sampleTimestamp<<3 | byte(typeVarint)

	sampleValue     = 1
	sampleTimestamp = 2

	exemplarLabels    = 1
	exemplarValue     = 2
	exemplarTimestamp = 3
)

// scanUsualSamples walks the samples that start at b[i] as they are usually written: value, then timestamp. It stops at the
// first that is not. Any bits are a value: NaN, ±Inf and stale markers are data.
func (s *Scanner) scanUsualSamples(b []byte, i int) (end int) {
	for i+13 <= len(b) && b[i] == tagSample && b[i+2] == tagSampleValue && b[i+11] == tagSampleTimestamp {
		end := i + 2 + int(b[i+1])
		n := end - (i + 12) // bytes of the timestamp
		if n < 1 || n > 8 || end > len(b) || !endsVarint(b[:end], n) {
			break
		}
		s.samples++
		i = end
	}
	return i
}

// endsVarint says whether the last n bytes of b, 1 to 8, are one varint: the last has its highest bit clear, the others set.
// b has at least 8 bytes.
func endsVarint(b []byte, n int) bool {
	last8 := binary.LittleEndian.Uint64(b[len(b)-8:])
	others := uint(72 - 8*n) // from the left: the last byte, and what stands before the varint
	return last8>>63 == 0 && last8<<8>>others&highBits == highBits>>others
}

// scanSample walks one sample, however it is written. b ends where the sample does.
func (s *Scanner) scanSample(b []byte, i int) error {
	for i < len(b) {
		f, reason := nextField(b, i)
		if reason != "" {
			return s.malformed(i, "%s", reason)
		}
		if f.number() == sampleValue && f.typ() != typeFixed64 || f.number() == sampleTimestamp && f.typ() != typeVarint {
			return s.wrongType(f, "value or timestamp of a sample")
		}
		i = f.to
	}
	return nil
}

// scanExemplar walks one exemplar. Of its labels only the wire and UTF-8 are checked: nothing behind us keeps exemplars.
func (s *Scanner) scanExemplar(b []byte, i int) error {
	for i < len(b) {
		f, reason := nextField(b, i)
		if reason != "" {
			return s.malformed(i, "%s", reason)
		}
		switch f.number() {
		case exemplarLabels:
			if f.typ() != typeBytes {
				return s.wrongType(f, "labels of an exemplar")
			}
			if err := s.scanExemplarLabel(b[:f.to], f.from); err != nil {
				return err
			}
		case exemplarValue:
			if f.typ() != typeFixed64 {
				return s.wrongType(f, "value of an exemplar")
			}
		case exemplarTimestamp:
			if f.typ() != typeVarint {
				return s.wrongType(f, "timestamp of an exemplar")
			}
		}
		i = f.to
	}
	return nil
}

func (s *Scanner) scanExemplarLabel(b []byte, i int) error {
	for i < len(b) {
		f, reason := nextField(b, i)
		if reason != "" {
			return s.malformed(i, "%s", reason)
		}
		if f.number() == labelNameField || f.number() == labelValueField {
			if f.typ() != typeBytes {
				return s.wrongType(f, "name or value of an exemplar's label")
			}
			if !utf8.Valid(b[f.from:f.to]) {
				return s.invalid(f.from, "name or value of an exemplar's label is not UTF-8")
			}
		}
		i = f.to
	}
	return nil
}
