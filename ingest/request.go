package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/tenant"
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
	id, err := s.accept(w, r, began)
	if err == nil {
		s.metrics.answered(accepted, began)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	a := answerFor(err)
	s.metrics.answered(a.label, began)
	s.log.Warn("request refused", slog.String("answer", a.label), slog.Int("status", a.status),
		slog.String("tenant", id.String()), slog.String("remote", r.RemoteAddr), slog.Any("error", err))
	refuse(w, a, err)
}

// accept returns when all samples of the request are durable, or says why they are not.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, received time.Time) (tenant.ID, error) {
	// The deadline holds until the body is read, also for what net/http reads of a body that is refused unread.
	control := http.NewResponseController(w)
	if err := s.deadlines.begin(control, received.Add(s.cfg.ReadTimeout)); err != nil {
		s.deadlines.end(control)
		return tenant.ID{}, fmt.Errorf("%w: set read deadline: %w", errAborted, err)
	}
	defer s.deadlines.end(control)
	id, err := route(r, s.byDefault)
	if err != nil {
		return id, err
	}
	if err := checkEncoding(r.Header); err != nil {
		return id, err
	}
	held := &hold{budget: s.budget}
	buf, err := s.bodies.read(r, int64(s.cfg.MaxBody), held)
	if err != nil {
		held.giveAll()
		if errors.Is(err, errSlow) {
			err = s.deadlines.late(err)
		}
		return id, err
	}
	defer s.bodies.put(buf)
	if err := s.deadlines.lift(control); err != nil {
		held.giveAll()
		return id, fmt.Errorf("%w: lift read deadline: %w", errAborted, err)
	}
	sent := len(buf.b)
	msg, err := s.check(r.Context(), buf, held)
	if err != nil {
		held.giveAll()
		return id, err
	}
	if err := s.store(r.Context(), id, received, msg, held); err != nil {
		return id, err
	}
	s.metrics.counted(sent, msg)
	return id, nil
}

// store returns when msg is durable. It gives back what is held, perhaps after it has returned.
func (s *Server) store(ctx context.Context, id tenant.ID, received time.Time, msg checked, held *hold) error {
	if msg.counts.Series == 0 && msg.counts.Metadata == 0 {
		held.giveAll()
		return nil // a message with nothing in it is a sender's way to ask whether we are there
	}
	if msg.parts != nil {
		return s.storeParts(ctx, id, received, msg.parts, held)
	}
	return s.append(ctx, id, received, msg, held.giveAll)
}

// storeParts returns when all parts are durable, or else when each was answered. What is held is given back with the last of
// them: the parts lie in one buffer.
func (s *Server) storeParts(ctx context.Context, id tenant.ID, received time.Time, parts []checked, held *hold) error {
	var left atomic.Int64
	left.Store(int64(len(parts)))
	release := func() {
		if left.Add(-1) == 0 {
			held.giveAll()
		}
	}
	errs := make([]error, len(parts))
	var all sync.WaitGroup
	for i, p := range parts {
		all.Go(func() { errs[i] = s.append(ctx, id, received, p, release) }) // ends with its part's answer; Wait waits for it
	}
	all.Wait()
	return worst(errs)
}

// append returns when msg, which has no parts, is durable.
func (s *Server) append(ctx context.Context, id tenant.ID, received time.Time, msg checked, release func()) error {
	return s.gather.Append(ctx, buffer.Main, buffer.Record{
		Tenant:   id,
		Received: received,
		Encoding: buffer.Snappy,
		Series:   msg.counts.Series,
		Samples:  msg.counts.Samples + msg.counts.Histograms,
		Decoded:  msg.decoded,
		Payload:  msg.payload,
	}, release)
}
