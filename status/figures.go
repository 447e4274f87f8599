package status

import (
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

// figures are the metrics of the process at one moment: what /metrics shows, so that the page cannot say anything else.
type figures struct{ *gathered.Moment }

// sum adds up the series that match; unknown if there is none.
func (f *figures) sum(name string, match ...string) downstream.Figure {
	return downstream.Figure(f.Sum(name, match...))
}

// A span is two moments, from whose difference rates are made.
type span struct {
	then *figures // nil when there is none yet
	now  *figures
}

func (s span) gathered() gathered.Span {
	if s.then == nil {
		return gathered.Span{Now: s.now.Moment}
	}
	return gathered.Span{Then: s.then.Moment, Now: s.now.Moment}
}

// rate is by how much counters that match have grown per second; unknown if there is no counter or no earlier moment.
func (s span) rate(name string, match ...string) downstream.Figure {
	return downstream.Figure(s.gathered().Rate(name, match...))
}

// rates is rate per value of a label; nil if there is no earlier moment.
func (s span) rates(name, label string, match ...string) map[string]downstream.Figure {
	return numbers(s.gathered().Rates(name, label, match...))
}

func numbers(m map[string]float64) map[string]downstream.Figure {
	if m == nil {
		return nil
	}
	all := map[string]downstream.Figure{}
	for name, v := range m {
		all[name] = downstream.Figure(v)
	}
	return all
}

// mean is the mean of what a histogram has seen in the span; unknown if that is nothing.
func (s span) mean(name string, match ...string) downstream.Figure {
	return downstream.Figure(s.gathered().Mean(name, match...))
}

// means is mean per value of a label, without those for which it is unknown.
func (s span) means(name, label string) map[string]downstream.Figure {
	return numbers(s.gathered().Means(name, label))
}
