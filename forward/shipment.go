package forward

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/memory"
)

// A load is what one read brought. Its bytes are given back, to the Store and to the budget, when none of its blocks needs them.
type load struct {
	from    buffer.Offset // where it was read
	last    bool          // nothing behind it was there yet
	batch   buffer.Batch
	holders atomic.Int64
	budget  *memory.Budget
	paid    int64
}

// pay takes n bytes from the budget. Half of it is the most, whatever n is: a block that is larger could otherwise wait for ever
// behind blocks that wait too.
func (l *load) pay(ctx context.Context, n int64) error {
	n = min(n, max(1, l.budget.Limit()/2))
	if err := l.budget.Take(ctx, n); err != nil {
		return err
	}
	l.paid = n
	return nil
}

// settleAccount makes what was paid what the blocks really take. While it waits nothing is paid, so that partitions that wait
// for each other cannot stop each other: each has one batch at most that is not paid for.
func (l *load) settleAccount(ctx context.Context) error {
	var bytes int64
	for _, b := range l.batch.Blocks {
		bytes += int64(len(b.Data))
	}
	if bytes > l.paid {
		l.free()
		return l.pay(ctx, bytes)
	}
	l.budget.Release(l.paid - bytes)
	l.paid = bytes
	return nil
}

// free gives what was paid back.
func (l *load) free() {
	l.budget.Release(l.paid)
	l.paid = 0
}

// drop is called once by each holder.
func (l *load) drop() {
	if l.holders.Add(-1) == 0 {
		l.batch.Release()
		l.free()
	}
}

// A shipment is a block on its way: it has arrived when each of its records has, in whatever parcel.
type shipment struct {
	part    *partition
	load    *load
	offset  buffer.Offset
	records []buffer.Record
	samples int

	mu         sync.Mutex
	left       int      // records that are neither taken nor given up
	tickets    []ticket // of the visits in which a node took some
	incomplete bool     // some were given up
	parked     bool     // since something was refused
}

func (f *Forwarder) shipment(p *partition, l *load, b *buffer.Block) *shipment {
	s := f.shipments.Get().(*shipment)
	s.part, s.load, s.offset = p, l, b.Offset
	return s
}

// recycle keeps the memory of s for another block.
func (f *Forwarder) recycle(s *shipment) {
	if cap(s.records) > maxRecycled {
		return
	}
	clear(s.records)
	clear(s.tickets)
	s.part, s.load, s.records, s.tickets = nil, nil, s.records[:0], s.tickets[:0]
	s.samples, s.left, s.incomplete, s.parked = 0, 0, false, false
	f.shipments.Put(s)
}

// taken is called when a node has taken a record of s. Of all records that one visit brought the ticket is the same.
func (s *shipment) taken(t ticket) {
	s.mu.Lock()
	if !slices.Contains(s.tickets, t) {
		s.tickets = append(s.tickets, t)
	}
	s.less()
}

// abandoned is called when a record of s has been given up.
func (s *shipment) abandoned() {
	s.mu.Lock()
	s.incomplete = true
	s.less()
}

// less counts a record less. After the last nobody uses s any more. s.mu is held, and is not afterwards.
func (s *shipment) less() {
	s.left--
	left := s.left
	s.mu.Unlock()
	if left > 0 {
		return
	}
	if !s.incomplete {
		s.part.sent(s.offset, s.samples, s.tickets)
	}
	if s.parked {
		s.part.lane.parked.leave()
	}
	s.load.drop()
	s.part.f.recycle(s)
}

// park counts s among the blocks with refused records.
func (s *shipment) park() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.parked {
		s.parked = true
		s.part.lane.parked.enter()
	}
}
