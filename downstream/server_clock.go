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
)

// A serverClock is what an answer told of its server's clock.
type serverClock struct {
	known bool
	ahead time.Duration // of ours; 0 when it is no more than could be wrong with the measurement
}

// clockOf compares the Date of an answer with our clock. asked is when the request was begun and told when the head of the answer was
// there: the Date is of a moment between the two. Nothing is known without a Date, or when the answer came through a proxy or a cache that
// says so, as the Date may be theirs.
func clockOf(answer http.Header, asked, told time.Time) serverClock {
	if answer.Get("Via") != "" || answer.Get("Age") != "" {
		return serverClock{}
	}
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		return serverClock{}
	}
	trip := told.Sub(asked)
	ahead := date.Add(dateStep / 2).Sub(asked.Add(trip / 2)) // the Date is rounded down
	if ahead.Abs() < clockNoise+trip {
		ahead = 0
	}
	return serverClock{known: true, ahead: ahead}
}

// figure is the seconds by which the server's clock is ahead.
func (c serverClock) figure() Figure {
	if !c.known {
		return Unknown()
	}
	return Figure(c.ahead.Seconds())
}
