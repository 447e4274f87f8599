package limit

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/tenant"
)

// A Registry keeps the state of the tenants that send. It is safe for concurrent use.
type Registry struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	secret  uint64  // see table
	late    float64 // see others.fill, in seconds
	metrics *metrics
	top     top
	shards  [shards]shard

	sharing atomic.Bool
	peers   atomic.Int32 // other processes that are heard

	busyMu sync.Mutex
	busy   []*Tenant // those of which the others have to be told
}

// shards is how many parts there are whose locks do not wait for each other.
const shards = 256

type shard struct {
	mu      sync.RWMutex
	tenants map[tenant.ID]*Tenant
	counts  counts // of all tenants that have no metrics of their own
}

// New returns a Registry. Its metrics are registered with reg, which may be nil.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) *Registry {
	r := &Registry{
		cfg:     cfg,
		log:     log,
		started: time.Now(),
		secret:  rand.Uint64(),
		late:    lateIntervals * cfg.ShareEvery.Seconds(),
		metrics: newMetrics(reg),
	}
	for i := range r.shards {
		r.shards[i].tenants = map[tenant.ID]*Tenant{}
	}
	r.top.init(r)
	if reg != nil {
		reg.MustRegister(&r.top)
	}
	return r
}

// since is a point in time as it is kept: monotonic, whatever the clock is set to.
func (r *Registry) since(now time.Time) int64 { return int64(now.Sub(r.started)) }

func mix(id tenant.ID) uint64 {
	x := (uint64(id.Account)<<32 | uint64(id.Project)) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	return x * 0xd6e8feb86659fd93
}

func (r *Registry) shard(id tenant.ID) *shard { return &r.shards[mix(id)>>56] }

// Tenant returns the state of the tenant, and makes it when there is none. From then on p is what it is measured by: when its plan
// is another one than before, what the tenant has used and which series are active stays known.
func (r *Registry) Tenant(p *tenant.Profile) *Tenant {
	t := r.find(p.ID)
	if t == nil {
		t = r.make(p)
	}
	if t.profile.Load() != p {
		t.adopt(p, r.since(time.Now()))
	}
	return t
}

func (r *Registry) find(id tenant.ID) *Tenant {
	s := r.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tenants[id]
}

func (r *Registry) make(p *tenant.Profile) *Tenant {
	at := r.since(time.Now())
	t := &Tenant{registry: r, id: p.ID, at: at, seen: at, levels: full(p.Plan)}
	t.profile.Store(p)
	s := r.shard(p.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if there := s.tenants[p.ID]; there != nil {
		return there
	}
	t.counts = &s.counts
	if shown := r.top.member(p.ID); shown != nil {
		t.counts = shown
	}
	s.tenants[p.ID] = t
	return t
}

// Run forgets series that are not active any more, and tenants that are idle, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	tick := time.NewTicker(epoch)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			r.forget(now)
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Registry) forget(now time.Time) {
	at := r.since(now)
	for i := range r.shards {
		r.shards[i].forget(at, at-int64(r.cfg.Idle))
	}
}

// forget drops the tenants that have not been seen since.
func (s *shard) forget(at, since int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, t := range s.tenants {
		if t.idle(at, since) {
			delete(s.tenants, id)
		}
	}
}

func (t *Tenant) idle(at, since int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(at)
	return t.seen < since && t.inFlight.Load() == 0
}

// A Description is what is known of one tenant in this process.
type Description struct {
	Tenant    string  `json:"tenant"`
	Name      string  `json:"name,omitempty"`
	Plan      string  `json:"plan,omitempty"`
	Taken     Amounts `json:"taken"`      // since the tenant began to send
	PerSecond Amounts `json:"per_second"` // taken, of about the last minute
	// BacklogShare is which part of the samples that this process has taken of late are the tenant's, 0 to 1: its part of the
	// backlog too, as far as that is as old. The buffer itself counts blocks, which hold samples of many.
	BacklogShare float64                 `json:"backlog_share"`
	BulkSamples  uint64                  `json:"bulk_samples"`
	Lane         string                  `json:"lane"` // of the last request that was taken
	InFlight     int                     `json:"requests_in_flight"`
	Refused      map[string]RefusedCount `json:"refused,omitempty"`         // by reason
	Reserved     uint64                  `json:"reserved_labels,omitempty"` // labels and metadata fields that named a tenant
	ActiveSeries *int                    `json:"active_series,omitempty"`   // nil: not counted, as there is no limit of them; those heard of from other processes too
	Shared       bool                    `json:"shared"`                    // other processes use its limits too
	LastError    string                  `json:"last_error,omitempty"`
	LastErrorAt  *time.Time              `json:"last_error_at,omitempty"`
	LastSeen     time.Time               `json:"last_seen"`
}

// Amounts are one of each.
type Amounts struct {
	Samples  float64 `json:"samples"`
	Bytes    float64 `json:"bytes"`
	Requests float64 `json:"requests"`
}

// A RefusedCount says in how many requests how many samples were refused.
type RefusedCount struct {
	Requests uint64 `json:"requests"`
	Samples  uint64 `json:"samples"`
}

// Describe tells about a tenant; false when it has not sent for LIMIT_IDLE.
func (r *Registry) Describe(id tenant.ID) (Description, bool) {
	t := r.find(id)
	if t == nil {
		return Description{}, false
	}
	d, rate := t.describe(time.Now())
	d.BacklogShare = r.top.share(rate, r.since(time.Now()))
	return d, true
}

// Profile is what a tenant was let in by when it sent last; nil when it has not sent for LIMIT_IDLE.
func (r *Registry) Profile(id tenant.ID) *tenant.Profile {
	t := r.find(id)
	if t == nil {
		return nil
	}
	return t.profile.Load()
}

// describe returns all but the share, and the rate of samples in the measure of recent.
func (t *Tenant) describe(now time.Time) (d Description, rate float64) {
	plan, at := t.lock(now)
	defer t.mu.Unlock()
	t.sweep(at)
	d = Description{
		Tenant:      t.id.String(),
		Name:        t.profile.Load().Name,
		Taken:       Amounts{float64(t.taken[Samples]), float64(t.taken[Bytes]), float64(t.taken[Requests])},
		PerSecond:   Amounts{t.perSecond(Samples), t.perSecond(Bytes), t.perSecond(Requests)},
		BulkSamples: t.takenBulk,
		Lane:        "main",
		InFlight:    int(t.inFlight.Load()),
		Shared:      t.others != nil && t.others.heard(),
		LastSeen:    t.registry.started.Add(time.Duration(t.seen)),
	}
	if plan != nil {
		d.Plan = plan.Name
		if plan.ActiveSeries > 0 {
			n := int(t.table.count)
			d.ActiveSeries = &n
		}
	}
	if t.bulk {
		d.Lane = "bulk"
	}
	t.refusals.describe(&d, t.registry.started)
	return d, float64(t.recent[Samples])
}

func (t *Tenant) perSecond(r Reason) float64 { return float64(t.recent[r]) / recentFor.Seconds() }

func (r *refusals) describe(d *Description, started time.Time) {
	if r == nil {
		return
	}
	d.Refused, d.Reserved = map[string]RefusedCount{}, r.reserved
	for reason := range reasons {
		if r.requests[reason] > 0 {
			d.Refused[reason.String()] = RefusedCount{r.requests[reason], r.samples[reason]}
		}
	}
	if r.last != nil {
		at := started.Add(time.Duration(r.at))
		d.LastError, d.LastErrorAt = r.last.Error(), &at
	}
}
