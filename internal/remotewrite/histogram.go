package remotewrite

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The fields of a native histogram, from
// https://github.com/prometheus/prometheus/blob/main/prompb/types.proto, message Histogram. An integer histogram has
// the count, the zero count and deltas of buckets as integers, a float histogram has counts of all three.
const (
	histogramCountInt       = 1  // uint64
	histogramCountFloat     = 2  // double
	histogramSum            = 3  // double
	histogramSchema         = 4  // sint32
	histogramZeroThreshold  = 5  // double
	histogramZeroCountInt   = 6  // uint64
	histogramZeroCountFloat = 7  // double
	histogramNegativeSpans  = 8  // BucketSpan, repeated
	histogramNegativeDeltas = 9  // sint64, repeated
	histogramNegativeCounts = 10 // double, repeated
	histogramPositiveSpans  = 11 // as 8 to 10
	histogramPositiveDeltas = 12
	histogramPositiveCounts = 13
	histogramResetHint      = 14 // enum
	histogramTimestamp      = 15 // int64
	histogramCustomValues   = 16 // double, repeated

	spanOffset = 1 // sint32
	spanLength = 2 // uint32
)

// Schemas say where bucket bounds lie (https://prometheus.io/docs/specs/native_histograms/#schema): exponentially, in the
// range that is reserved for that, or at custom values.
const (
	schemaMin    = -9
	schemaMax    = 52
	schemaCustom = -53
)

// A histogram is what has to be remembered of one while its fields come by, in whatever order.
type histogram struct {
	integers, floats bool // which kinds of counts it has
	count, zeroCount uint64
	timestamp        int64 // Unix milliseconds
	schema           int32
	sum              float64
	zeroThreshold    float64
	zeroFloat        float64
	negative         buckets
	positive         buckets
	bounds           int // custom values
	lastBound        float64
	fault            string // the first that was found in the values themselves
}

// buckets are those of one side.
type buckets struct {
	number  int    // how many buckets
	spans   int    // how many spans
	first   int32  // the first span's offset: the index of the first bucket
	spanned uint64 // buckets that the spans have room for
	end     int64  // the index behind the last span
	delta   int64  // the sum of the deltas so far: the integer count of the last bucket
	count   uint64 // the sum of all integer counts
}

// scanHistogram walks one histogram and checks that it adds up, as Prometheus does. Nothing is allocated: spans and buckets
// are only counted. b ends where the histogram does.
func (s *Scanner) scanHistogram(b []byte, i int) error {
	var h histogram
	for at := i; at < len(b); {
		f, reason := nextField(b, at)
		if reason == "" {
			reason = h.scan(b, f)
		}
		if reason != "" {
			return s.malformed(at, "histogram: %s", reason)
		}
		at = f.to
	}
	if fault := h.check(); fault != "" {
		s.invalid(0, i, "histogram: "+fault)
		return nil
	}
	s.times.add(h.timestamp)
	s.rows += histogramRows + h.negative.number + h.positive.number
	s.spans += h.negative.spans + h.positive.spans
	return nil
}

// scan takes in one field. What it returns, if anything, is why the wire is malformed.
func (h *histogram) scan(b []byte, f field) (reason string) {
	switch f.number() {
	case histogramCountInt:
		h.integers, h.count = true, f.varint(b)
		return want(f, typeVarint)
	case histogramZeroCountInt:
		h.integers, h.zeroCount = true, f.varint(b)
		return want(f, typeVarint)
	case histogramTimestamp:
		h.timestamp = int64(f.varint(b))
		return want(f, typeVarint)
	case histogramResetHint:
		return want(f, typeVarint)
	case histogramCountFloat:
		h.floats = true
		count, reason := double(b, f)
		h.refuse(count < 0, "the count is negative")
		return reason
	case histogramZeroCountFloat:
		h.floats = true
		h.zeroFloat, reason = double(b, f)
		return reason
	case histogramSum:
		h.sum, reason = double(b, f)
		return reason
	case histogramZeroThreshold:
		h.zeroThreshold, reason = double(b, f)
		return reason
	case histogramSchema:
		h.schema, reason = sint32(b, f)
		return reason
	case histogramNegativeSpans:
		return h.span(&h.negative, b, f)
	case histogramPositiveSpans:
		return h.span(&h.positive, b, f)
	case histogramNegativeDeltas:
		return h.deltas(&h.negative, b, f)
	case histogramPositiveDeltas:
		return h.deltas(&h.positive, b, f)
	case histogramNegativeCounts:
		return h.counts(&h.negative, b, f)
	case histogramPositiveCounts:
		return h.counts(&h.positive, b, f)
	case histogramCustomValues:
		return doubles(b, f, h.bound)
	}
	return ""
}

// refuse keeps the first fault.
func (h *histogram) refuse(when bool, fault string) {
	if when && h.fault == "" {
		h.fault = fault
	}
}

