package forward

import (
	"context"
	"sync"
)

// A tally counts what is held, so that others can wait while that is too much. It is safe for concurrent use.
type tally struct {
	mu    sync.Mutex
	held  int
	freed chan struct{} // closed when less is held, and replaced
}

func newTally() *tally { return &tally{freed: make(chan struct{})} }

// enter never waits: what it counts is there already.
func (t *tally) enter() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held++
}

func (t *tally) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held--
	close(t.freed)
	t.freed = make(chan struct{})
}

// below returns when less than most are held. The error is ctx's.
func (t *tally) below(ctx context.Context, most int) error {
	for {
		t.mu.Lock()
		less, freed := t.held < most, t.freed
		t.mu.Unlock()
		if less {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held
}
