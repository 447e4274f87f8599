package forward

import (
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// A vminsert keeps counters for each tenant. Before 1.107 it copies all it has to add one, and begins anew when another request was
// quicker (VictoriaMetrics issue 7482): with 100,000 tenants known, one request with 10,000 new ones, sent beside others, was not
// done in half a minute, was sent again, and kept everybody's samples for minutes. So records of tenants of which a node has taken
// nothing yet are packed apart, few tenants at a time, and one such request is on its way to it at a time, by lane. The others pass.
const (
	// strangersInPack is the most new tenants in one request: such a vminsert takes some 10 ms for each.
	strangersInPack = 250
	// strangerWait is for how long a request with new tenants waits for its node while others have room: longer than homeWait, as
	// there may be many in the line, and what they cost would be spent at another node too.
	strangerWait = 10 * time.Second
	// maxStrangers is how many such requests of one partition may wait while it goes on: those of a million tenants, if what is read
	// ahead (INGESTGW_FORWARD_READ_AHEAD) may be as much.
	maxStrangers = 4000
	// maxKnown is how many tenants of a node are remembered. When there are more all are forgotten; they are soon known again.
	maxKnown = 2_000_000
)

// A circle is the tenants of which a node has taken something since it last failed. It is safe for concurrent use.
type circle struct {
	mu      sync.RWMutex
	tenants map[tenant.ID]struct{}
}

func (c *circle) has(id tenant.ID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, known := c.tenants[id]
	return known
}

// add makes the tenants of the items known.
func (c *circle) add(items []item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tenants == nil || len(c.tenants) > maxKnown {
		c.tenants = map[tenant.ID]struct{}{}
	}
	for _, it := range items {
		c.tenants[it.Tenant] = struct{}{}
	}
}

// forget is for a node that has failed: another process may answer there next.
func (c *circle) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tenants = nil
}
