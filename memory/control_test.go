package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/ingestgw/ingestgw/internal/settings"
)

func TestAChangeThatMakesCollectingDearIsTakenBack(t *testing.T) {
	s := play(t)
	s.pass(60, busy)
	if v := s.set(`{"gogc": 1}`); !v.Differs || v.Standing != OnTrial || v.Changed.By != "10.0.0.9:1234" || !v.Changed.At.Equal(s.now) {
		t.Errorf("view after the change %+v", v)
	}
	s.pass(30, dear)
	s.inForce(1, 512<<20, OnTrial)
	s.pass(2, dear)
	s.inForce(100, 512<<20, Good)
	v := s.View()
	r := v.Reverted
	if v.Differs || v.Reverts != 1 || r == nil {
		t.Fatalf("view %+v", v)
	}
	if r.From.GOGC != 1 || r.To.GOGC != 100 || r.GCShare < 0.49 || r.GCShare > 0.51 || r.AssistShare < 0.19 || r.AssistShare > 0.21 || r.MaxShare != 0.25 ||
		r.By != "10.0.0.9:1234" || !r.At.After(v.Changed.At) {
		t.Errorf("reverted %+v", r)
	}
	for _, want := range []string{"level=ERROR", "gc_share=0.5 ", "changed_by=10.0.0.9:1234", "gogc_tried=1", "gogc=100"} {
		if !strings.Contains(s.logged.String(), want) {
			t.Errorf("%q is not logged:\n%s", want, s.logged.String())
		}
	}
	s.pass(300, dear)
	if s.View().Reverts != 1 {
		t.Error("what was put back is taken back")
	}
	if v := s.set(`{"gogc": 50}`); v.Reverted != nil || v.Reverts != 1 {
		t.Errorf("after the next change the old event stays: %+v", v)
	}
}

func TestTheLastGoodOneIsPutBackNotTheOneBefore(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 60}`)
	s.pass(32, busy)
	s.inForce(60, 512<<20, Good)
	s.set(`{"gogc": 30}`)
	s.pass(10, busy) // not for long enough
	s.set(`{"gogc": 2, "limit": "256MiB"}`)
	s.pass(32, dear)
	s.inForce(60, 512<<20, Good)
	if v := s.View(); !v.Differs || v.LastGood.GOGC != 60 {
		t.Errorf("view %+v", v)
	}
}

func TestADearMomentIsForgiven(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 40}`)
	for range 5 {
		s.pass(20, dear)
		s.pass(12, busy)
	}
	if v := s.View(); v.Reverts != 0 || v.InForce.GOGC != 40 {
		t.Errorf("view %+v", v)
	}
	s.pass(32, busy)
	s.inForce(40, 512<<20, Good)
}

// What was proved with little to do may be dear at the next peak.
func TestWhatWasGoodAndTurnsDearIsTakenBackToWhatWasGoodBeforeIt(t *testing.T) {
	s := play(t)
	for _, change := range []string{`{"gogc": 60}`, `{"gogc": 40}`, `{"gogc": 60}`, `{"gogc": 20}`} {
		s.set(change)
		s.pass(45, busy)
		if v := s.View(); v.Standing != Good {
			t.Fatalf("%s is %s", change, v.Standing)
		}
	}
	for i, want := range []Percent{60, 40, 100} {
		for seconds := 0; s.View().Reverts == uint64(i); seconds++ {
			if seconds > 45 {
				t.Fatalf("nothing is taken back, %d is in force", s.View().InForce.GOGC)
			}
			s.pass(1, dear)
		}
		s.inForce(want, 512<<20, Good)
	}
	s.pass(100, dear)
	s.inForce(100, 512<<20, Costly) // what is configured is no change that could be taken back
	if v := s.View(); v.Reverts != 3 || v.LastGood != nil {
		t.Errorf("view %+v", v)
	}
}

// Somebody tries values, one is good, and then goes back to what is configured: that is not replaced by the other.
func TestWhatIsConfiguredIsNeverReplacedByAChange(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 300}`)
	s.pass(45, busy)
	s.set(`{"gogc": 100}`)
	s.inForce(100, 512<<20, Good)
	s.pass(45, dear)
	s.inForce(100, 512<<20, Costly)
	s.set(`{"gogc": 300}`)
	s.pass(5, dear)
	s.set(`{"gogc": 100}`) // known to be dear: a change like any other
	s.pass(35, dear)
	s.inForce(300, 512<<20, Good)
}

func TestLittleToDoProvesNothing(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 1}`)
	s.pass(600, load{used: 0.9, gc: 0.2, live: 20 << 20})
	s.inForce(1, 512<<20, OnTrial)
}

