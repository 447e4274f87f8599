package downstream

import (
	"net/http"
	"time"
)

const (
	// dateStep is in what steps the Date of an answer tells the time.
	dateStep = time.Second
	// clockNoise is how far the clock of a server may seem to be off, besides the time that it took to answer, and count as right.
	clockNoise = 1500 * time.Millisecond
	// driftPart is the part of the time, as its inverse, by which two clocks may have moved apart since they were compared: 200 ppm.
	driftPart = 5000
)

// A told is what an answer told of its server's clock: the Date, which is rounded down, was taken at a moment between asked, when the request
// was begun, and headed, when the head of the answer was there.
type told struct {
	known               bool
	date, asked, headed time.Time
}

// toldBy reads the Date of an answer. Nothing is known without one, or when the answer came through a proxy or a cache that
// says so, as the Date may be theirs.
func toldBy(answer http.Header, asked, headed time.Time) told {
	if answer.Get("Via") != "" || answer.Get("Age") != "" {
		return told{}
	}
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		return told{}
	}
	return told{true, date, asked, headed}
}

// ahead is the seconds by which the server's clock is ahead of our wall clock; 0 when it is no more than could be wrong with the measurement.
func (c told) ahead() Figure {
	if !c.known {
		return Unknown()
	}
	trip := c.headed.Sub(c.asked)
	ahead := c.date.Add(dateStep / 2).Sub(c.asked.Add(trip / 2))
	if ahead.Abs() < clockNoise+trip {
		ahead = 0
	}
	return Figure(ahead.Seconds())
}

// A serverClock is what is known of a server's clock from all its answers, so that processes which do not know each other can agree on moments.
// Against our monotonic clock it is at least least and at most most ahead, which is narrowed down by each answer: most of all by those that
// are asked for at full seconds.
type serverClock struct {
	since       time.Time // the moment of our monotonic clock that is 0; zero while nothing is known
	least, most time.Duration
	last        time.Time // of what it was learnt from
}

// learn takes in what an answer told. What contradicts the rest, as after the server's clock was put right, takes its place.
func (c *serverClock) learn(t told) {
	if !t.known || t.date.Year() < 1970 || t.date.Year() > 2200 { // nanoseconds can be counted for so long
		return
	}
	if c.since.IsZero() {
		c.since = t.asked
	}
	at := time.Duration(t.date.UnixNano())
	least, most := at-t.headed.Sub(c.since), at+dateStep-t.asked.Sub(c.since)
	moved := t.headed.Sub(c.last) / driftPart
	if known := !c.last.IsZero(); known && least <= c.most+moved && most >= c.least-moved {
		least, most = max(least, c.least-moved), min(most, c.most+moved)
	}
	c.least, c.most, c.last = least, most, t.headed
}

// at is the server's time at now, in Unix time: that of our wall clock if it may be right, else the middle of what it may be.
func (c *serverClock) at(now, wall time.Time) time.Time {
	if c.since.IsZero() {
		return wall
	}
	passed := now.Sub(c.since)
	if ours := time.Duration(wall.UnixNano()) - passed; ours > c.least && ours < c.most {
		return wall
	}
	return time.Unix(0, int64(c.least+(c.most-c.least)/2+passed))
}
