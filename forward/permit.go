package forward

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"
)

// Permits are what everybody who sends competes for. Each node gives out a few at a time, to those who wait in one line per lane:
//
//	main ──▶ line ──95 of 100──▶ permits of a node ──▶ visit
//	bulk ──▶ line ── 5 of 100──▶
//
// That is the share while both wait. While one line is empty the other gets all, but bulk leaves one permit of each node free,
// which main finds there when it comes, and gives its own back after each request while main waits. What bulk gets while main
// waits is its share and no more: ingestgw_forward_permits_beyond_share_total would show it.
//
// Who waits is at home at some node. For a moment he waits for that one although others have room: a burst is over soon, and
// other nodes do not know his tenants.

// The lanes, as an index.
const (
	mainLane = iota
	bulkLane
	lanes
)

// How permits are shared while both lanes wait, of 100 (design: freshest first, by one scheduler).
const (
	mainShare = 95
	bulkShare = 5
)

// homeWait is how long a node is waited for while others have room. Only a few do: as many as visit it at one time.
const homeWait = recheck

// A permit lets one parcel visit a node. It is given back with fleet.done.
type permit struct {
	node    *node
	lane    int
	strange bool
	ticket  ticket
	episode int
}

// A want is somebody who waits for a permit.
type want struct {
	lane    int
	home    *node // where its tenants belong; nil for any
	avoid   *node // taken only when there is no other; nil for none
	strange bool  // it brings tenants that the node may not know
	samples int   // that it is going to send

	since time.Time
	hasty bool        // goes to any node: many wait for the same home
	ready chan permit // has room for one
}

// A line is who waits, in the order in which they came. Who goes home is served before others.
type line []*want

// acquire waits until w may visit some node. The error is ctx's.
func (f *fleet) acquire(ctx context.Context, w *want) (permit, error) {
	f.queue(w)
	return f.await(ctx, w)
}

// queue puts w in its line. If some node has room it has its permit when queue returns.
func (f *fleet) queue(w *want) {
	w.ready, w.since = make(chan permit, 1), time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.home != nil {
		w.home.load += float64(w.samples)
		w.hasty = !w.strange && f.lines[w.lane].at(w.home) >= f.concurrency
	}
	f.lines[w.lane] = append(f.lines[w.lane], w)
	if w.home != nil {
		f.serve(w.home, w.since)
	}
	for _, n := range f.leastBusy(w.avoid) {
		if !slices.Contains(f.lines[w.lane], w) {
			return
		}
		f.serve(n, w.since)
	}
}

// leastBusy is all nodes, those with the fewest visitors first and avoid last. f.mu is held.
func (f *fleet) leastBusy(avoid *node) []*node {
	if len(f.nodes) < 2 {
		return f.nodes
	}
	nodes := slices.Clone(f.nodes)
	slices.SortStableFunc(nodes, func(a, b *node) int {
		if a == avoid || b == avoid {
			return boolToInt(a == avoid) - boolToInt(b == avoid)
		}
		return a.inFlight() - b.inFlight()
	})
	return nodes
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// await waits for the permit of who has been queued.
func (f *fleet) await(ctx context.Context, w *want) (permit, error) {
	select {
	case p := <-w.ready:
		return p, nil
	default:
	}
	for {
		timer := time.NewTimer(f.untilOpen(w))
		select {
		case p := <-w.ready:
			timer.Stop()
			return p, nil
		case <-timer.C:
			f.look()
		case <-ctx.Done():
			timer.Stop()
			f.leave(w)
			return permit{}, fmt.Errorf("wait for a node: %w", ctx.Err())
		}
	}
}

// leave takes w out of its line, or gives back what it has got meanwhile.
func (f *fleet) leave(w *want) {
	f.mu.Lock()
	f.lines[w.lane] = slices.DeleteFunc(f.lines[w.lane], func(x *want) bool { return x == w })
	f.mu.Unlock()
	select {
	case p := <-w.ready:
		f.done(p, nil)
	default:
		f.look() // the other lane may go on where w stood in the way
	}
}

// look gives out what permits there are.
func (f *fleet) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serveAll(time.Now())
}

// untilOpen is when to look again for a node: when a pause ends, or soon if only settling keeps one closed.
func (f *fleet) untilOpen(w *want) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	wait := relook
	for _, n := range f.nodes {
		switch {
		case w.strange && n.strangers[w.lane] > 0: // whoever is there gives the permit on
		case n.open(now):
			wait = min(wait, recheck)
		case now.Before(n.until):
			wait = min(wait, n.until.Sub(now))
		}
	}
	return wait
}

