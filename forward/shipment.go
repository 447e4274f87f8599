package forward

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/memory"
)

// maxRecycled is the most records whose memory is kept for the next block: a block of tiny records has thousands.
const maxRecycled = 1024

// A load is what one read brought. Its bytes are given back, to the Store and to the budget, when none of its blocks needs them.
type load struct {
	from    buffer.Offset // where it was read
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

// A shipment is a block on its way.
type shipment struct {
	part    *partition
	load    *load
	offset  buffer.Offset
	records []buffer.Record // all of the block's, in the order of trying
	pending []buffer.Record // those that no node has taken yet
	samples int             // that nodes have taken
	tickets []ticket        // one for each visit in which a node took something

	suspects int  // how many of pending have been refused before; they are the last ones
	rounds   int  // how often nothing but suspects was left
	parked   bool // since something was refused
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
	*s = shipment{records: s.records[:0], tickets: s.tickets[:0]}
	f.shipments.Put(s)
}

// run takes the block to one node after the other until all its records are sent or ctx ends. All records go to the same node as
// long as that takes them.
func (s *shipment) run(ctx context.Context, permit permit) {
	p := s.part
	defer func() {
		if s.parked {
			p.f.parked.leave()
		}
		s.load.drop()
		p.f.recycle(s)
	}()
	for {
		fail := s.visit(permit)
		p.f.fleet.done(permit, fail)
		if fail == nil {
			p.sent(s.offset, s.samples, s.tickets)
			return
		}
		if fail.kind == cut || !s.rest(ctx, fail) {
			return
		}
		p.metrics.retries.Inc()
		var err error
		if permit, err = p.f.fleet.acquire(ctx, s.offset, permit.node); err != nil {
			return
		}
	}
}

// visit sends what is pending to one node. The failure is why something still is.
func (s *shipment) visit(permit permit) *failure {
	v := newVisit(s.part.sending, permit.node, s.part.f.cfg.Timeout)
	defer v.close()
	var last *failure
	took := false
	for n := len(s.pending); n > 0; n-- { // a record that is refused again comes to stand behind these
		fail := v.post(&s.pending[0])
		switch {
		case fail == nil:
			if !took {
				s.part.f.fleet.answered(permit)
				s.tickets = append(s.tickets, permit.ticket)
				took = true
			}
			s.taken()
		case fail.kind == refused && s.onlySuspects():
			s.refuse(v, fail)
			fail.kind = refusedAgain
			last = fail
		case fail.kind == refused:
			s.refuse(v, fail)
			s.suspects++
			return fail
		default:
			return fail
		}
	}
	return last
}

// onlySuspects says whether all that is pending has been refused before.
func (s *shipment) onlySuspects() bool { return s.suspects == len(s.pending) }

// taken is called when a node has taken the first record that is pending.
func (s *shipment) taken() {
	if s.onlySuspects() {
		s.suspects--
	}
	s.samples += s.pending[0].Samples
	s.pending = s.pending[1:]
}

// refuse puts the record that was refused behind the others of its block, so that it does not keep them.
func (s *shipment) refuse(v *visit, fail *failure) {
	r := s.pending[0]
	copy(s.pending, s.pending[1:])
	s.pending[len(s.pending)-1] = r
	if !s.parked {
		s.parked = true
		s.part.f.parked.enter()
	}
	level, what := slog.LevelError, "a node has refused a record; the node is left alone for a while, and the record is kept and sent to another one"
	if s.onlySuspects() {
		level, what = slog.LevelWarn, "a record was refused again; it is kept and will be tried again"
	}
	s.part.log.Log(context.Background(), level, what,
		"node", v.node.name, "url", masked(v.node.url(r.Tenant)), "err", fail, "advice", advice(fail.status),
		"tenant", r.Tenant, "offset", s.offset, "bytes", len(r.Payload), "samples", r.Samples)
}

// rest waits before the next visit, if all that is pending has been refused, and says whether there is to be one.
func (s *shipment) rest(ctx context.Context, fail *failure) bool {
	if fail.kind == failed || !s.onlySuspects() {
		return ctx.Err() == nil
	}
	s.rounds++
	if s.rounds == 1 { // another node may take it at once
		return ctx.Err() == nil
	}
	return sleep(ctx, s.part.f.backoff.after(s.rounds-1))
}
