package ingest

import (
	"fmt"
	"slices"
	"time"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// A part is what becomes one record: in most cases all of a request, else what of it belongs to one tenant or fits into one block.
type part struct {
	of      *limit.Tenant
	profile *tenant.Profile
	lane    buffer.Lane
	tags    tenant.Tags // for whoever sends it on to put on
	payload []byte      // a message; compressed in the end
	decoded int         // bytes of the message
	counts  remotewrite.Counts

	// What counts against the tenant's limits, besides samples: bytes as sent, and requests.
	sent, requests int
	verdict        limit.Verdict
}

// record is p as the buffer keeps it.
func (p *part) record(received time.Time) buffer.Record {
	return buffer.Record{
		Tenant:   p.profile.ID,
		Tags:     p.tags,
		Received: received,
		Encoding: buffer.Snappy,
		Series:   p.counts.Series,
		Samples:  p.samples(),
		Decoded:  p.decoded,
		Payload:  p.payload,
	}
}

// oldAfter is how old a sample has to be to count as old: its sender sends what it could not send before. A request whose newest sample
// is old goes to the bulk lane, so that what is fresh need not wait behind it. One whose oldest sample is old is never answered 429, for
// which some senders drop it.
const oldAfter = 5 * time.Minute

func (p *part) isOld(timestamp int64, received time.Time) bool {
	return p.samples() > 0 && received.UnixMilli()-timestamp > oldAfter.Milliseconds()
}

// aheadAfter is how far in the future a timestamp has to be to be counted: no clock that is kept is as wrong.
const aheadAfter = time.Hour

func (p *part) isAhead(received time.Time) bool {
	return p.samples() > 0 && p.counts.Newest-received.UnixMilli() > aheadAfter.Milliseconds()
}

func (p *part) usage() limit.Usage {
	return limit.Usage{Samples: p.samples(), Bytes: p.sent, Requests: p.requests}
}

// admit asks whether the tenant may send p, which is a request or all of one that is the tenant's, and to which lane it goes.
func (p *part) admit(profile *tenant.Profile, received time.Time) error {
	p.profile, p.tags, p.requests = profile, profile.Tags, 1
	usage := p.usage()
	usage.HoldsOld = p.isOld(p.counts.Oldest, received)
	p.verdict = p.of.Admit(received, usage, p.isOld(p.counts.Newest, received))
	p.lane = buffer.Main
	if p.verdict.Bulk {
		p.lane = buffer.Bulk
	}
	if p.verdict.Err != nil {
		return &delayed{p.verdict.Err, p.verdict.RetryAfter}
	}
	return nil
}

// giveBack is for a part that was admitted and is not stored: its sender will send it again, and that is not to count twice.
func (p *part) giveBack(why error) { p.of.Undo(time.Now(), p.usage(), p.verdict, why) }

// A delayed error says when to come again.
type delayed struct {
	error
	wait time.Duration
}

func (d *delayed) Unwrap() error { return d.error }

// samples are what limits count: histograms are samples too.
func (p *part) samples() int { return p.counts.Samples + p.counts.Histograms }

// empty says whether there is nothing to be stored.
func (p *part) empty() bool { return p.counts.Series == 0 && p.counts.Metadata == 0 }

// finish makes records of the messages that lie in the parts of msg: compressed, cut between series where the buffer does not take them
// in one block, and in the place of the body. It takes the budget for the space that it needs, besides what is held now.
func (s *Server) finish(dec *decoder, msg *checked, buf *bodyBuffer, h *hold) error {
	before := h.bytes
	msg.parts = slices.DeleteFunc(msg.parts, func(p part) bool { return p.empty() })
	messages := make([][]byte, len(msg.parts))
	for i := range msg.parts {
		messages[i] = msg.parts[i].payload
	}
	encoded, err := dec.encode(msg.parts, h, before)
	if err == nil && s.tooLarge(msg.parts) {
		if err = s.split(dec, msg, messages); err == nil {
			encoded, err = dec.encode(msg.parts, h, before)
		}
	}
	if err == nil {
		err = s.checkSizes(msg.parts)
	}
	if err != nil {
		return err
	}
	rest := buf.replace(encoded)
	for i := range msg.parts {
		p := &msg.parts[i]
		size := len(p.payload)
		p.payload, rest = rest[:size:size], rest[size:]
	}
	return nil
}

func (s *Server) tooLarge(parts []part) bool {
	for i := range parts {
		if len(parts[i].payload) > s.gather.MaxPayload(parts[i].tags) {
			return true
		}
	}
	return false
}

// split cuts the messages of those parts between their series that are too large once compressed, so that each piece fits into a
// block however little can be compressed; a piece that is larger has one series or one metadata entry. No payload is compressed then.
func (s *Server) split(dec *decoder, msg *checked, messages [][]byte) (err error) {
	var pieces []part
	for i, p := range msg.parts {
		most := s.gather.MaxPayload(p.tags)
		if len(p.payload) <= most {
			p.payload = messages[i]
			pieces = append(pieces, p)
			continue
		}
		size := (most - snappy.MaxEncodedLen(0)) * 6 / 7 // snappy.MaxEncodedLen adds a sixth
		for message := range remotewrite.Split(messages[i], size) {
			if p.counts, err = dec.scan.Scan(message, s.valid); err != nil {
				return fmt.Errorf("part %d of a request: %w", len(pieces), err)
			}
			p.payload, p.decoded = message, len(message)
			p.sent = msg.parts[i].sent * len(message) / len(messages[i])
			pieces = append(pieces, p)
			p.requests = 0 // it was one
		}
	}
	msg.parts = pieces
	return nil
}

// encode compresses the payloads of parts into scratch space, one behind the other, and returns all of that. Besides what was
// held before, h then holds the scratch space.
func (dec *decoder) encode(parts []part, h *hold, before int64) ([]byte, error) {
	size := 0
	for i := range parts {
		size += snappy.MaxEncodedLen(len(parts[i].payload))
	}
	if err := h.set(before + int64(size)); err != nil {
		return nil, err
	}
	if cap(dec.encoded) < size {
		dec.encoded = make([]byte, size)
	}
	used, space := 0, dec.encoded[:size]
	for i := range parts {
		parts[i].payload = snappy.Encode(space[used:], parts[i].payload)
		used += len(parts[i].payload)
	}
	return space[:used], nil
}

// checkSizes says which part does not fit into a block, if one does not. Nothing of the request has been stored then.
func (s *Server) checkSizes(parts []part) error {
	series := 0
	for i := range parts {
		p := &parts[i]
		if most := s.gather.MaxPayload(p.tags); len(p.payload) > most {
			what := "a metadata entry"
			if p.counts.Series > 0 {
				what = fmt.Sprintf("series %d", series)
			}
			return fmt.Errorf("%w: %s alone takes %d bytes compressed, the buffer takes %d in one block (it follows from "+
				"INGESTGW_BUFFER_MAX_BYTES, with Kafka from max.message.bytes of the topic)", errTooLarge, what, len(p.payload), most)
		}
		series += p.counts.Series
	}
	return nil
}
