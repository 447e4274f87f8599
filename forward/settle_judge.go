package forward

import (
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// A verdict is what becomes of a bucket.
type verdict int

const (
	isUnsettled verdict = iota
	isSettled
	isDirty
)

// judge applies the rule of settle_rule.go to a bucket, clause by clause. The cause is why it is dirty.
func (b *bucket) judge(e *evidence, now time.Time) (verdict, string) {
	// (c), its first half: a storage that is another process now has lost what it held in memory.
	if e.storageEpoch != b.storages {
		return isDirty, e.storageCause
	}
	passed := b.passedByTime()
	for name, l := range b.legs {
		if l.passed.IsZero() {
			// (a): so has a vminsert. Once it has passed the rows on, it may go.
			n := e.nodes[name]
			switch {
			case n == nil:
				return isDirty, nodeGone
			case n.epoch != l.epoch:
				return isDirty, n.cause
			}
			b.observe(l, n)
		}
		if l.passed.IsZero() {
			return isUnsettled, "" // (b)
		}
		if l.passed.After(passed) {
			passed = l.passed
		}
	}
	return b.judgeDisk(e, passed, now), ""
}

// observe shows a leg the node's last reading if that is sure to show the POST.
func (b *bucket) observe(l *leg, n *nodeEvidence) {
	if n.reading != nil && !n.jumping && !n.reading.Begun.Add(-downstream.CacheAge).Before(b.sent) {
		l.observe(n.reading)
	}
}

// passedByTime stands in for (b) where nodes cannot be watched.
func (b *bucket) passedByTime() time.Time {
	if b.byTime {
		return b.sent.Add(timeSettle / 2)
	}
	return b.sent
}

// judgeDisk is the second half of (c), by what was seen or by the clock.
func (b *bucket) judgeDisk(e *evidence, passed, now time.Time) verdict {
	byClock := b.byTime || e.storeTime || !e.cfg.watches()
	switch {
	case byClock && now.Sub(b.sent) < timeSettle:
		return isUnsettled
	case e.storeTime || !e.cfg.watches():
		if now.Sub(passed) >= e.settle {
			return isSettled
		}
	case onDisk(passed, e.unbroken, e.seen, e.settle):
		return isSettled
	}
	return isUnsettled
}
