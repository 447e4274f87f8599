package disk

import (
	"math/bits"
	"sync"
)

const (
	leastBuffer = 16 // 64 KiB, as a power of two
	mostBuffer  = 23 // 8 MiB; larger ones are left to the garbage collector
	// bufferMargin lets a frame of a round number of bytes fit into a buffer of that class.
	bufferMargin = 4096
)

// buffers are pools of byte slices, one for each power of two.
type buffers struct {
	classes [mostBuffer - leastBuffer + 1]sync.Pool
}

// buffered is a slice that goes back to its pool.
type buffered struct {
	bytes []byte
	pool  *sync.Pool // nil when it is too large or too small to keep
}

// get returns a buffer of at least n bytes. Their content is whatever was there before.
func (p *buffers) get(n int) *buffered {
	class := max(leastBuffer, bits.Len(uint(max(n-bufferMargin, 1)-1)))
	if class > mostBuffer || n <= 1<<(leastBuffer-2) {
		return &buffered{bytes: make([]byte, n)}
	}
	pool := &p.classes[class-leastBuffer]
	if b, ok := pool.Get().(*buffered); ok {
		return b
	}
	return &buffered{bytes: make([]byte, 1<<class+bufferMargin), pool: pool}
}

func (b *buffered) release() {
	if b.pool != nil {
		b.pool.Put(b)
	}
}
