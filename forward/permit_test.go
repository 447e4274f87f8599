package forward

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/memory"
)

// visits lets somebody of the lane visit nodes one after the other, each time for so long, until ctx ends or he has had enough.
func visits(ctx context.Context, f *fleet, lane, most int, pause, stay func() time.Duration) (made int) {
	for made < most && ctx.Err() == nil {
		p, err := f.acquire(ctx, &want{lane: lane, samples: 10})
		if err != nil {
			return made
		}
		f.answered(p)
		time.Sleep(stay())
		f.done(p, nil)
		made++
		time.Sleep(pause())
	}
	return made
}

func constant(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func TestBulkGetsItsShareAndNoMoreWhileMainWaits(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		for _, concurrency := range []int{1, 2, 8} {
			t.Run(fmt.Sprintf("nodes=%d concurrency=%d", nodes, concurrency), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := fleetOf(nodes)
					f.concurrency = concurrency
					f.warm(t)
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute/time.Duration(nodes*concurrency))
					defer cancel()
					var made [lanes]int
					var mu sync.Mutex
					var all sync.WaitGroup
					for i := range 4 * nodes * concurrency {
						lane := i % lanes
						all.Go(func() {
							n := visits(ctx, f, lane, 1<<30, constant(0), func() time.Duration { return rand.N(20 * time.Millisecond) })
							mu.Lock()
							defer mu.Unlock()
							made[lane] += n
						})
					}
					all.Wait()
					share := 100 * float64(made[bulkLane]) / float64(made[mainLane]+made[bulkLane])
					if share < bulkShare-1 || share > bulkShare+1 {
						t.Errorf("main made %d visits, bulk %d: %.1f %%, want %d", made[mainLane], made[bulkLane], share, bulkShare)
					}
					if n := testutil.ToFloat64(f.metrics.lanes[bulkLane].beyond); n != 0 {
						t.Errorf("%v permits went to bulk beyond its share", n)
					}
				})
			})
		}
	}
}

func TestBulkGetsEverythingButOneWhileMainWantsNothing(t *testing.T) {
	f := fleetOf(2)
	f.warm(t)
	for i := range 2 * 3 {
		p := mustAcquire(t, f, want{lane: bulkLane})
		if n := p.node.visitors[bulkLane]; n > 3 {
			t.Fatalf("permit %d is the %dth of one node", i, n)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.acquire(ctx, &want{lane: bulkLane}); err == nil {
		t.Error("bulk got a permit that is main's")
	}
	for range 2 {
		mustAcquire(t, f, want{}) // main finds one at each node
	}
}

func TestANodeThatStartsIsTriedByWhoeverComes(t *testing.T) {
	for lane := range lanes {
		f := fleetOf(1)
		f.answered(mustAcquire(t, f, want{lane: lane}))
		if n := f.nodes[0]; n.limit != f.concurrency {
			t.Errorf("after an answer to %s the limit is %d", laneNames[lane], n.limit)
		}
	}
}

func TestWhoGoesHomeIsServedFirstAndOthersWaitForAMomentOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(&fakeSettling{}, 2, "a:1", "b:1")
		f.warm(t)
		a, b := f.nodes[0], f.nodes[1]
		for range 2 {
			mustAcquire(t, f, want{home: a})
			mustAcquire(t, f, want{home: b})
		}
		forA, forB := &want{home: a}, &want{home: b}
		f.queue(forA)
		f.queue(forB)
		f.done(permit{node: b}, nil)
		if p := mustAwait(t, f, forB); p.node != b || len(f.lines[mainLane]) != 1 {
			t.Errorf("who goes home to b was sent to %s", p.node.name)
		}
		f.done(permit{node: b}, nil)
		began := time.Now()
		if p := mustAwait(t, f, forA); p.node != b || time.Since(began) != homeWait {
			t.Errorf("who waits for a went to %s after %v, want b after %v", p.node.name, time.Since(began), homeWait)
		}

		f.done(permit{node: b}, nil)
		waiting := []*want{{home: a}, {home: a}, {home: a}}
		for _, w := range waiting {
			f.queue(w)
		}
		if p := mustAwait(t, f, waiting[2]); p.node != b {
			t.Errorf("the third who would wait for a went to %s", p.node.name)
		}
		f.done(permit{node: b}, nil)
		f.done(permit{node: a, episode: a.episode}, &failure{kind: failed, err: errBroken})
		if p := mustAwait(t, f, waiting[0]); p.node != b || time.Since(began) != homeWait {
			t.Errorf("when a fails, who waits for it goes to %s %v later", p.node.name, time.Since(began)-homeWait)
		}
	})
}

