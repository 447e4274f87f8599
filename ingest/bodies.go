package ingest

import (
	"math/bits"
	"sync"
)

// bodies are buffers for requests as they were sent, one pool for each power of two, so that a small body never holds a buffer
// much larger than itself.
type bodies struct {
	pools [1 + mostPooled - leastPooled]sync.Pool
}

// The sizes of buffers that are used again, as powers of two.
const (
	leastPooled = 12 // 4 KiB
	mostPooled  = 20 // keep
)

type bodyBuffer struct{ b []byte }

// replace puts a copy of b in the place of the body, and returns it. Should that need more space, it needs just as much.
func (buf *bodyBuffer) replace(b []byte) []byte {
	if cap(buf.b) < len(b) {
		buf.b = make([]byte, len(b))
	}
	buf.b = append(buf.b[:0], b...)
	return buf.b
}

// room is the capacity of a buffer for n bytes: less than twice as much, but at least 4 KiB.
func room(n int) int {
	if n > keep {
		return n
	}
	return max(1<<leastPooled, 1<<bits.Len(uint(max(n, 1)-1)))
}

// get returns an empty buffer with room for n bytes.
func (p *bodies) get(n int) *bodyBuffer {
	size := room(n)
	if size <= keep {
		if buf, ok := p.pools[bits.Len(uint(size))-1-leastPooled].Get().(*bodyBuffer); ok {
			return buf
		}
	}
	return &bodyBuffer{b: make([]byte, 0, size)}
}

// put takes a buffer back. One of another size than get makes for many is left to the garbage collector.
func (p *bodies) put(buf *bodyBuffer) {
	size := cap(buf.b)
	if size > keep || size != room(size) {
		return
	}
	buf.b = buf.b[:0]
	p.pools[bits.Len(uint(size))-1-leastPooled].Put(buf)
}
