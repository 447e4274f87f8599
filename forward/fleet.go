package forward

import (
	"cmp"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// recheck is how often it is asked whether settling lets a node be sent something by now.
	recheck = 100 * time.Millisecond
	// relook is how often nodes are looked at again although nothing has changed.
	relook = 10 * time.Second
)

// A fleet is the nodes that there are, and says which of them may be sent something now. It is safe for concurrent use.
type fleet struct {
	concurrency int
	backoff     backoff
	settle      settling
	watches     bool // settling goes by what nodes pass on
	dial        func(downstream.Endpoint) poster
	hurry       func(downstream.Endpoint) // reads a node's metrics sooner; nil when they are not read
	log         *slog.Logger
	metrics     *metrics

	mu    sync.Mutex
	nodes []*node // by name
	lines [lanes]line

	faded    time.Time // when the nodes' loads were made less
	trickled time.Time // when a node last got a record of another's, see affinity.go
}

// set says which nodes there are. What is on its way to one that is gone may still arrive.
func (f *fleet) set(endpoints []downstream.Endpoint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fade(time.Now())
	kept := make(map[string]*node, len(endpoints))
	load := 0.0
	for _, n := range f.nodes {
		kept[n.name] = n
		load += n.load / float64(len(f.nodes))
	}
	nodes := make([]*node, 0, len(endpoints))
	for _, ep := range endpoints {
		n := kept[ep.String()]
		delete(kept, ep.String())
		if n == nil {
			n = newNode(ep, f.dial(ep), f.metrics.node(ep.String()))
			n.hurry = f.hurry
			n.load = load // or all that comes would be heaped on it
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
	f.serveAll(time.Now())
}

func (f *fleet) warnOfPath(n *node) {
	if n.hasPath {
		f.log.Warn("the URL of this node has a path, which is used as it is: the samples of ALL tenants go to this one URL and "+
			"cannot be told apart there. Leave the path away to send to a vminsert", "node", n.name, "url", masked(n.base))
	}
}

// inLine is how many parcels of one partition may wait for permits while it goes on. With one node there is nothing to be gained
// by it. With several, one that is busy must not keep the others from their parcels.
func (f *fleet) inLine() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.nodes) < 2 {
		return 0
	}
	return len(f.nodes) * f.concurrency
}

// takes says whether the node is one to send to, be there room or not. f.mu is held.
func (f *fleet) takes(n *node, now time.Time) bool {
	_, ok := f.settle.begin(n.ep)
	return ok && !now.Before(n.until)
}

// takesPacks says whether the node takes packed requests.
func (f *fleet) takesPacks(n *node) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return n.packs(time.Now())
}

// unpack leaves a node without packed requests for a while, and says whether that is news.
func (f *fleet) unpack(n *node) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	news := n.packs(now)
	n.unpackedUntil = now.Add(unpackedFor)
	return news
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
		f.serve(n, time.Now())
	}
}

// done gives a permit back. fail is why the visit ended early, nil when it did not.
func (f *fleet) done(p permit, fail *failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := p.node
	n.visitors[p.lane]--
	if p.strange {
		n.strangers[p.lane]--
	}
	if fail.blamesNode() && p.episode == n.episode {
		pause := f.backoff.asked(n.failures+1, fail.retryAfter)
		n.fail(time.Now(), pause)
		if fail.kind == failed {
			f.log.Warn("node cannot take records, leaving it alone", "node", n.name, "err", fail, "failures", n.failures, "pause", pause)
		}
		f.serveAll(time.Now()) // who waited for it goes elsewhere
		return
	}
	f.serve(n, time.Now())
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
	load     float64
}

// list shows the nodes as they are now.
func (f *fleet) list() []nodeState {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.fade(now)
	list := make([]nodeState, len(f.nodes))
	for i, n := range f.nodes {
		list[i] = nodeState{name: n.name, state: f.state(n, now), inFlight: n.inFlight(), load: n.load}
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

// A Node is one that records are sent to. Do sends a request to it with the credentials that are configured, see downstream.Client.Do;
// what comes of it does not change what forwarding thinks of the node.
type Node struct {
	Endpoint downstream.Endpoint
	Do       func(*http.Request) (*http.Response, error)
}

// Nodes are those that there are now, by name; none before Run. It is safe for concurrent use.
func (f *Forwarder) Nodes() []Node {
	f.fleet.mu.Lock()
	defer f.fleet.mu.Unlock()
	list := make([]Node, len(f.fleet.nodes))
	for i, n := range f.fleet.nodes {
		list[i] = Node{Endpoint: n.ep, Do: n.client.Do}
	}
	return list
}