func TestGoodValuesAreRememberedToABound(t *testing.T) {
	s := play(t)
	for gogc := range 20 {
		s.set(fmt.Sprintf(`{"gogc": %d}`, 50+gogc))
		s.pass(45, busy)
	}
	if goods := s.guard.goods; len(goods) != maxGoods || goods[0].GOGC != 100 || goods[maxGoods-1].GOGC != 69 {
		t.Errorf("remembered are %v", goods)
	}
}

// A process that collects all the time shows shares around a quarter, now above and now below.
func TestMomentsALittleBelowTheShareEndNothing(t *testing.T) {
	s := play(t)
	b := s.Budget("requests", State.RequestBudget, 0, prometheus.NewRegistry())
	s.set(`{"limit": "100MiB"}`)
	full := b.Limit()
	for range 20 {
		s.pass(1, load{used: 4, gc: 1.2, live: 90 << 20})
		s.pass(1, load{used: 4, gc: 0.85, live: 90 << 20}) // 10 s have 25.6 % in them, or less
	}
	if v := s.View(); v.Reverts != 1 || v.Pressed == nil || b.Limit() >= s.View().InForce.RequestBudget() || full == 0 {
		t.Errorf("view %+v", v)
	}
}

// An idle process may spend nearly all of the little that it does on collecting.
func TestAHighShareWithoutLoadMeansNothing(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 1}`)
	s.pass(600, idle)
	s.inForce(1, 512<<20, OnTrial)
	v := s.View()
	if v.Now.GCShare < 0.8 || v.Now.Noticeable {
		t.Errorf("reading %+v", v.Now)
	}
	s.pass(32, dear) // now there is load
	s.inForce(100, 512<<20, Good)
}

// Collecting on cores that nobody wants costs nobody anything.
func TestCollectingOnIdleCoresIsNoCost(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 10}`)
	s.pass(120, load{used: 3.5, gc: 0.5, idleMark: 2, live: 20 << 20})
	s.inForce(10, 512<<20, Good)
	if v := s.View(); v.Now.GCShare > 0.15 || v.Now.GCCores > 0.51 {
		t.Errorf("reading %+v", v.Now)
	}
}

func TestWithoutCollectionsNothingIsKnownAndNothingProved(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": "off"}`)
	quiet := busy
	quiet.noCycle = true
	s.pass(600, quiet)
	s.inForce(-1, 512<<20, OnTrial)
	if v := s.View(); v.Now.Known || v.Now.GCShare != 0 {
		t.Errorf("reading %+v", v.Now)
	}
	// One collection tells of all the time before it, but not of more than the values have been in force.
	s.set(`{"gogc": 300}`)
	s.pass(5, quiet)
	s.sample.total += 4 * 600
	s.sample.gc += 60
	s.pass(1, quiet)
	s.inForce(300, 512<<20, OnTrial)
}

