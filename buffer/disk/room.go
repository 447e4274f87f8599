package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/ingestgw/ingestgw/buffer"
)

// makeRoom takes n bytes of the quota for the writer, removing what is done and, if so configured, what is oldest.
func (l *lane) makeRoom(n int64) error {
	for !l.account.take(n) {
		gained, err := l.gain(n)
		if err != nil {
			return err
		}
		if !gained {
			return fmt.Errorf("lane %s: %w: %s", l.name, buffer.ErrFull, l.account.explain(n))
		}
	}
	return nil
}

// gain gives space back for n bytes, of what is done or, if so configured, of what is oldest, and says whether there may be more now.
// If not, there may be later: what is done in other lanes is on its way out.
func (l *lane) gain(n int64) (bool, error) {
	switch {
	case l.trim() > 0:
	case l.dropsOldest() && l.dropOldestFor(n):
	case l.newestMayGo(l.dropsOldest()):
		if err := l.renew(); err != nil {
			return false, err
		}
		if l.dropsOldest() {
			l.dropOldest()
		}
	default:
		l.askOthers()
		return false, nil
	}
	return true, nil
}

// askOthers asks the other lanes' writers to let go of what is done in their newest segments: nobody else does, as long as no blocks
// come to those lanes.
func (l *lane) askOthers() {
	for _, o := range l.all() {
		if o == l {
			continue
		}
		select {
		case o.wanted <- struct{}{}:
		default: // it was asked already
		}
	}
}

// makeWay lets go of what is done in the newest segment. The writer calls it when another lane finds no room.
func (l *lane) makeWay() {
	if !l.newestMayGo(false) || l.writer.resting() {
		return
	}
	if err := l.renew(); err != nil {
		l.log.Warn("cannot let go of a segment that is done, for the sake of another lane", "err", err)
	}
}

func (l *lane) dropsOldest() bool { return l.cfg.WhenFull == whenFullDropOldest }

// newestMayGo says whether the newest segment could be removed if only it were not the newest: when it is done, or when what is not may
// go as well.
func (l *lane) newestMayGo(undone bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.newest()
	return s != nil && !s.empty() && (undone || l.done(s))
}

// done says whether every group has done the segment's blocks, durably. Without any group nothing is done. l.mu is held.
func (l *lane) done(s *segment) bool {
	for _, g := range l.groups {
		if !g.durable || g.saved.NextGap(s.first).From < s.end {
			return false
		}
	}
	return len(l.groups) > 0
}

// trim removes all segments but the newest that every group has done, wherever they are, and returns how many it removed.
func (l *lane) trim() int {
	l.removing.Lock()
	defer l.removing.Unlock()
	removed := 0
	for {
		doomed := l.doomed()
		if len(doomed) == 0 {
			return removed
		}
		n := l.remove(doomed)
		removed += n
		if n == 0 {
			return removed
		}
	}
}

// doomed marks the segments that can go now: done, or marked before by a removal that failed. One behind a segment that is not sealed
// stays, because its first offset says where that one ends.
func (l *lane) doomed() []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*segment
	for i, s := range l.segments[:max(len(l.segments)-1, 0)] {
		bounds := i > 0 && !l.segments[i-1].sealed
		if !bounds && (s.leaving || l.done(s)) {
			s.leaving = true
			list = append(list, s)
		}
	}
	return list
}

// remove deletes files of segments that are marked as leaving, and returns how many are gone for good. l.removing is held.
func (l *lane) remove(doomed []*segment) int {
	var gone []*segment
	for _, s := range doomed {
		if err := l.removeFile(s); err != nil {
			if !s.stuck { // it is tried again at every save
				l.log.Error("cannot remove a segment", "file", s.path, "err", err)
			}
			s.stuck = true
			continue
		}
		gone = append(gone, s)
	}
	if len(gone) == 0 {
		return 0
	}
	// Until this is durable, what the segments say about their neighbours is still needed.
	if err := l.fs.SyncDir(l.dir); err != nil {
		l.log.Error("cannot sync the directory after removing segments", "dir", l.dir, "err", err)
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range gone {
		l.resized(s, 0)
	}
	l.segments = slices.DeleteFunc(l.segments, func(s *segment) bool { return slices.Contains(gone, s) })
	return len(gone)
}

// removeFile deletes a segment's file, unless it was found missing before: what came back under its name since was not done.
func (l *lane) removeFile(s *segment) error {
	l.mu.Lock()
	absent := s.absent
	l.mu.Unlock()
	if absent {
		return nil
	}
	if err := l.fs.Remove(s.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// dropOldestFor makes room for n bytes by dropping what is oldest, and says whether it did: in another lane when that one holds what
// this one may have at any time, else in this one.
func (l *lane) dropOldestFor(n int64) bool {
	if l.account.owns(n) {
		for _, o := range l.all() {
			if o != l && !o.account.owns(0) && o.dropOldest() {
				return true
			}
		}
	}
	return l.dropOldest()
}

// dropOldest removes the oldest segment though it is not done, unless it is the newest too, and says whether it did.
func (l *lane) dropOldest() bool {
	l.removing.Lock()
	defer l.removing.Unlock()
	l.mu.Lock()
	if len(l.segments) < 2 {
		l.mu.Unlock()
		return false
	}
	s := l.segments[0]
	span := buffer.Span{From: s.first, To: s.end}
	lost := l.undone(span)
	if !s.leaving {
		s.leaving = true
		l.forget(span, reasonDropped)
	}
	l.mu.Unlock()

	if l.remove([]*segment{s}) == 0 {
		return false
	}
	samples := s.totals.samples
	if lost < s.totals.blocks {
		samples = samples * lost / s.totals.blocks
	}
	l.metrics.dropped(l.name, lost, samples)
	l.log.Error("the log on disk is full: dropped the oldest blocks although nobody has forwarded them (INGESTGW_BUFFER_WHEN_FULL=drop-oldest)",
		"lane", l.name, "from", span.From, "to", span.To, "blocks_lost", lost, "samples_lost_about", samples)
	return true
}

// undone is how many blocks of a range some group has not done: of the group that has done the fewest. l.mu is held.
func (l *lane) undone(s buffer.Span) int64 {
	if len(l.groups) == 0 {
		return int64(s.To - s.From)
	}
	var most int64
	for _, g := range l.groups {
		var n int64
		for at := s.From; at < s.To; {
			gap := g.saved.NextGap(at)
			n += int64(max(min(gap.To, s.To)-min(gap.From, s.To), 0))
			at = gap.To
		}
		most = max(most, n)
	}
	return most
}
