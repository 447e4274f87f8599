//go:build unix && !linux

package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isUnreadable says whether an error means that the disk does not give what is stored on it, so that what is there may be damaged
// or the disk away.
func isUnreadable(err error) bool { return errors.Is(err, unix.EIO) }

// WriteAll writes piece by piece where there is no pwritev. os.File.Sync does what makes bytes durable on such systems
// (F_FULLFSYNC on macOS).
func (f osFile) WriteAll(bufs [][]byte, off int64) error {
	for _, b := range bufs {
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}
