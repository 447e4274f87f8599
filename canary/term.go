package canary

import (
	"context"
	"sync"
	"time"
)

// memory is how many rounds are remembered: an hour of them, usually. What was sent before and becomes readable only then is not looked
// for any more, and the age goes on growing until something later can be read.
const memory = 360

// A key names one path on which samples go in.
type key struct{ path, node string }

// Paths of keys, as the series and the metrics have them.
const (
	pathBuffer = "buffer"
	pathNode   = "vminsert"
)

// A term is the time during which a process probes without a break. Steps are made by one goroutine, which starts those that write
// and read: each ends by its time-out or with the term, whose end waits for them.
type term struct {
	c       *Canary
	ctx     context.Context
	cancel  context.CancelFunc
	since   time.Time
	reading bool // the next step reads
	working sync.WaitGroup

	mu         sync.Mutex
	rounds     map[int64]time.Time // when samples were sent that have this timestamp, in milliseconds; with the monotonic clock
	paths      map[key]*path
	selects    map[string]*source
	resolving  bool
	unresolved string // why not all vmselects are known
}

func newTerm(ctx context.Context, c *Canary) *term {
	t := &term{c: c, since: time.Now(), rounds: map[int64]time.Time{}, paths: map[key]*path{}, selects: map[string]*source{}}
	t.ctx, t.cancel = context.WithCancel(ctx)
	return t
}

// end gives up what is on its way, and returns when nothing is.
func (t *term) end() {
	t.cancel()
	t.working.Wait()
	for name, s := range t.selects {
		t.forgetSource(name, s)
	}
	for k := range t.paths {
		t.c.metrics.forgetPath(k)
	}
}

// step writes and reads in turns, half of Every apart, so that a sample has that time to become readable.
func (t *term) step() {
	if t.reading {
		t.read()
	} else {
		t.write()
	}
	t.reading = !t.reading
}

// begin starts do, unless it has not ended since it was begun the last time, which busy says. So nothing piles up in front of a server
// that stands still.
func (t *term) begin(busy *bool, do func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if *busy {
		return
	}
	*busy = true
	t.working.Go(func() {
		do()
		t.mu.Lock()
		defer t.mu.Unlock()
		*busy = false
	})
}

// reach is how far back rounds are remembered.
func (t *term) reach() time.Duration { return memory * t.c.cfg.Every }

// newRound begins a round, and returns when. All its samples have this one timestamp.
func (t *term) newRound() time.Time {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for ms, at := range t.rounds {
		if now.Sub(at) > t.reach() {
			delete(t.rounds, ms)
		}
	}
	t.rounds[now.UnixMilli()] = now
	return now
}
