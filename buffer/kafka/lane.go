package kafka

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// A lane is a buffer.Lane and its topic. It has connections of its own, so that lanes do not wait for each other.
type lane struct {
	s         *Store
	name      buffer.Lane
	topic     string
	transport *kafka.Transport
	trips     kafka.RoundTripper // transport, and what is put around it
	client    *kafka.Client
	log       *slog.Logger
	spread    spread
	ends      ends
	newest    int64 // version of messages that is known

	looking chan struct{} // full while the topic is looked at
	known   atomic.Pointer[topic]

	mu   sync.Mutex
	mean buffer.BlockMean // of the blocks that this process has stored or read
}

// A topic is what is known of a lane's topic, once it is.
type topic struct {
	log      string // tells this topic of this cluster from others
	leaders  []int  // of the partitions, by their ids; -1 is none
	maxBlock int
	refused  error     // why nothing is stored there; nil when it may be used
	unread   bool      // its settings could not be read
	at       time.Time // when the leaders were known
}

func newLane(s *Store, name buffer.Lane) *lane {
	l := &lane{s: s, name: name, topic: s.cfg.topic(name), looking: make(chan struct{}, 1), newest: messageVersion}
	l.log = s.log.With("topic", l.topic)
	l.transport = s.dialer.transport(s.ctx, l.topic)
	l.trips = l.transport
	if s.around != nil {
		l.trips = s.around(l.transport)
	}
	l.trips = throttled{l.trips, s.metrics.throttled}
	l.client = &kafka.Client{Addr: s.addr, Timeout: requestTimeout, Transport: l.trips}
	return l
}

// see notes what a block is like.
func (l *lane) see(b *buffer.Block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mean.Add(b)
}

// size estimates the bytes of so many blocks. Before this process has seen any it is a guess.
func (l *lane) size(blocks buffer.Offset) int64 {
	const guess = 64 << 10
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, bytes, known := l.mean.Estimate(blocks); known {
		return int64(math.Ceil(bytes))
	}
	return int64(blocks) * guess
}

// close closes the connections that are idle, and the others once they are.
func (l *lane) close() { l.transport.CloseIdleConnections() }

// repartition is how often it is asked which partitions there are and who leads them.
const repartition = time.Second

// ready returns what is known of the topic when blocks may be stored there.
func (l *lane) ready(ctx context.Context) (*topic, error) {
	known, err := l.find(ctx)
	if err == nil && known.refused != nil {
		return nil, known.refused
	}
	return known, err
}

// find returns what is known of the topic. It looks for it, and creates it if it may, when nothing is known yet.
func (l *lane) find(ctx context.Context) (*topic, error) {
	known := l.known.Load()
	if known == nil {
		var err error
		if known, err = l.look(ctx); err != nil {
			return nil, err
		}
	}
	if time.Since(known.at) < repartition {
		return known, nil
	}
	return l.recount(ctx, known)
}

// recount notices partitions that were added or have another leader, and a topic that was deleted, which is looked for anew. The
// answer is out of the transport's cache.
func (l *lane) recount(ctx context.Context, known *topic) (*topic, error) {
	now := *known
	now.at = time.Now()
	meta, err := l.metadata(ctx)
	switch {
	case err == nil && errors.Is(meta.Topics[0].Error, kafka.UnknownTopicOrPartition):
		if l.learn(known, nil) {
			l.log.Error("the topic is not there any more: what it held and was not forwarded is lost")
		}
		return l.look(ctx)
	case err == nil && len(meta.Topics[0].Partitions) > 0:
		now.leaders = leadersOf(meta.Topics[0].Partitions)
	}
	l.learn(known, &now)
	return &now, nil
}

// learn puts now in the place of what was known of the topic, unless somebody else has learnt something meanwhile.
func (l *lane) learn(before, now *topic) bool {
	if !l.known.CompareAndSwap(before, now) {
		return false
	}
	l.s.compare()
	return true
}

// leadersOf are the brokers that lead the partitions, by partition.
func leadersOf(partitions []kafka.Partition) []int {
	leaders := make([]int, len(partitions))
	for i := range leaders {
		leaders[i] = -1
	}
	for _, p := range partitions {
		if p.ID < len(leaders) && p.Leader.Host != "" { // kafka-go makes broker 0 of one that is not there
			leaders[p.ID] = p.Leader.ID
		}
	}
	return leaders
}

// metadata is what the cluster says of the topic. The error wraps buffer.ErrUnavailable.
func (l *lane) metadata(ctx context.Context) (*kafka.MetadataResponse, error) {
	meta, err := l.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{l.topic}})
	if err == nil && len(meta.Brokers) == 0 {
		err = errors.New("no broker answers")
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kafka at %v for topic %s: %w: %w%s", l.s.cfg.Brokers, l.topic, buffer.ErrUnavailable, err, advice(err, named))
	}
	return meta, nil
}

// look finds or creates the topic, and checks whether it is safe.
func (l *lane) look(ctx context.Context) (*topic, error) {
	select {
	case l.looking <- struct{}{}:
		defer func() { <-l.looking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("topic %s: %w: it is still being looked for", l.topic, buffer.ErrUnavailable)
	}
	if known := l.known.Load(); known != nil { // somebody else was quicker
		return known, nil
	}
	meta, err := l.metadata(ctx)
	if err != nil {
		return nil, err
	}
	if errors.Is(meta.Topics[0].Error, kafka.UnknownTopicOrPartition) {
		if meta, err = l.create(ctx, meta); err != nil {
			return nil, err
		}
	}
	if err := meta.Topics[0].Error; err != nil || len(meta.Topics[0].Partitions) == 0 {
		return nil, fmt.Errorf("topic %s: %w: %w", l.topic, buffer.ErrUnavailable, errors.Join(err, errors.New("no partitions are known of it yet")))
	}
	known := l.examine(ctx, meta)
	l.known.Store(known)
	l.s.compare()
	return known, nil
}

// lookAgain is for the checks that go on while the topic is used.
func (l *lane) lookAgain(ctx context.Context) {
	meta, err := l.metadata(ctx)
	if err != nil || meta.Topics[0].Error != nil || len(meta.Topics[0].Partitions) == 0 {
		return // said by who uses it
	}
	l.known.Store(l.examine(ctx, meta))
	l.s.compare()
}

// logName tells one topic from others, of this cluster and of other ones. A topic that was deleted and made anew has the same
// name: kafka-go tells no topic ids. Progress tells those apart.
func logName(cluster, topic string) string {
	sum := sha256.Sum256([]byte(cluster + "\x00" + topic))
	return "kafka-" + hex.EncodeToString(sum[:12])
}
