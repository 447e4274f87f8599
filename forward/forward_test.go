package forward

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
)

func TestForwardsEveryRecordToItsTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.store.put(encode(record(tenant.ID{Account: 7}, "x"), record(tenant.ID{Account: 8, Project: math.MaxUint32}, "y")))
		s.start()
		synctest.Wait()
		s.put("z")
		time.Sleep(2 * time.Second)
		s.wantCommitted(2)
		s.stop()

		var got []string
		for _, a := range s.node("a").arrivals() {
			got = append(got, a.payload+" "+a.path)
		}
		want := []string{
			"x /insert/7:0/prometheus/api/v1/write",
			"y /insert/8:4294967295/prometheus/api/v1/write",
			"z /insert/1:2/prometheus/api/v1/write",
		}
		if !slices.Equal(got, want) {
			t.Errorf("arrived\n%v, want\n%v", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if n := s.metric("samples_total", "node", "a:8480"); n != 30 {
			t.Errorf("samples_total is %v, want 30", n)
		}
	})
}

// Each fault twice: the request did not arrive; it arrived and its answer was lost.
func TestARequestThatFailsIsSentToAnotherNode(t *testing.T) {
	for _, arrived := range []bool{false, true} {
		t.Run(fmt.Sprintf("arrived=%v", arrived), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, "a", "b")
				s.node("a").behave(func(*http.Request, string) reply { return reply{err: errBroken, arrived: arrived} })
				s.put("r0 r1 r2")
				s.start()
				time.Sleep(2 * time.Second)
				s.wantCommitted(1)
				s.stop()

				if got := s.node("b").taken(); !slices.Equal(got, []string{"r0", "r1", "r2"}) {
					t.Errorf("b took %v, want all three", got)
				}
				if got := len(s.node("a").arrivals()); got != 1 {
					t.Errorf("a was asked %d times, want once: it is left alone", got)
				}
				if s.metric("requests_total", "node", "a:8480", "code", "unreachable") != 1 || s.metric("retries_total") != 1 {
					t.Error("the failure was not counted")
				}
			})
		})
	}
}

func TestABlockGoesOnWhereItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.node("a").behave(func(_ *http.Request, payload string) reply {
			if payload == "r2" {
				return reply{status: http.StatusServiceUnavailable}
			}
			return reply{}
		})
		s.put("r0 r1 r2 r3")
		s.start()
		time.Sleep(time.Second)
		s.stop()

		if got := s.node("a").taken(); !slices.Equal(got, []string{"r0", "r1"}) {
			t.Errorf("a took %v", got)
		}
		if got := s.node("b").taken(); !slices.Equal(got, []string{"r2", "r3"}) {
			t.Errorf("b took %v", got)
		}
		if !slices.Equal(settle.nodes, []string{"a:8480,b:8480"}) {
			t.Errorf("settling was told %v, want both nodes", settle.nodes)
		}
	})
}

func TestANodeThatIsDownIsProbedAndUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		a := s.node("a")
		a.behave(fails(errBroken))
		s.putMany(50)
		s.start()
		time.Sleep(60 * time.Second)
		down := len(a.arrivals())
		if down < 5 || down > 15 {
			t.Errorf("a was asked %d times in a minute of being down, want a few", down)
		}
		if a.most != 1 {
			t.Errorf("%d requests at a time went to a node that was down, want 1", a.most)
		}
		if s.metric("node_state", "node", "a:8480", "state", "paused") != 1 {
			t.Error("node_state does not say paused")
		}
		if age := s.metric("oldest_unsent_age_seconds"); age < 58 || age > 61 {
			t.Errorf("oldest_unsent_age_seconds is %v after a minute", age)
		}
		if s.metric("unsent_blocks") != 50 || s.metric("uncommitted_blocks") != 50 {
			t.Errorf("unsent %v, uncommitted %v, want 50", s.metric("unsent_blocks"), s.metric("uncommitted_blocks"))
		}
		a.behave(nil)
		time.Sleep(32 * time.Second)
		s.wantDelivered(50)
		s.wantCommitted(50)
		if s.metric("node_state", "node", "a:8480", "state", "ready") != 1 {
			t.Error("node_state does not say ready")
		}
		if s.metric("oldest_unsent_age_seconds") != 0 || s.metric("unsent_blocks") != 0 {
			t.Error("the backlog's metrics do not fall to 0")
		}
		s.stop()
	})
}

