package limit

import (
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// A Tenant is what is known of one tenant that sends. It is safe for concurrent use. Whoever has one need not give it back; one that
// is held for as long as LIMIT_IDLE without being used may have been forgotten, and what it is told then is lost.
type Tenant struct { // what every request needs comes first, to be in few cache lines, and before that what ranking needs
	inFlight atomic.Int32

	mu        sync.Mutex
	bulk      bool                           // the last request went to the bulk lane
	queued    bool                           // it is in registry.busy
	suspected bool                           // it is in registry.top.suspects
	at        int64                          // when levels, recent and over were brought up to date, in ns since the registry's start
	table     table                          // active series
	recent    [kinds]float32                 // what was taken, fading within recentFor
	over      float32                        // samples above the limits, refused or put off to the bulk lane, fading as well
	counts    *counts                        // in metrics: its own, or those of all the others
	profile   atomic.Pointer[tenant.Profile] // not guarded by mu
	registry  *Registry
	levels    levels
	others    *others // nil when no other process has told anything of it
	seen      int64   // when it last sent
	taken     [kinds]uint64
	takenBulk uint64 // samples
	unsent    use    // what the other processes have not been told

	id       tenant.ID
	refusals *refusals
	news     []fingerprint // active series that the others have not been told
}

// moment is the least that is waited for, in seconds: an empty bucket has something in it at once.
const moment = 0.001

// recentFor is the time constant of rates.
const recentFor = time.Minute

// faded is what is left of 1 after some ns.
func faded(ns int64) float32 { return float32(math.Exp(-float64(ns) / float64(recentFor))) }

// refusals exist for tenants of which something was refused.
type refusals struct {
	requests, samples [reasons]uint64
	reserved          uint64
	last              error
	at                int64
}

// maxErrorText is the most bytes of an error that are kept.
const maxErrorText = 500

// adopt makes p what the tenant is measured by.
func (t *Tenant) adopt(p *tenant.Profile, at int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.profile.Load()
	if before == p {
		return
	}
	t.advance(at)
	t.profile.Store(p)
	if p.Plan == nil || before.Plan == p.Plan {
		return
	}
	if before.Plan == nil {
		t.levels = full(p.Plan)
		return
	}
	for k := range kinds {
		was, is := rateOf(before.Plan, k), rateOf(p.Plan, k)
		if *was == *is || !is.Limits() {
			continue
		}
		var wasSustained, wasHard bucket
		if was.Limits() {
			wasSustained, wasHard = sustained(was), hard(was)
		}
		t.levels.sustained[k] = sustained(is).adopt(t.levels.sustained[k], wasSustained)
		t.levels.hard[k] = hard(is).adopt(t.levels.hard[k], wasHard)
	}
}

// Enter begins a request, before its body is read. Without error Leave has to be called when it ends. The error wraps ErrConcurrent.
func (t *Tenant) Enter() error {
	n := t.inFlight.Add(1)
	p := t.profile.Load()
	if p.Plan == nil || p.Plan.Concurrent == 0 || int(n) <= p.Plan.Concurrent {
		return nil
	}
	t.inFlight.Add(-1)
	err := &refusal{kind: ErrConcurrent, profile: p, reason: Concurrent, wait: leastRetry}
	t.Refused(time.Now(), Concurrent, 0, err)
	return err
}

// Leave ends a request.
func (t *Tenant) Leave() { t.inFlight.Add(-1) }

// Admit decides on a request that is about to be stored, as one. old says that all its samples were old when they came. A request that
// is refused is charged nothing; one that is taken and is not stored after all has to be given back with Undo.
func (t *Tenant) Admit(now time.Time, u Usage, old bool) Verdict {
	wants := u.amounts()
	plan, at := t.lock(now)
	defer t.mu.Unlock()
	t.seen = at
	if plan == nil {
		t.count(u, wants, old, old)
		return Verdict{Bulk: old}
	}
	if t.others != nil {
		t.others.demand(wants)
	}
	bulk := old
	wait, exceeded := 0.0, -1
	for k := range kinds {
		r := rateOf(plan, k)
		if !r.Limits() {
			continue
		}
		if seconds := t.wait(k, hard(r)); seconds > 0 {
			if exceeded < 0 {
				exceeded = k
			}
			wait = max(wait, seconds)
		}
		bulk = bulk || !t.inMain(k, wants[k], r)
	}
	if exceeded >= 0 {
		return t.refuse(u, old, exceeded, retryAfter(wait))
	}
	for k := range kinds {
		if r := rateOf(plan, k); r.Limits() {
			t.take(k, wants[k], r, bulk)
		}
	}
	t.count(u, wants, bulk, old)
	t.tell(plan, wants, bulk)
	return Verdict{Bulk: bulk}
}

// lock brings the tenant up to date, and returns with t.mu held.
func (t *Tenant) lock(now time.Time) (plan *tenant.Plan, at int64) {
	at = t.registry.since(now)
	t.mu.Lock()
	t.advance(at)
	return t.profile.Load().Plan, at
}

// advance fills the buckets with what has come in.
func (t *Tenant) advance(at int64) {
	if at <= t.at {
		return
	}
	seconds := float64(at-t.at) / float64(time.Second)
	fade := faded(at - t.at)
	t.at = at
	for k := range kinds {
		t.recent[k] *= fade
	}
	t.over *= fade
	plan := t.profile.Load().Plan
	if plan == nil {
		return
	}
	if t.others != nil {
		t.others.fade(seconds)
	}
	for k := range kinds {
		r := rateOf(plan, k)
		if !r.Limits() {
			continue
		}
		overSustained := sustained(r).fill(&t.levels.sustained[k], seconds)
		overHard := hard(r).fill(&t.levels.hard[k], seconds)
		if t.others != nil {
			t.others.fill(t.registry.late, k, r, seconds, overSustained, overHard)
		}
	}
}

// inMain says whether n may go to the main lane: it would fit into the sustained bucket, and there is something in it. One of anything
// fits into every bucket.
func (t *Tenant) inMain(k int, n float64, r *tenant.Rate) bool {
	if n > max(1, sustained(r).burst) {
		return false
	}
	return t.levels.sustained[k] > 0 || t.others != nil && t.others.share.sustained[k] > 0
}

// wait is in how many seconds there is something in the hard bucket; 0 is now.
func (t *Tenant) wait(k int, b bucket) float64 {
	level := t.levels.hard[k]
	if level > 0 {
		return 0
	}
	seconds := max(-level/b.rate, moment)
	if t.others != nil {
		seconds = min(seconds, t.others.wait(k, b))
	}
	return seconds
}

func (t *Tenant) take(k int, n float64, r *tenant.Rate, bulk bool) {
	if !bulk {
		t.takeFrom(&t.levels.sustained[k], t.share(false, k), n, -sustained(r).burst)
	}
	t.takeFrom(&t.levels.hard[k], t.share(true, k), n, noLimit)
}

// share is the level of our part of a bucket, nil when nobody shares it.
func (t *Tenant) share(hard bool, k int) *float64 {
	switch {
	case t.others == nil:
		return nil
	case hard:
		return &t.others.share.hard[k]
	default:
		return &t.others.share.sustained[k]
	}
}

// takeFrom takes n out of the bucket, and out of our part of it, which makes debts only when it was what let the request through.
func (t *Tenant) takeFrom(level, share *float64, n, lowest float64) {
	if share != nil {
		lowestShare := lowest
		if *level > 0 {
			lowestShare = 0
		}
		take(share, n, lowestShare)
	}
	take(level, n, lowest)
}

func (t *Tenant) count(u Usage, wants amounts, bulk, old bool) {
	for k := range kinds {
		t.taken[k] += uint64(wants[k])
		t.recent[k] += float32(wants[k])
	}
	t.bulk = bulk
	t.counts.samples.Add(uint64(u.Samples))
	if bulk {
		t.takenBulk += uint64(u.Samples)
		t.counts.bulk.Add(uint64(u.Samples))
	}
	if old {
		t.counts.old.Add(uint64(u.Samples))
	}
	if bulk && !old {
		t.exceed(u.Samples)
	}
}

// exceed notes samples that are above the limits.
func (t *Tenant) exceed(samples int) {
	t.over += float32(samples)
	if t.over >= leastOver && !t.suspected {
		t.suspected = t.registry.top.suspect(t)
	}
}

// A standing is what ranking needs of a tenant.
type standing struct {
	rate, over float32 // in the measure of Tenant.recent and Tenant.over
	series     int     // active ones
	shown      bool    // it has metrics of its own
}

// stands returns how t stands. It does not bring t up to date, as it is cheaper not to write.
func (t *Tenant) stands(at int64, s *shard) standing {
	t.mu.Lock()
	defer t.mu.Unlock()
	fade := faded(max(0, at-t.at))
	return standing{t.recent[Samples] * fade, t.over * fade, int(t.table.count), t.counts != &s.counts}
}

// countIn makes c what counts t from now on.
func (t *Tenant) countIn(c *counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts = c
}

// acquit makes t one that may become a suspect again.
func (t *Tenant) acquit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.suspected = false
}

