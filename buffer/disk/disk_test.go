package disk

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/buffer/buffertest"
	"github.com/ingestgw/ingestgw/internal/settings"
)

const testDir = "data"

// testConfig has small segments, so that there are several of them.
func testConfig(dir string) Config {
	return Config{Dir: dir, WhenFull: whenFullRefuse, SegmentBytes: minSegmentBytes, BulkShare: 25}
}

// mustOpen opens a Store and closes it when the test ends.
func mustOpen(t testing.TB, fsys fileSystem, cfg Config) *Store {
	t.Helper()
	s, err := openOn(fsys, cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(t.Context()); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// testBlock is a block of those bytes.
func testBlock(data []byte) *buffer.Block {
	return buffer.NewBlock(time.UnixMilli(1_700_000_000_000), 1, 2, data, nil)
}

func appendTo(s *Store, lane buffer.Lane, data []byte) error {
	return s.Append(context.Background(), lane, testBlock(data))
}

func mustAppend(t testing.TB, s *Store, lane buffer.Lane, data []byte) {
	t.Helper()
	if err := appendTo(s, lane, data); err != nil {
		t.Fatalf("append %d bytes to lane %s: %v", len(data), lane, err)
	}
}

// partitionOf is the lane as the group sees it, without anybody consuming.
func partitionOf(t testing.TB, s *Store, lane buffer.Lane, group string) *partition {
	t.Helper()
	l, err := s.lane(lane)
	if err != nil {
		t.Fatalf("lane %s: %v", lane, err)
	}
	return &partition{lane: l, group: l.join(group)}
}

// contents is all that a partition holds.
type contents struct {
	blocks map[buffer.Offset]string
	lost   []buffer.Loss
	next   buffer.Offset
}

// readAll reads from an offset to the end.
func readAll(t testing.TB, p *partition, from buffer.Offset) contents {
	t.Helper()
	c := contents{blocks: make(map[buffer.Offset]string)}
	_, c.next = p.bounds()
	for from < c.next {
		ext, err := p.find(from)
		if err == nil && ext.segment == nil && ext.end >= c.next && len(p.unread(buffer.Span{From: from, To: c.next})) == 0 {
			break // the rest is done and gone: Read would wait for the next block
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		batch, err := p.Read(ctx, from, 256<<10)
		cancel()
		if err != nil {
			t.Fatalf("read lane %s from %d of %d: %v", p.name, from, c.next, err)
		}
		for _, b := range batch.Blocks {
			if b.Offset < from || b.Offset >= batch.Next {
				t.Fatalf("read from %d to %d returned block %d", from, batch.Next, b.Offset)
			}
			c.blocks[b.Offset] = string(b.Data)
		}
		if batch.Next <= from {
			t.Fatalf("read from %d goes on at %d", from, batch.Next)
		}
		c.lost = append(c.lost, batch.Lost...)
		from = batch.Next
		batch.Release()
	}
	return c
}

// A mortal file system fails for good once it was killed, and by order before that.
type mortal struct {
	fileSystem
	mu     sync.Mutex
	killed bool
	faults []buffertest.Fault // of the writes of blocks to come
	saving []buffertest.Fault // of the saves to come
}

// fail adds a fault to those to come.
func (m *mortal) fail(faults *[]buffertest.Fault, f buffertest.Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	*faults = append(*faults, f)
}

// takeFault returns the first of the faults to come.
func (m *mortal) takeFault(faults *[]buffertest.Fault) buffertest.Fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(*faults) == 0 {
		return 0
	}
	fault := (*faults)[0]
	*faults = (*faults)[1:]
	return fault
}

var errKilled = errors.New("the process was killed")

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.killed {
		return errKilled
	}
	return nil
}

func (m *mortal) wrap(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return &mortalFile{file: f, fs: m}, nil
}

func (m *mortal) Create(path string) (file, error) {
	if err := m.alive(); err != nil {
		return nil, err
	}
	return m.wrap(m.fileSystem.Create(path))
}

func (m *mortal) OpenWrite(path string) (file, error) {
	f, err := m.wrap(m.fileSystem.OpenWrite(path))
	if err == nil && strings.HasSuffix(path, progressEnding) {
		f.(*mortalFile).saving = m.takeFault(&m.saving)
	}
	return f, err
}

func (m *mortal) Rename(from, to string) error {
	return errors.Join(m.alive(), m.fileSystem.Rename(from, to))
}

func (m *mortal) Remove(path string) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.fileSystem.Remove(path)
}

