package limit

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/tenant"
)

func fullPlan(b testing.TB) *tenant.Plan {
	return &tenant.Plan{
		Name: "full", Samples: rate(b, 1e9, 0, 0), Bytes: rate(b, 1e12, 0, 0), Requests: rate(b, 1e9, 0, 0),
		ActiveSeries: 100, Concurrent: 1000,
	}
}

func request(b *testing.B, te *Tenant, now time.Time) {
	if err := te.Enter(); err != nil {
		b.Fatal(err)
	}
	if v := te.Admit(now, Usage{Samples: 100, Bytes: 1000, Requests: 1}, false); v.Err != nil {
		b.Fatal(v.Err)
	}
	te.Leave()
}

// BenchmarkRequest is what limits cost a request, but for its active series.
func BenchmarkRequest(b *testing.B) {
	for _, shared := range []bool{false, true} {
		name := map[bool]string{false: "alone", true: "shared"}[shared]
		b.Run(name, func(b *testing.B) {
			r, c := newRegistry()
			r.sharing.Store(shared)
			p := &tenant.Profile{ID: acme, Plan: fullPlan(b)}
			if shared {
				r.Tenant(p).hear(0, use{main: [kinds]uint32{100, 100, 100}}, func(func(fingerprint) bool) {})
			}
			b.ReportAllocs()
			for b.Loop() {
				c.pass(time.Microsecond)
				request(b, r.Tenant(p), c.now)
			}
		})
	}
}

// BenchmarkRefusal is what a flood costs.
func BenchmarkRefusal(b *testing.B) {
	te, c := scene(onPlan(samples(b, 1, 1, 1)))
	te.Admit(c.now, Usage{Samples: 1e9}, false)
	b.ReportAllocs()
	for b.Loop() {
		te.Admit(c.now, Usage{Samples: 100}, false)
	}
}

// BenchmarkManyTenants is BenchmarkRequest over 500,000 tenants at random, and what they take with 10 active series each.
func BenchmarkManyTenants(b *testing.B) {
	const tenants, series = 500_000, 10
	plan := fullPlan(b)
	before := heap()
	r, c := newRegistry()
	for i := range tenants {
		te := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan})
		te.Admit(c.now, Usage{Samples: 10, Bytes: 100, Requests: 1}, false)
		for s := range series {
			te.Series(hashOf(i*series+s), c.now)
		}
	}
	profiles := make([]*tenant.Profile, 1<<16)
	for i := range profiles {
		profiles[i] = r.find(tenant.ID{Account: rand.Uint32N(tenants)}).profile.Load()
	}
	const profile = 96 // bytes of a tenant.Profile, which is not ours
	after := heap()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		c.pass(time.Microsecond)
		request(b, r.Tenant(profiles[i%len(profiles)]), c.now)
	}
	b.ReportMetric(float64(after-before)/tenants-profile, "bytes/tenant")
	runtime.KeepAlive(r)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkSeries is what a series that is known costs, and a new one.
func BenchmarkSeries(b *testing.B) {
	for _, n := range []int{100, 10_000, 1_000_000} {
		te, c := scene(onPlan(seriesPlan(n)))
		for i := 0; int(te.table.count) < n; i++ {
			te.Series(hashOf(i), c.now)
		}
		i := 0
		b.Run("known/"+number(float64(n)), func(b *testing.B) {
			for b.Loop() {
				te.Series(hashOf(i%n), c.now)
				i++
			}
		})
		b.Run("refused/"+number(float64(n)), func(b *testing.B) {
			for b.Loop() {
				te.Series(hashOf(10*n+i), c.now)
				i++
			}
		})
	}
	b.Run("new", func(b *testing.B) {
		te, c := scene(onPlan(seriesPlan(1 << 28)))
		i := 0
		for b.Loop() {
			te.Series(hashOf(i), c.now)
			i++
		}
	})
}

// BenchmarkScrape is what a scrape would cost that compares all of 500,000 tenants, as the first one does.
func BenchmarkScrape(b *testing.B) {
	r, c := newRegistry()
	for i := range 500_000 {
		r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}}).Admit(c.now, Usage{Samples: 1 + i%1000}, false)
	}
	for b.Loop() {
		c.pass(time.Minute)
		r.top.ranking = ranking{}
		scrape(b, r, c.now)
	}
}

// BenchmarkWatching is what alarms cost that read the metrics every 5 s, with 500,000 tenants of which 5,000 are above their limits.
func BenchmarkWatching(b *testing.B) {
	const tenants, flooding, every = 500_000, 5_000, 5 * time.Second
	r, c := newRegistry()
	plan := &tenant.Plan{Name: "watched", Samples: rate(b, 100, 1000, 200), Requests: rate(b, 1e9, 0, 0), ActiveSeries: 100}
	all := make([]*Tenant, tenants)
	for i := range all {
		all[i] = r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan})
		all[i].Admit(c.now, Usage{Samples: 1 + i%1000, Requests: 1}, false)
	}
	metrics := make(chan prometheus.Metric, 10_000)
	gather := func() {
		r.top.collect(c.now, metrics)
		for len(metrics) > 0 {
			<-metrics
		}
	}
	gather() // the first round
	i := 0
	for b.Loop() {
		b.StopTimer()
		c.pass(every)
		for range 100_000 { // they send every 25 s
			i = (i + 1) % tenants
			all[i].Admit(c.now, Usage{Samples: 100, Requests: 1}, false)
		}
		for k := range flooding {
			all[k*(tenants/flooding)].Admit(c.now, Usage{Samples: 10_000 + k, Requests: 1}, false)
		}
		b.StartTimer()
		gather()
	}
	b.ReportMetric(100*b.Elapsed().Seconds()/(float64(b.N)*every.Seconds()), "%core")
}

// BenchmarkSharing is what it costs to tell and hear of 100,000 tenants.
func BenchmarkSharing(b *testing.B) {
	here, c := newRegistry()
	there, _ := newRegistry()
	here.sharing.Store(true)
	plan := samples(b, 1000, 15_000, 1e9)
	var tenants []*Tenant
	for i := range mostTold {
		p := &tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan}
		tenants = append(tenants, here.Tenant(p))
		there.Tenant(p)
	}
	me := newSpeaker("here")
	e := newEar(there, newSpeaker("there"))
	e.take(c.now, me.greet())
	bytes := 0
	for b.Loop() {
		b.StopTimer()
		for _, te := range tenants {
			te.Admit(c.now, Usage{Samples: 1000}, false)
		}
		b.StartTimer()
		bytes = 0
		for _, m := range me.tell(here.takeBusy()) {
			bytes += len(m)
			if got := e.take(c.now, m); got != "taken" {
				b.Fatal(got)
			}
		}
	}
	b.ReportMetric(float64(bytes)/mostTold, "bytes/tenant")
}
