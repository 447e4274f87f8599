package remotewrite

import (
	"encoding/binary"
	"unicode/utf8"
)

const (
	tagTimeseries      = requestTimeseries<<3 | byte(typeBytes)
	tagSample          = seriesSamples<<3 | byte(typeBytes)
	tagSampleValue     = sampleValue<<3 | byte(typeFixed64)
	tagSampleTimestamp = sampleTimestamp<<3 | byte(typeVarint)

	sampleValue     = 1
	sampleTimestamp = 2

	exemplarLabels    = 1
	exemplarValue     = 2
	exemplarTimestamp = 3
)

// scanUsualSamples walks the samples that start at b[i] as they are usually written, and stops at the first that is not.
func (s *Scanner) scanUsualSamples(b []byte, i int) (end int) {
	n, times, end := usualSamples(b, i)
	s.samples += n
	s.usualTimes.add(times)
	return end
}

// usualSamples walks the samples that start at b[i] as they are usually written: value, then timestamp, above 0 and not padded.
// It stops at the first that is not. Any bits are a value: NaN, ±Inf and stale markers are data.
func usualSamples(b []byte, i int) (n int, times usualTimeRange, end int) {
	times = noUsualTimes
	for i+13 <= len(b) && b[i] == tagSample && b[i+2] == tagSampleValue && b[i+11] == tagSampleTimestamp {
		end := i + 2 + int(b[i+1])
		size := end - (i + 12) // bytes of the timestamp
		if size < 1 || size > 8 || end > len(b) {
			break
		}
		t := endingAs(b[:end], size)
		if !t.usual(size) {
			break
		}
		times.oldest, times.newest = min(times.oldest, t), max(times.newest, t)
		n++
		i = end
	}
	return n, times, i
}

// A usualTime is a timestamp as the bytes of its varint, at most eight, the first of them lowest. Times so written compare as
// the numbers that they stand for, as long as none is padded: the highest seven bits come last.
type usualTime uint64

// endingAs reads the last size bytes of b, 1 to 8. b has at least 8 bytes.
func endingAs(b []byte, size int) usualTime {
	return usualTime(binary.LittleEndian.Uint64(b[len(b)-8:]) >> (uint(64-8*size) & 63))
}

// usual says whether all size bytes are one varint that is not padded: the last has its highest bit clear and is not 0, the
// others have it set.
func (t usualTime) usual(size int) bool {
	return t&highBits == highBits>>uint(72-8*size) && t>>(uint(8*size-8)&63) != 0
}

// scanSample walks one sample, however it is written. b ends where the sample does.
func (s *Scanner) scanSample(b []byte, i int) error {
	timestamp := int64(0)
	for i < len(b) {
		f, reason := nextField(b, i)
		if reason != "" {
			return s.malformed(i, "%s", reason)
		}
		if f.number() == sampleValue && f.typ() != typeFixed64 || f.number() == sampleTimestamp && f.typ() != typeVarint {
			return s.wrongType(f, "value or timestamp of a sample")
		}
		if f.number() == sampleTimestamp {
			timestamp = int64(f.varint(b))
		}
		i = f.to
	}
	s.times.add(timestamp)
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
				s.invalid(0, f.from, "name or value of an exemplar's label is not UTF-8")
			}
		}
		i = f.to
	}
	return nil
}
