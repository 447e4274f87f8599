package buffertest

import (
	"slices"

	"github.com/ingestgw/ingestgw/buffer"
)

func progressPromises() []promise {
	return []promise{
		{"LoadBeginsAtTheFirstBlock", nothing, loadBeginsAtTheFirstBlock},
		{"SaveLoadRoundTrip", nothing, saveLoadRoundTrip},
		{"GroupsAreIndependent", nothing, groupsAreIndependent},
		{"OnlyDoneBlocksMayGo", nothing, onlyDoneBlocksMayGo},
		{"ProgressBelongsToItsLog", nothing, progressBelongsToItsLog},
		{"ManySpansAreSaved", nothing, manySpansAreSaved},
	}
}

func sameProgress(a, b buffer.Progress) bool {
	return a.Log == b.Log && slices.Equal(a.Done, b.Done)
}

func loadBeginsAtTheFirstBlock(s *scene) {
	s.open(0)
	s.appendMany(3, 100)
	for _, p := range s.consume("new", buffer.Main) {
		first, _ := s.bounds(p)
		want := buffer.Progress{Log: p.ID().Log, Done: []buffer.Span{{To: first}}}
		if got := s.load(p); !sameProgress(got, want) {
			s.Errorf("%v: a new group begins with %+v, want %+v", p.ID(), got, want)
		}
	}
	s.saveDone(s.consume("new", buffer.Main)) // the first block kept may be another one now
	s.append(buffer.Main, 100)
	for _, p := range s.consume("newer", buffer.Main) {
		before, _ := s.bounds(p)
		got := s.load(p)
		after, _ := s.bounds(p)
		if c := got.Committed(); c < before || c > after || len(got.Done) != 1 || got.Log != p.ID().Log {
			s.Errorf("%v: a newer group begins with %+v, the first block is %d", p.ID(), got, before)
		}
	}
}

func saveLoadRoundTrip(s *scene) {
	s.open(0)
	s.appendMany(60, 100)
	for _, p := range s.consume("readers", buffer.Main) {
		progress := s.load(p)
		for _, span := range []buffer.Span{{From: 0, To: 3}, {From: 5, To: 9}, {From: 20, To: 21}} {
			progress.Add(span)
			s.save(p, progress)
			if got := s.load(p); !sameProgress(got, progress) {
				s.Errorf("%v: loaded %+v, saved %+v", p.ID(), got, progress)
			}
		}
		// What is taken out stays out, and a Progress handed to Save is the caller's again.
		saved := progress.Clone()
		saved.Remove(buffer.Span{From: 6, To: 7})
		s.save(p, saved)
		want := saved.Clone()
		saved.Add(buffer.Span{From: 0, To: 1000})
		if got := s.load(p); !sameProgress(got, want) {
			s.Errorf("%v: loaded %+v, saved %+v", p.ID(), got, want)
		}
	}
}

func groupsAreIndependent(s *scene) {
	s.open(0)
	all := s.appendMany(30, 20_000)
	fast, slow := s.consume("fast", buffer.Main), s.consume("slow", buffer.Main)
	before := make([]buffer.Progress, len(slow))
	for i, p := range slow { // a group counts from its first Save on
		before[i] = s.load(p)
		s.save(p, before[i])
	}
	s.saveDone(fast)
	for i, p := range slow {
		if got := s.load(p); !sameProgress(got, before[i]) {
			s.Errorf("%v: another group's Save made %+v of %+v", p.ID(), got, before[i])
		}
	}
	s.wantExactly(s.readAll(slow), all)
}

func onlyDoneBlocksMayGo(s *scene) {
	s.open(0)
	s.appendMany(100, 60_000)
	parts := s.consume("readers", buffer.Main)
	wanted := func(o buffer.Offset) bool { return o%10 == 7 }
	kept := make(map[place]buffer.Block)
	for at, b := range s.readAll(parts) {
		if wanted(at.offset) {
			kept[at] = b
		}
	}
	for _, p := range parts {
		progress := s.load(p)
		_, next := s.bounds(p)
		progress.Add(buffer.Span{To: next})
		for o := range next {
			if wanted(o) {
				progress.Remove(buffer.Span{From: o, To: o + 1})
			}
		}
		s.save(p, progress)
	}
	s.appendMany(20, 60_000)
	s.wantKept(parts, kept)
	for _, p := range parts {
		s.wantFirstReadable(p)
	}
}

// wantFirstReadable checks that the block that Bounds calls the oldest one kept is there.
func (s *scene) wantFirstReadable(p buffer.Partition) {
	s.Helper()
	first, next := s.bounds(p)
	if first == next {
		return
	}
	blocks, _ := s.readFrom(p, first, 1)
	if now, _ := s.bounds(p); now == first && (len(blocks) == 0 || blocks[0].Offset != first) {
		s.Errorf("%v: Bounds says that block %d is kept, it is not there", p.ID(), first)
	}
}

// progressBelongsToItsLog saves progress that means something else. Whether that is an error is the Store's affair.
func progressBelongsToItsLog(s *scene) {
	s.open(0)
	s.appendMany(10, 100)
	for _, p := range s.consume("readers", buffer.Main) {
		before := s.load(p)
		_, next := s.bounds(p)
		_ = p.Save(s.soon(), buffer.Progress{Log: "another", Done: []buffer.Span{{To: next + 5}}})
		if got := s.load(p); !sameProgress(got, before) {
			s.Errorf("%v: progress of another log made %+v of %+v", p.ID(), got, before)
		}
	}
}

// manySpansAreSaved saves more than a Store has to keep. What is forgotten may be sent again, and nothing is done that was not.
func manySpansAreSaved(s *scene) {
	const spans = 1000
	s.open(0)
	s.append(buffer.Main, 100)
	for _, p := range s.consume("readers", buffer.Main) {
		progress := s.load(p)
		_, next := s.bounds(p)
		progress.Add(buffer.Span{To: next})
		for i := range buffer.Offset(spans) {
			progress.Add(buffer.Span{From: 10 * (i + 1), To: 10*(i+1) + 1 + i%9})
		}
		s.save(p, progress)
		got := s.load(p)
		if got.Committed() != progress.Committed() {
			s.Errorf("%v: committed %d, loaded %d", p.ID(), progress.Committed(), got.Committed())
		}
		for o := range buffer.Offset(10 * (spans + 2)) {
			if got.Contains(o) && !progress.Contains(o) {
				s.Fatalf("%v: offset %d was never done, and is now", p.ID(), o)
			}
		}
	}
}

// wantKept checks that the blocks can be read where they were. Others may have gone, but are not reported as lost.
func (s *scene) wantKept(parts []buffer.Partition, kept map[place]buffer.Block) {
	s.Helper()
	now := s.readAll(parts)
	for at, b := range kept {
		if got, ok := now[at]; !ok || string(got.Data) != string(b.Data) {
			s.Errorf("%v: block %d is not there any more as it was", at.id, at.offset)
		}
	}
}
