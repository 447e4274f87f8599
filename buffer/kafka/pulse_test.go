package kafka

import (
	"context"
	"maps"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/produce"

	"github.com/ingestgw/ingestgw/buffer"
)

// shown is what a Store's metrics of these names say, without the prefix of all of them and with the topic's lane behind a slash.
func shown(t *testing.T, s *Store, names ...string) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.metrics)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "ingestgw_kafka_")
		for _, m := range f.Metric {
			key := name
			for _, l := range m.Label {
				key += strings.Replace(l.GetValue(), s.cfg.TopicPrefix+"-", "/", 1)
			}
			for _, n := range names {
				if n == name {
					all[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
	}
	return all
}

func wantShown(t *testing.T, s *Store, want map[string]float64, names ...string) {
	t.Helper()
	if got := shown(t, s, names...); !maps.Equal(got, want) {
		t.Errorf("shown are %v, want %v", got, want)
	}
}

func TestPartitionsAreCountedUntilNoBrokerAnswers(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	s := mustOpen(t, testConfig(c.ListenAddrs()), nil)
	if !s.feel(soon(t)) {
		t.Error("no broker answers")
	}
	names := []string{"partitions", "under_replicated_partitions", "leaderless_partitions", "reachable", "unreachable_seconds"}
	wantShown(t, s, map[string]float64{
		"partitions/main": 3, "under_replicated_partitions/main": 0, "leaderless_partitions/main": 0,
		"partitions/bulk": 3, "under_replicated_partitions/bulk": 0, "leaderless_partitions/bulk": 0,
		"reachable": 1, "unreachable_seconds": 0,
	}, names...)
	c.Close()
	if s.feel(soon(t)) {
		t.Error("a broker answers that is gone")
	}
	got := shown(t, s, names...)
	if away := got["unreachable_seconds"]; away <= 0 {
		t.Errorf("none answers for %v s", away)
	}
	delete(got, "unreachable_seconds")
	if !maps.Equal(got, map[string]float64{"reachable": 0}) {
		t.Errorf("shown are %v, want that it is not reachable, and nothing of partitions", got)
	}
}

func TestUnreachableCountsFromTheLastAnswer(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	after := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	p := newPulse()
	if _, _, known := p.at(start); known {
		t.Error("something is known before a broker was asked")
	}
	want := func(now time.Time, wantAlive bool, wantAway time.Duration) {
		t.Helper()
		if alive, away, known := p.at(now); alive != wantAlive || away != wantAway || !known {
			t.Errorf("alive %v, away %v, known %v; want %v, %v", alive, away, known, wantAlive, wantAway)
		}
	}
	p.felt(start, false) // it counts from the first question when none has ever answered
	p.felt(after(5), false)
	want(after(7), false, 7*time.Second)
	p.felt(after(10), true)
	want(after(19), true, 0)
	p.felt(after(20), false)
	p.felt(after(22), false)
	want(after(25), false, 15*time.Second)
}

func TestPartitionsWithTooFewReplicasOrNoLeaderAreShown(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(fakeKafka(t).ListenAddrs()), nil)
	topic := s.lane(buffer.Main).topic
	broker := kafka.Broker{Host: "b", ID: 1}
	three, two := []kafka.Broker{broker, broker, broker}, []kafka.Broker{broker, broker}
	s.metrics.count(topic, []kafka.Partition{
		{Leader: broker, Replicas: three, Isr: three},
		{Leader: broker, Replicas: three, Isr: two},
		{Leader: kafka.Broker{}, Replicas: three, Isr: nil},
	})
	got := shown(t, s, "partitions", "under_replicated_partitions", "leaderless_partitions")
	for name, want := range map[string]float64{"partitions/main": 3, "under_replicated_partitions/main": 2, "leaderless_partitions/main": 1} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	s.metrics.count(topic, nil)
	if got := shown(t, s, "partitions"); len(got) > 1 {
		t.Errorf("of a topic that is not known is shown %v", got)
	}
}

func TestRetentionIsShownAsTheTopicHasIt(t *testing.T) {
	t.Parallel()
	names := []string{"retention_seconds", "retention_bytes"}
	for name, c := range map[string]struct {
		config         map[string]string
		seconds, bytes float64
	}{
		"by time":    {nil, 259200, math.Inf(1)},
		"by size":    {map[string]string{"retention.ms": "-1", "retention.bytes": "1000"}, math.Inf(1), 1000},
		"by neither": {map[string]string{"retention.ms": "-1"}, math.Inf(1), math.Inf(1)},
		"by both":    {map[string]string{"retention.ms": "500", "retention.bytes": "0"}, 0.5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, cfg := given(t, c.config)
			s := mustOpen(t, cfg, nil)
			got := shown(t, s, names...)
			if got["retention_seconds/main"] != c.seconds || got["retention_bytes/main"] != c.bytes {
				t.Errorf("shown are %v, want %v s and %v bytes", got, c.seconds, c.bytes)
			}
		})
	}
}

// throttles are brokers that say that they throttle what is stored and read.
type throttles struct {
	kafka.RoundTripper
	produceMs, fetchMs int32
}

func (f throttles) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	answer, err := f.RoundTripper.RoundTrip(ctx, addr, req)
	switch a := answer.(type) {
	case *produce.Response:
		a.ThrottleTimeMs = f.produceMs
	case *fetch.Response:
		a.ThrottleTimeMs = f.fetchMs
	}
	return answer, err
}

func TestThrottlingIsCountedAsBrokersTellIt(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(fakeKafka(t).ListenAddrs()), func(trips kafka.RoundTripper) kafka.RoundTripper {
		return throttles{trips, 1500, 250}
	})
	wantShown(t, s, map[string]float64{"throttled_seconds_total": 0}, "throttled_seconds_total")
	put(t, s, 2)
	wantShown(t, s, map[string]float64{"throttled_seconds_total": 3}, "throttled_seconds_total")
	if _, err := s.lane(buffer.Main).fetch(soon(t), 0, 0, 1); err != nil {
		t.Fatal(err)
	}
	wantShown(t, s, map[string]float64{"throttled_seconds_total": 3.25}, "throttled_seconds_total")
	if err := s.Board().Post(soon(t), "k", nil); err != nil {
		t.Fatal(err)
	}
	wantShown(t, s, map[string]float64{"throttled_seconds_total": 4.75}, "throttled_seconds_total")
}
