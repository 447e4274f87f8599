package buffer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	blocks  *prometheus.CounterVec
	records *prometheus.HistogramVec
	latency *prometheus.HistogramVec
	bytes   *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		blocks: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestgw_buffer_blocks_total",
			Help: "Blocks by what became of them: stored (durable) or refused.",
		}, []string{"lane", "result"}),
		records: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ingestgw_buffer_block_records",
			Help:    "Records (requests) that left together in one block.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}, []string{"lane"}),
		latency: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ingestgw_buffer_append_duration_seconds",
			Help:    "Time that a record took to become durable or to be refused, waiting to be gathered included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"lane"}),
		bytes: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingestgw_buffer_in_flight_bytes",
			Help: "Bytes of blocks that have been handed to the disk or the brokers and not been released by them.",
		}, []string{"lane"}),
	}
}

// laneMetrics are the metrics of one lane, resolved beforehand.
type laneMetrics struct {
	stored, refused  prometheus.Counter
	records, latency prometheus.Observer
	bytes            prometheus.Gauge
}

func (m *metrics) of(name Lane) laneMetrics {
	lane := string(name)
	return laneMetrics{
		stored:  m.blocks.WithLabelValues(lane, "stored"),
		refused: m.blocks.WithLabelValues(lane, "refused"),
		records: m.records.WithLabelValues(lane),
		latency: m.latency.WithLabelValues(lane),
		bytes:   m.bytes.WithLabelValues(lane),
	}
}

func (m laneMetrics) left(h *header, size int) {
	m.records.Observe(float64(h.records))
	m.bytes.Add(float64(size))
}

func (m laneMetrics) answered(err error) {
	if err != nil {
		m.refused.Inc()
		return
	}
	m.stored.Inc()
}
