package alarm

import (
	"math"
	"slices"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// hours of history are kept, a point a minute: one more than a day, for the same time yesterday.
	historyLength = 25 * 60
	// leastCalm is how many minutes without a backlog are needed to say what is usual.
	leastCalm = 10
	hour      = 60
	// recently and beforehand are in minutes: what is now, and what is too near to now to be before.
	recently   = 2
	beforehand = 10
	// yesterday is half the time around the same time yesterday that is looked at.
	aDay      = 24 * 60
	yesterday = 5
)

// loads remembers how much was offered in each minute of the last day, to all processes that receive: when there are more of them,
// each gets less. It takes it that others get as much as this one.
type loads struct {
	began time.Time // of the minute that is not over
	count float64   // of samples then
	calm  bool      // nothing has waited for long in it
	rates []float64 // one per minute, the newest last
	calms []bool
}

// add takes the counter of samples now and how many processes receive, and says what is usual for one of them.
func (l *loads) add(now time.Time, count, processes float64, calm bool) Load {
	switch {
	case math.IsNaN(count):
	case l.began.IsZero():
		l.began, l.count, l.calm = now, count, calm
	case now.Sub(l.began) >= time.Minute:
		l.put(processes*max(0, count-l.count)/now.Sub(l.began).Seconds(), l.calm && calm)
		l.began, l.count, l.calm = now, count, calm
	default:
		l.calm = l.calm && calm
	}
	one := downstream.Figure(processes)
	return Load{Usual: l.usual() / one, Recent: l.mean(recently, 0) / one, Before: l.before() / one, Yesterday: l.mean(2*yesterday, aDay-yesterday) / one}
}

func (l *loads) put(rate float64, calm bool) {
	l.rates, l.calms = append(l.rates, rate), append(l.calms, calm)
	if extra := len(l.rates) - historyLength; extra > 0 {
		l.rates, l.calms = slices.Delete(l.rates, 0, extra), slices.Delete(l.calms, 0, extra)
	}
}

// usual is the median of the calm minutes of the last hour of them.
func (l *loads) usual() downstream.Figure {
	var calm []downstream.Figure
	for i := len(l.rates) - 1; i >= 0 && len(calm) < hour; i-- {
		if l.calms[i] {
			calm = append(calm, downstream.Figure(l.rates[i]))
		}
	}
	if len(calm) < leastCalm {
		return downstream.Unknown()
	}
	return median(calm)
}

// mean is that of n minutes, the last of them ago minutes old; unknown when there are not as many.
func (l *loads) mean(n, ago int) downstream.Figure {
	end := len(l.rates) - ago
	if end-n < 0 {
		return downstream.Unknown()
	}
	total := 0.0
	for _, rate := range l.rates[end-n : end] {
		total += rate
	}
	return downstream.Figure(total / float64(n))
}

// before is the median of the hour before the last minutes; unknown before half of it is known.
func (l *loads) before() downstream.Figure {
	end := len(l.rates) - beforehand
	if end < hour/2 {
		return downstream.Unknown()
	}
	var all []downstream.Figure
	for _, rate := range l.rates[max(0, end-hour):end] {
		all = append(all, downstream.Figure(rate))
	}
	return median(all)
}

// median is the middle one, the lower of two; unknown of none.
func median(all []downstream.Figure) downstream.Figure {
	if len(all) == 0 {
		return downstream.Unknown()
	}
	slices.Sort(all)
	return all[(len(all)-1)/2]
}
