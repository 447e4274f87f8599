package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ingestgw/ingestgw/buffer"
)

// patienceOfTests is how long is waited for what has to come. It is waited for only when a test fails.
const patienceOfTests = 20 * time.Second

// soon is a context that outlives anything but a hang.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patienceOfTests)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patienceOfTests); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patienceOfTests, what)
		}
	}
}

// A paper is a block whose bytes are watched until the Store gives them back, and spoilt then.
type paper struct {
	*buffer.Block
	text     string
	released atomic.Int32
	changed  atomic.Bool
}

var papers atomic.Int32

// newPaper is a block of a few bytes like no other.
func newPaper() *paper {
	p := &paper{text: fmt.Sprintf("block %d ", papers.Add(1))}
	data := bytes.Repeat([]byte(p.text), 30)
	p.text = string(data)
	p.Block = buffer.NewBlock(time.UnixMilli(1_700_000_000_000), 1, 1, data, func() {
		if string(data) != p.text {
			p.changed.Store(true)
		}
		p.released.Add(1)
		clear(data)
	})
	return p
}

// wantReleased waits until the Store has given the bytes back, once and unchanged.
func (p *paper) wantReleased(t *testing.T) {
	t.Helper()
	eventually(t, "the block's bytes are given back", func() bool { return p.released.Load() > 0 })
	if n := p.released.Load(); n != 1 || p.changed.Load() {
		t.Errorf("the block's bytes were given back %d times, changed until then: %v", n, p.changed.Load())
	}
}

// put stores n blocks, which has to succeed.
func put(t *testing.T, s *Store, n int) []*paper {
	t.Helper()
	var all []*paper
	for range n {
		p := newPaper()
		all = append(all, p)
		if err := s.Append(soon(t), buffer.Main, p.Block); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
	return all
}

// stored is what the topic holds: how often each block is there, by partition.
func stored(t *testing.T, s *Store) map[int]map[string]int {
	t.Helper()
	ctx, l := soon(t), s.lane(buffer.Main)
	known, err := l.find(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]map[string]int{}
	for n := range known.leaders {
		all[n] = map[string]int{}
		var span []buffer.Span
		eventually(t, fmt.Sprintf("the ends of partition %d are told", n), func() bool { span, err = l.boundsOf(ctx, n); return err == nil })
		for at := span[0].From; at < span[0].To; {
			eventually(t, fmt.Sprintf("partition %d can be read at %d", n, at), func() bool {
				answer, err := l.fetch(ctx, n, at, 1<<20)
				if err != nil || answer.Error != nil {
					return false
				}
				batch, err := l.collect(answer.Records, at, 1<<20)
				for _, b := range batch.Blocks {
					all[n][string(b.Data)]++
				}
				batch.Release()
				at = batch.Next
				return err == nil
			})
		}
	}
	return all
}

// wantStored says what is missing, and how many more copies there are than blocks.
func wantStored(t *testing.T, s *Store, all []*paper) (copies int) {
	t.Helper()
	there := map[string]int{}
	for _, of := range stored(t, s) {
		for text, n := range of {
			there[text] += n
			copies += n
		}
	}
	missing := 0
	for _, p := range all {
		if there[p.text] == 0 {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged blocks are missing", missing, len(all))
	}
	return copies - len(all)
}

// A consuming is a Consume under way. What it runs for a partition waits for the end of its context.
type consuming struct {
	t    *testing.T
	stop func()

	mu  sync.Mutex
	now map[buffer.Lane]map[int]*owned // by partition
	all []*owned
}

// An owned is one run for a partition.
type owned struct {
	buffer.Partition
	ctx context.Context
}

// consume takes part in a group with the main lane until the test ends, or stop.
func consume(t *testing.T, s *Store, group string) *consuming {
	t.Helper()
	return consumeLanes(t, s, group, buffer.Main)
}

// consumeLanes is consume with other lanes.
func consumeLanes(t *testing.T, s *Store, group string, lanes ...buffer.Lane) *consuming {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	c := &consuming{t: t, now: map[buffer.Lane]map[int]*owned{}}
	for _, lane := range lanes {
		c.now[lane] = map[int]*owned{}
	}
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		err := s.Consume(ctx, group, lanes, func(ctx context.Context, p buffer.Partition) error {
			o, id := &owned{p, ctx}, p.ID()
			c.mu.Lock()
			c.now[id.Lane][id.Number] = o
			c.all = append(c.all, o)
			c.mu.Unlock()
			<-ctx.Done()
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.now[id.Lane][id.Number] == o {
				delete(c.now[id.Lane], id.Number)
			}
			return nil
		})
		if err != nil {
			t.Errorf("consume: %v", err)
		}
	}()
	c.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(patienceOfTests):
			t.Errorf("Consume does not return within %v", patienceOfTests)
		}
	})
	t.Cleanup(c.stop)
	return c
}

// owns waits until there are runs for n partitions of the main lane, and returns them.
func (c *consuming) owns(n int) map[int]*owned {
	c.t.Helper()
	return c.ownsOf(buffer.Main, n)
}

