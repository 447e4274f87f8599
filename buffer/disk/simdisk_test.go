package disk

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
)

// A simFile is what a name stands for. Slices are never written to within their length, so that copies can share them.
type simFile struct {
	now     []byte // what everybody sees
	durable []byte // what is on the disk
	pending []change
}

// A change of a file: a write, or, without data, a new size.
type change struct {
	at   int64
	data []byte
}

func (c change) apply(b []byte) []byte {
	switch {
	case c.data == nil && c.at <= int64(len(b)):
		return b[:c.at:c.at]
	case c.at == int64(len(b)):
		return append(b, c.data...)
	}
	grown := make([]byte, max(int64(len(b)), c.at+int64(len(c.data))))
	copy(grown, b)
	copy(grown[c.at:], c.data)
	return grown
}

func (f *simFile) change(c change) {
	f.now = c.apply(f.now)
	f.pending = append(f.pending, c)
}

// sync brings the pending changes to the disk.
func (f *simFile) sync() {
	for _, c := range f.pending {
		f.durable = c.apply(f.durable)
	}
	f.pending = nil
}

// A simDir has entries that are *simFile or *simDir.
type simDir struct {
	now     map[string]any
	durable map[string]any
	pending []entryChange
}

// An entryChange takes one name out, puts node in under another, or both: a rename is atomic.
type entryChange struct {
	out, in string
	node    any
}

func (c entryChange) apply(entries map[string]any) {
	delete(entries, c.out)
	if c.in != "" {
		entries[c.in] = c.node
	}
}

func (d *simDir) change(c entryChange) {
	c.apply(d.now)
	d.pending = append(d.pending, c)
}

func (d *simDir) sync() {
	for _, c := range d.pending {
		c.apply(d.durable)
	}
	d.pending = nil
}

func newSimDir() *simDir {
	return &simDir{now: make(map[string]any), durable: make(map[string]any)}
}

// survival decides what of the unsynced survives a power cut.
type survival struct {
	name  string
	kill  bool // only the process ends; everybody goes on seeing what was seen
	entry func() bool
	file  func(f *simFile) []byte
}

var (
	killed          = survival{name: "kill", kill: true}
	nothingSurvives = survival{
		name: "nothing", entry: func() bool { return false }, file: func(f *simFile) []byte { return f.durable },
	}
	everythingSurvives = survival{
		name: "everything", entry: func() bool { return true }, file: func(f *simFile) []byte { v := f.versions(); return v[len(v)-1] },
	}
)

// versions are what the file was on its way from what is on the disk.
func (f *simFile) versions() [][]byte {
	list := [][]byte{f.durable[:len(f.durable):len(f.durable)]}
	for _, c := range f.pending {
		last := list[len(list)-1]
		list = append(list, c.apply(last[:len(last):len(last)]))
	}
	return list
}

// someSurvives lets each entry survive or not, and each sector be of any of the versions that it had.
func someSurvives(seed uint64, sector int) survival {
	rnd := rand.New(rand.NewPCG(seed, uint64(sector)))
	return survival{
		name:  fmt.Sprintf("sectors of %d, seed %d", sector, seed),
		entry: func() bool { return rnd.IntN(2) == 0 },
		file: func(f *simFile) []byte {
			versions := f.versions()
			if len(versions) == 1 {
				return versions[0]
			}
			b := make([]byte, len(versions[rnd.IntN(len(versions))]))
			for at := 0; at < len(b); at += sector {
				if v := versions[rnd.IntN(len(versions))]; at < len(v) {
					copy(b[at:min(at+sector, len(b))], v[at:])
				}
			}
			return b
		},
	}
}

// cut returns a file system of its own with what survives. The one that it is taken from goes on as before.
func (s *simFS) cut(how survival) *simFS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cutLocked(how)
}

func (s *simFS) cutLocked(how survival) *simFS {
	return &simFS{root: s.root.cut(how, make(map[any]any)), locks: make(map[string]bool), capacity: s.capacity}
}

func (d *simDir) cut(how survival, seen map[any]any) *simDir {
	if how.kill {
		c := &simDir{now: cutEntries(d.now, how, seen), durable: cutEntries(d.durable, how, seen)}
		for _, p := range d.pending {
			p.node = cutNode(p.node, how, seen)
			c.pending = append(c.pending, p)
		}
		return c
	}
	entries := maps.Clone(d.durable)
	for _, p := range d.pending {
		if how.entry() {
			p.apply(entries)
		}
	}
	entries = cutEntries(entries, how, seen)
	return &simDir{now: entries, durable: maps.Clone(entries)}
}

func cutEntries(entries map[string]any, how survival, seen map[any]any) map[string]any {
	c := make(map[string]any, len(entries))
	for _, name := range slices.Sorted(maps.Keys(entries)) { // in order, so that a seed means the same each time
		c[name] = cutNode(entries[name], how, seen)
	}
	return c
}

func cutNode(node any, how survival, seen map[any]any) any {
	if c, ok := seen[node]; ok || node == nil {
		return c
	}
	var c any
	switch node := node.(type) {
	case *simDir:
		c = node.cut(how, seen)
	case *simFile:
		c = node.cut(how)
	}
	seen[node] = c
	return c
}

func (f *simFile) cut(how survival) *simFile {
	clip := func(b []byte) []byte { return b[:len(b):len(b)] }
	if how.kill {
		return &simFile{now: clip(f.now), durable: clip(f.durable), pending: slices.Clip(f.pending)}
	}
	b := clip(how.file(f))
	return &simFile{now: b, durable: b}
}
