package limit

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

func TestDiscardedIsToldOfTenantsThatLostSamplesAlone(t *testing.T) {
	r := New(Config{Idle: 2 * time.Hour, Top: 1, ShareEvery: time.Second}, slog.New(slog.DiscardHandler), nil)
	now := time.Now()
	at := func(account uint32) *Tenant { return r.Tenant(&tenant.Profile{ID: tenant.ID{Account: account}}) }
	at(1).Admit(now, Usage{Samples: 5}, false)
	at(2).Refused(now, Rule, 3, nil)
	at(2).Refused(now, Series, 2, nil)
	at(2).Refused(now, Series, 2, nil)
	at(3).Refused(now, Unavailable, 7, errors.New("full"))
	got := map[tenant.ID][]Discarded{}
	for p, discarded := range r.Discarded() {
		got[p.ID] = slices.Clone(discarded)
	}
	want := []Discarded{{Series, 4}, {Rule, 3}}
	if len(got) != 1 || !slices.Equal(got[tenant.ID{Account: 2}], want) {
		t.Errorf("got %v, want tenant 2 with %v", got, want)
	}
	for range r.Discarded() {
		break // who has seen enough may stop
	}
}
