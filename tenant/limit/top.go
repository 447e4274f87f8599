package limit

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/tenant"
)

// counts are what metrics tell of one tenant, or of many. Each thing that is counted is counted in one of them and stays there, so
// that no counter ever runs backwards: a tenant that comes to have metrics of its own begins there at 0, and what it had sent before
// stays with the others.
type counts struct {
	samples, bulk, old atomic.Uint64          // old ones are in bulk too
	refused            [reasons]atomic.Uint64 // samples
	reserved           atomic.Uint64          // labels and metadata fields
}

const (
	// topFactor is how many members there may be for each tenant that is wanted.
	topFactor = 10
	// guestFactor is how many of those may be guests.
	guestFactor = 2
	// mostSuspects is how many tenants above their limits are kept for the next refresh. One that finds no room tries again with its next
	// request above them, and ranking finds it too.
	mostSuspects = 4096
	// leastOver is how many samples above its limits, of about the last minute, make a tenant worth telling of.
	leastOver = 30
)

// A top is the tenants that have metrics of their own. Members are the busiest ones, and those that once were: they stay. Guests are
// members that came in for being further above their limits than others, however little they may send: one that is not any more has
// to leave when there is no room for a worse one. What it sends from then on is counted with the others; if it comes back, its
// counters begin at 0, as all do when the process starts. It implements prometheus.Collector.
type top struct {
	registry *Registry
	suspects chan *Tenant // those that went above their limits since the last refresh; see suspect

	collecting sync.Mutex // one at a time
	ranking    ranking
	guests     map[tenant.ID]bool

	mu      sync.Mutex // locked after a shard's, before a tenant's
	members map[tenant.ID]*counts
}

func (m *top) init(r *Registry) {
	m.registry, m.ranking.credit = r, mostCredit
	m.suspects = make(chan *Tenant, mostSuspects)
	m.members, m.guests = map[tenant.ID]*counts{}, map[tenant.ID]bool{}
}

// member is what is counted for a tenant alone, nil when nothing is.
func (m *top) member(id tenant.ID) *counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[id]
}

// suspect has t looked at when the top is refreshed next; false when there are too many already. It does not wait, as t.mu is held.
func (m *top) suspect(t *Tenant) bool {
	select {
	case m.suspects <- t:
		return true
	default:
		return false
	}
}

// refresh lets in who has come to belong to the top. m.collecting is held.
func (m *top) refresh(at int64) {
	worst := podium{places: guestFactor * m.registry.cfg.Top}
	if done := m.rank(at); done != nil {
		m.admit(done)
		for _, c := range done.worst.best {
			m.consider(c.id, at, &worst)
		}
	}
	for range len(m.suspects) { // nobody else takes them
		t := <-m.suspects
		t.acquit()
		m.consider(t.id, at, &worst)
	}
	m.invite(worst.best, at)
}

// consider adds the tenant to those that may become guests, if it is above its limits and not a member. It may come twice: ranking finds
// suspects too.
func (m *top) consider(id tenant.ID, at int64, worst *podium) {
	if s := m.registry.stands(id, at); !s.shown && s.over >= leastOver && !worst.has(id) {
		worst.add(contender{id, s.over})
	}
}

// admit makes members of those that are notably busier than the last of as many members as are wanted.
func (m *top) admit(r *round) {
	least := float32(0)
	if len(r.in.best) == r.in.places && r.in.places > 0 {
		least = r.in.best[r.in.places-1].rate * notably
	}
	for _, c := range r.all.best {
		if c.rate <= least || len(m.members)-len(m.guests) >= (topFactor-guestFactor)*m.registry.cfg.Top {
			return
		}
		m.let(c.id)
		delete(m.guests, c.id) // it stays
	}
}

// invite makes guests of the tenants, the worst one being first, as long as there is room or a guest that is notably less above its
// limits.
func (m *top) invite(worst []contender, at int64) {
	var leaving []contender
	if len(worst) > 0 {
		leaving = m.leaving(at)
	}
	for _, c := range worst {
		if len(m.guests) >= guestFactor*m.registry.cfg.Top {
			if len(leaving) == 0 || c.rate <= leaving[0].rate*notably {
				return
			}
			m.dismiss(leaving[0].id)
			leaving = leaving[1:]
		}
		if m.let(c.id) {
			m.guests[c.id] = true
		}
	}
}

// leaving are the guests in the order in which they have to leave.
func (m *top) leaving(at int64) (all []contender) {
	for id := range m.guests {
		all = append(all, contender{id, m.registry.stands(id, at).over})
	}
	slices.SortFunc(all, func(a, b contender) int { return cmp.Compare(a.rate, b.rate) })
	return all
}

