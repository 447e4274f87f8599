package kafka

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
)

// safe are settings of which nothing is said.
var safe = map[string]string{
	"cleanup.policy":                 "delete",
	"max.message.bytes":              "8388608",
	"message.timestamp.type":         "LogAppendTime",
	"min.insync.replicas":            "2",
	"retention.bytes":                "-1",
	"retention.ms":                   "259200000",
	"unclean.leader.election.enable": "false",
}

func TestWhatIsUnsafeAboutATopicIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		replication []int // of each partition; three by default
		config      map[string]string
		faults      []string
		keeps       int64
	}{
		"nothing":                          {},
		"kept for ever":                    {config: map[string]string{"retention.ms": "-1"}},
		"kept for a day":                   {config: map[string]string{"retention.ms": "86400000"}},
		"kept for less":                    {config: map[string]string{"retention.ms": "86399999"}, faults: []string{"retention.ms"}},
		"removed by size":                  {config: map[string]string{"retention.bytes": "1000000000"}, faults: []string{"retention.bytes"}},
		"removed by size, as was asked":    {config: map[string]string{"retention.bytes": "1000000000"}, keeps: 1_000_000_000},
		"removed sooner than was asked":    {config: map[string]string{"retention.bytes": "999999999"}, keeps: 1_000_000_000, faults: []string{"retention.bytes"}},
		"not removed by size":              {keeps: 1_000_000_000},
		"one replica":                      {replication: []int{1}, config: map[string]string{"min.insync.replicas": "1"}, faults: []string{"min.insync.replicas", "replication"}},
		"two replicas":                     {replication: []int{2}, faults: []string{"replication"}},
		"one partition has fewer":          {replication: []int{3, 3, 2}, faults: []string{"replication"}},
		"more replicas":                    {replication: []int{5}, config: map[string]string{"min.insync.replicas": "3"}},
		"acknowledged by one":              {config: map[string]string{"min.insync.replicas": "1"}, faults: []string{"min.insync.replicas"}},
		"acknowledged by all":              {config: map[string]string{"min.insync.replicas": "3"}, faults: []string{"replication"}},
		"any broker may lead":              {config: map[string]string{"unclean.leader.election.enable": "true"}, faults: []string{"unclean.leader.election.enable"}},
		"messages of 1 MB":                 {config: map[string]string{"max.message.bytes": "1048588"}, faults: []string{"max.message.bytes"}},
		"messages of a block":              {config: map[string]string{"max.message.bytes": "1049088"}},
		"compacted":                        {config: map[string]string{"cleanup.policy": "compact"}, faults: []string{"cleanup.policy"}},
		"compacted and removed":            {config: map[string]string{"cleanup.policy": "compact,delete"}, faults: []string{"cleanup.policy"}},
		"the time of who creates":          {config: map[string]string{"message.timestamp.type": "CreateTime"}, faults: []string{"message.timestamp.type"}},
		"everything at once":               {replication: []int{1}, config: map[string]string{"cleanup.policy": "compact", "max.message.bytes": "1", "message.timestamp.type": "CreateTime", "min.insync.replicas": "1", "retention.bytes": "1", "retention.ms": "1", "unclean.leader.election.enable": "true"}, faults: append(slices.Clone(checked), "replication")},
		"a broker that tells nothing":      {config: map[string]string{"min.insync.replicas": ""}, faults: []string{"min.insync.replicas"}},
		"a broker that tells no retention": {config: map[string]string{"retention.ms": "", "retention.bytes": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			config := maps.Clone(safe)
			maps.Copy(config, c.config)
			if len(c.replication) == 0 {
				c.replication = []int{3}
			}
			var partitions []kafka.Partition
			for i, n := range c.replication {
				partitions = append(partitions, kafka.Partition{ID: i, Replicas: make([]kafka.Broker, n)})
			}
			faults := faultsOf(partitions, config, cmp.Or(c.keeps, -1))
			slices.Sort(c.faults)
			if got := slices.Sorted(maps.Keys(faults)); !slices.Equal(got, c.faults) {
				t.Errorf("%v, want %v", faults, c.faults)
			}
			for setting, why := range faults {
				if value := config[setting]; !strings.Contains(why, value) || !strings.Contains(why, ": ") {
					t.Errorf("%s=%s: %q does not say what it is and why", setting, value, why)
				}
			}
		})
	}
}

