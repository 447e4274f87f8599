package forward

import (
	"context"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/buffer/buffertest"
)

// backlogNames are the metrics of a partition's backlog.
var backlogNames = []string{
	"uncommitted_blocks", "unsent_blocks", "oldest_unsent_age_seconds", "unsent_samples_estimate", "unsent_bytes_estimate",
	"arriving_blocks_per_second", "sent_blocks_per_second", "time_to_drain_seconds",
}

// wantMetric checks that the metric of the one partition is there and within a hundredth of want.
func (s *scene) wantMetric(name string, want float64) {
	s.t.Helper()
	got, n := s.series(name, "lane", "main", "partition", "0")
	if n != 1 || got != want && !(math.Abs(got-want) <= max(0.01, want/100)) {
		s.t.Errorf("%s is %v in %d series, want %v", name, got, n, want)
	}
}

func (s *scene) wantNoMetric(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if got, n := s.series(name); n != 0 {
			s.t.Errorf("%s is %v in %d series, want it not to be shown", name, got, n)
		}
	}
}

// measured returns when everything that was so a moment ago has been measured, at a time when nothing is.
func measured() { time.Sleep(measureEvery + measureEvery/4) }

// answersIn is a node that takes all, so slowly.
func answersIn(d time.Duration) func(*http.Request, string) reply {
	return func(*http.Request, string) reply {
		time.Sleep(d)
		return reply{}
	}
}

// What was sent and waits, or is done ahead of others, is not committed, and need not be sent either.
func TestUncommittedIsWhatKafkaCallsLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.store.saved.Add(buffer.Span{To: 2})
		s.putMany(10)
		s.start()
		measured()
		s.wantMetric("uncommitted_blocks", 8)
		s.wantMetric("unsent_blocks", 0)

		settle.partition().settled([]buffer.Span{{From: 2, To: 4}, {From: 6, To: 9}})
		time.Sleep(saveEvery)
		measured()
		s.wantCommitted(4)
		s.wantMetric("uncommitted_blocks", 10-4)
		s.wantMetric("unsent_blocks", 0)

		// Committed is what was saved, not what could be.
		s.store.fail(nil, buffer.ErrUnavailable, nil)
		settle.partition().settled([]buffer.Span{{From: 4, To: 6}, {From: 9, To: 10}})
		time.Sleep(5 * time.Second)
		s.wantMetric("uncommitted_blocks", 6)
		s.store.fail(nil, nil, nil)
		time.Sleep(saveEvery)
		measured()
		s.wantCommitted(10)
		s.wantMetric("uncommitted_blocks", 0)
		s.stop()
	})
}

func TestBlocksThatWereRemovedAreNoBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.store.saved.Add(buffer.Span{To: 2})
		s.putMany(10)
		s.store.first = 7 // retention has overtaken us
		s.store.fail(buffer.ErrUnavailable, nil, nil)
		s.start()
		measured()
		s.wantMetric("uncommitted_blocks", 3)
		s.wantMetric("unsent_blocks", 3)
		s.store.with(func(s *fakeStore) { s.first = 10 })
		measured()
		s.wantMetric("uncommitted_blocks", 0)
		s.wantMetric("unsent_blocks", 0)
		s.wantMetric("oldest_unsent_age_seconds", 0)
		s.stop()
	})
}

// A Store with partitions that grow, lose blocks and are removed from, as a whole.
func TestTheBacklogOfAnyStoreIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		store := buffertest.NewMemory(0)
		s.instead = store
		put := func(payload string) {
			t.Helper()
			block := buffer.NewBlock(time.Now().Truncate(time.Millisecond), 1, 7, encode(record(tenantOne, payload)), nil)
			if err := store.Append(t.Context(), buffer.Main, block); err != nil {
				t.Fatal(err)
			}
		}
		put("r0")
		s.start()
		time.Sleep(time.Minute)
		s.wantMetric("uncommitted_blocks", 0)
		s.wantMetric("unsent_blocks", 0)

		s.node("a").behave(fails(errBroken))
		for range 5 {
			put("lost")
			put("r")
		}
		time.Sleep(10*time.Second + measureEvery/4)
		s.wantMetric("uncommitted_blocks", 10)
		s.wantMetric("unsent_blocks", 10)
		s.wantMetric("unsent_samples_estimate", 10*7)
		s.wantMetric("oldest_unsent_age_seconds", 10)
		s.wantMetric("time_to_drain_seconds", math.Inf(1))

		store.Lose() // and gets it back
		store.Drop(buffer.Main, buffer.Span{From: 1, To: 9}, "dropped to make room")
		measured()
		s.wantMetric("uncommitted_blocks", 2)
		s.node("a").behave(nil)
		time.Sleep(time.Minute)
		for _, name := range backlogNames {
			if name != "arriving_blocks_per_second" && name != "sent_blocks_per_second" {
				s.wantMetric(name, 0)
			}
		}
		s.stop()
	})
}

