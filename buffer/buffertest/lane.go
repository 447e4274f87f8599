package buffertest

import (
	"errors"

	"github.com/ingestgw/ingestgw/buffer"
)

func lanePromises() []promise {
	return []promise{
		{"LanesAreIndependent", nothing, lanesAreIndependent},
		{"AFullLaneLeavesRoomInOthers", nothing, aFullLaneLeavesRoomInOthers},
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
		s.Fatal("an empty Store is full")
	}
	return held
}

func aFullLaneLeavesRoomInOthers(s *scene) {
	const quota, size = 4 << 20, 64 << 10
	s.open(quota)
	s.fill(other, quota, size)
	m := s.make(size)
	if err := s.store.Append(s.soon(), buffer.Main, m.Block); err != nil {
		s.Fatalf("append to an empty lane while another one is full: %v", err)
	}
	s.wantExactly(s.readAll(s.consume("readers", buffer.Main)), []made{m})
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
