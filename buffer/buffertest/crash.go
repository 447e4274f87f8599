package buffertest

import (
	"context"
	"errors"

	"github.com/ingestgw/ingestgw/buffer"
)

func crashPromises() []promise {
	return []promise{
		{"ReopenKeepsBlocksOffsetsProgress", reopening, func(s *scene) { reopenKeeps(s, false) }},
		{"CrashKeepsBlocksOffsetsProgress", reopening, func(s *scene) { reopenKeeps(s, true) }},
		{"DurableBeforeReadable", reopening, durableBeforeReadable},
		{"OffsetsAreNeverUsedAgain", reopening, func(s *scene) { offsetsAreNeverUsedAgain(s, false) }},
		{"OffsetsAreNeverUsedAgainAfterACrash", reopening, func(s *scene) { offsetsAreNeverUsedAgain(s, true) }},
	}
}

// reopenKeeps ends the Store several times, since what the second start leaves behind is read by the third.
func reopenKeeps(s *scene, crash bool) {
	s.open(0)
	var all []made
	kept := make(map[place]buffer.Block)
	saved := make(map[buffer.PartitionID]buffer.Progress)
	for round := range 4 {
		all = append(all, s.appendMany(10, 100+round)...)
		all = append(all, s.append(buffer.Main, 300_000))
		parts := s.consume("readers", buffer.Main)
		for at, b := range s.readAll(parts) {
			if before, ok := kept[at]; ok && string(before.Data) != string(b.Data) {
				s.Fatalf("%v: offset %d stands for another block now", at.id, at.offset)
			}
			kept[at] = b
		}
		s.wantExactly(kept, all)
		for _, p := range parts {
			progress := s.load(p)
			if before, ok := saved[p.ID()]; ok && !sameProgress(progress, before) {
				s.Errorf("%v: saved %+v, loaded %+v in round %d", p.ID(), before, progress, round)
			}
			progress.Add(buffer.Span{From: buffer.Offset(1000 + 10*round), To: buffer.Offset(1005 + 10*round)})
			s.save(p, progress)
			saved[p.ID()] = progress
		}
		s.reopen(crash)
	}
	s.wantKept(s.consume("readers", buffer.Main), kept)
}

// durableBeforeReadable reads while blocks are appended. What a reader has seen, and what was acknowledged, survives a crash.
func durableBeforeReadable(s *scene) {
	s.open(0)
	first := s.append(buffer.Main, 100)
	parts := s.consume("readers", buffer.Main)
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	var acked, refused []made
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		acked, refused, _ = s.appendAtOnce(ctx, 8, 2000, 500)
	}()
	var seen map[place]buffer.Block
	s.eventually("200 blocks can be read", func() bool {
		seen = s.readAll(parts)
		return len(seen) >= 200
	})
	cancel()
	<-done
	s.reopen(true)
	parts = s.consume("readers", buffer.Main)
	s.wantKept(parts, seen)
	now := s.readAll(parts)
	s.wantOnce("after the crash", now, append(acked, first))
	s.wantAtMostOnce("after the crash", now, refused)
}

func offsetsAreNeverUsedAgain(s *scene, crash bool) {
	s.open(0)
	next := make(map[buffer.PartitionID]buffer.Offset)
	for round := range 4 {
		s.appendMany(10, 60_000)
		parts := s.consume("readers", buffer.Main)
		for _, p := range parts {
			_, n := s.bounds(p)
			if n < next[p.ID()] {
				s.Fatalf("%v: the next block gets offset %d in round %d, %d were handed out", p.ID(), n, round, next[p.ID()])
			}
			next[p.ID()] = n
		}
		s.saveDone(parts) // all blocks may go now
		s.reopen(crash)
		for _, p := range s.consume("readers", buffer.Main) {
			if _, n := s.bounds(p); n != next[p.ID()] {
				s.Errorf("%v: ended at %d, was opened again at %d", p.ID(), next[p.ID()], n)
			}
			if got := s.load(p).Committed(); got != next[p.ID()] {
				s.Errorf("%v: everything up to %d was done, now up to %d", p.ID(), next[p.ID()], got)
			}
		}
	}
}

func faultPromises() []promise {
	return []promise{
		{"FaultDidNotHappen", faults, func(s *scene) { fault(s, Refused) }},
		{"FaultHappenedAnswerLost", faults, func(s *scene) { fault(s, AnswerLost) }},
		{"FaultAmongManyDidNotHappen", faults, func(s *scene) { faultAmongMany(s, Refused) }},
		{"FaultAmongManyHappenedAnswerLost", faults, func(s *scene) { faultAmongMany(s, AnswerLost) }},
		{"SaveFaultDidNotHappen", saveFaults, func(s *scene) { saveFault(s, Refused) }},
		{"SaveFaultHappenedAnswerLost", saveFaults, func(s *scene) { saveFault(s, AnswerLost) }},
	}
}