func TestRetryAfterIsHonouredWithinABound(t *testing.T) {
	for _, test := range []struct {
		header   string
		min, max time.Duration
	}{
		{"7", 7 * time.Second, 7100 * time.Millisecond},
		{"3600", 30 * time.Second, 30100 * time.Millisecond},
		{"soon", 75 * time.Millisecond, 200 * time.Millisecond},
	} {
		t.Run(test.header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, "a")
				var once sync.Once
				s.node("a").behave(func(*http.Request, string) (r reply) {
					once.Do(func() { r = reply{status: 503, header: http.Header{"Retry-After": {test.header}}} })
					return r
				})
				s.put("r0")
				s.start()
				time.Sleep(time.Minute)
				s.stop()
				got := s.node("a").arrivals()
				if len(got) != 2 {
					t.Fatalf("asked %d times, want 2", len(got))
				}
				if pause := got[1].at.Sub(got[0].at); pause < test.min || pause > test.max {
					t.Errorf("asked again after %v, want %v to %v", pause, test.min, test.max)
				}
			})
		})
	}
}

func TestARefusalOfOneNodeGoesToAnother(t *testing.T) {
	for _, code := range []int{301, 400, 401, 404, 413} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, "a", "b")
				s.node("a").behave(func(*http.Request, string) reply { return reply{status: code, body: "go away"} })
				s.putMany(300)
				s.start()
				time.Sleep(10 * time.Second)
				s.wantDelivered(300)
				s.wantCommitted(300)
				if got := len(s.node("a").arrivals()); got > 10 {
					t.Errorf("a was asked %d times in 10 s although it refuses everything", got)
				}
				if s.metric("parked_blocks") != 0 {
					t.Errorf("%v blocks are still parked", s.metric("parked_blocks"))
				}
				s.stop()
				for _, want := range []string{"level=ERROR", "http://a:8480/insert/1:2/prometheus/api/v1/write", "go away", fmt.Sprint(code), "advice="} {
					if !strings.Contains(s.logs.String(), want) {
						t.Errorf("%q is not logged", want)
					}
				}
			})
		})
	}
}

func TestWhenAllNodesRefuseNothingIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		s.node("a").behave(status(400))
		s.node("b").behave(status(400))
		s.putMany(1000)
		s.start()
		time.Sleep(2 * time.Hour)
		tried := map[string]bool{}
		for _, n := range []string{"a", "b"} {
			for _, a := range s.node(n).arrivals() {
				tried[a.payload] = true
			}
		}
		if len(tried) > maxParked+2*s.cfg.Concurrency {
			t.Errorf("%d blocks were taken to a node, want at most %d and hardly more", len(tried), maxParked)
		}
		if n := len(s.node("a").arrivals()); n > 2*3600*3/2 {
			t.Errorf("a was asked %d times in 2 hours, want each parked block tried every 30 s or so", n)
		}
		s.wantCommitted(0)
		s.node("a").behave(nil)
		time.Sleep(2 * time.Minute)
		s.wantDelivered(1000)
		s.wantCommitted(1000)
		s.stop()
	})
}

func TestReadingStopsAtABoundOfRefusedBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		refuse := func(_ *http.Request, payload string) reply {
			if strings.HasPrefix(payload, "bad") {
				return reply{status: 400}
			}
			return reply{}
		}
		s.node("a").behave(refuse)
		s.node("b").behave(refuse)
		for i := range 200 { // every second one is bad
			s.put(fmt.Sprintf("r%d", i), fmt.Sprintf("bad%d", i))
		}
		s.start()
		time.Sleep(2 * time.Hour)
		parked := s.metric("parked_blocks")
		if parked < maxParked || parked > maxParked+float64(2*s.cfg.Concurrency) {
			t.Errorf("%v blocks are parked, want %d and hardly more", parked, maxParked)
		}
		if good := len(s.delivered()); good < maxParked-1 || good > maxParked+2*s.cfg.Concurrency {
			t.Errorf("%d good blocks were sent, want those before the bound, about %d", good, maxParked)
		}
		s.wantCommitted(1)
		s.node("a").behave(nil)
		time.Sleep(2 * time.Minute)
		s.wantDelivered(200)
		s.wantCommitted(400)
		s.stop()
	})
}

