package directory

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the metrics of this package, resolved beforehand so that a lookup looks up no labels.
type metrics struct {
	fresh, staleUsed, miss, found, unknown, unavailable prometheus.Counter // lookups, by how they were answered

	requests map[string]prometheus.Counter // by result
	duration prometheus.Histogram
	changed  prometheus.Counter
	skipped  prometheus.Counter
	setAside prometheus.Counter
	unsaved  prometheus.Counter

	mu     sync.Mutex
	oldest time.Duration // of the stale answers used since the directory last answered
}

func newMetrics(reg prometheus.Registerer, d *Directory) *metrics {
	f := promauto.With(reg)
	const ns, sub = "ingestgw", "tenant_directory"
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help, ConstLabels: labels}, value)
	}
	lookups := f.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "lookups_total",
		Help: "Lookups of credentials and labels, by what they were answered from: fresh and miss from memory, stale from memory past " +
			"its time, found and unknown by asking, unavailable when the directory could not be asked and nothing was remembered."},
		[]string{"answer"})
	requests := f.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "requests_total",
		Help: "Questions to the directory, by result: found, unknown, malformed, timeout or failed."}, []string{"result"})
	m := &metrics{
		fresh:       lookups.WithLabelValues("fresh"),
		staleUsed:   lookups.WithLabelValues("stale"),
		miss:        lookups.WithLabelValues("miss"),
		found:       lookups.WithLabelValues("found"),
		unknown:     lookups.WithLabelValues("unknown"),
		unavailable: lookups.WithLabelValues("unavailable"),
		requests:    map[string]prometheus.Counter{},
		duration: f.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "request_duration_seconds",
			Help: "Time until the directory has answered a question, or failed to.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 13)}),
		changed: counter("changed_total", "Credentials for which the directory named other tenants than before, or none any more."),
		skipped: counter("refreshes_skipped_total", "Answers that were not brought up to date, because too many were waiting for that."),
		setAside: counter("cache_file_damaged_total", "Cache files, or lines in them, that could not be read. The file was set aside, and what "+
			"could be read of it is used."),
		unsaved: counter("cache_file_failures_total", "Failures to write the cache file: after a restart older answers would be used, or none."),
	}
	for _, result := range []string{"found", "unknown", "malformed", "timeout", "failed"} {
		m.requests[result] = requests.WithLabelValues(result)
	}
	gauge("entries", "Answers that are remembered.", prometheus.Labels{"kind": "hit"}, func() float64 { return float64(d.entries().hits) })
	gauge("entries", "Answers that are remembered.", prometheus.Labels{"kind": "miss"}, func() float64 { return float64(d.entries().misses) })
	gauge("entries_bytes", "Memory that the answers take, roughly.", nil, func() float64 { return float64(d.entries().bytes) })
	gauge("waiting", "Questions that wait for their turn and that somebody waits for.", nil, func() float64 { return float64(len(d.urgent)) })
	gauge("breaker_open", "Whether the directory counts as down and is asked only now and then (1), or not (0).", nil, func() float64 {
		if d.breaker.tripped() {
			return 1
		}
		return 0
	})
	gauge("stale_age_seconds", "Age of the oldest answer that was used past its time since the directory answered last.", nil, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.oldest.Seconds()
	})
	return m
}

// stale notes that an answer of that age was used past its time.
func (m *metrics) stale(age time.Duration) {
	m.staleUsed.Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.oldest = max(m.oldest, age)
}

// asked notes a lookup that was answered by the directory.
func (m *metrics) asked(err error) {
	if err == nil {
		m.found.Inc()
		return
	}
	m.unknown.Inc()
}

// request notes a question that has ended.
func (m *metrics) request(err error, took time.Duration) {
	m.duration.Observe(took.Seconds())
	m.requests[resultOf(err)].Inc()
	if err == nil || errors.Is(err, errUnknown) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.oldest = 0
	}
}

func resultOf(err error) string {
	var unreadable *malformed
	var slow interface{ Timeout() bool }
	switch {
	case err == nil:
		return "found"
	case errors.Is(err, errUnknown):
		return "unknown"
	case errors.As(err, &unreadable):
		return "malformed"
	case errors.As(err, &slow) && slow.Timeout():
		return "timeout"
	default:
		return "failed"
	}
}

type counts struct{ hits, misses, bytes int }

func (d *Directory) entries() counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return counts{d.memory.hits.Len(), d.memory.misses.Len(), d.memory.bytes}
}
