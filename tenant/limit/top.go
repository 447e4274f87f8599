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
	// rankEvery is how often the tenants are compared at most.
	rankEvery = 15 * time.Second
	// topFactor is how many members there may be for each tenant that is wanted.
	topFactor = 10
	// notably is by how much a tenant has to be above the last of the top to come in.
	notably = 1.25
)

// A top is the tenants that have metrics of their own: the busiest ones, and those that once were. It implements
// prometheus.Collector.
type top struct {
	registry *Registry

	collecting sync.Mutex // one at a time
	ranked     int64      // when tenants were last compared
	series     map[tenant.ID]int
	rest       int     // active series of all the others
	rate       float64 // of samples, in the measure of Tenant.recent, of all tenants together

	mu      sync.Mutex // locked after a shard's, before a tenant's
	members map[tenant.ID]*counts
}

// member is what is counted for a tenant alone, nil when nothing is.
func (m *top) member(id tenant.ID) *counts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.members[id]
}

// A contender is a tenant as it stands in the ranking.
type contender struct {
	id   tenant.ID
	rate float32 // of samples
}

// A podium is the best of the contenders, the first one first.
type podium struct {
	places int
	best   []contender
}

func (p *podium) add(c contender) {
	if len(p.best) == p.places && (p.places == 0 || c.rate <= p.best[p.places-1].rate) {
		return
	}
	i, _ := slices.BinarySearchFunc(p.best, c, func(a, b contender) int { return cmp.Compare(b.rate, a.rate) })
	if len(p.best) == p.places {
		p.best = p.best[:p.places-1]
	}
	p.best = slices.Insert(p.best, i, c)
}

// refresh compares the tenants unless that was done of late. m.collecting is held.
func (m *top) refresh(at int64) {
	if m.series == nil || at-m.ranked >= int64(rankEvery) {
		m.rank(at)
	}
}

// share is which part of what all tenants send has this rate.
func (m *top) share(rate float64, at int64) float64 {
	m.collecting.Lock()
	defer m.collecting.Unlock()
	m.refresh(at)
	if rate == 0 {
		return 0
	}
	return rate / max(rate, m.rate) // a tenant may be busier now than all were then
}

// rank lets tenants in that are among the busiest, and counts active series.
func (m *top) rank(at int64) {
	m.ranked, m.series, m.rest, m.rate = at, map[tenant.ID]int{}, 0, 0
	all, in := podium{places: m.registry.cfg.Top}, podium{places: m.registry.cfg.Top}
	m.registry.each(func(t *Tenant) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.advance(at)
		c := contender{t.id, t.recent[Samples]}
		m.rate += float64(c.rate)
		all.add(c)
		if t.counts == &m.registry.shard(t.id).counts {
			m.rest += int(t.table.count)
			return
		}
		in.add(c)
		m.series[t.id] = int(t.table.count)
	})
	least := float32(0)
	if len(in.best) == in.places && in.places > 0 {
		least = in.best[in.places-1].rate * notably
	}
	for _, c := range all.best {
		if c.rate > least {
			m.let(c.id)
		}
	}
}

// let gives a tenant metrics of its own, if there is still room.
func (m *top) let(id tenant.ID) {
	if !m.enroll(id) {
		return
	}
	s := m.registry.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tenants[id] // whoever makes it from now on finds it among the members
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts = m.member(id)
}

func (m *top) enroll(id tenant.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.members[id] != nil || len(m.members) >= topFactor*m.registry.cfg.Top {
		return false
	}
	m.members[id] = new(counts)
	return true
}

// each calls fn for every tenant. Meanwhile no tenant of the same shard is made or forgotten.
func (r *Registry) each(fn func(*Tenant)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.RLock()
		for _, t := range s.tenants {
			fn(t)
		}
		s.mu.RUnlock()
	}
}

var (
	samplesDesc = prometheus.NewDesc("ingestgw_tenant_samples_total",
		`Samples that were within the limits of their tenant, by tenant: LIMIT_TOP of them, and "other".`, []string{"tenant"}, nil)
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
	m.refresh(m.registry.since(now))
	m.mu.Lock()
	members := maps.Clone(m.members)
	m.mu.Unlock()
	for id, c := range members {
		c.collect(metrics, id.String(), m.series[id], false)
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
	others.collect(metrics, "other", m.rest, true)
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
