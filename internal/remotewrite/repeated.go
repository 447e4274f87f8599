package remotewrite

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// seen is a hash table of the names in one series. Nothing has to be wiped between series: an entry counts only when its round
// is that of the table.
type seen struct {
	round   uint64
	entries [4 * maxNames]struct{ round, mark uint64 }
}

// maxNames is the most label names that are told apart with the table.
const maxNames = 64

// distinctNames says whether all label names surely differ. Names with the same mark leave it unsure, and so do too many.
func (s *Scanner) distinctNames(b []byte) bool {
	if s.labels > maxNames {
		return false
	}
	s.seen.round++
	for i := range s.names[:s.labels] {
		name := &s.names[i]
		if !s.seen.add(name.mark(b)) {
			return false
		}
	}
	return true
}

// add says whether the mark is new in this round.
func (t *seen) add(mark uint64) bool {
	const slots = uint64(len(t.entries))
	slot := mark >> 32 % slots
	for t.entries[slot].round == t.round {
		if t.entries[slot].mark == mark {
			return false
		}
		slot = (slot + 1) % slots
	}
	t.entries[slot].round, t.entries[slot].mark = t.round, mark
	return true
}

// mark mixes a name's length and its first and last eight bytes.
func (n *labelName) mark(b []byte) uint64 {
	const odd = 0x9e3779b97f4a7c15
	last := n.first8
	if n.len() > 8 {
		last = binary.BigEndian.Uint64(b[n.to()-8:])
	}
	return ((n.first8*odd ^ last) + uint64(n.len())) * odd
}

// maxHashes is how many hashes a Scanner keeps room for between series.
const maxHashes = 1 << 10

// repeatedName looks for a name that stands twice in the series b[from:]. It takes O(n log n) whatever the names are: the hash
// is seeded, so that a sender cannot make names collide.
func (s *Scanner) repeatedName(b []byte, from int) (name span, found bool) {
	if s.seed == (maphash.Seed{}) {
		s.seed = maphash.MakeSeed()
	}
	hashes := slices.Grow(s.hashes[:0], s.labels)
	for name := range labelNames(b, from) {
		hashes = append(hashes, maphash.Bytes(s.seed, name.of(b)))
	}
	slices.Sort(hashes)
	for i := 1; i < len(hashes) && !found; i++ {
		if hashes[i] == hashes[i-1] {
			name, found = s.repeatedHash(b, from, hashes[i])
		}
	}
	if cap(hashes) <= maxHashes {
		s.hashes = hashes
	}
	return name, found
}

// repeatedHash compares the names that have the same hash.
func (s *Scanner) repeatedHash(b []byte, from int, hash uint64) (name span, found bool) {
	var first []byte
	for name := range labelNames(b, from) {
		if text := name.of(b); maphash.Bytes(s.seed, text) == hash {
			if first != nil && string(first) == string(text) {
				return name, true
			}
			first = text
		}
	}
	return 0, false
}
