package memory

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTryTakeNeverPassesTheLimit(t *testing.T) {
	b := NewBudget(10)
	if !b.TryTake(6) || b.TryTake(5) || !b.TryTake(4) || b.TryTake(1) {
		t.Errorf("6 and 4 of 10 fit and nothing else; used %d", b.Used())
	}
	b.Release(6)
	if b.Used() != 4 || !b.TryTake(6) {
		t.Errorf("released bytes are not free; used %d", b.Used())
	}
}

func TestTakeWaitsUntilBytesAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		b.TryTake(10)
		var granted atomic.Bool
		go func() {
			if err := b.Take(t.Context(), 4); err != nil {
				t.Error(err)
			}
			granted.Store(true)
		}()
		b.Release(3)
		synctest.Wait()
		if granted.Load() {
			t.Fatal("4 bytes were granted of 3")
		}
		b.Release(1)
		synctest.Wait()
		if !granted.Load() || b.Used() != 10 {
			t.Fatalf("granted %t, used %d", granted.Load(), b.Used())
		}
	})
}

func TestWhoWaitsIsServedBeforeWhoComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		b.TryTake(8)
		granted := make(chan int64, 2)
		for _, n := range []int64{9, 1} {
			go func() {
				if err := b.Take(t.Context(), n); err != nil {
					t.Error(err)
				}
				granted <- n
			}()
			synctest.Wait()
		}
		if len(granted) > 0 || b.TryTake(1) {
			t.Fatal("somebody passed the one who waits for 9")
		}
		b.Release(8)
		synctest.Wait()
		if len(granted) != 2 || b.Used() != 10 {
			t.Fatalf("%d were granted, used %d", len(granted), b.Used())
		}
	})
}

func TestMoreThanTheWholeIsGrantedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		b.TryTake(1)
		var granted atomic.Bool
		go func() {
			if err := b.Take(t.Context(), 25); err != nil {
				t.Error(err)
			}
			granted.Store(true)
		}()
		synctest.Wait()
		if granted.Load() {
			t.Fatal("25 of 10 were granted while 1 was held")
		}
		b.Release(1)
		synctest.Wait()
		if !granted.Load() || b.Used() != 25 || b.TryTake(1) {
			t.Fatalf("granted %t, used %d", granted.Load(), b.Used())
		}
	})
}

func TestTakeEndsWithItsContextAndHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		b.TryTake(5)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var small atomic.Bool
		go func() {
			synctest.Wait() // the large one waits
			if err := b.Take(t.Context(), 5); err != nil {
				t.Error(err)
			}
			small.Store(true)
		}()
		err := b.Take(ctx, 9)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "9 bytes") {
			t.Fatalf("error %v", err)
		}
		synctest.Wait()
		if !small.Load() || b.Used() != 10 {
			t.Fatalf("the small one was granted: %t; used %d", small.Load(), b.Used())
		}
	})
}

func TestReleasingMoreThanWasTakenPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	NewBudget(10).Release(1)
}

// Contexts end at the very moment at which bytes become free: whoever wins, no byte is lost or made.
func TestNoByteIsLostWhenGrantAndEndOfContextMeet(t *testing.T) {
	b := NewBudget(100)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 2000 {
				n := rand.Int64N(120)
				ctx, cancel := context.WithCancel(t.Context())
				go cancel()
				if b.Take(ctx, n) == nil {
					b.Release(n)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if b.Used() != 0 || b.waiters.Len() != 0 {
		t.Errorf("%d bytes used and %d waiting after all is done", b.Used(), b.waiters.Len())
	}
}

func BenchmarkTryTake(b *testing.B) {
	budget := NewBudget(1 << 30)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if budget.TryTake(100) {
				budget.Release(100)
			}
		}
	})
}

func TestAGrownBudgetServesWhoWaitsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(10)
		b.TryTake(10)
		granted := make(chan int64, 3)
		for _, n := range []int64{6, 5, 2} {
			go func() {
				if err := b.Take(t.Context(), n); err != nil {
					t.Error(err)
				}
				granted <- n
			}()
			synctest.Wait()
		}
		b.SetLimit(20)
		synctest.Wait()
		if len(granted) != 1 || <-granted != 6 || b.Used() != 16 || b.TryTake(1) {
			t.Fatalf("6 of the 10 new bytes fit, and 5 is next; used %d", b.Used())
		}
		b.SetLimit(23)
		synctest.Wait()
		if len(granted) != 2 || b.Used() != 23 {
			t.Fatalf("%d more were granted, used %d", len(granted), b.Used())
		}
	})
}

