package tenant

import (
	"errors"
	"fmt"
	"math"
)

// A Plan is how much a tenant may send. It does not change.
type Plan struct {
	// Name is what people call the plan; it is in the answer to who goes beyond it.
	Name string
	// Samples, Bytes (of request bodies as sent) and Requests per second.
	Samples, Bytes, Requests Rate
	// ActiveSeries is the most different series within an hour. Those that are known go on when there are so many; others are
	// refused. 0 is no limit.
	ActiveSeries int
	// Concurrent is the most requests at one time. 0 is no limit.
	Concurrent int
}

// A Rate is a limit per second. The zero Rate is no limit.
//
// What is within PerSecond in the long run, and within Burst at once, is taken as usual. What is above it is taken too, but waits
// in the bulk lane, where it keeps nobody waiting; so does one request of more than Burst. What is above Hard is refused.
type Rate struct {
	// PerSecond is sustained.
	PerSecond float64
	// Burst is how much may come at once after a pause.
	Burst float64
	// Hard is per second too, and at least PerSecond.
	Hard float64
}

const (
	// burstSeconds is a Burst that is not given, in seconds of PerSecond: what Prometheus sends after a scrape interval of silence.
	burstSeconds = 15
	// hardFactor is a Hard that is not given, in multiples of PerSecond.
	hardFactor = 2
)

// NewRate fills in what is 0: Burst with 15 s of perSecond, at least 1, and Hard with twice perSecond. The error says what cannot be.
func NewRate(perSecond, burst, hard float64) (Rate, error) {
	for _, v := range [...]float64{perSecond, burst, hard} {
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			return Rate{}, fmt.Errorf("a rate of %v: want a number, 0 or more", v)
		}
	}
	if perSecond == 0 {
		if burst != 0 || hard != 0 {
			return Rate{}, errors.New("burst and hard need a rate per second")
		}
		return Rate{}, nil
	}
	r := Rate{PerSecond: perSecond, Burst: burst, Hard: hard}
	if burst == 0 {
		r.Burst = max(1, burstSeconds*perSecond)
	}
	if hard == 0 {
		r.Hard = hardFactor * perSecond
	}
	if math.IsInf(r.Burst, 0) || math.IsInf(r.Hard, 0) {
		return Rate{}, fmt.Errorf("a rate of %v: too large", perSecond)
	}
	if r.Hard < r.PerSecond {
		return Rate{}, fmt.Errorf("the hard limit of %v a second is below the sustained rate of %v", hard, perSecond)
	}
	return r, nil
}

// Limits says whether r is a limit at all.
func (r Rate) Limits() bool { return r.PerSecond > 0 }
