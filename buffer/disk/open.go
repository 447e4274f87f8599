package disk

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/buffer"
)

// openFiles is how many segments are looked at at a time: on a disk with a millisecond of latency, a thousand take a quarter of a
// second.
const openFiles = 8

// A laneDir is what lies in a lane's directory.
type laneDir struct {
	segments []buffer.Offset // first blocks, ascending
	damaged  []buffer.Span   // what segments that were set aside as damaged can have held
	groups   []string
}

// mayHold is the offsets that a segment file can hold when nobody can read which ones it does, and its size, as far as it can be told.
func (l *lane) mayHold(path string, first buffer.Offset) (buffer.Span, int64) {
	size := max(int64(l.cfg.SegmentBytes), maxBlock)
	if f, err := l.fs.Open(path); err == nil {
		if n, err := f.Size(); err == nil {
			size = n
		}
		f.Close()
	}
	most := max(1, (size-framesStart)/frameHeadSize) // a segment is there because of a block
	return buffer.Span{From: first, To: first + buffer.Offset(most)}, size
}

// readLaneDir lists a lane's directory. It removes what died while it was created, and leaves alone what is not ours.
func (l *lane) readLaneDir() (laneDir, error) {
	entries, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return laneDir{}, fmt.Errorf("open lane %s: %w", l.name, err)
	}
	var d laneDir
	for _, e := range entries {
		first, rest, isSegment := parseSegmentName(e.name)
		groupName, isProgress := strings.CutSuffix(e.name, progressEnding)
		switch {
		case e.dir:
			l.log.Warn("leaving alone a directory that is not part of the log", "path", filepath.Join(l.dir, e.name))
		case isSegment && rest == "":
			d.segments = append(d.segments, first)
		case isSegment && rest == newEnding:
			if err := l.finishNew(&d, filepath.Join(l.dir, e.name), first); err != nil {
				return laneDir{}, err
			}
		case strings.HasSuffix(e.name, progressEnding+newEnding), e.name == segmentSpare+newEnding, e.name == progressSpare+newEnding:
			l.removeNew(filepath.Join(l.dir, e.name))
		case isSegment && strings.HasPrefix(rest, damagedEnding):
			span, _ := l.mayHold(filepath.Join(l.dir, e.name), first)
			d.damaged = append(d.damaged, span)
			l.log.Warn("a damaged segment is still kept aside; it is not read", "file", filepath.Join(l.dir, e.name))
		case isSegment:
			l.log.Info("something set aside is still kept; it is not read", "file", filepath.Join(l.dir, e.name))
		case isProgress && groupNamePattern.MatchString(groupName):
			d.groups = append(d.groups, groupName)
		case e.name == segmentSpare, e.name == progressSpare:
		default:
			l.log.Warn("leaving alone a file that is not part of the log", "path", filepath.Join(l.dir, e.name))
		}
	}
	slices.Sort(d.segments)
	return d, nil
}

func (l *lane) removeNew(path string) {
	if err := l.fs.Remove(path); err != nil {
		l.log.Warn("cannot remove a file that was never finished", "file", path, "err", err)
	}
}

// finishNew removes a segment that died while it was created. One that holds more than a header was finished, on a disk that lied when it
// said that the name was durable: it gets its name, or is set aside when that is taken or its header is not valid.
func (l *lane) finishNew(d *laneDir, path string, first buffer.Offset) error {
	size, err := readHeader(l.fs, l.buffers, path)
	named := filepath.Join(l.dir, segmentName(first))
	switch {
	case errors.Is(err, buffer.ErrNewerVersion):
		return fmt.Errorf("open segment %s: %w", path, err)
	case err != nil && !errors.Is(err, errHeader):
		l.log.Warn("cannot read what may be a segment that was never finished; it is left as it is", "file", path, "err", err)
	case size <= framesStart:
		l.removeNew(path)
	case err == nil && !slices.Contains(d.segments, first) && l.fs.Rename(path, named) == nil:
		l.log.Error("the disk has lost the name of a segment that it had said to be durable; it has it again", "file", path, "as", named)
		d.segments = append(d.segments, first)
	default:
		if err == nil {
			err = fmt.Errorf("there is %s already", named)
		}
		span, _ := l.mayHold(path, first)
		d.damaged = append(d.damaged, span)
		l.setAsideAs(path, named+damagedEnding, err)
	}
	return nil
}

// readHeader tells the size of a segment file and what is wrong with its header.
func readHeader(fsys fileSystem, pool *buffers, path string) (size int64, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if size, err = f.Size(); err != nil {
		return 0, err
	}
	r := frames{f: f, limit: size, pool: pool}
	defer r.release()
	b, err := r.bytes(0, min(size, framesStart))
	if err == nil {
		_, err = decodeSegmentHeader(b)
	}
	return size, err
}

