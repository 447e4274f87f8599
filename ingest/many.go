package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// A sharing is how the series of a trusted sender's message are shared out among tenants.
type sharing struct {
	mapping tenant.Mapping
	labels  []string
	of      []int32 // by number of the series: the tenant's number; leftOut for none
	ofMeta  []int32 // the same of metadata
	tenants []*tenant.Profile
	numbers map[tenant.ID]int32
	known   map[string]int32 // by the values of labels
	key     []byte
	values  [][]byte
	refused refusals
}

const leftOut int32 = -1

// share finds the tenant of everything in message. It may have to ask for tenants, and wait for that.
func share(ctx context.Context, mapping tenant.Mapping, message []byte) (*sharing, error) {
	labels := mapping.Labels()
	sh := &sharing{
		mapping: mapping,
		labels:  labels,
		numbers: map[tenant.ID]int32{},
		known:   map[string]int32{},
		values:  make([][]byte, len(labels)),
	}
	for view := range remotewrite.Series(message) {
		for i, label := range labels {
			sh.values[i] = view.Get(label)
		}
		n, err := sh.find(ctx)
		if err != nil {
			return nil, err
		}
		if n == leftOut {
			sh.refused.unnamed.add(view)
		}
		sh.of = append(sh.of, n)
	}
	for entry := range remotewrite.Metadata(message) {
		clear(sh.values)
		if account, project, ok := entry.Tenant(); ok && len(labels) == 2 {
			sh.values[0] = strconv.AppendUint(nil, uint64(account), 10)
			sh.values[1] = strconv.AppendUint(nil, uint64(project), 10)
		}
		n, err := sh.find(ctx)
		if err != nil {
			return nil, err
		}
		sh.ofMeta = append(sh.ofMeta, n)
	}
	return sh, nil
}

// find is the number of the tenant that sh.values name, a new one for a tenant that comes for the first time.
func (sh *sharing) find(ctx context.Context) (int32, error) {
	sh.key = sh.key[:0]
	for _, v := range sh.values {
		sh.key = strconv.AppendInt(sh.key, int64(len(v)), 10)
		sh.key = append(append(sh.key, ':'), v...)
	}
	if n, ok := sh.known[string(sh.key)]; ok {
		return n, nil
	}
	profile, err := sh.mapping.Find(ctx, sh.values...)
	n := leftOut
	switch {
	case err == nil:
		n = sh.number(profile)
	case !errors.Is(err, tenant.ErrUnnamed) && !errors.Is(err, tenant.ErrForbidden):
		return 0, fmt.Errorf("find the tenants that the data name: %w", err)
	case sh.refused.example == nil:
		sh.refused.example = err
	}
	sh.known[string(sh.key)] = n
	return n, nil
}

func (sh *sharing) number(p *tenant.Profile) int32 {
	if n, ok := sh.numbers[p.ID]; ok {
		return n
	}
	n := int32(len(sh.tenants))
	sh.numbers[p.ID] = n
	sh.tenants = append(sh.tenants, p)
	return n
}

// divide cuts the message into one for each tenant. They lie in the decoder's space.
func (sh *sharing) divide(dec *decoder, message []byte) []remotewrite.Part {
	series, meta := 0, 0
	if cap(dec.divided) < len(message) {
		dec.divided = make([]byte, 0, len(message))
	}
	var parts []remotewrite.Part
	dec.divided, parts = dec.divider.Divide(dec.divided[:0], message, func(remotewrite.View) int {
		series++
		return int(sh.of[series-1])
	}, func(remotewrite.MetadataView) int {
		meta++
		return int(sh.ofMeta[meta-1])
	})
	return parts
}

// checkMany is check for a request whose data name the tenants. With an error, msg has the parts that were admitted before.
func (s *Server) checkMany(ctx context.Context, from *origin, buf *bodyBuffer, size int, h *hold) (msg checked, err error) {
	message, counts, err := s.decodeAside(ctx, buf.b, size)
	if err != nil || counts.Series == 0 && counts.Metadata == 0 {
		return checked{}, err
	}
	sh, err := share(ctx, from.sender.Mapping, message)
	if err != nil {
		return checked{}, err
	}
	msg.counts, msg.refused = counts, sh.refused
	msg.refused.total = counts.Series

	dec, err := s.decoders.get(ctx)
	if err != nil {
		return checked{}, err
	}
	defer s.decoders.put(dec)
	if err := h.take(int64(len(message))); err != nil {
		return checked{}, err
	}
	var errs []error
	var above tally
	for n, divided := range sh.divide(dec, message) {
		if divided.Counts.Series == 0 && divided.Counts.Metadata == 0 {
			continue
		}
		profile := sh.tenants[n]
		p := part{
			of: s.limits.Tenant(profile), payload: divided.Message, decoded: len(divided.Message),
			sent: len(buf.b) * len(divided.Message) / len(message), counts: divided.Counts,
		}
		if err := p.admit(profile, from.received); err != nil {
			errs = append(errs, err)
			above.series, above.samples = above.series+p.counts.Series, above.samples+p.samples()
			continue
		}
		msg.parts = append(msg.parts, p)
		if _, err := dec.change(&msg.parts[len(msg.parts)-1], from, &msg.refused, h); err != nil {
			return msg, err
		}
	}
	if err := worst(errs); len(msg.parts) > 0 && errors.Is(err, limit.ErrLimit) {
		msg.refused.above, msg.refused.flood = above, err
	} else {
		msg.limited = err
	}
	err = s.finish(dec, &msg, buf, h)
	return msg, err
}

// decodeAside decodes the body and takes the message away from its decoder, which others can have while tenants are looked up.
func (s *Server) decodeAside(ctx context.Context, body []byte, size int) ([]byte, remotewrite.Counts, error) {
	dec, err := s.decoders.get(ctx)
	if err != nil {
		return nil, remotewrite.Counts{}, err
	}
	defer s.decoders.put(dec)
	message, counts, err := s.decode(dec, body, size)
	dec.message = nil
	return message, counts, err
}
