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
	// (a): so has a vminsert. Once it has passed the rows on, it may go.
	for name, epoch := range b.clocked { // which is never known
		if cause := e.changed(name, epoch); cause != "" {
			return isDirty, cause
		}
	}
	passed := b.passedByTime()
	for name, l := range b.legs {
		if l.passed.IsZero() {
			if cause := e.changed(name, l.epoch); cause != "" {
				return isDirty, cause
			}
			b.observe(l, e.nodes[name])
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

// changed is why a node is not the same process any more as in that epoch, or "".
func (e *evidence) changed(node string, epoch int) string {
	switch n := e.nodes[node]; {
	case n == nil:
		return nodeGone
	case n.epoch != epoch:
		return n.cause
	}
	return ""
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
