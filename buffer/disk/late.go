package disk

import (
	"errors"
	"slices"

	"github.com/ingestgw/ingestgw/buffer"
)

// A segment that the disk does not give when the log is opened, or whose end it does not make durable, is neither set aside nor a reason
// not to start: it stays in the list, with all offsets that it can hold, and is opened late, when it is read.

// later is such a segment.
func (l *lane) later(path string, first buffer.Offset, why error) *segment {
	span, size := l.mayHold(path, first)
	l.log.Error("the disk cannot read a segment; it is left as it is, and tried again when it is read", "file", path,
		"from", span.From, "at_most_to", span.To, "err", why)
	return &segment{path: path, first: first, end: span.To, size: size, disk: allocated(size), late: true}
}

// openLate tries again to open a segment that could not be opened with the log. After nil the list of segments says what there is.
// With giveUp it takes what may not be durable: the progress that shows that the disk takes writes says, too, which offset is next, so
// that none is used again.
func (l *lane) openLate(old *segment, giveUp bool) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if !l.has(old) {
		return nil // somebody else has opened it, or it was removed
	}
	s, err := loadSegment(l.fs, l.buffers, old.path, l.name, l.id, old.first)
	if err == nil && !s.sealed {
		err = l.finishFormer(s, old.end)
	}
	if giveUp && errors.Is(err, errNotDurable) {
		l.log.Error("reading what an earlier process left, though the disk does not make it durable", "err", err)
		err = nil
	}
	switch {
	case err == nil:
		s.end = min(s.end, old.end)
		l.replace(old, s)
		l.log.Info("a segment can be read that could not be when the log was opened", "file", s.path, "from", s.first, "to", s.end)
	case errors.Is(err, errDamaged):
		l.replace(old, nil)
		l.setAside(old.path, damagedEnding, err)
		l.countAside()
	case errors.Is(err, errForeign):
		l.replace(old, nil)
		l.setAside(old.path, foreignEnding, err)
		l.countAside()
	default:
		return err
	}
	return nil
}

// has says whether a segment is still in the list and read.
func (l *lane) has(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.segments, s) && !s.leaving
}

// replace puts a segment, or nil for one that is set aside, in the place of one that could not be opened before, unless that one is
// being removed.
func (l *lane) replace(old, s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.segments, old)
	if i < 0 || old.leaving {
		return
	}
	l.resized(old, 0)
	if s == nil {
		l.segments = slices.Delete(l.segments, i, i+1)
		l.forget(buffer.Span{From: old.first, To: old.end}, reasonAside)
		return
	}
	l.segments[i] = s
	l.account.add(s.disk)
	if s.end < old.end {
		l.forget(buffer.Span{From: s.end, To: old.end}, reasonNoBlock)
	}
}