// unsafe are the settings of the main topic of which the gauge says that they are unsafe.
func unsafe(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.metrics.faults)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]bool{}
	for _, f := range families {
		for _, m := range f.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["topic"] == s.cfg.topic(buffer.Main) && m.Gauge.GetValue() == 1 {
				settings[labels["setting"]] = true
			}
		}
	}
	return settings
}

// given is a topic that somebody else has created.
func given(t *testing.T, config map[string]string) (*kfake.Cluster, Config) {
	t.Helper()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	all := maps.Clone(safe)
	maps.Copy(all, config)
	if err := c.CreateTopic(cfg.TopicPrefix+"-main", 3, all); err != nil {
		t.Fatal(err)
	}
	return c, cfg
}

func TestTopicThatIsCreatedIsSafe(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(fakeKafka(t).ListenAddrs()), nil)
	if got := unsafe(t, s); len(got) > 0 {
		t.Errorf("unsafe are %v", got)
	}
	if got, want := s.MaxBlock(), topicMaxBytes-overhead; got != want {
		t.Errorf("blocks may have %d bytes, want %d", got, want)
	}
	l := s.lane(buffer.Main)
	config, err := l.config(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := config["retention.ms"]; got != "259200000" {
		t.Errorf("retention.ms=%s", got)
	}
}

func TestUnsafeTopicIsShownAndRefusedWhenStrict(t *testing.T) {
	t.Parallel()
	_, cfg := given(t, map[string]string{"min.insync.replicas": "1", "retention.ms": "3600000"})
	s := mustOpen(t, cfg, nil)
	if got := unsafe(t, s); !maps.Equal(got, map[string]bool{"min.insync.replicas": true, "retention.ms": true}) {
		t.Errorf("unsafe are %v", got)
	}
	put(t, s, 1)

	cfg.Strict = true
	reg := prometheus.NewRegistry()
	for range 2 { // what was registered is registered no more
		strict, err := Open(t.Context(), cfg, slog.New(slog.DiscardHandler), reg)
		if err == nil {
			t.Fatal(errors.Join(errors.New("it was opened"), strict.Close(t.Context())))
		}
		for _, part := range []string{"min.insync.replicas: 1, want 2", "retention.ms: 3600000", "INGESTGW_KAFKA_STRICT", cfg.TopicPrefix + "-main"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q is not in %v", part, err)
			}
		}
	}
}

// A topic may become unsafe while it is used. What is in it is forwarded all the same.
func TestTopicThatBecomesUnsafeTakesNoBlocksWhenStrict(t *testing.T) {
	t.Parallel()
	_, cfg := given(t, nil)
	cfg.Strict = true
	s := mustOpen(t, cfg, nil)
	all := put(t, s, 3)
	l := s.lane(buffer.Main)
	alter := func(insync string) {
		answer, err := l.client.IncrementalAlterConfigs(soon(t), &kafka.IncrementalAlterConfigsRequest{
			Resources: []kafka.IncrementalAlterConfigsRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: l.topic,
				Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "min.insync.replicas", Value: insync, ConfigOperation: kafka.ConfigOperationSet}}}},
		})
		if err != nil || answer.Resources[0].Error != nil {
			t.Fatal(err, answer)
		}
		l.lookAgain(soon(t))
	}
	alter("1")
	p := newPaper()
	if err := s.Append(soon(t), buffer.Main, p.Block); !errors.Is(err, buffer.ErrUnavailable) || !strings.Contains(err.Error(), "min.insync.replicas") {
		t.Errorf("append: %v", err)
	}
	p.wantReleased(t)
	if _, err := s.Stats(soon(t)); err != nil {
		t.Errorf("stats: %v", err)
	}
	if read := readAll(t, consume(t, s, "g").owns(3)); read != len(all) {
		t.Errorf("%d of %d blocks were read", read, len(all))
	}
	alter("2")
	put(t, s, 1)
}

