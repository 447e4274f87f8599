package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// keep is the most scratch space that stays with a decoder: what an ordinary request of a few thousand samples needs. More is
// given back to the garbage collector after the request that wanted it.
const keep = 1 << 20

// snappyRatio is the most that a snappy block can expand: a copy of 64 bytes takes at least 3
// (https://github.com/google/snappy/blob/main/format_description.txt). A block that claims more lies about its length.
const snappyRatio = 22

// A decoder is the scratch space for one request being decoded, checked and rewritten.
type decoder struct {
	scan    remotewrite.Scanner
	invalid invalids // series of the message that were taken out of it
	judge   judge
	divider remotewrite.Divider
	message []byte // decompressed
	divided []byte // shared out among tenants
	tagged  []byte // with tags among its labels
	encoded []byte // compressed anew, when a request is rewritten
}

// decoders bounds how many requests are decompressed at one time. The work is pure CPU, so one decoder per CPU is as fast as
// one per request, and decompressed messages, the largest things in memory, are few.
type decoders chan *decoder

func newDecoders(n int, cfg Config) decoders {
	d := make(decoders, n)
	for range n {
		d <- &decoder{judge: judge{cfg: cfg}}
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
	for _, space := range []*[]byte{&dec.message, &dec.divided, &dec.tagged, &dec.encoded} {
		if cap(*space) > keep {
			*space = nil
		}
		*space = (*space)[:0]
	}
	if cap(dec.judge.out) > keep {
		dec.judge.out = nil
	}
	d <- dec
}

// A checked request is what of it is to be stored.
type checked struct {
	counts  remotewrite.Counts // of all that was sent
	parts   []part
	refused refusals
	limited error // why nothing of some tenants is stored, though of others it is
}

// check decompresses the body, validates all of it, asks whether its tenants may send so much, and rewrites what cannot be stored as
// it was sent. Afterwards buf has what is stored, and no more is held than that takes.
func (s *Server) check(ctx context.Context, from *origin, buf *bodyBuffer, h *hold) (msg checked, err error) {
	size, err := s.decodedLen(buf.b)
	if err != nil {
		return checked{}, err
	}
	if err := h.take(int64(size)); err != nil {
		return checked{}, err
	}
	if from.sender.Mapping == nil {
		msg, err = s.checkOne(ctx, from, buf, size, h)
	} else {
		msg, err = s.checkMany(ctx, from, buf, size, h)
	}
	if err == nil {
		err = h.stored(buf)
	}
	if err != nil {
		for i := range msg.parts {
			msg.parts[i].giveBack(err)
		}
		return checked{}, err
	}
	return msg, nil
}

// checkOne is check for a request whose samples are all of one tenant. With an error, msg has the parts that were admitted before.
func (s *Server) checkOne(ctx context.Context, from *origin, buf *bodyBuffer, size int, h *hold) (msg checked, err error) {
	dec, err := s.decoders.get(ctx)
	if err != nil {
		return checked{}, err
	}
	defer s.decoders.put(dec)
	dec.invalid = invalids{}
	message, counts, err := s.decode(dec, buf.b, size, dec.invalid.note)
	if err != nil {
		return checked{}, err
	}
	msg = checked{counts: counts, refused: refusals{total: counts.Series + dec.invalid.series, invalid: dec.invalid}}
	if counts.Series == 0 && counts.Metadata == 0 {
		msg.refused.tell(from.tenant, from.received, s.cfg)
		return msg, nil
	}
	p := part{of: from.tenant, payload: message, decoded: len(message), sent: len(buf.b), counts: counts}
	if err := p.admit(from.sender.Tenant, from.received); err != nil {
		return checked{}, err
	}
	msg.refused.tell(from.tenant, from.received, s.cfg)
	msg.parts = []part{p}
	changed, err := dec.change(&msg.parts[0], from, &msg.refused, h)
	if err != nil {
		return msg, err
	}
	if !changed && dec.invalid.series == 0 && len(buf.b) <= s.gather.MaxPayload(p.tags) {
		msg.parts[0].payload = buf.b
		return msg, nil
	}
	err = s.finish(dec, &msg, buf, h)
	return msg, err
}

// change leaves out of p what may not be stored, and says whether that made its message another one.
func (dec *decoder) change(p *part, from *origin, refused *refusals, h *hold) (changed bool, err error) {
	entrusted := from.sender.Mapping != nil
	if !entrusted && p.counts.Reserved > 0 {
		p.of.Reserved(p.counts.Reserved)
	}
	found := dec.judge.judge(p, entrusted, from.received)
	found.why.tell(p.of, from.received, dec.judge.cfg)
	refused.add(&found.why)
	if !found.changes() && p.counts.Reserved == 0 {
		return false, nil
	}
	if found.tagged {
		size := dec.judge.edit.Size(len(p.payload), p.counts.Series)
		if err := h.take(int64(size)); err != nil {
			return false, err
		}
		dec.tagged = slices.Grow(dec.tagged, size)
		dec.judge.carryOut(p, found, dec.tagged[len(dec.tagged):])
		dec.tagged = dec.tagged[:len(dec.tagged)+len(p.payload)]
		return true, nil
	}
	dec.judge.carryOut(p, found, nil)
	return true, nil
}

// decode decompresses the body and walks all of the message, which it returns without its invalid series. Those it gives to invalid, see
// remotewrite.Scanner.Sift.
func (s *Server) decode(dec *decoder, body []byte, size int, invalid func(remotewrite.View, func() *remotewrite.Error)) (
	message []byte, counts remotewrite.Counts, err error,
) {
	if cap(dec.message) < size {
		dec.message = make([]byte, size)
	}
	message, err = snappy.Decode(dec.message[:cap(dec.message)], body)
	if err != nil {
		return nil, counts, fmt.Errorf("%w of %d bytes: %w", errSnappy, len(body), err)
	}
	if message, counts, err = dec.scan.Sift(message, s.valid, invalid); err != nil {
		return nil, counts, nameLimit(err)
	}
	return message, counts, nil
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
