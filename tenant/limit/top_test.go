package limit

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ingestgw/ingestgw/tenant"
)

// scrape is what metrics say, by name and labels.
func scrape(t testing.TB, r *Registry, now time.Time) map[string]float64 {
	t.Helper()
	metrics := make(chan prometheus.Metric, 1000)
	r.top.collect(now, metrics)
	close(metrics)
	all := map[string]float64{}
	for m := range metrics {
		var d dto.Metric
		if err := m.Write(&d); err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(m.Desc().String(), `Desc{fqName: "`), `"`)
		for _, l := range d.GetLabel() {
			name += " " + l.GetValue()
		}
		if _, twice := all[name]; twice {
			t.Fatalf("%s is told twice", name)
		}
		if c := d.GetCounter(); c != nil {
			all[name] = c.GetValue()
		} else {
			all[name] = d.GetGauge().GetValue()
		}
	}
	return all
}

func TestNoCounterRunsBackwardsHoweverTenantsComeAndGo(t *testing.T) {
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		cfg := testConfig()
		cfg.Top = 5
		r := New(cfg, quiet, nil)
		c := &clock{r.started}
		plan := samples(t, 100, 1000, 200)
		before, all := map[string]float64{}, map[string]float64{}
		guests, everShown := map[tenant.ID]bool{}, map[*counts]bool{}
		offered, shown := 0.0, 0
		for round := range 200 {
			busy := rnd.IntN(200) // another part of the tenants at each time
			for range 300 {
				te := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(busy + rnd.IntN(20))}, Plan: plan})
				n := 1 + rnd.IntN(100)
				te.Admit(c.now, Usage{Samples: n, Requests: 1}, rnd.IntN(5) == 0)
				offered += float64(n)
			}
			c.pass(time.Duration(rnd.IntN(40)) * time.Second)
			if round%50 == 0 {
				c.pass(3 * time.Hour)
				r.forget(c.now) // all of them
			}
			all = scrape(t, r, c.now)
			for name, v := range before {
				now, there := all[name]
				if !there && mayLeave(name, guests) {
					continue
				}
				if strings.Contains(name, "_total") && (!there || now < v) {
					t.Fatalf("seed %d, round %d: %s was %v and is %v", seed, round, name, v, now)
				}
			}
			before, guests = all, maps.Clone(r.top.guests)
			for _, c := range r.top.members {
				everShown[c] = true
			}
		}
		for name := range all {
			if strings.HasPrefix(name, "ingestgw_tenant_samples_total ") {
				shown++
			}
		}
		sum := 0.0
		for i := range r.shards {
			everShown[&r.shards[i].counts] = true
		}
		for c := range everShown {
			sum += float64(c.samples.Load() + c.refused[Samples].Load())
		}
		if sum != offered {
			t.Errorf("seed %d: %v samples are counted, %v came", seed, sum, offered)
		}
		if shown < 6 || shown > 51 {
			t.Errorf("seed %d: %d tenants are shown, want 5 to 50 and other", seed, shown)
		}
	}
}

// mayLeave says whether a metric is one of the guests.
func mayLeave(name string, guests map[tenant.ID]bool) bool {
	for id := range guests {
		if strings.HasSuffix(name, " "+id.String()) {
			return true
		}
	}
	return false
}

