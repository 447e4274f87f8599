package disk

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/buffer/buffertest"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// A simFS is a file system in memory that tells apart what everybody sees and what is on the disk. Only a Sync moves bytes, and
// only a SyncDir entries of a directory, from the one to the other. cut returns what a power cut leaves.
type simFS struct {
	mu       sync.Mutex
	root     *simDir
	locks    map[string]bool
	capacity int64                        // bytes of all files; 0: endless
	rule     func(op, path string) *fault // what goes wrong; nil: nothing
	changed  func()                       // called, with mu held, after each operation that can change what a power cut leaves
	ops      int
}

// A fault is how one operation of a simFS goes wrong.
type fault struct {
	err   error // nil: the operation says that it went well
	nth   int   // which of the operations it is in; 0 means the first
	bytes int   // a write writes so many before it fails; bytes of the file before this one can be read
	sync  syncFault
}

// What a Sync with a fault does with the bytes.
type syncFault int

const (
	left    syncFault = iota // they are on their way, as before
	kept                     // they are on the disk
	dropped                  // everybody goes on seeing them, but they never get to the disk
)

func newSimFS() *simFS { return &simFS{root: newSimDir(), locks: make(map[string]bool)} }

// begin starts an operation: it says what goes wrong. mu is held until end is called.
func (s *simFS) begin(op, path string) *fault {
	s.mu.Lock()
	s.ops++
	if s.rule == nil {
		return nil
	}
	return s.rule(op, path)
}

func (s *simFS) end(op string) {
	if s.changed != nil && op != "read" {
		s.changed()
	}
	s.mu.Unlock()
}

// obey lets the faults of all operations to come be those of rule.
func (s *simFS) obey(rule func(op, path string) *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rule = rule
}

func missing(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// dir finds a directory. mu is held.
func (s *simFS) dir(name string) *simDir {
	d := s.root
	for part := range strings.SplitSeq(path.Clean(name), "/") {
		if part == "." {
			continue
		}
		next, ok := d.now[part].(*simDir)
		if !ok {
			return nil
		}
		d = next
	}
	return d
}

func (s *simFS) file(name string) *simFile {
	if d := s.dir(path.Dir(name)); d != nil {
		f, _ := d.now[path.Base(name)].(*simFile)
		return f
	}
	return nil
}

func (s *simFS) Mkdir(name string) error {
	parent := path.Dir(name)
	if parent != name {
		if err := s.Mkdir(parent); err != nil {
			return err
		}
	}
	if err := s.makeEntry(name); err != nil || name == "." {
		return err
	}
	return s.SyncDir(parent)
}

func (s *simFS) makeEntry(name string) error {
	bad := s.begin("mkdir", name)
	defer s.end("mkdir")
	if s.dir(name) != nil {
		return nil
	}
	if bad != nil {
		return bad.err
	}
	s.dir(path.Dir(name)).change(entryChange{in: path.Base(name), node: newSimDir()})
	return nil
}

func (s *simFS) Create(name string) (file, error) {
	bad := s.begin("create", name)
	defer s.end("create")
	d := s.dir(path.Dir(name))
	switch {
	case bad != nil:
		return nil, bad.err
	case d == nil:
		return nil, missing("create", name)
	}
	f := s.file(name)
	if f == nil {
		f = &simFile{}
		d.change(entryChange{in: path.Base(name), node: f})
	} else {
		f.change(change{})
	}
	return &simHandle{fs: s, path: name, file: f}, nil
}

func (s *simFS) open(op, name string) (file, error) {
	bad := s.begin(op, name)
	defer s.end("read")
	if bad != nil {
		return nil, bad.err
	}
	f := s.file(name)
	if f == nil {
		return nil, missing(op, name)
	}
	return &simHandle{fs: s, path: name, file: f}, nil
}

func (s *simFS) Open(name string) (file, error)      { return s.open("open", name) }
func (s *simFS) OpenWrite(name string) (file, error) { return s.open("openwrite", name) }

func (s *simFS) Rename(from, to string) error {
	bad := s.begin("rename", to)
	defer s.end("rename")
	f := s.file(from)
	switch {
	case bad != nil:
		return bad.err
	case f == nil:
		return missing("rename", from)
	}
	s.dir(path.Dir(to)).change(entryChange{out: path.Base(from), in: path.Base(to), node: f})
	return nil
}

func (s *simFS) Remove(name string) error {
	bad := s.begin("remove", name)
	defer s.end("remove")
	switch {
	case bad != nil:
		return bad.err
	case s.file(name) == nil:
		return missing("remove", name)
	}
	s.dir(path.Dir(name)).change(entryChange{out: path.Base(name)})
	return nil
}

func (s *simFS) ReadDir(name string) ([]dirEntry, error) {
	bad := s.begin("readdir", name)
	defer s.end("read")
	d := s.dir(name)
	switch {
	case bad != nil:
		return nil, bad.err
	case d == nil:
		return nil, missing("readdir", name)
	}
	var list []dirEntry
	for _, name := range slices.Sorted(maps.Keys(d.now)) {
		_, isDir := d.now[name].(*simDir)
		list = append(list, dirEntry{name: name, dir: isDir})
	}
	return list, nil
}

func (s *simFS) SyncDir(name string) error {
	bad := s.begin("syncdir", name)
	defer s.end("syncdir")
	d := s.dir(name)
	switch {
	case d == nil:
		return missing("syncdir", name)
	case bad != nil && bad.sync == left:
		return bad.err
	}
	d.sync()
	if bad != nil {
		return bad.err
	}
	return nil
}

func (s *simFS) Lock(name string) (io.Closer, error) {
	bad := s.begin("lock", name)
	defer s.end("read")
	switch {
	case bad != nil:
		return nil, bad.err
	case s.locks[name]:
		return nil, &lockedError{path: name, pid: "1"}
	}
	s.locks[name] = true
	return closer(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.locks, name)
	}), nil
}

