package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// ends is what is known of where the partitions of a lane begin and end. It is safe for concurrent use.
type ends struct {
	mu    sync.Mutex
	known map[int]end
}

type end struct {
	buffer.Span           // from the first block that Kafka keeps to the offset of the next one
	at          time.Time // when Kafka has told
}

// fresh is for how long what Kafka has told of a partition's ends is taken for what is so now. Who reads learns of newer blocks
// when it comes to the end, whatever it believed.
const fresh = 300 * time.Millisecond

// set notes what Kafka has told.
func (e *ends) set(partition int, first, next int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known == nil {
		e.known = map[int]end{}
	}
	// An answer may be older than the last acknowledgement.
	to := max(buffer.Offset(next), e.known[partition].To)
	e.known[partition] = end{Span: buffer.Span{From: buffer.Offset(max(first, 0)), To: to}, at: time.Now()}
}

// forget is for a topic that was made anew.
func (e *ends) forget(partition int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, partition)
}

// extend notes that a block was stored before next.
func (e *ends) extend(partition int, next buffer.Offset) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if k, ok := e.known[partition]; ok && k.To < next {
		k.To = next
		e.known[partition] = k
	}
}

// get returns the ends of a partition if they are fresh.
func (e *ends) get(partition int) (buffer.Span, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	k, ok := e.known[partition]
	return k.Span, ok && time.Since(k.at) < fresh
}

// bounds asks Kafka for the ends of the first n partitions.
func (l *lane) bounds(ctx context.Context, n int) ([]buffer.Span, error) {
	return l.boundsOf(ctx, upTo(n)...)
}

// upTo are the first n partitions.
func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// boundsOf asks Kafka for the ends of these partitions. The error wraps buffer.ErrUnavailable.
func (l *lane) boundsOf(ctx context.Context, partitions ...int) ([]buffer.Span, error) {
	var asked []kafka.OffsetRequest
	for _, n := range partitions {
		asked = append(asked, kafka.FirstOffsetOf(n), kafka.LastOffsetOf(n))
	}
	answer, err := l.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{l.topic: asked}})
	if err != nil {
		return nil, fmt.Errorf("offsets of topic %s: %w: %w", l.topic, buffer.ErrUnavailable, err)
	}
	spans := make([]buffer.Span, len(partitions))
	told := make(map[int]bool, len(partitions))
	for _, p := range answer.Topics[l.topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("offsets of topic %s, partition %d: %w: %w", l.topic, p.Partition, buffer.ErrUnavailable, p.Error)
		}
		for i, n := range partitions {
			if n == p.Partition {
				spans[i] = buffer.Span{From: buffer.Offset(p.FirstOffset), To: buffer.Offset(p.LastOffset)}
				told[n] = true
				l.ends.set(n, p.FirstOffset, p.LastOffset)
			}
		}
	}
	if len(told) < len(partitions) {
		return nil, fmt.Errorf("offsets of topic %s: %w: Kafka tells those of %d partitions, not of %d", l.topic, buffer.ErrUnavailable, len(told), len(partitions))
	}
	return spans, nil
}

func (l *lane) id(t *topic, partition int) buffer.PartitionID {
	return buffer.PartitionID{Log: t.log, Lane: l.name, Number: partition}
}
