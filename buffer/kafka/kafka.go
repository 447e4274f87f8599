// Package kafka implements buffer.Store on Apache Kafka topics.
//
// Each lane is a topic, each block a message (FORMAT.md). Any number of processes append to a topic; of those in a group, each
// consumes partitions of its own.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// Store keeps blocks in Kafka. It implements buffer.Store.
type Store struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	dialer  *dialer
	addr    net.Addr
	around  func(kafka.RoundTripper) kafka.RoundTripper // for tests: stands between us and the brokers

	ctx     context.Context // of requests that store blocks: ends when Close gives up waiting
	cancel  context.CancelFunc
	closing chan struct{} // closed when no further blocks are taken

	under sync.WaitGroup // Appends, tries, and the goroutines that check topics and feel the pulse
	rooms sync.Pool      // of *room
	most  atomic.Int64   // see MaxBlock

	mu     sync.Mutex
	closed bool
	lanes  map[buffer.Lane]*lane
}

var _ buffer.Store = (*Store)(nil)

// openTimeout bounds how long Open waits for Kafka.
const openTimeout = 5 * time.Second

// Open returns a Store whose topics for the main and the bulk lane exist, or says in the log why one does not: a Kafka that cannot be
// reached is no error, since the process then answers senders 503 and goes on as soon as it can. An error is a setting that is wrong,
// a file that cannot be read, or with KAFKA_STRICT a topic that is not safe. Metrics are registered with reg, which may be nil, until
// Close.
func Open(ctx context.Context, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	return open(ctx, cfg, log, reg, nil)
}

func open(ctx context.Context, cfg Config, log *slog.Logger, reg prometheus.Registerer,
	around func(kafka.RoundTripper) kafka.RoundTripper,
) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Brokers) == 0 {
		return nil, errors.New("INGESTGW_KAFKA_BROKERS is empty: give the addresses of brokers, such as kafka-0:9092")
	}
	dialer, err := newDialer(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("load credentials for Kafka: %w", err)
	}
	s := &Store{
		cfg:     cfg,
		log:     log,
		dialer:  dialer,
		addr:    kafka.TCP(cfg.Brokers...),
		around:  around,
		closing: make(chan struct{}),
		lanes:   map[buffer.Lane]*lane{},
	}
	s.most.Store(maxBlockUnknown)
	s.metrics = newMetrics()
	if err := s.metrics.register(reg); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := s.lookAll(ctx); err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	s.under.Go(s.check)     // ends with closing
	s.under.Go(s.feelPulse) // ends with closing
	return s, nil
}

// needed are the lanes whose topics have to be there.
var needed = [...]buffer.Lane{buffer.Main, buffer.Bulk}

// lookAll looks at the topics that have to be there. The error is why one is refused.
func (s *Store) lookAll(ctx context.Context) error {
	for _, name := range needed {
		known, err := s.lane(name).look(ctx)
		if err == nil && known.refused != nil && !known.unread {
			return known.refused
		}
		if err != nil {
			s.log.Error("a topic cannot be used yet: senders of what belongs into it get 503 until it can", "lane", name, "err", err)
		}
	}
	return nil
}

// check looks at the topics now and then until the Store closes: what was safe may be changed, and what is not there may come.
func (s *Store) check() {
	ctx, cancel := s.whileOpen()
	defer cancel()
	for {
		wait := checkEvery
		for _, l := range s.all() {
			if known := l.known.Load(); known == nil || known.refused != nil {
				wait = checkAnew
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		for _, l := range s.all() {
			l.lookAgain(ctx)
		}
	}
}

// whileOpen is a context that ends when the Store closes.
func (s *Store) whileOpen() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(s.ctx)
	go func() { // ends with closing, or with ctx
		select {
		case <-s.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// maxBlockUnknown is MaxBlock before anything is known of a topic.
const maxBlockUnknown = topicMaxBytes - overhead

// MaxBlock is what max.message.bytes of the smallest topic leaves room for.
func (s *Store) MaxBlock() int { return int(s.most.Load()) }

// compare finds out anew which topic takes the smallest blocks. It is called after what is known of one has changed.
func (s *Store) compare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	most := maxBlockUnknown
	for _, l := range s.lanes {
		if known := l.known.Load(); known != nil {
			most = min(most, known.maxBlock)
		}
	}
	s.most.Store(int64(most))
}

// Stats is as buffer.Store says. Lanes do not wait for each other: with an error come the statistics of the others. Bytes are an estimate: Kafka tells offsets only, so they are multiplied with the mean of the
// blocks that this process has seen.
func (s *Store) Stats(ctx context.Context) ([]buffer.PartitionStats, error) {
	var stats []buffer.PartitionStats
	var errs []error
	for _, l := range s.all() {
		of, err := l.stats(ctx)
		stats, errs = append(stats, of...), append(errs, err)
	}
	return stats, errors.Join(errs...)
}

func (l *lane) stats(ctx context.Context) ([]buffer.PartitionStats, error) {
	known, err := l.find(ctx)
	if err != nil {
		return nil, fmt.Errorf("stats of topic %s: %w", l.topic, err)
	}
	bounds, err := l.bounds(ctx, len(known.leaders))
	if err != nil {
		return nil, err
	}
	stats := make([]buffer.PartitionStats, len(bounds))
	for n, b := range bounds {
		stats[n] = buffer.PartitionStats{ID: l.id(known, n), First: b.From, Next: b.To, Bytes: l.size(b.To - b.From)}
	}
	return stats, nil
}

// Close is as buffer.Store says. Of blocks under way it gives up those that ctx leaves no time for.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	if first {
		close(s.closing)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends when nothing is under way; Close waits for it unless ctx ends twice
		s.under.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("close the Kafka buffer: gave up on blocks under way: %w", ctx.Err())
		s.cancel()
		<-done // a request ends with its context
	}
	s.cancel()
	for _, l := range s.all() {
		l.close()
	}
	if first {
		s.metrics.unregister()
	}
	return err
}

// enter says whether something may begin, and then keeps Close waiting until s.under is told that it has ended.
func (s *Store) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.under.Add(1)
	return true
}

func (s *Store) lane(name buffer.Lane) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[name]
	if l == nil {
		l = newLane(s, name)
		s.lanes[name] = l
	}
	return l
}

func (s *Store) all() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*lane, 0, len(s.lanes))
	for _, l := range s.lanes {
		all = append(all, l)
	}
	return all
}
