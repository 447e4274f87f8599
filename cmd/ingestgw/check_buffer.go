package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/memory"
)

func (c *check) checkMemory() {
	state, err := memory.Decide(c.cfg.Memory)
	if err != nil {
		c.fail("memory", "%v", err)
		return
	}
	c.ok("memory", "%s", state)
	if why := state.Doubt(c.cfg.Memory); why != "" {
		c.warn("memory", "%s", why)
	}
	if largest := c.cfg.Ingest.Largest(); state.RequestBudget() < largest {
		c.warn("memory", "requests in flight may take %s, one request of the largest size can take %s: such requests may always be answered 503; "+
			"raise INGESTGW_MEMORY_LIMIT, or lower INGESTGW_INGEST_MAX_BODY and INGESTGW_INGEST_MAX_DECODED",
			settings.Bytes(state.RequestBudget()), settings.Bytes(largest))
	}
}

// checkListeners tries the addresses that ingestgw listens at, unless it does so already.
func (c *check) checkListeners() {
	if c.running {
		c.ok("listeners", "an ingestgw runs at INGESTGW_ADMIN_LISTEN=%s", c.cfg.Admin.Listen)
		return
	}
	defer c.checkListener("INGESTGW_ADMIN_LISTEN", c.cfg.Admin.Listen)()
	if c.cfg.Process.receives() { // while the other is taken, as in the process that will run
		defer c.checkListener("INGESTGW_INGEST_LISTEN", c.cfg.Ingest.Listen)()
	}
}

// checkListener tries an address, and holds it until release.
func (c *check) checkListener(setting string, addr settings.Address) (release func()) {
	l, err := net.Listen("tcp", string(addr))
	if err != nil {
		c.fail(setting, "%v", err)
		return func() {}
	}
	c.ok(setting, "%s is free", addr)
	return func() { _ = l.Close() } // nothing came
}

// checkBuffer looks whether a log can be kept where the settings say, without touching one that is there.
func (c *check) checkBuffer() {
	dir := c.cfg.Disk.Dir
	what := "buffer " + dir
	existing, err := nearestExisting(dir)
	if err != nil {
		c.fail(what, "%v: set INGESTGW_BUFFER_DIR to a directory that can be written", err)
		return
	}
	if err := tryWrite(existing); err != nil {
		c.fail(what, "%v: give this user the right to write there, or set INGESTGW_BUFFER_DIR to another directory", err)
		return
	}
	c.checkSpace(what, existing)
	c.checkLock(what, filepath.Join(dir, "lock"))
}

// nearestExisting is dir, or the directory above it in which it would be made.
func nearestExisting(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			return "", &fs.PathError{Op: "use", Path: dir, Err: unix.ENOTDIR}
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// tryWrite makes a file, syncs it, and removes it.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".ingestgw-check-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("check\n")
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

func (c *check) checkSpace(what, dir string) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		c.fail(what, "ask for free space: %v", err)
		return
	}
	free := rounded(st.Bavail, st.Bsize)
	if limit := c.cfg.Disk.MaxBytes; limit > free {
		c.warn(what, "writable, but only %s are free and INGESTGW_BUFFER_MAX_BYTES=%s: the disk will be full before the buffer is, unless what "+
			"it holds already makes up for it", free, limit)
		return
	}
	c.ok(what, "writable, %s free", free)
}

// rounded is blocks of some size in whole GiB, or MiB when there are few, which is easier to read than bytes.
func rounded[N int64 | uint32](blocks uint64, size N) settings.Bytes {
	n := settings.Bytes(blocks * uint64(size))
	if n >= 10<<30 {
		return n >> 30 << 30
	}
	return n >> 20 << 20
}

// checkLock says whether a process uses the log. That is how it should be on a machine where ingestgw runs.
func (c *check) checkLock(what, name string) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		c.ok(what, "no process uses it")
		return
	}
	if err != nil {
		c.fail(what, "look at its lock: %v", err)
		return
	}
	defer func() { _ = f.Close() }() // which also gives the lock back
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	switch {
	case err == nil:
		c.ok(what, "no process uses it")
	case errors.Is(err, unix.EWOULDBLOCK):
		c.ok(what, "in use by a running ingestgw")
	default:
		c.fail(what, "try its lock: %v", err)
	}
}
