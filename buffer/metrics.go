package buffer

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those of a Gatherer.
type metrics struct {
	blocks  *prometheus.CounterVec   // by lane, result
	records *prometheus.HistogramVec // by lane
	latency *prometheus.HistogramVec // by lane
	bytes   *prometheus.GaugeVec     // by lane
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	return &metrics{
		blocks: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestgw_buffer_blocks_total",
			Help: "Blocks of records handed to the buffer, by how it answered. Only the records of those with result " +
				`"stored" were acknowledged to their senders; all others answered 503 or 400.`,
		}, []string{"lane", "result"}),
		records: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "ingestgw_buffer_block_records",
			Help:    "Records gathered into one block. Few is normal at low load; many small ones share the cost of one write.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8), // to 16384
		}, []string{"lane"}),
		latency: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ingestgw_buffer_append_duration_seconds",
			Help: "Time from a record being complete to it being durable or refused: what the buffer adds to the answer " +
				"to the sender.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16), // to 16.4 s
		}, []string{"lane"}),
		bytes: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingestgw_buffer_in_flight_bytes",
			Help: "Bytes in blocks that gather or are being stored, or that the buffer still holds after it has answered. Steadily at " +
				"8 MiB or above, the storage is the bottleneck; with Kafka it may be one broker that does not answer.",
		}, []string{"lane"}),
	}
}

// laneMetrics are those of one lane, looked up once.
type laneMetrics struct {
	name    string
	blocks  *prometheus.CounterVec
	records prometheus.Observer
	latency prometheus.Observer
	bytes   prometheus.Gauge
}

func (m *metrics) lane(name Lane) laneMetrics {
	return laneMetrics{
		name:    string(name),
		blocks:  m.blocks,
		records: m.records.WithLabelValues(string(name)),
		latency: m.latency.WithLabelValues(string(name)),
		bytes:   m.bytes.WithLabelValues(string(name)),
	}
}

func (m *laneMetrics) answered(b *Block, err error) {
	m.blocks.WithLabelValues(m.name, result(err)).Inc()
	m.records.Observe(float64(b.Records))
}

// result is the metric label of what a Store answered.
func result(err error) string {
	switch {
	case err == nil:
		return "stored"
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	case errors.Is(err, ErrClosed):
		return "closed"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "given_up"
	default:
		return "error"
	}
}
