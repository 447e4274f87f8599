package forward

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/buffer"
)

// After a restart, a 0 would say that there is no backlog.
func TestBacklogIsNotShownBeforeItIsKnown(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry())
	p := m.partition(buffer.PartitionID{Lane: buffer.Main})
	shown := func() int {
		return testutil.CollectAndCount(m.uncommitted) + testutil.CollectAndCount(m.unsent) + testutil.CollectAndCount(m.oldest)
	}
	if n := shown(); n != 0 {
		t.Errorf("%d series before anything is known", n)
	}
	p.backlog(3, 2, time.Second)
	if n := shown(); n != 3 || testutil.ToFloat64(m.uncommitted) != 3 || testutil.ToFloat64(m.unsent) != 2 || testutil.ToFloat64(m.oldest) != 1 {
		t.Errorf("%d series", n)
	}
	p.forget()
	if n := shown(); n != 0 {
		t.Errorf("%d series of a partition that is ours no more", n)
	}
}