// The block that was read last may be much older than the one that nobody has read.
func TestTheAgeIsReadFromTheOldestUnsentBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.start()
		measured()
		s.put("r0") // between two measurements, so that it is sent before anybody asks for its age
		time.Sleep(10 * time.Minute)
		s.wantMetric("oldest_unsent_age_seconds", 0)

		taken := s.budget.Limit()
		if !s.budget.TryTake(taken) { // as other partitions do
			t.Fatal("the budget is not free")
		}
		s.put("r1")
		time.Sleep(20 * time.Second)
		s.put("r2")
		time.Sleep(20 * time.Second)
		s.wantMetric("unsent_blocks", 2)
		s.wantMetric("oldest_unsent_age_seconds", 40-(measureEvery/4).Seconds())
		s.wantMetric("unsent_samples_estimate", 20)
		// r0, r1 for the reader, who waits with it, and r1 once for its age
		s.store.with(func(s *fakeStore) {
			if s.reads != 3 {
				t.Errorf("there were %d reads, want 3", s.reads)
			}
		})
		s.budget.Release(taken)
		measured()
		s.wantMetric("oldest_unsent_age_seconds", 0)
		s.stop()
	})
}

func TestDirtyBlocksAreUnsentAndAsOldAsTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.cfg.Timeout = time.Hour
		s.cfg.Concurrency = 1
		for range 10 {
			s.put("old")
			time.Sleep(10 * time.Second)
		}
		s.start()
		time.Sleep(time.Second)
		s.node("a").behave(hangs)
		s.put("new", "new", "new", "new")
		time.Sleep(100 * time.Second)
		s.wantMetric("unsent_blocks", 4)
		s.wantMetric("oldest_unsent_age_seconds", 100)

		settle.partition().dirty([]buffer.Span{{From: 3, To: 5}, {From: 7, To: 8}})
		measured()
		s.wantMetric("unsent_blocks", 4+3)
		s.wantMetric("uncommitted_blocks", 14)
		s.wantMetric("oldest_unsent_age_seconds", 70+1+100+1.25) // of block 3
		s.node("a").behave(nil)
		s.stop()
	})
}

func TestWhenTheStoreFailsTheAgeGoesOnAndNothingIsMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.putMany(4)
		s.store.with(func(s *fakeStore) { s.boundsErr = buffer.ErrUnavailable })
		s.start()
		measured()
		s.wantNoMetric(backlogNames...)

		s.store.with(func(s *fakeStore) { s.boundsErr, s.readErr = nil, buffer.ErrUnavailable })
		measured()
		s.wantMetric("unsent_blocks", 4)
		s.wantNoMetric("oldest_unsent_age_seconds", "unsent_samples_estimate", "unsent_bytes_estimate")

		s.node("a").behave(fails(errBroken))
		s.store.fail(nil, nil, nil)
		time.Sleep(time.Minute - 2*measureEvery) // the reader's pause is over
		s.wantMetric("unsent_samples_estimate", 40)
		s.store.with(func(s *fakeStore) { s.boundsErr, s.readErr = buffer.ErrUnavailable, buffer.ErrUnavailable })
		time.Sleep(time.Minute)
		s.wantMetric("unsent_blocks", 4)
		s.wantMetric("oldest_unsent_age_seconds", 2*60)
		s.wantMetric("time_to_drain_seconds", math.Inf(1))
		s.stop()
	})
}

// What is known of blocks that nobody has read yet, since other partitions have taken the budget, is read all the same.
func TestABacklogIsToldBeforeAnyOfItCouldBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		taken := s.budget.Limit()
		s.budget.TryTake(taken)
		s.putMany(10)
		s.start()
		time.Sleep(30*time.Second + measureEvery/4)
		s.wantMetric("unsent_blocks", 10)
		s.wantMetric("oldest_unsent_age_seconds", 30)
		s.wantMetric("unsent_samples_estimate", 100)
		s.wantMetric("unsent_bytes_estimate", 10*float64(len(encode(record(tenantOne, "r0")))))
		s.budget.Release(taken)
		s.stop()
	})
}

