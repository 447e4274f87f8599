package downstream

import "github.com/prometheus/client_golang/prometheus"

// watchMetrics are a Watch's own metrics. Series of a server go when it does.
type watchMetrics struct {
	up       *prometheus.GaugeVec
	failures *prometheus.CounterVec
	restarts *prometheus.GaugeVec
	jumping  *prometheus.GaugeVec
	bytes    *prometheus.GaugeVec
	seconds  *prometheus.GaugeVec
	interval *prometheus.GaugeVec
}

func newWatchMetrics(reg prometheus.Registerer) *watchMetrics {
	labels := []string{"server", "kind"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ingestgw_downstream_" + name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &watchMetrics{
		up: gauge("up", "Whether the last poll of the metrics of this vminsert or vmstorage was good (1) or failed (0)."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestgw_downstream_poll_failures_total",
			Help: "Polls of the metrics of this vminsert or vmstorage that failed.",
		}, labels),
		restarts: gauge("restarts", "How often another process than before answered at this address since it is watched."),
		jumping: gauge("jumping", "Whether several processes seem to answer at this address (1), as behind a Service or proxy. "+
			"Give each its own address."),
		bytes:    gauge("page_bytes", "Size of the last page of metrics read from this vminsert or vmstorage."),
		seconds:  gauge("page_seconds", "How long it took to read the last page of metrics from this vminsert or vmstorage."),
		interval: gauge("poll_interval_seconds", "Time between two polls of this vminsert or vmstorage: longer the larger its page is."),
	}
	reg.MustRegister(m.failures)
	return m
}

func (m *watchMetrics) note(t *Target) {
	labels := []string{t.Endpoint.String(), string(t.Kind)}
	failures := m.failures.WithLabelValues(labels...)
	m.restarts.WithLabelValues(labels...).Set(float64(t.Restarts))
	m.jumping.WithLabelValues(labels...).Set(oneIf(t.Jumping))
	m.interval.WithLabelValues(labels...).Set(t.Interval.Seconds())
	m.up.WithLabelValues(labels...).Set(oneIf(t.Err == nil))
	if t.Err != nil {
		failures.Inc()
		return
	}
	m.bytes.WithLabelValues(labels...).Set(float64(t.Last.Size))
	m.seconds.WithLabelValues(labels...).Set(t.Last.Ended.Sub(t.Last.Begun).Seconds())
}

// planned notes that the next poll comes sooner or later than it was.
func (m *watchMetrics) planned(t *Target) {
	m.interval.WithLabelValues(t.Endpoint.String(), string(t.Kind)).Set(t.Interval.Seconds())
}

func (m *watchMetrics) forget(kind Kind, ep Endpoint) {
	labels := []string{ep.String(), string(kind)}
	m.failures.DeleteLabelValues(labels...)
	for _, v := range []*prometheus.GaugeVec{m.up, m.restarts, m.jumping, m.bytes, m.seconds, m.interval} {
		v.DeleteLabelValues(labels...)
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