// fault fails one block between others. It is there never (Refused) or at most once (AnswerLost), and the others are as if
// nothing had been; also after a crash, when the harness can make one.
func fault(s *scene, f Fault) {
	s.open(0)
	well := s.appendMany(3, 1000)
	s.harness.Fail(s.T, s.store.Store, f)
	failed := s.make(1000)
	if err := s.store.Append(s.soon(), buffer.Main, failed.Block); !errors.Is(err, buffer.ErrUnavailable) {
		s.Errorf("append that fails: %v", err)
	}
	s.wantReleasedInTheEnd(failed, "failed")
	well = append(well, s.appendMany(3, 1000)...)

	kept := s.wantAfterFault("afterwards", well, failed, f)
	if s.harness.Reopen == nil {
		return
	}
	s.reopen(true)
	s.wantAfterFault("after a crash", well, failed, f)
	s.wantKept(s.consume("readers", buffer.Main), kept)
	well = append(well, s.append(buffer.Main, 1000))
	s.wantAfterFault("after a crash and one more block", well, failed, f)
}

// wantAfterFault checks that each block that went well is there once, and of the one that failed what f allows.
func (s *scene) wantAfterFault(when string, well []made, failed made, f Fault) map[place]buffer.Block {
	s.Helper()
	blocks := s.readAll(s.consume("readers", buffer.Main))
	s.wantOnce(when, blocks, well)
	n := s.find(blocks, failed)
	if n > 1 || f == Refused && n > 0 {
		s.Errorf("%s: the failed block was read %d times", when, n)
	}
	if len(blocks) != len(well)+n {
		s.Errorf("%s: %d blocks were read, %d are known", when, len(blocks), len(well)+n)
	}
	return blocks
}

// faultAmongMany fails a block while others are under way, which may fail with it.
func faultAmongMany(s *scene, f Fault) {
	s.open(0)
	well := []made{s.append(buffer.Main, 1000)}
	var failed []made
	for range 5 {
		s.harness.Fail(s.T, s.store.Store, f)
		acked, refused, errs := s.appendAtOnce(s.soon(), 8, 10, 1000)
		if len(errs) == 0 {
			s.Error("no append failed")
		}
		for _, err := range errs {
			if !errors.Is(err, buffer.ErrUnavailable) {
				s.Errorf("append that fails: %v", err)
			}
		}
		for _, m := range refused {
			s.wantReleasedInTheEnd(m, "failed")
		}
		well, failed = append(well, acked...), append(failed, refused...)
	}
	check := func(when string) {
		s.Helper()
		blocks := s.readAll(s.consume("readers", buffer.Main))
		s.wantOnce(when, blocks, well)
		s.wantAtMostOnce(when, blocks, failed)
	}
	check("afterwards")
	if s.harness.Reopen != nil {
		s.reopen(true)
		check("after a crash")
	}
}

// saveFault fails a Save between others. What is loaded afterwards is the progress before it or, when only the answer was lost,
// the one that it was to save: never anything else.
func saveFault(s *scene, f Fault) {
	s.open(0)
	s.appendMany(10, 100)
	saved := make(map[buffer.PartitionID]buffer.Progress)
	for _, p := range s.consume("readers", buffer.Main) {
		before := s.load(p)
		before.Add(buffer.Span{From: 1000, To: 1010})
		s.save(p, before)
		after := before.Clone()
		after.Remove(buffer.Span{From: 1003, To: 1005})
		s.harness.FailSave(s.T, s.store.Store, f)
		if err := p.Save(s.soon(), after.Clone()); err == nil {
			s.Errorf("%v: a Save that fails returned nil", p.ID())
		}
		got := s.load(p)
		if !sameProgress(got, before) && (f == Refused || !sameProgress(got, after)) {
			s.Errorf("%v: %+v after a failed Save of %+v, before it was %+v", p.ID(), got, after, before)
		}
		got.Add(buffer.Span{From: 2000, To: 2001})
		s.save(p, got)
		saved[p.ID()] = got.Clone()
	}
	if s.harness.Reopen == nil {
		return
	}
	s.reopen(true)
	for _, p := range s.consume("readers", buffer.Main) {
		if got := s.load(p); !sameProgress(got, saved[p.ID()]) {
			s.Errorf("%v: after a crash %+v, saved was %+v", p.ID(), got, saved[p.ID()])
		}
	}
}
