package disk

import (
	"errors"
	"fmt"
	"io"

	"github.com/ingestgw/ingestgw/buffer"
)

// frames reads the frames of one segment through a window of the file. The zero window reads at need.
type frames struct {
	f     io.ReaderAt
	sums  checksums
	limit int64 // nothing is read at or behind this byte
	chunk int   // what is read at a time, at least
	pool  *buffers
	// patient makes up zeros for pages that cannot be read, so that the blocks around them can be.
	patient    bool
	unreadable int64 // bytes made up

	heads buffer.Offset // behind all blocks of which resync saw a valid head

	window *buffered // bytes from start on; nil before the first read
	held   []byte    // the part of window that was read
	start  int64
}

// release gives the window back.
func (r *frames) release() {
	if r.window != nil {
		r.window.release()
	}
	r.window, r.held = nil, nil
}

// detach hands the window over to whoever goes on using the bytes.
func (r *frames) detach() *buffered {
	w := r.window
	r.window, r.held = nil, nil
	return w
}

// holds says whether n bytes at pos can be had without moving the window.
func (r *frames) holds(pos int64, n int64) bool {
	return pos >= r.start && pos+n <= r.start+int64(len(r.held))
}

// bytes returns n bytes at pos, valid until the next call that moves the window.
func (r *frames) bytes(pos, n int64) ([]byte, error) {
	if !r.holds(pos, n) {
		if err := r.move(pos, n); err != nil {
			return nil, err
		}
	}
	i := pos - r.start
	return r.held[i : i+n : i+n], nil
}

// move lets the window begin at pos and hold n bytes, or a whole chunk if that can be read.
func (r *frames) move(pos, n int64) error {
	if ahead := min(int64(r.chunk), r.limit-pos); ahead > n && r.load(pos, ahead) == nil {
		return nil
	}
	return r.load(pos, n)
}

// load lets the window hold the n bytes at pos. What it holds already is not read again.
func (r *frames) load(pos, n int64) error {
	var have []byte
	if pos >= r.start && pos < r.start+int64(len(r.held)) {
		have = r.held[pos-r.start:]
	}
	old := r.window
	if old == nil || int64(len(old.bytes)) < n {
		r.window = r.pool.get(int(n))
	}
	kept := copy(r.window.bytes[:n], have)
	if old != nil && old != r.window {
		old.release()
	}
	r.held, r.start = r.window.bytes[:kept], pos
	if err := r.read(r.window.bytes[kept:n], pos+int64(kept)); err != nil {
		return err
	}
	r.held = r.window.bytes[:n]
	return nil
}

// read fills b. What a file that is shorter than it should be lacks is zero, and so does not pass for a block.
func (r *frames) read(b []byte, pos int64) error {
	n, err := r.f.ReadAt(b, pos)
	if n == len(b) || errors.Is(err, io.EOF) {
		clear(b[n:])
		return nil
	}
	if !r.patient || !isUnreadable(err) {
		return fmt.Errorf("read %d bytes at %d: %w", len(b), pos, err)
	}
	const page = 4096
	for i := 0; i < len(b); {
		part := b[i:min(len(b), i+page-int((pos+int64(i))%page))]
		if n, err := r.f.ReadAt(part, pos+int64(i)); n < len(part) && !errors.Is(err, io.EOF) {
			clear(part)
			r.unreadable += int64(len(part))
		} else {
			clear(part[n:])
		}
		i += len(part)
	}
	return nil
}

// What can stand where a frame is due.
type frameState int

const (
	frameValid   frameState = iota // a block
	frameDamaged                   // one or more damaged blocks, with something valid behind them
	frameIndex                     // the index that ends the segment
	frameNone                      // nothing valid from here to the limit
)

// frame is what stands at a place where the block of some offset is due.
type frame struct {
	state frameState
	head  frameHead // of a block or an index
	data  []byte    // of a block or an index; valid until the window moves
	// next is where the following frame begins, due the offset it must have. Of damaged blocks, those below due are lost.
	next int64
	due  buffer.Offset
}

// at reads what stands at pos, where the block of offset due should; the segment's blocks have offsets below bound.
func (r *frames) at(pos int64, due, bound buffer.Offset) (frame, error) {
	if pos+frameHeadSize > r.limit {
		return frame{state: frameNone}, nil
	}
	b, err := r.bytes(pos, frameHeadSize)
	if err != nil {
		return frame{}, err
	}
	head, ok := parseHead(b, r.sums)
	if !ok || head.offset != due || head.kind > kindIndex || pos+head.frameSize() > r.limit || head.kind == kindBlock && due >= bound {
		return r.resync(pos, due, bound)
	}
	b, err = r.bytes(pos, head.frameSize())
	if err != nil {
		return frame{}, err
	}
	switch {
	case !head.dataValid(b, r.sums) && head.kind == kindIndex:
		return frame{state: frameNone}, nil
	case !head.dataValid(b, r.sums):
		return frame{state: frameDamaged, next: pos + head.frameSize(), due: due + 1}, nil
	case head.kind == kindIndex:
		return frame{state: frameIndex, head: head, data: b[frameHeadSize:], next: pos + head.frameSize(), due: due}, nil
	}
	return frame{state: frameValid, head: head, data: b[frameHeadSize:], next: pos + head.frameSize(), due: due + 1}, nil
}

// resync looks behind pos, where there is no valid head, for the next frame that is valid in full and fits.
func (r *frames) resync(pos int64, due, bound buffer.Offset) (frame, error) {
	for p := pos + 1; p+frameHeadSize <= r.limit; {
		if _, err := r.bytes(p, frameHeadSize); err != nil {
			return frame{}, err
		}
		w := r.held[p-r.start:]
		i := 0
		for i+frameHeadSize <= len(w) && !r.fits(w[i:i+frameHeadSize], p+int64(i), pos, due, bound) {
			i++
		}
		p += int64(i)
		if i+frameHeadSize > len(w) {
			continue // on with the next part of the file
		}
		head, _ := parseHead(w[i:], r.sums)
		b, err := r.bytes(p, head.frameSize())
		if err != nil {
			return frame{}, err
		}
		if head.dataValid(b, r.sums) {
			return frame{state: frameDamaged, next: p, due: head.offset}, nil
		}
		if head.kind == kindBlock {
			r.heads = max(r.heads, head.offset+1)
		}
		p++
	}
	return frame{state: frameNone}, nil
}

// fits says whether b is the head of a frame that may stand at p, when blocks from due on should have stood at pos.
func (r *frames) fits(b []byte, p, pos int64, due, bound buffer.Offset) bool {
	kind, offset := le.Uint32(b[36:]), buffer.Offset(le.Uint64(b[8:]))
	if kind > kindIndex || offset <= due || offset > bound || offset == bound && kind == kindBlock {
		return false
	}
	if int64(offset-due) > (p-pos)/frameHeadSize {
		return false // more blocks than the bytes in between can have held
	}
	head, ok := parseHead(b, r.sums)
	return ok && p+head.frameSize() <= r.limit
}
