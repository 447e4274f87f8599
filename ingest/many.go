package ingest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// A sharing is how the series of a trusted sender's message are shared out among tenants.
type sharing struct {
	mapping tenant.Mapping
	labels  []string
	names   []name
	known   map[string]int32 // by the values of labels: which of names
	of      []int32          // by number of the series: which of names
	ofMeta  []int32          // the same of metadata
	tenants []*tenant.Profile
	numbers map[tenant.ID]int32
	key     []byte
	values  [][]byte

	taken   int // invalid series
	refused refusals
	late    tally // of tenants that cannot be found out now
	lateErr error // why of one of those
}

// A name is what the labels of a mapping say, for all series in which they say the same.
type name struct {
	values  [][]byte
	profile *tenant.Profile
	err     error // why there is no profile
	number  int32 // of the tenant; leftOut without
	series  int   // that name it, without those that are
	invalid invalids
}

const leftOut int32 = -1

func newSharing(mapping tenant.Mapping) *sharing {
	labels := mapping.Labels()
	return &sharing{
		mapping: mapping,
		labels:  labels,
		known:   map[string]int32{},
		numbers: map[tenant.ID]int32{},
		values:  make([][]byte, len(labels)),
	}
}

// noteInvalid takes note of a series that is not in the message any more.
func (sh *sharing) noteInvalid(v remotewrite.View, why func() *remotewrite.Error) {
	sh.taken++
	sh.refused.invalid.note(v, why)
	for i, label := range sh.labels {
		value, once := v.Once(label)
		if !once || !utf8.Valid(value) {
			return // it cannot be told whose it is
		}
		sh.values[i] = value
	}
	sh.names[sh.name()].invalid.note(v, why)
}

// read takes note of what the message says of tenants.
func (sh *sharing) read(message []byte) {
	for view := range remotewrite.Series(message) {
		for i, label := range sh.labels {
			sh.values[i] = view.Get(label)
		}
		n := sh.name()
		sh.names[n].series++
		sh.of = append(sh.of, n)
	}
	for entry := range remotewrite.Metadata(message) {
		clear(sh.values)
		if account, project, ok := entry.Tenant(); ok && len(sh.labels) == 2 {
			sh.values[0] = strconv.AppendUint(nil, uint64(account), 10)
			sh.values[1] = strconv.AppendUint(nil, uint64(project), 10)
		}
		sh.ofMeta = append(sh.ofMeta, sh.name())
	}
}

// name says which of the names sh.values are, a new one when they come for the first time.
func (sh *sharing) name() int32 {
	sh.key = sh.key[:0]
	for _, v := range sh.values {
		sh.key = strconv.AppendInt(sh.key, int64(len(v)), 10)
		sh.key = append(append(sh.key, ':'), v...)
	}
	if n, ok := sh.known[string(sh.key)]; ok {
		return n
	}
	n := int32(len(sh.names))
	values := make([][]byte, len(sh.values))
	for i, v := range sh.values {
		values[i] = bytes.Clone(v)
	}
	sh.names = append(sh.names, name{values: values, number: leftOut})
	sh.known[string(sh.key)] = n
	return n
}

// A patient Mapping may have to ask somebody in Find, and wait for the answer.
type patient interface {
	// Patience is how long Find waits at most; 0 when it never does.
	Patience() time.Duration
}

// mostAsked is how many names of one request are asked for at one time.
const mostAsked = 32

// find finds the tenants of all names, within the time that one of them may take. What is not known by then is unavailable.
func (sh *sharing) find(ctx context.Context) {
	if p, ok := sh.mapping.(patient); ok && p.Patience() > 0 {
		sh.ask(ctx, p.Patience())
	} else {
		for i := range sh.names {
			sh.names[i].find(ctx, sh.mapping)
		}
	}
	for i := range sh.names {
		if n := &sh.names[i]; n.err == nil {
			n.number = sh.number(n.profile)
		}
	}
}

func (sh *sharing) ask(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%d of one request were not all answered within %v", len(sh.names), patience))
	defer cancel()
	var next atomic.Int64
	var asking sync.WaitGroup
	for range min(mostAsked, len(sh.names)) {
		asking.Go(func() { // ends when nothing is left to be asked, soon after ctx at the latest; Wait waits for it
			for i := next.Add(1) - 1; i < int64(len(sh.names)); i = next.Add(1) - 1 {
				sh.names[i].find(ctx, sh.mapping)
			}
		})
	}
	asking.Wait()
}

func (n *name) find(ctx context.Context, mapping tenant.Mapping) {
	n.profile, n.err = mapping.Find(ctx, n.values...)
}