// A mortalFile is one of a mortal file system.
type mortalFile struct {
	file
	fs     *mortal
	lost   bool             // the next Sync fails, after it was done
	saving buffertest.Fault // of a whole save, which tries several slots
}

func (f *mortalFile) WriteAll(bufs [][]byte, off int64) error {
	if err := f.fs.alive(); err != nil {
		return err
	}
	fault := f.saving
	if fault == 0 && len(bufs) > 1 { // blocks; headers and indices are in one piece
		fault = f.fs.takeFault(&f.fs.faults)
	}
	switch fault {
	case buffertest.Refused:
		return syscall.EIO
	case buffertest.AnswerLost:
		f.lost = true
	}
	return f.file.WriteAll(bufs, off)
}

func (f *mortalFile) Sync() error {
	if err := f.fs.alive(); err != nil {
		return err
	}
	err := f.file.Sync()
	if f.lost {
		f.lost = false
		return errors.Join(err, syscall.EIO)
	}
	return err
}

func (f *mortalFile) Truncate(size int64) error {
	if err := f.fs.alive(); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

// kill ends a Store as kill -9 does: nothing is written any more, and the lock is free.
func (m *mortal) kill(t testing.TB, s *Store) {
	t.Helper()
	m.mu.Lock()
	m.killed = true
	m.mu.Unlock()
	mustClose(t, s)
}

func TestStoreKeepsItsPromises(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, cfg Config) *Store {
		t.Helper()
		s, err := openOn(&mortal{fileSystem: osFS{}}, cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		return s
	}
	buffertest.Run(t, buffertest.Harness{
		Open: func(t *testing.T, maxBytes int64) buffer.Store {
			cfg := testConfig(t.TempDir())
			cfg.MaxBytes, cfg.SegmentBytes = settings.Bytes(maxBytes), 1<<20
			return open(t, cfg)
		},
		Reopen: func(t *testing.T, s buffer.Store, crash bool) buffer.Store {
			old := s.(*Store)
			if crash {
				old.fs.(*mortal).kill(t, old)
			}
			return open(t, old.cfg)
		},
		Fail: func(_ *testing.T, s buffer.Store, f buffertest.Fault) {
			s.(*Store).fs.(*mortal).fail(&s.(*Store).fs.(*mortal).faults, f)
		},
		FailSave: func(_ *testing.T, s buffer.Store, f buffertest.Fault) {
			s.(*Store).fs.(*mortal).fail(&s.(*Store).fs.(*mortal).saving, f)
		},
		Damage: func(t *testing.T, s buffer.Store, id buffer.PartitionID, at buffer.Offset) {
			damageBlock(t, s.(*Store), id.Lane, at)
		},
	})
}

// damageBlock flips a bit in the last byte of a block, on the disk.
func damageBlock(t testing.TB, s *Store, lane buffer.Lane, at buffer.Offset) {
	t.Helper()
	path, pos, size := frameOf(t, s, lane, at)
	f, err := s.fs.OpenWrite(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, pos+size-1); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if err := f.WriteAll([][]byte{b}, pos+size-1); err != nil {
		t.Fatal(err)
	}
}

// frameOf says where a block's frame is.
func frameOf(t testing.TB, s *Store, lane buffer.Lane, at buffer.Offset) (path string, pos, size int64) {
	t.Helper()
	l, err := s.lane(lane)
	if err != nil {
		t.Fatal(err)
	}
	ext, err := l.find(at)
	if err != nil || ext.segment == nil {
		t.Fatalf("no segment holds block %d of lane %s: %v", at, lane, err)
	}
	f, err := s.fs.Open(ext.segment.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := frames{f: f, sums: ext.segment.sums, limit: ext.size, pool: s.buffers}
	for pos, due := ext.pos, ext.due; ; {
		fr, err := r.at(pos, due, ext.end)
		if err != nil || fr.state != frameValid {
			t.Fatalf("block %d of lane %s: state %v, %v", due, lane, fr.state, err)
		}
		if due == at {
			return ext.segment.path, pos, fr.next - pos
		}
		pos, due = fr.next, fr.due
	}
}
