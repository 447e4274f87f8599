package buffertest

import (
	"context"
	"errors"

	"github.com/ingestgw/ingestgw/buffer"
)

func appendPromises() []promise {
	return []promise{
		{"BlocksComeBackAsTheyWere", nothing, blocksComeBackAsTheyWere},
		{"OffsetsHaveNoHoles", nothing, offsetsHaveNoHoles},
		{"OffsetsFollowTheOrderOfAppends", nothing, offsetsFollowTheOrderOfAppends},
		{"NextIsWhatTheNextBlockGets", nothing, nextIsWhatTheNextBlockGets},
		{"TooLargeIsErrTooLarge", nothing, tooLargeIsErrTooLarge},
		{"FullIsErrFullAndRecovers", nothing, fullIsErrFullAndRecovers},
		{"AppendOwnsBytesUntilRelease", nothing, appendOwnsBytesUntilRelease},
		{"AppendEndsWithItsContext", nothing, appendEndsWithItsContext},
	}
}

func blocksComeBackAsTheyWere(s *scene) {
	s.open(0)
	most := s.store.MaxBlock()
	var all []made
	for _, size := range []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20} {
		if size < most-1 {
			all = append(all, s.append(buffer.Main, size))
		}
	}
	all = append(all, s.append(buffer.Main, most-1), s.append(buffer.Main, most), s.append(buffer.Main, 100))
	s.wantExactly(s.readAll(s.consume("readers", buffer.Main)), all)
}

func offsetsHaveNoHoles(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	parts := s.consume("readers", buffer.Main)
	_, refused, errs := s.appendAtOnce(s.soon(), 8, 25, 300)
	if len(refused) > 0 {
		s.Fatal(errors.Join(errs...))
	}
	total := 0
	for _, p := range parts {
		blocks, _ := s.readFrom(p, 0, 4096)
		for i, b := range blocks {
			if b.Offset != buffer.Offset(i) {
				s.Fatalf("%v: block %d has offset %d", p.ID(), i, b.Offset)
			}
		}
		if first, next := s.bounds(p); first != 0 || next != buffer.Offset(len(blocks)) {
			s.Errorf("%v: bounds are %d to %d, %d blocks were read", p.ID(), first, next, len(blocks))
		}
		total += len(blocks)
	}
	if total != 1+8*25 {
		s.Errorf("%d blocks were read, %d had been appended", total, 1+8*25)
	}
}

// offsetsFollowTheOrderOfAppends appends one block after the other, so that each is durable before the next one comes.
func offsetsFollowTheOrderOfAppends(s *scene) {
	s.open(0)
	all := s.appendMany(40, 100)
	turn := make(map[string]int)
	for i, m := range all {
		turn[string(m.want.Data)] = i
	}
	for _, p := range s.consume("readers", buffer.Main) {
		before := -1
		blocks, _ := s.readFrom(p, 0, 1<<20)
		for _, b := range blocks {
			i := turn[string(b.Data)]
			if i <= before {
				s.Errorf("%v: offset %d holds append %d, an offset before it append %d", p.ID(), b.Offset, i, before)
			}
			before = i
		}
	}
}

func nextIsWhatTheNextBlockGets(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	parts := s.consume("readers", buffer.Main)
	for range 10 {
		expected := make(map[place]bool) // where a block may come to stand, one per partition
		for _, p := range parts {
			_, next := s.bounds(p)
			expected[place{p.ID(), next}] = true
		}
		m := s.append(buffer.Main, 100)
		for at, b := range s.readAll(parts) {
			if string(b.Data) == string(m.want.Data) && !expected[at] {
				s.Errorf("%v: a block got offset %d, Bounds had said that another one is next", at.id, at.offset)
			}
		}
	}
}

func tooLargeIsErrTooLarge(s *scene) {
	s.open(0)
	before := s.append(buffer.Main, 100)
	large := s.make(s.store.MaxBlock() + 1)
	if err := s.store.Append(s.soon(), buffer.Main, large.Block); !errors.Is(err, buffer.ErrTooLarge) {
		s.Errorf("one byte more than MaxBlock: %v", err)
	}
	s.wantReleased(large, "too large")
	after := s.append(buffer.Main, 100)
	s.wantExactly(s.readAll(s.consume("readers", buffer.Main)), []made{before, after})
}

func fullIsErrFullAndRecovers(s *scene) {
	const quota, size = 4 << 20, 64 << 10
	s.open(quota)
	held := s.fill(buffer.Main, quota, size)
	parts := s.consume("readers", buffer.Main)
	s.wantExactly(s.readAll(parts), held) // full costs nothing that was taken, and keeps nothing that was refused
	s.saveDone(parts)
	s.eventually("room once everything is done", func() bool {
		err := s.store.Append(s.soon(), buffer.Main, s.make(size).Block)
		if err != nil && !errors.Is(err, buffer.ErrFull) {
			s.Fatalf("append once everything is done: %v", err)
		}
		return err == nil
	})
}

// A block's bytes are spoilt in the call of its release (scene.make), so that a Store that goes on using them stores garbage.
func appendOwnsBytesUntilRelease(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	acked, _, errs := s.appendAtOnce(s.soon(), 8, 25, 10_000)
	if len(errs) > 0 {
		s.Fatal(errors.Join(errs...))
	}
	for _, m := range acked {
		s.wantReleased(m, "stored")
	}
	s.wantOnce("as they were when they were appended", s.readAll(s.consume("readers", buffer.Main)), acked)
}

func appendEndsWithItsContext(s *scene) {
	s.open(0)
	acked := []made{s.append(buffer.Main, 100)}
	var refused []made
	ended, cancel := context.WithCancel(s.Context())
	cancel()
	m := s.make(100)
	switch err := s.store.Append(ended, buffer.Main, m.Block); {
	case err == nil:
		acked = append(acked, m)
	case errors.Is(err, context.Canceled):
		refused = append(refused, m)
	default:
		s.Errorf("append with a context that has ended: %v", err)
	}
	s.wantReleasedInTheEnd(m, "context ended")

	// Contexts that end in the midst of it: whatever the answer, each block is released once and stored at most once.
	a, r := s.appendUntilCancelled()
	acked, refused = append(acked, a...), append(refused, r...)
	acked = append(acked, s.append(buffer.Main, 100))
	for _, m := range acked {
		s.wantReleased(m, "stored")
	}
	for _, m := range refused {
		s.wantReleasedInTheEnd(m, "context ended")
	}
	blocks := s.readAll(s.consume("readers", buffer.Main))
	s.wantOnce("contexts ended", blocks, acked)
	s.wantAtMostOnce("contexts ended", blocks, refused)
}

// appendUntilCancelled appends small blocks from several goroutines with a context that ends while they are at it.
func (s *scene) appendUntilCancelled() (acked, refused []made) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	var errs []error
	done := make(chan struct{})
	go func() { // ends when ctx does
		defer close(done)
		acked, refused, errs = s.appendAtOnce(ctx, 8, 1000, 100)
	}()
	s.eventually("some blocks are stored", func() bool { return s.held() > 20 })
	cancel()
	<-done
	for _, err := range errs {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("append with a context that ends: %v", err)
		}
	}
	return acked, refused
}

// held is the number of blocks that can be read in lane Main.
func (s *scene) held() (n buffer.Offset) {
	s.Helper()
	for _, st := range s.stats() {
		if st.ID.Lane == buffer.Main {
			n += st.Next - st.First
		}
	}
	return n
}
