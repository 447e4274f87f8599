package status

import (
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// figures are the metrics of the process at one moment: what /metrics shows, so that the page cannot say anything else.
type figures struct {
	at time.Time
	// of has the series of each metric. A histogram is two, its _sum and its _count.
	of map[string][]series
}

// A series is one line of /metrics.
type series struct {
	labels []*dto.LabelPair
	value  float64
}

// label returns the value of a label, "" if there is none.
func (s series) label(name string) string {
	for _, l := range s.labels {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// fits says whether the labels have the values in match, which are pairs of name and value.
func (s series) fits(match []string) bool {
	for i := 0; i+1 < len(match); i += 2 {
		if s.label(match[i]) != match[i+1] {
			return false
		}
	}
	return true
}

// shown is what the names of metrics begin with that figures keeps.
var shown = []string{"ingestgw_", "process_"}

func newFigures(at time.Time, families []*dto.MetricFamily) *figures {
	f := &figures{at: at, of: make(map[string][]series, len(families))}
	for _, family := range families {
		if slices.ContainsFunc(shown, func(p string) bool { return strings.HasPrefix(family.GetName(), p) }) {
			f.add(family)
		}
	}
	return f
}

func (f *figures) add(family *dto.MetricFamily) {
	name := family.GetName()
	for _, m := range family.GetMetric() {
		switch {
		case m.GetHistogram() != nil:
			h := m.GetHistogram()
			f.of[name+"_sum"] = append(f.of[name+"_sum"], series{m.GetLabel(), h.GetSampleSum()})
			f.of[name+"_count"] = append(f.of[name+"_count"], series{m.GetLabel(), float64(h.GetSampleCount())})
		case m.GetCounter() != nil:
			f.of[name] = append(f.of[name], series{m.GetLabel(), m.GetCounter().GetValue()})
		case m.GetGauge() != nil:
			f.of[name] = append(f.of[name], series{m.GetLabel(), m.GetGauge().GetValue()})
		}
	}
}

// has says whether there is such a metric.
func (f *figures) has(name string) bool { return f != nil && len(f.of[name]) > 0 }

// sum adds up the series that match; unknown if there is none.
func (f *figures) sum(name string, match ...string) Number {
	return f.fold(name, match, func(a, b float64) float64 { return a + b })
}

// greatest is the greatest of the series that match; unknown if there is none.
func (f *figures) greatest(name string, match ...string) Number {
	return f.fold(name, match, math.Max)
}

func (f *figures) fold(name string, match []string, join func(a, b float64) float64) Number {
	total := unknown
	if f == nil {
		return total
	}
	for _, s := range f.of[name] {
		if !s.fits(match) {
			continue
		}
		if !total.Known() {
			total = Number(s.value)
			continue
		}
		total = Number(join(float64(total), s.value))
	}
	return total
}

// values lists the values that a label of a metric has, in the order of /metrics.
func (f *figures) values(name, label string) []string {
	var all []string
	seen := map[string]bool{}
	for _, s := range f.of[name] {
		if v := s.label(label); !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
	return all
}

// by adds up the series that match per value of a label.
func (f *figures) by(name, label string, match ...string) map[string]float64 {
	sums := map[string]float64{}
	if f == nil {
		return sums
	}
	for _, s := range f.of[name] {
		if s.fits(match) {
			sums[s.label(label)] += s.value
		}
	}
	return sums
}

// A span is two moments, from whose difference rates are made.
type span struct {
	then *figures // nil when there is none yet
	now  *figures
}

// rate is by how much counters that match have grown per second; unknown if there is no counter or no earlier moment.
func (s span) rate(name string, match ...string) Number {
	now := s.now.sum(name, match...)
	if s.then == nil || !now.Known() {
		return unknown
	}
	return max(0, (now-s.then.sum(name, match...).orZero())/Number(s.now.at.Sub(s.then.at).Seconds()))
}

// rates is rate per value of a label; nil if there is no earlier moment.
func (s span) rates(name, label string, match ...string) map[string]Number {
	if s.then == nil {
		return nil
	}
	before, seconds := s.then.by(name, label, match...), s.now.at.Sub(s.then.at).Seconds()
	rates := map[string]Number{}
	for value, sum := range s.now.by(name, label, match...) {
		rates[value] = Number(max(0, (sum-before[value])/seconds))
	}
	return rates
}

// mean is the mean of what a histogram has seen in the span; unknown if that is nothing.
func (s span) mean(name string, match ...string) Number {
	return s.rate(name+"_sum", match...).per(s.rate(name+"_count", match...))
}
