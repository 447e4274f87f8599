package kafka

import (
	"context"
	"math"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/ingestgw/ingestgw/internal/clock"
)

const (
	// pulseEvery is how often the brokers are asked for a sign of life, and the partitions counted.
	pulseEvery = 10 * time.Second
	// pulseAnew is how soon when none has answered.
	pulseAnew = 2 * time.Second
	// pulseTimeout is how long one of them has to answer.
	pulseTimeout = 5 * time.Second
)

// feelPulse shows how Kafka does until the Store closes.
func (s *Store) feelPulse() {
	ctx, cancel := s.whileOpen()
	defer cancel()
	for {
		wait := pulseEvery
		if !s.feel(ctx) {
			wait = pulseAnew
		}
		if !clock.Sleep(ctx, wait) {
			return
		}
	}
}

// feel asks for one sign of life, and counts the partitions when there is one: without, nothing is known of them.
func (s *Store) feel(ctx context.Context) (alive bool) {
	err := s.reach(ctx)
	if ctx.Err() != nil {
		return false
	}
	s.metrics.pulse.felt(time.Now(), err == nil)
	for _, l := range s.all() {
		var partitions []kafka.Partition
		if err == nil {
			partitions = l.partitions(ctx)
		}
		s.metrics.count(l.topic, partitions)
	}
	return err == nil
}

// reach makes sure that a broker answers. It asks which requests that broker takes, as of all requests to any broker this is the
// only one for which nobody needs a permission; kafka-go gives metadata out of its cache, for ever when no broker answers any more.
func (s *Store) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pulseTimeout)
	defer cancel()
	_, err := s.lane(needed[0]).client.ApiVersions(ctx, &kafka.ApiVersionsRequest{})
	return err
}

// partitions are those of the topic, as of a second ago; none when they are not known.
func (l *lane) partitions(ctx context.Context) []kafka.Partition {
	ctx, cancel := context.WithTimeout(ctx, pulseTimeout)
	defer cancel()
	meta, err := l.metadata(ctx)
	if err != nil || meta.Topics[0].Error != nil {
		return nil
	}
	return meta.Topics[0].Partitions
}

// A pulse is whether Kafka has answered, and when it last has. It is safe for concurrent use, and a prometheus.Collector.
type pulse struct {
	reachable, unreachable *prometheus.Desc

	mu    sync.Mutex
	since time.Time // when a broker has last answered; before the first answer, when it was first asked
	known bool
	alive bool
}

func newPulse() *pulse {
	return &pulse{
		reachable: prometheus.NewDesc("ingestgw_kafka_reachable",
			"1 if a broker has answered when one was last asked, every 10 s, else 0. Absent before it was asked.", nil, nil),
		unreachable: prometheus.NewDesc("ingestgw_kafka_unreachable_seconds",
			"For how long no broker has answered, in seconds: since the last answer, or without one since the start. 0 while they answer.", nil, nil),
	}
}

// felt notes whether a broker has answered.
func (p *pulse) felt(now time.Time, alive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if alive || !p.known {
		p.since = now
	}
	p.known, p.alive = true, alive
}

// at says whether a broker has answered when it was last asked, and if not, for how long none has.
func (p *pulse) at(now time.Time) (alive bool, away time.Duration, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.alive || !p.known {
		return p.alive, 0, p.known
	}
	return false, now.Sub(p.since), true
}

// Describe implements prometheus.Collector.
func (p *pulse) Describe(ch chan<- *prometheus.Desc) {
	ch <- p.reachable
	ch <- p.unreachable
}

// Collect implements prometheus.Collector.
func (p *pulse) Collect(ch chan<- prometheus.Metric) {
	alive, away, known := p.at(time.Now())
	if !known {
		return
	}
	reachable := 0.0
	if alive {
		reachable = 1
	}
	ch <- prometheus.MustNewConstMetric(p.reachable, prometheus.GaugeValue, reachable)
	ch <- prometheus.MustNewConstMetric(p.unreachable, prometheus.GaugeValue, away.Seconds())
}

// count shows how the partitions of a topic do. Of none nothing is known.
func (m *metrics) count(topic string, partitions []kafka.Partition) {
	if len(partitions) == 0 {
		for _, of := range []*prometheus.GaugeVec{m.partitions, m.underReplicated, m.leaderless} {
			of.DeleteLabelValues(topic)
		}
		return
	}
	var under, leaderless float64
	for _, p := range partitions {
		if len(p.Isr) < len(p.Replicas) {
			under++
		}
		if p.Leader.Host == "" { // kafka-go makes broker 0 of one that is not there
			leaderless++
		}
	}
	m.partitions.WithLabelValues(topic).Set(float64(len(partitions)))
	m.underReplicated.WithLabelValues(topic).Set(under)
	m.leaderless.WithLabelValues(topic).Set(leaderless)
}

// retention shows for how long and how much a topic keeps, as its settings say.
func (m *metrics) retention(topic string, config map[string]string) {
	bound := func(n int64, unit float64) float64 {
		if n < 0 {
			return math.Inf(1)
		}
		return float64(n) * unit
	}
	m.retentionSeconds.WithLabelValues(topic).Set(bound(number(config["retention.ms"]), 1e-3))
	m.retentionBytes.WithLabelValues(topic).Set(bound(number(config["retention.bytes"]), 1))
}

// throttled are round trips that count for how long brokers throttle us.
type throttled struct {
	kafka.RoundTripper
	seconds prometheus.Counter
}

// RoundTrip implements kafka.RoundTripper.
func (t throttled) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	answer, err := t.RoundTripper.RoundTrip(ctx, addr, req)
	if err != nil {
		return answer, err
	}
	var ms int32
	switch a := answer.(type) {
	case *produce.Response:
		ms = a.ThrottleTimeMs
	case *fetch.Response:
		ms = a.ThrottleTimeMs
	}
	if ms > 0 {
		t.seconds.Add(float64(ms) / 1e3)
	}
	return answer, nil
}
