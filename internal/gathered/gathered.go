// Package gathered reads the process's own metrics of one moment, as /metrics shows them, for those who explain them: so that what they
// say cannot differ from what a scraper sees.
package gathered

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// kept is what the names of metrics begin with that a Moment keeps.
var kept = []string{"ingestgw_", "process_"}

// A Moment is all metrics of ingestgw and of its process at one time. It does not change.
//
// Functions that take match want pairs of a label's name and value: only series that have all of them count. Numbers that are not known
// are NaN.
type Moment struct {
	// At is when they were read.
	At time.Time
	// of has the series of each metric. A histogram is two, its _sum and its _count.
	of map[string][]Series
}

// A Series is one line of /metrics.
type Series struct {
	labels []*dto.LabelPair
	Value  float64
}

// Label returns the value of a label, "" if there is none.
func (s Series) Label(name string) string {
	for _, l := range s.labels {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// fits says whether the labels have the values in match.
func (s Series) fits(match []string) bool {
	for i := 0; i+1 < len(match); i += 2 {
		if s.Label(match[i]) != match[i+1] {
			return false
		}
	}
	return true
}

// Read reads everything. The error says what could not be read; the rest is there.
func Read(g prometheus.Gatherer) (*Moment, error) {
	families, err := g.Gather()
	return New(time.Now(), families), err
}

// New is the metrics in families, read at the time at.
func New(at time.Time, families []*dto.MetricFamily) *Moment {
	m := &Moment{At: at, of: make(map[string][]Series, len(families))}
	for _, family := range families {
		if slices.ContainsFunc(kept, func(p string) bool { return strings.HasPrefix(family.GetName(), p) }) {
			m.add(family)
		}
	}
	return m
}

func (m *Moment) add(family *dto.MetricFamily) {
	name := family.GetName()
	for _, one := range family.GetMetric() {
		switch {
		case one.GetHistogram() != nil:
			h := one.GetHistogram()
			m.of[name+"_sum"] = append(m.of[name+"_sum"], Series{one.GetLabel(), h.GetSampleSum()})
			m.of[name+"_count"] = append(m.of[name+"_count"], Series{one.GetLabel(), float64(h.GetSampleCount())})
		case one.GetCounter() != nil:
			m.of[name] = append(m.of[name], Series{one.GetLabel(), one.GetCounter().GetValue()})
		case one.GetGauge() != nil:
			m.of[name] = append(m.of[name], Series{one.GetLabel(), one.GetGauge().GetValue()})
		}
	}
}

// Of returns the series of a metric, in the order of /metrics. It must not be changed.
func (m *Moment) Of(name string) []Series { return m.of[name] }

// Has says whether there is such a metric.
func (m *Moment) Has(name string) bool { return len(m.of[name]) > 0 }

// Sum adds up the series that match.
func (m *Moment) Sum(name string, match ...string) float64 {
	return m.fold(name, match, func(a, b float64) float64 { return a + b })
}

// Greatest is the greatest of the series that match.
func (m *Moment) Greatest(name string, match ...string) float64 { return m.fold(name, match, math.Max) }

func (m *Moment) fold(name string, match []string, join func(a, b float64) float64) float64 {
	total := math.NaN()
	for _, s := range m.of[name] {
		switch {
		case !s.fits(match):
		case math.IsNaN(total):
			total = s.Value
		default:
			total = join(total, s.Value)
		}
	}
	return total
}

// Values lists the values that a label of a metric has, in the order of /metrics.
func (m *Moment) Values(name, label string) []string {
	var all []string
	seen := map[string]bool{}
	for _, s := range m.of[name] {
		if v := s.Label(label); !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
	return all
}

// By adds up the series that match per value of a label.
func (m *Moment) By(name, label string, match ...string) map[string]float64 {
	sums := map[string]float64{}
	for _, s := range m.of[name] {
		if s.fits(match) {
			sums[s.Label(label)] += s.Value
		}
	}
	return sums
}

// Split takes the metrics with these names apart by the values of two labels, so that looking at each of many parts does not cost
// their square.
func (m *Moment) Split(label1, label2 string, names ...string) map[[2]string]*Moment {
	parts := map[[2]string]*Moment{}
	for _, name := range names {
		for _, s := range m.of[name] {
			key := [2]string{s.Label(label1), s.Label(label2)}
			if parts[key] == nil {
				parts[key] = &Moment{At: m.At, of: map[string][]Series{}}
			}
			parts[key].of[name] = append(parts[key].of[name], s)
		}
	}
	return parts
}

// A Span is two moments, from whose difference rates are made.
type Span struct {
	Then *Moment // nil when there is none yet
	Now  *Moment
}

// Seconds is how long it is, 0 without an earlier moment.
func (s Span) Seconds() float64 {
	if s.Then == nil {
		return 0
	}
	return s.Now.At.Sub(s.Then.At).Seconds()
}

// Growth is by how much counters that match have grown, a missing one counting as 0 then; never less than 0. Unknown if there is no counter, or no earlier moment.
func (s Span) Growth(name string, match ...string) float64 {
	now := s.Now.Sum(name, match...)
	if s.Then == nil || math.IsNaN(now) {
		return math.NaN()
	}
	then := s.Then.Sum(name, match...)
	if math.IsNaN(then) {
		then = 0
	}
	return max(0, now-then)
}

// Rate is Growth per second.
func (s Span) Rate(name string, match ...string) float64 {
	return s.Growth(name, match...) / s.Seconds()
}

// Rates is Rate per value of a label; nil if there is no earlier moment.
func (s Span) Rates(name, label string, match ...string) map[string]float64 {
	rates, seconds := s.growths(name, label, match...), s.Seconds()
	for value := range rates {
		rates[value] /= seconds
	}
	return rates
}

func (s Span) growths(name, label string, match ...string) map[string]float64 {
	if s.Then == nil {
		return nil
	}
	growths, before := s.Now.By(name, label, match...), s.Then.By(name, label, match...)
	for value, now := range growths {
		growths[value] = max(0, now-before[value])
	}
	return growths
}

// Mean is the mean of what a histogram has seen in the span; unknown if that is nothing.
func (s Span) Mean(name string, match ...string) float64 {
	count := s.Growth(name+"_count", match...)
	if count == 0 {
		return math.NaN()
	}
	return s.Growth(name+"_sum", match...) / count
}

// Means is Mean per value of a label, without those for which it is unknown; nil if there is no earlier moment.
func (s Span) Means(name, label string) map[string]float64 {
	means := s.growths(name+"_sum", label)
	for value, count := range s.growths(name+"_count", label) {
		if count == 0 {
			delete(means, value)
			continue
		}
		means[value] /= count
	}
	return means
}
