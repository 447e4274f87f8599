package limit

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// sent is what became of samples.
type sent struct{ main, bulk, refused int }

func (s *sent) send(te *Tenant, now time.Time, n int, old bool) Verdict {
	v := te.Admit(now, Usage{Samples: n, Bytes: 10 * n, Requests: 1}, old)
	switch {
	case v.Err != nil:
		s.refused += n
	case v.Bulk:
		s.bulk += n
	default:
		s.main += n
	}
	return v
}

func TestATenantWithoutPlanIsNeverRefused(t *testing.T) {
	te, c := scene(onPlan(nil))
	for range 1000 {
		if err := te.Enter(); err != nil {
			t.Fatal(err)
		}
		if v := te.Admit(c.now, Usage{Samples: 1e9, Bytes: 1e9, Requests: 1}, false); v != (Verdict{}) {
			t.Fatalf("verdict %+v", v)
		}
	}
	if v := te.Admit(c.now, Usage{Samples: 1}, true); v != (Verdict{Bulk: true}) {
		t.Errorf("old samples: %+v, want them in bulk", v)
	}
}

func TestPerSecondGoesToMainAndUpToHardToBulk(t *testing.T) {
	for _, times := range []int{1, 2, 3, 20} {
		te, c := scene(onPlan(samples(t, 100, 1000, 200)))
		var s sent
		const seconds = 1000
		for range 10 * seconds {
			c.pass(100 * time.Millisecond)
			s.send(te, c.now, 10*times, false)
		}
		offered := seconds * 100 * times
		wantMain := min(offered, seconds*100+1000)
		wantAll := min(offered, seconds*200+2000)
		if times == 20 && (!near(s.main, wantMain, 0.01) || !near(s.main+s.bulk, wantAll, 0.01)) || times == 1 && s.main != offered {
			t.Errorf("%d times the limit: %+v, want %d in main and %d in all", times, s, wantMain, wantAll)
		}
		if s.main+s.bulk+s.refused != offered || times <= 2 && s.refused > 0 {
			t.Errorf("%d times the limit: %+v of %d", times, s, offered)
		}
	}
}

func near(got, want int, part float64) bool {
	d := float64(got - want)
	return max(d, -d) <= part*float64(want)
}

func TestOldSamplesGoToBulkAndTakeNothingFromMain(t *testing.T) {
	te, c := scene(onPlan(samples(t, 100, 1000, 200)))
	var s sent
	s.send(te, c.now, 1500, true)
	s.send(te, c.now, 1000, false)
	if want := (sent{main: 1000, bulk: 1500}); s != want {
		t.Fatalf("%+v, want %+v", s, want)
	}
	v := s.send(te, c.now, 1, true)
	if !errors.Is(v.Err, ErrLimitOld) || errors.Is(v.Err, ErrLimit) {
		t.Errorf("old samples above the hard limit: %v, want ErrLimitOld", v.Err)
	}
	if v := te.Admit(c.now, Usage{Samples: 2, HoldsOld: true}, false); !errors.Is(v.Err, ErrLimitOld) {
		t.Errorf("an old sample among fresh ones, above the hard limit: %v, want ErrLimitOld", v.Err)
	}
	v = s.send(te, c.now, 1, false)
	if !errors.Is(v.Err, ErrLimit) || errors.Is(v.Err, ErrLimitOld) {
		t.Errorf("fresh samples above the hard limit: %v, want ErrLimit", v.Err)
	}
}

func TestARefusedRequestIsChargedNothing(t *testing.T) {
	plan := samples(t, 100, 1000, 200)
	plan.Bytes = rate(t, 1000, 1000, 1000)
	te, c := scene(onPlan(plan))
	var s sent
	s.send(te, c.now, 100, false)
	for range 100 {
		s.send(te, c.now, 100, false)
	}
	if s.main != 100 || s.refused != 10000 {
		t.Fatalf("%+v, want one request", s)
	}
	c.pass(1100 * time.Millisecond)
	if v := s.send(te, c.now, 90, false); v != (Verdict{}) {
		t.Errorf("after a second: %+v", v)
	}
}

func TestARequestLargerThanTheBurstIsTakenInBulkAndPaidFor(t *testing.T) {
	te, c := scene(onPlan(samples(t, 100, 1000, 200)))
	if v := te.Admit(c.now, Usage{Samples: 5000, Requests: 1}, false); v != (Verdict{Bulk: true}) {
		t.Fatalf("verdict %+v, want it taken, in bulk", v)
	}
	v := te.Admit(c.now, Usage{Samples: 1, Requests: 1}, false)
	if v.Err == nil || v.RetryAfter != 16*time.Second {
		t.Fatalf("verdict %+v, want to be told to come in 16 s: a debt of 3000 at 200/s", v)
	}
	c.pass(v.RetryAfter)
	if v := te.Admit(c.now, Usage{Samples: 1, Requests: 1}, false); v != (Verdict{}) {
		t.Errorf("then: %+v, want main: bulk takes nothing from it", v)
	}
}

