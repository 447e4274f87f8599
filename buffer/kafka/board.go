package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/ingestgw/ingestgw/buffer"
)

// A Board is where processes tell each other about tenants: the topic <prefix>-tenants, in which Kafka keeps the last value of each
// key. It has one partition, so that all see everything in the same order. It is safe for concurrent use, until its Store closes.
type Board struct {
	s         *Store
	topic     string
	transport *kafka.Transport
	client    *kafka.Client
	log       *slog.Logger

	mu    sync.Mutex
	there bool // the topic exists
}

// boardTopic is what the topic's name ends with.
const boardTopic = "tenants"

const (
	// boardSegment and boardSegmentAge are after how much and how long the topic is compacted: who starts reads what has not been.
	boardSegment    = 16 << 20
	boardSegmentAge = 10 * time.Minute
	// boardTombstones is for how long who stands still sees that a key was taken down.
	boardTombstones = 24 * time.Hour
	// boardFetch bounds what is read at one time, unless a single value is larger.
	boardFetch = 4 << 20
	// The pause after an error, the first and the longest one.
	leastPause, mostPause = 100 * time.Millisecond, 2 * time.Second
)

// Board returns the board of the processes with the same KAFKA_TOPIC_PREFIX. Nothing is asked of Kafka yet.
func (s *Store) Board() *Board {
	b := &Board{s: s, topic: s.cfg.TopicPrefix + "-" + boardTopic}
	b.log = s.log.With("topic", b.topic)
	b.transport = s.dialer.transport(s.ctx, b.topic)
	var trips kafka.RoundTripper = b.transport
	if s.around != nil {
		trips = s.around(trips)
	}
	b.client = &kafka.Client{Addr: s.addr, Timeout: requestTimeout, Transport: throttled{trips, s.metrics.throttled}}
	return b
}

// Post puts a value up, in place of the one of the same key; nil takes that down. Without error it is on all replicas in sync; with
// one that wraps buffer.ErrUnavailable it may be there or not. value may be used again when Post returns.
func (b *Board) Post(ctx context.Context, key string, value []byte) error {
	err := b.post(ctx, key, value)
	if err == nil {
		return nil
	}
	return fmt.Errorf("post %d bytes at %q in topic %s: %w: %w%s", len(value), key, b.topic, buffer.ErrUnavailable, err, advice(err, named))
}

func (b *Board) post(ctx context.Context, key string, value []byte) error {
	if err := b.find(ctx); err != nil {
		return err
	}
	record := kafka.Record{Key: kafka.NewBytes([]byte(key))}
	if value != nil {
		record.Value = kafka.NewBytes(slices.Clone(value)) // a request that was given up may still be written
	}
	answer, err := b.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: b.topic, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(record),
	})
	if err == nil {
		err = answer.Error
	}
	b.notice(err)
	return err
}

// Watch calls fn with what stands, and then with all that is posted, our own included, until ctx ends or the Store closes. Values of
// one key that were replaced before the topic was last compacted may be left out. After errors it goes on by itself; when the topic
// was made anew it begins anew. fn may be called twice with the same, one call at a time. value is valid until fn returns, and nil
// when it was taken down.
//
// KNOWN GAP: what is posted into a topic that was made anew is left out up to the number of values that the old one had, when that
// many are there before we ask again: kafka-go tells no topic ids.
func (b *Board) Watch(ctx context.Context, fn func(key string, value []byte)) error {
	w := watching{Board: b, fn: fn, next: kafka.FirstOffset}
	pause, failing := leastPause, false
	for {
		err := w.read(ctx)
		if ended, why := b.ended(ctx); ended {
			return why
		}
		if failed := err != nil; failed != failing {
			failing = failed
			b.tell(err)
		}
		if err == nil {
			pause = leastPause
			continue
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-b.s.closing:
		}
		timer.Stop()
		pause = min(2*pause, mostPause)
	}
}

// ended says whether nobody watches any more.
func (b *Board) ended(ctx context.Context) (ended bool, why error) {
	select {
	case <-ctx.Done():
		return true, nil
	case <-b.s.closing:
		return true, fmt.Errorf("watch topic %s: %w", b.topic, buffer.ErrClosed)
	default:
		return false, nil
	}
}

func (b *Board) tell(err error) {
	if err == nil {
		b.log.Info("what other processes tell about tenants is read again")
		return
	}
	b.log.Warn("what other processes tell about tenants cannot be read: limits hold for each process alone", "err", err, "advice", advice(err, named))
}

// A watching is a Watch under way.
type watching struct {
	*Board
	fn    func(key string, value []byte)
	next  int64     // offset to read at
	stuck time.Time // since when there is something that cannot be read; zero when there is not
	room  room
}

// read asks once, and waits for as long as a broker does.
func (w *watching) read(ctx context.Context) error {
	if err := w.find(ctx); err != nil {
		return err
	}
	answer, err := w.client.Fetch(ctx, &kafka.FetchRequest{Topic: w.topic, Offset: w.next, MinBytes: 1, MaxBytes: boardFetch, MaxWait: pollWait})
	if err == nil {
		err = answer.Error
	}
	w.notice(err)
	switch {
	case errors.Is(err, kafka.OffsetOutOfRange), errors.Is(err, kafka.UnknownTopicOrPartition): // it was made anew
		w.next = kafka.FirstOffset
		return err
	case err != nil:
		return w.passBroken(err)
	}
	before := w.next
	if err := w.all(answer.Records); err != nil {
		return w.passBroken(err)
	}
	if w.next == before && answer.HighWatermark > w.next && w.next >= 0 {
		return w.passBroken(nil)
	}
	w.stuck = time.Time{}
	return nil
}

