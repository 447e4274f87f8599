package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// canaryAges are the ages that the gateway's metrics show, by path or node.
func canaryAges(gateway *stack.Process) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(textOf("http://" + gateway.AddrOf("admin") + "/metrics")) {
		var node, path string
		var age float64
		line = strings.NewReplacer(`"`, " ", ",", " ", "}", " ").Replace(line)
		if n, _ := fmt.Sscanf(line, "ingestgw_canary_age_seconds{node= %s path= %s %g", &node, &path, &age); n == 3 {
			all[node] = age
		} else if n, _ := fmt.Sscanf(line, "ingestgw_canary_age_seconds{node=  path= %s %g", &path, &age); n == 2 {
			all[path] = age
		}
	}
	return all
}

// leads says whether the gateway says that it sends the canary.
func leads(gateway *stack.Process) bool {
	return strings.Contains(textOf("http://"+gateway.AddrOf("admin")+"/metrics"), "\ningestgw_canary_leads 1\n")
}

// allFresh says what keeps the ages of the buffer and of both vminserts from being a few seconds.
func allFresh(gateway *stack.Process) error {
	ages := canaryAges(gateway)
	if len(ages) != 3 {
		return fmt.Errorf("%s shows the ages %v, want those of the buffer and of two vminserts", gateway.Name(), ages)
	}
	for path, age := range ages {
		if age > 10 {
			return fmt.Errorf("the age of %s is %v s", path, age)
		}
	}
	return nil
}

// TestOneProcessOfAGroupSendsTheCanary: of three processes on one Kafka, two of which forward, one probes, and when it is killed the
// other one does. When the vmstorage stands still no age is known, and the read path is told; when one vminsert does, its age grows.
func TestOneProcessOfAGroupSendsTheCanary(t *testing.T) {
	whole(t)
	t.Parallel()
	cluster := stack.StartCluster(t, stack.ClusterSpec{Inserts: 2})
	k := stack.StartKafka(t, stack.KafkaSpec{})
	settings := []string{"INGESTGW_VMSELECT_URLS=" + cluster.Select.URL(), "INGESTGW_CANARY_EVERY=2s", "INGESTGW_FORWARD_SETTLE=0s"}
	forwards := startCrowd(t, k, cluster, 2, append(settings, "INGESTGW_ROLE=forward")...).gateways
	receives := startCrowd(t, k, cluster, 1, append(settings, "INGESTGW_ROLE=receive")...).gateways[0]

	one := func() (leader, follower *stack.Process, err error) {
		a, b := leads(forwards[0]), leads(forwards[1])
		switch {
		case a && !b:
			return forwards[0], forwards[1], nil
		case b && !a:
			return forwards[1], forwards[0], nil
		}
		return nil, nil, fmt.Errorf("the first leads: %v, the second: %v", a, b)
	}
	eventually(t, time.Minute, func() error {
		leader, follower, err := one()
		if err != nil {
			return err
		}
		if ages := canaryAges(follower); len(ages) > 0 {
			return fmt.Errorf("%s follows and shows %v", follower.Name(), ages)
		}
		return allFresh(leader)
	})
	if page := textOf("http://" + receives.AddrOf("admin") + "/metrics"); strings.Contains(page, "canary") {
		t.Error("the process that only receives has something of a canary")
	}

	leader, follower, err := one()
	if err != nil {
		t.Fatal(err)
	}
	leader.Kill()
	eventually(t, time.Minute, func() error {
		if !leads(follower) {
			return fmt.Errorf("%s does not lead after %s was killed", follower.Name(), leader.Name())
		}
		return allFresh(follower)
	})

	for _, p := range append(cluster.Inserts[1:], cluster.Storages...) {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, func() error { // vmselect gets no answer either
		if page := textOf("http://" + follower.AddrOf("admin") + "/metrics"); !strings.Contains(page, "\ningestgw_canary_vmselect_up{vmselect=\""+
			cluster.Select.Addr()+"\"} 0\n") {
			return fmt.Errorf("the read path is not told")
		}
		if ages := canaryAges(follower); len(ages) > 0 {
			return fmt.Errorf("ages are known although nothing can be read: %v", ages)
		}
		return nil
	})
	for _, p := range cluster.Storages {
		if err := p.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	frozen := cluster.Inserts[1].Addr()
	eventually(t, time.Minute, func() error {
		if ages := canaryAges(follower); !(ages[frozen] > 12) || !(ages["buffer"] < 10) || !(ages[cluster.Inserts[0].Addr()] < 10) || len(ages) != 3 {
			return fmt.Errorf("with %s frozen the ages are %v", frozen, ages)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := follower.Stop(ctx); err != nil { // with a request on its way to what stands still
		t.Error(err)
	}
}

func TestCanarySeriesPassThroughTheDiskBuffer(t *testing.T) {
	whole(t)
	t.Parallel()
	cluster := stack.StartCluster(t, stack.ClusterSpec{Inserts: 2})
	gateway := stack.Start(t, stack.IngestgwSpec("ingestgw", binary(t),
		"INGESTGW_FORWARD_URLS="+strings.Join(cluster.InsertURLs(), ","),
		"INGESTGW_FORWARD_STORAGE_URLS="+strings.Join(cluster.StorageURLs(), ","),
		"INGESTGW_VMSELECT_URLS="+cluster.Select.URL(),
		"INGESTGW_CANARY_EVERY=2s",
		"INGESTGW_CANARY_TENANT=7:9",
	))
	eventually(t, time.Minute, func() error { return allFresh(gateway) })
	_, text := get(cluster.Select.URL() + "/select/7:9/prometheus/api/v1/export?match[]=ingestgw_canary")
	for _, labels := range []string{`"group":"forward","path":"buffer"`, `"node":"` + cluster.Inserts[0].Addr() + `"`, `"node":"` + cluster.Inserts[1].Addr() + `"`} {
		if !strings.Contains(text, labels) {
			t.Errorf("no series with %s:\n%s", labels, text)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := gateway.Stop(ctx); err != nil {
		t.Error(err)
	}
}
