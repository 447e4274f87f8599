//go:build linux

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
)

// TestTheNight is what this program exists for: a vminsert comes up with a GOGC that is too low for the tenants it has.
func TestTheNight(t *testing.T) {
	whole(t)
	n := &night{tenants: 20_000, strangers: 20_000, cluster: stack.StartCluster(t, stack.ClusterSpec{
		InsertEnv: []string{"GOMAXPROCS=1", "GOGC=10"}, StorageArgs: []string{"-inmemoryDataFlushInterval=1s"},
	})}
	if *incidentsWhole {
		// To meet so many again keeps it in trouble for longer: with fewer it would be over before somebody is told.
		n.tenants, n.strangers = 30_000, 30_000
	}
	t.Run("without samples it does not matter", func(t *testing.T) { startSite(t, n.cluster).saysNothing(10) })
	n.comesUpWith(t, "GOGC=100")
	t.Run("its GOGC is too low", func(t *testing.T) {
		n.suffers(t, culprit{name: "vminsert_gogc_too_low", says: []string{"garbage collection", "GOGC too low"}}, "GOGC=10")
	})
	t.Run("its memory limit is too low", func(t *testing.T) {
		n.suffers(t, culprit{name: "vminsert_memory_limit_too_low", says: []string{"Memory limit too low", "GOMEMLIMIT"}}, "GOMEMLIMIT=24MiB")
	})
}

// A night is a cluster with one vminsert and very many tenants.
type night struct {
	cluster *stack.Cluster
	tenants int
	// strangers are those of them that the vminsert has not met since its start.
	strangers int
}

// comesUpWith kills the vminsert and starts it with another environment: one that is held up does not end in order. It has one core, as it
// would take both otherwise, and leave none to the rest.
func (n *night) comesUpWith(t *testing.T, env string) {
	t.Helper()
	vminsert := n.cluster.Inserts[0]
	vminsert.Kill()
	err := vminsert.Restart(t.Context(), func(spec *stack.Spec) { spec.Env = []string{"GOMAXPROCS=1", env} })
	if err != nil {
		t.Fatal(err)
	}
}

// suffers lets the vminsert come up with what is wrong, under a load that it takes easily without.
func (n *night) suffers(t *testing.T, want culprit, env string) {
	t.Helper()
	s := startSite(t, n.cluster)
	arrives := s.offers(offer.Config{Metric: "night_" + want.name, Tenants: n.tenants, FirstAccount: 1000, Series: 2, PerRequest: 2, Rate: 4000, Senders: 32})
	s.isTaken(n.strangers)
	want.node = n.cluster.Inserts[0].Addr()
	s.suffers(want, func() { n.comesUpWith(t, env) }, func() { n.comesUpWith(t, "GOGC=100") })
	arrives()
	n.strangers = 0
}

// isTaken waits until so many requests were accepted, and hardly anything waits.
func (s *site) isTaken(requests int) {
	s.t.Helper()
	eventually(s.t, 3*time.Minute, func() error {
		if accepted := s.metric(`ingestgw_ingest_requests_total{answer="accepted"}`); accepted < float64(requests) {
			return fmt.Errorf("%v requests were accepted", accepted)
		}
		return s.backlogBelow(2)
	})
}

// saysNothing waits until alarms have been looked for so many times, and none may be there, not even pending.
func (s *site) saysNothing(times int) {
	s.t.Helper()
	last := s.metric("ingestgw_alarm_evaluations_total") + float64(times)
	eventually(s.t, time.Duration(times)*10*time.Second, func() error {
		now, err := alarmsOf(s.admin())
		if err != nil {
			return err
		}
		if len(now) > 0 {
			s.t.Fatalf("nothing is wrong, and there are alarms: %s", inJSON(now))
		}
		if s.metric("ingestgw_alarm_evaluations_total") < last {
			return errors.New("alarms have not been looked for often enough")
		}
		return nil
	})
}

// metric is one of the gateway's own metrics, by its name and all its labels.
func (s *site) metric(name string) float64 {
	s.t.Helper()
	_, page := get(s.admin() + "/metrics")
	_, rest, found := strings.Cut(page, "\n"+name+" ")
	value, _, _ := strings.Cut(rest, "\n")
	v, err := strconv.ParseFloat(value, 64)
	if !found || err != nil {
		s.t.Fatalf("%s: %q, %v", name, value, err)
	}
	return v
}
