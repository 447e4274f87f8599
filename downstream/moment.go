package downstream

import (
	"hash/fnv"
	"time"
)

// Processes that poll a server at the same moments share one page (CacheAge), so that all but the first cost it little more than the
// transfer. They find these moments without talking to each other: by the server's clock, they are the multiples of the interval in Unix time,
// plus an offset of full seconds that follows from the server's name, so that servers are polled one after the other. Intervals of several
// processes are powers of two of pollInterval, so that they agree although the page that they have seen is not quite of the same size; where
// they do not, every other moment is shared.
//
// The server's clock is what all of them see, whatever their own say: in the Date of its answers, in full seconds. An answer that is asked
// for at a full second tells whether that had come already, so each halves what is not known (serverClock.learn), until that is about as
// long as an answer takes. While our own clock contradicts no answer, it is believed, since it is finer.
//
// Clocks lie, so they only choose the moment, within one interval from the earliest time that a monotonic clock allows: one that jumps
// neither stops polling nor makes it busy.
//
// KNOWN GAP: where a proxy gives answers a Date of its own, and the clocks of processes are more than a second apart, they share nothing.
// Then each poll costs a page of its own. And those that share ask for all copies at once: 540 MB for 30 processes at a page of 18 MB.

const (
	// maxInterval is the longest time between two good polls: no page is so large that it has to be longer.
	maxInterval = 1 << 12 * pollInterval
	// latePart is the part of an interval, as its inverse, by which a poll may follow the last one sooner: timers are late, and wall clocks are
	// put right little by little.
	latePart = 8
)

// roundUp is the shortest interval in use that is no shorter than d, or maxInterval.
func roundUp(d time.Duration) time.Duration {
	interval := pollInterval
	for interval < d && interval < maxInterval {
		interval *= 2
	}
	return interval
}

// offsetOf is what a server's moments are after the multiples of the interval: full seconds, at which its clock can be learnt. Servers that are polled
// each second are polled at the same moment; there are not enough of them to mind (ownShare).
func offsetOf(server string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(server))
	return time.Duration(h.Sum64()%uint64(maxInterval/dateStep)) * dateStep
}

// untilMoment is the time from wall, the time by the server, until the first moment that is at least so far away. It is less than an interval more than that,
// whatever wall is.
func untilMoment(wall time.Time, offset, interval, atLeast time.Duration) time.Duration {
	past := (wall.UnixNano() - int64(offset) + int64(atLeast)) % int64(interval) // since the last moment, or before the next one
	if past < 0 {
		past += int64(interval)
	}
	if past == 0 {
		return atLeast
	}
	return atLeast + interval - time.Duration(past)
}

// A turn is the time between two polls of a server, of which the first one was good.
type turn struct {
	begun, ended time.Time     // of the first poll
	usual        time.Duration // interval
	// owed is when a poll would have been due if the first one had not come sooner, out of turn; zero if it had not.
	owed time.Time
}

// next is when the next poll is due, if nobody hurries.
func (n turn) next(now, wall time.Time, offset time.Duration) time.Time {
	due := n.moment(now, wall, offset, n.usual)
	if n.owed.Before(due) && !n.owed.Before(now.Add(n.earliest(now, hurryInterval))) {
		return n.owed
	}
	return due
}

// hurried is when it is due if somebody does.
func (n turn) hurried(now, wall time.Time, offset time.Duration) time.Time {
	return n.moment(now, wall, offset, hurryInterval)
}

// moment is the first one of the interval's that is not too early.
func (n turn) moment(now, wall time.Time, offset, interval time.Duration) time.Time {
	return now.Add(untilMoment(wall, offset, interval, n.earliest(now, interval)))
}

// earliest is from when on it is not too early: the first poll began an interval ago, or nearly, and ended half an interval ago.
func (n turn) earliest(now time.Time, interval time.Duration) time.Duration {
	return max(0, n.begun.Add(interval-interval/latePart).Sub(now), n.ended.Add(interval/2).Sub(now))
}
