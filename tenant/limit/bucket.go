package limit

import (
	"math"

	"github.com/ingestgw/ingestgw/tenant"
)

// kinds is how many rates a plan has. They are numbered as their reasons are: Samples, Bytes, Requests.
const kinds = 3

// amounts are one of each kind.
type amounts [kinds]float64

func (u Usage) amounts() amounts {
	return amounts{float64(u.Samples), float64(u.Bytes), float64(u.Requests)}
}

func rateOf(plan *tenant.Plan, kind int) *tenant.Rate {
	switch Reason(kind) {
	case Samples:
		return &plan.Samples
	case Bytes:
		return &plan.Bytes
	default:
		return &plan.Requests
	}
}

// A bucket is how much there may be in one, and what comes in per second.
type bucket struct{ rate, burst float64 }

func sustained(r *tenant.Rate) bucket { return bucket{r.PerSecond, r.Burst} }

func hard(r *tenant.Rate) bucket { return bucket{r.Hard, r.Burst * r.Hard / r.PerSecond} }

// levels are what is in the buckets of one tenant; below 0 is a debt.
type levels struct{ sustained, hard amounts }

// full are the levels of a tenant that has not sent yet.
func full(plan *tenant.Plan) (l levels) {
	if plan == nil {
		return l
	}
	for k := range kinds {
		if r := rateOf(plan, k); r.Limits() {
			l.sustained[k], l.hard[k] = sustained(r).burst, hard(r).burst
		}
	}
	return l
}

// fill adds what comes in within some seconds, and returns what did not find room.
func (b bucket) fill(level *float64, seconds float64) (over float64) {
	*level += seconds * b.rate
	if over = *level - b.burst; over > 0 {
		*level = b.burst
		return over
	}
	return 0
}

// take takes n out, into a debt of lowest at most; a debt that is larger already stays.
func take(level *float64, n, lowest float64) { *level = max(*level-n, min(*level, lowest)) }

// adopt is the level when a bucket becomes another one: what had been taken out is out of the new one too, but makes no debt.
func (b bucket) adopt(level float64, before bucket) float64 {
	if before.rate == 0 {
		return b.burst
	}
	used := before.burst - level
	return min(b.burst, max(b.burst-used, min(level, 0)))
}

var noLimit = math.Inf(-1)
