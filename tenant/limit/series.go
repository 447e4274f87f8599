package limit

import (
	"time"
)

const (
	// window is for how long a series is active after it was last sent.
	window = time.Hour
	// epoch is the precision of that: series are forgotten window to window + epoch after they were last sent.
	epoch = 5 * time.Minute

	epochBits = 4
	epochMask = 1<<epochBits - 1
	// lifetime is after how many epochs a series is still active. It has to fit in epochBits.
	lifetime = int64(window / epoch)

	printBits = 32 - epochBits
	// spill is how many slots of a large table are nobody's home, but room at the end.
	spill = 64
)

// A fingerprint stands for a series: 28 bits of its hash. Of n active series each new one is taken for one of them with a chance of
// n / 2^28, and goes on then whatever the limit.
type fingerprint uint32

// fingerprintOf is the same in all processes.
func fingerprintOf(hash uint64) fingerprint { return fingerprint(hash >> (64 - printBits)) }

// A table is the set of a tenant's active series, 4.2 to 5 bytes each. An entry is a permuted fingerprint, and below it the last 4
// bits of the number of the epoch in which the series was last sent; 0 is an empty slot. Entries stand in ascending order, each as
// near behind its home as there is room, its home being where it would stand if fingerprints were spread evenly. The zero table is
// empty.
//
// Fingerprints are permuted with a number that only this process knows: a sender that could choose where its series stand would
// make every look-up walk through all of them.
type table struct {
	slots []uint32
	homes int32 // of the slots, the others being behind them
	count int32
	now   int32 // number of the epoch in which it was last swept; no entry is newer
}

// permute is a bijection on 28 bits.
func permute(p fingerprint, secret uint64) uint32 {
	const mask = 1<<printBits - 1
	x := uint32(p) ^ uint32(secret)&mask
	x = x * (uint32(secret>>32) | 1) & mask
	x ^= x >> 15
	x = x * 0x2c1b3c6d & mask
	x ^= x >> 13
	return max(x, 1) // 0 would be an empty slot in epoch 0
}

func (t *table) home(p uint32) int { return int(uint64(p) * uint64(t.homes) >> printBits) }

// find returns where p is, or where it would have to be put.
func (t *table) find(p uint32) (slot int, known bool) {
	if len(t.slots) == 0 {
		return 0, false
	}
	i := t.home(p)
	for ; i < len(t.slots) && t.slots[i] != 0; i++ {
		if at := t.slots[i] >> epochBits; at >= p {
			return i, at == p
		}
	}
	return i, false
}

// touch notes that a known series was sent in the present epoch, and says whether that is the first time in it.
func (t *table) touch(slot int) bool {
	entry := t.slots[slot]&^epochMask | uint32(t.now)&epochMask
	first := entry != t.slots[slot]
	t.slots[slot] = entry
	return first
}

// insert adds a series that is not known, at the slot that find has returned.
func (t *table) insert(p uint32, slot int) {
	if 20*(int(t.count)+1) > 19*len(t.slots) {
		t.resize(len(t.slots) + max(len(t.slots)/32, 4))
		slot, _ = t.find(p)
	}
	free := slot
	for free < len(t.slots) && t.slots[free] != 0 {
		free++
	}
	if free == len(t.slots) {
		t.slots = extended(t.slots)
	}
	copy(t.slots[slot+1:free+1], t.slots[slot:free])
	t.slots[slot] = p<<epochBits | uint32(t.now)&epochMask
	t.count++
}

// extended is the slots and some more behind them.
func extended(slots []uint32) []uint32 {
	more := sized(len(slots) + max(len(slots)/32, 4))
	copy(more, slots)
	return more
}

// sized is n empty slots, or as many as the memory allocator rounds that up to.
func sized(n int) []uint32 {
	slots := append([]uint32(nil), make([]uint32, n)...)
	return slots[:cap(slots)]
}

// resize moves the entries to a table of about so many slots.
func (t *table) resize(slots int) {
	before := t.slots
	t.slots = sized(slots)
	t.homes = int32(len(t.slots) - min(len(t.slots)/32, spill))
	next := 0
	for _, entry := range before {
		if entry == 0 {
			continue
		}
		if next = max(next, t.home(entry>>epochBits)); next == len(t.slots) {
			t.slots = extended(t.slots)
		}
		t.slots[next] = entry
		next++
	}
}

// sweep forgets what is not active any more, when an epoch has begun since the last time.
func (t *table) sweep(now int32) {
	passed := int64(now) - int64(t.now)
	if passed <= 0 {
		return
	}
	before := t.now
	t.now = now
	if t.count == 0 {
		return
	}
	next := 0
	for i, entry := range t.slots {
		if entry == 0 {
			continue
		}
		t.slots[i] = 0
		if age := int64(uint32(before)-entry)&epochMask + passed; age > lifetime {
			t.count--
			continue
		}
		next = max(next, t.home(entry>>epochBits)) // at most i, where it stood with no fewer before it
		t.slots[next] = entry
		next++
	}
	switch {
	case t.count == 0:
		t.slots = nil
	case int(t.count) < len(t.slots)/2:
		t.resize(int(t.count) + int(t.count)/16 + 4)
	}
}
