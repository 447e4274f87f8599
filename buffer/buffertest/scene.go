package buffertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// other is the second lane.
const other = buffer.Bulk

// A scene is a promise being checked: the Store and who reads it.
type scene struct {
	*testing.T
	harness  Harness
	patience time.Duration
	store    *patient
	blocks   int               // made so far; no two are alike
	readers  map[reader]func() // each ends what consume started
	saved    bool              // progress was saved, so that blocks may be gone
}

// A reader is a group in a lane.
type reader struct {
	group string
	lane  buffer.Lane
}

// open begins the scene with an empty Store.
func (s *scene) open(maxBytes int64) {
	s.Helper()
	s.store = &patient{s.harness.Open(s.T, maxBytes), s.patience}
	s.readers = make(map[reader]func())
	s.Cleanup(func() {
		s.stopConsuming()
		if err := s.store.Close(s.soon()); err != nil && !errors.Is(err, buffer.ErrClosed) {
			s.Errorf("close the Store: %v", err)
		}
	})
}

// reopen goes on with what the Store left behind.
func (s *scene) reopen(crash bool) {
	s.Helper()
	s.stopConsuming()
	if !crash {
		if err := s.store.Close(s.soon()); err != nil {
			s.Fatalf("close the Store: %v", err)
		}
	}
	s.store = &patient{s.harness.Reopen(s.T, s.store.Store, crash), s.patience}
}

// soon is a context that outlives anything but a hang: it ends when patience does. It ends with the test, clean-ups included.
func (s *scene) soon() context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.Context()), s.patience)
	s.Cleanup(cancel)
	return ctx
}

// eventually waits until ok.
func (s *scene) eventually(what string, ok func() bool) {
	s.Helper()
	for end := time.Now().Add(s.patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not within %v: %s", s.patience, what)
		}
	}
}

// pause is for what must not happen, so that there is nothing to wait for. When it is too short, a fault is missed and nothing
// else goes wrong.
func (s *scene) pause() {
	timer := time.NewTimer(min(s.patience/10, 200*time.Millisecond))
	defer timer.Stop()
	<-timer.C
}

// A made block is what a Store was given. It and its bytes are for the Store, which may spoil both; want is what has to come
// back.
type made struct {
	*buffer.Block
	want     buffer.Block
	released *atomic.Int32
}

// make returns a block of size bytes like no other, if size is 8 or more. Its bytes are spoilt at the moment of its release.
func (s *scene) make(size int) made {
	s.blocks++
	rnd := rand.NewChaCha8([32]byte{byte(s.blocks), byte(s.blocks >> 8), byte(s.blocks >> 16), 1})
	data := make([]byte, size)
	_, _ = rnd.Read(data) // never fails
	m := made{released: new(atomic.Int32)}
	m.Block = buffer.NewBlock(time.UnixMilli(1_700_000_000_000+int64(s.blocks)), s.blocks, 10*s.blocks, data, func() {
		m.released.Add(1)
		clear(data)
	})
	m.want = *m.Block
	m.want.Data = bytes.Clone(data)
	return m
}

// append stores a new block of size bytes.
func (s *scene) append(lane buffer.Lane, size int) made {
	s.Helper()
	m := s.make(size)
	if err := s.store.Append(s.soon(), lane, m.Block); err != nil {
		s.Fatalf("append %d bytes to lane %s: %v", size, lane, err)
	}
	return m
}

func (s *scene) appendMany(n, size int) []made {
	s.Helper()
	all := make([]made, n)
	for i := range all {
		all[i] = s.append(buffer.Main, size)
	}
	return all
}

// consume returns the lane's partitions as group's owner has them. They are given up when the group consumes the lane again,
// and when the Store is closed or reopened.
func (s *scene) consume(group string, lane buffer.Lane) []buffer.Partition {
	s.Helper()
	s.stop(reader{group, lane})
	want := s.count(lane)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	got := make(chan buffer.Partition, want)
	var err error
	ended := make(chan struct{})
	go func() { // ends when ctx does; stop waits for it
		defer close(ended)
		err = s.store.Consume(ctx, group, []buffer.Lane{lane}, func(ctx context.Context, p buffer.Partition) error {
			select {
			case got <- p:
			case <-ctx.Done():
			}
			<-ctx.Done()
			return nil
		})
	}()
	s.readers[reader{group, lane}] = func() {
		cancel()
		<-ended
		if err != nil && !errors.Is(err, context.Canceled) {
			s.Errorf("Consume for group %s: %v", group, err)
		}
	}
	var parts []buffer.Partition
	deadline := s.soon()
	for range want {
		select {
		case p := <-got:
			parts = append(parts, p)
		case <-ended:
			s.Fatalf("Consume has returned: %v", err)
		case <-deadline.Done():
			s.Fatalf("Consume handed out %d of %d partitions of lane %s", len(parts), want, lane)
		}
	}
	return parts
}

