package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/ingestgw/ingestgw/buffer"
)

const (
	// batchBytes is the most bytes in one write, unless a single block is larger.
	batchBytes = 8 << 20
	// scanChunk is how much is read at a time where all of a file is read.
	scanChunk = 1 << 20
)

// scan reads all frames of a segment without valid index, whose blocks have offsets below bound, and tells the damaged ones.
// Afterwards s holds what is valid, and ends behind all offsets of which there is a valid head. tail is the bytes behind it, unread those that could not be read.
func (s *segment) scan(f file, pool *buffers, bound buffer.Offset) (found scanned, err error) {
	size, err := f.Size()
	if err != nil {
		return scanned{}, err
	}
	r := frames{f: f, sums: s.sums, limit: size, chunk: scanChunk, pool: pool, patient: true}
	defer r.release()
	defer func() { found.unreadable = r.unreadable }()
	found.lastFrame = framesStart
	var suspect int // damaged blocks that have nothing valid behind them yet
	pos, due := int64(framesStart), s.first
	for {
		fr, err := r.at(pos, due, bound)
		if err != nil {
			return scanned{}, err
		}
		switch fr.state {
		case frameValid:
			s.note(fr.head, pos)
			found.damaged, suspect = found.damaged+suspect, 0
			found.lastFrame = pos
		case frameDamaged:
			suspect += int(fr.due - due)
		case frameIndex:
			found.damaged += suspect
			s.end, s.size = due, pos
			found.tail, found.index = size-pos, true
			return found, nil
		case frameNone:
			found.tail = max(size-s.size, 0)
			s.end = max(due, r.heads) // offsets that were handed out are not used again, whatever has become of their blocks
			return found, nil
		}
		pos, due = fr.next, fr.due
	}
}

// scanned is what scan found out besides the segment's blocks.
type scanned struct {
	lastFrame  int64 // where the last valid block begins
	damaged    int   // blocks that are damaged, with valid ones behind them
	tail       int64 // bytes behind the last valid block
	index      bool  // these begin with a valid index
	unreadable int64 // bytes that the disk did not give
}

// errNotDurable: what an earlier process left at the end of a segment may be in the page cache only, and could not be written again.
var errNotDurable = errors.New("the end of a segment cannot be made durable")

// seal finishes a segment that another process left, before anybody else knows s: its blocks end where s says. What lies behind is kept
// under another name unless it is empty or an index; seal returns that name, or "". Unless the error wraps errNotDurable, all blocks
// are durable.
func (s *segment) seal(fsys fileSystem, pool *buffers, found scanned) (aside string, err error) {
	f, err := fsys.OpenWrite(s.path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNotDurable, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r := frames{f: f, limit: s.size + found.tail, chunk: scanChunk, pool: pool}
	defer r.release()
	if err := s.rewrite(f, &r, found.lastFrame); err != nil {
		return "", fmt.Errorf("%w: %w", errNotDurable, err)
	}
	if found.tail > 0 && !found.index {
		if aside, err = s.keepTail(fsys, &r); err != nil {
			return "", fmt.Errorf("keep unfinished write aside: %w", err)
		}
	}
	size, err := s.finish(f)
	if err == nil {
		s.sealed, s.disk = true, allocated(size)
	}
	return aside, err
}

// rewrite writes the end of the blocks once more, as it is, and makes it durable: at least all that one write can have held. It does not
// rely on finish for that, which needs space.
func (s *segment) rewrite(f file, r *frames, lastFrame int64) error {
	for pos := max(framesStart, min(lastFrame, s.size-batchBytes)); pos < s.size; {
		b, err := r.bytes(pos, min(scanChunk, s.size-pos))
		if err != nil {
			return err
		}
		if err := f.WriteAll([][]byte{b}, pos); err != nil {
			return err
		}
		pos += int64(len(b))
	}
	return f.Sync()
}

// finish writes the index behind the blocks, cuts off whatever is behind it, and returns the file's size. The caller then
// takes s for sealed.
func (s *segment) finish(f file) (int64, error) {
	index := encodeIndex(s.sums, s.end, s.totals, s.index)
	if err := f.WriteAll([][]byte{index}, s.size); err != nil {
		return 0, err
	}
	size := s.size + int64(len(index))
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	return size, f.Sync()
}

// keepTail copies what r reads behind the segment's blocks to a file of its own, unless it is all zero, and returns its name.
func (s *segment) keepTail(fsys fileSystem, r *frames) (string, error) {
	empty, err := r.zero(s.size)
	if err != nil || empty {
		return "", err
	}
	path, err := freeName(fsys, s.path+tailEnding+strconv.FormatInt(s.size, 10))
	if err != nil {
		return "", err
	}
	f, err := fsys.Create(path)
	if err != nil {
		return "", err
	}
	err = r.copy(f, s.size)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		_ = fsys.Remove(path) // it is a copy of what is still there
		return "", err
	}
	return path, fsys.SyncDir(filepath.Dir(path))
}

// zero says whether all bytes from pos on are zero.
func (r *frames) zero(pos int64) (bool, error) {
	for pos < r.limit {
		b, err := r.bytes(pos, min(scanChunk, r.limit-pos))
		if err != nil {
			return false, err
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false, nil
		}
		pos += int64(len(b))
	}
	return true, nil
}

// copy writes the bytes from pos on to the start of f.
func (r *frames) copy(f file, pos int64) error {
	for start := pos; pos < r.limit; {
		b, err := r.bytes(pos, min(scanChunk, r.limit-pos))
		if err != nil {
			return err
		}
		if err := f.WriteAll([][]byte{b}, pos-start); err != nil {
			return err
		}
		pos += int64(len(b))
	}
	return nil
}

// freeName is path, or path with a number behind it when that name is taken.
func freeName(fsys fileSystem, path string) (string, error) {
	for i := 1; ; i++ {
		name := path
		if i > 1 {
			name += "." + strconv.Itoa(i)
		}
		f, err := fsys.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		if err := f.Close(); err != nil {
			return "", err
		}
	}
}
