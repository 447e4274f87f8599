package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/forge"
	"github.com/ingestgw/ingestgw/loadtest/verify"
)

var (
	propertyTenants  = flag.Int("property-tenants", 2000, "how many tenants TestNoSampleIsReadableUnderAnotherTenant has")
	propertyRequests = flag.Int("property-requests", 2500, "how many requests they and those who forge send")
	propertySeed     = flag.Uint64("property-seed", 0, "what makes the requests the same again; 0: others each time")
)

// TestNoSampleIsReadableUnderAnotherTenant lets thousands of tenants, trusted senders and forgers send to the program before a real
// cluster, and reads everything back: each sample that was acknowledged is there, with the labels that it should have, whichever way it
// went, and nothing is anywhere else.
func TestNoSampleIsReadableUnderAnotherTenant(t *testing.T) {
	whole(t)
	for _, way := range []struct{ name, pack string }{{"packed", "true"}, {"unpacked", "false"}} {
		t.Run(way.name, func(t *testing.T) { testTenants(t, "INGESTGW_FORWARD_PACK="+way.pack, way.name == "packed") })
	}
}

func testTenants(t *testing.T, setting string, packs bool) {
	seed := *propertySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("to send the same again: -property-seed=%d", seed)
	const maxLabels = 30 // of a vminsert of this version
	world := forge.New(forge.Config{
		Seed: seed, Tenants: *propertyTenants, MaxLabels: maxLabels, Huge: 2 << 20,
		Start: time.Now().Add(-time.Duration(*propertyRequests) * 110 * time.Millisecond), // a request has about 100 samples, a millisecond each
	})
	cluster := stack.StartCluster(t, stack.ClusterSpec{Storages: 2, Inserts: 2, StorageEnv: manyNewSeries()})
	gateway := stack.Start(t, stack.IngestgwSpec("ingestgw", binary(t), setting,
		"INGESTGW_FORWARD_URLS="+strings.Join(cluster.InsertURLs(), ","),
		"INGESTGW_FORWARD_SETTLE=0s",
		fmt.Sprintf("INGESTGW_FORWARD_MAX_LABELS=%d", maxLabels),
		fmt.Sprintf("INGESTGW_INGEST_MAX_LABELS=%d", maxLabels),
		"INGESTGW_TENANT_MODE=file",
		"INGESTGW_TENANT_FILE="+rosterOf(t, world),
		"INGESTGW_TENANT_FAILURES_PER_MINUTE=0", // all come from one address
		"INGESTGW_INGEST_DISCARDED=false",       // which would be samples that nobody has sent
	))
	sendAll(t, world, gateway.URL(), *propertyRequests)
	book := world.Book()
	t.Logf("taken: %v; %d samples acknowledged", book, book.Acknowledged())
	checkKinds(t, book)
	committed(t, gateway, time.Minute)
	eventually(t, 2*time.Minute, func() error {
		if err := cluster.Flush(t.Context()); err != nil {
			return err
		}
		book.Again()
		report, err := (&verify.Cluster{URL: cluster.Select.URL()}).Check(t.Context(), book)
		if err == nil && !report.OK() {
			err = fmt.Errorf("%v", report)
		}
		return err
	})
	page := textOf("http://" + gateway.AddrOf("admin") + "/metrics")
	small, large := counted(page, "ingestgw_forward_packed_samples_total"), counted(page, "ingestgw_forward_unpacked_samples_total")
	t.Logf("%.0f samples went packed, %.0f as they came; %d series went both ways", small, large, book.SeenBothWays())
	if (small > 0) != packs || large == 0 || book.SeenBothWays() == 0 {
		t.Error("not both ways were tried")
	}
}

// manyNewSeries lets a vmstorage register tens of thousands of series in a second. v1.99.0 and v1.100.0 throw away parts of their index
// when more than 16 MiB of it are new within a second on each of several shards, and those samples are found no more
// (lib/mergeset/table.go, addIbsToFlush; the notes of v1.100.1 tell of it). There are 64 shards with 8 CPUs, 4 with 2.
func manyNewSeries() (env []string) { return []string{"GOMAXPROCS=8"} }

func rosterOf(t *testing.T, world *forge.World) (path string) {
	t.Helper()
	var b bytes.Buffer
	if err := world.WriteRoster(&b); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "tenants.yml")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkKinds sees to it that all that was to be tried was.
func checkKinds(t *testing.T, book *forge.Book) {
	t.Helper()
	taken := book.Taken()
	for _, kind := range forge.Kinds {
		switch kind {
		case forge.WrongTenant, forge.WrongToken, forge.ForgedURL, forge.Repeated: // need not be taken, or must not
		default:
			if taken[kind] == 0 {
				t.Errorf("no request of kind %q was taken", kind)
			}
		}
	}
}

// sendAll sends requests over some connections at a time, until all are answered for good.
func sendAll(t *testing.T, world *forge.World, url string, requests int) {
	t.Helper()
	var mu sync.Mutex
	left := requests
	next := func() *forge.Request {
		mu.Lock()
		defer mu.Unlock()
		if left == 0 || t.Failed() {
			return nil
		}
		left--
		return world.Next()
	}
	const senders = 16
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: senders}}
	defer client.CloseIdleConnections()
	var all sync.WaitGroup
	for range senders {
		all.Go(func() { // ends with the last request
			for r := next(); r != nil; r = next() {
				status, answer := sendPatiently(t.Context(), client, r, url)
				if err := world.Book().Answered(r, status); err != nil {
					t.Errorf("%v: %s", err, answer)
				}
			}
		})
	}
	all.Wait()
}

// sendPatiently sends a request again while it is told to come again, for a minute.
func sendPatiently(ctx context.Context, client *http.Client, r *forge.Request, url string) (status int, answer string) {
	for began := time.Now(); ; {
		status, answer = send(ctx, client, r, url)
		if status != 0 && status != http.StatusTooManyRequests && status/100 != 5 || time.Since(began) > time.Minute {
			return status, answer
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return status, answer
		}
	}
}

func send(ctx context.Context, client *http.Client, r *forge.Request, url string) (status int, answer string) {
	req, err := r.HTTP(ctx, url)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// counted adds up the series of a metric.
func counted(page, metric string) (sum float64) {
	for _, m := range regexp.MustCompile(`(?m)^`+metric+`(?:\{.*\})? (\S+)$`).FindAllStringSubmatch(page, -1) {
		v, _ := strconv.ParseFloat(m[1], 64)
		sum += v
	}
	return sum
}
