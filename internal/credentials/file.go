// Package credentials reads passwords, tokens, keys and certificates from files, and reads them again when they change.
package credentials

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// recheckFile is how long a credential is used before its file is looked at again.
	recheckFile = 3 * time.Second
	// maxSecretFile bounds what is read from the file of a password or a token.
	maxSecretFile = 64 << 10
	// maxKeysFile bounds what is read from a file of certificates or keys. Those of all authorities of a system take 200 KiB.
	maxKeysFile = 1 << 20
)

// A File holds what was made of one or more files, and makes it anew when they change. Without a name it holds the zero value of
// T. It is safe for concurrent use.
type File[T any] struct {
	setting string
	names   []string
	read    func(names []string) (T, error)
	log     *slog.Logger

	mu      sync.Mutex
	value   T
	stamp   string // what os.Stat said when value was read
	checked time.Time
	fault   string // of the last reading; empty: none
}

// Secret is a File that holds one line, which is not empty and may stand in an HTTP header. setting is the whole name of the
// variable that names the file, for errors; an empty name means that there is no secret.
func Secret(setting, name string, log *slog.Logger) *File[string] {
	return watch(setting, readSecret, log, name)
}

func watch[T any](setting string, read func([]string) (T, error), log *slog.Logger, names ...string) *File[T] {
	if names[0] == "" {
		names = nil
	}
	return &File[T]{setting: setting, names: names, read: read, log: log}
}

// Configured says whether there is a file.
func (f *File[T]) Configured() bool { return len(f.names) > 0 }

// Load reads the file for the first time. What cannot be read or parsed now is an error; a file that goes bad later is logged,
// and what it held before stays in use.
func (f *File[T]) Load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.Configured() {
		return nil
	}
	if err := f.reread(); err != nil {
		return fmt.Errorf("%s: %w", f.setting, err)
	}
	return nil
}

// Get returns the value, after looking at the files if that was not done within the last seconds.
func (f *File[T]) Get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.Configured() || time.Since(f.checked) < recheckFile {
		return f.value
	}
	f.tell(f.reread())
	return f.value
}

// tell logs each fault once, and that all is well again.
func (f *File[T]) tell(err error) {
	fault := ""
	if err != nil {
		fault = err.Error()
	}
	if fault == f.fault {
		return
	}
	f.fault = fault
	if err != nil {
		f.log.Error("cannot read a credential again, going on with the one read before", "setting", f.setting, "err", err)
		return
	}
	f.log.Info("a credential that could not be read is well again", "setting", f.setting)
}

func (f *File[T]) reread() error {
	f.checked = time.Now()
	stamp, err := stampOf(f.names)
	if err != nil {
		return err
	}
	if stamp == f.stamp {
		return nil
	}
	value, err := f.read(f.names)
	if err != nil {
		return err
	}
	f.value, f.stamp = value, stamp
	return nil
}

// stampOf changes when a file does, also when Kubernetes swaps the link that a mounted Secret is.
func stampOf(names []string) (string, error) {
	var stamp strings.Builder
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&stamp, "%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return stamp.String(), nil
}

func readSecret(names []string) (string, error) {
	content, err := readFile(names[0], maxSecretFile)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" || !httpguts.ValidHeaderFieldValue(secret) {
		return "", fmt.Errorf("%s: want one line that is not empty", names[0])
	}
	return secret, nil
}

// readFile reads a regular file of at most so many bytes.
func readFile(name string, most int64) ([]byte, error) {
	file, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > most {
		return nil, fmt.Errorf("%s: more than the %d bytes that are read of such a file", name, most)
	}
	return content, nil
}

// Open opens a file for reading, which has to be a regular one, be it behind links. It never waits: a FIFO that was put in the place of
// a file would keep whoever opens or reads it waiting for good.
func Open(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "open", Path: name, Err: errIrregular}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

var errIrregular = errors.New("want a regular file")
