package memory

import (
	"container/list"
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// A Budget bounds the bytes that some part of the process holds at one time. It is safe for concurrent use.
type Budget struct {
	mu      sync.Mutex
	limit   int64
	used    int64
	waiters list.List // of *waiter, first come first served
}

type waiter struct {
	n     int64
	ready chan struct{} // closed when n has been taken
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// TryTake takes n bytes if they are free and nobody waits for some, and says whether it did.
func (b *Budget) TryTake(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiters.Len() > 0 || b.used+n > b.limit {
		return false
	}
	b.used += n
	return true
}

// Take takes n bytes, waiting until they are free. More than the whole budget is granted when nothing else is held, since
// it could not be granted otherwise. The error is ctx's.
func (b *Budget) Take(ctx context.Context, n int64) error {
	b.mu.Lock()
	if b.waiters.Len() == 0 && b.fits(n) {
		b.used += n
		b.mu.Unlock()
		return nil
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	elem := b.waiters.PushBack(w)
	b.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.ready: // granted in the meantime
		b.used -= n
	default:
		b.waiters.Remove(elem)
	}
	b.grant()
	return fmt.Errorf("wait for %d bytes of memory budget: %w", n, ctx.Err())
}

// Release gives n bytes back.
func (b *Budget) Release(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.used < 0 {
		panic("memory: more bytes released than taken")
	}
	b.grant()
}

// SetLimit makes limit the bytes that may be taken at one time from now on, more or fewer than before. It takes nothing from
// those who hold some: while they hold more than limit nothing else is granted, and who waits goes on waiting. When limit has
// grown, those who wait get theirs at once, in the order in which they came.
func (b *Budget) SetLimit(limit int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = limit
	b.grant()
}

// Register shows the budget's size and use as metrics with the label budget=name.
func (b *Budget) Register(reg prometheus.Registerer, name string) {
	gauge := func(metric, help string, value func() int64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: metric, Help: help, ConstLabels: prometheus.Labels{"budget": name},
		}, func() float64 { return float64(value()) }))
	}
	gauge("ingestgw_memory_budget_bytes", "Bytes that the holders of this budget may have in memory at one time. It follows from "+
		"INGESTGW_MEMORY_LIMIT, and is less while ingestgw_memory_pressed is not 0.", b.Limit)
	gauge("ingestgw_memory_budget_used_bytes", "Bytes of this budget that are held now. At the size of the budget, requests are "+
		"refused with 503, or reading from the buffer waits.", b.Used)
}

// Used is the bytes taken and not yet given back.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Limit is the bytes that may be taken at one time.
func (b *Budget) Limit() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limit
}

func (b *Budget) fits(n int64) bool { return b.used+n <= b.limit || b.used == 0 }

func (b *Budget) grant() {
	for e := b.waiters.Front(); e != nil; e = b.waiters.Front() {
		w := e.Value.(*waiter)
		if !b.fits(w.n) {
			return
		}
		b.used += w.n
		close(w.ready)
		b.waiters.Remove(e)
	}
}
