package limit

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

const gatherEvery = 5 * time.Second

// crowd makes a registry of this LIMIT_TOP in which tenants from account 1,000,000 on are busy: those that are wanted and many more, so
// that all places for busy ones are taken.
func crowd(t *testing.T, wanted int) (*Registry, *clock) {
	t.Helper()
	cfg := testConfig()
	cfg.Top = wanted
	r := New(cfg, quiet, nil)
	c := &clock{r.started}
	for round := range 3 * topFactor {
		for i := range wanted {
			te := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(1_000_000 + round*wanted + i)}})
			te.Admit(c.now, Usage{Samples: 1e6 * (round + 1), Requests: 1}, false)
		}
		c.pass(rankEvery)
		scrape(t, r, c.now)
	}
	if busy := (topFactor - guestFactor) * wanted; len(r.top.members) != busy {
		t.Fatalf("%d busy tenants are members, want %d", len(r.top.members), busy)
	}
	return r, c
}

// above is what metrics tell of a tenant's samples above its limits.
func above(all map[string]float64, id tenant.ID) float64 {
	return all["ingestgw_tenant_refused_samples_total samples "+id.String()] +
		all["ingestgw_tenant_bulk_samples_total "+id.String()] - all["ingestgw_tenant_old_samples_total "+id.String()]
}

func TestATenantThatFloodsIsToldWithinTwoGathersWhoeverElseIsBusier(t *testing.T) {
	for name, plan := range map[string]*tenant.Plan{"refused": samples(t, 10, 20, 10), "put off": samples(t, 10, 20, 1e6)} {
		for late := range 5 { // seconds after a gather
			r, c := crowd(t, 3)
			flooder := r.Tenant(onPlan(plan))
			told := 0.0
			for second := range late + 11 {
				if second >= late {
					flooder.Admit(c.now, Usage{Samples: 200, Requests: 1}, false)
				}
				c.pass(time.Second)
				if (second+1)%5 == 0 {
					told = above(scrape(t, r, c.now), acme)
				}
			}
			if told < 5*200 {
				t.Errorf("%s, %d s after a gather: %v samples above its limits are told, want those of 5 s at least", name, late, told)
			}
		}
	}
}

func TestTheWorstAreToldOfManyThatFloodAtOnce(t *testing.T) {
	const wanted, flooding = 5, 1000
	r, c := crowd(t, wanted)
	plan := samples(t, 10, 20, 10)
	tenants := make([]*Tenant, flooding)
	for i := range tenants {
		tenants[i] = r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan})
	}
	all := map[string]float64{}
	for second := range 30 {
		for i, te := range tenants {
			te.Admit(c.now, Usage{Samples: 100 + 2*i*(1+second%3), Requests: 1}, false)
		}
		c.pass(time.Second)
		if (second+1)%5 == 0 {
			all = scrape(t, r, c.now)
		}
	}
	for i := flooding - wanted; i < flooding; i++ {
		if id := (tenant.ID{Account: uint32(i)}); above(all, id) == 0 {
			t.Errorf("nothing is told of tenant %v, which is among the worst %d", id, wanted)
		}
	}
	if n := len(r.top.members); n > topFactor*wanted {
		t.Errorf("%d tenants have metrics of their own, want %d at most", n, topFactor*wanted)
	}
}

func TestTheWorstIsFoundByRankingWhenTooManyFlood(t *testing.T) {
	r, c := crowd(t, 1)
	plan := samples(t, 10, 20, 10)
	tenants := make([]*Tenant, mostSuspects+100)
	for i := range tenants {
		tenants[i] = r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan})
	}
	worst := len(tenants) - 1
	for range 8 {
		for i, te := range tenants {
			te.Admit(c.now, Usage{Samples: 100 + i/worst*10_000, Requests: 1}, false)
		}
		c.pass(gatherEvery)
		scrape(t, r, c.now)
	}
	if all := scrape(t, r, c.now); above(all, tenant.ID{Account: uint32(worst)}) == 0 {
		t.Error("nothing is told of the worst tenant")
	}
}