func TestConfiguredValuesAreGoodUntilTheyHaveCostTooMuch(t *testing.T) {
	s := play(t)
	s.pass(32, dear)
	s.inForce(100, 512<<20, Costly)
	s.pass(300, dear)
	if n := strings.Count(s.logged.String(), "no good memory settings to go back to"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	s.set(`{"gogc": 5}`)
	s.pass(40, dear)
	s.inForce(5, 512<<20, Costly) // there is nothing to go back to
	s.set(`{"gogc": 200}`)
	s.pass(32, busy)
	s.inForce(200, 512<<20, Good)
	s.set(`{"gogc": "auto"}`)
	s.pass(45, busy)
	s.inForce(100, 512<<20, Good)
	if s.View().Differs {
		t.Error("the configured values differ from themselves")
	}
}

func TestSettingTheLastGoodValuesAgainNeedsNoTrial(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 5}`)
	s.pass(5, dear)
	if v := s.set(`{"gogc": 100}`); v.Standing != Good || v.Differs {
		t.Errorf("view %+v", v)
	}
}

func TestAGapInTimeIsNotTimeAboveTheShare(t *testing.T) {
	s := play(t)
	s.set(`{"gogc": 5}`)
	s.pass(20, dear)
	s.now = s.now.Add(time.Hour) // stopped
	s.sample.total += 4 * 3600
	s.sample.gc += 4 * 3600
	s.pass(25, dear)
	s.inForce(5, 512<<20, OnTrial)
	s.pass(10, dear)
	s.inForce(100, 512<<20, Good)
}

func TestInADeathSpiralBudgetsShrinkFirstAndGrowBackWhenItIsOver(t *testing.T) {
	cfg := auto(t)
	cfg.Limit = Limit{Size: settings.Size{Bytes: 100 << 20}} // nobody has changed it: nothing to take back
	s := playWith(t, cfg, none)
	requests := s.Budget("requests", State.RequestBudget, 12<<20, prometheus.NewRegistry())
	ahead := s.Budget("read_ahead", State.ReadAheadBudget, 0, prometheus.NewRegistry())
	fullR, fullA := requests.Limit(), ahead.Limit()
	if fullR != 100<<20/100*40 || fullA != 100<<20/100*10 {
		t.Fatalf("budgets of %d and %d", fullR, fullA)
	}
	want := func(halved int, r, a int64) {
		t.Helper()
		v := s.View()
		if (v.Pressed != nil) != (halved > 0) || halved > 0 && v.Pressed.Halved != halved || requests.Limit() != r || ahead.Limit() != a ||
			v.Budgets[0] != (BudgetView{"requests", fullR, r, 0}) || v.Budgets[1] != (BudgetView{"read_ahead", fullA, a, 0}) {
			t.Fatalf("pressed %+v, budgets %+v; want halved %d, %d and %d", v.Pressed, v.Budgets, halved, r, a)
		}
	}
	s.pass(4, spiral)
	want(0, fullR, fullA)
	s.pass(2, spiral)
	want(1, fullR/2, fullA/2)
	began := s.View().Pressed.Since
	s.pass(5, spiral)
	want(2, 12<<20, fullA/4) // what the largest request takes
	s.pass(300, spiral)
	want(3, 12<<20, fullA/8)
	if since := s.View().Pressed.Since; !since.Equal(began) {
		t.Errorf("pressed since %s, began %s", since, began)
	}
	s.inForce(100, 100<<20, Costly)

	s.pass(45, relieved)
	want(2, 12<<20, fullA/4)
	s.pass(30, relieved)
	want(1, fullR/2, fullA/2)
	s.pass(3, spiral)    // a moment of it does not halve again,
	s.pass(25, relieved) // but waiting begins anew
	want(1, fullR/2, fullA/2)
	s.pass(10, relieved)
	want(0, fullR, fullA)
	if !strings.Contains(s.logged.String(), "budgets of bytes held are doubled\" still_halved=0") {
		t.Errorf("log:\n%s", s.logged.String())
	}
}

func TestALimitSetTooLowLivePressesAndIsTakenBack(t *testing.T) {
	s := play(t)
	b := s.Budget("requests", State.RequestBudget, 1<<20, prometheus.NewRegistry())
	full := b.Limit()
	s.set(`{"limit": "100MiB"}`)
	if b.Limit() != 100<<20/100*40 {
		t.Errorf("the budget of %d does not follow the limit", b.Limit())
	}
	s.pass(8, spiral)
	if v := s.View(); v.Pressed == nil || b.Limit() != 100<<20/100*20 || v.InForce.Limit != 100<<20 {
		t.Errorf("pressed %+v, budget %d", v.Pressed, b.Limit())
	}
	s.pass(25, spiral)
	s.inForce(100, 512<<20, Good)
	s.pass(130, busy)
	if v := s.View(); v.Pressed != nil || b.Limit() != full || v.Reverted.From.Limit != 100<<20 {
		t.Errorf("after it is over: %+v, budget %d of %d", v, b.Limit(), full)
	}
}

// GOGC=1 is dear as well, but smaller budgets would not help.
func TestADearGOGCIsNoDeathSpiral(t *testing.T) {
	s := play(t)
	s.pass(300, dear)
	if v := s.View(); v.Pressed != nil || v.Standing != Costly {
		t.Errorf("view %+v", v)
	}
}

// With smaller budgets anything may seem good.
func TestNothingIsProvedWhileBudgetsAreSmaller(t *testing.T) {
	s := play(t)
	s.set(`{"limit": "100MiB"}`)
	s.pass(8, spiral)
	s.pass(36, relieved)
	s.inForce(100, 100<<20, OnTrial)
	s.pass(120, relieved)
	s.inForce(100, 100<<20, Good)
}

// A limit that is nearly used up may cost a hair less than what is taken back, until there is a little more to do.
func TestALimitThatLeavesNoRoomIsNotProvedGood(t *testing.T) {
	cheap := load{used: 3, gc: 0.55, live: 70 << 20} // too cheap for a death spiral
	for name, c := range map[string]struct {
		limit int64
		how   load
		want  Standing
	}{
		"live bytes nearly fill it":      {100 << 20, cheap, OnTrial},
		"it is too small for anything":   {16 << 20, cheap, OnTrial},
		"more is counted against it":     {50 << 20, busy, OnTrial},
		"live bytes have room":           {120 << 20, cheap, Good},
		"there is none":                  {0, cheap, Good},
		"it is used up without any load": {100 << 20, load{used: 0.9, gc: 0.1, live: 90 << 20}, OnTrial},
	} {
		s := play(t)
		s.set(fmt.Sprintf(`{"limit": %d}`, c.limit))
		s.pass(600, c.how)
		if v := s.View(); v.Standing != c.want || v.InForce.Limit != c.limit || v.Pressed != nil || (c.want == OnTrial && v.LastGood.Limit != 512<<20) {
			t.Errorf("%s: %s of limit %d, last good %+v, pressed %+v; want %s", name, v.Standing, v.InForce.Limit, v.LastGood, v.Pressed, c.want)
		}
		s.pass(45, dear)
		if v := s.View(); v.InForce.Limit != 512<<20 {
			t.Errorf("%s: %s is in force after it was dear", name, v.InForce)
		}
	}
}

func TestMomentsWithoutRoomPutAProofOff(t *testing.T) {
	s := play(t)
	s.set(`{"limit": "100MiB"}`)
	full := busy
	full.live = 80 << 20
	for range 30 { // as long with room as without
		s.pass(5, busy)
		s.pass(5, full)
	}
	s.inForce(100, 100<<20, OnTrial)
	s.pass(15, busy)
	for range 3 {
		s.pass(1, full)
		s.pass(6, busy)
	}
	s.inForce(100, 100<<20, Good)
}

// Whatever the load and whoever changes what: Go has what the View says, budgets stay between an eighth and their full size, nothing is
// taken back sooner than allowed, never twice without a change in between, and never in favour of what is not known to be good.
func TestTheGuardKeepsItsRulesThroughRandomTimes(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		s := play(t)
		b := s.Budget("requests", State.RequestBudget, 1<<20, prometheus.NewRegistry())
		loads := []load{busy, dear, idle, spiral, relieved, {noCycle: true}}
		before := s.View()
		inForceSince := s.now
		for range 100 {
			if rnd.IntN(3) == 0 {
				before = s.set(fmt.Sprintf(`{"gogc": %d, "limit": "%dMiB"}`, 1+rnd.IntN(5), 64+rnd.IntN(3)*64))
				inForceSince = s.now
			}
			s.pass(1+rnd.IntN(50), loads[rnd.IntN(len(loads))], func() {
				v := s.View()
				if !s.inGo.same(v.InForce) || v.Differs == v.InForce.same(v.Configured) {
					t.Fatalf("seed %d: Go has %s, view %+v", seed, s.inGo, v)
				}
				full := v.InForce.RequestBudget()
				if got := b.Limit(); got > full || got < full/8 || (v.Pressed == nil) != (got == full) {
					t.Fatalf("seed %d: budget %d of %d, pressed %+v", seed, got, full, v.Pressed)
				}
				if (v.Standing == Good) != (v.LastGood != nil && v.LastGood.same(v.InForce)) {
					t.Fatalf("seed %d: %s while %v is the last good one", seed, v.Standing, v.LastGood)
				}
				if v.Reverts != before.Reverts {
					if s.now.Sub(inForceSince) < 30*time.Second || v.Standing != Good || v.Now.GCShare <= v.MaxShare ||
						before.InForce.same(v.InForce) {
						t.Fatalf("seed %d: after %s in force %+v became %+v", seed, s.now.Sub(inForceSince), before, v)
					}
					inForceSince = s.now
				} else if !before.InForce.same(v.InForce) {
					t.Fatalf("seed %d: nobody has changed %s to %s", seed, before.InForce, v.InForce)
				}
				before = v
			})
		}
	}
}

func TestAChangeIsAppliedWholeOrNotAtAll(t *testing.T) {
	for text, want := range map[string]string{
		`{"gogc": 50, "limit": "1MiB"}`:         `limit 1MiB is 1048576 bytes: want 16MiB or more`,
		`{"gogc": 0, "limit": "64MiB"}`:         `gogc "0": want a number of per cent such as 100, off, or auto`,
		`{"gogc": "on"}`:                        `gogc "on"`,
		`{"gogc": -1}`:                          `gogc "-1"`,
		`{"gogc": 1.5}`:                         `gogc "1.5"`,
		`{"gogc": "off", "limit": 0}`:           `gogc off without a memory limit`,
		`{"gogc": null}`:                        `gogc null: want a number or a text`,
		`{"gogc": [1]}`:                         `gogc [1]: want a number or a text`,
		`{"limit": true}`:                       `limit true`,
		`{"limit": "lots"}`:                     `limit "lots" is no number of bytes`,
		`{"limit": "101%"}`:                     `limit "101%"`,
		`{"limit": "200%", "gogc": "x"}`:        `gogc "x"`,
		`{"GOGC ": 1}`:                          `unknown field`,
		`{"gogc": 50, "procs": 4}`:              `unknown field "procs"`,
		`{}`:                                    `neither gogc nor limit is given`,
		``:                                      `want JSON such as {"gogc": 100, "limit": "512MiB"}`,
		`[]`:                                    `want JSON`,
		`{"gogc": 50} {"gogc": 60}`:             `something follows`,
		`{"gogc": 50`:                           `want JSON`,
		`{"gogc": 50, "limit": "1%"}`:           `1% of the container's limit of 1GiB`,
		`{"gogc": 99999999999, "limit": "1GB"}`: `gogc "99999999999"`,
	} {
		cfg := auto(t)
		s := playWith(t, cfg, memlimit.Limit(1<<30))
		before := s.View()
		_, err := s.trySet(text)
		if !errors.Is(err, ErrChange) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", text, err, want)
		}
		if v := s.View(); !reflect.DeepEqual(v, before) {
			t.Errorf("%s has changed %+v to %+v", text, before, v)
		}
	}
}