type closer func()

func (c closer) Close() error {
	c()
	return nil
}

func (s *simFS) Space(name string) (free, total int64, err error) {
	bad := s.begin("space", name)
	defer s.end("read")
	switch {
	case bad != nil:
		return 0, 0, bad.err
	case s.capacity == 0:
		return 1 << 40, 1 << 40, nil
	}
	return max(s.capacity-s.root.size(), 0), s.capacity, nil
}

func (d *simDir) size() (n int64) {
	for _, node := range d.now {
		switch node := node.(type) {
		case *simDir:
			n += node.size()
		case *simFile:
			n += int64(len(node.now))
		}
	}
	return n
}

// A simHandle is an open file.
type simHandle struct {
	fs   *simFS
	path string
	file *simFile
}

func (h *simHandle) ReadAt(b []byte, off int64) (int, error) {
	bad := h.fs.begin("read", h.path)
	defer h.fs.end("read")
	if bad != nil && off+int64(len(b)) > int64(bad.bytes) {
		return 0, bad.err
	}
	if off >= int64(len(h.file.now)) {
		return 0, io.EOF
	}
	n := copy(b, h.file.now[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *simHandle) WriteAll(bufs [][]byte, off int64) error {
	bad := h.fs.begin("write", h.path)
	defer h.fs.end("write")
	data := slices.Concat(bufs...)
	room := len(data)
	if h.fs.capacity > 0 {
		free := h.fs.capacity - h.fs.root.size()
		room = int(min(int64(room), max(int64(len(h.file.now))-off+max(free, 0), 0)))
	}
	if bad != nil {
		room = min(room, bad.bytes)
	}
	if room > 0 {
		h.file.change(change{at: off, data: data[:room:room]})
	}
	switch {
	case bad != nil:
		return bad.err
	case room < len(data):
		return &fs.PathError{Op: "write", Path: h.path, Err: syscall.ENOSPC}
	}
	return nil
}

func (h *simHandle) Sync() error {
	bad := h.fs.begin("sync", h.path)
	defer h.fs.end("sync")
	switch {
	case bad == nil:
		h.file.sync()
		return nil
	case bad.sync == kept:
		h.file.sync()
	case bad.sync == dropped:
		h.file.pending = nil
	}
	return bad.err
}

func (h *simHandle) Truncate(size int64) error {
	bad := h.fs.begin("truncate", h.path)
	defer h.fs.end("truncate")
	if bad != nil {
		return bad.err
	}
	h.file.change(change{at: size})
	return nil
}

func (h *simHandle) Size() (int64, error) {
	bad := h.fs.begin("size", h.path)
	defer h.fs.end("read")
	if bad != nil {
		return 0, bad.err
	}
	return int64(len(h.file.now)), nil
}

func (h *simHandle) Close() error { return nil }

func TestStoreKeepsItsPromisesAfterPowerCuts(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, fsys *simFS, cfg Config) *Store {
		t.Helper()
		s, err := openOn(&mortal{fileSystem: fsys}, cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatalf("open: %v", err)
		}
		return s
	}
	buffertest.Run(t, buffertest.Harness{
		Open: func(t *testing.T, maxBytes int64) buffer.Store {
			cfg := testConfig(testDir)
			cfg.MaxBytes = settings.Bytes(maxBytes)
			return open(t, newSimFS(), cfg)
		},
		Reopen: func(t *testing.T, s buffer.Store, crash bool) buffer.Store {
			old := s.(*Store)
			disk := old.fs.(*mortal).fileSystem.(*simFS)
			if crash {
				old.fs.(*mortal).kill(t, old)
				disk = disk.cut(nothingSurvives)
			}
			return open(t, disk, old.cfg)
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

// A simulated disk is to lose what was not synced, and to keep what was.
func TestSimulatedDiskKeepsWhatWasSynced(t *testing.T) {
	t.Parallel()
	sim := newSimFS()
	write := func(f file, at int64, s string) {
		t.Helper()
		if err := f.WriteAll([][]byte{[]byte(s)}, at); err != nil {
			t.Fatal(err)
		}
	}
	read := func(on *simFS) string {
		f := on.file("d/a")
		if f == nil {
			return "no file"
		}
		return string(f.now)
	}
	if err := sim.Mkdir("d"); err != nil {
		t.Fatal(err)
	}
	f, err := sim.Create("d/a.new")
	if err != nil {
		t.Fatal(err)
	}
	write(f, 0, "synced")
	err = errors.Join(f.Sync(), sim.Rename("d/a.new", "d/a"))
	if got := read(sim.cut(nothingSurvives)); err != nil || got != "no file" {
		t.Errorf("before SyncDir: %q, %v", got, err)
	}
	if got := read(sim.cut(everythingSurvives)); got != "synced" {
		t.Errorf("before SyncDir, everything survives: %q", got)
	}
	err = sim.SyncDir("d")
	write(f, 6, " and not")
	write(f, 0, "S")
	for how, want := range map[*survival]string{&nothingSurvives: "synced", &everythingSurvives: "Synced and not", &killed: "Synced and not"} {
		if got := read(sim.cut(*how)); err != nil || got != want {
			t.Errorf("%s survives: %q, want %q, %v", how.name, got, want, err)
		}
	}
	again := sim.cut(killed)
	if got := read(again.cut(nothingSurvives)); got != "synced" {
		t.Errorf("killed, then nothing survives: %q", got)
	}
	sim.obey(func(op, _ string) *fault { return &fault{err: syscall.EIO, sync: dropped} })
	if err := f.Sync(); err == nil {
		t.Error("the fault did not happen")
	}
	sim.obey(nil)
	if err := f.Sync(); err != nil || read(sim) != "Synced and not" || read(sim.cut(everythingSurvives)) != "synced" {
		t.Errorf("dropped bytes: seen %q, on disk %q, %v", read(sim), read(sim.cut(everythingSurvives)), err)
	}
}
