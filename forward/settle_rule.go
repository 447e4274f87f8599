package forward

import (
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// The rule. A block that was posted to some vminsert is safe when
//
//	(a) that vminsert is still the same process, until
//	(b) it has passed on all that it held when it answered, and after that
//	(c) every vmstorage is the same process as before the POST, and was alive long enough to have brought it to disk.
//
// Nothing in this file asks what time it is, or remembers more than it is shown.

const (
	// quietFor is longer than vminsert's deadlines for one batch: 60 s to write it and 60 s to read the answer, each up to 100 s
	// for the largest (v1.100.0-cluster:app/vminsert/netstorage/netstorage.go, sendToConn).
	quietFor = 4 * time.Minute
	// timeSettle is how long a block waits where nothing can be watched.
	timeSettle = 60 * time.Second
	// flushSlack is what a vmstorage's other timers add to twice its flush interval
	// (v1.100.0-cluster:lib/storage/partition.go: pending rows wait for up to 4 s, then for a deadline and a ticker of one interval each, then for
	// the merge).
	flushSlack = 10 * time.Second
)

// A leg follows what was posted to one vminsert until it has left there: clause (b).
type leg struct {
	epoch  int                 // of the node before the POST; another one now means another process: clause (a)
	before *downstream.Reading // taken before the POST
	last   *downstream.Reading // the last one observed

	// Set with the first reading that is sure to show the POST:
	crossings map[downstream.Path]*crossing
	broken    float64 // connections broken so far, on all paths

	passed time.Time // when all crossings were passed; zero before
}

// A crossing follows one of vminsert's queues. It has a sender that takes all that waits as one batch, sends it, and only then
// takes the next. So what waited at some moment has arrived when the queue was seen emptied after that, and then a batch was
// completed.
//
// What a queue received and what was sent are never compared: rows leave by other storages' connections when their own
// is down, and by several with -replicationFactor. For the same reason one completed batch is not enough: it may be
// another queue's. Two are asked for.
type crossing struct {
	sent, pending float64
	taken         bool      // all that waited at the beginning has been taken out of the queue
	batches       int       // completed since
	quietSince    time.Time // since then nothing was sent and nothing waited, although it could have been sent
	passed        time.Time
}

// observe takes in a reading that shows the POST: one that was begun at least downstream.CacheAge after the 2xx, because a page may
// be that old when it is served. The process must be the one that took the POST.
func (l *leg) observe(r *downstream.Reading) {
	if r == l.last || !l.passed.IsZero() {
		return
	}
	earlier := l.last
	l.last = r
	broken := brokenConnections(r)
	switch {
	case l.crossings == nil:
		l.begin(r)
	case broken != l.broken:
		l.beginAnew(r)
	default:
		for path, c := range l.crossings {
			c.observe(r.Paths[path], r, hasOutlet(path.Call, earlier, r))
		}
	}
	l.broken = broken
	l.passed = l.lastPassed()
}

// begin finds the queues that may hold rows of the POST: those that received any since before it.
func (l *leg) begin(r *downstream.Reading) {
	l.crossings = map[downstream.Path]*crossing{}
	for path, now := range r.Paths {
		before := l.before.Paths[path]
		if now.Received <= before.Received {
			continue
		}
		if _, known := l.before.Paths[path]; known && awayAllAlong(before, now) {
			continue
		}
		l.crossings[path] = newCrossing(now, r)
	}
	l.before = nil
}

// beginAnew starts over on all queues that were not passed. After a connection broke, what was being sent on it is sent again, on
// others, and what is counted there tells nothing of their own queues.
func (l *leg) beginAnew(r *downstream.Reading) {
	for path, c := range l.crossings {
		if c.passed.IsZero() {
			l.crossings[path] = newCrossing(r.Paths[path], r)
		}
	}
}

func newCrossing(p downstream.Passage, r *downstream.Reading) *crossing {
	return &crossing{sent: p.Sent, pending: p.PendingRows, taken: p.PendingRows == 0, quietSince: r.Ended}
}

// awayAllAlong is whether vminsert put nothing into the queue of a storage, because it took the storage for away at both
// times and in between: it would have had to connect, and then to lose the connection again. Rows for it are counted as received all
// the same, and go into other queues. A storage that is away for good must hold nothing up.
func awayAllAlong(before, now downstream.Passage) bool {
	return !before.Ready() && !now.Ready() && before.ConnectionErrors == now.ConnectionErrors &&
		before.Sent == now.Sent && now.PendingRows == 0
}

// hasOutlet is whether, from one reading to the next, there was a storage that would have taken a batch of such calls. While there is
// none, a batch that was taken out of its queue is tried over and over: nothing waits and nothing is sent, for as long as it lasts.
func hasOutlet(call string, earlier, now *downstream.Reading) bool {
	for path, p := range now.Paths {
		before, known := earlier.Paths[path]
		if path.Call == call && known && before.Ready() && p.Ready() && before.Errors() == p.Errors() {
			return true
		}
	}
	return false
}

// observe takes in what the queue looked like some time after the last reading. outlet is whether a batch could be sent all the while.
func (c *crossing) observe(p downstream.Passage, r *downstream.Reading, outlet bool) {
	if !c.passed.IsZero() {
		return
	}
	grown := p.Sent > c.sent
	if c.taken && grown {
		c.batches++
	}
	if p.PendingRows == 0 || p.PendingRows < c.pending {
		c.taken = true // a queue only ever shrinks by being taken out
	}
	if grown || p.PendingRows > 0 || !outlet {
		c.quietSince = r.Ended
	}
	c.sent, c.pending = p.Sent, p.PendingRows
	// The page of r may be older than r by CacheAge.
	quiet := r.Begun.Add(-downstream.CacheAge).Sub(c.quietSince)
	if c.batches >= 2 || quiet >= quietFor {
		c.passed = r.Ended
	}
}

// lastPassed is when the last crossing was passed, zero when some were not. Without any it is when that was found out.
func (l *leg) lastPassed() time.Time {
	last := l.last.Ended
	for _, c := range l.crossings {
		if c.passed.IsZero() {
			return time.Time{}
		}
	}
	return last
}

func brokenConnections(r *downstream.Reading) float64 {
	var n float64
	for _, p := range r.Paths {
		n += p.ConnectionErrors
	}
	return n
}

// onDisk is clause (c) for what was passed on at the time passed: every storage was seen alive by an unbroken row of good polls
// from then on, or from the end of the last gap on, until settle later. A gap starts the time anew: a storage that is frozen does
// not bring anything to disk, and one that is killed soon after it thaws has lost what the clock would have called safe.
//
// seen is until when all storages were seen alive, unbroken since when none of them had a gap.
func onDisk(passed, unbroken, seen time.Time, settle time.Duration) bool {
	since := passed
	if unbroken.After(since) {
		since = unbroken
	}
	return seen.Sub(since) >= settle
}

// LeastSettle is the least FORWARD_SETTLE that is safe with storages of that -inmemoryDataFlushInterval. Less than that is raised to it.
func LeastSettle(flush time.Duration) time.Duration { return leastSettle(flush, time.Second) }

// leastSettle is how long the slowest storage may need to bring rows to disk, and how long it can stand still unnoticed beyond what
// that allows for.
func leastSettle(flush, interval time.Duration) time.Duration {
	return flushSlack + 2*flush + max(0, interval-time.Second)
}
