package buffertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ingestgw/ingestgw/buffer"
)

func lifePromises() []promise {
	return []promise{
		{"ConsumeRunsOncePerPartitionAndStops", nothing, consumeRunsOncePerPartitionAndStops},
		{"ConsumeGoesOnWithoutItsFunctions", nothing, consumeGoesOnWithoutItsFunctions},
		{"ConsumeFindsLanesThatComeLater", nothing, consumeFindsLanesThatComeLater},
		{"ConsumeReturnsTheErrorOfItsFunction", nothing, consumeReturnsTheErrorOfItsFunction},
		{"LostPartitionsEndAndComeBack", rivals, lostPartitionsEndAndComeBack},
		{"MethodsAreSafeAtOnce", nothing, methodsAreSafeAtOnce},
		{"CloseRefusesAndWaits", nothing, closeRefusesAndWaits},
		{"CloseEndsWithItsContext", nothing, closeEndsWithItsContext},
		{"CloseKeepsWhatWasAcknowledged", reopening, closeKeepsWhatWasAcknowledged},
		{"CloseLeavesNothingRunning", nothing, closeLeavesNothingRunning},
	}
}

// A handing is one call of the function given to Consume.
type handing struct {
	ctx context.Context
	p   buffer.Partition
}

// consuming starts to consume lanes, with a function that tells of each call and goes on until its context has ended, or
// returns at once. stop, which the end of the test calls too, ends that and says what Consume returned, and how many functions
// were still running then.
func (s *scene) consuming(lanes []buffer.Lane, returns bool) (handed <-chan handing, stop func() (running int32, err error)) {
	ctx, cancel := context.WithCancel(s.Context())
	calls := make(chan handing, 100)
	var running atomic.Int32
	var err error
	ended := make(chan struct{})
	go func() { // ends with ctx; stop waits for it
		defer close(ended)
		err = s.store.Consume(ctx, "readers", lanes, func(ctx context.Context, p buffer.Partition) error {
			running.Add(1)
			defer running.Add(-1)
			calls <- handing{ctx, p}
			if !returns {
				<-ctx.Done()
			}
			return nil
		})
		if ctx.Err() == nil {
			s.Errorf("Consume returned while its context goes on: %v", err)
		}
	}()
	stop = func() (int32, error) {
		cancel()
		<-ended
		if errors.Is(err, context.Canceled) {
			return running.Load(), nil
		}
		return running.Load(), err
	}
	s.Cleanup(func() { _, _ = stop() })
	return calls, stop
}

// next is the next handing.
func (s *scene) next(handed <-chan handing) handing {
	s.Helper()
	select {
	case h := <-handed:
		return h
	case <-s.soon().Done():
		s.Fatal("Consume does not hand out a partition that is ours")
	}
	return handing{}
}

func consumeRunsOncePerPartitionAndStops(s *scene) {
	const third buffer.Lane = "third"
	s.open(0)
	for _, lane := range []buffer.Lane{buffer.Main, other, third} {
		s.append(lane, 100)
	}
	handed, stop := s.consuming([]buffer.Lane{buffer.Main, other}, false)
	runs := make(map[buffer.PartitionID]int)
	for range s.count(buffer.Main) + s.count(other) {
		runs[s.next(handed).p.ID()]++
	}
	s.pause() // a Consume that hands out more than it has to does so now
	running, err := stop()
	if err != nil {
		s.Errorf("Consume: %v", err)
	}
	if running != 0 {
		s.Errorf("Consume returned while %d of its functions run", running)
	}
	for len(handed) > 0 {
		runs[(<-handed).p.ID()]++
	}
	for id, n := range runs {
		if n != 1 || id.Lane == third {
			s.Errorf("%v was handed out %d times", id, n)
		}
	}
}