// refuse is the verdict on a request for which there is nothing in a hard bucket.
func (t *Tenant) refuse(u Usage, old bool, exceeded int, wait time.Duration) Verdict {
	wants := u.amounts()
	p := t.profile.Load()
	err := &refusal{kind: ErrLimit, profile: p, reason: Reason(exceeded), value: int(wants[exceeded]), wait: wait}
	if old || u.HoldsOld {
		err.kind = ErrLimitOld
	}
	t.note(Reason(exceeded), u.Samples, err)
	t.tellRefused(p.Plan, wants)
	return Verdict{Err: err, RetryAfter: wait}
}

// Undo gives back what a request was charged that Admit let through with Verdict v and that was not stored: its sender will send it
// again. It stays counted as taken, and is counted as refused for being Unavailable too.
func (t *Tenant) Undo(now time.Time, u Usage, v Verdict, why error) {
	wants := u.amounts()
	plan, _ := t.lock(now)
	defer t.mu.Unlock()
	t.note(Unavailable, u.Samples, why)
	if plan == nil {
		return
	}
	for k := range kinds {
		r := rateOf(plan, k)
		if !r.Limits() {
			continue
		}
		if !v.Bulk {
			t.giveBack(&t.levels.sustained[k], t.share(false, k), wants[k], sustained(r))
		}
		t.giveBack(&t.levels.hard[k], t.share(true, k), wants[k], hard(r))
	}
	t.unsent.undo(wants, v.Bulk)
}

