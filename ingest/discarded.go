package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/clock"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

const (
	// discardedName is the metric that tenants find in their own accounts, and so not ours to change.
	discardedName = "ingest_discarded_samples_total"
	// discardedEvery is how often it is written.
	discardedEvery = 30 * time.Second
)

// tellDiscarded writes into each tenant's account how many of its samples were refused, until ctx ends. What cannot be stored is
// left to the next time: the numbers are totals.
func (s *Server) tellDiscarded(ctx context.Context) {
	for clock.Sleep(ctx, discardedEvery) {
		for profile, discarded := range s.limits.Discarded() {
			if ctx.Err() != nil {
				return
			}
			if err := s.writeDiscarded(ctx, profile, discarded); err != nil && ctx.Err() == nil {
				s.log.Warn("cannot tell tenants what was refused of theirs, trying again later", slog.Any("tenant", profile.ID), slog.Any("err", err))
				break // the others would fare no better
			}
		}
	}
}

func (s *Server) writeDiscarded(ctx context.Context, profile *tenant.Profile, discarded []limit.Discarded) error {
	now := time.Now()
	var message []byte
	for _, d := range discarded {
		message = remotewrite.AppendSample(message, []remotewrite.Label{
			{Name: []byte("__name__"), Value: []byte(discardedName)},
			{Name: []byte("gateway"), Value: []byte(s.cfg.Gateway)},
			{Name: []byte("reason"), Value: []byte(d.Reason.String())},
		}, float64(d.Samples), now)
	}
	p := part{profile: profile, tags: profile.Tags, lane: buffer.Main, decoded: len(message), payload: snappy.Encode(nil, message),
		counts: remotewrite.Counts{Series: len(discarded), Samples: len(discarded)}}
	if err := s.gather.Append(ctx, p.lane, p.record(now), nil); err != nil {
		return fmt.Errorf("store %s: %w", discardedName, err)
	}
	return nil
}
