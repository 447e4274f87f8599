package forward

import (
	"net/http"
	"sync"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

// owned is the partitions that are forwarded now. The zero value is none. It is safe for concurrent use.
type owned struct {
	mu   sync.Mutex
	runs map[place]int // how many runs there are; a partition may come back before the last one has ended
}

// A place is a partition, whatever its log.
type place struct {
	lane   buffer.Lane
	number int
}

// begin notes that a partition is ours until done is called.
func (o *owned) begin(id buffer.PartitionID) (done func()) {
	p := place{id.Lane, id.Number}
	o.add(p, 1)
	return func() { o.add(p, -1) }
}

func (o *owned) add(p place, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.runs == nil {
		o.runs = map[place]int{}
	}
	o.runs[p] += n
	if o.runs[p] == 0 {
		delete(o.runs, p)
	}
}

// Owns says whether this process forwards that partition of the lane now. While a partition moves, both processes or none may. It is
// safe for concurrent use.
func (f *Forwarder) Owns(lane buffer.Lane, number int) bool {
	f.owned.mu.Lock()
	defer f.owned.mu.Unlock()
	return f.owned.runs[place{lane, number}] > 0
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
