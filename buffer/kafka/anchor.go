package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// An anchor is a block that was read and its checksum. When another block stands at that offset, the topic was deleted and made
// anew under the same name: kafka-go tells no topic ids.
type anchor struct {
	offset buffer.Offset
	sum    uint32 // CRC-32C of the block's bytes
}

// anchors are some of the blocks that were read, in ascending order. They are few.
type anchors []anchor

const maxAnchors = 64

// add remembers a block. They come in any order: the newest blocks are read beside the oldest. When there are too many, every other
// one is forgotten, but the oldest, by which the next commit is anchored, and the newest stay.
func (a *anchors) add(b anchor) {
	i, known := slices.BinarySearchFunc(*a, b.offset, func(one anchor, o buffer.Offset) int { return cmp.Compare(one.offset, o) })
	if known {
		return
	}
	*a = slices.Insert(*a, i, b)
	if len(*a) < maxAnchors {
		return
	}
	kept := (*a)[:0]
	for i, one := range *a {
		if i%2 == 0 || i == len(*a)-1 {
			kept = append(kept, one)
		}
	}
	*a = kept
}

// before returns the last one before an offset.
func (a anchors) before(o buffer.Offset) (anchor, bool) {
	for i := len(a) - 1; i >= 0; i-- {
		if a[i].offset < o {
			return a[i], true
		}
	}
	return anchor{}, false
}

// forget forgets those before the last one before an offset.
func (a *anchors) forget(o buffer.Offset) {
	for len(*a) > 1 && (*a)[1].offset < o {
		*a = (*a)[1:]
	}
}

// reassure makes sure that the topic is still the one that was read, when there is reason to doubt: an error, or silence for so
// long that it may have been made anew and have grown beyond what we know.
//
// KNOWN GAP: a topic that is deleted, made anew and grown so far between two polls, of which there is one a second while somebody
// waits, is not recognised. Kafka takes longer than that to delete one.
func (p *partition) reassure(ctx context.Context) error {
	p.mu.Lock()
	doubts := p.doubts
	doubted := doubts != p.dispelled || !p.answered.IsZero() && time.Since(p.answered) > silence
	var newest anchor
	known := len(p.anchors) > 0
	if known {
		newest = p.anchors[len(p.anchors)-1]
	}
	p.mu.Unlock()
	if doubted && known {
		same, err := p.lane.holds(ctx, p.number, newest)
		if err != nil {
			return err
		}
		if !same {
			return p.replaced(fmt.Sprintf("another block stands at offset %d", newest.offset))
		}
	}
	if doubted {
		p.mu.Lock()
		p.dispelled, p.answered = doubts, time.Now()
		p.mu.Unlock()
	}
	return nil
}

// holds says whether the block of an anchor is still where it was; also when Kafka does not keep it any more, since nothing tells
// then. The error wraps buffer.ErrUnavailable.
func (l *lane) holds(ctx context.Context, partition int, a anchor) (bool, error) {
	spans, err := l.boundsOf(ctx, partition)
	if err != nil {
		return false, err
	}
	switch {
	case a.offset < spans[0].From:
		return true, nil
	case a.offset >= spans[0].To:
		return false, nil
	}
	answer, err := l.fetch(ctx, partition, a.offset, 1)
	if err == nil {
		err = answer.Error
	}
	if errors.Is(err, kafka.OffsetOutOfRange) {
		return true, nil // removed meanwhile, or the next try tells
	}
	if damaged(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read block %d again: %w: %w", a.offset, buffer.ErrUnavailable, err)
	}
	batch, err := l.collect(answer.Records, a.offset, 1)
	if err != nil && !errors.Is(err, buffer.ErrNewerVersion) {
		return false, fmt.Errorf("read block %d again: %w: %w", a.offset, buffer.ErrUnavailable, err)
	}
	defer batch.Release()
	if len(batch.Blocks) == 0 || batch.Blocks[0].Offset != a.offset {
		return true, nil // nothing tells
	}
	return sum(batch.Blocks[0].Data) == a.sum, nil
}

// replaced gives the partition up: what is known of it is of a topic that is no more. It is handed out anew.
func (p *partition) replaced(why string) error {
	p.lane.ends.forget(p.number)
	p.lane.tellReplaced(p.number, why)
	p.member.handOutAnew(p)
	return fmt.Errorf("the topic was made anew: %s: %w", why, buffer.ErrFenced)
}

func (l *lane) tellReplaced(partition int, why string) {
	l.s.metrics.replaced.Inc()
	l.log.Error("the topic is not the one that was forwarded before: it was deleted and made anew, or has lost blocks that were acknowledged. "+
		"What it holds now is forwarded from its first block on", "partition", partition, "why", why)
}
