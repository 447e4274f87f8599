package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

var _ limit.Board = (*Board)(nil)

// A watcher is a Watch under way.
type watcher struct {
	t    testing.TB
	stop func()

	mu     sync.Mutex
	seen   []string          // key=value, in their order
	stands map[string]string // by key
}

// watch watches until the test ends, or stop.
func watch(t testing.TB, b *Board) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w := &watcher{t: t, stands: map[string]string{}}
	done := make(chan error, 1)
	go func() { done <- b.Watch(ctx, w.see) }() // ends with ctx
	w.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("watch: %v", err)
			}
		case <-time.After(patienceOfTests):
			t.Errorf("Watch does not return within %v", patienceOfTests)
		}
	})
	t.Cleanup(w.stop)
	return w
}

func (w *watcher) see(key string, value []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, key+"="+string(value))
	w.stands[key] = string(value)
	if value == nil {
		delete(w.stands, key)
	}
}

func (w *watcher) has(key, value string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	got, there := w.stands[key]
	return there && got == value
}

func (w *watcher) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// sees waits until a value stands.
func (w *watcher) sees(key, value string) {
	w.t.Helper()
	eventually(w.t, fmt.Sprintf("%s=%s is seen", key, value), func() bool { return w.has(key, value) })
}

func mustPost(t testing.TB, b *Board, key string, value []byte) {
	t.Helper()
	if err := b.Post(soon(t), key, value); err != nil {
		t.Fatal(err)
	}
}

func TestAllThatIsPostedIsSeenInOrderByAll(t *testing.T) {
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	one, two := mustOpen(t, cfg, nil).Board(), mustOpen(t, cfg, nil).Board()
	mustPost(t, one, "a", []byte("1"))
	mustPost(t, two, "b", []byte("1"))
	first, second := watch(t, one), watch(t, two)
	first.sees("b", "1")
	value := []byte("2")
	mustPost(t, two, "a", value)
	value[0] = 'x' // it is ours again
	mustPost(t, one, "", []byte{})
	mustPost(t, one, "a", nil)
	mustPost(t, one, "b", bytes.Repeat([]byte("x"), 900<<10))
	want := []string{"a=1", "b=1", "a=2", "=", "a=", "b=" + strings.Repeat("x", 900<<10)}
	for _, w := range []*watcher{first, second} {
		w.sees("b", strings.Repeat("x", 900<<10))
		if got := w.all(); !slices.Equal(got, want) {
			t.Errorf("%.300q, want %.300q", got, want)
		}
		if w.has("a", "") || !w.has("", "") {
			t.Error("what was taken down stands, or what is empty does not")
		}
	}
}

func TestTheBoardsTopicIsCompactedAndHasOnePartition(t *testing.T) {
	c := fakeKafka(t)
	b := mustOpen(t, testConfig(c.ListenAddrs()), nil).Board()
	mustPost(t, b, "a", nil)
	info := c.TopicInfo(b.topic)
	if info == nil || len(c.PartitionInfos(b.topic)) != 1 || *info.Configs["cleanup.policy"] != "compact" || *info.Configs["min.insync.replicas"] != "2" {
		t.Errorf("%+v", info)
	}
}