// Kafka gives a damaged block up after a minute of tries, and tells only one reader, who then must not keep it to himself.
func TestALossIsBelievedWhoeverIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		taken := s.budget.Limit()
		s.budget.TryTake(taken) // so that nothing is read but to see how old it is
		s.putMany(3)
		s.store.damage(0, "damaged")
		s.start()
		time.Sleep(2*measureEvery + measureEvery/4)
		s.wantMetric("unsent_blocks", 2)
		s.wantMetric("oldest_unsent_age_seconds", 2)
		s.budget.Release(taken)
		time.Sleep(saveEvery)
		measured()
		s.wantCommitted(3)
		if lost := s.metric("lost_blocks_total"); lost != 1 {
			t.Errorf("lost_blocks_total is %v, want 1", lost)
		}
		s.stop()
	})
}

func TestABacklogThatIsGoneLendsNoAgeToTheNextOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.node("a").behave(answersIn(5 * time.Second))
		s.put("r0")
		s.start()
		time.Sleep(time.Hour)
		s.store.fail(buffer.ErrUnavailable, nil, nil)
		s.put("r1")
		measured()
		s.wantMetric("unsent_blocks", 1)
		s.wantNoMetric("oldest_unsent_age_seconds")
		s.stop()
	})
}

func TestTimeToDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.cfg.Concurrency = 1
		s.cfg.Timeout = time.Hour
		a := s.node("a")
		a.behave(answersIn(500 * time.Millisecond))
		s.start()
		time.Sleep(measureEvery / 3) // nothing happens while it is looked
		for range 600 {
			s.put("r")
		}
		arrive := func(seconds int) {
			for range seconds {
				time.Sleep(time.Second)
				s.put("r")
			}
			time.Sleep(measureEvery / 4)
		}
		arrive(100)
		s.wantMetric("arriving_blocks_per_second", 1)
		s.wantMetric("sent_blocks_per_second", 2)
		s.wantMetric("unsent_blocks", 500)
		s.wantMetric("unsent_samples_estimate", 5000)
		s.wantMetric("unsent_bytes_estimate", 500*float64(len(encode(record(tenantOne, "r")))))
		s.wantMetric("time_to_drain_seconds", 500)

		a.behave(hangs)
		arrive(61)
		s.wantMetric("sent_blocks_per_second", 0)
		s.wantMetric("time_to_drain_seconds", math.Inf(1))
		s.stop()
	})
}

// As many are sent as arrive, and there is always one on its way: no reason to say that it never ends.
func TestNoBacklogInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.node("a").behave(answersIn(700 * time.Millisecond))
		s.start()
		time.Sleep(measureEvery / 2) // so that it is looked while one is on its way
		unsent := 0
		for range 100 {
			s.put("r")
			time.Sleep(measureEvery)
			s.wantMetric("time_to_drain_seconds", 0)
			unsent += int(s.metric("unsent_blocks"))
		}
		if unsent == 0 {
			t.Error("no block was ever on its way when it was looked: this test shows nothing")
		}
		s.stop()
	})
}

func TestMetricsGoWithThePartitionThoughARequestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.node("a").behave(hangs)
		s.putMany(3)
		s.start()
		time.Sleep(5 * time.Second)
		for _, name := range backlogNames {
			if _, n := s.series(name); n != 1 {
				t.Errorf("%s has %d series", name, n)
			}
		}
		s.store.takeAway()
		synctest.Wait()
		s.wantNoMetric(backlogNames...)
		s.wantNoMetric("on_hold")
		time.Sleep(drainTime + saveTimeout)
		s.wantNoMetric(backlogNames...)
		s.stop()
	})
}

func TestTheBacklogIsToldWhileASaveHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.put("r0")
		hang := make(chan struct{})
		s.store.saveHangs = hang
		s.start()
		time.Sleep(5 * time.Second)
		s.put("r1", "r2")
		measured()
		s.wantMetric("uncommitted_blocks", 3)
		s.wantMetric("unsent_blocks", 0)
		close(hang)
		s.stop()
	})
}

func TestOnlySoManyBlocksArePeekedAtAtOneTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a")
		s.put("r0")
		s.store.fail(buffer.ErrUnavailable, nil, nil)
		f := s.start()
		for range maxPeeks { // other partitions
			f.peeks <- struct{}{}
		}
		time.Sleep(10 * time.Second)
		s.store.fail(nil, nil, nil)
		p := newPartition(f, fakePartition{s.store})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, ok := p.peek(ctx, 0); ok {
			t.Error("one more block was read")
		}
		<-f.peeks
		if received, ok := p.peek(t.Context(), 0); !ok || time.Since(received) < 10*time.Second {
			t.Errorf("peek says %v, %v", received, ok)
		}
		if len(f.peeks) != maxPeeks-1 {
			t.Error("the place was not given back")
		}
		s.stop()
	})
}
