package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/ingestgw/ingestgw/buffer"
)

// hedgeAgain is how often a block that waits is compared with the others once KAFKA_HEDGE_AFTER is over.
const hedgeAgain = 250 * time.Millisecond

// Append is as buffer.Store says. A block that one partition does not take goes to another one; one that a partition does not
// acknowledge while others acknowledge theirs is written to another one too, and may then be there twice.
func (s *Store) Append(ctx context.Context, name buffer.Lane, b *buffer.Block) error {
	if !s.enter() {
		b.Release()
		return fmt.Errorf("append to lane %s: %w", name, buffer.ErrClosed)
	}
	defer s.under.Done()
	a := &appending{lane: s.lane(name), block: b, outcomes: make(chan outcome), answered: make(chan struct{})}
	a.holders.Store(1)
	defer a.drop()
	defer close(a.answered)
	limited, cancel := context.WithTimeout(ctx, s.cfg.AppendTimeout)
	defer cancel()
	err := a.run(limited)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	s.metrics.appended(name, err)
	if err != nil {
		return fmt.Errorf("append to topic %s: %w", a.lane.topic, err)
	}
	return nil
}

// An appending is a block on its way into a topic.
type appending struct {
	lane     *lane
	block    *buffer.Block
	holders  atomic.Int32  // of the block's bytes: Append, and each try that has not ended
	outcomes chan outcome  // of tries
	answered chan struct{} // closed when nobody looks at outcomes any more

	underWay []*try
	last     error // of a try that failed
}

type outcome struct {
	*try
	err error
}

func (a *appending) drop() {
	if a.holders.Add(-1) == 0 {
		a.block.Release()
	}
}

// run returns when one try has been acknowledged, none can be, or ctx ends. Tries that are under way then end by themselves.
func (a *appending) run(ctx context.Context) error {
	again := time.NewTimer(0) // when to begin the next try
	defer again.Stop()
	hedge := time.NewTimer(a.lane.s.cfg.HedgeAfter)
	defer hedge.Stop()
	for {
		closing := a.lane.s.closing
		if len(a.underWay) > 0 {
			closing = nil // what is under way is waited for
		}
		select {
		case <-again.C:
			wait, err := a.begin(ctx)
			if err != nil {
				return err
			}
			if wait > 0 {
				again.Reset(wait)
				continue
			}
			hedge.Reset(a.lane.s.cfg.HedgeAfter)
		case o := <-a.outcomes:
			if o.err == nil {
				return nil
			}
			if errors.Is(o.err, buffer.ErrTooLarge) {
				return o.err
			}
			a.last = o.err
			a.underWay = slices.DeleteFunc(a.underWay, func(y *try) bool { return y == o.try })
			if !slices.ContainsFunc(a.underWay, func(y *try) bool { return !a.lane.spread.lags(y) }) {
				again.Reset(0)
			}
		case <-hedge.C:
			if a.fallBehind() {
				a.lane.s.metrics.hedged.Inc()
				again.Reset(0)
			}
			hedge.Reset(hedgeAgain)
		case <-closing:
			return buffer.ErrClosed
		case <-ctx.Done():
			return a.late()
		}
	}
}

// late says that the block was not stored in time, and why.
func (a *appending) late() error {
	why := a.last
	if why == nil {
		why = errors.New("no broker answers")
	}
	return fmt.Errorf("%w: not acknowledged within INGESTGW_BUFFER_APPEND_TIMEOUT=%v: %w", buffer.ErrUnavailable, a.lane.s.cfg.AppendTimeout, why)
}