func consumeGoesOnWithoutItsFunctions(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	handed, stop := s.consuming([]buffer.Lane{buffer.Main}, true)
	want := s.count(buffer.Main)
	for range want {
		s.next(handed)
	}
	s.pause() // a Consume that returns now, or runs its functions again, does so now
	if _, err := stop(); err != nil {
		s.Errorf("Consume: %v", err)
	}
	if n := len(handed); n > 0 {
		s.Errorf("%d partitions were handed out again, though they had not been lost", n)
	}
}

// consumeFindsLanesThatComeLater is how a process starts for the first time: who reads is there before anything was stored.
func consumeFindsLanesThatComeLater(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	handed, _ := s.consuming([]buffer.Lane{other, buffer.Main}, false)
	h := s.next(handed) // Consume is under way
	m := s.append(other, 100)
	for ; ; h = s.next(handed) {
		if h.p.ID().Lane != other {
			continue
		}
		if _, next := s.bounds(h.p); next > 0 { // the block went to this one of the lane's partitions
			s.wantExactly(s.readAll([]buffer.Partition{h.p}), []made{m})
			return
		}
	}
}

// lostPartitionsEndAndComeBack takes all partitions away for a moment.
func lostPartitionsEndAndComeBack(s *scene) {
	s.open(0)
	all := s.appendMany(10, 100)
	want := s.count(buffer.Main)
	handed, _ := s.consuming([]buffer.Lane{buffer.Main}, false)
	lost := make(map[buffer.PartitionID]handing)
	saved := make(map[buffer.PartitionID]buffer.Progress)
	for range want {
		h := s.next(handed)
		progress := s.load(h.p)
		progress.Add(buffer.Span{From: 1000, To: 1001})
		s.save(h.p, progress)
		lost[h.p.ID()], saved[h.p.ID()] = h, progress
	}
	s.harness.Lose(s.T, s.store.Store)
	for id, h := range lost {
		s.eventually("the context of who had the partition has ended", func() bool { return h.ctx.Err() != nil })
		err := h.p.Save(s.soon(), buffer.Progress{Log: id.Log, Done: []buffer.Span{{To: 1 << 20}}})
		if !errors.Is(err, buffer.ErrFenced) {
			s.Errorf("%v: Save by who has lost the partition: %v", id, err)
		}
	}
	var parts []buffer.Partition
	for range want {
		p := s.next(handed).p
		parts = append(parts, p)
		if got := s.load(p); !sameProgress(got, saved[p.ID()]) {
			s.Errorf("%v: loaded %+v, saved before the partition was lost %+v", p.ID(), got, saved[p.ID()])
		}
		s.save(p, s.load(p))
	}
	s.wantExactly(s.readAll(parts), all)
}

// methodsAreSafeAtOnce is also what the race detector looks at.
func methodsAreSafeAtOnce(s *scene) {
	s.open(0)
	first := s.append(buffer.Main, 100)
	parts := s.consume("readers", buffer.Main)
	s.saved = true
	ctx := s.soon()
	var all sync.WaitGroup
	repeat := func(what string, do func() error) {
		all.Go(func() {
			for range 20 {
				if err := do(); err != nil {
					s.Errorf("%s, while all else is going on: %v", what, err)
					return
				}
			}
		})
	}
	repeat("Stats", func() error { _, err := s.store.Stats(ctx); return err })
	for _, p := range parts {
		_, next := s.bounds(p)
		for range 2 {
			repeat("Bounds", func() error { _, _, err := p.Bounds(ctx); return err })
			repeat("Save what Load returned", func() error {
				progress, err := p.Load(ctx)
				if err != nil {
					return err
				}
				return p.Save(ctx, progress)
			})
			repeat("Read", func() error { return s.readOnce(ctx, p, next) })
		}
	}
	acked, _, errs := s.appendAtOnce(ctx, 4, 20, 1000)
	all.Wait()
	for _, err := range errs {
		s.Errorf("Append, while all else is going on: %v", err)
	}
	s.wantExactly(s.readAll(parts), append(acked, first))
}