// ownsOf is owns with another lane.
func (c *consuming) ownsOf(lane buffer.Lane, n int) map[int]*owned {
	c.t.Helper()
	var now map[int]*owned
	eventually(c.t, fmt.Sprintf("%d partitions of lane %s are ours", n, lane), func() bool {
		now = c.ownedOf(lane)
		return len(now) == n
	})
	return now
}

func (c *consuming) owned() map[int]*owned { return c.ownedOf(buffer.Main) }

func (c *consuming) ownedOf(lane buffer.Lane) map[int]*owned {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.now[lane])
}

// begun is how many runs there have been.
func (c *consuming) begun() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// one waits for the only partition of a topic.
func (c *consuming) one() *owned {
	c.t.Helper()
	return c.owns(1)[0]
}

// readUpTo reads from an offset on until so many blocks are read or lost.
func readUpTo(t *testing.T, p buffer.Partition, from buffer.Offset, n int) (texts []string, lost []buffer.Loss) {
	t.Helper()
	ctx := soon(t)
	for to := from + buffer.Offset(n); from < to; {
		batch, err := p.Read(ctx, from, 1<<20)
		if errors.Is(err, buffer.ErrUnavailable) && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatalf("read from %d: %v", from, err)
		}
		for _, b := range batch.Blocks {
			texts = append(texts, string(b.Data))
		}
		lost = append(lost, batch.Lost...)
		from = batch.Next
		batch.Release()
	}
	return texts, lost
}

func textsOf(all []*paper) []string {
	var texts []string
	for _, p := range all {
		texts = append(texts, p.text)
	}
	return texts
}

// save saves that everything before an offset is done, and spans behind it. It is tried again while Kafka cannot be used.
func save(t *testing.T, p buffer.Partition, to buffer.Offset, behind ...buffer.Span) {
	t.Helper()
	progress := progressOf(p, to, behind...)
	var err error
	for end := time.Now().Add(patienceOfTests); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = p.Save(soon(t), progress); !errors.Is(err, buffer.ErrUnavailable) {
			break
		}
	}
	if err != nil {
		t.Fatalf("save: %v", err)
	}
}

func progressOf(p buffer.Partition, to buffer.Offset, behind ...buffer.Span) buffer.Progress {
	return buffer.Progress{Log: p.ID().Log, Done: append([]buffer.Span{{To: to}}, behind...)}
}

// load is what is saved. It is tried again while Kafka cannot be used.
func load(t *testing.T, p buffer.Partition) []buffer.Span {
	t.Helper()
	var progress buffer.Progress
	var err error
	for end := time.Now().Add(patienceOfTests); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if progress, err = p.Load(soon(t)); !errors.Is(err, buffer.ErrUnavailable) {
			break
		}
	}
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return progress.Done
}

func wantDone(t *testing.T, got []buffer.Span, to buffer.Offset, behind ...buffer.Span) {
	t.Helper()
	if want := append([]buffer.Span{{To: to}}, behind...); !slices.Equal(got, want) {
		t.Errorf("loaded %v, want %v", got, want)
	}
}

// placed opens a Store whose partition n is led by node n, and returns when it knows that.
func placed(t *testing.T, c *kfake.Cluster, cfg Config) *Store {
	t.Helper()
	s := mustOpen(t, cfg, nil)
	l := s.lane(buffer.Main)
	for n := range cfg.Partitions {
		if err := c.MoveTopicPartition(l.topic, int32(n), int32(n%3)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the leaders are known", func() bool {
		known, err := l.find(soon(t)) // asks once a second
		if err != nil {
			return false
		}
		for n, leader := range known.leaders {
			if leader != n%3 {
				return false
			}
		}
		return true
	})
	return s
}

// readAll is how many blocks the partitions hold and can be read.
func readAll(t *testing.T, parts map[int]*owned) (blocks int) {
	t.Helper()
	for _, p := range parts {
		_, next, err := p.Bounds(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		texts, _ := readUpTo(t, p, 0, int(next))
		blocks += len(texts)
	}
	return blocks
}

// remake deletes a topic and makes it anew.
func remake(t *testing.T, c *kfake.Cluster, topic string, partitions int32) {
	t.Helper()
	if err := c.DeleteTopic(topic); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(topic, partitions, nil); err != nil {
		t.Fatal(err)
	}
}

// putOnceThere stores one block as soon as the topic can be written.
func putOnceThere(t *testing.T, s *Store) {
	t.Helper()
	eventually(t, "the topic takes blocks", func() bool { return s.Append(soon(t), buffer.Main, newPaper().Block) == nil })
}

// recommit commits what was committed before.
func recommit(t *testing.T, s *Store, group string, was kfake.GroupCommit) {
	t.Helper()
	l := s.lane(buffer.Main)
	answer, err := l.client.OffsetCommit(soon(t), &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{l.topic: {{Partition: 0, Offset: was.Offset, Metadata: was.Metadata}}},
	})
	if err != nil || answer.Topics[l.topic][0].Error != nil {
		t.Fatal(err, answer)
	}
}

// A safeBuffer is a log that is read while it is written.
type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}