func mustAwait(t *testing.T, f *fleet, w *want) permit {
	t.Helper()
	p, err := f.await(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhoGivesUpWaitingLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(&fakeSettling{}, 1, "a:1")
		f.warm(t)
		held := mustAcquire(t, f, want{})
		ctx, cancel := context.WithCancel(context.Background())
		bulk := &want{lane: bulkLane}
		f.queue(bulk)
		w := &want{}
		f.queue(w)
		f.done(held, nil) // w has it, and has not taken it yet
		cancel()
		if p, err := f.await(ctx, w); err == nil {
			f.done(p, nil)
		}
		if p := <-bulk.ready; p.node == nil {
			t.Error("the permit is lost")
		}
		if f.waiting() != [lanes]int{} {
			t.Errorf("%v still wait", f.waiting())
		}
	})
}

// A flood in bulk, of which each node has as much as it can take, while main goes on as usual.
func TestNoBlockOfMainWaitsBehindAFloodInBulk(t *testing.T) {
	const flood, took = 6000, 20 * time.Millisecond
	for _, nodes := range [][]string{{"a"}, {"a", "b", "c"}} {
		t.Run(fmt.Sprint(len(nodes), " nodes"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t, nodes...)
				store := newTwoLanes()
				s.instead = store
				for _, name := range nodes {
					s.node(name).behave(answersIn(took))
				}
				for i := range flood {
					store.bulk.put(encode(record(tenantOne, fmt.Sprintf("flood%d.0", i)), record(tenantOne, fmt.Sprintf("flood%d.1", i))))
				}
				s.start()
				time.Sleep(time.Second)
				worst := time.Duration(0)
				for i := range 100 {
					payload := fmt.Sprintf("r%d", i)
					began := time.Now()
					store.main.put(encode(record(tenantOne, payload)))
					for s.delivered()[payload] == 0 {
						time.Sleep(time.Millisecond)
					}
					worst = max(worst, time.Since(began))
					time.Sleep(5 * time.Millisecond)
				}
				if worst > took+2*time.Millisecond {
					t.Errorf("a block of main took %v, and %v alone", worst, took)
				}
				if s.metric("permits_contended_total") != 0 || s.metric("permits_beyond_share_total") != 0 {
					t.Error("main had to wait")
				}
				if s.metric("permits_total", "lane", "main") != 100 {
					t.Errorf("main had %v permits", s.metric("permits_total", "lane", "main"))
				}
				if n := s.metric("unsent_blocks", "lane", "bulk"); n == 0 {
					t.Error("the flood is over: this test shows nothing")
				}
				time.Sleep(5 * time.Minute)
				got := s.delivered()
				for i := range flood {
					if got[fmt.Sprintf("flood%d.0", i)] == 0 || got[fmt.Sprintf("flood%d.1", i)] == 0 {
						t.Fatalf("block %d of the flood has not come", i)
					}
				}
				if c := store.bulk.progress().Committed(); c != flood {
					t.Errorf("committed are %d blocks of bulk", c)
				}
				s.stop()
			})
		})
	}
}