func TestTopicThatCannotBeCheckedIsShownAndTakesNoBlocksWhenStrict(t *testing.T) {
	t.Parallel()
	for name, strict := range map[string]bool{"strict": true, "not strict": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, cfg := given(t, map[string]string{"max.message.bytes": "2000000"})
			cfg.Strict = strict
			s := mustOpen(t, cfg, nil)
			denied := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Err: kerr.TopicAuthorizationFailed, Count: -1})
			l := s.lane(buffer.Main)
			l.lookAgain(soon(t))
			if got := unsafe(t, s); !got["unknown"] || denied.Hits() == 0 {
				t.Errorf("unsafe are %v", got)
			}
			if got := s.MaxBlock(); got != 2000000-overhead {
				t.Errorf("blocks may have %d bytes now", got)
			}
			err := s.Append(soon(t), buffer.Main, newPaper().Block)
			if !strict && err != nil || strict && (!errors.Is(err, buffer.ErrUnavailable) || !strings.Contains(err.Error(), "KAFKA_STRICT")) {
				t.Errorf("append: %v", err)
			}
			other := mustOpen(t, cfg, nil) // a process that starts now does start
			denied.Remove()
			for _, s := range []*Store{s, other} {
				s.lane(buffer.Main).lookAgain(soon(t))
				put(t, s, 1)
				if got := unsafe(t, s); len(got) > 0 {
					t.Errorf("unsafe are %v", got)
				}
			}
		})
	}
}

func TestTopicThatDoesNotExistIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.CreateTopics = false
	s := mustOpen(t, cfg, nil)
	group := consume(t, s, "g")
	p := newPaper()
	began := time.Now()
	err := s.Append(soon(t), buffer.Main, p.Block)
	if !errors.Is(err, buffer.ErrUnavailable) || !strings.Contains(err.Error(), "INGESTGW_KAFKA_CREATE_TOPICS") || !strings.Contains(err.Error(), cfg.TopicPrefix+"-main") {
		t.Errorf("append: %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the sender waited %v for that", took)
	}
	p.wantReleased(t)
	if _, err := s.Stats(soon(t)); !errors.Is(err, buffer.ErrUnavailable) {
		t.Errorf("stats: %v", err)
	}
	if err := c.CreateTopic(cfg.TopicPrefix+"-main", 2, safe); err != nil {
		t.Fatal(err)
	}
	eventually(t, "blocks are stored", func() bool { return s.Append(soon(t), buffer.Main, newPaper().Block) == nil })
	group.owns(2)
}

func TestTopicIsCreatedOnAsManyBrokersAsThereAre(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t, kfake.NumBrokers(1))
	var log safeBuffer
	s, err := open(t.Context(), testConfig(c.ListenAddrs()), slog.New(slog.NewTextHandler(&log, nil)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.WithoutCancel(t.Context()))
	put(t, s, 1)
	if !strings.Contains(log.String(), "INGESTGW_KAFKA_REPLICATION") || !strings.Contains(log.String(), "replication=1 wanted=3") {
		t.Errorf("the log says\n%s", log.String())
	}
	config, err := s.lane(buffer.Main).config(soon(t))
	if err != nil || config["min.insync.replicas"] != "1" {
		t.Errorf("%v, %v", config, err)
	}
	if got := unsafe(t, s); !got["min.insync.replicas"] {
		t.Errorf("unsafe are %v", got)
	}
}

func TestManyProcessesCreateATopicOnce(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	var under sync.WaitGroup
	for range 5 {
		under.Go(func() {
			s, err := open(t.Context(), cfg, slog.New(slog.DiscardHandler), nil, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close(context.WithoutCancel(t.Context()))
			if err := s.Append(soon(t), buffer.Main, newPaper().Block); err != nil {
				t.Error(err)
			}
		})
	}
	under.Wait()
	if info := c.TopicInfo(cfg.TopicPrefix + "-main"); info == nil || len(c.PartitionInfos(cfg.TopicPrefix+"-main")) != cfg.Partitions {
		t.Errorf("%+v", info)
	}
}

// Who waits for a topic to be looked at goes when its caller does.
func TestAppendDoesNotWaitForATopicLongerThanItsCaller(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.AppendTimeout = 10 * time.Second
	held := make(chan struct{})
	c.ControlKey(int16(kmsg.CreateTopics), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-held })
		return nil, nil, false
	})
	s := mustOpen(t, cfg, nil) // gives up after a while
	looking := make(chan error, 1)
	go func() { looking <- s.Append(soon(t), buffer.Main, newPaper().Block) }() // ends once the topic has been created
	eventually(t, "the topic is being looked for", func() bool { return len(s.lane(buffer.Main).looking) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.Append(ctx, buffer.Main, newPaper().Block); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Errorf("append: %v after %v", err, time.Since(began))
	}
	close(held)
	if err := <-looking; err != nil {
		t.Errorf("append: %v", err)
	}
}

