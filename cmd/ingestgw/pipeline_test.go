package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/verify"
)

var pipelineTime = flag.Duration("pipeline-time", 70*time.Second, "how long TestRealSendersThroughCrashes lets real senders send")

// A recorder is a proxy between senders and the gateway that keeps every body, and whether its 2xx reached the sender.
type recorder struct {
	gateway string
	client  *http.Client

	mu     sync.Mutex
	bodies []recorded
}

type recorded struct {
	tenant       string
	body         []byte
	acknowledged bool
}

var tenantInPath = regexp.MustCompile(`^/insert/(\d+:\d+)/`)

func (r *recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	seen := recorded{tenant: tenantInPath.FindStringSubmatch(req.URL.Path)[1], body: body}
	out, err := http.NewRequestWithContext(req.Context(), req.Method, r.gateway+req.URL.Path, bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out.Header = req.Header.Clone()
	resp, err := r.client.Do(out)
	if err != nil {
		r.keep(seen) // it may have been stored
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	seen.acknowledged = resp.StatusCode/100 == 2
	r.keep(seen)
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

func (r *recorder) keep(b recorded) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies = append(r.bodies, b)
}

// expectation is what the cluster should hold. Bodies that are no snappy, such as vmagent's first try in zstd, were refused.
func (r *recorder) expectation(t *testing.T) *verify.Recorded {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	want := new(verify.Recorded)
	for _, b := range r.bodies {
		if err := want.Add(b.tenant, b.body, b.acknowledged); err != nil && b.acknowledged {
			t.Fatal(err)
		}
	}
	return want
}

// scrapeConfig scrapes all of the processes once a second.
func scrapeConfig(processes ...*stack.Process) string {
	var targets []string
	for _, p := range processes {
		targets = append(targets, strconv.Quote(p.Addr()))
	}
	return "global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: all\n  static_configs:\n  - targets: [" +
		strings.Join(targets, ",") + "]\n"
}

// uncommitted reads from the gateway's own metrics how many blocks are not known to be safe downstream.
func uncommitted(ctx context.Context, gateway *stack.Process) (blocks float64, err error) {
	return sumOf(ctx, gateway, "ingestgw_forward_uncommitted_blocks")
}

// sumOf reads one of the gateway's own metrics, all series together.
func sumOf(ctx context.Context, gateway *stack.Process, metric string) (sum float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gateway.AddrOf("admin")+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	series := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, metric+"{") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), 64)
		if err != nil {
			return 0, err
		}
		sum += value
		series++
	}
	if series == 0 {
		return 0, fmt.Errorf("there is no series of %s", metric)
	}
	return sum, nil
}

// committed returns when everything that was accepted is known to be safe downstream.
func committed(t testing.TB, gateway *stack.Process, within time.Duration) {
	t.Helper()
	eventually(t, within, func() error {
		blocks, err := uncommitted(t.Context(), gateway)
		if err == nil && blocks > 0 {
			err = fmt.Errorf("%v blocks are not settled", blocks)
		}
		return err
	})
}

// TestRealSendersThroughCrashes is the whole job on real input: a real Prometheus and a real vmagent send, everything on the way
// is killed again and again, and every sample whose 2xx reached a sender is in the cluster, under its tenant.
func TestRealSendersThroughCrashes(t *testing.T) {
	whole(t)
	t.Parallel()
	cluster := stack.StartCluster(t, stack.ClusterSpec{
		Storages: 2, Inserts: 2,
		// So that settling, which waits for at least 10 s and twice this, fits into the test.
		StorageArgs: []string{"-inmemoryDataFlushInterval=1s"},
	})
	gateway := stack.Start(t, stack.IngestgwSpec("ingestgw", binary(t),
		"INGESTGW_FORWARD_URLS="+strings.Join(cluster.InsertURLs(), ","),
		"INGESTGW_FORWARD_STORAGE_URLS="+strings.Join(cluster.StorageURLs(), ","),
		"INGESTGW_FORWARD_SETTLE=12s",
		"INGESTGW_FORWARD_LOST_AFTER=10s",
	))
	recorder := &recorder{gateway: gateway.URL(), client: &http.Client{Timeout: 20 * time.Second}}
	proxy := httptest.NewServer(recorder)
	t.Cleanup(proxy.Close)

	targets := append([]*stack.Process{cluster.Select, cluster.Raw}, append(cluster.Inserts, cluster.Storages...)...)
	prometheus := stack.Start(t, stack.PrometheusSpec("prometheus", scrapeConfig(targets...)+
		"remote_write:\n- url: "+proxy.URL+"/insert/1:1/prometheus/api/v1/write\n"+
		"  queue_config: {batch_send_deadline: 1s, max_backoff: 1s}\n"))
	vmagent := stack.Start(t, stack.VmagentSpec("vmagent", scrapeConfig(targets...), proxy.URL+"/insert/2:0/prometheus/api/v1/write"))

	s := &script{t: t, cluster: cluster, gateway: gateway, step: *pipelineTime / 9}
	s.play()
	for _, sender := range []*stack.Process{prometheus, vmagent} { // both flush what they hold
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := sender.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
	want := recorder.expectation(t)
	t.Logf("%d samples were acknowledged to Prometheus and vmagent", want.Acknowledged())
	if want.Acknowledged() < 10_000 {
		t.Fatal("hardly anything was acknowledged, so nothing was tested")
	}
	// Some blocks are still to settle: without further samples that takes until the senders of vminsert must have given up, minutes.
	eventually(t, 2*time.Minute, func() error {
		if err := cluster.Flush(t.Context()); err != nil {
			return err
		}
		report, err := (&verify.Cluster{URL: cluster.Select.URL()}).Check(t.Context(), recorder.expectation(t))
		if err == nil && !report.OK() {
			err = fmt.Errorf("%v", report)
		}
		return err
	})
}

// A script kills what is on the way of samples, at moments where samples were seen lost.
type script struct {
	t       *testing.T
	cluster *stack.Cluster
	gateway *stack.Process
	step    time.Duration
}

func (s *script) play() {
	inserts, storages := s.cluster.Inserts, s.cluster.Storages
	s.wait()
	s.gateway.Kill()
	s.restart(s.gateway)
	s.wait()
	inserts[0].Kill()
	s.restart(inserts[0])
	s.wait()
	s.gateway.Kill() // while the vminsert that has come back is starting slowly
	s.restart(s.gateway)
	s.wait()
	// vmstorage restarts while vminsert is idle: no counter of vminsert tells of it.
	s.gateway.Kill()
	s.wait()
	storages[0].Kill()
	s.restart(storages[0])
	s.restart(s.gateway)
	s.wait()
	// vminsert dies while vmstorage is away, so that rows are in its memory and nowhere else.
	storages[0].Kill()
	storages[1].Kill()
	s.wait()
	inserts[0].Kill()
	inserts[1].Kill()
	s.restart(storages[0])
	s.restart(storages[1])
	s.restart(inserts[0])
	s.restart(inserts[1])
	s.wait()
}

// wait lets samples flow for a while. It is not a wait for anything: what is there after it is what a crash hits.
func (s *script) wait() {
	select {
	case <-time.After(s.step):
	case <-s.t.Context().Done():
	}
}

func (s *script) restart(p *stack.Process) {
	s.t.Helper()
	if err := p.Restart(s.t.Context(), nil); err != nil {
		s.t.Fatal(err)
	}
}
