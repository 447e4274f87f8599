package forward

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/buffer"
)

// After a restart, a 0 would say that there is no backlog.
func TestWhatIsNotKnownOfABacklogIsNotShown(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg)
	p := m.partition(buffer.PartitionID{Lane: buffer.Main, Number: 3})
	other := m.partition(buffer.PartitionID{Lane: buffer.Main, Number: 4})
	if n := testutil.CollectAndCount(m.backlog.unsent); n != 0 {
		t.Errorf("%d series before anything is known", n)
	}
	p.show(m.backlog.unsent, 2, true)
	other.show(m.backlog.unsent, 5, true)
	if got := testutil.ToFloat64(m.backlog.unsent.With(p.labels)); got != 2 {
		t.Errorf("%v is shown, want 2", got)
	}
	p.show(m.backlog.unsent, 1, false)
	if n := testutil.CollectAndCount(m.backlog.unsent); n != 1 {
		t.Errorf("%d series, want that of the other partition only", n)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
