package ingest

import (
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the counters of this package, resolved beforehand so that a request looks up no labels.
type metrics struct {
	requests    map[string]prometheus.Counter // by answer
	duration    prometheus.Histogram
	inFlight    prometheus.Gauge
	connections prometheus.Gauge
	retired     prometheus.Counter

	bytes, series, samples, histograms, exemplars, metadata, reserved, dropped prometheus.Counter
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

// counted counts what of a request was stored.
func (m *metrics) counted(body int, msg checked) {
	m.bytes.Add(float64(body))
	for i := range msg.parts {
		c := &msg.parts[i].counts
		m.series.Add(float64(c.Series))
		m.samples.Add(float64(c.Samples))
		m.histograms.Add(float64(c.Histograms))
		m.exemplars.Add(float64(c.Exemplars))
		m.metadata.Add(float64(c.Metadata))
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
