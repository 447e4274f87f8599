package ingest

import (
	"math"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ingestgw/ingestgw/internal/credentials"
)

// metrics are the counters of this package, resolved beforehand so that a request looks up no labels.
type metrics struct {
	requests    map[string]prometheus.Counter // by answer
	duration    prometheus.Histogram
	inFlight    prometheus.Gauge
	connections prometheus.Gauge
	retired     prometheus.Counter

	bytes, series, samples, histograms, exemplars, metadata, reserved, dropped prometheus.Counter
	old, future                                                                prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "ingestgw", Subsystem: "ingest", Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Namespace: "ingestgw", Subsystem: "ingest", Name: name, Help: help})
	}
	m := &metrics{
		requests: make(map[string]prometheus.Counter, len(answers)),
		duration: f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "ingestgw", Subsystem: "ingest", Name: "request_duration_seconds",
			Help:    "Time from a request's headers to its answer, waiting for the disk or the brokers included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
		inFlight:    gauge("requests_in_flight", "Requests that are being read, checked or stored."),
		connections: gauge("connections", "Open connections of senders."),
		retired:     counter("connections_retired_total", "Connections closed because of their age (INGESTGW_INGEST_CONN_MAX_AGE)."),
		bytes:       counter("body_bytes_total", "Bytes of accepted request bodies as sent."),
		series:      counter("series_total", "Series in accepted requests."),
		samples:     counter("samples_total", "Samples in accepted requests."),
		histograms:  counter("histograms_total", "Native histograms in accepted requests."),
		exemplars:   counter("exemplars_total", "Exemplars in accepted requests. VictoriaMetrics does not keep them."),
		metadata:    counter("metadata_total", "Metadata entries in accepted requests."),
		reserved: counter("reserved_total",
			"Labels and metadata fields in accepted requests that name a tenant, which senders may not do; they were taken out."),
	}
	m.dropped = counter("dropped_series_total", "Series that fit a rule of their tenant's (drop) and were left out.")
	m.old = counter("old_samples_total", "Samples and native histograms in accepted requests of which even the newest was more than 5 minutes old when it came. "+
		"They went to the bulk lane: their senders send what they could not send before.")
	m.future = counter("future_requests_total", "Accepted requests with a sample whose timestamp was more than 1 hour ahead of our clock: the sender's clock is wrong, or ours.")
	requests := f.NewCounterVec(prometheus.CounterOpts{
		Namespace: "ingestgw", Subsystem: "ingest", Name: "requests_total",
		Help: "Requests by what their sender was answered; accepted means durable.",
	}, []string{"answer"})
	m.requests[accepted] = requests.WithLabelValues(accepted)
	for _, a := range answers {
		m.requests[a.label] = requests.WithLabelValues(a.label)
	}
	return m
}

func (m *metrics) answered(label string, began time.Time) {
	m.requests[label].Inc()
	m.duration.Observe(time.Since(began).Seconds())
}

// expiry shows until when the certificate of the listener is valid.
func (m *metrics) expiry(reg prometheus.Registerer, secure *credentials.Listener) {
	promauto.With(reg).NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ingestgw", Subsystem: "ingest", Name: "certificate_expiry_timestamp_seconds",
		Help: "When the certificate that senders are shown now (INGESTGW_INGEST_TLS_CERT_FILE) is valid no longer, in Unix seconds. Absent without TLS.",
	}, func() float64 {
		at, known := secure.Expires()
		if !known {
			return math.NaN()
		}
		return float64(at.Unix())
	})
}

// counted counts what of a request was stored.
func (m *metrics) counted(body int, received time.Time, msg checked) {
	m.bytes.Add(float64(body))
	ahead := false
	for i := range msg.parts {
		p := &msg.parts[i]
		if p.isOld(p.counts.Newest, received) {
			m.old.Add(float64(p.samples()))
		}
		ahead = ahead || p.isAhead(received)
		c := &p.counts
		m.series.Add(float64(c.Series))
		m.samples.Add(float64(c.Samples))
		m.histograms.Add(float64(c.Histograms))
		m.exemplars.Add(float64(c.Exemplars))
		m.metadata.Add(float64(c.Metadata))
	}
	if ahead {
		m.future.Inc()
	}
	m.reserved.Add(float64(msg.counts.Reserved))
	m.dropped.Add(float64(msg.refused.rule.series))
}

func (m *metrics) connection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		m.connections.Inc()
	case http.StateClosed, http.StateHijacked:
		m.connections.Dec()
	}
}