// open reads what is in the lane's directory and repairs it. Afterwards blocks can be read and appended.
func (l *lane) open() error {
	d, err := l.readLaneDir()
	if err != nil {
		return err
	}
	if err := l.loadSegments(&d); err != nil {
		return err
	}
	for _, name := range d.groups {
		if err := l.loadGroup(name); err != nil {
			return err
		}
	}
	if err := l.boundSegments(d.damaged); err != nil {
		return err
	}
	l.next = l.highest()
	if err := l.fs.SyncDir(l.dir); err != nil {
		l.log.Error("cannot sync the directory; going on", "dir", l.dir, "err", err)
	}
	for _, g := range l.groups {
		l.begin(g)
	}
	l.trim()
	l.countAside()
	l.keepSpares()
	l.quota.keep(framesStart + progressSize)
	return nil
}

// loadSegments reads headers and indices of all segments, several at a time, and sets aside what is none of ours.
func (l *lane) loadSegments(d *laneDir) error {
	loaded := make([]*segment, len(d.segments))
	failed := make([]error, len(d.segments))
	var g errgroup.Group
	g.SetLimit(openFiles)
	for i, first := range d.segments {
		g.Go(func() error {
			path := filepath.Join(l.dir, segmentName(first))
			loaded[i], failed[i] = loadSegment(l.fs, l.buffers, path, l.name, l.id, first)
			return nil
		})
	}
	_ = g.Wait()
	if noneReadable(failed) {
		return fmt.Errorf("open lane %s: the disk cannot read any of its %d segments; should that not pass, move %s elsewhere: %w",
			l.name, len(failed), l.dir, failed[0])
	}
	for i, err := range failed {
		first := d.segments[i]
		path := filepath.Join(l.dir, segmentName(first))
		switch {
		case err == nil:
			l.segments = append(l.segments, loaded[i])
		case errors.Is(err, errDamaged):
			span, _ := l.mayHold(path, first)
			d.damaged = append(d.damaged, span)
			l.setAside(path, damagedEnding, err)
		case errors.Is(err, errForeign):
			if !l.setAside(path, foreignEnding, err) {
				l.next = max(l.next, first+1) // the name is taken
			}
		case isUnreadable(err):
			l.segments = append(l.segments, l.later(path, first, err))
		default:
			return fmt.Errorf("open segment %s: %w", path, err)
		}
	}
	return nil
}

// noneReadable says whether it is the disk that fails, not one place on it: nothing is set aside because of a cable.
func noneReadable(failed []error) bool {
	for _, err := range failed {
		if !isUnreadable(err) {
			return false
		}
	}
	return len(failed) > 0
}

// setAside gives a file a name under which it is not read, and says whether it could. If not, the file stays, and is still not read.
func (l *lane) setAside(path, ending string, why error) bool {
	return l.setAsideAs(path, path+ending, why)
}

func (l *lane) setAsideAs(path, as string, why error) bool {
	name, err := freeName(l.fs, as)
	if err == nil {
		err = l.fs.Rename(path, name)
	}
	l.metrics.setAside.Inc()
	l.log.Error("a file cannot be used and is set aside; what it holds is not read", "file", path, "why", why, "as", name, "err", err)
	return err == nil
}

// countAside counts the bytes of what was set aside. Somebody may have deleted some of it.
func (l *lane) countAside() {
	entries, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return // what is known stays
	}
	var n int64
	for _, e := range entries {
		if !strings.Contains(e.name, damagedEnding) && !strings.Contains(e.name, foreignEnding) && !strings.Contains(e.name, tailEnding) {
			continue
		}
		if f, err := l.fs.Open(filepath.Join(l.dir, e.name)); err == nil {
			if size, err := f.Size(); err == nil {
				n += allocated(size)
			}
			f.Close()
		}
	}
	l.aside.Store(n)
}

// boundSegments seals the segments that are not, and sees to it that none reaches beyond the first offset of the next one.
func (l *lane) boundSegments(damaged []buffer.Span) error {
	damaged = slices.DeleteFunc(damaged, func(d buffer.Span) bool { return l.hasSealed(d.From) }) // these are no segments of ours
	var starts []buffer.Offset
	for _, s := range l.segments {
		starts = append(starts, s.first)
	}
	for _, d := range damaged {
		starts = append(starts, d.From)
	}
	slices.Sort(starts)
	bound := func(first buffer.Offset) buffer.Offset {
		i, _ := slices.BinarySearch(starts, first+1)
		return append(starts, math.MaxInt64)[i]
	}
	for i, s := range l.segments {
		end := bound(s.first)
		if !s.sealed && !s.late {
			err := l.finishFormer(s, end)
			switch {
			case errors.Is(err, errNotDurable):
				l.log.Error("what an earlier process left is not read before it could be made durable", "err", err)
				s.late = true
			case isUnreadable(err):
				s = l.later(s.path, s.first, err)
				l.segments[i] = s
			case err != nil:
				return err
			}
		}
		if s.late {
			s.end = min(s.end, end)
		}
		if s.end > end {
			l.log.Error("two segments hold the same blocks; the newer one counts", "file", s.path, "to", s.end, "newer_from", end)
			s.end = end
		}
		l.account.add(s.disk)
	}
	for _, d := range damaged {
		l.forget(buffer.Span{From: d.From, To: min(d.To, bound(d.From))}, reasonAside)
	}
	return nil
}

