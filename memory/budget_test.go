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
