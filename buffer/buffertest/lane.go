package buffertest

import (
	"errors"

	"github.com/ingestgw/ingestgw/buffer"
)

func lanePromises() []promise {
	return []promise{
		{"LanesAreIndependent", nothing, lanesAreIndependent},
		{"FullBulkLeavesRoomInMain", nothing, fullBulkLeavesRoomInMain},
		{"ALaneThatStandsStillHoldsNoOther", nothing, aLaneThatStandsStillHoldsNoOther},
		{"StatsCountWhatIsHeld", nothing, statsCountWhatIsHeld},
		{"LogsAreToldApart", nothing, logsAreToldApart},
	}
}

func lanesAreIndependent(s *scene) {
	s.open(0)
	var mine, theirs []made
	for range 10 {
		mine = append(mine, s.append(buffer.Main, 100))
		theirs = append(theirs, s.append(other, 200))
	}
	mains, others := s.consume("readers", buffer.Main), s.consume("readers", other)
	s.wantExactly(s.readAll(others), theirs)
	for _, p := range mains {
		if p.ID().Lane != buffer.Main {
			s.Errorf("%v among the partitions of lane %s", p.ID(), buffer.Main)
		}
	}
	s.saveDone(others)
	s.wantExactly(s.readAll(mains), mine)
	for _, p := range mains {
		if first, _ := s.bounds(p); s.load(p).Committed() != first {
			s.Errorf("%v: progress in lane %s changed that of lane %s", p.ID(), other, buffer.Main)
		}
	}
	for _, m := range theirs {
		s.wantReleased(m, "appended")
	}
}

// fill appends blocks of size bytes until the lane is full, and returns those that were taken.
func (s *scene) fill(lane buffer.Lane, quota, size int) []made {
	s.Helper()
	var held []made
	for {
		m := s.make(size)
		err := s.store.Append(s.soon(), lane, m.Block)
		s.wantReleased(m, "filling up")
		if errors.Is(err, buffer.ErrFull) {
			break
		}
		if err != nil {
			s.Fatalf("after %d blocks: %v", len(held), err)
		}
		if held = append(held, m); len(held) > 2*quota/size {
			s.Fatalf("%d blocks of %d bytes were taken, the bound is %d", len(held), size, quota)
		}
	}
	if len(held) == 0 {
		s.Fatalf("lane %s is full and holds nothing", lane)
	}
	return held
}

// fullBulkLeavesRoomInMain fills bulk, which nobody reads, and then has main fill up and come back as if bulk were not there.
func fullBulkLeavesRoomInMain(s *scene) {
	const quota, size = 4 << 20, 64 << 10
	s.open(quota)
	s.fill(buffer.Bulk, quota, size)
	m := s.make(size)
	if err := s.store.Append(s.soon(), buffer.Main, m.Block); err != nil {
		s.Fatalf("the first block of main, while bulk is full: %v", err)
	}
	parts := s.consume("readers", buffer.Main)
	all := append(s.fill(buffer.Main, quota, size), m)
	if len(all) < quota/size/2 {
		s.Errorf("main takes %d blocks of %d bytes while bulk is full, the bound is %d", len(all), size, quota)
	}
	s.wantExactly(s.readAll(parts), all)
	s.saveDone(parts)
	s.eventually("main takes blocks again once its own are done", func() bool {
		return s.store.Append(s.soon(), buffer.Main, s.make(size).Block) == nil
	})
}

// aLaneThatStandsStillHoldsNoOther has one process consume both lanes, and read and save in one of them only.
func aLaneThatStandsStillHoldsNoOther(s *scene) {
	for still, moving := range map[buffer.Lane]buffer.Lane{buffer.Bulk: buffer.Main, buffer.Main: buffer.Bulk} {
		s.open(0)
		kept := s.append(still, 500)
		all := []made{s.append(moving, 500)}
		handed, stop := s.consuming([]buffer.Lane{buffer.Main, buffer.Bulk}, false)
		parts := make(map[buffer.Lane][]buffer.Partition)
		for range s.count(buffer.Main) + s.count(buffer.Bulk) {
			p := s.next(handed).p
			parts[p.ID().Lane] = append(parts[p.ID().Lane], p)
		}
		for range 5 {
			all = append(all, s.append(moving, 500))
		}
		s.wantExactly(s.readAll(parts[moving]), all)
		s.saveDone(parts[moving])
		s.append(moving, 500)
		s.wantExactly(s.readAll(parts[still]), []made{kept})
		for _, p := range parts[still] {
			if first, _ := s.bounds(p); s.load(p).Committed() != first {
				s.Errorf("%v: progress in lane %s changed that of lane %s", p.ID(), moving, still)
			}
		}
		if _, err := stop(); err != nil {
			s.Errorf("Consume: %v", err)
		}
	}
}

func statsCountWhatIsHeld(s *scene) {
	s.open(0)
	s.appendMany(12, 1000)
	parts := s.consume("readers", buffer.Main)
	if n := s.wantStats(parts); n != 12 {
		s.Errorf("Stats counts %d blocks, 12 were appended", n)
	}
	s.saveDone(parts)
	s.eventually("Stats says the same as Bounds once everything is done", func() bool {
		for _, st := range s.stats() {
			for _, p := range parts {
				if first, next := s.bounds(p); p.ID() == st.ID && (first != st.First || next != st.Next) {
					return false
				}
			}
		}
		return true
	})
}

// wantStats checks Stats against the partitions of lane Main, which nobody changes meanwhile, and returns how many blocks it
// counts.
func (s *scene) wantStats(parts []buffer.Partition) (blocks buffer.Offset) {
	s.Helper()
	byID := make(map[buffer.PartitionID]buffer.PartitionStats)
	for _, st := range s.stats() {
		if st.ID.Lane == buffer.Main {
			byID[st.ID] = st
			blocks += st.Next - st.First
		}
	}
	for _, p := range parts {
		st, ok := byID[p.ID()]
		if first, next := s.bounds(p); !ok || first != st.First || next != st.Next {
			s.Errorf("%v: Stats says %d to %d, Bounds %d to %d", p.ID(), st.First, st.Next, first, next)
		}
		if st.Next > st.First && st.Bytes <= 0 {
			s.Errorf("%v holds %d blocks in %d bytes", p.ID(), st.Next-st.First, st.Bytes)
		}
	}
	return blocks
}

func logsAreToldApart(s *scene) {
	logs := make(map[string]bool)
	for range 2 {
		s.open(0)
		s.append(buffer.Main, 100)
		for _, p := range s.consume("readers", buffer.Main) {
			if log := p.ID().Log; len(log) == 0 || len(log) > buffer.MaxLogName {
				s.Errorf("%v is of log %q, want 1 to %d bytes", p.ID(), log, buffer.MaxLogName)
			}
			logs[p.ID().Log] = true
		}
		s.stopConsuming()
		if err := s.store.Close(s.soon()); err != nil {
			s.Errorf("close the Store: %v", err)
		}
	}
	if len(logs) < 2 {
		s.Errorf("two logs have the same name: %v", logs)
	}
}