// waits says whether anybody waits in the lane. Those with new tenants do not count: most of them wait for each other.
func (f *fleet) waits(lane int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.lines[lane], func(w *want) bool { return !w.strange })
}

// waiting is how many wait, by lane.
func (f *fleet) waiting() (n [lanes]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, l := range f.lines {
		n[i] = len(l)
	}
	return n
}

// serveAll gives out the permits of all nodes: first to who goes home, then by the nodes that have the fewest visitors. f.mu is
// held.
func (f *fleet) serveAll(now time.Time) {
	for _, n := range f.nodes {
		f.give(n, now, true)
	}
	for _, n := range f.leastBusy(nil) {
		f.give(n, now, false)
	}
}

// serve gives out the permits of a node. f.mu is held.
func (f *fleet) serve(n *node, now time.Time) { f.give(n, now, false) }

func (f *fleet) give(n *node, now time.Time, homeOnly bool) {
	for n.open(now) && slices.Contains(f.nodes, n) {
		t, ok := f.settle.begin(n.ep)
		if !ok {
			return
		}
		w := f.next(n, now, homeOnly)
		if w == nil {
			return
		}
		f.count(n, w, now)
		f.lines[w.lane] = slices.DeleteFunc(f.lines[w.lane], func(x *want) bool { return x == w })
		n.visitors[w.lane]++
		if w.strange {
			n.strangers[w.lane]++
		}
		n.given = now
		w.ready <- permit{node: n, lane: w.lane, strange: w.strange, ticket: t, episode: n.episode}
	}
}

// next is who gets the next permit of the node; nil when nobody does. f.mu is held.
func (f *fleet) next(n *node, now time.Time, homeOnly bool) *want {
	main, bulk := f.first(mainLane, n, now), f.first(bulkLane, n, now)
	w := main
	if main == nil || bulk != nil && n.credit >= mainShare {
		w = bulk
	}
	if w == nil || homeOnly && w.home != n {
		return nil
	}
	return w
}

// first is who of the lane gets the next permit of the node if it goes to that lane: who is at home there, else who came first, else
// who would rather avoid it. f.mu is held.
func (f *fleet) first(lane int, n *node, now time.Time) *want {
	if lane == bulkLane && n.visitors[bulkLane] >= n.bulkRoom() {
		return nil
	}
	var other, reluctant *want
	for _, w := range f.lines[lane] {
		switch {
		case w.strange && n.strangers[lane] > 0:
		case w.home == n && w.avoid != n:
			return w
		case w.avoid == n:
			reluctant = cmp.Or(reluctant, w)
		case other == nil && (w.hasty || w.home == nil || now.Sub(w.since) >= w.patience() || now.Before(w.home.until)):
			other = w
		}
	}
	return cmp.Or(other, reluctant)
}

// patience is how long w waits for its home while others have room.
func (w *want) patience() time.Duration {
	if w.strange {
		return strangerWait
	}
	return homeWait
}

// at is how many wait for the node that could go there at the same time.
func (l line) at(n *node) int {
	waiting := 0
	for _, w := range l {
		if w.home == n && !w.strange {
			waiting++
		}
	}
	return waiting
}

// count keeps the accounts of a permit that w is about to get. f.mu is held.
func (f *fleet) count(n *node, w *want, now time.Time) {
	if w.home != n {
		if w.home != nil {
			w.home.load -= float64(w.samples)
		}
		n.load += float64(w.samples)
	}
	m := f.metrics.lanes[w.lane]
	m.permits.Inc()
	m.waited.Add(now.Sub(w.since).Seconds())
	if f.first(1-w.lane, n, now) == nil {
		return
	}
	n.contended[w.lane]++
	m.contended.Inc()
	if w.lane == mainLane {
		n.credit = min(n.credit+bulkShare, mainShare)
		return
	}
	n.credit -= mainShare
	if n.contended[bulkLane]*mainShare > n.contended[mainLane]*bulkShare {
		m.beyond.Inc()
	}
}

// bulkRoom is the most permits that bulk has at one time: one less than all, unless there is only one.
func (n *node) bulkRoom() int { return max(1, n.limit-1) }
