package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// BenchmarkProcess says what a sample costs the whole process: received, made durable, forwarded. The CPU time is the gateway's
// own, as the kernel counts it; the sender and the sink are other processes. Run it alone, on an idle machine:
//
//	go test -run '^$' -bench Process -benchtime 30s ./cmd/ingestgw
func BenchmarkProcess(b *testing.B) {
	b.Run("buffer=disk", func(b *testing.B) { benchmarkProcess(b) })
	b.Run("buffer=kafka", func(b *testing.B) { // one broker, which acknowledges as all
		k := stack.StartKafka(b, stack.KafkaSpec{})
		benchmarkProcess(b, "INGESTGW_BUFFER=kafka", "INGESTGW_KAFKA_BROKERS="+k.Bootstrap(), "INGESTGW_KAFKA_CREATE_TOPICS=true")
	})
}

func benchmarkProcess(b *testing.B, settings ...string) {
	loadtest := loadtestBinary(b)
	for _, perRequest := range []int{2000, 100, 10} {
		b.Run(fmt.Sprintf("samples=%d", perRequest), func(b *testing.B) {
			sink := countingSink(b, loadtest)
			gateway := stack.Start(b, stack.IngestgwSpec("ingestgw", binary(b), append([]string{
				"INGESTGW_FORWARD_URLS=" + sink,
				"INGESTGW_FORWARD_SETTLE=0",
				fmt.Sprintf("INGESTGW_KAFKA_TOPIC_PREFIX=cost-%d", perRequest),
			}, settings...)...))
			offerAll(b, loadtest, gateway, perRequest, 3*time.Second) // until connections, pools and the heap have their size
			committed(b, gateway, time.Minute)
			before, counted := used(b, gateway), forwarded(b, gateway)
			began := time.Now()
			for b.Loop() {
				offerAll(b, loadtest, gateway, perRequest, 5*time.Second)
				committed(b, gateway, time.Minute)
			}
			took := time.Since(began)
			after := used(b, gateway)
			samples := forwarded(b, gateway) - counted
			b.ReportMetric(samples/(after.CPU-before.CPU).Seconds(), "samples/cpu-s")
			b.ReportMetric(samples/took.Seconds(), "samples/s")
			b.ReportMetric(float64(after.PeakRSS)/(1<<20), "MiB-max-RSS")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkBacklog says what a backlog costs: memory while it grows, and how fast it drains once something takes it.
//
//	go test -run '^$' -bench Backlog -benchtime 1x ./cmd/ingestgw
func BenchmarkBacklog(b *testing.B) {
	const perRequest = 2000
	loadtest := loadtestBinary(b)
	for b.Loop() {
		gateway := stack.Start(b, stack.IngestgwSpec("ingestgw", binary(b),
			"INGESTGW_FORWARD_URLS=http://127.0.0.1:1", // where nobody listens
			"INGESTGW_FORWARD_SETTLE=0",
		))
		offerAll(b, loadtest, gateway, perRequest, 4*time.Second)
		b.ReportMetric(float64(used(b, gateway).RSS)/(1<<20), "MiB-RSS-after-4s")
		offerAll(b, loadtest, gateway, perRequest, 12*time.Second)
		b.ReportMetric(float64(used(b, gateway).RSS)/(1<<20), "MiB-RSS-after-16s")

		sink := countingSink(b, loadtest)
		change := func(s *stack.Spec) { s.Env = append(s.Env, "INGESTGW_FORWARD_URLS="+sink) }
		if err := gateway.Restart(b.Context(), change); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		committed(b, gateway, 2*time.Minute)
		took := time.Since(began)
		samples := float64(requests(b, sink) * perRequest)
		after := used(b, gateway)
		b.ReportMetric(samples, "samples-backlog")
		b.ReportMetric(samples/took.Seconds(), "samples-drained/s")
		b.ReportMetric(samples/after.CPU.Seconds(), "samples-drained/cpu-s")
		b.ReportMetric(float64(after.PeakRSS)/(1<<20), "MiB-max-RSS-drained")
	}
	b.ReportMetric(0, "ns/op")
}

func loadtestBinary(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "loadtest")
	if err := stack.GoBuild(b.Context(), "../..", "./loadtest", path); err != nil {
		b.Fatal(err)
	}
	return path
}

// offerAll sends as fast as requests are acknowledged, from a process of its own.
func offerAll(b *testing.B, loadtest string, gateway *stack.Process, perRequest int, duration time.Duration) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), loadtest, "send", "-url", gateway.URL(), "-rate=0", "-ledger=",
		"-tenants=20", fmt.Sprintf("-series=%d", perRequest), fmt.Sprintf("-per-request=%d", perRequest),
		"-senders=16", fmt.Sprintf("-duration=%v", duration))
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
}

func used(b *testing.B, p *stack.Process) stack.Usage {
	b.Helper()
	u, err := p.Usage()
	if err != nil {
		b.Fatal(err)
	}
	return u
}

// forwarded is how many samples the sink has taken: those of small requests leave together, so that requests tell nothing.
func forwarded(b *testing.B, p *stack.Process) float64 {
	b.Helper()
	samples, err := sumOf(b.Context(), p, "ingestgw_forward_samples_total")
	if err != nil {
		b.Fatal(err)
	}
	return samples
}

// countingSink starts `loadtest sink` as a process of its own.
func countingSink(b *testing.B, loadtest string) (url string) {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, loadtest, "sink")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	url, _, _ = strings.Cut(strings.TrimPrefix(line, "listening at "), ";")
	return url
}

// requests is how many the sink has taken.
func requests(b *testing.B, sink string) (n int) {
	b.Helper()
	resp, err := http.Get(sink + "/counted")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := fmt.Fscan(resp.Body, &n); err != nil {
		b.Fatal(err)
	}
	return n
}
