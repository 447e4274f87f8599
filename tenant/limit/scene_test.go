package limit

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

func testConfig() Config { return Config{Idle: 2 * time.Hour, Top: 20, ShareEvery: 2 * time.Second} }

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newRegistry() (*Registry, *clock) {
	r := New(testConfig(), quiet, nil)
	return r, &clock{r.started}
}

// scene is a tenant with this profile, alone.
func scene(p *tenant.Profile) (*Tenant, *clock) {
	r, c := newRegistry()
	te := r.Tenant(p)
	c.now = r.started.Add(time.Duration(te.at))
	return te, c
}

// A clock is a time that tests move on.
type clock struct{ now time.Time }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

func rate(t testing.TB, perSecond, burst, hard float64) tenant.Rate {
	t.Helper()
	r, err := tenant.NewRate(perSecond, burst, hard)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var acme = tenant.ID{Account: 12, Project: 3}

// onPlan is the profile of the tenant acme with a plan.
func onPlan(plan *tenant.Plan) *tenant.Profile {
	return &tenant.Profile{ID: acme, Name: "acme", Plan: plan}
}

// samples is a plan that limits samples only.
func samples(t testing.TB, perSecond, burst, hard float64) *tenant.Plan {
	t.Helper()
	return &tenant.Plan{Name: "small", Samples: rate(t, perSecond, burst, hard)}
}
