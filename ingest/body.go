package ingest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/ingestgw/ingestgw/memory"
)

const (
	// step is the first space for a body without Content-Length.
	step = 64 << 10
	// heldTwice is how often a body is in memory until it is durable: as it was read, and as a part of its block.
	heldTwice = 2
)

// A hold is what one request has taken of the budget of bytes in flight.
type hold struct {
	budget *memory.Budget
	bytes  int64
}

func (h *hold) take(n int64) error {
	if !h.budget.TryTake(n) {
		return fmt.Errorf("%w: %d bytes wanted, %d of %d in use (INGESTGW_MEMORY_LIMIT)",
			errBudget, n, h.budget.Used(), h.budget.Limit())
	}
	h.bytes += n
	return nil
}

func (h *hold) give(n int64) {
	h.budget.Release(n)
	h.bytes -= n
}

func (h *hold) giveAll() { h.give(h.bytes) }

// set gives back all but n bytes, or takes what is missing.
func (h *hold) set(n int64) error {
	if n > h.bytes {
		return h.take(n - h.bytes)
	}
	h.give(h.bytes - n)
	return nil
}

// stored holds what is held until a body is durable: the buffer that it lies in, and a copy as a part of its block.
func (h *hold) stored(buf *bodyBuffer) error { return h.set(int64(cap(buf.b) + len(buf.b))) }

// read returns the whole body in a buffer that is to be put back, and takes the budget for bytes before it reads them.
func (p *bodies) read(r *http.Request, limit int64, h *hold) (*bodyBuffer, error) {
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: body of %d bytes, limit %d (INGESTGW_INGEST_MAX_BODY)", errTooLarge, r.ContentLength, limit)
	}
	if r.ContentLength < 0 {
		return p.readChunked(r.Body, limit, h)
	}
	n := int(r.ContentLength)
	if err := h.take(int64(room(n) + n)); err != nil {
		return nil, err
	}
	buf := p.get(n)
	buf.b = buf.b[:n]
	if _, err := io.ReadFull(r.Body, buf.b); err != nil {
		p.put(buf)
		return nil, readError(err)
	}
	return buf, nil
}

func (p *bodies) readChunked(body io.Reader, limit int64, h *hold) (*bodyBuffer, error) {
	buf := new(bodyBuffer)
	for {
		if len(buf.b) == cap(buf.b) {
			larger, err := p.grow(buf, limit, h)
			if err != nil {
				p.put(buf)
				return nil, err
			}
			buf = larger
		}
		n, err := body.Read(buf.b[len(buf.b):cap(buf.b)])
		buf.b = buf.b[:len(buf.b)+n]
		switch {
		case int64(len(buf.b)) > limit:
			p.put(buf)
			return nil, fmt.Errorf("%w: body of more than %d bytes (INGESTGW_INGEST_MAX_BODY)", errTooLarge, limit)
		case errors.Is(err, io.EOF):
			return buf, h.stored(buf)
		case err != nil:
			p.put(buf)
			return nil, readError(err)
		}
	}
}

// grow returns a buffer of about twice the size with what is in buf, which it puts back. The most that it ever wants is one byte
// above the limit, so that a body that is too large is noticed. What it takes of the budget is enough for both buffers.
func (p *bodies) grow(buf *bodyBuffer, limit int64, h *hold) (*bodyBuffer, error) {
	size := max(step, 2*cap(buf.b))
	if int64(size) >= limit {
		size = int(limit) + 1
	}
	if err := h.set(int64(heldTwice * room(size))); err != nil {
		return nil, err
	}
	larger := p.get(size)
	larger.b = append(larger.b, buf.b...)
	p.put(buf)
	return larger, nil
}

// readError tells a sender that was too slow, one that went away, and one that does not speak HTTP. Only the last is certain
// to fail again: a body may end early because of a proxy in between, and a 400 would make the sender drop it.
func readError(err error) error {
	var netErr net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w (INGESTGW_INGEST_READ_TIMEOUT)", errSlow)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &netErr):
		return fmt.Errorf("%w: %w", errAborted, err)
	}
	return fmt.Errorf("%w: %w", errChunks, err)
}
