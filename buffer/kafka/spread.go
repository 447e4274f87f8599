package kafka

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A spread says to which partition of a lane a block goes: the one with the fewest blocks on their way. One that fails or stalls
// is left out for a while. It is safe for concurrent use.
type spread struct {
	mu      sync.Mutex
	targets []target
	turn    int // where the search begins, so that equal ones take turns
	acked   time.Time
	probed  time.Time // when a try was last taken to lag though no other block had been acknowledged since
}

// A target is what is known of one partition.
type target struct {
	inFlight int
	stalled  int       // of them, those that others have overtaken
	failures int       // in a row
	until    time.Time // it is left out before
}

const (
	// leaveOutMin and leaveOutMax bound how long a partition that fails is left out; doubled with each failure. A new leader
	// stands within a few seconds, and is known to us a second later.
	leaveOutMin = 250 * time.Millisecond
	leaveOutMax = 5 * time.Second
)

// take chooses one of n partitions for a block that is not on its way to any of avoid. ok is false when all are left out; then
// wait says for how long.
func (s *spread) take(n int, avoid []int) (partition int, wait time.Duration, ok bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.targets) < n {
		s.targets = append(s.targets, target{})
	}
	s.turn++
	best, wait := -1, leaveOutMax
	for i := range n {
		p := (s.turn + i) % n
		t := &s.targets[p]
		switch {
		case slices.Contains(avoid, p):
		case t.stalled > 0: // what stalls may end any time
			wait = min(wait, leaveOutMin)
		case now.Before(t.until):
			wait = min(wait, t.until.Sub(now))
		case best < 0 || t.inFlight < s.targets[best].inFlight:
			best = p
		}
	}
	if best < 0 {
		return 0, wait, false
	}
	s.targets[best].inFlight++
	return best, 0, true
}

// A try is one request that stores a block in one partition.
type try struct {
	partition int
	began     time.Time

	// Guarded by the spread's mutex.
	overtaken bool // by other blocks: one more try is to begin
	ended     bool
}

// overtake says whether a try lags behind the other blocks: one of them was acknowledged since it began. When nothing is, that may be
// because there is nothing else or because everything stalls, so one try in each period is taken to lag. No others go to its partition
// then until it has ended. It says so once.
func (s *spread) overtake(y *try, period time.Duration) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if y.ended || y.overtaken {
		return false
	}
	if !s.acked.After(y.began) {
		if now.Sub(s.probed) < period {
			return false
		}
		s.probed = now
	}
	y.overtaken = true
	s.targets[y.partition].stalled++
	return true
}

// lags says whether overtake has said so.
func (s *spread) lags(y *try) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return y.overtaken
}

// done notes how a try has ended. err is nil when the block was acknowledged.
func (s *spread) done(y *try, err error) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	t := &s.targets[y.partition]
	y.ended = true
	t.inFlight--
	if y.overtaken {
		t.stalled--
	}
	if err == nil {
		t.failures, t.until = 0, time.Time{}
		s.acked = now
		return
	}
	pause := min(leaveOutMin<<min(t.failures, 10), leaveOutMax)
	t.failures++
	t.until = now.Add(pause - rand.N(pause/4))
}
