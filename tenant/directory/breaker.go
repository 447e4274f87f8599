package directory

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// tripAfter is how many questions in a row have to fail before the directory is left alone for a while.
	tripAfter = 5
	// minPause is how long it is left alone at first, maxPause at most; each time that it fails again twice as long as before.
	minPause = time.Second
	maxPause = 30 * time.Second
	// retryAfter is the time after which an answer that could not be brought up to date is tried again, at least; twice at most.
	retryAfter = 5 * time.Second
)

// A breaker keeps questions from a directory that is down. Open, it lets one question at a time through after each pause. The
// zero breaker is closed.
type breaker struct {
	mu       sync.Mutex
	failures int           // in a row
	pause    time.Duration // 0: closed
	until    time.Time     // the end of the pause
	trying   bool          // a question is on its way to find out
}

// open says whether a question would be turned away now.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.turnsAway()
}

func (b *breaker) turnsAway() bool {
	return b.pause > 0 && (b.trying || time.Now().Before(b.until))
}

// tripped says whether the directory counts as down.
func (b *breaker) tripped() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pause > 0
}

// allow says whether a question may be asked. If so, tell or forget has to follow.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.turnsAway() {
		return false
	}
	b.trying = b.pause > 0
	return true
}

// forget takes back a question that has come to nothing for reasons of ours.
func (b *breaker) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trying = false
}

// tell is told how a question has ended, and says whether the breaker has opened or closed by that.
func (b *breaker) tell(good bool) (opened, closed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.pause
	if good {
		b.failures, b.pause, b.trying = 0, 0, false
		return false, was > 0
	}
	b.failures++
	if b.failures < tripAfter || was > 0 && !b.trying { // one that was asked before the pause says nothing new
		return false, false
	}
	b.trying = false
	b.pause = min(max(2*was, minPause), maxPause)
	b.until = time.Now().Add(jitter(b.pause))
	return was == 0, false
}

// jitter is d or up to a fifth less, at random.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/5+1) }
