package limit

import (
	"math"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// others is what other processes have told of a tenant that sends here too.
//
// What they have taken is taken out of our buckets when we hear of it. That is late: a bucket may have been full meanwhile, and what
// came in then was lost although the others were using it. So what is lost at the brim is kept in late, up to some seconds of the
// rate, and pays for what we hear of first. Without that a tenant that keeps to its limit could be refused.
//
// A tenant that sends far more than its limit to many processes at once has left a debt before they know of each other. While our
// bucket is in debt, a part of the bucket is ours: the part that we have of what the tenant wants in all. All parts together are one
// bucket, so that the tenant gets its rate, no more and no less, and gets it at every process in proportion to what it sends there.
type others struct {
	late, share  levels
	ours, theirs amounts // what was wanted, fading within wantedFor
}

const (
	// wantedFor is the time constant of what is wanted: a few times the interval at which it is told.
	wantedFor = 10 * time.Second
	// lateIntervals is how many intervals late what we hear of may be.
	lateIntervals = 3
	// lateBurst is what part of a burst processes may have taken together before one of them tells of it: each tells from
	// tellFrom of the burst on.
	lateBurst = 1.0 / 3
	// tellFrom is what part of a burst a tenant has to want before the others are told.
	tellFrom = 0.01
	// mostHeard is how many bursts one message can say to have been taken, and mostWanted to have been wanted.
	mostHeard, mostWanted = 8, 1000
	// mostDebt is how many bursts a debt can be because of what others have taken: more processes than have a tenant's flood at
	// the same time, before they know of each other.
	mostDebt = 64
)

// heard says whether others have told something that still counts.
func (o *others) heard() bool {
	for k := range kinds {
		if o.theirs[k] > tellFrom*o.ours[k] {
			return true
		}
	}
	return false
}

// demand notes what is wanted of us.
func (o *others) demand(wants amounts) {
	for k := range kinds {
		o.ours[k] += wants[k]
	}
}

func (o *others) fade(seconds float64) {
	factor := 1 / (1 + seconds/wantedFor.Seconds())
	for k := range kinds {
		o.ours[k] *= factor
		o.theirs[k] *= factor
	}
}

// part is what part of the buckets of a kind is ours, 0 to 1.
func (o *others) part(k int) float64 {
	all := o.ours[k] + o.theirs[k]
	if all == 0 {
		return 0
	}
	return o.ours[k] / all
}

// fill fills our parts, and keeps what was lost at the brim of the buckets.
func (o *others) fill(lateSeconds float64, k int, r *tenant.Rate, seconds, overSustained, overHard float64) {
	part := o.part(k)
	s, h := sustained(r), hard(r)
	s.part(part).fill(&o.share.sustained[k], seconds)
	h.part(part).fill(&o.share.hard[k], seconds)
	o.late.sustained[k] = min(o.late.sustained[k]+overSustained, s.late(lateSeconds))
	o.late.hard[k] = min(o.late.hard[k]+overHard, h.late(lateSeconds))
}

func (b bucket) part(part float64) bucket { return bucket{b.rate * part, b.burst * part} }

// late is the most that is kept of what was lost at the brim.
func (b bucket) late(seconds float64) float64 { return b.rate*seconds + b.burst*lateBurst }

// wait is in how many seconds there is something in our part of a hard bucket.
func (o *others) wait(k int, b bucket) float64 {
	level := o.share.hard[k]
	if level > 0 {
		return 0
	}
	part := o.part(k)
	if part == 0 {
		return math.Inf(1)
	}
	return max(-level/(b.rate*part), moment)
}

// hear takes out what another process has taken.
func (t *Tenant) hear(at int64, told use, prints func(yield func(fingerprint) bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.advance(at)
	plan := t.profile.Load().Plan
	if plan == nil {
		return
	}
	if t.others == nil && told != (use{}) {
		t.others = newOthers(t.registry.late, plan)
	}
	for k := range kinds {
		if r := rateOf(plan, k); r.Limits() && t.others != nil {
			t.hearOf(k, r, told)
		}
	}
	if plan.ActiveSeries > 0 {
		t.hearSeries(plan, prints)
	}
}

// newOthers assumes that the others have just come, and that all is lost at the brim until now.
func newOthers(lateSeconds float64, plan *tenant.Plan) *others {
	o := new(others)
	for k := range kinds {
		if r := rateOf(plan, k); r.Limits() {
			o.late.sustained[k], o.late.hard[k] = sustained(r).late(lateSeconds), hard(r).late(lateSeconds)
		}
	}
	return o
}

func (t *Tenant) hearOf(k int, r *tenant.Rate, told use) {
	main, bulk, refused := float64(told.main[k]), float64(told.bulk[k]), float64(told.refused[k])
	hearTaken(&t.levels.sustained[k], &t.others.late.sustained[k], main, sustained(r).burst)
	hearTaken(&t.levels.hard[k], &t.others.late.hard[k], main+bulk, hard(r).burst)
	t.others.theirs[k] += min(main+bulk+refused, mostWanted*r.Burst)
}

func hearTaken(level, late *float64, n, burst float64) {
	n = min(n, mostHeard*burst)
	paid := min(n, *late)
	*late -= paid
	take(level, n-paid, -mostDebt*burst)
}

// hearSeries makes series known that are active elsewhere: they go on here too, above the limit if need be, and count.
func (t *Tenant) hearSeries(plan *tenant.Plan, prints func(yield func(fingerprint) bool)) {
	t.sweep(t.at)
	for p := range prints {
		own := permute(p, t.registry.secret)
		slot, known := t.table.find(own)
		switch {
		case known:
			t.table.touch(slot)
		case int(t.table.count) < 2*plan.ActiveSeries:
			t.table.insert(own, slot)
		}
	}
}

// A use is what a process has to tell of a tenant: what was taken, to each lane, and what was refused.
type use struct{ main, bulk, refused [kinds]uint32 }

// add adds without running over.
func add(sum *uint32, n float64) { *sum += uint32(min(n, float64(math.MaxUint32-*sum))) }

func (u *use) undo(wants amounts, bulk bool) {
	of := &u.main
	if bulk {
		of = &u.bulk
	}
	for k := range kinds {
		of[k] -= uint32(min(wants[k], float64(of[k])))
	}
}

// tell notes that a request was taken, for the other processes.
func (t *Tenant) tell(plan *tenant.Plan, wants amounts, bulk bool) {
	if !t.registry.sharing.Load() {
		return
	}
	of := &t.unsent.main
	if bulk {
		of = &t.unsent.bulk
	}
	t.tellOf(of, plan, wants)
}

// tellRefused notes that a request was refused, for the other processes.
func (t *Tenant) tellRefused(plan *tenant.Plan, wants amounts) {
	if t.registry.sharing.Load() {
		t.tellOf(&t.unsent.refused, plan, wants)
	}
}

func (t *Tenant) tellOf(of *[kinds]uint32, plan *tenant.Plan, wants amounts) {
	worth := false
	for k := range kinds {
		r := rateOf(plan, k)
		if !r.Limits() {
			continue
		}
		add(&of[k], wants[k])
		all := float64(t.unsent.main[k]) + float64(t.unsent.bulk[k]) + float64(t.unsent.refused[k])
		worth = worth || all >= tellFrom*r.Burst
	}
	if worth {
		t.queue()
	}
}

// mostNews is how many series of a tenant are told at one time. Those that are left out are told when it is their turn: see retell.
const mostNews = 1 << 16

// announce notes a series for the other processes, when the tenant has so many that they have to know.
func (t *Tenant) announce(p fingerprint, plan *tenant.Plan) {
	if plan == nil || !t.registry.sharing.Load() || len(t.news) >= mostNews {
		return
	}
	receivers := 1 + int(t.registry.peers.Load())
	if 2*int(t.table.count)*receivers >= plan.ActiveSeries {
		t.news = append(t.news, p)
		t.queue()
	}
}

// retellEpochs is within how many epochs each series that goes on is told anew, so that the others do not forget it.
const retellEpochs = 8

// retell says whether it is the turn of a series.
func (t *Tenant) retell(p fingerprint) bool {
	return uint32(p)%retellEpochs == uint32(t.table.now)%retellEpochs
}

// queue makes sure that the others are told of this tenant next time.
func (t *Tenant) queue() {
	if t.queued {
		return
	}
	t.queued = true
	r := t.registry
	r.busyMu.Lock()
	defer r.busyMu.Unlock()
	r.busy = append(r.busy, t)
}
