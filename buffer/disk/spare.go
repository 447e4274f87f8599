package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// A disk without a free byte must not keep the log from giving space back. For that, progress has to be saved and the newest segment
// to be followed by another one, so each lane keeps a file of that size to make a new one of.
const (
	segmentSpare  = "segment.spare"
	progressSpare = "progress.spare"
)

// spareFor is the file that one of that path can be made of, "" if there is none of its kind.
func spareFor(path string) string {
	switch {
	case strings.HasSuffix(path, segmentEnding):
		return filepath.Join(filepath.Dir(path), segmentSpare)
	case strings.HasSuffix(path, progressEnding):
		return filepath.Join(filepath.Dir(path), progressSpare)
	}
	return ""
}

// keepSpares makes the spare files that are not there. Opening calls it, and then the writer alone.
func (l *lane) keepSpares() {
	err := errors.Join(l.keepSpare(segmentSpare, framesStart), l.keepSpare(progressSpare, progressSize))
	if err != nil {
		l.log.Warn("cannot keep space in reserve for when the disk is full", "err", err)
	}
}

func (l *lane) keepSpare(name string, size int) error {
	path := filepath.Join(l.dir, name)
	f, err := l.fs.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = createDurable(l.fs, path, make([]byte, size))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.Close()
}
