package status

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// A socket is a unix socket under a name, which only the user of the process can connect to.
type socket struct {
	net.Listener
	path string
	file fs.FileInfo // what was put at path
}

// longestSocket is how many bytes the path of a unix socket may have.
const longestSocket = len(syscall.RawSockaddrUnix{}.Path) - 1

// listenSocket puts a socket at path. It is made in a directory that nobody else can enter, and moved when its mode is right, so that
// there is no moment in which others could connect. What a process has left at path is replaced; a socket that somebody listens on,
// and whatever is no socket, is an error.
//
// KNOWN GAP: of two processes that start in the same instant with the same path, one may replace the other's socket.
func listenSocket(path string) (*socket, error) {
	if len(path) > longestSocket { // it could be put there, and nobody could connect
		return nil, fmt.Errorf("%s has %d bytes, the path of a unix socket may have %d", path, len(path), longestSocket)
	}
	if err := vacant(path); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s") // 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	private := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("%w (the folder's path and 15 characters may have %d bytes)", err, longestSocket)
	}
	l.SetUnlinkOnClose(false) // it would be private
	s := &socket{Listener: l, path: path}
	if err := s.publish(private); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return s, nil
}

func (s *socket) publish(private string) error {
	if err := os.Chmod(private, 0o600); err != nil {
		return err
	}
	var err error
	if s.file, err = os.Lstat(private); err != nil {
		return err
	}
	return os.Rename(private, s.path)
}

// vacant says why nothing may be put at path.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is no socket: it is not replaced", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s: another process listens there", path)
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s is there, and it cannot be told whether somebody listens: %w", path, err)
}

// Close ends the socket and takes its name away, unless that is somebody else's by now.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
		_ = os.Remove(s.path) // the next process replaces what stays
	}
	return s.Listener.Close()
}
