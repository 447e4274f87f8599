package downstream

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
)

var recordTo = flag.String("record", "", "folder to write the pages into that TestVitalsOfRealServers read")

// A real v1.100 vminsert under load tells by its metrics with which GOGC it runs.
func TestVitalsOfRealServers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	for _, gogc := range []string{"10", "100"} {
		t.Run("GOGC="+gogc, func(t *testing.T) {
			cluster := stack.StartCluster(t, stack.ClusterSpec{InsertEnv: []string{"GOGC=" + gogc}})
			insert, storage := cluster.Inserts[0].URL(), cluster.Storages[0].URL()
			offerLoad(t, insert)
			inserts, storages := newRecord(endpointAt(t, insert), VMInsert), newRecord(endpointAt(t, storage), VMStorage)
			poll := func(r *record, i int) {
				client := NewClient(r.Endpoint, load(t, ClientConfig{}), 1)
				defer client.Close()
				reading, err := client.Read(t.Context(), r.Endpoint, r.Kind)
				if err != nil {
					t.Fatal(err)
				}
				r.good(reading, time.Minute)
				keepPage(t, r.Endpoint, fmt.Sprintf("%s-v1.100.0-gogc%s-%d.txt", r.Kind, gogc, i))
			}
			for i := range 3 {
				if i > 0 {
					time.Sleep(6 * time.Second) // the load's time, which nothing can shorten
				}
				poll(inserts, i)
				poll(storages, i)
			}
			usual := func(*Reading) time.Duration { return time.Second }
			v, s := inserts.vitals(time.Now(), usual), storages.vitals(time.Now(), usual)
			if s.Memory.Ratio.Or(0) < 1.1 || s.Memory.Ratio.Or(0) > 1.5 { // it runs with GOGC=30
				t.Errorf("the heap of vmstorage has a ratio of %v", s.Memory.Ratio)
			}
			if ratio := v.Memory.Ratio; (ratio < 1.25) != (gogc == "10") || !ratio.Known() {
				t.Errorf("the heap of vminsert has a ratio of %v", ratio)
			}
			if v.CPU.GCShare.Or(0) <= 0 || v.Insert.Rows.Or(0) <= 0 || v.Insert.Requests.Or(0) <= 0 || s.Storage.Rows.Or(0) <= 0 || s.Storage.FreeDisk.Or(0) <= 0 {
				t.Errorf("GC %v, rows %v, requests %v, rows at vmstorage %v, free disk %v", v.CPU.GCShare, v.Insert.Rows, v.Insert.Requests,
					s.Storage.Rows, s.Storage.FreeDisk)
			}
			if v.ClockAhead != 0 || s.ClockAhead != 0 {
				t.Errorf("the clocks of servers on this machine are %v and %v s ahead of its own", v.ClockAhead, s.ClockAhead)
			}
			views := Storages([]Vitals{v, s})
			if len(views) != 1 || views[0].Own == nil || views[0].Seen != 1 || views[0].Unreachable != 0 {
				t.Errorf("the storage is seen as %+v", views)
			}
		})
	}
}

// offerLoad sends to a vminsert, as fast as it takes it, until the test ends.
func offerLoad(t *testing.T, vminsert string) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { // ends with cancel
		_, _, err := offer.Run(ctx, offer.Config{
			URL: vminsert, Metric: "vitals", Tenants: 20000, FirstAccount: 1, Series: 20, PerRequest: 20, Labels: 10,
			Duration: time.Hour, Senders: 8,
		})
		ended <- err
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// keepPage writes a page down, without what tells where it is from, if -record asks for it.
func keepPage(t *testing.T, ep Endpoint, name string) {
	if *recordTo == "" {
		return
	}
	resp, err := http.Get(ep.MetricsURL().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*recordTo, name), page, 0o600); err != nil {
		t.Fatal(err)
	}
}

func endpointAt(t *testing.T, base string) Endpoint {
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return Endpoint{Base: u, Addr: u.Host}
}
