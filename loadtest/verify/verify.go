// Package verify reads back what was sent, and lists what is missing, doubled, changed, or under a wrong tenant.
package verify

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// maxExamples is how many of each kind of fault a Report names.
const maxExamples = 10

// A Cluster is where to read: one vmselect of a VictoriaMetrics cluster.
type Cluster struct {
	// URL is the vmselect's base URL. One that deduplicates shows what users see; with one that does not, copies are counted.
	URL string
}

// A Sample is one that was read back.
type Sample struct {
	Tenant    string // "<account>:<project>"
	Series    string // as Name writes it
	Labels    map[string]string
	Timestamp int64 // milliseconds
	Value     float64
	NaN       bool // the value is not a number; which of the NaNs, vmselect does not tell
}

// A Verdict is what an Expectation says of a sample.
type Verdict int

// Verdicts.
const (
	// Right: it is as it was sent.
	Right Verdict = iota
	// Again: it is, and had been read before.
	Again
	// Changed: a sample of that series and time was sent with another value.
	Changed
	// Foreign: nobody sent this for that tenant.
	Foreign
)

// An Expectation knows what was sent.
type Expectation interface {
	// Match selects the series to read, such as {__name__="x"}; of each tenant of the cluster.
	Match() string
	// Range is the time from the first sample to the last, in milliseconds.
	Range() (from, to int64)
	// Tenants are those that should have samples.
	Tenants() []string
	// See is shown each sample once for each time it was read.
	See(Sample) Verdict
	// Missing calls each for what was acknowledged and has not been seen.
	Missing(each func(tenant, what string))
}

// A Report is what was found. The zero Report with Right > 0 is what one hopes for.
type Report struct {
	Right                              int
	Missing, Doubled, Changed, Foreign int
	// Examples are some of the faults, in words.
	Examples []string
}

// OK is whether nothing is missing, changed or under a wrong tenant. Doubled samples are harmless where the cluster deduplicates.
func (r Report) OK() bool { return r.Right > 0 && r.Missing == 0 && r.Changed == 0 && r.Foreign == 0 }

func (r Report) String() string {
	text := fmt.Sprintf("%d samples right, %d missing, %d doubled, %d changed, %d under a wrong tenant",
		r.Right, r.Missing, r.Doubled, r.Changed, r.Foreign)
	if len(r.Examples) > 0 {
		text += "\n  " + strings.Join(r.Examples, "\n  ")
	}
	return text
}

// Check reads all that matches back and compares it with what was sent.
func (c *Cluster) Check(ctx context.Context, want Expectation) (Report, error) {
	var r Report
	tenants, err := c.tenants(ctx)
	if err != nil {
		return r, err
	}
	from, to := want.Range()
	for _, tenant := range union(tenants, want.Tenants()) {
		err := c.export(ctx, tenant, want.Match(), from, to, func(s *series) error { return r.see(tenant, s, want) })
		if err != nil {
			return r, err
		}
	}
	want.Missing(func(tenant, what string) {
		r.Missing++
		r.example(&r.Missing, "missing: tenant %s, %s", tenant, what)
	})
	return r, nil
}

func union(a, b []string) []string {
	set := map[string]bool{}
	for _, tenant := range slices.Concat(a, b) {
		if !strings.Contains(tenant, ":") {
			tenant += ":0"
		}
		set[tenant] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func (r *Report) see(tenant string, s *series, want Expectation) error {
	if len(s.Values) != len(s.Timestamps) {
		return fmt.Errorf("tenant %s: %d values and %d timestamps in one series", tenant, len(s.Values), len(s.Timestamps))
	}
	sample := Sample{Tenant: tenant, Series: Name(s.Metric), Labels: s.Metric}
	for i, raw := range s.Values {
		var err error
		if sample.Value, sample.NaN, err = number(raw); err != nil {
			return err
		}
		sample.Timestamp = s.Timestamps[i]
		r.judge(sample, want.See(sample))
	}
	return nil
}

func (r *Report) judge(s Sample, v Verdict) {
	switch v {
	case Right:
		r.Right++
	case Again:
		r.Doubled++
		r.example(&r.Doubled, "doubled: tenant %s, %s at %d", s.Tenant, s.Series, s.Timestamp)
	case Changed:
		r.Changed++
		r.example(&r.Changed, "changed: tenant %s, %s at %d is %v", s.Tenant, s.Series, s.Timestamp, s.Value)
	case Foreign:
		r.Foreign++
		r.example(&r.Foreign, "nobody sent this for tenant %s: %s at %d", s.Tenant, s.Series, s.Timestamp)
	}
}

func (r *Report) example(count *int, format string, args ...any) {
	if *count <= maxExamples {
		r.Examples = append(r.Examples, fmt.Sprintf(format, args...))
	}
}

// Name writes labels the one way that two equal sets have in common: sorted, without empty ones.
func Name(labels map[string]string) string {
	var b strings.Builder
	b.WriteByte('{')
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if labels[name] == "" {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%q", name, labels[name])
	}
	b.WriteByte('}')
	return b.String()
}

// equal is whether a value is the one that was sent, as far as VictoriaMetrics keeps it: as a decimal number of about 15 digits
// (https://docs.victoriametrics.com/victoriametrics/faq/, "precision").
func equal(sent, got float64) bool {
	return sent == got || math.Abs(sent-got) <= 1e-12*math.Abs(sent)
}