func TestAllWaysToSayALimitAndATarget(t *testing.T) {
	for text, want := range map[string]string{
		`{"gogc": 50}`:                        "GOGC 50 (changed live), memory limit 512MiB (INGESTGW_MEMORY_LIMIT)",
		`{"gogc": "50"}`:                      "GOGC 50 (changed live), memory limit 512MiB (INGESTGW_MEMORY_LIMIT)",
		`{"gogc": "off"}`:                     "GOGC off (changed live), memory limit 512MiB (INGESTGW_MEMORY_LIMIT)",
		`{"gogc": "auto"}`:                    "GOGC 100 (Go's default), memory limit 512MiB (INGESTGW_MEMORY_LIMIT)",
		`{"limit": "64MiB"}`:                  "GOGC 100 (INGESTGW_MEMORY_GOGC), memory limit 64MiB (changed live)",
		`{"limit": 67108864}`:                 "GOGC 100 (INGESTGW_MEMORY_GOGC), memory limit 64MiB (changed live)",
		`{"limit": "0"}`:                      "GOGC 100 (INGESTGW_MEMORY_GOGC), memory limit none (changed live)",
		`{"limit": "50%"}`:                    "GOGC 100 (INGESTGW_MEMORY_GOGC), memory limit 1GiB (50% of the container's limit of 2GiB)",
		`{"limit": "auto"}`:                   "GOGC 100 (INGESTGW_MEMORY_GOGC), memory limit 1932735283 (90% of the container's limit of 2GiB)",
		`{"limit": "3GiB", "gogc": "\u0035"}`: "GOGC 5 (changed live), memory limit 3GiB (changed live)",
	} {
		s := play(t)
		if v := s.set(text); v.InForce.String() != want || !s.inGo.same(v.InForce) {
			t.Errorf("%s: %s, want %s; Go has %s", text, v.InForce, want, s.inGo)
		}
	}
}

