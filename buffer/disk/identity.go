package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ingestgw/ingestgw/buffer"
)

// identityName is the file that says which log this is.
const identityName = "log"

// identity reads the log's id. When it is lost, one that segments or progress of the lanes know is kept; else the log is new.
func (s *Store) identity(lanes []string) (logID, error) {
	path := filepath.Join(s.cfg.Dir, identityName)
	id, err := readIdentity(s.fs, path)
	switch {
	case err == nil:
		return id, nil
	case isUnreadable(err): // it may be there again in a minute: nothing is written in its place
		id, found := s.knownID(lanes)
		if !found {
			return logID{}, err
		}
		s.log.Error("the log's identity cannot be read; it is taken from what the log holds", "err", err)
		return id, nil
	case errors.Is(err, errDamaged):
		name, aside := freeName(s.fs, path+damagedEnding)
		if aside == nil {
			aside = s.fs.Rename(path, name)
		}
		if aside != nil {
			return logID{}, errors.Join(err, aside)
		}
		s.log.Error("the log's identity is damaged; it is taken from what the log holds", "set_aside_as", name, "err", err)
	case !errors.Is(err, fs.ErrNotExist):
		return logID{}, err
	}
	id, found := s.knownID(lanes)
	if found {
		s.log.Error("the log's identity was lost and is written anew, as its segments or progress tell it", "id", id)
	} else {
		rand.Read(id[:]) // it never fails (https://pkg.go.dev/crypto/rand#Read)
	}
	f, err := createDurable(s.fs, path, encodeIdentity(id))
	if err != nil {
		return logID{}, fmt.Errorf("write the log's identity: %w", err)
	}
	return id, f.Close()
}

// readIdentity reads the file. The error wraps errDamaged, buffer.ErrNewerVersion or fs.ErrNotExist, or says that reading failed.
func readIdentity(fsys fileSystem, path string) (logID, error) {
	const most = 256
	f, err := fsys.Open(path)
	if err != nil {
		return logID{}, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return logID{}, err
	}
	b := make([]byte, min(size, most))
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return logID{}, fmt.Errorf("read the log's identity %s: %w", path, err)
	}
	id, err := decodeIdentity(b)
	if err != nil && !errors.Is(err, buffer.ErrNewerVersion) {
		err = fmt.Errorf("%w: %w", errDamaged, err)
	}
	return id, err
}

// knownID looks for the id in the lanes.
func (s *Store) knownID(lanes []string) (logID, bool) {
	var fromProgress logID
	found := false
	for _, name := range lanes {
		dir := filepath.Join(s.cfg.Dir, lanePrefix+name)
		entries, err := s.fs.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.name)
			if strings.HasSuffix(e.name, segmentEnding) {
				if id, ok := s.segmentID(path); ok {
					return id, true
				}
			}
			if strings.HasSuffix(e.name, progressEnding) && !found {
				if saved, _, err := loadProgress(s.fs, path); err == nil {
					fromProgress, err = parseLogID(saved.progress.Log)
					found = err == nil
				}
			}
		}
	}
	return fromProgress, found
}

func (s *Store) segmentID(path string) (logID, bool) {
	f, err := s.fs.Open(path)
	if err != nil {
		return logID{}, false
	}
	defer f.Close()
	r := frames{f: f, limit: framesStart, pool: s.buffers, patient: true}
	defer r.release()
	b, err := r.bytes(0, framesStart)
	if err != nil {
		return logID{}, false
	}
	h, err := decodeSegmentHeader(b)
	return h.log, err == nil
}