// span takes in one BucketSpan: so many buckets, so far behind the span before.
func (h *histogram) span(side *buckets, b []byte, f field) (reason string) {
	if reason := want(f, typeBytes); reason != "" {
		return reason
	}
	var offset int32
	var length uint64
	b = b[:f.to]
	for i := f.from; i < len(b); {
		f, reason := nextField(b, i)
		if reason != "" {
			return reason
		}
		switch f.number() {
		case spanOffset:
			if offset, reason = sint32(b, f); reason != "" {
				return reason
			}
		case spanLength:
			if reason := want(f, typeVarint); reason != "" {
				return reason
			}
			if length = f.varint(b); length > math.MaxUint32 {
				return "a span's length is above 32 bits"
			}
		}
		i = f.to
	}
	if side.spans == 0 {
		side.first = offset
	}
	h.refuse(side.spans > 0 && offset < 0, "a span begins before the end of the one before")
	side.spans++
	side.spanned += length
	side.end += int64(offset) + int64(length)
	h.refuse(side.end-1 > math.MaxInt32, "a span ends beyond the last bucket there can be")
	return ""
}

// deltas takes in one or more integer buckets, each as the difference to the one before. They come packed or one by one.
func (h *histogram) deltas(side *buckets, b []byte, f field) (reason string) {
	switch f.typ() {
	case typeVarint:
		h.delta(side, f.varint(b))
		return ""
	case typeBytes:
		for i := f.from; i < f.to; {
			var v uint64
			if v, i = uvarint(b[:f.to], i); i < 0 {
				return "a packed bucket is not a varint"
			}
			h.delta(side, v)
		}
		return ""
	}
	return want(f, typeBytes)
}

func (h *histogram) delta(side *buckets, zigzag uint64) {
	delta := int64(zigzag>>1) ^ -int64(zigzag&1)
	h.integers = true
	side.number++
	side.delta += delta // negative too when it overflows: both were at least 0 and at most MaxInt64, or negative already
	h.refuse(side.delta < 0, "a bucket's count is negative")
	count, carry := bits.Add64(side.count, uint64(side.delta), 0)
	side.count = count
	h.refuse(carry > 0, "the buckets hold more than 64 bits can count")
}

// counts takes in one or more float buckets. They come packed or one by one.
func (h *histogram) counts(side *buckets, b []byte, f field) (reason string) {
	return doubles(b, f, func(count float64) {
		h.floats = true
		side.number++
		h.refuse(count < 0, "a bucket's count is negative")
	})
}

func (h *histogram) bound(v float64) {
	h.refuse(math.IsNaN(v) || math.IsInf(v, 1), "a custom bound is NaN or +Inf")
	h.refuse(h.bounds > 0 && v <= h.lastBound, "custom bounds do not ascend")
	h.bounds, h.lastBound = h.bounds+1, v
}

// check says what does not add up, once all fields are in.
func (h *histogram) check() (fault string) {
	h.refuse(h.integers && h.floats, "integer and float counts in one histogram")
	h.refuse(h.negative.spanned != uint64(h.negative.number), "negative spans and buckets differ in number")
	h.refuse(h.positive.spanned != uint64(h.positive.number), "positive spans and buckets differ in number")
	if h.schema == schemaCustom {
		h.checkCustom()
	} else {
		h.checkExponential()
	}
	if !h.floats {
		h.checkCount()
	}
	return h.fault
}

func (h *histogram) checkExponential() {
	h.refuse(h.schema < schemaMin || h.schema > schemaMax, "unknown schema")
	h.refuse(h.bounds > 0, "custom bounds in an exponential histogram")
	h.refuse(h.zeroFloat < 0, "the zero bucket's count is negative")
}

func (h *histogram) checkCustom() {
	h.refuse(h.negative.spans > 0 || h.negative.number > 0, "negative buckets beside custom bounds")
	h.refuse(h.zeroCount != 0 || h.zeroFloat != 0 || h.zeroThreshold != 0, "a zero bucket beside custom bounds")
	h.refuse(h.positive.first < 0, "a bucket below the first custom bound's")
	h.refuse(h.positive.end > int64(h.bounds)+1, "more buckets than custom bounds")
}

// checkCount compares the count of an integer histogram with its buckets. A NaN that was observed is in no bucket, but makes the
// sum NaN.
func (h *histogram) checkCount() {
	sides, carry := bits.Add64(h.negative.count, h.positive.count, 0)
	total, carry2 := bits.Add64(sides, h.zeroCount, 0)
	h.refuse(carry+carry2 > 0 || total > h.count, "more observations in buckets than in the count")
	h.refuse(total < h.count && !math.IsNaN(h.sum), "fewer observations in buckets than in the count")
}

func want(f field, typ wireType) (reason string) {
	if f.typ() != typ {
		return "a field has the wrong wire type"
	}
	return ""
}

func double(b []byte, f field) (v float64, reason string) {
	if f.typ() != typeFixed64 {
		return 0, want(f, typeFixed64)
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b[f.from:])), ""
}

// doubles calls fn with each double of a repeated field, packed or not.
func doubles(b []byte, f field, fn func(float64)) (reason string) {
	if f.typ() != typeBytes {
		v, reason := double(b, f)
		if reason == "" {
			fn(v)
		}
		return reason
	}
	if (f.to-f.from)%8 != 0 {
		return "packed doubles of a length that is no multiple of 8"
	}
	for i := f.from; i < f.to; i += 8 {
		fn(math.Float64frombits(binary.LittleEndian.Uint64(b[i:])))
	}
	return ""
}

func sint32(b []byte, f field) (v int32, reason string) {
	if f.typ() != typeVarint {
		return 0, want(f, typeVarint)
	}
	zigzag := f.varint(b)
	if zigzag > math.MaxUint32 {
		return 0, "a signed number is above 32 bits"
	}
	return int32(zigzag>>1) ^ -int32(zigzag&1), ""
}