func (s *scene) stop(r reader) {
	if stop := s.readers[r]; stop != nil {
		stop()
		delete(s.readers, r)
	}
}

func (s *scene) stopConsuming() {
	for r := range s.readers {
		s.stop(r)
	}
}

// count is the number of the lane's partitions. Something has been appended to the lane before.
func (s *scene) count(lane buffer.Lane) int {
	s.Helper()
	n := 0
	for _, p := range s.stats() {
		if p.ID.Lane == lane {
			n++
		}
	}
	if n == 0 {
		s.Fatalf("Stats names no partition of lane %s", lane)
	}
	return n
}

func (s *scene) stats() []buffer.PartitionStats {
	s.Helper()
	stats, err := s.store.Stats(s.soon())
	if err != nil {
		s.Fatalf("Stats: %v", err)
	}
	return stats
}

func (s *scene) bounds(p buffer.Partition) (first, next buffer.Offset) {
	s.Helper()
	first, next, err := p.Bounds(s.soon())
	if err != nil {
		s.Fatalf("Bounds of %v: %v", p.ID(), err)
	}
	if first > next || first < 0 {
		s.Fatalf("Bounds of %v: %d to %d", p.ID(), first, next)
	}
	return first, next
}

func (s *scene) load(p buffer.Partition) buffer.Progress {
	s.Helper()
	progress, err := p.Load(s.soon())
	if err != nil {
		s.Fatalf("Load of %v: %v", p.ID(), err)
	}
	return progress
}

func (s *scene) save(p buffer.Partition, progress buffer.Progress) {
	s.Helper()
	s.saved = true
	if err := p.Save(s.soon(), progress); err != nil {
		s.Fatalf("Save of %v: %v", p.ID(), err)
	}
}

// saveDone marks everything up to the end of every partition done.
func (s *scene) saveDone(parts []buffer.Partition) {
	s.Helper()
	for _, p := range parts {
		progress := s.load(p)
		_, next := s.bounds(p)
		progress.Add(buffer.Span{To: next})
		s.save(p, progress)
	}
}

// A place is where a block is in the Store.
type place struct {
	id     buffer.PartitionID
	offset buffer.Offset
}

// read returns a copy of every block from the offset on, and what was lost there. At most maxBytes are read at a time.
func (s *scene) readFrom(p buffer.Partition, from buffer.Offset, maxBytes int) (blocks []buffer.Block, lost []buffer.Loss) {
	s.Helper()
	_, next := s.bounds(p)
	for from < next {
		batch, err := p.Read(s.soon(), from, maxBytes)
		if err != nil {
			s.Fatalf("Read of %v from %d: %v", p.ID(), from, err)
		}
		s.checkBatch(p, from, batch)
		for _, b := range batch.Blocks {
			b.Data = bytes.Clone(b.Data)
			blocks = append(blocks, b)
		}
		lost = append(lost, batch.Lost...)
		from = batch.Next
		batch.Release()
	}
	return blocks, lost
}

// checkBatch ends the test when the batch is not as badBatch says.
func (s *scene) checkBatch(p buffer.Partition, from buffer.Offset, batch buffer.Batch) {
	s.Helper()
	if err := s.badBatch(from, batch); err != nil {
		s.Fatalf("Read of %v from %d returned %v", p.ID(), from, err)
	}
}

// badBatch checks what holds for every batch: there is a block, or else a loss; blocks and losses ascend from the offset asked
// for to Next without touching each other; and what is neither has been done.
func (s *scene) badBatch(from buffer.Offset, batch buffer.Batch) error {
	if len(batch.Blocks) == 0 && len(batch.Lost) == 0 {
		return errors.New("no block")
	}
	at, lost := from, batch.Lost
	for _, b := range batch.Blocks {
		for len(lost) > 0 && lost[0].From < b.Offset {
			if err := s.badSpan(at, lost[0].Span); err != nil {
				return err
			}
			at, lost = lost[0].To, lost[1:]
		}
		if err := s.badSpan(at, buffer.Span{From: b.Offset, To: b.Offset + 1}); err != nil {
			return err
		}
		at = b.Offset + 1
	}
	for _, l := range lost {
		if err := s.badSpan(at, l.Span); err != nil {
			return err
		}
		at = l.To
	}
	if batch.Next < at || batch.Next > at && !s.saved {
		return fmt.Errorf("%d as the next offset, it ends at %d", batch.Next, at)
	}
	for _, l := range batch.Lost {
		if l.Reason == "" {
			return fmt.Errorf("a loss without a reason: %v", l.Span)
		}
	}
	return nil
}

