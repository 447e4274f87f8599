package verify

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
)

// Recorded expects what was in request bodies, as a proxy between a sender and a receiver sees them. Add is not safe for
// concurrent use.
type Recorded struct {
	tenants  map[string]map[string]map[int64]*expected // tenant, series, timestamp
	from, to int64
}

type expected struct {
	values       []float64 // more than one when a sender sent several for the same time, of which any may stay
	acknowledged bool
	seen         bool
}

// Add takes in one body, a remote-write 1.0 message in snappy's block format. What was sent and not acknowledged may be there
// and may be missing.
func (r *Recorded) Add(tenant string, body []byte, acknowledged bool) error {
	message, err := snappy.Decode(nil, body)
	if err != nil {
		return fmt.Errorf("recorded body: %w", err)
	}
	var u prompb.WriteRequestUnmarshaler
	wr, err := u.UnmarshalProtobuf(message)
	if err != nil {
		return fmt.Errorf("recorded body: %w", err)
	}
	for _, ts := range wr.Timeseries {
		labels := make(map[string]string, len(ts.Labels))
		for _, l := range ts.Labels {
			labels[l.Name] = l.Value
		}
		for _, s := range ts.Samples {
			r.expect(tenant, Name(labels), s, acknowledged)
		}
	}
	return nil
}

func (r *Recorded) expect(tenant, series string, s prompb.Sample, acknowledged bool) {
	timestamp := s.Timestamp
	if r.tenants == nil {
		r.tenants = map[string]map[string]map[int64]*expected{}
		r.from, r.to = timestamp, timestamp
	}
	r.from, r.to = min(r.from, timestamp), max(r.to, timestamp)
	if r.tenants[tenant] == nil {
		r.tenants[tenant] = map[string]map[int64]*expected{}
	}
	if r.tenants[tenant][series] == nil {
		r.tenants[tenant][series] = map[int64]*expected{}
	}
	e := r.tenants[tenant][series][timestamp]
	if e == nil {
		e = &expected{}
		r.tenants[tenant][series][timestamp] = e
	}
	e.values = append(e.values, s.Value)
	e.acknowledged = e.acknowledged || acknowledged
}

// Acknowledged is how many samples are expected.
func (r *Recorded) Acknowledged() int {
	n := 0
	for _, tenant := range r.tenants {
		for _, series := range tenant {
			for _, e := range series {
				if e.acknowledged {
					n++
				}
			}
		}
	}
	return n
}

// Match selects everything.
func (r *Recorded) Match() string { return `{__name__!=""}` }

// Range is the time from the first sample to the last, in milliseconds.
func (r *Recorded) Range() (from, to int64) { return r.from, r.to }

// Tenants are those that something was recorded for.
func (r *Recorded) Tenants() []string { return slices.Sorted(maps.Keys(r.tenants)) }

// See compares a sample with what was recorded.
func (r *Recorded) See(s Sample) Verdict {
	e := r.tenants[s.Tenant][s.Series][s.Timestamp]
	switch {
	case e == nil:
		return Foreign
	case e.seen:
		return Again
	}
	for _, v := range e.values {
		if s.NaN && math.IsNaN(v) || equal(v, s.Value) {
			e.seen = true
			return Right
		}
	}
	return Changed
}

// Missing calls each for what was not seen. NaNs are not expected back: vmstorage drops them, and of Prometheus' stale markers those
// of series that it does not know, as it does when vminsert sends it what belongs to another vmstorage that is away
// (https://github.com/VictoriaMetrics/VictoriaMetrics/issues/5069).
func (r *Recorded) Missing(each func(tenant, what string)) {
	for tenant, all := range r.tenants {
		for series, samples := range all {
			for timestamp, e := range samples {
				if e.acknowledged && !e.seen && !slices.ContainsFunc(e.values, math.IsNaN) {
					each(tenant, fmt.Sprintf("%s at %d", series, timestamp))
				}
			}
		}
	}
}
