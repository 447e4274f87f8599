package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
	"github.com/ingestgw/ingestgw/tenant/directory"
	"github.com/ingestgw/ingestgw/tenant/limit"
	"github.com/ingestgw/ingestgw/tenant/token"
)

// tenants is all that a process which receives knows of tenants.
//
//	file, tokens, directory ──▶ access ──▶ ingest ◀── limits ◀──▶ board: the other processes
//
// There is no board with the disk buffer: limits hold for the process alone then.
type tenants struct {
	access    *access.Access
	limits    *limit.Registry
	tokens    *token.Verifier      // nil: none
	directory *directory.Directory // nil: none
	board     limit.Board          // nil: none
	log       *slog.Logger
}

// newTenants reads what the settings name. Nothing is asked for before run.
func newTenants(cfg *config, log *slog.Logger, reg prometheus.Registerer) (*tenants, error) {
	t := &tenants{limits: limit.New(cfg.Limit, log, reg), log: log}
	var tokens access.Verifier
	if cfg.Token.Configured() {
		verifier, err := token.New(cfg.Token, log, reg)
		if err != nil {
			return nil, fmt.Errorf("prepare JSON Web Tokens: %w", err)
		}
		t.tokens, tokens = verifier, verifier
	}
	var known access.Directory
	if cfg.Directory.URL.URL != nil {
		asked, err := directory.New(cfg.Directory, log, reg)
		if err != nil {
			return nil, fmt.Errorf("prepare the directory of tenants: %w", err)
		}
		t.directory, known = asked, asked
	}
	var err error
	if t.access, err = access.New(cfg.Access, tokens, known, log, reg); err != nil {
		return nil, err
	}
	return t, nil
}

// run keeps what is known of tenants up to date, and tells other processes what they have to know, until ctx ends. An error is a
// fault of ours: whatever is away is tried again.
func (t *tenants) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.access.Run(ctx) })
	group.Go(func() error { return t.limits.Run(ctx) })
	if t.tokens != nil {
		group.Go(func() error { return t.tokens.Run(ctx) })
	}
	if t.directory != nil {
		group.Go(func() error { return t.directory.Run(ctx) })
	}
	if t.board != nil {
		group.Go(func() error { return t.limits.Share(ctx, t.board, processName()) })
		group.Go(func() error { return t.board.Watch(ctx, t.hear) })
	}
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// processName tells processes apart in logs.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// invalidation is what keys of the board begin with that name a tenant to be asked for anew.
const invalidation = "invalidate/"

// hear does what another process has asked of all. What stood on the board before this process came does no harm: it knows nothing yet.
func (t *tenants) hear(key string, _ []byte) {
	name, ok := strings.CutPrefix(key, invalidation)
	if !ok {
		return
	}
	id, err := tenant.Parse(name)
	if err != nil {
		t.log.Warn("somebody asks to forget what is no tenant", "err", err)
		return
	}
	t.access.Invalidate(id)
}

// Invalidate implements status.Tenants. Here it holds at once, elsewhere as soon as it is heard.
func (t *tenants) Invalidate(ctx context.Context, id tenant.ID) error {
	t.access.Invalidate(id)
	if t.board == nil {
		return nil
	}
	if err := t.board.Post(ctx, invalidation+id.String(), []byte(time.Now().UTC().Format(time.RFC3339Nano))); err != nil {
		return fmt.Errorf("this process asks for tenant %s anew; the others could not be told: %w", id, err)
	}
	return nil
}

// Reload implements status.Tenants.
func (t *tenants) Reload() error { return t.access.Reload() }

// A description is what GET /api/v1/tenants/{id} answers.
type description struct {
	Tenant string `json:"tenant"`
	access.Description
	// Usage is what the tenant sends to this process; missing when it has sent nothing for LIMIT_IDLE.
	Usage *limit.Description `json:"usage,omitempty"`
}

// Describe implements status.Tenants.
func (t *tenants) Describe(id tenant.ID) (any, bool) {
	d := description{Tenant: id.String(), Description: t.access.Describe(id, t.limits.Profile(id))}
	usage, used := t.limits.Describe(id)
	if used {
		d.Usage = &usage
	}
	return d, d.Listed || used
}
