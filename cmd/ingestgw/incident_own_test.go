//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
	"github.com/ingestgw/ingestgw/loadtest/roster"
)

// TestIncidentsOfTheGateway lets what it stands on go away, and lets somebody send too much.
func TestIncidentsOfTheGateway(t *testing.T) {
	whole(t)
	cluster := stack.StartCluster(t, stack.ClusterSpec{StorageArgs: []string{"-inmemoryDataFlushInterval=1s"}})
	steady := offer.Config{Tenants: 20, FirstAccount: 100, Series: 50, PerRequest: 50, Rate: 1000, Senders: 8}

	t.Run("the only broker is gone", func(t *testing.T) {
		k := stack.StartKafka(t, stack.KafkaSpec{})
		s := startSite(t, cluster, "BUFFER=kafka", "KAFKA_BROKERS="+k.Bootstrap(), "KAFKA_CREATE_TOPICS=true", "KAFKA_PARTITIONS=3")
		load := steady
		load.Metric = "incident_kafka"
		arrives := s.offers(load)
		s.stands = "kafka_topic_unsafe" // as there is one broker
		s.isTold(culprit{name: s.stands, severity: alarm.Ticket})
		s.suffers(culprit{name: "kafka_unavailable", severity: alarm.Page}, s.kill(k.Brokers...), s.restart(k.Brokers...))
		arrives()
	})

	t.Run("somebody else fills the disk", func(t *testing.T) {
		const size = 512 << 20
		disk := smallDisk(t, size)
		s := startSite(t, cluster, "BUFFER_DIR="+filepath.Join(disk, "buffer"))
		load := steady
		load.Metric = "incident_disk"
		arrives := s.offers(load)
		others := filepath.Join(disk, "core.dump")
		s.suffers(culprit{name: "disk_nearly_full"}, func() { fill(t, others, disk, size/8) }, func() {
			if err := os.Remove(others); err != nil {
				t.Fatal(err)
			}
		})
		arrives()
	})

	t.Run("a tenant floods", func(t *testing.T) {
		s := startSite(t, cluster, "TENANT_MODE=file", "TENANT_FILE="+floodedRoster(t, steady), fmt.Sprintf("ALARM_PATIENCE=%v", patience()/2))
		s.tenant, s.token = "100:0", secretOf(0)
		load, flood := steady, steady
		load.Metric, load.Token = "incident_others", secretOf
		flood.Metric, flood.FirstAccount, flood.Tenants, flood.Series, flood.PerRequest, flood.Rate = "incident_flood", flooder, 1, 2000, 500, 20*floodLimit
		flood.Token = func(int) string { return "of-the-flooder-himself" }
		arrives := s.offers(load)
		var floodArrives func()
		s.suffers(culprit{name: "tenant_flood", severity: alarm.Ticket, says: []string{fmt.Sprintf("%d:0", flooder)}},
			func() { floodArrives = s.offers(flood) }, func() { floodArrives() })
		arrives()
	})

	t.Run("its memory limit is set too low", func(t *testing.T) {
		s := startSite(t, cluster, "MEMORY_GC_MAX_TIME=5s", "MEMORY_GC_MAX_SHARE=15")
		load := steady
		load.Metric, load.Rate, load.Senders, load.Series, load.PerRequest = "incident_memory", 40_000, 64, 1000, 50
		arrives := s.offers(load)
		s.suffers(culprit{name: "own_memory_change_reverted"}, func() { s.setMemory(`{"limit": "16MiB"}`) }, func() {
			s.setMemory(`{"limit": "auto"}`) // it is back already: somebody has seen it
		})
		arrives()
	})
}

// smallDisk is a file system of that many bytes. Only root can make one, as all are in CI and under unshare -rm: there it has to be.
func smallDisk(t *testing.T, size int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("ingestgw-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		if os.Getenv("CI") != "" || os.Geteuid() == 0 {
			t.Fatalf("make a file system to be filled, which needs CAP_SYS_ADMIN: %v", err)
		}
		t.Skipf("make a file system to be filled: %v; as root it can be done: unshare -rm go test …", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill makes a file that leaves so many bytes free.
func fill(t *testing.T, path, disk string, free int64) {
	t.Helper()
	var now syscall.Statfs_t
	if err := syscall.Statfs(disk, &now); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, int64(now.Bavail)*now.Bsize-free); err != nil {
		t.Fatal(err)
	}
}

const (
	flooder    = 7   // his account
	floodLimit = 500 // samples per second that he may send
)

func secretOf(tenant int) string { return fmt.Sprintf("of-the-tenant-number-%d", tenant) }

// floodedRoster is a file of tenants, one of which floods.
func floodedRoster(t *testing.T, others offer.Config) (path string) {
	t.Helper()
	var text strings.Builder
	plans := map[string]roster.Limits{
		"usual":   {"samples_per_second": 10 * others.Rate},
		"flooded": {"samples_per_second": floodLimit, "samples_burst": floodLimit, "samples_hard": 2 * floodLimit},
	}
	err := roster.Write(&text, plans, func(yield func(roster.Tenant) bool) {
		for i := range others.Tenants {
			if !yield(roster.Tenant{ID: fmt.Sprintf("%d:0", others.FirstAccount+i), Plan: "usual", Credentials: roster.Bearer(secretOf(i))}) {
				return
			}
		}
		yield(roster.Tenant{ID: fmt.Sprintf("%d:0", flooder), Plan: "flooded", Credentials: roster.Bearer("of-the-flooder-himself")})
	})
	if err != nil {
		t.Fatal(err)
	}
	return tableFile(t, text.String())
}

// setMemory changes memory settings as an operator does.
func (s *site) setMemory(change string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPut, s.admin()+"/api/v1/memory", strings.NewReader(change))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+operatorsToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("the change of memory settings is answered %s", resp.Status)
	}
}