func TestARefusedRecordKeepsNeitherItsNeighboursNorLaterBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		var cured bool
		var mu sync.Mutex
		refuse := func(_ *http.Request, payload string) reply {
			mu.Lock()
			defer mu.Unlock()
			if payload == "bad" && !cured {
				return reply{status: 400}
			}
			return reply{}
		}
		s.node("a").behave(refuse)
		s.node("b").behave(refuse)
		s.put("r0 bad r1 r2")
		s.put("r3")
		s.start()
		time.Sleep(2 * time.Second)
		for i := 4; i < 100; i++ {
			s.put(fmt.Sprintf("r%d", i))
		}
		time.Sleep(10 * time.Second)
		s.wantDelivered(100)
		s.wantCommitted(0)
		if got := s.store.progress(); !got.Contains(97) {
			t.Errorf("progress %v lacks the later blocks", got.Done)
		}
		if s.metric("parked_blocks") != 1 {
			t.Errorf("parked_blocks is %v, want 1", s.metric("parked_blocks"))
		}
		mu.Lock()
		cured = true
		mu.Unlock()
		time.Sleep(35 * time.Second)
		s.wantCommitted(98)
		if s.delivered()["bad"] != 1 || s.delivered()["r0"] != 1 {
			t.Errorf("delivered %v", s.delivered())
		}
		s.stop()
	})
}

func TestBadRecordsThatAreTriedAgainDoNotKeepNodesFromGoodOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.cfg.RetryMax = time.Second
		s.node("a").behave(func(_ *http.Request, payload string) reply {
			if strings.HasPrefix(payload, "bad") {
				return reply{status: 400}
			}
			return reply{}
		})
		for i := range maxParked - 1 {
			s.put(fmt.Sprintf("bad%d", i))
		}
		s.start()
		time.Sleep(5 * time.Minute)
		tried := len(s.node("a").arrivals())
		for i := range 100 {
			began := time.Now()
			s.put(fmt.Sprintf("r%d", i))
			time.Sleep(50 * time.Millisecond)
			if s.delivered()[fmt.Sprintf("r%d", i)] == 0 {
				t.Fatalf("r%d has not arrived after %v", i, time.Since(began))
			}
		}
		if more := len(s.node("a").arrivals()) - tried; more < 2*maxParked {
			t.Errorf("bad records were tried %d times meanwhile: this test shows nothing", more-100)
		}
		s.stop()
	})
}

func TestAHangingNodeTimesOutAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		s.node("a").behave(hangs)
		s.putMany(500)
		s.start()
		time.Sleep(5 * time.Second)
		if got := len(s.node("b").taken()); got < 490 {
			t.Errorf("b has taken %d of 500 while a hangs", got)
		}
		time.Sleep(time.Minute)
		s.wantDelivered(500)
		s.wantCommitted(500)
		if s.metric("requests_total", "node", "a:8480", "code", "timeout") == 0 {
			t.Error("no time-out was counted")
		}
		s.stop()
	})
}

func TestASlowNodeDoesNotSlowTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "slow", "fast")
		s.node("slow").behave(func(*http.Request, string) reply { time.Sleep(10 * time.Second); return reply{} })
		s.node("fast").behave(func(*http.Request, string) reply { time.Sleep(10 * time.Millisecond); return reply{} })
		s.putMany(4000)
		s.start()
		time.Sleep(15 * time.Second) // the fast one alone does 4 requests in 10 ms
		s.wantDelivered(4000 - 2*s.cfg.Concurrency)
		if got := len(s.node("slow").taken()); got > 2*s.cfg.Concurrency {
			t.Errorf("the slow node was given %d", got)
		}
		time.Sleep(15 * time.Second)
		s.wantDelivered(4000)
		s.stop()
	})
}