func TestTheBusiestTenantsHaveMetricsOfTheirOwn(t *testing.T) {
	cfg := testConfig()
	cfg.Top = 3
	r := New(cfg, quiet, nil)
	c := &clock{r.started}
	plan := seriesPlan(100)
	for i := range 10 {
		te := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan})
		te.Admit(c.now, Usage{Samples: 100 * (1 + i)}, i%2 == 0)
		for s := range i {
			te.Series(hashOf(s), c.now)
		}
	}
	scrape(t, r, c.now)
	for i := range 10 {
		te := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan})
		te.Admit(c.now, Usage{Samples: 1}, true)
		te.Refused(c.now, Series, 2, nil)
	}
	all := scrape(t, r, c.now)
	for name, want := range map[string]float64{
		"ingestgw_tenant_samples_total 9:0":                         1,
		"ingestgw_tenant_samples_total 7:0":                         1,
		"ingestgw_tenant_samples_total other":                       5500 + 7,
		"ingestgw_tenant_bulk_samples_total 8:0":                    1,
		"ingestgw_tenant_bulk_samples_total other":                  100 + 300 + 500 + 700 + 900 + 7,
		"ingestgw_tenant_old_samples_total 8:0":                     1,
		"ingestgw_tenant_old_samples_total other":                   100 + 300 + 500 + 700 + 900 + 7,
		"ingestgw_tenant_refused_samples_total active_series 8:0":   2,
		"ingestgw_tenant_refused_samples_total active_series other": 14,
		"ingestgw_tenant_refused_samples_total samples other":       0,
		"ingestgw_tenant_active_series 9:0":                         9,
		"ingestgw_tenant_active_series other":                       0 + 1 + 2 + 3 + 4 + 5 + 6,
		"ingestgw_tenants":                                          10,
	} {
		if name == "ingestgw_tenant_active_series other" || name == "ingestgw_tenant_active_series 9:0" {
			continue // as of the last ranking
		}
		if got, there := all[name]; got != want || !there {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	c.pass(time.Minute)
	all = scrape(t, r, c.now)
	if all["ingestgw_tenant_active_series 9:0"] != 9 || all["ingestgw_tenant_active_series other"] != 21 {
		t.Errorf("active series: %v and %v, want 9 and 21", all["ingestgw_tenant_active_series 9:0"], all["ingestgw_tenant_active_series other"])
	}
	if _, there := all["ingestgw_tenant_samples_total 6:0"]; there {
		t.Error("the fourth tenant is shown")
	}
}

func TestOldSamplesInBulkAreToldFromThoseAboveTheSustainedRate(t *testing.T) {
	r, c := newRegistry()
	te := r.Tenant(onPlan(samples(t, 10, 20, 10_000)))
	for _, send := range []struct {
		samples int
		old     bool
	}{{5, false}, {100, false}, {30, true}} {
		if v := te.Admit(c.now, Usage{Samples: send.samples}, send.old); v.Err != nil || v.Bulk != (send.samples > 20) {
			t.Fatalf("%d samples, old %v: %+v", send.samples, send.old, v)
		}
		c.pass(time.Minute)
	}
	all := scrape(t, r, c.now)
	for name, want := range map[string]float64{"samples": 135, "bulk_samples": 130, "old_samples": 30} {
		if got := all["ingestgw_tenant_"+name+"_total other"]; got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestNoTenantIsShownWhenNoneIsWanted(t *testing.T) {
	cfg := testConfig()
	cfg.Top = 0
	r := New(cfg, quiet, nil)
	r.Tenant(onPlan(nil)).Admit(r.started, Usage{Samples: 5}, false)
	all := scrape(t, r, r.started)
	if all["ingestgw_tenant_samples_total other"] != 5 || len(all) != 6+int(reasons) {
		t.Errorf("%v", all)
	}
}

func TestMetricsCanBeRegistered(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	r := New(testConfig(), quiet, reg)
	r.Tenant(onPlan(nil)).Admit(time.Now(), Usage{Samples: 5}, false)
	if _, err := reg.Gather(); err != nil {
		t.Error(err)
	}
}

// For the race detector: all that can happen at the same time does.
func TestAllThatCanHappenAtTheSameTime(t *testing.T) {
	r, c := newRegistry()
	r.sharing.Store(true)
	e := newEar(r, newSpeaker("me"))
	other := newSpeaker("other")
	e.take(c.now, other.greet())
	plans := []*tenant.Plan{nil, samples(t, 1000, 15_000, 2000), samples(t, 100, 1500, 200), seriesPlan(50)}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(worker), 1))
			for i := range 5000 {
				now := c.now.Add(time.Duration(i) * 10 * time.Millisecond)
				te := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: rnd.Uint32N(10)}, Plan: plans[rnd.IntN(len(plans))]})
				if te.Enter() != nil {
					continue
				}
				u := Usage{Samples: rnd.IntN(500), Requests: 1}
				if v := te.Admit(now, u, rnd.IntN(2) == 0); v.Err == nil && rnd.IntN(10) == 0 {
					te.Undo(now, u, v, fmt.Errorf("full"))
				}
				te.Series(rnd.Uint64(), now)
				te.Leave()
			}
		})
	}
	for i := range 50 {
		now := c.now.Add(time.Duration(i) * time.Hour)
		scrape(t, r, now)
		r.forget(now)
		r.Describe(tenant.ID{Account: uint32(i % 10)})
		for _, m := range other.tell(r.takeBusy()) {
			e.take(now, m)
		}
	}
	group.Wait()
}
