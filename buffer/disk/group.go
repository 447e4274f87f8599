package disk

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"sync"

	"github.com/ingestgw/ingestgw/buffer"
)

const (
	progressMagic  = "\x89IGWPRG\n"
	progressSlots  = 4
	slotSize       = 4096
	slotHeaderSize = 40
	progressSize   = progressSlots * slotSize
)

// A group is who reads a lane and remembers how far it came.
type group struct {
	name  string
	path  string
	owner chan struct{} // holds one token while somebody consumes

	saving sync.Mutex // held while the file is written
	made   bool       // the file exists
	slot   int        // the last one that was saved well
	number uint64     // of the last try to save

	saved   buffer.Progress // guarded by lane.mu; Done is never changed in place
	durable bool            // saved is what this process has saved, not what it found, which may be in the page cache only; guarded by lane.mu
}

func newGroup(name, path string) *group {
	return &group{name: name, path: path, owner: make(chan struct{}, 1), slot: progressSlots - 1}
}

// slot is what one place of a progress file holds.
type slot struct {
	number   uint64
	next     buffer.Offset
	progress buffer.Progress
}

func (s slot) encode() ([]byte, error) {
	b, err := s.progress.AppendBinary(make([]byte, slotHeaderSize, slotSize))
	if err != nil {
		return nil, err
	}
	if len(b) > slotSize {
		return nil, fmt.Errorf("progress of %d bytes does not fit into a slot of %d", len(b)-slotHeaderSize, slotSize)
	}
	copy(b, progressMagic)
	le.PutUint32(b[8:], formatVersion)
	le.PutUint64(b[16:], s.number)
	le.PutUint64(b[24:], uint64(s.next))
	le.PutUint32(b[32:], uint32(len(b)-slotHeaderSize))
	le.PutUint32(b[12:], slotChecksum(b))
	return append(b, make([]byte, slotSize-len(b))...), nil
}

func slotChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:])
}

// decodeSlot reads one slot. ok says whether its bytes are as they were written.
func decodeSlot(b []byte) (s slot, ok bool, err error) {
	n := le.Uint32(b[32:])
	if string(b[:8]) != progressMagic || n > slotSize-slotHeaderSize {
		return slot{}, false, nil
	}
	b = b[:slotHeaderSize+n]
	if le.Uint32(b[12:]) != slotChecksum(b) {
		return slot{}, false, nil
	}
	if v := le.Uint32(b[8:]); v != formatVersion {
		return slot{}, true, fmt.Errorf("progress file of version %d, known is %d: %w", v, formatVersion, buffer.ErrNewerVersion)
	}
	s = slot{number: le.Uint64(b[16:]), next: buffer.Offset(le.Uint64(b[24:]))}
	return s, true, s.progress.UnmarshalBinary(b[slotHeaderSize:])
}

// loadProgress reads the newest save of a progress file. Without any valid one the error wraps errDamaged.
func loadProgress(fsys fileSystem, path string) (best slot, at int, err error) {
	f, err := fsys.Open(path)
	if err != nil {
		return slot{}, 0, err
	}
	defer f.Close()
	r := frames{f: f, limit: progressSize, pool: &buffers{}, patient: true}
	b, err := r.bytes(0, progressSize)
	if err != nil {
		return slot{}, 0, err
	}
	for i := range progressSlots {
		s, ok, err := decodeSlot(b[i*slotSize : (i+1)*slotSize])
		if errors.Is(err, buffer.ErrNewerVersion) {
			return slot{}, 0, fmt.Errorf("%s: %w", path, err)
		}
		if ok && err == nil && s.number > best.number {
			best, at = s, i
		}
	}
	if best.number == 0 {
		return slot{}, 0, fmt.Errorf("%w: none of the slots is valid", errDamaged)
	}
	return best, at, nil
}

// save makes p the group's progress.
func (l *lane) save(g *group, p buffer.Progress) error {
	g.saving.Lock()
	defer g.saving.Unlock()
	return l.write(g, p)
}

// saveAgain saves the progress that a group has, or begins with.
func (l *lane) saveAgain(g *group) error {
	g.saving.Lock()
	defer g.saving.Unlock()
	return l.write(g, l.progress(g))
}

// write saves p. g.saving is held.
func (l *lane) write(g *group, p buffer.Progress) error {
	_, next := l.bounds()
	p = p.Clone()
	g.number++ // also when it fails: what is left of that try must not pass for a later one
	b, err := slot{number: g.number, next: next, progress: p}.encode()
	if err != nil {
		return err
	}
	if !g.made {
		err = g.create(l.fs, b)
	} else {
		err = g.write(l.fs, b)
	}
	if err != nil {
		return l.failed("save progress of group "+g.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g.saved, g.durable = p, true
	return nil
}

// create makes the file with b as its first save. Nothing that is written later needs more space.
func (g *group) create(fsys fileSystem, b []byte) error {
	f, err := createDurable(fsys, g.path, append(b, make([]byte, progressSize-slotSize)...))
	if err != nil {
		return err
	}
	g.made, g.slot = true, 0
	return f.Close()
}

// write saves b in the next slot. When that fails, the save before is untouched, and the next try takes another slot.
func (g *group) write(fsys fileSystem, b []byte) error {
	f, err := fsys.OpenWrite(g.path)
	if errors.Is(err, fs.ErrNotExist) { // deleted under our hands: whoever did it wants to begin anew at the next start
		return g.create(fsys, b)
	}
	if err != nil {
		return err
	}
	var tried error
	for i := 1; i < progressSlots; i++ {
		at := (g.slot + i) % progressSlots
		if err := f.WriteAll([][]byte{b}, int64(at)*slotSize); err != nil {
			tried = errors.Join(tried, err)
			continue
		}
		if err := f.Sync(); err != nil {
			tried = errors.Join(tried, err)
			continue
		}
		g.slot = at
		return f.Close()
	}
	return errors.Join(tried, f.Close())
}
