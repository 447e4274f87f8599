package forward

import (
	"context"
	"sync"
)

// A parking counts the blocks that hold refused records. Whoever reads further blocks waits while there are too many. It is
// safe for concurrent use.
type parking struct {
	places int

	mu    sync.Mutex
	taken int
	freed chan struct{} // closed when there is a place again, and replaced
}

func newParking(places int) *parking { return &parking{places: places, freed: make(chan struct{})} }

// enter never waits: the block is there already. More may enter than there are places, at most as many as visit nodes.
func (p *parking) enter() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken++
}

func (p *parking) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	close(p.freed)
	p.freed = make(chan struct{})
}

// wait returns when there is a place. The error is ctx's.
func (p *parking) wait(ctx context.Context) error {
	for {
		p.mu.Lock()
		free, freed := p.taken < p.places, p.freed
		p.mu.Unlock()
		if free {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *parking) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
