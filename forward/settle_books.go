package forward

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// bucketLength is how long blocks go into the same bucket.
	bucketLength = time.Second
	// openAtOnce is how many sets of nodes have buckets of their own within that time; the rest share one.
	openAtOnce = 32
	// maxBuckets and maxSpans bound the books. When they are passed, neighbouring buckets become one: what waits long
	// settles a little later, and memory does not grow with what waits.
	maxBuckets = 256
	maxSpans   = 16384
)

// books are the blocks that were sent and are not settled. They are kept by the second in which they were sent and the nodes
// they went to, not one by one.
type books struct {
	buckets []*bucket // oldest first
	open    map[string]*bucket
}

// A bucket holds blocks that share a fate.
type bucket struct {
	opened   time.Time
	sent     time.Time // when the last block in it had got its 2xx
	storages int       // epoch of the storages before the first POST
	legs     map[string]*leg
	byTime   bool           // some of it went to nodes that cannot be watched
	clocked  map[string]int // epochs of those nodes, as far as they have any
	parts    map[settlePartition]spans
}

func newBooks() *books { return &books{open: map[string]*bucket{}} }

// enter books a block.
func (bk *books) enter(part settlePartition, off buffer.Offset, tickets []ticket, now time.Time) {
	key := nodesOf(tickets)
	b := bk.open[key]
	if b == nil || now.Sub(b.opened) >= bucketLength {
		bk.close(now)
		if len(bk.open) >= openAtOnce {
			key = ""
		}
		b = bk.open[key]
	}
	if b == nil {
		b = &bucket{opened: now, storages: tickets[0].storages, legs: map[string]*leg{}, parts: map[settlePartition]spans{}}
		bk.open[key] = b
		bk.buckets = append(bk.buckets, b)
	}
	b.sent = now
	for _, t := range tickets {
		b.board(t)
	}
	b.parts[part] = b.parts[part].add(buffer.Span{From: off, To: off + 1})
}

// close takes buckets that are full from the open ones, and keeps the books small.
func (bk *books) close(now time.Time) {
	for key, b := range bk.open {
		if now.Sub(b.opened) >= bucketLength {
			delete(bk.open, key)
		}
	}
	if len(bk.buckets) > maxBuckets || bk.spanCount() > maxSpans {
		bk.coalesce(now)
	}
}

// coalesce makes one bucket of every two neighbours that are not open, if what they hold was sent within a short time, measured by
// how long ago that was. So there are the fewer the older they are, and one that has waited long never waits for what was sent just
// now: under steady traffic nothing would settle then.
func (bk *books) coalesce(now time.Time) {
	isOpen := map[*bucket]bool{}
	for _, b := range bk.open {
		isOpen[b] = true
	}
	var kept []*bucket
	for i := 0; i < len(bk.buckets); i++ {
		b := bk.buckets[i]
		if i+1 < len(bk.buckets) && !isOpen[b] && !isOpen[bk.buckets[i+1]] && contemporary(b, bk.buckets[i+1], now) {
			bk.buckets[i+1].absorb(b)
			b = bk.buckets[i+1]
			i++
		}
		kept = append(kept, b)
	}
	bk.buckets = kept
}

