package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// keep is the most scratch space that stays with a decoder: what an ordinary request of a few thousand samples needs. More is
// given back to the garbage collector after the request that wanted it.
const keep = 1 << 20

// snappyRatio is the most that a snappy block can expand: a copy of 64 bytes takes at least 3
// (https://github.com/google/snappy/blob/main/format_description.txt). A block that claims more lies about its length.
const snappyRatio = 22

// A decoder is the scratch space for one request being decoded and checked.
type decoder struct {
	scan    remotewrite.Scanner
	message []byte // decompressed
	encoded []byte // compressed anew, when a request is rewritten
}

// decoders bounds how many requests are decompressed at one time. The work is pure CPU, so one decoder per CPU is as fast as
// one per request, and decompressed messages, the largest things in memory, are few.
type decoders chan *decoder

func newDecoders(n int) decoders {
	d := make(decoders, n)
	for range n {
		d <- new(decoder)
	}
	return d
}

func (d decoders) get(ctx context.Context) (*decoder, error) {
	select {
	case dec := <-d:
		return dec, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a decoder: %w", ctx.Err())
	}
}

func (d decoders) put(dec *decoder) {
	if cap(dec.message) > keep {
		dec.message = nil
	}
	if cap(dec.encoded) > keep {
		dec.encoded = nil
	}
	d <- dec
}

// A checked request is what is stored: the counts, and the bytes, which are the sender's own unless they had to be rewritten.
type checked struct {
	payload []byte
	decoded int // bytes of the message once decompressed
	counts  remotewrite.Counts
	parts   []checked // what was rewritten, instead of payload and decoded; its parts have none
}

// check decompresses the body, validates all of it, and rewrites what cannot be stored as it is. Afterwards buf has what is
// stored, and no more is held than that takes.
func (s *Server) check(ctx context.Context, buf *bodyBuffer, h *hold) (checked, error) {
	size, err := s.decodedLen(buf.b)
	if err != nil {
		return checked{}, err
	}
	if err := h.take(int64(size)); err != nil {
		return checked{}, err
	}
	msg, err := s.decode(ctx, buf, size, h)
	if err != nil {
		return checked{}, err
	}
	return msg, h.stored(buf)
}

func (s *Server) decode(ctx context.Context, buf *bodyBuffer, size int, h *hold) (checked, error) {
	dec, err := s.decoders.get(ctx)
	if err != nil {
		return checked{}, err
	}
	defer s.decoders.put(dec)

	if cap(dec.message) < size {
		dec.message = make([]byte, size)
	}
	message, err := snappy.Decode(dec.message[:cap(dec.message)], buf.b)
	if err != nil {
		return checked{}, fmt.Errorf("%w of %d bytes: %w", errSnappy, len(buf.b), err)
	}
	counts, err := dec.scan.Scan(message, s.limits)
	if err != nil {
		return checked{}, nameLimit(err)
	}
	if counts.Reserved == 0 && len(buf.b) <= s.gather.MaxPayload(nil) {
		return checked{payload: buf.b, decoded: size, counts: counts}, nil
	}
	return s.rewrite(dec, message, counts, buf, h)
}

// nameLimit adds the setting to an error about a limit.
func nameLimit(err error) error {
	switch {
	case errors.Is(err, remotewrite.ErrTooManySeries):
		return fmt.Errorf("%w (INGESTGW_INGEST_MAX_SERIES)", err)
	case errors.Is(err, remotewrite.ErrTooLarge):
		return fmt.Errorf("%w (INGESTGW_INGEST_MAX_EXPANDED)", err)
	}
	return err
}

// decodedLen is the length that the block claims, once it is plausible and within the limit.
func (s *Server) decodedLen(body []byte) (int, error) {
	size, err := snappy.DecodedLen(body)
	if err != nil {
		return 0, fmt.Errorf("%w of %d bytes: %w", errSnappy, len(body), err)
	}
	if limit := int64(s.cfg.MaxDecoded); int64(size) > limit {
		return 0, fmt.Errorf("%w: %d bytes once decompressed, limit %d (INGESTGW_INGEST_MAX_DECODED)", errTooLarge, size, limit)
	}
	if size > snappyRatio*len(body) {
		return 0, fmt.Errorf("%w: %d bytes cannot decompress to the %d they claim", errSnappy, len(body), size)
	}
	return size, nil
}
