package gathered_test

import (
	"math"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
	"github.com/ingestgw/ingestgw/internal/gathered/gatheredtest"
)

func TestABacklogIsAddedUpAndAsOldAsItsOldestPartition(t *testing.T) {
	m := gatheredtest.Board{
		`ingestgw_forward_unsent_blocks{lane="main",partition="0"}`:              3,
		`ingestgw_forward_unsent_blocks{lane="main",partition="1"}`:              4,
		`ingestgw_forward_unsent_blocks{lane="bulk",partition="0"}`:              50,
		`ingestgw_forward_unsent_bytes_estimate{lane="main",partition="0"}`:      300,
		`ingestgw_forward_unsent_bytes_estimate{lane="main",partition="1"}`:      400,
		`ingestgw_forward_unsent_samples_estimate{lane="main",partition="1"}`:    9000,
		`ingestgw_forward_oldest_unsent_age_seconds{lane="main",partition="0"}`:  60,
		`ingestgw_forward_oldest_unsent_age_seconds{lane="main",partition="1"}`:  20,
		`ingestgw_forward_arriving_blocks_per_second{lane="main",partition="0"}`: 2,
		`ingestgw_forward_arriving_blocks_per_second{lane="main",partition="1"}`: 5,
		`ingestgw_forward_sent_blocks_per_second{lane="main",partition="0"}`:     1,
		`ingestgw_forward_time_to_drain_seconds{lane="main",partition="0"}`:      math.Inf(1),
		`ingestgw_forward_time_to_drain_seconds{lane="main",partition="1"}`:      30,
	}.Moment(time.Unix(0, 0))

	want := gathered.Backlog{Age: 60, Blocks: 7, Bytes: 700, Samples: 9000, Arriving: 7, Sent: 1, Drain: downstream.Figure(math.Inf(1))}
	if got := m.Backlog("lane", "main"); got != want {
		t.Errorf("main: %+v, want %+v", got, want)
	}
	if got := m.Backlog(); got.Blocks != 57 || got.Age != 60 {
		t.Errorf("everything: %+v, want 57 blocks", got)
	}
	if got := m.Backlog("lane", "main", "partition", "1"); got.Blocks != 4 || got.Drain != 30 {
		t.Errorf("a partition: %+v, want 4 blocks", got)
	}
	if got := m.Backlog("lane", "none"); got.Blocks.Known() || got.Age.Known() || got.Growing() || got.Shrinking() {
		t.Errorf("no such lane: %+v, want nothing known", got)
	}
}

// Rates that differ by less than a fiftieth are the same.
func TestABacklogGrowsOrShrinksOrDoesNeither(t *testing.T) {
	for name, c := range map[string]struct {
		arriving, sent   downstream.Figure
		grows, getsFewer bool
	}{
		"more arrives":       {10, 9, true, false},
		"more is sent":       {9, 10, false, true},
		"as good as equal":   {100, 101, false, false},
		"equal, the reverse": {101, 100, false, false},
		"nothing moves":      {0, 0, false, false},
		"nothing is sent":    {1, 0, true, false},
		"sent is not known":  {1, downstream.Unknown(), false, false},
		"arriving is not":    {downstream.Unknown(), 1, false, false},
	} {
		b := gathered.Backlog{Arriving: c.arriving, Sent: c.sent}
		if b.Growing() != c.grows || b.Shrinking() != c.getsFewer {
			t.Errorf("%s: growing %v, shrinking %v", name, b.Growing(), b.Shrinking())
		}
	}
}
