package remotewrite_test

import (
	"encoding/binary"
	"math"
)

// What follows writes the wire by hand, so that tests can write it wrongly too.

const (
	varint    = 0
	fixed64   = 1
	delimited = 2
	group     = 3
	fixed32   = 5
)

// field writes a field of number and wire type; content is written as it is.
func field(number, typ uint64, content ...byte) []byte {
	return append(binary.AppendUvarint(nil, number<<3|typ), content...)
}

// message writes a length-delimited field.
func message(number uint64, content []byte) []byte {
	b := field(number, delimited)
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

func text(number uint64, s string) []byte    { return message(number, []byte(s)) }
func number(number uint64, v uint64) []byte  { return field(number, varint, uvarint(v)...) }
func double(number uint64, v float64) []byte { return field(number, fixed64, float(v)...) }
func uvarint(v uint64) []byte                { return binary.AppendUvarint(nil, v) }
func float(v float64) []byte                 { return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)) }
func zigzag(v int64) uint64                  { return uint64(v<<1) ^ uint64(v>>63) }

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// timeseries writes a series into a request.
func timeseries(parts ...[]byte) []byte { return message(1, join(parts...)) }

// labels writes labels into a series: name, value, name, value.
func labels(pairs ...string) []byte {
	var b []byte
	for i := 0; i < len(pairs); i += 2 {
		b = append(b, message(1, join(text(1, pairs[i]), text(2, pairs[i+1])))...)
	}
	return b
}

// sample writes a sample into a series.
func sample(v float64, timestamp int64) []byte {
	return message(2, join(double(1, v), number(2, uint64(timestamp))))
}
