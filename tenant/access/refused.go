package access

import (
	"sync"
	"time"
)

const (
	// refusedFor is for how long a credential that was refused counts.
	refusedFor = time.Minute
	// maxRefused bounds the digests in each half of refused, at some 20 bytes each.
	maxRefused = 10_000
)

// refused remembers which credentials were refused in the last minute or two, so that one sender with a wrong one is told from many. It
// is safe for concurrent use.
type refused struct {
	mu          sync.Mutex
	began       time.Time // of now
	now, before map[uint64]struct{}
}

func (r *refused) add(d *digest, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(at)
	if len(r.now) < maxRefused {
		r.now[d.index()] = struct{}{}
	}
}

// count is how many different credentials there were, at most 2*maxRefused.
func (r *refused) count(at time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turn(at)
	n := len(r.now)
	for d := range r.before {
		if _, again := r.now[d]; !again {
			n++
		}
	}
	return n
}

// turn begins a new half when a minute has passed. mu is held.
func (r *refused) turn(at time.Time) {
	passed := at.Sub(r.began)
	if r.now != nil && passed < refusedFor {
		return
	}
	r.before = r.now
	if passed >= 2*refusedFor {
		r.before = nil
	}
	r.now, r.began = map[uint64]struct{}{}, at
}
