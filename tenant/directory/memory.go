package directory

import (
	"iter"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/ingestgw/ingestgw/tenant"
)

const (
	// bytesPerEntry times Config.MaxEntries is what all answers together may take, roughly.
	bytesPerEntry = 1 << 10
	// maxMisses bounds what is remembered of unknown credentials, apart from the answers: whoever tries out credentials must not
	// push out those that are known.
	maxMisses = 10_000
	// maxInvalid bounds the list of tenants whose answers are to be asked anew; beyond it, all are.
	maxInvalid = 100_000
)

// An entry is one answer that is remembered, or, without an answer, that there is none.
type entry struct {
	key    key
	answer *Answer
	cost   int
	heard  time.Time // when the directory was asked
	fresh  time.Time // until when it is not asked again
	asked  uint64    // the turn in which it was asked

	// What changes while it is remembered.
	retry   time.Time // not to be asked again in the background before that
	checked uint64    // the turn up to which no invalidation concerns it
}

// named yields the tenants that the answer names, some perhaps twice.
func (e *entry) named() iter.Seq[tenant.ID] {
	return func(yield func(tenant.ID) bool) {
		for _, p := range e.answer.Tenants {
			if !yield(p.ID) {
				return
			}
		}
		n := e.answer.Naming
		if n == nil {
			return
		}
		if n.Missing != nil && !yield(*n.Missing) {
			return
		}
		for _, id := range n.Table {
			if !yield(id) {
				return
			}
		}
	}
}

// A memory is the entries, and what has been invalidated. It is not safe for concurrent use.
type memory struct {
	hits, misses *simplelru.LRU[key, *entry]
	bytes, most  int // of hits

	// turn counts questions and invalidations, so that it can be told which of two came first.
	turn uint64
	// invalid has the turn in which a tenant was last invalidated, and when.
	invalid map[tenant.ID]invalidation
	// latest is the turn of the last invalidation; all is that of the last one of everything.
	latest, all uint64
}

// outdatedTurn is from before everything.
const outdatedTurn = 0

type invalidation struct {
	turn uint64
	at   time.Time
}

func newMemory(entries int) *memory {
	m := &memory{most: entries * bytesPerEntry, turn: outdatedTurn + 1, invalid: map[tenant.ID]invalidation{}}
	m.latest, m.all = m.turn, m.turn
	m.hits, _ = simplelru.NewLRU(entries, func(_ key, e *entry) { m.bytes -= e.cost }) // fails for no entries only
	m.misses, _ = simplelru.NewLRU[key, *entry](min(entries, maxMisses), nil)
	return m
}

// get returns an entry, which counts as used by that, or nil.
func (m *memory) get(k key) *entry {
	if e, ok := m.hits.Get(k); ok {
		return e
	}
	e, _ := m.misses.Get(k)
	return e
}

// put remembers an entry in the place of what was known before.
func (m *memory) put(e *entry) {
	m.forget(e.key)
	if e.answer == nil {
		m.misses.Add(e.key, e)
		return
	}
	m.bytes += e.cost
	m.hits.Add(e.key, e)
	for m.bytes > m.most && m.hits.Len() > 1 {
		m.hits.RemoveOldest()
	}
}

func (m *memory) forget(k key) {
	m.hits.Remove(k)
	m.misses.Remove(k)
}

// invalidate makes all that names the tenant outdated, and all that is known to be unknown: it may be the tenant's by now.
func (m *memory) invalidate(id tenant.ID) {
	m.turn++
	m.latest = m.turn
	m.misses.Purge()
	if len(m.invalid) >= maxInvalid {
		clear(m.invalid)
		m.all = m.turn
	}
	m.invalid[id] = invalidation{turn: m.turn, at: time.Now()}
}

// outdated says whether something that the entry names has been invalidated since it was asked for.
func (m *memory) outdated(e *entry) bool {
	switch {
	case e.checked >= m.latest:
		return false
	case e.answer == nil:
		return e.asked < m.latest
	case e.asked < m.all:
		return true
	}
	for id := range e.named() {
		if m.invalid[id].turn > e.asked {
			return true
		}
	}
	e.checked = m.latest
	return false
}

// sweep forgets the answers that cannot be used any more, and the invalidations from before all answers.
func (m *memory) sweep(stale time.Duration) (gone int) {
	now := time.Now()
	for _, k := range m.hits.Keys() {
		if e, _ := m.hits.Peek(k); now.After(e.fresh) && now.Sub(e.heard) > stale {
			m.hits.Remove(k)
			gone++
		}
	}
	for id, i := range m.invalid {
		if now.Sub(i.at) > maxStale {
			delete(m.invalid, id)
		}
	}
	return gone
}
