package downstream

import (
	"errors"
	"slices"
	"strconv"
	"time"
)

const (
	// keepStarts is how many start times of former processes are remembered to see one of them again.
	keepStarts = 16
	// keepRestarts is how many times of restarts are remembered: more than can be seen within RestartMemory of one that does not jump.
	keepRestarts = 256
	// jumpMemory is how long a target counts as jumping after the last sign of it.
	jumpMemory = 10 * time.Minute
	// oddRestarts is how many restarts that a clock could explain have to come within jumpMemory to be taken for jumps.
	oddRestarts = 2
)

// A Target is what a Watch knows of one server.
type Target struct {
	Endpoint Endpoint
	Kind     Kind
	// Generation is another one when the server was given up and is watched anew: nothing is known of it from before.
	Generation int
	// Listed is whether the server is on the current list. A storage that is taken off the list is still polled while it answers.
	Listed bool
	// Polls counts the polls that have ended, whatever came of them.
	Polls int
	// Last is the last good reading, nil when there was none yet.
	Last *Reading
	// Err says why the last poll failed, nil when it was good.
	Err error
	// FailingSince is when the first of the failed polls since the last good one began; zero when the last poll was good.
	FailingSince time.Time
	// FailedPolls counts the polls that failed since the last good one.
	FailedPolls int
	// AliveSince is when the first of an unbroken row of good polls ended; zero when the last poll failed. A row is broken by a
	// failed poll, and by a longer time between two polls than there should be.
	AliveSince time.Time
	// Restarts counts how often a good reading came from another process than the one before.
	Restarts int
	// Jumping is whether several processes seem to answer at this address: a start time was seen again after another one, or
	// start times or counters went backwards repeatedly.
	Jumping bool
	// Interval is the time between the last poll and the next one. Of a vmstorage it is the longest since AliveSince: that is for how long
	// it may have stood still without breaking the row, beyond what a poll may take.
	Interval time.Duration
}

// Unusable is whether the server answered in a way that only other settings can mend.
func (t *Target) Unusable() bool { return errors.Is(t.Err, ErrUnusable) }

// Busy is whether the server answers, but says that it cannot give its metrics now.
func (t *Target) Busy() bool { return errors.Is(t.Err, ErrBusy) }

// Mute is whether the server takes connections, but does not answer.
func (t *Target) Mute() bool { return errors.Is(t.Err, ErrNoAnswer) }

// A record is a Target with what is needed to keep it up.
type record struct {
	Target
	past      []*Reading  // see remember
	restarts  []time.Time // the newest ones, oldest first
	health    Health
	healthyAt time.Time // when health began
	starts    []string  // of former processes, oldest first
	odd       []time.Time
	jumpedAt  time.Time

	clock  serverClock
	offset time.Duration // of its moments
	due    time.Time     // when it is polled next, or was polled last; zero before the first good poll
	hurry  hurry
	sooner chan struct{} // it may be due sooner; has room for one
}

// become notes what came of a poll.
func (t *record) become(h Health, at time.Time) {
	if t.health != h {
		t.health, t.healthyAt = h, at
	}
}

// healthAfter is the health after a poll that failed with Err.
func (t *record) healthAfter() Health {
	switch {
	case t.Unusable():
		return HealthUnusable
	case t.Busy():
		return HealthBusy
	case t.Mute():
		return HealthMute
	}
	return HealthUnreachable
}

// good takes in a good reading. maxGap is the longest time between the ends of two polls that leaves a row of them unbroken.
func (t *record) good(r *Reading, maxGap time.Duration) {
	t.Polls++
	t.clock.learn(r.clock)
	last := t.Last
	if last == nil || t.Err != nil || r.Ended.Sub(last.Ended) > maxGap {
		t.AliveSince = r.Ended
	}
	t.Err, t.FailingSince, t.FailedPolls, t.Last = nil, time.Time{}, 0, r
	if last != nil && !r.SameProcess(last) {
		t.restarted(last, r)
		t.past = nil
	}
	t.past = remember(t.past, r)
	t.become(HealthGood, r.Ended)
	t.Jumping = !t.jumpedAt.IsZero() && r.Ended.Sub(t.jumpedAt) < jumpMemory
}

// failed takes in a poll that failed.
func (t *record) failed(begun time.Time, err error) {
	t.Polls++
	t.FailedPolls++
	t.Err, t.AliveSince = err, time.Time{}
	t.become(t.healthAfter(), begun)
	if t.FailingSince.IsZero() {
		t.FailingSince = begun
	}
}

// restarted notes that r came from another process than last, and judges whether that is a restart. After a restart the start
// time is later and was never seen before. A clock that was put back can break that once; a balancer does it again and again.
func (t *record) restarted(last, r *Reading) {
	t.Restarts++
	t.restarts = append(t.restarts, r.Ended)
	t.restarts = t.restarts[max(0, len(t.restarts)-keepRestarts):]
	t.AliveSince = r.Ended
	seenBefore := slices.Contains(t.starts, r.Start)
	if !slices.Contains(t.starts, last.Start) {
		t.starts = append(t.starts, last.Start)
		t.starts = t.starts[max(0, len(t.starts)-keepStarts):]
	}
	if !seenBefore && startedLater(last.Start, r.Start) {
		return
	}
	t.odd = append(t.odd, r.Ended)
	t.odd = slices.DeleteFunc(t.odd, func(at time.Time) bool { return r.Ended.Sub(at) > jumpMemory })
	if (seenBefore && r.Start != last.Start) || len(t.odd) >= oddRestarts {
		t.jumpedAt = r.Ended
	}
}

func startedLater(before, now string) bool {
	b, errBefore := strconv.ParseFloat(before, 64)
	n, errNow := strconv.ParseFloat(now, 64)
	return errBefore == nil && errNow == nil && n > b
}
