package forward

import (
	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/memory"
)

// bulkPart is the part of the bytes read ahead that bulk may hold on top, so that it never holds what main needs: a quarter.
const bulkPart = 4

// A lane is what all partitions of one lane of the Store share, and no other lane touches.
type lane struct {
	index   int // mainLane or bulkLane
	budget  *memory.Budget
	parked  *tally // blocks with refused records
	metrics *laneMetrics
}

// laneNames are those of the lanes by index, as the Store and the metrics have them.
var laneNames = [lanes]buffer.Lane{mainLane: buffer.Main, bulkLane: buffer.Bulk}

func newLanes(budget *memory.Budget, m *metrics) [lanes]*lane {
	var all [lanes]*lane
	for i := range all {
		all[i] = &lane{index: i, budget: budget, parked: newTally(), metrics: m.lanes[i]}
	}
	all[bulkLane].budget = memory.NewBudget(max(1, budget.Limit()/bulkPart))
	return all
}

// lane is the one of that name. What is not bulk is main.
func (f *Forwarder) lane(name buffer.Lane) *lane {
	if name == buffer.Bulk {
		return f.lanes[bulkLane]
	}
	return f.lanes[mainLane]
}