func TestEachFloodIsToldHoweverManyHaveBeenBefore(t *testing.T) {
	const wanted = 2
	r, c := crowd(t, wanted)
	busiest := maps.Clone(r.top.members)
	plan := samples(t, 10, 20, 10)
	for i := range 5 * topFactor * wanted {
		id := tenant.ID{Account: uint32(i)}
		te := r.Tenant(&tenant.Profile{ID: id, Plan: plan})
		all := map[string]float64{}
		for range 3 {
			te.Admit(c.now, Usage{Samples: 1000, Requests: 1}, false)
			c.pass(gatherEvery)
			all = scrape(t, r, c.now)
		}
		if above(all, id) == 0 {
			t.Fatalf("nothing is told of flood number %d", i)
		}
		c.pass(10 * time.Minute)
	}
	for id, c := range busiest {
		if r.top.members[id] != c {
			t.Errorf("the busy tenant %v does not have its metrics any more", id)
		}
	}
}

func TestATenantThatHadToLeaveIsToldWhenItFloodsAgain(t *testing.T) {
	const wanted = 1
	r, c := crowd(t, wanted)
	plan := samples(t, 10, 20, 10)
	flood := func(id tenant.ID, n int) (all map[string]float64) {
		for range 2 { // less than it takes until all are compared anew
			r.Tenant(&tenant.Profile{ID: id, Plan: plan}).Admit(c.now, Usage{Samples: n, Requests: 1}, false)
			r.Tenant(&tenant.Profile{ID: id, Plan: plan}).Admit(c.now, Usage{Samples: n, Requests: 1}, false)
			c.pass(gatherEvery)
			all = scrape(t, r, c.now)
		}
		c.pass(10 * time.Minute)
		scrape(t, r, c.now)
		return all
	}
	if got := above(flood(acme, 1e6), acme); got == 0 {
		t.Fatal("nothing is told of the first flood")
	}
	for i := range guestFactor * wanted {
		flood(tenant.ID{Account: uint32(i)}, 1e6)
	}
	if r.top.member(acme) != nil {
		t.Fatal("a guest stays for ever")
	}
	if got := above(flood(acme, 1000), acme); got == 0 || got > 4000 {
		t.Errorf("%v samples are told of the second flood, want up to 4000", got)
	}
}

// Who floods is a suspect, and ranking finds it: at the same time it is both.
func TestOneFloodMakesOneGuestLeave(t *testing.T) {
	const wanted = 2
	r, c := crowd(t, wanted)
	plan := samples(t, 10, 20, 10)
	flood := func(id tenant.ID, n int) {
		for range 2 { // the first one is let through
			r.Tenant(&tenant.Profile{ID: id, Plan: plan}).Admit(c.now, Usage{Samples: n, Requests: 1}, false)
		}
	}
	for i := range guestFactor * wanted {
		flood(tenant.ID{Account: uint32(i)}, 1000)
	}
	c.pass(rankEvery)
	scrape(t, r, c.now)
	before := maps.Clone(r.top.guests)
	if len(before) != guestFactor*wanted {
		t.Fatalf("%d tenants are guests", len(before))
	}
	flood(acme, 1e6)
	c.pass(rankEvery)
	scrape(t, r, c.now)
	stayed := 0
	for id := range before {
		if r.top.guests[id] {
			stayed++
		}
	}
	if !r.top.guests[acme] || stayed != len(before)-1 {
		t.Errorf("%d of %d guests have stayed, the flooder is one: %v", stayed, len(before), r.top.guests[acme])
	}
}

func TestATenantThatIsHardlyAboveItsLimitsIsNotTold(t *testing.T) {
	for name, send := range map[string]func(*Tenant, time.Time){
		"a few samples above": func(te *Tenant, now time.Time) { te.Admit(now, Usage{Samples: 21}, false) },
		"old samples":         func(te *Tenant, now time.Time) { te.Admit(now, Usage{Samples: 1000}, true) },
		"a drop rule":         func(te *Tenant, now time.Time) { te.Refused(now, Rule, 1000, nil) },
		"a full buffer": func(te *Tenant, now time.Time) {
			te.Undo(now, Usage{Samples: 1000}, Verdict{}, fmt.Errorf("full"))
		},
	} {
		r, c := crowd(t, 2)
		for range 10 {
			send(r.Tenant(onPlan(samples(t, 10, 20, 1e6))), c.now)
			c.pass(time.Minute)
			scrape(t, r, c.now)
		}
		if r.top.member(acme) != nil {
			t.Errorf("%s: the tenant has metrics of its own", name)
		}
	}
}