func TestAShrunkBudgetTakesFromNobodyAndGrantsNothingUntilItFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		b.TryTake(60)
		b.TryTake(30)
		b.SetLimit(40)
		if b.Used() != 90 || b.Limit() != 40 || b.TryTake(1) {
			t.Fatalf("used %d of %d", b.Used(), b.Limit())
		}
		var granted atomic.Bool
		go func() {
			if err := b.Take(t.Context(), 5); err != nil {
				t.Error(err)
			}
			granted.Store(true)
		}()
		synctest.Wait()
		b.Release(30)
		synctest.Wait()
		if granted.Load() {
			t.Fatal("5 were granted while 60 of 40 are held")
		}
		b.Release(60)
		synctest.Wait()
		if !granted.Load() || b.Used() != 5 {
			t.Fatalf("granted %t, used %d", granted.Load(), b.Used())
		}
		if !b.TryTake(35) || b.TryTake(1) {
			t.Fatalf("used %d of 40", b.Used())
		}
	})
}

// Whoever waits for more than a shrunk budget gets it alone, as from one that was never larger.
func TestWhoWaitsForMoreThanAShrunkBudgetGetsItAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		b.TryTake(80)
		var granted atomic.Bool
		go func() {
			if err := b.Take(t.Context(), 50); err != nil {
				t.Error(err)
			}
			granted.Store(true)
		}()
		synctest.Wait()
		b.SetLimit(10)
		b.Release(80)
		synctest.Wait()
		if !granted.Load() || b.Used() != 50 {
			t.Fatalf("granted %t, used %d", granted.Load(), b.Used())
		}
	})
}

// Budgets grow and shrink while many take, wait, give up and release: nobody gets more than the largest limit but alone, nobody waits
// for ever, and in the end nothing is held.
func TestNoByteIsLostAndNobodyForgottenWhileTheLimitChanges(t *testing.T) {
	const most = 100
	b := NewBudget(most)
	var held atomic.Int64
	stop := make(chan struct{})
	var changing sync.WaitGroup
	changing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				b.SetLimit(1 + rand.Int64N(most))
			}
		}
	})
	var all sync.WaitGroup
	use := func(n int64) {
		if now := held.Add(n); now > most {
			t.Errorf("%d bytes are held of %d at most", now, most)
		}
		held.Add(-n)
		b.Release(n)
	}
	for range 8 {
		all.Go(func() {
			for range 1000 {
				n := 1 + rand.Int64N(most)
				switch rand.IntN(3) {
				case 0:
					if b.TryTake(n) {
						use(n)
					}
				case 1:
					if err := b.Take(t.Context(), n); err != nil {
						t.Error(err)
						return
					}
					use(n)
				case 2:
					ctx, cancel := context.WithCancel(t.Context())
					go cancel()
					if b.Take(ctx, n) == nil {
						use(n)
					}
					cancel()
				}
			}
		})
	}
	all.Wait()
	close(stop)
	changing.Wait()
	if b.Used() != 0 || b.waiters.Len() != 0 {
		t.Errorf("%d bytes used and %d waiting after all is done", b.Used(), b.waiters.Len())
	}
}

// Random changes one after the other, against the rule written down in the plainest way: after each, what is held and who waits
// are as if all who came had been looked at in their order.
func TestABudgetFollowsItsRuleThroughRandomChanges(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			b, limit, used := NewBudget(50), int64(50), int64(0)
			var holds, queue []int64
			serve := func() {
				for len(queue) > 0 && (used+queue[0] <= limit || used == 0) {
					used += queue[0]
					holds = append(holds, queue[0])
					queue = queue[1:]
				}
			}
			for range 200 {
				switch n := rnd.Int64N(60); rnd.IntN(4) {
				case 0:
					limit = n
					b.SetLimit(n)
				case 1:
					go func() { _ = b.Take(t.Context(), n) }()
					queue = append(queue, n)
				case 2:
					if want := len(queue) == 0 && used+n <= limit; b.TryTake(n) != want {
						t.Fatalf("seed %d: TryTake(%d) with %d of %d held is not %t", seed, n, used, limit, want)
					} else if want {
						used += n
						holds = append(holds, n)
					}
				case 3:
					if len(holds) > 0 {
						i := rnd.IntN(len(holds))
						used -= holds[i]
						b.Release(holds[i])
						holds = append(holds[:i], holds[i+1:]...)
					}
				}
				serve()
				synctest.Wait()
				if b.Used() != used || b.waiters.Len() != len(queue) {
					t.Fatalf("seed %d: %d held and %d waiting, want %d and %d", seed, b.Used(), b.waiters.Len(), used, len(queue))
				}
			}
			b.SetLimit(1 << 40) // lets everybody go
			synctest.Wait()
		})
	}
}