// badSpan checks that what a batch says of a span follows what it says of the offsets before at.
func (s *scene) badSpan(at buffer.Offset, next buffer.Span) error {
	if next.From < at || next.From >= next.To || next.From > at && !s.saved {
		return fmt.Errorf("offsets %d to %d where %d comes next", next.From, next.To, at)
	}
	return nil
}

// readAll returns all blocks of the partitions by their place.
func (s *scene) readAll(parts []buffer.Partition) map[place]buffer.Block {
	s.Helper()
	all := make(map[place]buffer.Block)
	for _, p := range parts {
		blocks, lost := s.readFrom(p, 0, 1<<20)
		if len(lost) > 0 {
			s.Errorf("%v: lost %v", p.ID(), lost)
		}
		for _, b := range blocks {
			all[place{p.ID(), b.Offset}] = b
		}
	}
	return all
}

// wantExactly checks that the blocks are those made, each once and as it was made.
func (s *scene) wantExactly(blocks map[place]buffer.Block, all []made) {
	s.Helper()
	s.wantOnce("in all", blocks, all)
	if len(blocks) != len(all) {
		s.Errorf("%d blocks were read, %d had been appended", len(blocks), len(all))
	}
}

// wantOnce checks that each one made is among the blocks once and as it was made.
func (s *scene) wantOnce(when string, blocks map[place]buffer.Block, all []made) {
	s.Helper()
	for i, n := range s.countEach(blocks, all) {
		if n != 1 {
			s.Errorf("%s: acknowledged block %d of %d, %d bytes, was read %d times", when, i+1, len(all), len(all[i].want.Data), n)
		}
	}
}

// wantAtMostOnce checks that none of those made is among the blocks twice.
func (s *scene) wantAtMostOnce(when string, blocks map[place]buffer.Block, all []made) {
	s.Helper()
	for i, n := range s.countEach(blocks, all) {
		if n > 1 {
			s.Errorf("%s: unacknowledged block %d of %d was read %d times", when, i+1, len(all), n)
		}
	}
}

// find says how often m is among the blocks, and checks what they say of it.
func (s *scene) find(blocks map[place]buffer.Block, m made) int {
	s.Helper()
	return s.countEach(blocks, []made{m})[0]
}

// countEach says how often each one made is among the blocks, and checks what they say of it.
func (s *scene) countEach(blocks map[place]buffer.Block, all []made) []int {
	s.Helper()
	byData := make(map[string][]place, len(blocks))
	for at, b := range blocks {
		byData[string(b.Data)] = append(byData[string(b.Data)], at)
	}
	counts := make([]int, len(all))
	for i, m := range all {
		places := byData[string(m.want.Data)]
		counts[i] = len(places)
		for _, at := range places {
			if b := blocks[at]; !b.Received.Equal(m.want.Received) || b.Records != m.want.Records || b.Samples != m.want.Samples {
				s.Errorf("%v at %d: received %v, %d records, %d samples; was %v, %d, %d", at.id, at.offset,
					b.Received, b.Records, b.Samples, m.want.Received, m.want.Records, m.want.Samples)
			}
		}
	}
	return counts
}

// wantReleased checks that the Store has released the block, once.
func (s *scene) wantReleased(m made, when string) {
	s.Helper()
	if n := m.released.Load(); n != 1 {
		s.Errorf("%s: the block was released %d times, want once", when, n)
	}
}

// wantReleasedInTheEnd is wantReleased for a block that Append may have left behind.
func (s *scene) wantReleasedInTheEnd(m made, when string) {
	s.Helper()
	s.eventually(when+": the block is released", func() bool { return m.released.Load() > 0 })
	s.wantReleased(m, when)
}

// appendAtOnce appends from several goroutines until ctx ends or an Append fails, at most n blocks each. It returns the blocks
// that were acknowledged, those that were not, and their errors, when all goroutines have ended.
func (s *scene) appendAtOnce(ctx context.Context, writers, n, size int) (acked, refused []made, errs []error) {
	blocks := make([][]made, writers)
	for w := range blocks {
		for range n {
			blocks[w] = append(blocks[w], s.make(size))
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, mine := range blocks {
		all.Go(func() {
			for _, m := range mine {
				err := s.store.Append(ctx, buffer.Main, m.Block)
				mu.Lock()
				if err == nil {
					acked = append(acked, m)
				} else {
					refused, errs = append(refused, m), append(errs, err)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return acked, refused, errs
}
