package kafka

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
)

// metrics are what the Kafka buffer shows of itself.
type metrics struct {
	reg prometheus.Registerer

	appends     *prometheus.CounterVec
	tries       *prometheus.CounterVec
	seconds     prometheus.Histogram
	hedged      prometheus.Counter
	faults      *prometheus.GaugeVec
	replaced    prometheus.Counter
	damaged     prometheus.Counter
	generations prometheus.Counter
	groupErrors prometheus.Counter
	assigned    prometheus.Gauge

	pulse            *pulse
	partitions       *prometheus.GaugeVec
	underReplicated  *prometheus.GaugeVec
	leaderless       *prometheus.GaugeVec
	retentionSeconds *prometheus.GaugeVec
	retentionBytes   *prometheus.GaugeVec
	throttled        prometheus.Counter
	unowned          *prometheus.GaugeVec // without labels: absent while it is not known
	members          *prometheus.GaugeVec // without labels, too
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestgw_kafka_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ingestgw_kafka_" + name, Help: help}, labels)
	}
	gauges := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ingestgw_kafka_" + name, Help: help}, labels)
	}
	return &metrics{
		appends: counters("blocks_total", "Blocks that were to be stored, by result: stored, too_large, unavailable (not acknowledged "+
			"within INGESTGW_BUFFER_APPEND_TIMEOUT: senders get 503), closed.", "lane", "result"),
		tries: counters("tries_total", "Requests that store a block in one partition, by result: acknowledged, failed. More than "+
			"one for a block means that partitions fail or stall.", "result"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ingestgw_kafka_acknowledge_seconds",
			Help:    "How long Kafka takes to acknowledge a block. Senders wait for it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}),
		hedged: counter("hedged_total", "Blocks written to another partition too, since one did not acknowledge them while others acknowledged "+
			"later ones; and, when nothing is acknowledged at all, one block in each INGESTGW_KAFKA_HEDGE_AFTER, to find a way out."),
		faults: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ingestgw_kafka_topic_unsafe",
			Help: "1 for each setting of a topic with which acknowledged samples are not safe; the log says why. unknown: it cannot be read."},
			[]string{"topic", "setting"}),
		replaced: counter("topic_replaced_total", "Partitions of topics that were found deleted and made anew; what they hold is forwarded from the first block on."),
		damaged:  counter("damaged_blocks_total", "Blocks that Kafka does not give as they were written. They are lost: samples in them were acknowledged."),
		generations: counter("group_generations_total", "Generations of the consumer group that this process was in. They grow when "+
			"processes start and stop, or lose the group."),
		groupErrors: counter("group_errors_total", "Failures to join the consumer group; each is tried again."),
		assigned: prometheus.NewGauge(prometheus.GaugeOpts{Name: "ingestgw_kafka_assigned_partitions",
			Help: "Partitions that this process forwards."}),
		pulse:      newPulse(),
		partitions: gauges("partitions", "Partitions of a topic. Absent while it is not there or no broker answers, as the next two are.", "topic"),
		underReplicated: gauges("under_replicated_partitions", "Partitions with fewer replicas in sync than replicas: one broker less may "+
			"make them unable to take blocks.", "topic"),
		leaderless: gauges("leaderless_partitions", "Partitions that no broker leads: nothing can be stored there or read.", "topic"),
		retentionSeconds: gauges("retention_seconds", "For how many seconds a topic keeps blocks, forwarded or not (retention.ms, as last read); "+
			"+Inf without a bound.", "topic"),
		retentionBytes: gauges("retention_bytes", "How many bytes a topic keeps in each of its partitions, forwarded or not (retention.bytes, "+
			"as last read); +Inf without a bound.", "topic"),
		throttled: counter("throttled_seconds_total", "For how many seconds brokers have throttled what we store and read, as they say in their "+
			"answers: a quota is set for this user or client, and used up."),
		unowned: gauges("unowned_partitions", "Partitions of the topics that no member of the consumer group has: nothing there is forwarded. "+
			"Looked at every 30 s by processes that forward; absent while they cannot know, or partitions are being shared out."),
		members: gauges("group_members", "Members of the consumer group, which forward: those beyond the number of partitions have nothing to do. "+
			"Looked at as the partitions without one are."),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.appends, m.tries, m.seconds, m.hedged, m.faults, m.replaced, m.damaged, m.generations, m.groupErrors, m.assigned,
		m.pulse, m.partitions, m.underReplicated, m.leaderless, m.retentionSeconds, m.retentionBytes, m.throttled, m.unowned, m.members}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}

func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	if err := reg.Register(m); err != nil {
		return err
	}
	m.reg = reg
	return nil
}

func (m *metrics) unregister() {
	if m.reg != nil {
		m.reg.Unregister(m)
	}
}

func (m *metrics) appended(lane buffer.Lane, err error) {
	result := "stored"
	switch {
	case err == nil:
	case errors.Is(err, buffer.ErrTooLarge):
		result = "too_large"
	case errors.Is(err, buffer.ErrClosed):
		result = "closed"
	default:
		result = "unavailable"
	}
	m.appends.WithLabelValues(string(lane), result).Inc()
}

func (m *metrics) tried(t *try, err error) {
	if err != nil {
		m.tries.WithLabelValues("failed").Inc()
		return
	}
	m.tries.WithLabelValues("acknowledged").Inc()
	m.seconds.Observe(time.Since(t.began).Seconds())
}

// unsafe shows what is unsafe about a topic now.
func (m *metrics) unsafe(topic string, faults map[string]string) {
	m.faults.DeletePartialMatch(prometheus.Labels{"topic": topic})
	for setting := range faults {
		m.faults.WithLabelValues(topic, setting).Set(1)
	}
}

// forgetGroup is for when nothing is known of the consumer group.
func (m *metrics) forgetGroup() {
	m.unowned.Reset()
	m.members.Reset()
}
