package remotewrite

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// A wireType says how the content of a field is encoded (https://protobuf.dev/programming-guides/encoding/#structure).
type wireType uint8

const (
	typeVarint  wireType = 0
	typeFixed64 wireType = 1
	typeBytes   wireType = 2 // strings, messages, packed numbers
	typeFixed32 wireType = 5
)

func (t wireType) String() string {
	switch t {
	case typeVarint:
		return "varint"
	case typeFixed64:
		return "fixed64"
	case typeBytes:
		return "length-delimited"
	case typeFixed32:
		return "fixed32"
	}
	return "group"
}

const (
	maxFieldNumber = 1<<29 - 1 // the largest that protobuf allows
	maxMessage     = 1<<31 - 1 // bytes; protobuf allows no more
)

// A span is a half-open range of bytes of the message, in one word: the lower half is where it begins, the upper half where it
// ends. Both fit because of maxMessage.
type span uint64

func newSpan(from, to int) span { return span(uint64(from) | uint64(to)<<32) }

func (p span) from() int            { return int(uint32(p)) }
func (p span) to() int              { return int(p >> 32) }
func (p span) len() int             { return p.to() - p.from() }
func (p span) of(msg []byte) []byte { return msg[p.from():p.to()] }

// A field is one field as it stands on the wire. All positions count from the beginning of the message. It has four words,
// because the compiler keeps so many in registers.
type field struct {
	tag      uint64
	at       int // where the tag begins
	from, to int // the content: without tag and length, up to the end of the field
}

func (f field) number() int   { return int(f.tag >> 3) }
func (f field) typ() wireType { return wireType(f.tag & 7) }
func (f field) span() span    { return newSpan(f.from, f.to) }

// varint is the value of a field of that type, in the message b.
func (f field) varint(b []byte) uint64 {
	v, _ := uvarint(b, f.from)
	return v
}

// nextField reads the field that starts at b[at]. b ends where the enclosing message ends. A field that cannot be read has a
// reason.
func nextField(b []byte, at int) (f field, reason string) {
	tag, i := uvarint(b, at)
	if i < 0 {
		return field{}, "the tag of a field is not a varint"
	}
	if tag>>3 == 0 || tag>>3 > maxFieldNumber {
		return field{}, "field number out of range"
	}
	to := 0
	switch wireType(tag & 7) {
	case typeBytes:
		n, from := uvarint(b, i)
		if from < 0 {
			return field{}, "the length of a field is not a varint"
		}
		if n > uint64(len(b)-from) {
			return field{}, "the length of a field goes beyond what encloses it"
		}
		i, to = from, from+int(n)
	case typeVarint:
		if _, to = uvarint(b, i); to < 0 {
			return field{}, "the value of a field is not a varint"
		}
	case typeFixed64:
		to = i + 8
	case typeFixed32:
		to = i + 4
	default:
		return field{}, "groups are not allowed"
	}
	if to > len(b) {
		return field{}, "a fixed-width number goes beyond what encloses it"
	}
	return field{tag: tag, at: at, from: i, to: to}, ""
}

// step is nextField, quicker for what is usual in series: tag and length in one byte each.
func step(b []byte, at int) (f field, reason string) {
	if at+1 < len(b) && b[at]&0x87 == byte(typeBytes) && b[at] > 7 && b[at+1] < 0x80 {
		if to := at + 2 + int(b[at+1]); to <= len(b) {
			return field{tag: uint64(b[at]), at: at, from: at + 2, to: to}, ""
		}
	}
	return nextField(b, at)
}

// mustStep is step in a message that has passed Scan.
func mustStep(b []byte, at int) field {
	f, reason := step(b, at)
	if reason != "" {
		notScanned(reason)
	}
	return f
}

// notScanned panics: our own code has walked what it has not scanned.
func notScanned(reason string) {
	panic("remotewrite: a message that has not passed Scan: " + reason)
}

// uvarintSize is how many bytes the varint takes.
func uvarintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// uvarint reads the varint at b[i] and returns where it ends; -1 when b ends before it does, or when it has more than 64 bits.
func uvarint(b []byte, i int) (v uint64, to int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	v, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

const highBits = 0x8080808080808080

// ascii says whether all of b is ASCII.
func ascii(b []byte) bool {
	if len(b) < 32 {
		return orBytes(b)&highBits == 0
	}
	last := b[len(b)-32:] // overlaps what the loop has seen
	x := or32(last)
	for len(b) > 32 && x&highBits == 0 {
		x |= or32(b)
		b = b[32:]
	}
	return x&highBits == 0
}

func or32(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b) | binary.LittleEndian.Uint64(b[8:]) |
		binary.LittleEndian.Uint64(b[16:]) | binary.LittleEndian.Uint64(b[24:32])
}

func orBytes(b []byte) (x uint64) {
	for _, c := range b {
		x |= uint64(c)
	}
	return x
}

// first8 is the beginning of a name as a number that sorts as the names do: big-endian, and filled up with zero bytes.
func first8(msg []byte, name span) uint64 {
	if at := name.from(); at+8 <= len(msg) {
		return cut8(binary.BigEndian.Uint64(msg[at:]), name.len())
	}
	var padded [8]byte
	copy(padded[:], name.of(msg))
	return binary.BigEndian.Uint64(padded[:])
}

// cut8 keeps the first n bytes of the eight in x, when n is less, and makes the others zero. n is at least 1.
func cut8(x uint64, n int) uint64 {
	drop := uint(64-8*min(n, 8)) & 63
	return x & (math.MaxUint64 << drop)
}
