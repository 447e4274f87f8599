package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"syscall"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// A segment is one file of a lane. What can change is guarded by lane.mu; the newest segment's is changed by the lane's
// writer alone.
type segment struct {
	path  string
	first buffer.Offset
	sums  checksums

	end     buffer.Offset // behind the last durable block
	size    int64         // bytes up to the end of the last durable block
	disk    int64         // bytes of the disk that it was counted with
	totals  totals
	index   []indexEntry
	sealed  bool // ends in a valid index, so that nothing behind end can ever be taken for a block
	leaving bool // being removed: no longer read
	late    bool // was not opened with the log, see openLate: only path, first, and the most that end and size can be are known
	stuck   bool // its file could not be removed, which was told; guarded by lane.removing
	absent  bool // its file was found missing; should it come back, this process leaves it for the next one
}

func (s *segment) empty() bool { return s.end == s.first }

// note counts one more block, whose frame begins at pos.
func (s *segment) note(h frameHead, pos int64) {
	if n := len(s.index); n == 0 || pos-s.index[n-1].pos >= indexInterval {
		s.index = append(s.index, indexEntry{offset: h.offset, pos: pos})
	}
	s.totals.blocks++
	s.totals.records += int64(h.records)
	s.totals.samples += int64(h.samples)
	s.end, s.size = h.offset+1, pos+h.frameSize()
}

// entry is the last indexed place at or before a block.
func (s *segment) entry(o buffer.Offset) indexEntry {
	i := sort.Search(len(s.index), func(i int) bool { return s.index[i].offset > o })
	if i == 0 {
		return indexEntry{offset: s.first, pos: framesStart}
	}
	return s.index[i-1]
}

// entryAfter is the first indexed place behind a block, or the segment's end.
func (s *segment) entryAfter(o buffer.Offset) indexEntry {
	i := sort.Search(len(s.index), func(i int) bool { return s.index[i].offset > o })
	if i == len(s.index) {
		return indexEntry{offset: s.end, pos: s.size}
	}
	return s.index[i]
}

// createSegment makes a segment durable, with its name, and returns it open for writing.
func createSegment(fsys fileSystem, dir, lane string, log logID, first buffer.Offset) (*segment, file, error) {
	h := segmentHeader{log: log, lane: lane, first: first, created: time.Now()}
	rand.Read(h.key[:]) // it never fails (https://pkg.go.dev/crypto/rand#Read)
	s := &segment{path: filepath.Join(dir, segmentName(first)), first: first, sums: h.key.checksums(), end: first, size: framesStart}
	f, err := createDurable(fsys, s.path, h.encode())
	if err != nil {
		return nil, nil, fmt.Errorf("create segment: %w", err)
	}
	return s, f, nil
}

// createDurable makes a file that is there with its whole content, or not at all. On a full disk it is made of the spare one of its
// kind.
func createDurable(fsys fileSystem, path string, content []byte) (file, error) {
	f, err := makeDurable(fsys, fsys.Create, path, content)
	if isFull(err) && fsys.Rename(spareFor(path), path+newEnding) == nil {
		return makeDurable(fsys, fsys.OpenWrite, path, content)
	}
	return f, err
}

// makeDurable fills the file that begin opens, and gives it its name.
func makeDurable(fsys fileSystem, begin func(path string) (file, error), path string, content []byte) (file, error) {
	temporary := path + newEnding
	f, err := begin(temporary)
	if err != nil {
		return nil, err
	}
	err = f.WriteAll([][]byte{content}, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = fsys.Rename(temporary, path)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = fsys.Remove(temporary) // opening removes what is left
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// A loaded segment file is one of these.
var (
	errDamaged = errors.New("damaged")
	errForeign = errors.New("belongs elsewhere")
)

// loadSegment reads header and index of a segment file. The segment is not sealed when it has no valid index; then only its
// first block and its key are known. An error wraps errDamaged, errForeign, buffer.ErrNewerVersion, or says that reading failed, which
// is no damage.
func loadSegment(fsys fileSystem, pool *buffers, path, lane string, log logID, first buffer.Offset) (*segment, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	r := frames{f: f, limit: size, pool: pool, patient: true}
	defer r.release()
	b, err := r.bytes(0, min(size, framesStart))
	if err != nil {
		return nil, err
	}
	h, err := decodeSegmentHeader(b)
	switch {
	case errors.Is(err, errHeader) && r.unreadable > 0:
		return nil, fmt.Errorf("%w, and the disk cannot read all of them: %w", err, syscall.EIO)
	case errors.Is(err, errHeader):
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	case err != nil:
		return nil, err
	case h.log != log || h.lane != lane || h.first != first:
		return nil, fmt.Errorf("%w: to log %v, lane %q, first block %d", errForeign, h.log, h.lane, h.first)
	}
	s := &segment{path: path, first: first, sums: h.key.checksums(), end: first, size: framesStart, disk: allocated(size)}
	r.sums = s.sums
	return s, s.loadIndex(&r)
}

// loadIndex reads the index, if there is a valid one.
func (s *segment) loadIndex(r *frames) error {
	if r.limit < framesStart+frameHeadSize+indexFixedSize+footerSize {
		return nil
	}
	b, err := r.bytes(r.limit-footerSize, footerSize)
	if err != nil {
		return err
	}
	size, ok := parseFooter(b, s.sums)
	pos := r.limit - footerSize - size
	if !ok || pos < framesStart || size < frameHeadSize {
		return nil
	}
	b, err = r.bytes(pos, size)
	if err != nil {
		return err
	}
	head, ok := parseHead(b, s.sums)
	if !ok || head.kind != kindIndex || head.frameSize() != size || head.offset < s.first || !head.dataValid(b, s.sums) {
		return nil
	}
	if t, index, err := parseIndex(b[frameHeadSize:], s.first, head.offset, pos); err == nil {
		s.end, s.size, s.totals, s.index, s.sealed = head.offset, pos, t, slices.Clip(index), true
	}
	return nil
}