// all hands out the values of an answer.
func (w *watching) all(records kafka.RecordReader) error {
	for {
		m, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			w.passMarks(records)
			return nil
		}
		if err == nil {
			err = w.one(m)
		}
		if err != nil {
			return err
		}
	}
}

func (w *watching) one(m *kafka.Record) error {
	key, err := w.take(m.Key)
	if err != nil {
		return err
	}
	text := string(key)
	value, err := w.take(m.Value)
	if err != nil || m.Offset < w.next { // Kafka may answer with the whole batch that an offset is in
		return err
	}
	w.fn(text, value)
	w.next, w.stuck = m.Offset+1, time.Time{}
	return nil
}

// take reads a key or a value, which is valid until the next one is read.
func (w *watching) take(b protocol.Bytes) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	defer b.Close()
	if cap(w.room.b) > keepRoom {
		w.room.b = nil
	}
	w.room.b = w.room.b[:0]
	if err := w.room.read(b, b.Len()); err != nil {
		return nil, err
	}
	if w.room.b == nil {
		return []byte{}, nil
	}
	return w.room.b, nil
}

// passMarks passes over the marks of other producers' transactions.
func (w *watching) passMarks(records kafka.RecordReader) {
	c := collecting{next: buffer.Offset(w.next)}
	c.passMarks(records)
	w.next = int64(c.next)
}

// passBroken passes over one offset when nothing can be read there for long, as another replica may do better until then. err is
// nil when Kafka answers that there is something and does not give it.
func (w *watching) passBroken(err error) error {
	if err != nil && !damaged(err) {
		return err
	}
	if err == nil {
		err = fmt.Errorf("offset %d: Kafka gives nothing", w.next)
	}
	if w.stuck.IsZero() {
		w.stuck = time.Now()
	}
	if time.Since(w.stuck) < patience || w.next < 0 {
		return err
	}
	w.log.Error("a message about tenants cannot be read and is passed over", "offset", w.next, "err", err)
	w.next, w.stuck = w.next+1, time.Time{}
	return nil
}

// notice notes that the topic may not be there any more.
func (b *Board) notice(err error) {
	if errors.Is(err, kafka.UnknownTopicOrPartition) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.there = false
	}
}

// find makes sure that the topic exists, and creates it if it may.
func (b *Board) find(ctx context.Context) error {
	b.mu.Lock()
	there := b.there
	b.mu.Unlock()
	if there {
		return nil
	}
	meta, err := b.metadata(ctx)
	if err != nil {
		return err
	}
	if errors.Is(meta.Topics[0].Error, kafka.UnknownTopicOrPartition) {
		err = b.create(ctx, len(meta.Brokers))
	} else {
		err = meta.Topics[0].Error
	}
	if err != nil {
		return fmt.Errorf("topic %s: %w", b.topic, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.there = true
	return nil
}

func (b *Board) metadata(ctx context.Context) (*kafka.MetadataResponse, error) {
	meta, err := b.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{b.topic}})
	if err == nil && (len(meta.Brokers) == 0 || len(meta.Topics) == 0) {
		err = errors.New("no broker answers")
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kafka at %v for topic %s: %w", b.s.cfg.Brokers, b.topic, err)
	}
	return meta, nil
}

// create returns when the topic can be used.
func (b *Board) create(ctx context.Context, brokers int) error {
	if !b.s.cfg.CreateTopics {
		return errors.New("it does not exist: create it with one partition and cleanup.policy=compact, or set INGESTGW_KAFKA_CREATE_TOPICS=true")
	}
	replication := min(b.s.cfg.Replication, brokers)
	config := map[string]string{
		"cleanup.policy":            "compact",
		"delete.retention.ms":       milliseconds(boardTombstones),
		"max.compaction.lag.ms":     milliseconds(boardSegmentAge),
		"max.message.bytes":         strconv.Itoa(leastMaxBytes),
		"message.timestamp.type":    "LogAppendTime",
		"min.cleanable.dirty.ratio": "0.1",
		"min.insync.replicas":       strconv.Itoa(min(safeInsync, replication)),
		"segment.bytes":             strconv.Itoa(boardSegment),
		"segment.ms":                milliseconds(boardSegmentAge),
	}
	created, err := createTopic(ctx, b.client, b.topic, 1, replication, config)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if created {
		b.log.Info("topic created", "partitions", 1, "replication", replication, "config", config)
	}
	return b.awaitLeader(ctx)
}

// awaitLeader returns when the topic has a leader.
func (b *Board) awaitLeader(ctx context.Context) error {
	return await(ctx, func(ctx context.Context) (bool, error) {
		meta, err := b.metadata(ctx)
		if err == nil {
			err = meta.Topics[0].Error
		}
		return err == nil && len(meta.Topics[0].Partitions) > 0 && meta.Topics[0].Partitions[0].Leader.Host != "", err
	})
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
