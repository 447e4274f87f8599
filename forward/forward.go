package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/clock"
	"github.com/ingestgw/ingestgw/memory"
)

const (
	// maxParked is how many blocks of a lane with refused records are held at one time. When there are as many, no further blocks of
	// it are read: if everything is refused, something is wrong that only people can mend.
	maxParked = 64
	// drainTime is how long requests that are on their way when forwarding is to stop may take.
	drainTime = 3 * time.Second
	// saveTimeout bounds the last saving of a partition's progress.
	saveTimeout = 5 * time.Second
)

// A settling decides when what was sent is safe. *settler is one.
type settling interface {
	begin(downstream.Endpoint) (ticket, bool)
	sent(settlePartition, buffer.Offset, []ticket)
	forget(settlePartition)
	setNodes([]downstream.Endpoint)
	run(context.Context) error
}

// A Forwarder sends what a Store holds to the nodes.
//
//	store ──▶ partition ──▶ sorting ──▶ parcels ──▶ fleet ──▶ visit ──▶ vminsert
//	             ▲                                              │
//	             └────────────────── settling ◀─────────────────┘
type Forwarder struct {
	cfg      Config
	store    buffer.Store
	log      *slog.Logger
	metrics  *metrics
	lanes    [lanes]*lane
	packers  *packers
	backoff  backoff
	resolver resolver
	settle   settling
	fleet    *fleet
	watch    *downstream.Watch // nil when nothing is watched
	lookups  func() []downstream.FailedLookup
	peeks    chan struct{} // holds one for each peek under way
	owned    owned

	shipments sync.Pool // of *shipment
	parcels   sync.Pool // of *parcel
}

// A resolver finds the addresses of nodes. *downstream.Resolver is one.
type resolver interface {
	Resolve(context.Context, []*url.URL) ([]downstream.Endpoint, error)
}

// New returns a Forwarder that sends the blocks of store. The bytes that it has read and not sent yet are taken from budget, which
// FORWARD_READ_AHEAD replaces if it is set; what is read of the bulk lane comes on top, a quarter as much. The error is about files that cfg names and that cannot be read.
func New(cfg Config, store buffer.Store, budget *memory.Budget, log *slog.Logger, reg prometheus.Registerer) (*Forwarder, error) {
	credentials, err := downstream.LoadCredentials(cfg.ClientConfig, log)
	if err != nil {
		return nil, fmt.Errorf("load credentials for vminsert and vmstorage: %w", err)
	}
	resolver := downstream.NewResolver(nil, log, reg)
	watch := downstream.NewWatch(cfg.watchConfig(), resolver, credentials, log, reg)
	dial := func(ep downstream.Endpoint) poster { return downstream.NewClient(ep, credentials, cfg.Concurrency) }
	f := newForwarder(cfg, store, budget, resolver, newSettler(cfg.SettleConfig, watch, log, reg), dial, log, reg)
	f.lookups = resolver.Failing
	if cfg.watches() || cfg.Watch {
		f.watch = watch
		f.fleet.hurry = watch.Hurry
	}
	return f, nil
}

// FailedLookups lists the names of vminserts and vmstorages that cannot be looked up now. It is safe for concurrent use.
func (f *Forwarder) FailedLookups() []downstream.FailedLookup { return f.lookups() }

// Vitals returns how the vminserts and vmstorages are, as far as their metrics tell; nothing when they are not read
// (FORWARD_WATCH=false), or before Run. It is safe for concurrent use.
func (f *Forwarder) Vitals() []downstream.Vitals {
	if f.watch == nil {
		return nil
	}
	return f.watch.Vitals()
}

// watchesAlone is whether the Watch is the Forwarder's own: settling does not use it.
func (f *Forwarder) watchesAlone() bool { return f.watch != nil && !f.cfg.watches() }

func newForwarder(cfg Config, store buffer.Store, budget *memory.Budget, resolver resolver, settle settling,
	dial func(downstream.Endpoint) poster, log *slog.Logger, reg prometheus.Registerer,
) *Forwarder {
	if cfg.ReadAhead > 0 {
		budget = memory.NewBudget(int64(cfg.ReadAhead))
	}
	m := newMetrics(reg)
	f := &Forwarder{
		cfg:      cfg,
		store:    store,
		log:      log,
		metrics:  m,
		lanes:    newLanes(budget, m),
		packers:  newPackers(cfg.MaxLabels, m),
		backoff:  backoff{min: cfg.RetryMin, max: cfg.RetryMax},
		resolver: resolver,
		settle:   settle,
		peeks:    make(chan struct{}, maxPeeks),
	}
	f.lanes[bulkLane].budget.Register(reg, "read_ahead_bulk")
	f.shipments.New = func() any { return new(shipment) }
	f.parcels.New = func() any { return new(parcel) }
	f.fleet = &fleet{
		concurrency: cfg.Concurrency,
		backoff:     f.backoff,
		settle:      settle,
		watches:     cfg.watches(),
		dial:        dial,
		log:         log,
		metrics:     m,
	}
	m.watch(reg, f.fleet, f.lanes)
	return f
}

// Run forwards as a process of the consumer group, under whose name progress is kept in the Store, until ctx ends. Then it reads
// no more, lets requests that are on their way end for up to 3 s, and returns when the progress is saved; it does not wait for
// anything to settle. What was sent and has not settled is sent once more by the next Run. The error is the Store's; nil after
// ctx has ended.
func (f *Forwarder) Run(ctx context.Context, consumers string) error {
	// Settling ends after the partitions do, since they hand it what they have sent to the last.
	settleCtx, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettling()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.settle.run(settleCtx) })
	if f.watchesAlone() {
		group.Go(func() error { return f.watch.Run(settleCtx) })
	}
	group.Go(func() error {
		f.resolve(groupCtx)
		return nil
	})
	group.Go(func() error {
		defer stopSettling()
		return f.store.Consume(groupCtx, consumers, laneNames[:], f.forward)
	})
	err := group.Wait()
	f.fleet.closeIdle()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// forward runs one partition until it is ours no more.
func (f *Forwarder) forward(ctx context.Context, src buffer.Partition) error {
	defer f.owned.begin(src.ID())()
	newPartition(f, src).run(ctx)
	return nil
}

// resolve keeps the list of nodes up to date until ctx ends.
func (f *Forwarder) resolve(ctx context.Context) {
	urls := make([]*url.URL, len(f.cfg.URLs))
	for i, u := range f.cfg.URLs {
		urls[i] = u.URL
	}
	for failures := 0; ; {
		endpoints, err := f.resolver.Resolve(ctx, urls)
		if ctx.Err() != nil {
			return
		}
		wait := f.cfg.ResolveInterval
		if err != nil {
			failures++
			wait = min(wait, f.backoff.after(failures))
			f.log.Error("cannot resolve all of INGESTGW_FORWARD_URLS", "err", err, "resolved", len(endpoints))
		} else {
			failures = 0
		}
		f.settle.setNodes(endpoints)
		if f.watchesAlone() {
			f.watch.SetNodes(endpoints)
		}
		f.fleet.set(endpoints)
		if !sleep(ctx, wait) {
			return
		}
	}
}

// sleep is clock.Sleep.
func sleep(ctx context.Context, d time.Duration) bool { return clock.Sleep(ctx, d) }