// let gives a tenant metrics of its own; false when it has them already, or has been forgotten.
func (m *top) let(id tenant.ID) bool {
	s := m.registry.shard(id)
	s.mu.RLock() // nobody makes it meanwhile
	defer s.mu.RUnlock()
	t := s.tenants[id]
	if t == nil || m.member(id) != nil {
		return false
	}
	c := new(counts)
	m.mu.Lock()
	m.members[id] = c
	m.mu.Unlock()
	t.countIn(c)
	return true
}

// dismiss takes from a guest the metrics of its own.
func (m *top) dismiss(id tenant.ID) {
	s := m.registry.shard(id)
	s.mu.RLock() // nobody makes it meanwhile
	defer s.mu.RUnlock()
	m.mu.Lock()
	delete(m.members, id)
	m.mu.Unlock()
	delete(m.guests, id)
	if t := s.tenants[id]; t != nil {
		t.countIn(&s.counts)
	}
}

// stands is how a tenant stands; nothing when it is not remembered.
func (r *Registry) stands(id tenant.ID, at int64) standing {
	t := r.find(id)
	if t == nil {
		return standing{}
	}
	return t.stands(at, r.shard(id))
}

var (
	samplesDesc = prometheus.NewDesc("ingestgw_tenant_samples_total",
		`Samples that were within the limits of their tenant, by tenant: the busiest ones (LIMIT_TOP), those furthest above their limits, and "other".`, []string{"tenant"}, nil)
	bulkDesc = prometheus.NewDesc("ingestgw_tenant_bulk_samples_total",
		"Of those, samples that went to the bulk lane, as they were old or above the sustained rate.", []string{"tenant"}, nil)
	oldDesc = prometheus.NewDesc("ingestgw_tenant_old_samples_total",
		"Of those in the bulk lane, samples that went there as they were old when they came; the others were above the sustained rate.", []string{"tenant"}, nil)
	refusedDesc = prometheus.NewDesc("ingestgw_tenant_refused_samples_total",
		"Samples that were refused, by tenant and reason. Those refused as unavailable are sent again by their sender.", []string{"tenant", "reason"}, nil)
	reservedDesc = prometheus.NewDesc("ingestgw_tenant_reserved_total",
		"Labels and metadata fields that name a tenant, which the sender may not do.", []string{"tenant"}, nil)
	seriesDesc = prometheus.NewDesc("ingestgw_tenant_active_series",
		"Different series within an hour, of tenants with a limit of them.", []string{"tenant"}, nil)
	tenantsDesc = prometheus.NewDesc("ingestgw_tenants",
		"Tenants that are remembered, as they have sent within LIMIT_IDLE.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *top) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{samplesDesc, bulkDesc, oldDesc, refusedDesc, reservedDesc, seriesDesc, tenantsDesc} {
		descs <- d
	}
}

// Collect implements prometheus.Collector.
func (m *top) Collect(metrics chan<- prometheus.Metric) { m.collect(time.Now(), metrics) }

func (m *top) collect(now time.Time, metrics chan<- prometheus.Metric) {
	m.collecting.Lock()
	defer m.collecting.Unlock()
	at := m.registry.since(now)
	m.refresh(at)
	m.mu.Lock()
	members := maps.Clone(m.members)
	m.mu.Unlock()
	for id, c := range members {
		c.collect(metrics, id.String(), m.registry.stands(id, at).series, false)
	}
	var others counts
	tenants := 0
	for i := range m.registry.shards {
		s := &m.registry.shards[i]
		others.add(&s.counts)
		s.mu.RLock()
		tenants += len(s.tenants)
		s.mu.RUnlock()
	}
	others.collect(metrics, "other", m.ranking.last.rest, true)
	metrics <- prometheus.MustNewConstMetric(tenantsDesc, prometheus.GaugeValue, float64(tenants))
}

func (c *counts) add(other *counts) {
	c.samples.Add(other.samples.Load())
	c.bulk.Add(other.bulk.Load())
	c.old.Add(other.old.Load())
	c.reserved.Add(other.reserved.Load())
	for i := range c.refused {
		c.refused[i].Add(other.refused[i].Load())
	}
}

// collect tells the counts. Of what seldom happens zeros are told if zeros is true.
func (c *counts) collect(metrics chan<- prometheus.Metric, name string, series int, zeros bool) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	counter(samplesDesc, c.samples.Load(), name)
	counter(bulkDesc, c.bulk.Load(), name)
	counter(oldDesc, c.old.Load(), name)
	for reason := range reasons {
		if n := c.refused[reason].Load(); n > 0 || zeros {
			counter(refusedDesc, n, name, reason.String())
		}
	}
	if n := c.reserved.Load(); n > 0 || zeros {
		counter(reservedDesc, n, name)
	}
	metrics <- prometheus.MustNewConstMetric(seriesDesc, prometheus.GaugeValue, float64(series), name)
}
