package forward

import (
	"context"
	"math"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

const (
	// measureEvery is how often the metrics of a partition's backlog are brought up to date.
	measureEvery = time.Second
	// measureTimeout is how long the Store may take for what they need. Then what it said before stands.
	measureTimeout = time.Second
	// maxPeeks is how many blocks are read at one time, of all partitions together, only to see when they were received. The
	// budget is not asked for their bytes: when it is spent, how far behind we are is what people want to know.
	maxPeeks = 4
)

// A backlog is what a partition has still to do, in blocks.
type backlog struct {
	uncommitted, unsent buffer.Offset
	sent                int64         // since the partition is ours, repetitions included
	oldest              buffer.Offset // the first of those unsent
	received            time.Time     // when oldest was; zero when the block is not in memory
}

// backlog counts what is not committed or sent of the blocks between the bounds.
func (p *partition) backlog(first, next buffer.Offset) backlog {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := backlog{
		uncommitted: buffer.Lag(first, next, p.committed),
		unsent:      missing(p.claimed, buffer.Span{From: first, To: next}),
		sent:        p.blocksSent,
		oldest:      p.claimed.NextGap(first).From,
	}
	for off, received := range p.held {
		if off >= next { // it has come since the bounds were looked up
			continue
		}
		b.unsent++
		if off < b.oldest {
			b.oldest, b.received = off, received
		}
	}
	return b
}

// missing is how many offsets of the span are not in the set.
func missing(set buffer.Progress, s buffer.Span) buffer.Offset {
	var n buffer.Offset
	for gap := set.NextGap(s.From); gap.From < s.To; gap = set.NextGap(gap.To) {
		n += min(gap.To, s.To) - gap.From
		if gap.To == math.MaxInt64 {
			break
		}
	}
	return n
}

// An observer keeps the metrics of one partition's backlog up to date. It belongs to one goroutine.
type observer struct {
	p     *partition
	rates buffer.Backlog

	bounded     bool // whether first and next are known
	first, next buffer.Offset

	// oldest is the oldest unsent block whose receive time was learnt last; received is zero when there is none.
	oldest   buffer.Offset
	received time.Time
}

// observe measures the backlog until ctx ends.
func (p *partition) observe(ctx context.Context) {
	o := observer{p: p}
	for more := true; more; more = sleep(ctx, measureEvery) {
		o.measure(ctx)
	}
}

func (o *observer) measure(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	// An error of the Store is told by read. While there is one, hardly a block arrives either.
	if first, next, err := o.p.src.Bounds(ctx); err == nil {
		o.bounded, o.first, o.next = true, first, next
	}
	if !o.bounded {
		return
	}
	b := o.p.backlog(o.first, o.next)
	o.rates.Add(buffer.Mark{At: time.Now(), Next: o.next, Sent: b.sent, Unsent: b.unsent, Oldest: b.oldest})
	o.find(ctx, b)
	o.show(b)
}

// find learns when the oldest unsent block was received, and reads it only when it must. If that fails it tries again next time,
// and until then the time of the block that was the oldest before stands: a block behind that one is younger than is shown.
func (o *observer) find(ctx context.Context, b backlog) {
	switch {
	case b.unsent == 0:
		o.received = time.Time{}
	case !b.received.IsZero():
		o.oldest, o.received = b.oldest, b.received
	case o.received.IsZero() || o.oldest != b.oldest:
		if received, ok := o.p.peek(ctx, b.oldest); ok {
			o.oldest, o.received = b.oldest, received
		}
	}
}

// peek reads when the block at off was received. If it turns out to be lost, it is marked so, and the one behind stands for it.
func (p *partition) peek(ctx context.Context, off buffer.Offset) (received time.Time, ok bool) {
	select {
	case p.f.peeks <- struct{}{}:
		defer func() { <-p.f.peeks }()
	case <-ctx.Done():
		return time.Time{}, false
	}
	batch, err := p.src.Read(ctx, off, 1)
	if err != nil {
		return time.Time{}, false // told by read
	}
	defer batch.Release()
	p.lose(batch.Lost) // a Store that has lost patience with a block need not say so twice
	if len(batch.Blocks) == 0 {
		return time.Time{}, false
	}
	p.see(&batch.Blocks[0])
	return batch.Blocks[0].Received, true
}

// see makes b count in what blocks hold on average.
func (p *partition) see(b *buffer.Block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mean.Add(b)
}

// estimate is what so many blocks of the partition hold.
func (p *partition) estimate(blocks buffer.Offset) (samples, bytes float64, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mean.Estimate(blocks)
}

func (o *observer) show(b backlog) {
	m, gauges := o.p.metrics, o.p.metrics.all.backlog
	m.show(gauges.uncommitted, float64(b.uncommitted), true)
	m.show(gauges.unsent, float64(b.unsent), true)
	if b.unsent == 0 {
		m.show(gauges.oldest, 0, true)
	} else {
		m.show(gauges.oldest, max(0, time.Since(o.received).Seconds()), !o.received.IsZero())
	}
	samples, bytes, known := o.p.estimate(b.unsent)
	m.show(gauges.samples, samples, known)
	m.show(gauges.bytes, bytes, known)
	rates, known := o.rates.Rates()
	m.show(gauges.arriving, rates.Arriving, known)
	m.show(gauges.sent, rates.Sent, known)
	seconds, known := o.rates.TimeToDrain()
	m.show(gauges.drain, seconds, known)
}
