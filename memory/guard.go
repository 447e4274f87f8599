package memory

import (
	"slices"
	"time"
)

// timing is how long things take until something is done about them. All of it follows from INGESTGW_MEMORY_GC_MAX_TIME.
type timing struct {
	every  time.Duration // between samples
	window time.Duration // of readings
	trial  time.Duration // above the share until a change is taken back; of load below it until it is good
	press  time.Duration // of a death spiral until budgets are halved, and halved again
	calm   time.Duration // without one until they are doubled again
}

func timingOf(maxTime time.Duration) timing {
	return timing{every: min(time.Second, maxTime/10), window: maxTime / 3, trial: maxTime, press: maxTime / 6, calm: maxTime}
}

// clearly is how far below a threshold a figure has to be for something to be over. A process that collects all the time shows shares
// around the default of 25 %, now above and now below.
const clearly = 0.8

// maxLevel is how often budgets are halved at most.
const maxLevel = 3

// maxGoods is how many good values are remembered.
const maxGoods = 4

// Standing is what is known of the values in force.
type Standing string

// The standings.
const (
	// Good: configured, or in force for long enough under load, with room for what is live, without making collecting too dear.
	Good Standing = "good"
	// OnTrial: changed live, and not good yet.
	OnTrial Standing = "on trial"
	// Costly: collecting has cost too much for too long. They stay in force if there are no good ones to go back to.
	Costly Standing = "costly"
)

// A guard decides what to do about Readings. Its time is that of the Readings it is given.
type guard struct {
	timing
	maxShare float64

	configured, inForce State
	// goods are values that were good and have not been shown otherwise since, the last one last. Those that were proved with little
	// to do may turn out dear at the next peak, so that there has to be something before them.
	goods    []State
	standing Standing
	since    time.Time // the values are in force

	last   time.Time
	above  time.Time     // since when collecting has cost too much, with moments a little below; zero when it does not
	loaded time.Duration // under load without that, less what of it was without room

	level int       // how often budgets are halved
	tight time.Time // since when there is a death spiral, or it led to a step; zero when there is none
	eased time.Time // since when there is none, or that led to a step; zero when there is one
}

func newGuard(t timing, maxShare float64, now time.Time, configured State) *guard {
	return &guard{timing: t, maxShare: maxShare, configured: configured, inForce: configured,
		goods: []State{configured}, standing: Good, since: now}
}

// change says that other values are in force from now on.
func (g *guard) change(now time.Time, s State) {
	g.inForce, g.since, g.standing = s, now, OnTrial
	if slices.ContainsFunc(g.goods, s.same) {
		g.isGood(s)
	}
	g.above, g.loaded = time.Time{}, 0
}

// isGood makes s the last good values; it is in force.
func (g *guard) isGood(s State) {
	g.standing = Good
	g.goods = append(slices.DeleteFunc(g.goods, s.same), s)
	if len(g.goods) > maxGoods { // the oldest goes, but not what is configured
		oldest := slices.IndexFunc(g.goods, func(s State) bool { return !s.same(g.configured) })
		g.goods = slices.Delete(g.goods, oldest, oldest+1)
	}
}

// lastGood is nil when nothing is known to be good.
func (g *guard) lastGood() *State {
	if len(g.goods) == 0 {
		return nil
	}
	s := g.goods[len(g.goods)-1]
	return &s
}

// An action is what a step asks for.
type action struct {
	// revert is what has to be put in force again; nil mostly.
	revert *State
	// costly says that the values in force have just been found to be, and that there are none to go back to.
	costly bool
	// proved says that the values in force have just been found to be good.
	proved bool
	// level is 1 when budgets have to be halved, -1 when they have to be doubled.
	level int
}

// step takes the reading of now.
func (g *guard) step(now time.Time, r Reading) action {
	if !g.last.IsZero() && now.Sub(g.last) > g.window { // nobody knows what was in between
		g.above, g.tight, g.eased = time.Time{}, time.Time{}, time.Time{}
	}
	g.last = now
	var a action
	a.level = g.stepLevel(now, r)
	g.stepTrial(now, r, &a)
	return a
}

func (g *guard) stepTrial(now time.Time, r Reading, a *action) {
	if !r.above(g.maxShare) {
		if !r.above(g.maxShare * clearly) {
			g.above = time.Time{}
		}
		if g.level == 0 { // with smaller budgets anything might do
			g.load(min(r.loaded, now.Sub(g.since)), r.roomy()) // a collection tells of all time since the one before it
		}
		if g.standing != Good && g.loaded >= g.trial {
			g.isGood(g.inForce)
			a.proved = true
		}
		return
	}
	g.loaded = 0
	if g.above.IsZero() {
		g.above = now
	}
	if now.Sub(g.above) >= g.trial && g.standing != Costly {
		g.shownOtherwise(a)
	}
}

// load notes time under load. Without room a little more to do makes collecting dear, however little it costs now; moments of that prove
// nothing either, as what is allocated during a collection counts as live after it.
func (g *guard) load(d time.Duration, roomy bool) {
	if !roomy {
		d = -d
	}
	g.loaded = max(0, g.loaded+d)
}

// shownOtherwise takes a change back. There is nothing to take back of what is configured, unless it was known to be costly and
// somebody has put it in force again.
func (g *guard) shownOtherwise(a *action) {
	wasGood := g.standing == Good
	g.goods = slices.DeleteFunc(g.goods, g.inForce.same)
	if a.revert = g.lastGood(); a.revert == nil || wasGood && g.inForce.same(g.configured) {
		a.revert, g.standing, a.costly = nil, Costly, true
	}
}

// stepLevel halves budgets while there is a death spiral, and doubles them when it is clearly over. In between nothing begins and
// nothing ends.
func (g *guard) stepLevel(now time.Time, r Reading) (by int) {
	switch {
	case r.tight(tightLive, tightShare):
		g.eased = time.Time{}
		if g.tight.IsZero() {
			g.tight = now
		}
		if now.Sub(g.tight) >= g.press && g.level < maxLevel {
			g.level++
			g.tight = now
			return 1
		}
	case r.tight(tightLive*clearly, tightShare*clearly):
		g.eased = time.Time{}
	default:
		g.tight = time.Time{}
		if g.eased.IsZero() {
			g.eased = now
		}
		if now.Sub(g.eased) >= g.calm && g.level > 0 {
			g.level--
			g.eased = now
			return -1
		}
	}
	return 0
}