// begin begins a try at a partition where none is under way. It returns for how long to wait when there is none.
func (a *appending) begin(ctx context.Context) (wait time.Duration, err error) {
	known, err := a.lane.ready(ctx)
	if err != nil {
		return 0, err
	}
	if len(a.block.Data) > known.maxBlock {
		return 0, fmt.Errorf("block of %d bytes: %w: max.message.bytes of the topic leaves room for %d", len(a.block.Data), buffer.ErrTooLarge, known.maxBlock)
	}
	var avoid []int
	for _, t := range a.underWay {
		avoid = append(avoid, t.partition)
	}
	t, wait, ok := a.lane.spread.take(known.leaders, avoid)
	if !ok {
		return wait, nil
	}
	a.underWay = append(a.underWay, t)
	a.holders.Add(1)
	a.lane.s.under.Go(func() { a.carry(t) }) // ends with the answer, at the latest when the request's time is over
	return 0, nil
}

// fallBehind says whether one more try is to begin, as the newest one has been overtaken by other blocks.
func (a *appending) fallBehind() bool {
	return len(a.underWay) > 0 && a.lane.spread.overtake(a.underWay[len(a.underWay)-1], a.lane.s.cfg.HedgeAfter)
}

// carry is one try. It holds the block's bytes until the request has really ended.
func (a *appending) carry(t *try) {
	defer a.drop()
	err := a.lane.store(t.partition, a.block)
	a.lane.spread.done(t, err)
	a.lane.s.metrics.tried(t, err)
	if err == nil {
		a.lane.see(a.block)
	}
	select {
	case a.outcomes <- outcome{t, err}:
	case <-a.answered:
	}
}

// produceGrace is how much longer we wait for an answer than the broker waits for the replicas.
const produceGrace = time.Second

// store writes the block into a partition, acknowledged by all replicas in sync. When it returns, nobody reads the bytes.
func (l *lane) store(partition int, b *buffer.Block) error {
	timeout := l.s.cfg.AppendTimeout
	ctx, cancel := context.WithTimeout(l.s.ctx, timeout+produceGrace)
	defer cancel()
	v := &value{rest: b.Data}
	defer v.withdraw()
	answer, err := l.trips.RoundTrip(ctx, l.s.addr, &produce.Request{
		Acks:    int16(kafka.RequireAll),
		Timeout: int32(timeout.Milliseconds()),
		Topics: []produce.RequestTopic{{Topic: l.topic, Partitions: []produce.RequestPartition{{
			Partition: int32(partition),
			RecordSet: protocol.RecordSet{Records: kafka.NewRecordReader(kafka.Record{Value: v, Headers: headers(b)})},
		}}}},
	})
	if err != nil {
		return fmt.Errorf("partition %d: %w: %w", partition, buffer.ErrUnavailable, err)
	}
	stored, ok := answer.(*produce.Response)
	if !ok || len(stored.Topics) == 0 || len(stored.Topics[0].Partitions) == 0 {
		return fmt.Errorf("partition %d: %w: the broker's answer says nothing of it", partition, buffer.ErrUnavailable)
	}
	p := stored.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return l.refused(partition, len(b.Data), kafka.Error(p.ErrorCode))
	}
	l.ends.extend(partition, buffer.Offset(p.BaseOffset)+1)
	return nil
}

// refused says what kind of error a broker's answer is.
func (l *lane) refused(partition, size int, code kafka.Error) error {
	switch code {
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidMessageSize:
		l.shrink(size)
		return fmt.Errorf("partition %d: block of %d bytes: %w: %w", partition, size, buffer.ErrTooLarge, code)
	}
	return fmt.Errorf("partition %d: %w: %w", partition, buffer.ErrUnavailable, code)
}

// shrink notes that the topic does not take blocks of that size, though its settings said so or could not be read. The sender comes
// back, and its request is split then.
func (l *lane) shrink(size int) {
	known := l.known.Load()
	if known == nil || known.maxBlock < size {
		return
	}
	smaller := *known
	smaller.maxBlock = max(1, size/2)
	if l.learn(known, &smaller) {
		l.log.Error("the topic refuses a block that its max.message.bytes should allow; requests are cut smaller now, which costs more. "+
			"Look at max.message.bytes of the topic, and allow DescribeConfigs to this user", "bytes", size, "most_from_now_on", smaller.maxBlock)
	}
}