// Main wants more than there is.
func TestAFloodInBulkIsSentInTheEndThoughMainIsBusyAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		store := newTwoLanes()
		s.instead = store
		s.node("a").behave(answersIn(10 * time.Millisecond))
		for i := range 20_000 {
			store.main.put(encode(record(tenantOne, fmt.Sprintf("r%d", i))))
		}
		for i := range 100 {
			store.bulk.put(encode(record(tenantOne, fmt.Sprintf("flood%d.0", i)), record(tenantOne, fmt.Sprintf("flood%d.1", i))))
		}
		s.start()
		time.Sleep(40 * time.Second) // of 50 that main takes
		if s.metric("unsent_blocks", "lane", "main") == 0 || s.metric("unsent_blocks", "lane", "bulk") != 0 {
			t.Errorf("unsent are %v of main and %v of bulk", s.metric("unsent_blocks", "lane", "main"), s.metric("unsent_blocks", "lane", "bulk"))
		}
		main, bulk := s.metric("permits_contended_total", "lane", "main"), s.metric("permits_contended_total", "lane", "bulk")
		if bulk*mainShare > main*bulkShare || s.metric("permits_beyond_share_total") != 0 {
			t.Errorf("while both waited main got %v permits and bulk %v", main, bulk)
		}
		s.stop()
	})
}

func TestBulkMakesRoomAfterEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.cfg.Concurrency = 2
		store := newTwoLanes()
		s.instead = store
		s.node("a").behave(answersIn(time.Second))
		store.bulk.put(encode(record(tenantOne, "b0"), record(tenantOne, "b1"), record(tenantOne, "b2"), record(tenantOne, "b3")))
		s.start()
		time.Sleep(1500 * time.Millisecond) // b1 is on its way
		for i := range 3 {
			store.main.put(encode(record(tenantOne, fmt.Sprint("r", i))))
		}
		time.Sleep(4 * time.Second)
		var got []string
		for _, a := range s.node("a").arrivals() {
			got = append(got, a.payload)
		}
		if order := strings.Join(got, " "); order != "b0 b1 r0 r1 r2 b2 b3" {
			t.Errorf("they came in the order %s: main waited for more than the one request that was on its way", order)
		}
		if s.metric("retries_total") != 0 {
			t.Error("making room counts as a retry")
		}
		time.Sleep(time.Minute)
		if got := s.delivered(); len(got) != 7 || got["b1"] != 1 {
			t.Errorf("delivered %v", got)
		}
		s.stop()
	})
}

// Everything of bulk is refused, and it has read as much as it may.
func TestWhatBulkHoldsNeverKeepsMainFromReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.budget = memory.NewBudget(1 << 20)
		store := newTwoLanes()
		s.instead = store
		s.node("a").behave(func(_ *http.Request, payload string) reply {
			if strings.HasPrefix(payload, "bad") {
				return reply{status: 400}
			}
			return reply{}
		})
		for i := range 200 {
			store.bulk.put(encode(record(tenantOne, fmt.Sprintf("bad%d", i)+strings.Repeat("x", 20<<10))))
		}
		s.start()
		time.Sleep(time.Hour)
		if used, limit := s.forwarder.lanes[bulkLane].budget.Used(), s.forwarder.lanes[bulkLane].budget.Limit(); used > limit || used < limit/2 {
			t.Errorf("bulk holds %d bytes of %d: this test shows nothing", used, limit)
		}
		for i := range 300 {
			store.main.put(encode(record(tenantOne, fmt.Sprintf("r%d", i))))
		}
		time.Sleep(time.Second)
		s.wantDelivered(300)
		s.node("a").behave(nil)
		time.Sleep(10 * time.Minute)
		if c := store.bulk.progress().Committed(); c != 200 {
			t.Errorf("committed are %d blocks of bulk", c)
		}
		s.stop()
	})
}

func TestBlocksOfBulkThatAreParkedDoNotStopMain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		store := newTwoLanes()
		s.instead = store
		s.node("a").behave(func(_ *http.Request, payload string) reply {
			if strings.HasPrefix(payload, "bad") {
				return reply{status: 400}
			}
			return reply{}
		})
		for i := range 2 * maxParked {
			store.bulk.put(encode(record(tenantOne, fmt.Sprintf("bad%d", i))))
		}
		s.start()
		time.Sleep(time.Hour)
		if n := s.metric("parked_blocks", "lane", "bulk"); n < maxParked {
			t.Errorf("%v blocks are parked: this test shows nothing", n)
		}
		for i := range 100 {
			store.main.put(encode(record(tenantOne, fmt.Sprintf("r%d", i))))
		}
		time.Sleep(time.Second)
		s.wantDelivered(100)
		s.node("a").behave(nil)
		time.Sleep(10 * time.Minute)
		s.stop()
	})
}
