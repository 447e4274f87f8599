package alarm

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

// large is a cluster of 100 vminserts and 60 vmstorages, seen by a process that forwards 24 partitions of each lane and tells 100 tenants
// apart. How many tenants there are besides changes nothing.
func large() (Sources, *prometheus.Registry) {
	reg := prometheus.NewRegistry()
	gauge := func(name string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name}, labels)
		reg.MustRegister(v)
		return v
	}
	counter := func(name string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, labels)
		reg.MustRegister(v)
		return v
	}
	state, busy, posts := gauge(gathered.NodeState, "node", "state"), gauge(gathered.NodeInFlight, "node"), counter(gathered.ForwardRequests, "node", "code")
	for i := range 100 {
		node := fmt.Sprintf("10.0.0.%d:8480", i)
		busy.WithLabelValues(node).Set(1)
		for _, s := range []string{"ready", "starting", "paused", "unknown"} {
			state.WithLabelValues(node, s).Set(0)
		}
		for _, code := range []string{"2xx", "3xx", "4xx", "5xx", "timeout", "unreachable"} {
			posts.WithLabelValues(node, code).Add(10)
		}
	}
	for _, name := range []string{gathered.UnsentBlocks, gathered.UnsentBytes, gathered.UnsentAge, gathered.ArrivingBlocks, gathered.SentBlocks, gathered.TimeToDrain, gathered.OnHold} {
		v := gauge(name, "lane", "partition")
		for i := range 24 {
			v.WithLabelValues("main", fmt.Sprint(i)).Set(1)
			v.WithLabelValues("bulk", fmt.Sprint(i)).Set(1)
		}
	}
	in, refused := counter(gathered.TenantSamples, "tenant"), counter(gathered.TenantRefusedSamples, "tenant", "reason")
	for i := range 100 {
		tenant := fmt.Sprintf("%d:0", i)
		in.WithLabelValues(tenant).Add(1)
		for _, reason := range limits {
			refused.WithLabelValues(tenant, reason).Add(0)
		}
	}
	var servers []downstream.Vitals
	for i := range 100 {
		v := server(fmt.Sprintf("10.0.0.%d:8480", i), downstream.VMInsert)
		v.Insert = &downstream.InsertVitals{}
		for j := range 60 {
			v.Insert.Ways = append(v.Insert.Ways, way(fmt.Sprintf("10.0.1.%d:8400", j)))
		}
		servers = append(servers, v)
	}
	return Sources{Metrics: reg, Vitals: func() []downstream.Vitals { return servers }}, reg
}

// What deciding on alarms costs, at a look every 5 s, in shares of a core; and the memory for a day of it.
func BenchmarkLook(b *testing.B) {
	sources, _ := large()
	o, e := newObserver(sources, 1), NewEngine(1)
	b.ReportAllocs()
	for b.Loop() {
		r, err := o.observe()
		if err != nil {
			b.Fatal(err)
		}
		e.Step(r)
	}
	perLook := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(100*perLook/(5*time.Second).Seconds(), "%-of-a-core")
}
