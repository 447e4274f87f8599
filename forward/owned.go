package forward

import (
	"sync"

	"github.com/ingestgw/ingestgw/buffer"
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
