package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxVectors is the most pieces in one pwritev (IOV_MAX, see writev(2)).
const maxVectors = 1024

// isUnreadable says whether an error means that the disk does not give what is stored on it, so that what is there may be damaged
// or the disk away: EIO, what file systems answer when their own structures do not add up (EUCLEAN, EBADMSG), and what the block
// layer makes of a medium, a target or a checksum of the device that fails (ENODATA, EREMOTEIO, EILSEQ).
func isUnreadable(err error) bool {
	for _, e := range []error{unix.EIO, unix.EUCLEAN, unix.EBADMSG, unix.ENODATA, unix.EREMOTEIO, unix.EILSEQ} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Sync is fdatasync: it writes bytes and size, and leaves out the times.
func (f osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func (f osFile) WriteAll(bufs [][]byte, off int64) error {
	for {
		for len(bufs) > 0 && len(bufs[0]) == 0 {
			bufs = bufs[1:]
		}
		if len(bufs) == 0 {
			return nil
		}
		n, err := unix.Pwritev(int(f.Fd()), bufs[:min(len(bufs), maxVectors)], off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		if n == 0 {
			return fmt.Errorf("pwritev %s: %w", f.Name(), io.ErrShortWrite)
		}
		off += int64(n)
		bufs = advance(bufs, n)
	}
}

// advance leaves out the first n bytes. It changes elements of bufs, not the bytes.
func advance(bufs [][]byte, n int) [][]byte {
	for n > 0 {
		if n < len(bufs[0]) {
			bufs[0] = bufs[0][n:]
			return bufs
		}
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	return bufs
}