// The figures are those of tenant/access/FORMAT.md.
func TestALargeDebtIsPaidByTheHardRateAndToldIn30SecondsAtATime(t *testing.T) {
	te, c := scene(onPlan(samples(t, 10, 10, 20)))
	if v := te.Admit(c.now, Usage{Samples: 20_000, Requests: 1}, false); v != (Verdict{Bulk: true}) {
		t.Fatalf("verdict %+v, want it taken, in bulk", v)
	}
	for waited := 0; waited < 960; waited += 30 {
		if v := te.Admit(c.now, Usage{Samples: 1, Requests: 1}, false); v.Err == nil || v.RetryAfter != 30*time.Second {
			t.Fatalf("after %d s: %+v, want to be told to come in 30 s", waited, v)
		}
		c.pass(30 * time.Second)
	}
	c.pass(38 * time.Second)
	if v := te.Admit(c.now, Usage{Samples: 1, Requests: 1}, false); v.Err == nil {
		t.Errorf("after 998 s: %+v, want it refused", v)
	}
	c.pass(2 * time.Second)
	if v := te.Admit(c.now, Usage{Samples: 1, Requests: 1}, false); v != (Verdict{}) {
		t.Errorf("after 1000 s: %+v, want it taken", v)
	}
}

func TestOnlyWhatFitsIntoTheBurstGoesToMain(t *testing.T) {
	small := samples(t, 10, 10, 20)
	bytes := &tenant.Plan{Bytes: rate(t, 10, 100, 20)}
	requests := &tenant.Plan{Requests: rate(t, 0.1, 0.5, 1)}
	for _, test := range []struct {
		name string
		plan *tenant.Plan
		u    Usage
		bulk bool
	}{
		{"as much as the burst", small, Usage{Samples: 10, Requests: 1}, false},
		{"one more", small, Usage{Samples: 11, Requests: 1}, true},
		{"far more", small, Usage{Samples: 20_000, Requests: 1}, true},
		{"bytes", bytes, Usage{Bytes: 100, Requests: 1}, false},
		{"more bytes", bytes, Usage{Bytes: 101, Requests: 1}, true},
		{"one request, of less than one", requests, Usage{Requests: 1}, false},
	} {
		te, c := scene(onPlan(test.plan))
		v := te.Admit(c.now, test.u, false)
		if v != (Verdict{Bulk: test.bulk}) {
			t.Errorf("%s: %+v, want it taken, in bulk: %v", test.name, v, test.bulk)
		}
		te.Undo(c.now, test.u, v, nil)
		if again := te.Admit(c.now, test.u, false); again != v {
			t.Errorf("%s: given back, and then %+v", test.name, again)
		}
	}
}

func TestRetryAfterIsFromOneToThirtySeconds(t *testing.T) {
	for size, want := range map[int]time.Duration{2001: time.Second, 2100: time.Second, 4100: 11 * time.Second, 1e8: 30 * time.Second} {
		te, c := scene(onPlan(samples(t, 100, 1000, 200)))
		te.Admit(c.now, Usage{Samples: size}, false)
		if v := te.Admit(c.now, Usage{Samples: 1}, false); v.Err == nil || v.RetryAfter != want {
			t.Errorf("after %d samples: %+v, want to be told %v", size, v, want)
		}
	}
}

func TestARefusalNamesTenantPlanLimitAndValue(t *testing.T) {
	plan := &tenant.Plan{Name: "small", Samples: rate(t, 100, 1000, 200), Bytes: rate(t, 50, 50, 75), Requests: rate(t, 1, 1, 1), Concurrent: 2}
	for _, test := range []struct {
		first, second Usage
		want          string
	}{
		{Usage{Samples: 3000}, Usage{Samples: 77}, `77 samples: plan "small" has none left: samples_hard 200/s, and 2000 at once (samples_burst 1000, for as many seconds of samples_hard): try again in 6s`},
		{Usage{Bytes: 3000}, Usage{Bytes: 78}, `78 bytes: plan "small" has none left: bytes_hard 75/s, and 75 at once (bytes_burst 50, for as many seconds of bytes_hard): try again in 30s`},
		{Usage{Requests: 2}, Usage{Requests: 1}, `1 request: plan "small" has none left: requests_hard 1/s, and 1 at once (requests_burst 1, for as many seconds of requests_hard): try again in 2s`},
	} {
		te, c := scene(onPlan(plan))
		te.Admit(c.now, test.first, false)
		v := te.Admit(c.now, test.second, false)
		if v.Err == nil || !strings.Contains(v.Err.Error(), test.want) || !strings.Contains(v.Err.Error(), `tenant 12:3 ("acme")`) {
			t.Errorf("%v\nwant %s", v.Err, test.want)
		}
	}
}