func (t *Tenant) giveBack(level, share *float64, n float64, b bucket) {
	*level = min(*level+n, b.burst)
	if share != nil {
		*share = min(*share+n, b.burst)
	}
}

// Refused counts a request, or samples of it, that was refused for another reason than by Admit and Enter. why is told in Describe;
// it may be nil.
func (t *Tenant) Refused(now time.Time, reason Reason, samples int, why error) {
	_, at := t.lock(now)
	defer t.mu.Unlock()
	t.seen = at
	t.note(reason, samples, why)
}

// Reserved counts labels and metadata fields that name a tenant and were taken out of what was sent.
func (t *Tenant) Reserved(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refusals == nil {
		t.refusals = new(refusals)
	}
	t.refusals.reserved += uint64(n)
	t.counts.reserved.Add(uint64(n))
}

func (t *Tenant) note(reason Reason, samples int, why error) {
	if t.refusals == nil {
		t.refusals = new(refusals)
	}
	t.refusals.requests[reason]++
	t.refusals.samples[reason] += uint64(samples)
	t.counts.refused[reason].Add(uint64(samples))
	if reason <= Series { // a limit
		t.exceed(samples)
	}
	if why != nil {
		t.refusals.last, t.refusals.at = bounded(why), t.at
	}
}

// bounded is what of an error is kept.
func bounded(err error) error {
	var r *refusal
	if errors.As(err, &r) {
		return r
	}
	text := tenant.Cause(err).Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return errors.New(text)
}

// Series says whether a series may be stored, and notes that it is active then: it is known already, or there is room for a new one.
// hash is the same in all processes and well mixed. It is called only for tenants with Plan.ActiveSeries.
func (t *Tenant) Series(hash uint64, now time.Time) bool {
	plan, at := t.lock(now)
	defer t.mu.Unlock()
	t.sweep(at)
	p := fingerprintOf(hash)
	own := permute(p, t.registry.secret)
	slot, known := t.table.find(own)
	if known {
		if t.table.touch(slot) && t.retell(p) {
			t.announce(p, plan)
		}
		return true
	}
	if plan != nil && plan.ActiveSeries > 0 && int(t.table.count) >= plan.ActiveSeries {
		return false
	}
	t.table.insert(own, slot)
	t.announce(p, plan)
	return true
}

// sweep forgets series of more than an hour ago. Epochs begin at another time for each tenant, so that not all are swept at once.
func (t *Tenant) sweep(at int64) {
	phase := int64(mix(t.id) % uint64(epoch))
	t.table.sweep(int32((at + phase) / int64(epoch)))
}