func TestANodeStartsWithOneRequestAndHasNoMoreThanItsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		a := s.node("a")
		var mu sync.Mutex
		answered := false
		early := 0
		a.behave(func(*http.Request, string) reply {
			mu.Lock()
			if !answered {
				early++
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			answered = true
			mu.Unlock()
			return reply{}
		})
		s.putMany(40)
		s.start()
		time.Sleep(20 * time.Second)
		s.wantDelivered(40)
		if early != 1 {
			t.Errorf("%d requests were sent before the first answer, want 1", early)
		}
		if a.most != s.cfg.Concurrency {
			t.Errorf("most requests at a time: %d, want %d", a.most, s.cfg.Concurrency)
		}
		s.stop()
	})
}

func TestNodesComeAndGoWithTheirNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.putMany(10)
		s.start()
		time.Sleep(time.Second)
		s.resolver.set("b")
		time.Sleep(s.cfg.ResolveInterval)
		before := len(s.node("a").arrivals())
		for i := 10; i < 20; i++ {
			s.put(fmt.Sprintf("r%d", i))
		}
		time.Sleep(time.Second)
		s.wantDelivered(20)
		if got := len(s.node("a").arrivals()); got != before || len(s.node("b").taken()) != 10 {
			t.Errorf("a got %d more after it was gone, b took %d, want 0 and 10", got-before, len(s.node("b").taken()))
		}
		for _, name := range []string{"requests_total", "request_duration_seconds", "samples_total", "bytes_total", "node_state", "blocks_in_flight"} {
			if _, n := s.series(name, "node", "a:8480"); n != 0 {
				t.Errorf("%s still has %d series of a node that is gone", name, n)
			}
			if _, n := s.series(name, "node", "b:8480"); n == 0 {
				t.Errorf("%s has no series of b", name)
			}
		}
		s.stop()
	})
}

func TestNothingIsSentBeforeSettlingAllowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		settle := &fakeSettling{closed: true}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.putMany(5)
		s.start()
		time.Sleep(time.Minute)
		if got := s.node("a").arrivals(); len(got) != 0 {
			t.Errorf("%d requests were sent", len(got))
		}
		if s.metric("node_state", "state", "unknown") != 1 {
			t.Error("node_state does not say unknown")
		}
		settle.setClosed(false)
		time.Sleep(time.Second)
		s.wantDelivered(5)
		s.stop()
	})
}

func TestARestartResumesFromProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.putMany(10)
		s.start()
		time.Sleep(500 * time.Millisecond) // before the first save: stopping saves
		s.stop()
		s.wantCommitted(10)
		for i := 10; i < 15; i++ {
			s.put(fmt.Sprintf("r%d", i))
		}
		s.start()
		time.Sleep(time.Second)
		s.stop()
		s.wantCommitted(15)
		for payload, n := range s.delivered() {
			if n != 1 {
				t.Errorf("%s was sent %d times", payload, n)
			}
		}
		s.wantDelivered(15)
	})
}

func TestWhatHasNotSettledIsSentAgainAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.putMany(6)
		s.start()
		time.Sleep(time.Second)
		settle.partition().settled([]buffer.Span{{From: 0, To: 2}, {From: 3, To: 4}})
		time.Sleep(2 * time.Second)
		s.wantCommitted(2)
		s.stop()
		if !settle.forgot {
			t.Error("settling was not told to forget the partition")
		}
		s.start()
		time.Sleep(time.Second)
		s.stop()
		want := map[string]int{"r0": 1, "r1": 1, "r2": 2, "r3": 1, "r4": 2, "r5": 2}
		for payload, n := range s.delivered() {
			if n != want[payload] {
				t.Errorf("%s was sent %d times, want %d", payload, n, want[payload])
			}
		}
	})
}