// hasSealed says whether a sealed segment holds the block.
func (l *lane) hasSealed(o buffer.Offset) bool {
	return slices.ContainsFunc(l.segments, func(s *segment) bool { return s.sealed && s.first < o && o < s.end })
}

// finishFormer finds out what an earlier process left in a segment that it did not seal, and seals it if the disk allows. The error
// says that the segment could not be read, so that nobody knows which offsets it holds, or wraps errNotDurable; s says what it holds then.
func (l *lane) finishFormer(s *segment, bound buffer.Offset) error {
	log := l.log.With("file", s.path)
	f, err := l.fs.Open(s.path)
	if err != nil {
		return fmt.Errorf("read segment: %w", err)
	}
	found, err := s.scan(f, l.buffers, bound)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read segment %s: %w", s.path, err)
	}
	whole := found.unreadable == 0 || found.tail == 0
	var aside string
	if whole {
		if aside, err = s.seal(l.fs, l.buffers, found); errors.Is(err, errNotDurable) {
			return fmt.Errorf("segment %s: %w", s.path, err)
		}
	}
	if found.damaged > 0 {
		l.metrics.damaged(l.name, found.damaged)
		log.Error("blocks are damaged and cannot be read; all others are", "damaged", found.damaged, "unreadable_bytes", found.unreadable)
	}
	if !whole {
		l.leaveUnreadable(s, found, bound)
		return nil
	}
	if aside != "" {
		l.metrics.setAside.Inc()
		log.Warn("cut off an unfinished write and kept it aside; nothing acknowledged is in it", "bytes", found.tail, "as", aside)
	}
	if err != nil {
		log.Error("cannot seal a segment; it is read all the same, and sealed at a later start", "err", err)
	}
	return nil
}

// leaveUnreadable lets a segment, behind whose last valid block the disk cannot be read, hold all offsets that the bytes there can be
// of. Readers try again, and tell as lost what they cannot read either.
func (l *lane) leaveUnreadable(s *segment, found scanned, bound buffer.Offset) {
	from := s.end
	s.end = min(bound, s.end+buffer.Offset(found.tail/frameHeadSize))
	s.size += found.tail
	l.log.Error("the disk cannot read the end of a segment; it is left as it is, and tried again when it is read",
		"file", s.path, "from", from, "at_most_to", s.end)
}

// loadGroup reads a group's progress. What cannot be used is set aside, and the group begins at the first block.
func (l *lane) loadGroup(name string) error {
	g := newGroup(name, filepath.Join(l.dir, name+progressEnding))
	s, at, err := loadProgress(l.fs, g.path)
	if err == nil && s.progress.Log != l.id.String() {
		err = fmt.Errorf("%w: to log %q, this one is %v", errForeign, s.progress.Log, l.id)
	}
	switch {
	case err == nil:
		g.made, g.slot, g.number, g.saved = true, at, s.number, s.progress
		l.next = max(l.next, s.next)
	case errors.Is(err, errDamaged):
		if l.setAside(g.path, damagedEnding, err) {
			err = nil
		}
	case errors.Is(err, errForeign):
		if l.setAside(g.path, foreignEnding, err) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("open progress of group %s: %w", name, err)
	}
	l.groups[name] = g
	return nil
}

// highest is the offset for the next block: above all that were ever handed out, as far as anything shows.
func (l *lane) highest() buffer.Offset {
	next := l.next
	for _, s := range l.segments {
		next = max(next, s.end)
	}
	for _, g := range l.gone {
		next = max(next, g.To)
	}
	return next
}

// begin saves the progress that a group begins with: anew, as what its file shows may be in the page cache only, or for the first time.
func (l *lane) begin(g *group) {
	if err := l.saveAgain(g); err != nil {
		l.log.Error("cannot save progress; until it can be, the group counts all the same, and nothing is removed", "group", g.name,
			"err", err)
	}
}

// join returns the group of that name, which counts from now on.
func (l *lane) join(name string) *group {
	l.mu.Lock()
	g := l.groups[name]
	isNew := g == nil
	if isNew {
		g = newGroup(name, filepath.Join(l.dir, name+progressEnding))
		l.groups[name] = g
	}
	l.mu.Unlock()
	if isNew {
		l.begin(g)
	}
	return g
}

// progress is what a group has done, or, when it never saved anything, what was removed before it came.
func (l *lane) progress(g *group) buffer.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.saved.Log != "" {
		return g.saved.Clone()
	}
	return buffer.Progress{Log: l.id.String(), Done: []buffer.Span{{To: l.firstKept()}}}
}
