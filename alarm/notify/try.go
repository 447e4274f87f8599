package notify

import (
	"context"
	"log/slog"
	"time"
)

// A Trial is what came of telling a target nothing.
type Trial struct {
	// Target is its host and port.
	Target string
	// Err is nil when it takes alerts.
	Err error
}

// Try tells each Alertmanager of cfg an empty list of alerts, which changes nothing, and says what came of it. The webhook is left alone, as
// nobody knows what it makes of that. The error is about files that cfg names.
func Try(ctx context.Context, cfg Config, log *slog.Logger) ([]Trial, error) {
	posters, err := posters(cfg, "", log)
	if err != nil {
		return nil, err
	}
	var trials []Trial
	for _, p := range posters {
		if _, ok := p.format.(*alerts); ok {
			trials = append(trials, Trial{p.address, p.try(ctx, cfg.Timeout)})
		}
	}
	return trials, nil
}

func (p *poster) try(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, late(timeout))
	defer cancel()
	return p.post(ctx, &report{at: time.Now()})
}