// readOnce reads from the partition's first block on, if it has one below next.
func (s *scene) readOnce(ctx context.Context, p buffer.Partition, next buffer.Offset) error {
	if next == 0 {
		return nil
	}
	batch, err := p.Read(ctx, 0, 10_000)
	if err != nil {
		return err
	}
	defer batch.Release()
	return s.badBatch(0, batch)
}

func consumeReturnsTheErrorOfItsFunction(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	s.append(other, 100)
	broken := errors.New("broken")
	err := s.store.Consume(s.soon(), "readers", []buffer.Lane{buffer.Main, other},
		func(ctx context.Context, p buffer.Partition) error {
			if p.ID().Lane == other {
				return broken
			}
			<-ctx.Done() // has to end, or Consume cannot return
			return nil
		})
	if !errors.Is(err, broken) {
		s.Errorf("Consume returned %v", err)
	}
}

// closeWhileAppending closes the Store while blocks are under way, and returns what became of them.
func (s *scene) closeWhileAppending(closing context.Context) (acked, refused []made, closed error) {
	s.Helper()
	var errs []error
	var returned atomic.Bool
	done := make(chan struct{})
	ctx := s.soon()
	go func() { // ends when the Store is closed
		defer close(done)
		acked, refused, errs = s.appendAtOnce(ctx, 8, 2000, 100)
		returned.Store(true)
	}()
	s.eventually("some blocks are stored", func() bool { return s.held() > 20 || returned.Load() })
	closed = s.store.Close(closing)
	<-done
	for _, err := range errs {
		if !errors.Is(err, buffer.ErrClosed) {
			s.Errorf("append while the Store closes: %v", err)
		}
	}
	return acked, refused, closed
}

func closeRefusesAndWaits(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	acked, refused, err := s.closeWhileAppending(s.soon())
	if err != nil {
		s.Errorf("Close: %v", err)
	}
	for _, m := range append(acked, refused...) {
		s.wantReleased(m, "after Close")
	}
	late := s.make(100)
	if err := s.store.Append(s.soon(), buffer.Main, late.Block); !errors.Is(err, buffer.ErrClosed) {
		s.Errorf("append after Close: %v", err)
	}
	s.wantReleased(late, "refused after Close")
}

// closeEndsWithItsContext gives Close no time. It may have closed all the same.
func closeEndsWithItsContext(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	ended, cancel := context.WithCancel(s.Context())
	cancel()
	_, refused, err := s.closeWhileAppending(ended)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.Errorf("Close whose context has ended: %v", err)
	}
	for _, m := range refused {
		s.wantReleasedInTheEnd(m, "after Close")
	}
}

func closeKeepsWhatWasAcknowledged(s *scene) {
	s.open(0)
	first := s.append(buffer.Main, 100)
	acked, refused, err := s.closeWhileAppending(s.soon())
	if err != nil {
		s.Fatalf("Close: %v", err)
	}
	s.store = &patient{s.harness.Reopen(s.T, s.store.Store, false), s.patience}
	blocks := s.readAll(s.consume("readers", buffer.Main))
	s.wantOnce("after Close", blocks, append(acked, first))
	s.wantAtMostOnce("after Close", blocks, refused)
}

// closeLeavesNothingRunning tells the Store's goroutines by a label, which they have from who started them.
func closeLeavesNothingRunning(s *scene) {
	pprof.Do(s.Context(), pprof.Labels("store", s.Name()), func(context.Context) {
		s.open(0)
		s.appendMany(10, 100)
		s.append(other, 100)
		s.saveDone(s.consume("readers", buffer.Main))
		s.stopConsuming()
		if err := s.store.Close(s.soon()); err != nil {
			s.Errorf("Close: %v", err)
		}
	})
	var running bytes.Buffer
	label := fmt.Sprintf("%q:%q", "store", s.Name())
	s.eventually("the Store's goroutines are gone after Close", func() bool {
		running.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&running, 1); err != nil {
			s.Fatal(err)
		}
		return !strings.Contains(running.String(), label)
	})
}
