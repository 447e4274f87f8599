package tenant

import (
	"math"
	"testing"
)

func TestWhatARateDoesNotSayIsFilledIn(t *testing.T) {
	for _, c := range []struct {
		perSecond, burst, hard float64
		want                   Rate
	}{
		{0, 0, 0, Rate{}},
		{100, 0, 0, Rate{PerSecond: 100, Burst: 1500, Hard: 200}},
		{100, 5, 0, Rate{PerSecond: 100, Burst: 5, Hard: 200}},
		{100, 0, 100, Rate{PerSecond: 100, Burst: 1500, Hard: 100}},
		{0.01, 0, 0, Rate{PerSecond: 0.01, Burst: 1, Hard: 0.02}},
	} {
		r, err := NewRate(c.perSecond, c.burst, c.hard)
		if err != nil || r != c.want || r.Limits() != (c.perSecond > 0) {
			t.Errorf("%+v: got %+v, %v, a limit: %v", c, r, err, r.Limits())
		}
	}
}

func TestRatesThatCannotBeAreRefused(t *testing.T) {
	for _, c := range [][3]float64{
		{-1, 0, 0}, {1, -1, 0}, {1, 0, -1}, {math.NaN(), 0, 0}, {1, math.NaN(), 0}, {1, 0, math.NaN()},
		{math.Inf(1), 0, 0}, {1, math.Inf(1), 0}, {1, 0, math.Inf(1)}, {math.Inf(-1), 0, 0},
		{0, 1, 0}, {0, 0, 1}, {2, 0, 1}, {math.MaxFloat64, 0, 0},
	} {
		if r, err := NewRate(c[0], c[1], c[2]); err == nil {
			t.Errorf("%v: got %+v, want an error", c, r)
		}
	}
}