func TestAGuestThatBecomesBusyStays(t *testing.T) {
	cfg := testConfig()
	cfg.Top = 1
	r := New(cfg, quiet, nil)
	c := &clock{r.started}
	te := r.Tenant(onPlan(samples(t, 10, 20, 10)))
	other := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: 1}})
	other.Admit(c.now, Usage{Samples: 100_000}, false)
	scrape(t, r, c.now)
	te.Admit(c.now, Usage{Samples: 20}, false)
	te.Admit(c.now, Usage{Samples: 1000}, false)
	scrape(t, r, c.now)
	if !r.top.guests[acme] {
		t.Fatal("a tenant above its limits is no guest")
	}
	r.Tenant(onPlan(nil))
	te.Admit(c.now, Usage{Samples: 1e6}, false)
	c.pass(rankEvery)
	scrape(t, r, c.now)
	if r.top.guests[acme] || r.top.member(acme) == nil {
		t.Error("the busiest tenant is a guest still")
	}
}

func TestManyTenantsAreComparedInPartsAtABoundedPace(t *testing.T) {
	const tenants, step = 25_000, 100 * time.Millisecond
	cfg := testConfig()
	cfg.Top = 2
	r := New(cfg, quiet, nil)
	c := &clock{r.started}
	for i := range tenants {
		r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}}).Admit(c.now, Usage{Samples: 10}, false)
	}
	scrape(t, r, c.now)
	c.pass(rankEvery)
	r.top.ranking.credit, r.top.ranking.at = 0, r.since(c.now)
	largest := 0
	for i := range r.shards {
		largest = max(largest, len(r.shards[i].tenants))
	}
	busy := tenant.ID{Account: tenants / 2}
	r.Tenant(&tenant.Profile{ID: busy}).Admit(c.now, Usage{Samples: 1e6}, false)
	first, looked := r.top.ranking.last, 0
	for range 10 {
		c.pass(step)
		before := r.top.ranking.credit
		scrape(t, r, c.now)
		looked += int(before + rankPace*step.Seconds() - r.top.ranking.credit)
	}
	if most := rankPace + largest; looked > most || looked < rankPace-largest {
		t.Errorf("%d tenants were looked at within a second, want %d, and a shard of %d more or less", looked, rankPace, largest)
	}
	if r.top.ranking.last != first || r.top.ranking.last.rate < 9.9*tenants {
		t.Errorf("what is known while a round goes on is %+v, want what the last one found", r.top.ranking.last)
	}
	c.pass(5 * step)
	all := scrape(t, r, c.now)
	if _, there := all["ingestgw_tenant_samples_total "+busy.String()]; !there {
		t.Error("the busiest tenant has no metrics when the round has ended")
	}
	if got := r.top.ranking.last.rate; got < 1e6 {
		t.Errorf("all together send %v samples, want more than the busiest one", got)
	}
}

func TestAskingOftenDoesNotRankMore(t *testing.T) {
	r, c := newRegistry()
	for i := range 5000 {
		r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}}).Admit(c.now, Usage{Samples: 10}, false)
	}
	r.top.share(1, r.since(c.now))
	c.pass(rankEvery)
	r.top.ranking.credit, r.top.ranking.at = 0, r.since(c.now)
	for range 1000 {
		r.top.share(1, r.since(c.now))
	}
	if credit := r.top.ranking.credit; credit != 0 {
		t.Errorf("%v tenants are looked at when no time has passed", -credit)
	}
}

func TestWhatATenantHasSentFadesWhileItIsIdle(t *testing.T) {
	r, c := newRegistry()
	te := r.Tenant(onPlan(samples(t, 10, 20, 10)))
	for range 2 {
		te.Admit(c.now, Usage{Samples: 1e6}, false)
	}
	c.pass(10 * time.Minute)
	if s := r.stands(acme, r.since(c.now)); s.rate > 100 || s.over > 100 {
		t.Errorf("after ten minutes %+v is left of a million samples", s)
	}
	if d, _ := te.describe(c.now); d.PerSecond.Samples > 1 {
		t.Errorf("after ten minutes it sends %v samples a second", d.PerSecond.Samples)
	}
}
