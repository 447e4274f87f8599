package forward

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// recheck is how often it is asked whether settling lets a node be sent something by now.
	recheck = 100 * time.Millisecond
	// relook is how often nodes are looked at again although nothing has changed.
	relook = 10 * time.Second
	// stripe is how many blocks in a row go to the same node while it has room. What settles together is then in few pieces.
	stripe = 64
)

// A fleet is the nodes that there are, and says which of them may be sent something now. It is safe for concurrent use.
type fleet struct {
	concurrency int
	backoff     backoff
	settle      settling
	dial        func(downstream.Endpoint) poster
	log         *slog.Logger
	metrics     *metrics

	mu      sync.Mutex
	nodes   []*node       // by name
	changed chan struct{} // closed when a node may have become open, and replaced
}

// A permit lets one block visit a node. It is given back with fleet.done.
type permit struct {
	node    *node
	ticket  ticket
	episode int
}

// set says which nodes there are. What is on its way to one that is gone may still arrive.
func (f *fleet) set(endpoints []downstream.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := make(map[string]*node, len(endpoints))
	for _, n := range f.nodes {
		kept[n.name] = n
	}
	nodes := make([]*node, 0, len(endpoints))
	for _, ep := range endpoints {
		n := kept[ep.String()]
		delete(kept, ep.String())
		if n == nil {
			n = newNode(ep, f.dial(ep), f.metrics.node(ep.String()))
			f.log.Info("node found", "node", n.name)
			f.warnOfPath(n)
		}
		nodes = append(nodes, n)
	}
	for _, n := range kept {
		f.log.Info("node is gone", "node", n.name)
		n.client.Close()
		f.metrics.forget(n.name)
	}
	slices.SortFunc(nodes, func(a, b *node) int { return cmp.Compare(a.name, b.name) })
	f.nodes = nodes
	f.wake()
}

func (f *fleet) warnOfPath(n *node) {
	if n.hasPath {
		f.log.Warn("the URL of this node has a path, which is used as it is: the samples of ALL tenants go to this one URL and "+
			"cannot be told apart there. Leave the path away to send to a vminsert", "node", n.name, "url", masked(n.base))
	}
}

// acquire waits until the block may visit some node, preferably not avoid, which may be nil. The error is ctx's.
func (f *fleet) acquire(ctx context.Context, off buffer.Offset, avoid *node) (permit, error) {
	for {
		f.mu.Lock()
		p, ok := f.pick(off, avoid)
		changed, wait := f.changed, f.untilOpen()
		f.mu.Unlock()
		if ok {
			return p, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return permit{}, fmt.Errorf("wait for a node: %w", ctx.Err())
		}
	}
}

// untilOpen is when to look again for a node: when a pause ends, or soon if only settling keeps one closed. f.mu is held.
func (f *fleet) untilOpen() time.Duration {
	now := time.Now()
	wait := relook
	for _, n := range f.nodes {
		switch {
		case n.open(now):
			wait = min(wait, recheck)
		case now.Before(n.until):
			wait = min(wait, n.until.Sub(now))
		}
	}
	return wait
}

// pick takes a permit: of the node whose turn it is, or else of the one with the fewest visitors. f.mu is held.
func (f *fleet) pick(off buffer.Offset, avoid *node) (permit, bool) {
	now := time.Now()
	var open [16]*node
	candidates := open[:0]
	turn := 0
	if len(f.nodes) > 0 {
		turn = int(off / stripe % buffer.Offset(len(f.nodes)))
	}
	for i := range f.nodes {
		if n := f.nodes[(turn+i)%len(f.nodes)]; n.open(now) {
			candidates = append(candidates, n)
		}
	}
	if len(candidates) > 1 {
		rank := func(n *node) int {
			switch n {
			case avoid:
				return 1 << 30
			case f.nodes[turn]:
				return -1
			}
			return n.inFlight
		}
		slices.SortStableFunc(candidates, func(a, b *node) int { return cmp.Compare(rank(a), rank(b)) })
	}
	for _, n := range candidates {
		if t, ok := f.settle.begin(n.ep); ok {
			n.inFlight++
			return permit{node: n, ticket: t, episode: n.episode}, true
		}
	}
	return permit{}, false
}

// answered is called with the first 2xx of a visit: the node works, others may visit it too.
func (f *fleet) answered(p permit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := p.node
	if p.episode != n.episode {
		return
	}
	if n.failures > 0 {
		f.log.Info("node takes records again", "node", n.name, "after_failures", n.failures)
	}
	n.failures = 0
	if n.limit != f.concurrency { // the slow start is over
		n.limit = f.concurrency
		f.wake()
	}
}

// done gives a permit back. fail is why the visit ended early, nil when it did not.
func (f *fleet) done(p permit, fail *failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := p.node
	n.inFlight--
	if fail.blamesNode() && p.episode == n.episode {
		pause := f.backoff.asked(n.failures+1, fail.retryAfter)
		n.fail(time.Now(), pause)
		if fail.kind == failed {
			f.log.Warn("node cannot take records, leaving it alone", "node", n.name, "err", fail, "failures", n.failures, "pause", pause)
		}
	}
	f.wake()
}

// wake lets all look again who wait for a node. f.mu is held.
func (f *fleet) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// closeIdle closes the connections that nobody uses.
func (f *fleet) closeIdle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		n.client.Close()
	}
}

// A nodeState is what a node is doing at one moment.
type nodeState struct {
	name     string
	state    string
	inFlight int
}

// list shows the nodes as they are now.
func (f *fleet) list() []nodeState {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	list := make([]nodeState, len(f.nodes))
	for i, n := range f.nodes {
		list[i] = nodeState{name: n.name, state: f.state(n, now), inFlight: n.inFlight}
	}
	return list
}

func (f *fleet) state(n *node, now time.Time) string {
	if _, ok := f.settle.begin(n.ep); !ok {
		return stateUnknown
	}
	switch {
	case now.Before(n.until):
		return statePaused
	case n.limit < f.concurrency:
		return stateStarting
	}
	return stateReady
}
