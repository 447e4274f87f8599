package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// osFS is the real file system.
type osFS struct{}

// osFile is a real file; what differs between systems is in fs_linux.go and fs_other.go.
type osFile struct{ *os.File }

func (osFS) Mkdir(path string) error {
	parent := filepath.Dir(path)
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		// Whoever made it may have died before it was durable. A parent that is not ours to open belongs to somebody who cared.
		_ = osFS{}.SyncDir(parent)
		return nil
	}
	if parent != path {
		if err := (osFS{}).Mkdir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return osFS{}.SyncDir(parent)
}

func (osFS) Create(path string) (file, error) { return open(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC) }

func (osFS) Open(path string) (file, error) { return open(path, os.O_RDONLY) }

func (osFS) OpenWrite(path string) (file, error) { return open(path, os.O_RDWR) }

func open(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) Remove(path string) error { return os.Remove(path) }

func (osFS) ReadDir(path string) ([]dirEntry, error) {
	list, err := os.ReadDir(path)
	entries := make([]dirEntry, 0, len(list))
	for _, e := range list {
		entries = append(entries, dirEntry{name: e.Name(), dir: e.IsDir()})
	}
	return entries, err
}

func (osFS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Space(path string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, 0, fmt.Errorf("free space at %s: %w", path, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil //nolint:unconvert // types differ by system
}

// lockedError says that another process uses the directory.
type lockedError struct{ path, pid string }

func (e *lockedError) Error() string {
	return fmt.Sprintf("directory %s is in use by another process (pid %s, by %s): stop it, or give this one another directory"+
		" with INGESTGW_BUFFER_DIR", filepath.Dir(e.path), e.pid, e.path)
}

func (osFS) Lock(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(lockFailed(f, err), f.Close())
	}
	// The pid is for people: nothing goes wrong when it cannot be written.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func lockFailed(f *os.File, err error) error {
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	pid := make([]byte, 20)
	n, _ := f.ReadAt(pid, 0)
	text := strings.TrimSpace(string(pid[:n]))
	if text == "" {
		text = "unknown"
	}
	return &lockedError{path: f.Name(), pid: text}
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// isFull says whether an error means that there is no space, so that waiting helps and nothing is broken.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