func TestDirtyBlocksAreSentAgainBeforeOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.cfg.Concurrency = 1
		s.putMany(10)
		s.start()
		time.Sleep(time.Second)
		slow := func(*http.Request, string) reply { time.Sleep(time.Second); return reply{} }
		s.node("a").behave(slow)
		for i := 10; i < 40; i++ {
			s.store.put(encode(record(tenant.ID{}, fmt.Sprintf("r%d", i)+strings.Repeat("x", 300<<10))))
		}
		time.Sleep(2500 * time.Millisecond)
		settle.partition().dirty([]buffer.Span{{From: 2, To: 4}, {From: 7, To: 8}})
		time.Sleep(20 * time.Second)
		got := s.node("a").taken()
		s.stop()
		for _, again := range []string{"r2", "r3", "r7"} {
			last := len(got) - 1 - slices.Index(reversed(got), again)
			if last < 10 || last > 10+10 {
				t.Errorf("%s was sent again as number %d of %d, want it soon after the first 12", again, last, len(got))
			}
		}
		if s.metric("resent_samples_total") != 30 {
			t.Errorf("resent_samples_total is %v, want 30", s.metric("resent_samples_total"))
		}
	})
}

func reversed(s []string) []string {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

func TestDirtyBlocksAreSentAgainWhenNothingNewComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.cfg.Concurrency = 1
		s.putMany(3)
		s.start()
		time.Sleep(time.Second)
		settle.partition().dirty([]buffer.Span{{From: 1, To: 2}})
		time.Sleep(time.Second)
		if got := settle.offsets(); !slices.Equal(got, []buffer.Offset{0, 1, 2, 1}) {
			t.Errorf("sent offsets %v, want 1 once more", got)
		}
		settle.partition().settled([]buffer.Span{{From: 0, To: 3}})
		time.Sleep(2 * time.Second)
		s.wantCommitted(3)
		s.stop()
	})
}

func TestSettlingByTheClockCommitsAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.cfg.Settle, s.cfg.SettleMode = 30*time.Second, settleTime
		s.putMany(3)
		s.start()
		time.Sleep(timeSettle - time.Second)
		s.wantDelivered(3)
		s.wantCommitted(0)
		time.Sleep(5 * time.Second)
		s.wantCommitted(3)
		s.stop()
	})
}

func TestLossesAreCountedAndPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.putMany(6)
		s.store.damage(1, "damaged")
		s.store.damage(2, "damaged")
		s.store.damage(4, "removed")
		s.start()
		time.Sleep(2 * time.Second)
		s.wantCommitted(6)
		s.stop()
		if s.metric("lost_blocks_total", "reason", "damaged") != 2 || s.metric("lost_blocks_total", "reason", "removed") != 1 {
			t.Error("lost_blocks_total is wrong")
		}
		if !strings.Contains(s.logs.String(), "level=ERROR") {
			t.Error("the loss was not logged as an error")
		}
	})
}

func TestABlockThatCannotBeDecodedIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.put("r0")
		s.store.put([]byte("igb\x01 this is no block at all"))
		s.put("r1")
		s.start()
		time.Sleep(2 * time.Second)
		s.wantDelivered(2)
		s.wantCommitted(3)
		if s.metric("malformed_blocks_total") != 1 || !strings.Contains(s.logs.String(), "cannot be decoded") {
			t.Error("it was not told")
		}
		s.stop()
	})
}

func TestABlockOfANewerVersionHoldsItsPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		newer := encode(record(tenant.ID{}, "future"))
		newer[3] = 200
		s.put("r0")
		s.store.put(newer)
		s.start()
		time.Sleep(3 * time.Minute)
		s.put("r1")
		time.Sleep(2*time.Minute + time.Second) // it has just been looked at again
		if got := s.delivered(); len(got) != 1 || got["r0"] != 1 {
			t.Errorf("delivered %v, want r0 only", got)
		}
		s.wantCommitted(1)
		if s.metric("on_hold") != 1 || !strings.Contains(s.logs.String(), "newer version") {
			t.Error("it was not told")
		}
		if age := s.metric("oldest_unsent_age_seconds"); age < 290 {
			t.Errorf("oldest_unsent_age_seconds is %v after 5 minutes", age)
		}
		if s.metric("unsent_blocks") != 2 {
			t.Errorf("unsent_blocks is %v, want 2", s.metric("unsent_blocks"))
		}
		s.stop()
	})
}

func TestProgressOfANewerVersionHoldsItsPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.putMany(2)
		s.store.fail(nil, nil, fmt.Errorf("load: %w", buffer.ErrNewerVersion))
		s.start()
		time.Sleep(holdRetry / 2)
		if s.metric("on_hold") != 1 || !strings.Contains(s.logs.String(), "the progress was written by a newer version") {
			t.Error("it was not told")
		}
		if n := s.metric("buffer_errors_total"); n != 0 {
			t.Errorf("%v errors of the buffer are told", n)
		}
		if n := len(s.delivered()); n != 0 {
			t.Errorf("%d records were sent", n)
		}
		s.store.fail(nil, nil, nil)
		time.Sleep(holdRetry)
		s.wantDelivered(2)
		if s.metric("on_hold") != 0 {
			t.Error("it is still held")
		}
		s.stop()
	})
}

func TestStoppingLetsRequestsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.node("a").behave(func(*http.Request, string) reply { time.Sleep(2 * time.Second); return reply{} })
		s.putMany(100)
		s.start()
		time.Sleep(3 * time.Second) // one is answered, more are on their way
		began := time.Now()
		s.stop()
		if took := time.Since(began); took > drainTime {
			t.Errorf("stopping took %v", took)
		}
		s.wantCommitted(1 + 4)
		s.wantDelivered(1 + 4)
		if len(s.delivered()) != 5 {
			t.Errorf("%d were delivered, want nothing new after the stop", len(s.delivered()))
		}
	})
}

func TestStoppingDoesNotWaitForANodeThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.put("r0")
		s.start()
		time.Sleep(time.Second)
		s.node("a").behave(hangs)
		s.put("r1")
		time.Sleep(time.Second)
		began := time.Now()
		s.stop()
		if took := time.Since(began); took > drainTime+time.Second {
			t.Errorf("stopping took %v, want %v", took, drainTime)
		}
		s.wantCommitted(1)
	})
}

func TestAPartitionThatIsFencedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.put("r0")
		s.start()
		time.Sleep(2 * time.Second)
		s.store.fail(nil, fmt.Errorf("save: %w", buffer.ErrFenced), nil)
		s.put("r1")
		time.Sleep(2 * time.Second)
		s.put("r2")
		time.Sleep(2 * time.Second)
		if got := s.delivered(); got["r2"] != 0 {
			t.Error("blocks of a partition that is another's were sent")
		}
		s.stop()
	})
}

func TestAPartitionThatIsTakenAwayEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.put("r0")
		s.start()
		time.Sleep(500 * time.Millisecond)
		s.store.takeAway()
		synctest.Wait()
		s.wantCommitted(1)
		if _, n := s.series("unsent_blocks"); n != 0 {
			t.Error("the partition's series are still there")
		}
		s.stop()
	})
}

func TestErrorsOfTheStoreAreTriedAgain(t *testing.T) {
	for name, fail := range map[string]func(*fakeStore){
		"read": func(s *fakeStore) { s.fail(buffer.ErrUnavailable, nil, nil) },
		"save": func(s *fakeStore) { s.fail(nil, buffer.ErrUnavailable, nil) },
		"load": func(s *fakeStore) { s.fail(nil, nil, buffer.ErrUnavailable) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, "a")
				fail(s.store)
				s.putMany(3)
				s.start()
				time.Sleep(time.Minute)
				s.wantCommitted(0)
				if n := s.metric("buffer_errors_total"); n == 0 || n > 70 {
					t.Errorf("buffer_errors_total is %v in a minute", n)
				}
				s.store.fail(nil, nil, nil)
				time.Sleep(31 * time.Second)
				s.wantCommitted(3)
				s.stop()
			})
		})
	}
}

func TestAStoreThatPassesOverBlocksInSilenceIsNotAskedInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.store.skips = true
		s.putMany(3)
		s.start()
		time.Sleep(time.Minute)
		s.wantCommitted(0)
		if n := s.metric("buffer_errors_total"); n == 0 || n > 20 {
			t.Errorf("buffer_errors_total is %v in a minute", n)
		}
		if got := s.delivered(); got["r1"] != 1 || got["r2"] != 1 {
			t.Errorf("delivered %v, want the other two once", got)
		}
		s.stop()
	})
}

func TestMemoryDoesNotGrowWithTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		s.budget = memory.NewBudget(4 << 20)
		s.cfg.Concurrency = 100
		var mu sync.Mutex
		var most int64
		slow := func(*http.Request, string) reply {
			mu.Lock()
			most = max(most, s.budget.Used())
			mu.Unlock()
			time.Sleep(time.Second)
			return reply{}
		}
		s.node("a").behave(slow)
		s.node("b").behave(slow)
		for i := range 12 {
			s.store.put(encode(record(tenant.ID{}, fmt.Sprintf("r%d", i)+strings.Repeat("x", 1500<<10))))
		}
		s.start()
		time.Sleep(time.Minute)
		s.wantCommitted(12)
		if most > 4<<20 || most < 2<<20 {
			t.Errorf("%d bytes were held at one time, want up to 4 MiB", most)
		}
		s.stop()
	})
}

func TestABlockLargerThanTheBudgetIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.budget = memory.NewBudget(1 << 10)
		for range 3 {
			s.store.put(encode(record(tenant.ID{}, strings.Repeat("x", 1<<20))))
		}
		s.start()
		time.Sleep(5 * time.Second)
		s.wantCommitted(3)
		s.stop()
	})
}

func TestABlockLargerThanTheBudgetIsSentWhileAnotherIsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.budget = memory.NewBudget(100 << 10)
		s.node("a").behave(func(_ *http.Request, payload string) reply {
			if payload == "bad" {
				return reply{status: 400}
			}
			return reply{}
		})
		s.put("bad")
		s.start()
		time.Sleep(time.Second)
		s.store.put(encode(record(tenant.ID{}, strings.Repeat("x", 1<<20))))
		time.Sleep(2 * time.Second)
		if got := s.store.progress(); !got.Contains(1) {
			t.Errorf("progress is %v: the large block was not sent", got.Done)
		}
		s.stop()
	})
}

func TestAPartitionEndsWithItsStoreThoughABlockIsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.node("a").behave(fails(errBroken))
		s.put("r0")
		s.start()
		time.Sleep(time.Minute)
		s.store.fail(buffer.ErrClosed, nil, nil)
		s.put("r1")
		time.Sleep(drainTime)
		if _, n := s.series("unsent_blocks"); n != 0 {
			t.Error("the partition is still being forwarded")
		}
		s.stop()
	})
}

func TestReadAheadReplacesTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.cfg.ReadAhead = 1 << 20
		f := s.start()
		if f.lanes[mainLane].budget == s.budget || f.lanes[mainLane].budget.Limit() != 1<<20 {
			t.Error("INGESTGW_FORWARD_READ_AHEAD has no effect")
		}
		s.stop()
	})
}

func TestAPathInTheURLIsUsedAsItIsAndSaidLoudly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "http://user:geheim@vm:8428/api/v1/write?authKey=geheim")
		node := s.node("vm:8428")
		s.start()
		s.put("r0")
		time.Sleep(time.Second)
		got := node.arrivals()
		if len(got) != 1 || got[0].path != "/api/v1/write" {
			t.Errorf("arrived %+v", got)
		}
		s.stop()
		if logs := s.logs.String(); !strings.Contains(logs, "level=WARN") || !strings.Contains(logs, "cannot be told apart") ||
			strings.Contains(logs, "geheim") {
			t.Errorf("logged:\n%s", logs)
		}
	})
}

func TestNoSecretOfAURLIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "http://user:geheim@vm:8428/x?authKey=geheim")
		node := s.node("vm:8428")
		answers := 0
		node.behave(func(*http.Request, string) reply {
			answers++
			if answers%2 == 0 {
				return reply{err: errBroken}
			}
			return reply{status: 401}
		})
		s.start()
		s.put("r0")
		time.Sleep(9 * time.Second)
		s.stop()
		if answers < 4 || strings.Contains(s.logs.String(), "geheim") || !strings.Contains(s.logs.String(), "BEARER_TOKEN_FILE") {
			t.Errorf("%d answers, logged:\n%s", answers, s.logs)
		}
	})
}