func TestAShareOfNoContainerIsRefusedLive(t *testing.T) {
	s := playWith(t, auto(t), none)
	if _, err := s.trySet(`{"limit": "50%"}`); !errors.Is(err, ErrChange) || !strings.Contains(err.Error(), "none was found") {
		t.Errorf("error %v", err)
	}
	if v := s.set(`{"limit": "auto"}`); v.InForce.Limit != 0 || v.Differs || v.Container != 0 {
		t.Errorf("view %+v", v)
	}
}

func TestAContainerThatCannotBeReadChangesNothing(t *testing.T) {
	s := play(t)
	s.hands.container = func() (uint64, error) { return 0, errDisk }
	if _, err := s.trySet(`{"gogc": 7, "limit": "auto"}`); !errors.Is(err, errDisk) || errors.Is(err, ErrChange) {
		t.Errorf("error %v", err)
	}
	s.inForce(100, 512<<20, Good)
}

func TestAutoIsWhatGoHasReadAtItsStart(t *testing.T) {
	s := play(t)
	t.Setenv("GOMEMLIMIT", "123MiB")
	s.hands.goLimit = 123 << 20
	s.set(`{"limit": "77MiB"}`)
	if v := s.set(`{"limit": "auto"}`); v.InForce.Limit != 123<<20 || v.InForce.LimitFrom != "the variable GOMEMLIMIT" {
		t.Errorf("in force %s", v.InForce)
	}
}

