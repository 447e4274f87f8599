package tenant

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"

	"github.com/VictoriaMetrics/metricsql"
)

// A Rule picks series by their labels, as a series selector of Prometheus does: up{job="node",instance!~"10\\..*"}.
type Rule struct {
	text string
	any  [][]filter // it fits when all filters of one of them do
}

type filter struct {
	label    string
	value    string
	regexp   *regexp.Regexp // of value, anchored; nil when value is to be equal
	prefix   []byte         // with which all begins that regexp fits; most values are told by it
	negative bool
}

// Labels are those of one series. Get returns nil for a label that it does not have.
type Labels interface{ Get(name string) []byte }

// ParseRule reads a series selector (https://prometheus.io/docs/prometheus/latest/querying/basics/#time-series-selectors).
func ParseRule(text string) (Rule, error) {
	expr, err := metricsql.Parse(text)
	if err != nil {
		return Rule{}, fmt.Errorf("rule %q: %w", text, err)
	}
	selector, ok := expr.(*metricsql.MetricExpr)
	if !ok {
		return Rule{}, fmt.Errorf("rule %q: want a series selector, such as up{job=\"node\"}", text)
	}
	r := Rule{text: text}
	for _, filters := range selector.LabelFilterss {
		all := make([]filter, 0, len(filters))
		for _, f := range filters {
			one := filter{label: f.Label, value: f.Value, negative: f.IsNegative}
			if f.IsRegexp {
				bare, err := regexp.Compile(f.Value) // metricsql compiles it in brackets, where a)(b is well
				if err != nil {
					return Rule{}, fmt.Errorf("rule %q: label %s: %w", text, f.Label, err)
				}
				if one.regexp, err = metricsql.CompileRegexpAnchored(f.Value); err != nil {
					return Rule{}, fmt.Errorf("rule %q: label %s: %w", text, f.Label, err)
				}
				prefix, _ := bare.LiteralPrefix()
				one.prefix = []byte(prefix)
			}
			all = append(all, one)
		}
		if !slices.ContainsFunc(all, filter.tells) {
			return Rule{}, fmt.Errorf("rule %q: it would fit every series", text)
		}
		r.any = append(r.any, all)
	}
	if len(r.any) == 0 {
		return Rule{}, fmt.Errorf("rule %q: it would fit every series", text)
	}
	return r, nil
}

// tells says whether there are series that f does not fit, as far as can easily be seen: with job=~".*" there are none.
func (f filter) tells() bool {
	anyName := f.label == "__name__" && (f.regexp == nil && f.negative && f.value == "" || f.regexp != nil && !f.negative && f.value == ".+")
	return !anyName && (f.regexp == nil || f.negative || f.value != ".*")
}

// String is the text that was parsed.
func (r Rule) String() string { return r.text }

// Fits says whether the series is one that r picks. A label that a series does not have counts as empty.
func (r Rule) Fits(series Labels) bool {
	for _, filters := range r.any {
		if fitsAll(filters, series) {
			return true
		}
	}
	return false
}

func fitsAll(filters []filter, series Labels) bool {
	for i := range filters {
		if !filters[i].fits(series) {
			return false
		}
	}
	return true
}

func (f *filter) fits(series Labels) bool {
	value := series.Get(f.label)
	if f.regexp != nil {
		return (bytes.HasPrefix(value, f.prefix) && f.regexp.Match(value)) != f.negative
	}
	return (string(value) == f.value) != f.negative
}
