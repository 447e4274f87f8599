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
	loadtest := filepath.Join(b.TempDir(), "loadtest")
	if err := stack.GoBuild(b.Context(), "../..", "./loadtest", loadtest); err != nil {
		b.Fatal(err)
	}
	for _, perRequest := range []int{2000, 100, 10} {
		b.Run(fmt.Sprintf("samples=%d", perRequest), func(b *testing.B) {
			sink := countingSink(b, loadtest)
			gateway := stack.Start(b, stack.IngestgwSpec("ingestgw", binary(b),
				"INGESTGW_FORWARD_URLS="+sink,
				"INGESTGW_FORWARD_SETTLE=0",
			))
			offer := func(duration time.Duration) {
				cmd := exec.CommandContext(b.Context(), loadtest, "send", "-url", gateway.URL(), "-rate=0", "-ledger=",
					"-tenants=20", fmt.Sprintf("-series=%d", perRequest), fmt.Sprintf("-per-request=%d", perRequest),
					"-senders=16", fmt.Sprintf("-duration=%v", duration))
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
			}
			offer(3 * time.Second) // until connections, pools and the heap have their size
			committed(b, gateway, time.Minute)
			before, counted := used(b, gateway), requests(b, sink)
			began := time.Now()
			for b.Loop() {
				offer(5 * time.Second)
				committed(b, gateway, time.Minute)
			}
			took := time.Since(began)
			after := used(b, gateway)
			samples := float64((requests(b, sink) - counted) * perRequest)
			b.ReportMetric(samples/(after.CPU-before.CPU).Seconds(), "samples/cpu-s")
			b.ReportMetric(samples/took.Seconds(), "samples/s")
			b.ReportMetric(float64(after.PeakRSS)/(1<<20), "MiB-max-RSS")
			b.ReportMetric(0, "ns/op")
		})
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