// nobodys says whether no tenant is meant, now and later.
func (n *name) nobodys() bool {
	return errors.Is(n.err, tenant.ErrUnnamed) || errors.Is(n.err, tenant.ErrForbidden)
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

// count counts the series of the message that have no tenant.
func (sh *sharing) count(message []byte) {
	if !slices.ContainsFunc(sh.names, func(n name) bool { return n.err != nil }) {
		return
	}
	i := 0
	for view := range remotewrite.Series(message) {
		n := &sh.names[sh.of[i]]
		i++
		switch {
		case n.err == nil:
		case n.nobodys():
			sh.refused.unnamed.add(view)
			sh.refused.example = cmp.Or(sh.refused.example, n.err)
		default:
			sh.late.add(view)
			sh.lateErr = cmp.Or(sh.lateErr, n.err)
		}
	}
}

// lateErrs is why some series have to come again.
func (sh *sharing) lateErrs() []error {
	if sh.late.series == 0 {
		return nil
	}
	return []error{fmt.Errorf("of %d series the tenants of %d cannot be found out now, such as: %w", sh.refused.total, sh.late.series, sh.lateErr)}
}

// tellInvalid counts invalid series of those tenants of which they are, as far as that can be told.
func (sh *sharing) tellInvalid(s *Server, received time.Time) {
	for i := range sh.names {
		n := &sh.names[i]
		if n.invalid.series == 0 || n.err != nil {
			continue
		}
		r := refusals{total: n.series + n.invalid.series, invalid: n.invalid}
		r.tell(s.limits.Tenant(n.profile), received, s.cfg)
	}
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
		return int(sh.names[sh.of[series-1]].number)
	}, func(remotewrite.MetadataView) int {
		meta++
		return int(sh.names[sh.ofMeta[meta-1]].number)
	})
	return parts
}

// checkMany is check for a request whose data name the tenants. With an error, msg has the parts that were admitted before.
func (s *Server) checkMany(ctx context.Context, from *origin, buf *bodyBuffer, size int, h *hold) (msg checked, err error) {
	sh := newSharing(from.sender.Mapping)
	message, counts, err := s.decodeAside(ctx, buf.b, size, sh.noteInvalid)
	if err != nil {
		return checked{}, err
	}
	sh.refused.total = counts.Series + sh.taken
	sh.read(message)
	sh.find(ctx)
	if err := ctx.Err(); err != nil {
		return checked{}, fmt.Errorf("find the tenants that the data name: %w", err)
	}
	sh.count(message)
	sh.tellInvalid(s, from.received)
	msg.counts, msg.refused = counts, sh.refused
	if counts.Series == 0 && counts.Metadata == 0 {
		return msg, nil
	}

	dec, err := s.decoders.get(ctx)
	if err != nil {
		return checked{}, err
	}
	defer s.decoders.put(dec)
	if err := h.take(int64(len(message))); err != nil {
		return checked{}, err
	}
	if err := s.admitMany(sh, dec, message, from, &msg, len(buf.b), h); err != nil {
		return msg, err
	}
	err = s.finish(dec, &msg, buf, h)
	return msg, err
}

// admitMany makes the parts of msg: what of the message, which came as so many bytes, is of one tenant and may be stored.
func (s *Server) admitMany(sh *sharing, dec *decoder, message []byte, from *origin, msg *checked, sent int, h *hold) error {
	errs := sh.lateErrs()
	var above tally
	for n, divided := range sh.divide(dec, message) {
		if divided.Counts.Series == 0 && divided.Counts.Metadata == 0 {
			continue
		}
		profile := sh.tenants[n]
		p := part{
			of: s.limits.Tenant(profile), payload: divided.Message, decoded: len(divided.Message),
			sent: sent * len(divided.Message) / len(message), counts: divided.Counts,
		}
		if err := p.admit(profile, from.received); err != nil {
			errs = append(errs, err)
			above.plus(tally{p.counts.Series, p.samples()})
			continue
		}
		msg.parts = append(msg.parts, p)
		if _, err := dec.change(&msg.parts[len(msg.parts)-1], from, &msg.refused, h); err != nil {
			return err
		}
	}
	if err := worst(errs); len(msg.parts) > 0 && errors.Is(err, limit.ErrLimit) {
		msg.refused.above, msg.refused.flood = above, err
	} else {
		msg.limited = err
	}
	return nil
}

// decodeAside decodes the body and takes the message away from its decoder, which others can have while tenants are looked up.
func (s *Server) decodeAside(ctx context.Context, body []byte, size int, invalid func(remotewrite.View, func() *remotewrite.Error)) (
	[]byte, remotewrite.Counts, error,
) {
	dec, err := s.decoders.get(ctx)
	if err != nil {
		return nil, remotewrite.Counts{}, err
	}
	defer s.decoders.put(dec)
	message, counts, err := s.decode(dec, body, size, invalid)
	dec.message = nil
	return message, counts, err
}
