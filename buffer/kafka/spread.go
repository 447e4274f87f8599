package kafka

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A spread says to which partition of a lane a block goes: the one with the fewest blocks on their way. One that fails or stalls
// is left out for a while, and with a broker that stalls all that it leads. It is safe for concurrent use.
type spread struct {
	mu      sync.Mutex
	targets []target
	leaders map[int]*leader // by broker id
	turn    int             // where the search begins, so that equal ones take turns
	acked   time.Time       // when the latest of the acknowledged tries began
	probed  time.Time       // when a try was last taken to lag though none that began later had been acknowledged
}

// A target is what is known of one partition.
type target struct {
	inFlight int
	stalled  int       // of them, those that others have overtaken
	failures int       // in a row
	until    time.Time // it is left out before
}

// A leader is what is known of a broker that leads partitions.
type leader struct {
	inFlight int
	acked    time.Time // when the latest of the tries that it has acknowledged began
	lagged   time.Time // when the latest of those began that others have overtaken
	probed   time.Time // when the latest of those began that were taken to lag before others had overtaken them
}

// suspect says whether a broker itself seems to stall, and not one of its partitions: it has acknowledged nothing that began later
// than what lags, and others have. It gets one block at a time then. s.mu is held.
func (s *spread) suspect(l *leader) bool {
	return l.lagged.After(l.acked) || l.probed.After(l.acked) && s.acked.After(l.probed)
}

const (
	// leaveOutMin and leaveOutMax bound how long a partition that fails is left out; doubled with each failure. A new leader
	// stands within a few seconds, and is known to us a second later.
	leaveOutMin = 250 * time.Millisecond
	leaveOutMax = 5 * time.Second
)

// take chooses a partition for a block that is not on its way to any of avoid, on another broker than those if there is one. leaders
// are the brokers that lead the partitions; -1 is none. ok is false when all are left out; then wait says for how long.
func (s *spread) take(leaders []int, avoid []int) (y *try, wait time.Duration, ok bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.targets) < len(leaders) {
		s.targets = append(s.targets, target{})
	}
	s.turn++
	best, wait := -1, leaveOutMax
	tried := func(p int) bool { // perhaps it is the broker that stalls
		return slices.ContainsFunc(avoid, func(a int) bool { return a < len(leaders) && leaders[a] == leaders[p] })
	}
	better := func(p int) bool {
		if best < 0 || tried(p) != tried(best) {
			return best < 0 || tried(best)
		}
		return s.targets[p].inFlight < s.targets[best].inFlight
	}
	for i := range leaders {
		p := (s.turn + i) % len(leaders)
		t, l := &s.targets[p], s.leader(leaders[p])
		switch {
		case slices.Contains(avoid, p):
		case t.stalled > 0, l.inFlight > 0 && s.suspect(l): // what stalls may end any time
			wait = min(wait, leaveOutMin)
		case now.Before(t.until):
			wait = min(wait, t.until.Sub(now))
		case better(p):
			best = p
		}
	}
	if best < 0 {
		return nil, wait, false
	}
	y = &try{partition: best, leader: s.leader(leaders[best]), began: now}
	s.targets[best].inFlight++
	y.leader.inFlight++
	return y, 0, true
}

// leader is what is known of a broker. s.mu is held.
func (s *spread) leader(id int) *leader {
	if id < 0 { // the partition has none at the moment: nothing is learnt about anybody
		return &leader{}
	}
	if s.leaders == nil {
		s.leaders = map[int]*leader{}
	}
	if s.leaders[id] == nil {
		s.leaders[id] = &leader{}
	}
	return s.leaders[id]
}

// A try is one request that stores a block in one partition.
type try struct {
	partition int
	leader    *leader
	began     time.Time

	// Guarded by the spread's mutex.
	overtaken bool // by other blocks: one more try is to begin
	ended     bool
}

// overtake says whether a try lags behind the other blocks: one that began later was acknowledged. When none is, that may be because
// there is none or because everything stalls, so one try in each period is taken to lag. No others go to its partition then until it
// has ended. It says so once.
func (s *spread) overtake(y *try, period time.Duration) bool {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if y.ended || y.overtaken {
		return false
	}
	if s.acked.After(y.began) {
		y.leader.lagged = later(y.leader.lagged, y.began)
	} else {
		if now.Sub(s.probed) < period {
			return false
		}
		s.probed = now
		y.leader.probed = later(y.leader.probed, y.began)
	}
	y.overtaken = true
	s.targets[y.partition].stalled++
	return true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
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
	y.leader.inFlight--
	if y.overtaken {
		t.stalled--
	}
	if err == nil {
		t.failures, t.until = 0, time.Time{}
		s.acked = later(s.acked, y.began)
		y.leader.acked = later(y.leader.acked, y.began)
		return
	}
	pause := min(leaveOutMin<<min(t.failures, 10), leaveOutMax)
	t.failures++
	t.until = now.Add(pause - rand.N(pause/4))
}
