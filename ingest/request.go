package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// version is the remote-write version spoken, told in every answer
// (https://prometheus.io/docs/specs/prw/remote_write_spec/#protocol).
const version = "0.1.0"

// ServeHTTP answers one remote-write request: 204 when all of it is durable, else what the table in answer.go says.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()

	h := w.Header()
	h.Set("X-Prometheus-Remote-Write-Version", version)
	s.retire(r, h)
	from := origin{received: began}
	err := s.accept(w, r, &from)
	if err == nil {
		s.metrics.answered(accepted, began)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	a := answerFor(err)
	s.metrics.answered(a.label, began)
	if from.tenant != nil && a.status == http.StatusBadRequest && !errors.Is(err, errRefusedSeries) { // that is counted already
		from.tenant.Refused(began, limit.Invalid, 0, err)
	}
	s.log.Warn("request refused", slog.String("answer", a.label), slog.Int("status", a.status),
		slog.String("tenant", from.String()), slog.String("credential", from.credential()), slog.String("remote", r.RemoteAddr), slog.Any("error", tenant.Cause(err)))
	refuse(w, a, err)
}

// An origin is where a request comes from, as far as that is known.
type origin struct {
	received time.Time
	sender   *tenant.Sender
	tenant   *limit.Tenant // nil when the data name the tenants
}

// String is the tenant.
func (o *origin) String() string {
	switch {
	case o.sender == nil:
		return ""
	case o.sender.Mapping != nil:
		return "multitenant"
	case o.sender.Tenant == nil: // refused before it was known
		return ""
	}
	return o.sender.Tenant.ID.String()
}

func (o *origin) credential() string {
	if o.sender == nil {
		return ""
	}
	return o.sender.Credential
}

// accept returns when all samples of the request are durable, or says why they are not.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, from *origin) error {
	// The deadline holds until the body is read, also for what net/http reads of a body that is refused unread.
	control := http.NewResponseController(w)
	if err := s.deadlines.begin(control, from.received.Add(s.cfg.ReadTimeout)); err != nil {
		s.deadlines.end(control)
		return fmt.Errorf("%w: set read deadline: %w", errAborted, err)
	}
	defer s.deadlines.end(control)
	if err := s.identify(r, from); err != nil {
		return err
	}
	if from.tenant != nil {
		if err := from.tenant.Enter(); err != nil {
			return err
		}
		defer from.tenant.Leave()
	}
	held := &hold{budget: s.budget}
	buf, err := s.bodies.read(r, int64(s.cfg.MaxBody), held)
	if err != nil {
		held.giveAll()
		if errors.Is(err, errSlow) {
			err = s.deadlines.late(err)
		}
		return err
	}
	defer s.bodies.put(buf)
	if err := s.deadlines.lift(control); err != nil {
		held.giveAll()
		return fmt.Errorf("%w: lift read deadline: %w", errAborted, err)
	}
	sent := len(buf.b)
	msg, err := s.check(r.Context(), from, buf, held)
	if err != nil {
		held.giveAll()
		return err
	}
	if err := s.store(r.Context(), from, msg, held); err != nil {
		return err
	}
	s.metrics.counted(sent, from.received, msg)
	return msg.refused.err(s.cfg)
}

// identify finds out who sends and whether the request is one at all, from what stands above its body.
func (s *Server) identify(r *http.Request, from *origin) error {
	name, err := route(r)
	if err != nil {
		return err
	}
	if from.sender, err = s.access.Identify(r.Context(), r, name); err != nil {
		return err
	}
	if from.sender.Tenant != nil {
		from.tenant = s.limits.Tenant(from.sender.Tenant)
	}
	return checkEncoding(r.Header)
}

// store returns when msg is durable, or else when each of its parts was answered. It gives back what is held, perhaps after it has
// returned: with the last of the parts, as they lie in one buffer.
func (s *Server) store(ctx context.Context, from *origin, msg checked, held *hold) error {
	if len(msg.parts) == 0 {
		held.giveAll()
		return msg.limited // nil for a message with nothing in it is a sender's way to ask whether we are there
	}
	if len(msg.parts) == 1 && msg.limited == nil {
		return s.append(ctx, from, &msg.parts[0], held.giveAll)
	}
	var left atomic.Int64
	left.Store(int64(len(msg.parts)))
	release := func() {
		if left.Add(-1) == 0 {
			held.giveAll()
		}
	}
	errs := make([]error, len(msg.parts), len(msg.parts)+1)
	var all sync.WaitGroup
	for i := range msg.parts {
		all.Go(func() { errs[i] = s.append(ctx, from, &msg.parts[i], release) }) // ends with its part's answer; Wait waits for it
	}
	all.Wait()
	err := worst(append(errs, msg.limited))
	if err != nil {
		giveStoredBack(msg.parts, errs)
	}
	return err
}

// errComesAgain is told of a tenant of which all is stored. What was wrong with another's is not its business.
var errComesAgain = errors.New("stored, but comes again: another part of the request was not taken")

// giveStoredBack is for those of the parts that are stored, and come again with the others. errs are what the parts were answered.
func giveStoredBack(parts []part, errs []error) {
	why := map[*limit.Tenant]error{}
	for i := range parts {
		if errs[i] != nil {
			why[parts[i].of] = errs[i]
		}
	}
	for i := range parts {
		if errs[i] == nil {
			parts[i].giveBack(cmp.Or(why[parts[i].of], errComesAgain))
		}
	}
}

// append returns when p is durable. What is not counts no longer against its tenant's limits, as its sender will send it again.
func (s *Server) append(ctx context.Context, from *origin, p *part, release func()) error {
	err := s.gather.Append(ctx, p.lane, p.record(from.received), release)
	if err != nil {
		p.giveBack(err)
	}
	return err
}
