package buffer

import (
	"math"
	"slices"
	"time"
)

const (
	// rateWindow is the time that both rates of a Backlog are about.
	rateWindow = time.Minute
	// underWay is how long a block may be unsent without being called a backlog: where as many blocks are sent as arrive, one or
	// the other is always on its way, and yet nothing is waiting to be worked off.
	underWay = 5 * time.Second
	// meanBlocks is about how many blocks, the ones seen last, make a BlockMean.
	meanBlocks = 100
)

// Lag is how many blocks of a partition with the bounds first and next are not committed: what Kafka's tools report as the LAG of
// a group. They also count blocks that have been removed before they were committed; Lag does not.
func Lag(first, next, committed Offset) Offset {
	return max(0, next-max(first, committed))
}

// A Backlog tells how fast blocks arrive in a partition and are sent, and when none will be left to be sent. It is fed about once
// a second, and does no more than arithmetic. The zero value has been told nothing. It is not safe for concurrent use.
type Backlog struct {
	marks []Mark // of the last rateWindow, in the order of time
}

// A Mark is what is known of a partition at one moment.
type Mark struct {
	At time.Time
	// Next is the offset of the next block to arrive.
	Next Offset
	// Sent counts the blocks that were sent, repetitions included; where it starts does not matter.
	Sent int64
	// Unsent is how many blocks are still to be sent. Oldest is the first of them, if there is one.
	Unsent, Oldest Offset
}

// Rates are blocks per second, both over the same time: the last minute, or less when the first Mark is younger.
type Rates struct{ Arriving, Sent float64 }

// Add tells b what is so now. Marks are added in the order of time.
func (b *Backlog) Add(m Mark) {
	past := 0
	for past < len(b.marks) && m.At.Sub(b.marks[past].At) > rateWindow {
		past++
	}
	b.marks = append(slices.Delete(b.marks, 0, past), m)
}

// Rates are known from the second Mark on.
func (b *Backlog) Rates() (r Rates, known bool) {
	if len(b.marks) == 0 {
		return Rates{}, false
	}
	from, to := b.marks[0], b.marks[len(b.marks)-1]
	seconds := to.At.Sub(from.At).Seconds()
	if seconds <= 0 {
		return Rates{}, false
	}
	return Rates{
		Arriving: float64(max(0, to.Next-from.Next)) / seconds,
		Sent:     float64(max(0, to.Sent-from.Sent)) / seconds,
	}, true
}

// TimeToDrain is the seconds until nothing is left to be sent, if the rates stay as they are. It is +Inf when no more blocks are
// sent than arrive, and 0 when there is no backlog: all is sent but blocks that arrived within the last 5 s.
func (b *Backlog) TimeToDrain() (seconds float64, known bool) {
	if len(b.marks) == 0 {
		return 0, false
	}
	now := b.marks[len(b.marks)-1]
	if now.Unsent == 0 || now.Oldest >= b.before(now.At.Add(-underWay)).Next {
		return 0, true
	}
	r, known := b.Rates()
	if !known {
		return 0, false
	}
	if r.Sent <= r.Arriving {
		return math.Inf(1), true
	}
	return float64(now.Unsent) / (r.Sent - r.Arriving), true
}

// before is the last Mark not later than t, or the first one: what it finds may be of any age.
func (b *Backlog) before(t time.Time) Mark {
	found := b.marks[0]
	for _, m := range b.marks[1:] {
		if m.At.After(t) {
			break
		}
		found = m
	}
	return found
}

// A BlockMean is what the blocks of a partition hold on average. It is a moving mean: of all blocks seen until there are 100; from
// then on each further one weighs a hundredth and what was before fades. The zero value has seen none. It is not safe for
// concurrent use; copies share nothing.
type BlockMean struct {
	seen           int // up to meanBlocks
	samples, bytes float64
}

// Add takes in one more block.
func (m *BlockMean) Add(b *Block) {
	m.seen = min(m.seen+1, meanBlocks)
	weight := 1 / float64(m.seen)
	m.samples += (float64(b.Samples) - m.samples) * weight
	m.bytes += (float64(len(b.Data)) - m.bytes) * weight
}

// Estimate is what so many blocks hold if they are like those seen. Without any seen, it is known of no block only.
func (m *BlockMean) Estimate(blocks Offset) (samples, bytes float64, known bool) {
	return m.samples * float64(blocks), m.bytes * float64(blocks), m.seen > 0 || blocks == 0
}
