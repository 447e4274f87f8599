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
	// step is by how much the space for a body without Content-Length grows.
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

// readBody reads the whole body into buf's space, or into a larger one, and takes the budget for bytes before it reads them.
func readBody(r *http.Request, buf []byte, limit int64, h *hold) ([]byte, error) {
	if r.ContentLength > limit {
		return buf, fmt.Errorf("%w: body of %d bytes, limit %d (INGESTGW_INGEST_MAX_BODY)", errTooLarge, r.ContentLength, limit)
	}
	if r.ContentLength < 0 {
		return readChunked(r.Body, buf[:0], limit, h)
	}
	if err := h.take(heldTwice * r.ContentLength); err != nil {
		return buf, err
	}
	if int64(cap(buf)) < r.ContentLength {
		buf = make([]byte, r.ContentLength)
	}
	buf = buf[:r.ContentLength]
	_, err := io.ReadFull(r.Body, buf)
	return buf, readError(err)
}

func readChunked(body io.Reader, buf []byte, limit int64, h *hold) ([]byte, error) {
	var taken int
	for {
		if len(buf) == taken {
			if err := h.take(heldTwice * step); err != nil {
				return buf, err
			}
			taken += step
		}
		if taken > cap(buf) {
			buf = append(make([]byte, 0, max(taken, 2*cap(buf))), buf...)
		}
		n, err := body.Read(buf[len(buf):taken])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return buf, fmt.Errorf("%w: body of more than %d bytes (INGESTGW_INGEST_MAX_BODY)", errTooLarge, limit)
		}
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, readError(err)
		}
	}
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