func TestTooLargeBlocksAreToldBeforeTheyAreSent(t *testing.T) {
	t.Parallel()
	c, cfg := given(t, map[string]string{"max.message.bytes": "100000"})
	s := mustOpen(t, cfg, nil)
	produced := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Observe: true, Count: -1})
	released := 0
	block := func(size int) *buffer.Block {
		return buffer.NewBlock(time.UnixMilli(1), 1, 1, make([]byte, size), func() { released++ })
	}
	if err := s.Append(soon(t), buffer.Main, block(s.MaxBlock()+1)); !errors.Is(err, buffer.ErrTooLarge) || produced.Hits() > 0 {
		t.Errorf("append: %v, after %d requests", err, produced.Hits())
	}
	if err := s.Append(soon(t), buffer.Main, block(s.MaxBlock())); err != nil {
		t.Errorf("append as much as is promised: %v", err)
	}
	if released != 2 || testutil.ToFloat64(s.metrics.appends.WithLabelValues("main", "too_large")) != 1 {
		t.Errorf("%d blocks were given back", released)
	}
}

func TestABlockThatIsTooLargeForTheTopicMakesTheNextOnesSmaller(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, testConfig(fakeKafka(t).ListenAddrs()), nil)
	const size = 1 << 20
	if s.MaxBlock() < size {
		t.Fatalf("blocks may have %d bytes", s.MaxBlock())
	}
	l := s.lane(buffer.Main)
	if err := l.refused(0, size, kafka.MessageSizeTooLarge); !errors.Is(err, buffer.ErrTooLarge) {
		t.Errorf("told %v", err)
	}
	if got := s.MaxBlock(); got != size/2 {
		t.Errorf("blocks may have %d bytes after one of %d was too large", got, size)
	}
	_ = l.refused(0, size, kafka.MessageSizeTooLarge) // of a block that was under way, too
	if got := s.MaxBlock(); got != size/2 {
		t.Errorf("blocks may have %d bytes", got)
	}
}

func TestBlocksMayBeAsLargeAsAllTopicsTake(t *testing.T) {
	t.Parallel()
	c, cfg := given(t, map[string]string{"max.message.bytes": "2000000"})
	if err := c.CreateTopic(cfg.TopicPrefix+"-late", 3, map[string]string{"max.message.bytes": "1500000"}); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, cfg, nil)
	want := func(when string, most int) {
		t.Helper()
		if got := s.MaxBlock(); got != most {
			t.Errorf("%s: blocks may have %d bytes, want %d", when, got, most)
		}
	}
	want("opened", 2000000-overhead)
	late := s.lane("late")
	if _, err := late.find(soon(t)); err != nil {
		t.Fatal(err)
	}
	want("another topic takes less", 1500000-overhead)
	_ = late.refused(0, 1000000, kafka.MessageSizeTooLarge)
	want("it refuses what its settings allow", 500000)
	late.lookAgain(soon(t))
	want("its settings are looked at again", 1500000-overhead)
	s.cfg.CreateTopics = false
	if err := c.DeleteTopic(late.topic); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is known to be gone", func() bool { _, err := late.find(soon(t)); return err != nil })
	want("it was deleted", 2000000-overhead)
}

func TestTopicThatIsDeletedIsCreatedAnewIfItMayBe(t *testing.T) {
	t.Parallel()
	for name, may := range map[string]bool{"may": true, "may not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := fakeKafka(t)
			cfg := testConfig(k.ListenAddrs())
			s := mustOpen(t, cfg, nil)
			put(t, s, 3)
			s.cfg.CreateTopics = may
			if err := k.DeleteTopic(s.lane(buffer.Main).topic); err != nil {
				t.Fatal(err)
			}
			eventually(t, "what the settings say of a topic that is not there", func() bool {
				err := s.Append(soon(t), buffer.Main, newPaper().Block)
				if may {
					return err == nil
				}
				return errors.Is(err, buffer.ErrUnavailable) && strings.Contains(err.Error(), "INGESTGW_KAFKA_CREATE_TOPICS=true")
			})
		})
	}
}