func TestWhatADangerousLimitMayLeadToIsLogged(t *testing.T) {
	s := play(t)
	s.Budget("requests", State.RequestBudget, 100<<20, prometheus.NewRegistry())
	s.set(`{"limit": "3GiB"}`)
	s.set(`{"limit": "64MiB"}`)
	for _, want := range []string{"kernel may kill", "container=2GiB", "largest_request=100MiB", "by=10.0.0.9:1234", "limit_before=512MiB"} {
		if !strings.Contains(s.logged.String(), want) {
			t.Errorf("%q is not logged:\n%s", want, s.logged.String())
		}
	}
}

func TestWhoHasGoneChangesNothing(t *testing.T) {
	s := play(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := GOGC(3)
	if _, err := s.Set(ctx, Change{GOGC: &g}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	s.inForce(100, 512<<20, Good)
}

func TestAViewComesBackFromJSON(t *testing.T) {
	s := play(t)
	s.Budget("requests", State.RequestBudget, 0, prometheus.NewRegistry())
	s.set(`{"limit": "100MiB", "gogc": "off"}`)
	s.pass(20, spiral)
	want := s.View()
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got View
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	got.Now.loaded = want.Now.loaded
	again, _ := json.Marshal(got)
	if string(again) != string(text) || got.InForce != want.InForce || got.Pressed == nil {
		t.Errorf("got %s, want %s", again, text)
	}
	if !strings.Contains(string(text), `"in_force":{"limit":104857600,"limit_from":"changed live","gogc":"off"`) {
		t.Errorf("JSON %s", text)
	}
}

func TestMetricsShowWhatIsInForceAndWhatItCosts(t *testing.T) {
	s := play(t)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(s.Control)
	requests := s.Budget("requests", func(State) int64 { return 400 }, 0, reg)
	s.Budget("read_ahead", func(State) int64 { return 100 }, 0, reg)
	if !requests.TryTake(30) {
		t.Fatal("an empty budget refuses 30 of 400")
	}
	s.set(`{"gogc": 50, "limit": "100MiB"}`)
	s.pass(8, spiral)
	const want = `
# HELP ingestgw_memory_budget_bytes Bytes that the holders of this budget may have in memory at one time. It follows from INGESTGW_MEMORY_LIMIT, and is less while ingestgw_memory_pressed is not 0.
# TYPE ingestgw_memory_budget_bytes gauge
ingestgw_memory_budget_bytes{budget="read_ahead"} 50
ingestgw_memory_budget_bytes{budget="requests"} 200
# HELP ingestgw_memory_budget_used_bytes Bytes of this budget that are held now. At the size of the budget, requests are refused with 503, or reading from the buffer waits.
# TYPE ingestgw_memory_budget_used_bytes gauge
ingestgw_memory_budget_used_bytes{budget="read_ahead"} 0
ingestgw_memory_budget_used_bytes{budget="requests"} 30
# HELP ingestgw_memory_differs 1 if GOGC or the memory limit in force were changed live and are not what is configured.
# TYPE ingestgw_memory_differs gauge
ingestgw_memory_differs 1
# HELP ingestgw_memory_gogc_percent Garbage collection target (INGESTGW_MEMORY_GOGC, or as changed live); -1 is off. Small values cost much CPU.
# TYPE ingestgw_memory_gogc_percent gauge
ingestgw_memory_gogc_percent 50
# HELP ingestgw_memory_limit_bytes Memory that Go tries to stay below (INGESTGW_MEMORY_LIMIT, or as changed live); 0 is no limit.
# TYPE ingestgw_memory_limit_bytes gauge
ingestgw_memory_limit_bytes 1.048576e+08
# HELP ingestgw_memory_pressed How often the budgets of bytes held are halved now because the memory limit is too low for what is live; 0 is not.
# TYPE ingestgw_memory_pressed gauge
ingestgw_memory_pressed 1
# HELP ingestgw_memory_reverts_total Changes of GOGC or the memory limit that were taken back because garbage collection cost too much.
# TYPE ingestgw_memory_reverts_total counter
ingestgw_memory_reverts_total 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "ingestgw_memory_budget_bytes", "ingestgw_memory_budget_used_bytes",
		"ingestgw_memory_differs", "ingestgw_memory_gogc_percent", "ingestgw_memory_limit_bytes", "ingestgw_memory_pressed",
		"ingestgw_memory_reverts_total"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]float64{
		"ingestgw_memory_gc_share": 0.5, "ingestgw_memory_gc_assist_share": 0.225, "ingestgw_memory_gc_cores": 2,
		"ingestgw_memory_gc_limited": 1, "ingestgw_memory_gc_costly": 0, "ingestgw_memory_counted_bytes": 60 << 20,
	} {
		if got := value(t, reg, name); got < want*0.999 || got > want*1.001 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

func value(t *testing.T, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestRunTakesASampleEverySecondUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		samples := 0
		cfg := auto(t)
		c, err := newControl(cfg, timingOf(cfg.GCMaxTime), hands{
			around: around{container: none},
			clock:  time.Now,
			read:   func() sample { samples++; return sample{procs: 1} },
			put:    func(State) {},
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		if err := c.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || samples != 11 {
			t.Errorf("%d samples, %v", samples, err)
		}
	})
}

func FuzzParseChange(f *testing.F) {
	for _, text := range []string{
		`{"gogc": 100, "limit": "512MiB"}`, `{"gogc":"off","limit":"80%"}`, `{"gogc":"auto","limit":"auto"}`, `{"limit":0}`,
		`{"gogc":null}`, `{"gogc":1e3}`, `{"limit":"9999999TiB"}`, `{"gogc":"\ud800"}`, `{"gogc":1}x`, `[]`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseChange(text)
		if err != nil {
			if !errors.Is(err, ErrChange) {
				t.Fatalf("error %v is not of its kind", err)
			}
			return
		}
		if c.GOGC == nil && c.Limit == nil {
			t.Fatal("a change of nothing")
		}
		if err := c.check(); err != nil {
			t.Fatalf("%q is read as a change that is refused: %v", text, err)
		}
		var again string
		switch {
		case c.GOGC == nil:
			again = fmt.Sprintf(`{"limit": %q}`, c.Limit)
		case c.Limit == nil:
			again = fmt.Sprintf(`{"gogc": %q}`, c.GOGC)
		default:
			again = fmt.Sprintf(`{"gogc": %q, "limit": %q}`, c.GOGC, c.Limit)
		}
		if d, err := ParseChange([]byte(again)); err != nil || !reflect.DeepEqual(c, d) {
			t.Fatalf("%q is read as %s, and that as %+v, %v", text, again, d, err)
		}
	})
}