func TestNoMoreRequestsAtOneTimeThanThePlanAllows(t *testing.T) {
	plan := &tenant.Plan{Name: "small", Concurrent: 2}
	te, _ := scene(onPlan(plan))
	for range 2 {
		if err := te.Enter(); err != nil {
			t.Fatal(err)
		}
	}
	err := te.Enter()
	if !errors.Is(err, ErrConcurrent) || !strings.Contains(err.Error(), `plan "small" allows 2 (concurrent_requests)`) {
		t.Fatalf("the third: %v", err)
	}
	te.Leave()
	if err := te.Enter(); err != nil {
		t.Errorf("after one has left: %v", err)
	}
}

func TestWhatWasNotStoredIsGivenBack(t *testing.T) {
	for _, old := range []bool{false, true} {
		te, c := scene(onPlan(samples(t, 100, 1000, 200)))
		u := Usage{Samples: 900, Requests: 1}
		for range 100 { // all within one moment
			v := te.Admit(c.now, u, old)
			if v != (Verdict{Bulk: old}) {
				t.Fatalf("old %v: %+v", old, v)
			}
			te.Undo(c.now, u, v, errors.New("the buffer is full"))
		}
		d, _ := te.registry.Describe(acme)
		if got := d.Refused["unavailable"]; got != (RefusedCount{100, 90_000}) || d.LastError != "the buffer is full" {
			t.Errorf("old %v: described as %+v", old, d)
		}
	}
}

func TestAnotherPlanKeepsWhatWasUsed(t *testing.T) {
	for _, test := range []struct {
		name       string
		before, is *tenant.Plan
		want       int // samples that can be sent at once then, 600 having been sent
	}{
		{"larger", samples(t, 100, 1000, 100), samples(t, 1000, 10000, 1000), 9400},
		{"smaller", samples(t, 100, 1000, 100), samples(t, 10, 700, 10), 100},
		{"used up", samples(t, 100, 1000, 100), samples(t, 10, 100, 10), 0},
		{"the first", nil, samples(t, 10, 100, 10), 100},
		{"a limit more", &tenant.Plan{Bytes: rate(t, 1e9, 0, 0)}, samples(t, 10, 100, 10), 100},
		{"the same by value", samples(t, 100, 1000, 100), samples(t, 100, 1000, 100), 400},
	} {
		r, c := newRegistry()
		r.Tenant(onPlan(test.before)).Admit(c.now, Usage{Samples: 600}, false)
		te := r.Tenant(onPlan(test.is))
		var s sent
		for range 20_000 {
			s.send(te, c.now, 1, false)
		}
		if all := s.main + s.bulk; all < test.want || all > test.want+test.want/50+10 { // a real moment has passed
			t.Errorf("%s: %+v, want %d", test.name, s, test.want)
		}
		if d, _ := r.Describe(acme); d.Taken.Samples != float64(600+s.main+s.bulk) {
			t.Errorf("%s: %v samples are counted", test.name, d.Taken.Samples)
		}
	}
}

func TestAnIdleTenantIsForgottenAndABusyOneIsNot(t *testing.T) {
	r, c := newRegistry()
	r.Tenant(onPlan(nil)).Admit(c.now, Usage{Samples: 1}, false)
	waiting := tenant.ID{Account: 1}
	if err := r.Tenant(&tenant.Profile{ID: waiting}).Enter(); err != nil {
		t.Fatal(err)
	}
	c.pass(2*time.Hour - time.Minute)
	r.forget(c.now)
	if _, ok := r.Describe(acme); !ok {
		t.Error("forgotten before two hours")
	}
	c.pass(2 * time.Minute)
	r.forget(c.now)
	if _, ok := r.Describe(acme); ok {
		t.Error("not forgotten after two hours")
	}
	if _, ok := r.Describe(waiting); !ok {
		t.Error("forgotten during a request")
	}
}

