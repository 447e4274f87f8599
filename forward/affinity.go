package forward

import (
	"hash/fnv"
	"math"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// Each tenant belongs to a node, so that a vminsert sees few tenants and always the same ones: it keeps state for each, and what
// it costs to meet an unknown one is what jammed it before 1.107 (VictoriaMetrics issue 7482). Which node that is follows from
// the names alone (rendezvous hashing: of all nodes the one with the highest score), so every process comes to the same result,
// and when a node goes only its own tenants move. A node that has got more than its share already is passed over for the one with
// the next highest score (consistent hashing with bounded loads, https://arxiv.org/abs/1608.01350).

const (
	// loadBound is how much a node may get of what all get, in multiples of the mean.
	loadBound = 1.25
	// loadSlack is how many samples more it may be, so that a few tenants stay where they are: as many as some packs take.
	loadSlack = 4 * packRows
	// trickleAfter is for how long a node that was sent something may be sent nothing before it gets a record of another node's.
	// What a vminsert holds is proven to have left it by what it passes on after that (settle_rule.go); without anything more
	// it takes minutes. One record in so long, of all nodes together, moves hardly a tenant.
	trickleAfter = 2 * time.Second
	// trickleFor is after what time without anything a node is left without: what it had has settled by its silence.
	trickleFor = quietFor + time.Minute
	// loadFades is how long ago the samples were sent that count little by now: a third of their number.
	loadFades = 10 * time.Second
)

// A placement says which node the records of a tenant go to, among those that took records when it was made. It is for one
// goroutine.
type placement struct {
	nodes []*node
	packs []bool    // of each node, whether it takes packed requests
	loads []float64 // of each node, in samples that were sent lately; what is placed adds to it
	total float64
	dry   int // index of the node that gets the next record whatever its tenant; -1 for none
}

// place makes p what the fleet is like now. Without nodes that are open it takes those that are not: they may be open when
// their turn comes.
func (f *fleet) place(p *placement) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.fade(now)
	p.nodes, p.packs, p.loads, p.total = p.nodes[:0], p.packs[:0], p.loads[:0], 0
	for _, n := range f.nodes {
		if f.takes(n, now) {
			p.add(n, now)
		}
	}
	p.dry = -1
	if len(p.nodes) > 0 {
		f.spare(p)
		f.trickle(p, now)
		return
	}
	for _, n := range f.nodes {
		p.add(n, now)
	}
}

func (p *placement) add(n *node, now time.Time) {
	p.nodes = append(p.nodes, n)
	p.packs = append(p.packs, n.packs(now))
	p.loads = append(p.loads, n.load)
	p.total += n.load
}

// fade makes what was sent count less the longer ago it was. f.mu is held.
func (f *fleet) fade(now time.Time) {
	if f.faded.IsZero() {
		f.faded = now
	}
	keep := math.Exp(-float64(now.Sub(f.faded)) / float64(loadFades))
	f.faded = now
	for _, n := range f.nodes {
		n.load *= keep
	}
}

// spare gives the nodes that take nothing now the load of the others. Who comes back would otherwise have everything heaped on
// it, just when it starts. f.mu is held.
func (f *fleet) spare(p *placement) {
	for _, n := range f.nodes {
		n.idle = true
	}
	for _, n := range p.nodes {
		n.idle = false
	}
	for _, n := range f.nodes {
		if n.idle {
			n.load = p.total / float64(len(p.nodes))
		}
	}
}

// trickle finds the node that has been sent something, and then nothing for the longest time. f.mu is held.
func (f *fleet) trickle(p *placement, now time.Time) {
	if !f.watches || len(p.nodes) < 2 || now.Sub(f.trickled) < trickleAfter {
		return
	}
	for i, n := range p.nodes {
		if dry := now.Sub(n.given); dry >= trickleAfter && dry < trickleFor && (p.dry < 0 || n.given.Before(p.nodes[p.dry].given)) {
			p.dry = i
		}
	}
	if p.dry >= 0 {
		f.trickled = now
	}
}

// home is the index of the node for so many samples of the tenant: the one with the highest score of those that have not got too
// much. There is always one, since not all can be above the mean.
func (p *placement) home(id tenant.ID, samples int) int {
	if len(p.nodes) < 2 {
		return 0
	}
	if i := p.dry; i >= 0 {
		p.dry = -1
		return i
	}
	most := loadBound*p.total/float64(len(p.nodes)) + loadSlack
	hash := mix(uint64(id.Account)<<32 | uint64(id.Project))
	best, bestScore := 0, uint64(0)
	for i, n := range p.nodes {
		if score := mix(hash ^ n.hash); p.loads[i] <= most && score >= bestScore {
			best, bestScore = i, score
		}
	}
	p.loads[best] += float64(samples)
	p.total += float64(samples)
	return best
}

// node is the one with that index, nil when there are none.
func (p *placement) node(i int) *node {
	if i >= len(p.nodes) {
		return nil
	}
	return p.nodes[i]
}

// knows says whether the node with that index has taken something of the tenant lately.
func (p *placement) knows(i int, id tenant.ID) bool {
	return i >= len(p.nodes) || p.nodes[i].circle.has(id)
}

// takesPacks says whether the node with that index takes packed requests.
func (p *placement) takesPacks(i int) bool { return i >= len(p.packs) || p.packs[i] }

func hashOf(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return mix(h.Sum64())
}

// mix spreads what numbers have in common over all bits (the finalizer of SplitMix64, https://prng.di.unimi.it/splitmix64.c).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