func TestABoardWithoutTopicSaysWhatToDo(t *testing.T) {
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.CreateTopics = false
	b := mustOpen(t, cfg, nil).Board()
	w := watch(t, b)
	err := b.Post(soon(t), "a", nil)
	if !errors.Is(err, buffer.ErrUnavailable) || !strings.Contains(err.Error(), "cleanup.policy=compact") || !strings.Contains(err.Error(), b.topic) {
		t.Errorf("post: %v", err)
	}
	if err := c.CreateTopic(b.topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the topic is found", func() bool { return b.Post(soon(t), "a", []byte("1")) == nil })
	w.sees("a", "1")
}

func TestWatchingGoesOnWhenTheTopicWasMadeAnew(t *testing.T) {
	c := fakeKafka(t)
	b := mustOpen(t, testConfig(c.ListenAddrs()), nil).Board()
	w := watch(t, b)
	for i := range 5 {
		mustPost(t, b, "a", []byte{'0' + byte(i)})
	}
	w.sees("a", "4")
	if err := c.DeleteTopic(b.topic); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the topic takes values", func() bool { return b.Post(soon(t), "b", []byte("1")) == nil })
	w.sees("b", "1")
}

func TestWatchingAndPostingGoOnAfterFaults(t *testing.T) {
	for name, fault := range map[string]kfake.Fault{
		"fetch: storage":      {Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.KafkaStorageError, Count: 3},
		"fetch: no leader":    {Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition, Count: 3},
		"fetch: unknown":      {Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.UnknownTopicOrPartition, Count: 3},
		"fetch: out of range": {Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 3},
		"post: no replicas":   {Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: 3},
		"post: no leader":     {Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition, Count: 3},
		"post: unknown":       {Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownTopicOrPartition, Count: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fakeKafka(t)
			b := mustOpen(t, testConfig(c.ListenAddrs()), nil).Board()
			w := watch(t, b)
			mustPost(t, b, "a", []byte("1"))
			w.sees("a", "1")
			fault.Topic = b.topic
			c.Fault(fault)
			eventually(t, "it can be posted", func() bool {
				err := b.Post(soon(t), "a", []byte("2"))
				if err != nil && !errors.Is(err, buffer.ErrUnavailable) {
					t.Errorf("post: %v", err)
				}
				return err == nil
			})
			w.sees("a", "2")
		})
	}
}

func TestWatchingPassesOverWhatIsNoValue(t *testing.T) {
	c := fakeKafka(t)
	b := mustOpen(t, testConfig(c.ListenAddrs()), nil).Board()
	mustPost(t, b, "a", []byte("1"))
	w := watch(t, b)
	w.sees("a", "1")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("other"), kgo.DefaultProduceTopic(b.topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for range 2 { // each leaves a mark behind
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(soon(t), kgo.StringRecord("without a key")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(soon(t), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	mustPost(t, b, "a", []byte("2"))
	w.sees("a", "2")
}

func TestWatchingEndsWithTheStore(t *testing.T) {
	c := fakeKafka(t)
	s, err := Open(t.Context(), testConfig(c.ListenAddrs()), slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Board().Watch(context.Background(), func(string, []byte) {}) }() // ends with s
	if err := s.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, buffer.ErrClosed) {
			t.Errorf("watch: %v", err)
		}
	case <-time.After(patienceOfTests):
		t.Error("Watch does not return")
	}
	if err := s.Board().Post(soon(t), "a", nil); err == nil {
		t.Error("something is posted after Close")
	}
}

func TestBoardOnApacheKafkaIsReadOnAfterARestartAndCompacted(t *testing.T) {
	k := realKafka(t, 1, map[string]string{"log.cleaner.backoff.ms": "200", "log.initial.task.delay.ms": "100"})
	cfg := testConfig(k.Addrs())
	s := mustOpen(t, cfg, nil)
	b := s.Board()
	w := watch(t, b)
	mustPost(t, b, "stays", []byte("1"))
	mustPost(t, b, "limit", []byte("0"))
	w.sees("limit", "0")
	k.Brokers[0].Kill()
	ctx, cancel := context.WithTimeout(soon(t), time.Second)
	defer cancel()
	if err := b.Post(ctx, "limit", []byte("lost")); err == nil {
		t.Error("something is posted while no broker is there")
	}
	if err := k.Brokers[0].Restart(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it can be posted after a restart", func() bool { return b.Post(soon(t), "limit", []byte("1")) == nil })
	w.sees("limit", "1")

	// Without these Kafka would compact in ten minutes.
	if _, err := b.client.IncrementalAlterConfigs(soon(t), &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: b.topic, Configs: []kafka.IncrementalAlterConfigsRequestConfig{
			{Name: "segment.ms", Value: "100"}, {Name: "max.compaction.lag.ms", Value: "100"},
		},
	}}}); err != nil {
		t.Fatal(err)
	}
	last := 0
	eventually(t, "the topic is compacted", func() bool {
		last++
		if err := b.Post(soon(t), "limit", fmt.Append(nil, "value ", last)); err != nil {
			t.Fatal(err)
		}
		late := watch(t, mustOpen(t, cfg, nil).Board())
		defer late.stop()
		late.sees("limit", fmt.Sprint("value ", last))
		return late.has("stays", "1") && len(late.all()) < last
	})
	w.sees("limit", fmt.Sprint("value ", last))
}