// contemporary says whether two buckets were filled at about the same time.
func contemporary(older, newer *bucket, now time.Time) bool {
	last := later(older.sent, newer.sent)
	return 4*last.Sub(older.opened) <= now.Sub(last)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (bk *books) forget(part settlePartition) {
	for _, b := range bk.buckets {
		delete(b.parts, part)
	}
	bk.dropEmpty()
}

// dropEmpty takes out the buckets without blocks. One that is open is closed by that.
func (bk *books) dropEmpty() {
	bk.buckets = slices.DeleteFunc(bk.buckets, func(b *bucket) bool { return len(b.parts) == 0 })
	for key, b := range bk.open {
		if len(b.parts) == 0 {
			delete(bk.open, key)
		}
	}
}

func (bk *books) spanCount() int {
	n := 0
	for _, b := range bk.buckets {
		for _, list := range b.parts {
			n += len(list)
		}
	}
	return n
}

func nodesOf(tickets []ticket) string {
	if len(tickets) == 1 {
		return tickets[0].node
	}
	names := make([]string, len(tickets))
	for i, t := range tickets {
		names[i] = t.node
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// board puts the ticket of a POST into the bucket. Of two for the same node the older one counts.
func (b *bucket) board(t ticket) {
	b.storages = min(b.storages, t.storages)
	if t.byTime {
		b.byTime = true
		if t.node != "" {
			b.clock(t.node, t.epoch)
		}
		return
	}
	l := b.legs[t.node]
	if l == nil {
		b.legs[t.node] = &leg{epoch: t.epoch, before: t.before}
		return
	}
	l.epoch = min(l.epoch, t.epoch)
	l.before = older(l.before, t.before)
}

func (b *bucket) clock(node string, epoch int) {
	if b.clocked == nil {
		b.clocked = map[string]int{}
	}
	if known, ok := b.clocked[node]; !ok || epoch < known {
		b.clocked[node] = epoch
	}
}

func older(a, b *downstream.Reading) *downstream.Reading {
	if b.Ended.Before(a.Ended) {
		return b
	}
	return a
}

// absorb takes over the blocks of an older bucket. Proof for what was sent later is proof for what was sent earlier to the same
// place, so where both went the newer one's state is kept. The older one may have got its last answer later.
func (b *bucket) absorb(old *bucket) {
	b.opened = old.opened
	b.sent = later(b.sent, old.sent)
	b.storages = min(b.storages, old.storages)
	b.byTime = b.byTime || old.byTime
	for node, epoch := range old.clocked {
		b.clock(node, epoch)
	}
	for node, l := range old.legs {
		if mine := b.legs[node]; mine != nil {
			mine.absorb(l)
		} else {
			b.legs[node] = l
		}
	}
	for part, list := range old.parts {
		for _, span := range list {
			b.parts[part] = b.parts[part].add(span)
		}
	}
}

func (l *leg) absorb(old *leg) {
	if !old.passed.IsZero() {
		if !l.passed.IsZero() {
			l.passed = later(l.passed, old.passed)
		}
		return
	}
	l.epoch = min(l.epoch, old.epoch)
	switch {
	case l.crossings == nil && old.crossings == nil:
		l.before = older(l.before, old.before)
	case l.crossings == nil:
		l.waitFor(old)
	case old.crossings == nil: // its bucket was filled for longer
		observed := *l
		l.crossings, l.before, l.passed = nil, old.before, time.Time{}
		l.waitFor(&observed)
	default:
		for path, c := range old.crossings {
			if l.crossings[path] == nil {
				l.crossings[path] = c
				l.passed = time.Time{}
			}
		}
	}
}

// waitFor makes l, which has not been observed, follow the queues that another leg waits on, although they may have received nothing
// since l's ticket: they look as if they had. Both are followed from l's first reading then.
func (l *leg) waitFor(other *leg) {
	if !other.passed.IsZero() {
		return
	}
	before := *l.before
	before.Paths = make(map[downstream.Path]downstream.Passage, len(l.before.Paths))
	for path, p := range l.before.Paths {
		if c := other.crossings[path]; c != nil && c.passed.IsZero() {
			p = downstream.Passage{Received: -1}
		}
		before.Paths[path] = p
	}
	l.before = &before
}

func (b *bucket) blocks() int {
	n := 0
	for _, list := range b.parts {
		n += list.blocks()
	}
	return n
}

// moveTo hands the bucket's blocks over.
func (b *bucket) moveTo(out map[settlePartition]spans) {
	for part, list := range b.parts {
		for _, span := range list {
			out[part] = out[part].add(span)
		}
	}
	b.parts = nil
}

// spans are sorted, disjoint, and none touches the next.
type spans []buffer.Span

// add puts a span in. What it overlaps or touches becomes one with it.
func (s spans) add(n buffer.Span) spans {
	first, _ := slices.BinarySearchFunc(s, n.From, func(x buffer.Span, from buffer.Offset) int { return cmp.Compare(x.To, from) })
	last := first
	for last < len(s) && s[last].From <= n.To {
		n.From, n.To = min(n.From, s[last].From), max(n.To, s[last].To)
		last++
	}
	return slices.Replace(s, first, last, n)
}

func (s spans) blocks() int {
	n := 0
	for _, span := range s {
		n += int(span.To - span.From)
	}
	return n
}
