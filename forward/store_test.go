package forward

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// A fakeStore is one partition in memory whose faults the test chooses. Bytes that were released are overwritten, so that
// whoever reads them after that reads garbage.
type fakeStore struct {
	lane    buffer.Lane // empty: main
	mu      sync.Mutex
	blocks  []buffer.Block
	first   buffer.Offset
	lost    map[buffer.Offset]string // reason by offset
	saved   buffer.Progress
	saves   int
	reads   int // that brought something
	batches int // not released
	grown   chan struct{}
	benign  bool // released bytes are left as they are

	skips bool // Read returns nothing of the first block, and does not say so

	readErr, saveErr, loadErr, boundsErr error

	saveHangs <-chan struct{}    // until it is closed
	lose      context.CancelFunc // takes the partition away
}

func newFakeStore() *fakeStore {
	return &fakeStore{lost: map[buffer.Offset]string{}, grown: make(chan struct{}), saved: buffer.Progress{Log: "log"}}
}

func (s *fakeStore) put(data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = append(s.blocks, buffer.Block{Offset: buffer.Offset(len(s.blocks)), Received: time.Now(), Records: 1, Samples: 10, Data: data})
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *fakeStore) damage(off buffer.Offset, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[off] = reason
}

func (s *fakeStore) fail(read, save, load error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readErr, s.saveErr, s.loadErr = read, save, load
}

// with changes the store.
func (s *fakeStore) with(change func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *fakeStore) progress() buffer.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved.Clone()
}

func (s *fakeStore) unreleased() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.batches
}

// takeAway ends the context of the partition, as a rebalance does.
func (s *fakeStore) takeAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lose()
}

func (s *fakeStore) MaxBlock() int { return 16 << 20 }

func (s *fakeStore) Append(context.Context, buffer.Lane, *buffer.Block) error { panic("not used") }

func (s *fakeStore) Consume(ctx context.Context, _ string, _ []buffer.Lane, fn func(context.Context, buffer.Partition) error) error {
	owned, lose := context.WithCancel(ctx)
	s.mu.Lock()
	s.lose = lose
	s.mu.Unlock()
	if err := fn(owned, fakePartition{s}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *fakeStore) Stats(context.Context) ([]buffer.PartitionStats, error) { return nil, nil }
func (s *fakeStore) Close(context.Context) error                            { return nil }

// A twoLanes is a Store with a partition in each lane.
type twoLanes struct{ main, bulk *fakeStore }

func newTwoLanes() *twoLanes {
	s := &twoLanes{newFakeStore(), newFakeStore()}
	s.bulk.lane = buffer.Bulk
	return s
}

func (s *twoLanes) MaxBlock() int { return s.main.MaxBlock() }

func (s *twoLanes) Append(context.Context, buffer.Lane, *buffer.Block) error { panic("not used") }

func (s *twoLanes) Consume(ctx context.Context, group string, wanted []buffer.Lane, fn func(context.Context, buffer.Partition) error) error {
	var both sync.WaitGroup
	for lane, store := range map[buffer.Lane]*fakeStore{buffer.Main: s.main, buffer.Bulk: s.bulk} {
		if slices.Contains(wanted, lane) {
			both.Go(func() { _ = store.Consume(ctx, group, nil, fn) })
		}
	}
	both.Wait()
	return ctx.Err()
}

func (s *twoLanes) Stats(context.Context) ([]buffer.PartitionStats, error) { return nil, nil }
func (s *twoLanes) Close(context.Context) error                            { return nil }

type fakePartition struct{ s *fakeStore }

func (p fakePartition) ID() buffer.PartitionID {
	return buffer.PartitionID{Log: "log", Lane: cmp.Or(p.s.lane, buffer.Main)}
}

func (p fakePartition) Bounds(context.Context) (first, next buffer.Offset, err error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.s.first, buffer.Offset(len(p.s.blocks)), p.s.boundsErr
}

func (p fakePartition) Read(ctx context.Context, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	for {
		p.s.mu.Lock()
		batch, ok, err := p.s.read(from, maxBytes)
		grown := p.s.grown
		p.s.mu.Unlock()
		if err != nil || ok {
			return batch, err
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return buffer.Batch{}, ctx.Err()
		}
	}
}

func (s *fakeStore) read(from buffer.Offset, maxBytes int) (buffer.Batch, bool, error) {
	if s.readErr != nil {
		return buffer.Batch{}, false, s.readErr
	}
	var blocks []buffer.Block
	var lost []buffer.Loss
	next := from
	if s.skips && from == 0 {
		next = 1
	}
	for ; next < buffer.Offset(len(s.blocks)); next++ {
		b := s.blocks[next]
		if reason := s.lost[next]; reason != "" {
			lost = append(lost, buffer.Loss{Span: buffer.Span{From: next, To: next + 1}, Reason: reason})
			continue
		}
		if maxBytes -= len(b.Data); maxBytes < 0 && len(blocks) > 0 {
			break
		}
		b.Data = bytes.Clone(b.Data)
		blocks = append(blocks, b)
	}
	if len(blocks) == 0 {
		return buffer.Batch{}, false, nil
	}
	s.batches++
	s.reads++
	return buffer.NewBatch(blocks, lost, next, func() { s.release(blocks) }), true, nil
}

func (s *fakeStore) release(blocks []buffer.Block) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches--
	if s.benign {
		return
	}
	for _, b := range blocks {
		for i := range b.Data {
			b.Data[i] = '#'
		}
	}
}

func (p fakePartition) Load(context.Context) (buffer.Progress, error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	return p.s.saved.Clone(), p.s.loadErr
}

func (p fakePartition) Save(_ context.Context, progress buffer.Progress) error {
	p.s.mu.Lock()
	hangs := p.s.saveHangs
	p.s.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.s.saveErr != nil {
		return p.s.saveErr
	}
	p.s.saves++
	p.s.saved = progress
	return nil
}