func TestTheShareOfTheBacklogIsThatOfWhatHasComeOfLate(t *testing.T) {
	r, c := newRegistry()
	share := func(id tenant.ID) float64 {
		d, _ := r.Describe(id)
		return d.BacklogShare
	}
	ids := []tenant.ID{acme, {Account: 7}, {Account: 8}}
	for i, n := range []int{300, 100, 0} {
		te := r.Tenant(&tenant.Profile{ID: ids[i]})
		if got := share(ids[i]); got != 0 {
			t.Errorf("tenant %v has sent nothing and has a share of %v", ids[i], got)
		}
		te.Admit(c.now, Usage{Samples: n, Requests: 1}, false)
	}
	r.top.ranking.last.began -= int64(rankEvery)
	for i, want := range []float64{0.75, 0.25, 0} {
		if got := share(ids[i]); math.Abs(got-want) > 0.01 {
			t.Errorf("tenant %v: %v, want %v", ids[i], got, want)
		}
	}
	r.find(acme).Admit(c.now, Usage{Samples: 1e6, Requests: 1}, false)
	if got := share(acme); got > 1 {
		t.Errorf("a share of %v", got)
	}
}

func TestATenantIsDescribed(t *testing.T) {
	plan := samples(t, 100, 1000, 200)
	plan.ActiveSeries = 5
	r, c := newRegistry()
	te := r.Tenant(onPlan(plan))
	if err := te.Enter(); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		te.Series(hashOf(i), c.now)
	}
	te.Refused(c.now, Series, 5, nil)
	te.Refused(c.now, Invalid, 1, errors.New(strings.Repeat("long ", 1000)))
	te.Admit(c.now, Usage{Samples: 1000, Bytes: 10, Requests: 1}, false)
	te.Admit(c.now, Usage{Samples: 1000, Bytes: 10, Requests: 1}, false)
	te.Admit(c.now, Usage{Samples: 700, Bytes: 10, Requests: 1}, false)
	d, ok := r.Describe(acme)
	if !ok || d.Tenant != "12:3" || d.Name != "acme" || d.Plan != "small" || d.Lane != "bulk" || d.InFlight != 1 || d.ActiveSeries == nil || *d.ActiveSeries != 5 ||
		d.Taken != (Amounts{2000, 20, 2}) || d.BulkSamples != 1000 || d.LastErrorAt == nil || !strings.Contains(d.LastError, "700 samples: plan") {
		t.Errorf("%+v", d)
	}
	want := map[string]RefusedCount{"samples": {1, 700}, "active_series": {1, 5}, "invalid": {1, 1}}
	if fmt.Sprint(d.Refused) != fmt.Sprint(want) {
		t.Errorf("refused %v, want %v", d.Refused, want)
	}
	if p := r.Profile(acme); p == nil || p.Plan != plan {
		t.Errorf("it was let in by %+v", p)
	}
	other := tenant.ID{Account: 7}
	if _, ok := r.Describe(other); ok || r.Profile(other) != nil {
		t.Error("a tenant that has not sent is described")
	}
}

func TestSeriesThatNobodyCountsAreNotTold(t *testing.T) {
	for _, plan := range []*tenant.Plan{nil, samples(t, 100, 1000, 200)} {
		te, c := scene(onPlan(plan))
		te.Admit(c.now, Usage{Samples: 1}, false)
		d, _ := te.registry.Describe(acme)
		if text, err := json.Marshal(d); err != nil || strings.Contains(string(text), "active_series") {
			t.Errorf("%s, %v", text, err)
		}
	}
}

func TestRatesAreOfAboutTheLastMinute(t *testing.T) {
	te, c := scene(onPlan(nil))
	for range 600 {
		c.pass(time.Second)
		te.Admit(c.now, Usage{Samples: 50, Bytes: 500, Requests: 1}, false)
	}
	if got := te.perSecond(Samples); got < 45 || got > 55 {
		t.Errorf("%v samples per second, want 50", got)
	}
	c.pass(10 * time.Minute)
	te.lock(c.now)
	defer te.mu.Unlock()
	if got := te.perSecond(Samples); got > 6 {
		t.Errorf("%v samples per second after 10 minutes of silence", got)
	}
}

func TestAnErrorThatIsKeptIsBounded(t *testing.T) {
	if got := bounded(errors.New(strings.Repeat("x", 1e6))).Error(); len(got) > maxErrorText+10 {
		t.Errorf("%d bytes are kept", len(got))
	}
}

func TestValidateNamesEverySettingThatIsWrong(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	err := Config{Idle: time.Hour, Top: -1, ShareEvery: time.Hour}.Validate()
	for _, name := range []string{"INGESTGW_LIMIT_IDLE=1h0m0s", "INGESTGW_LIMIT_TOP=-1", "INGESTGW_LIMIT_SHARE_EVERY=1h0m0s"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}
