package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A Board is where processes tell each other things. It is safe for concurrent use.
type Board interface {
	// Post puts a value up, in place of the one of the same key. An error says that it may not be there; value may be used again
	// when Post returns.
	Post(ctx context.Context, key string, value []byte) error
	// Watch calls fn with what stands, and then with all that is posted, our own included, until ctx ends; it returns nil then. It
	// goes on by itself after errors, and may call fn twice with the same. value is valid until fn returns, and nil when it was
	// taken down.
	Watch(ctx context.Context, fn func(key string, value []byte)) error
}

// boardKey is the key of all that this package posts. It is one for all processes: what stands is of no use to anybody, so the less
// of it the better. Who watches gets all values, one after the other.
const boardKey = "limit"

// quietIntervals is after how many intervals a process that has nothing to tell says that it is there.
const quietIntervals = 5

// Share lets limits hold for all processes with the same Board together, until ctx ends. self names this process in logs and need
// not be unique. When the Board cannot be used, limits hold for each process alone.
func (r *Registry) Share(ctx context.Context, board Board, self string) error {
	if !r.sharing.CompareAndSwap(false, true) {
		return errors.New("limits are shared already")
	}
	defer r.sharing.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	me := newSpeaker(self)
	ear := newEar(r, me)
	watched := make(chan error, 1)
	go func() { // ends with ctx; Share waits for it
		defer cancel()
		watched <- board.Watch(ctx, func(key string, value []byte) {
			if key == boardKey {
				ear.hear(time.Now(), value)
			}
		})
	}()
	r.speak(ctx, board, me)
	cancel()
	if err := <-watched; err != nil {
		return fmt.Errorf("share limits with other processes: %w", err)
	}
	return nil
}

// speak posts what there is to tell until ctx ends.
func (r *Registry) speak(ctx context.Context, board Board, me *speaker) {
	timer := time.NewTimer(rand.N(r.cfg.ShareEvery)) // not all processes at the same time
	defer timer.Stop()
	quiet, failing := 0, false
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		timer.Reset(r.cfg.ShareEvery)
		messages := me.tell(r.takeBusy())
		if quiet++; len(messages) == 0 && quiet < quietIntervals {
			continue
		}
		if len(messages) == 0 {
			messages = [][]byte{me.greet()}
		}
		quiet = 0
		err := r.post(ctx, board, messages)
		if ctx.Err() != nil {
			return
		}
		if failed := err != nil; failed != failing {
			failing = failed
			r.logPosts(err)
		}
	}
}

func (r *Registry) logPosts(err error) {
	if err != nil {
		r.log.Warn("limits hold for this process alone: other processes cannot be told what tenants use", "err", err)
		return
	}
	r.log.Info("limits hold for all processes together again")
}

// post posts all messages, or none after the first that cannot be posted: they will be out of date soon.
func (r *Registry) post(ctx context.Context, board Board, messages [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, max(quietIntervals*r.cfg.ShareEvery, time.Second))
	defer cancel()
	for _, m := range messages {
		if err := board.Post(ctx, boardKey, m); err != nil {
			r.metrics.posts.WithLabelValues("failed").Inc()
			return err
		}
		r.metrics.posts.WithLabelValues("posted").Inc()
	}
	return nil
}

// mostTold is of how many tenants is told at one time: about 2 MB. Others wait until it is their turn.
const mostTold = 100_000

// takeBusy returns the tenants of which there is something to tell, those first that have waited longest.
func (r *Registry) takeBusy() []*Tenant {
	r.busyMu.Lock()
	defer r.busyMu.Unlock()
	n := min(len(r.busy), mostTold)
	told := r.busy[:n:n]
	r.busy = slices.Clone(r.busy[n:])
	return told
}

// takeUnsent returns what the others have not been told.
func (t *Tenant) takeUnsent() (use, []fingerprint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	u, news := t.unsent, t.news
	t.unsent, t.news, t.queued = use{}, nil, false
	return u, news
}

// An ear is what is known of other processes. It is used by one goroutine.
type ear struct {
	registry *Registry
	me       *speaker
	speakers map[uint64]*heardSpeaker // by incarnation
	counted  time.Time                // when they were last counted
}

type heardSpeaker struct {
	seq    uint64 // the highest number of its messages
	before uint64 // which of the 64 messages before were heard, one bit each, the latest being the lowest
	at     time.Time
}

// fresh notes a message, and says whether it was not heard yet.
func (s *heardSpeaker) fresh(seq uint64) bool {
	if seq > s.seq {
		s.before = s.before<<1 | 1
		s.before <<= min(seq-s.seq-1, 64)
		s.seq = seq
		return true
	}
	bit := uint64(1) << (s.seq - seq - 1) // 0 for the latest itself, and for those of too long ago
	if bit == 0 || s.before&bit != 0 {
		return false
	}
	s.before |= bit
	return true
}

// mostSpeakers bounds the processes that are known. Above it others are not heard.
const mostSpeakers = 4096

// forgetSpeaker is after how long without a message a process is forgotten.
const forgetSpeaker = time.Hour

func newEar(r *Registry, me *speaker) *ear {
	return &ear{registry: r, me: me, speakers: map[uint64]*heardSpeaker{}}
}

// hear takes in a message. Of a process that was not known nothing is taken but that it is there: its message may be of long ago.
func (e *ear) hear(now time.Time, value []byte) {
	result := e.take(now, value)
	e.registry.metrics.heard.WithLabelValues(result).Inc()
	if now.Sub(e.counted) >= e.registry.cfg.ShareEvery {
		e.count(now)
	}
}

func (e *ear) take(now time.Time, value []byte) (result string) {
	m, err := parse(value)
	switch {
	case errors.Is(err, errNewer):
		return "newer"
	case err != nil:
		return "malformed"
	case m.incarnation == e.me.incarnation:
		return "own"
	}
	s := e.speakers[m.incarnation]
	switch {
	case s == nil && len(e.speakers) >= mostSpeakers:
		return "too_many"
	case s == nil:
		e.speakers[m.incarnation] = &heardSpeaker{seq: m.seq, before: ^uint64(0), at: now}
		e.registry.log.Debug("another process shares limits", "process", string(m.self))
		return "first"
	case !s.fresh(m.seq):
		return "again"
	}
	s.at = now
	at := e.registry.since(now)
	for one := range m.entries() {
		if t := e.registry.find(one.id); t != nil { // what was sent to others only makes no state here: there would be no bound to it
			t.hear(at, one.use, one.prints())
		}
	}
	return "taken"
}

// count counts the processes that are there, and forgets those that have not been for long.
func (e *ear) count(now time.Time) {
	e.counted = now
	there := int32(0)
	for id, s := range e.speakers {
		switch quiet := now.Sub(s.at); {
		case quiet > forgetSpeaker:
			delete(e.speakers, id)
		case quiet < 3*quietIntervals*e.registry.cfg.ShareEvery:
			there++
		}
	}
	e.registry.peers.Store(there)
	e.registry.metrics.peers.Set(float64(there))
}
