package forward

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
)

const sinkVariable = "INGESTGW_TEST_SINK"

// TestSinkProcess is no test but the other process of the benchmarks: it takes requests, answers 204, and ends with its stdin.
func TestSinkProcess(t *testing.T) {
	if os.Getenv(sinkVariable) == "" {
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // for a benchmark
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNoContent)
		}))
	}()
	fmt.Printf("listening %s\n", listener.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startSink returns the URL of a sink in a process of its own, so that its CPU time is not the benchmark's.
func startSink(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSinkProcess$", "-test.count=1") //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), sinkVariable+"=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }() // ends with the process
	return "http://" + strings.TrimPrefix(strings.TrimSpace(line), "listening ")
}

// cpu is what this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPost sends one record of 2,000 samples and 60 KB per operation, or a small one.
func BenchmarkPost(b *testing.B) {
	for _, size := range []int{500, 60_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			n := dialed(b, startSink(b), downstream.ClientConfig{})
			v := newVisit(context.Background(), n, time.Minute)
			defer v.close()
			r := record(tenant.ID{Account: 1, Project: 2}, strings.Repeat("x", size))
			if fail := v.post(&r); fail != nil {
				b.Fatal(fail)
			}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			began := cpu()
			for b.Loop() {
				if fail := v.post(&r); fail != nil {
					b.Fatal(fail)
				}
			}
			b.ReportMetric(float64(cpu()-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkForward takes blocks of 17 records of 2,000 samples and 60 KB the whole way: read, decoded, sent, done.
func BenchmarkForward(b *testing.B) {
	const records, samples, size = 17, 2000, 60_000
	var block []buffer.Record
	for i := range records {
		r := record(tenant.ID{Account: uint32(i)}, strings.Repeat("x", size))
		r.Samples = samples
		block = append(block, r)
	}
	benchmarkForward(b, newScene(nil).cfg, block)
}

func benchmarkForward(b *testing.B, cfg Config, block []buffer.Record) {
	url := startSink(b)
	store := newFakeStore()
	store.benign = true
	data := encode(block...)
	samples := 0
	for i := range block {
		samples += block[i].Samples
	}
	for range b.N {
		store.put(data)
	}
	cfg.Settle = time.Minute
	settle := &countingSettling{want: int64(b.N), all: make(chan struct{})}
	resolver := &fakeResolver{}
	resolver.set(url)
	credentials, err := downstream.LoadCredentials(downstream.ClientConfig{}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	dial := func(ep downstream.Endpoint) poster { return downstream.NewClient(ep, credentials, cfg.Concurrency) }
	f := newForwarder(cfg, store, memory.NewBudget(32<<20), resolver, settle, dial, slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	b.ResetTimer()
	began := cpu()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, "forward") }()
	<-settle.all
	cancel()
	<-ended
	used := cpu() - began
	b.ReportMetric(float64(b.N)*float64(samples)/used.Seconds(), "samples/cpu-s")
	b.ReportMetric(float64(used)/float64(b.N)/float64(len(block)), "cpu-ns/record")
}

// countingSettling closes all when as many blocks as wanted were sent.
type countingSettling struct {
	fakeSettling
	got  atomic.Int64
	want int64
	all  chan struct{}
}

func (s *countingSettling) sent(settlePartition, buffer.Offset, []ticket) {
	if s.got.Add(1) == s.want {
		close(s.all)
	}
}

// tinyRecords are of so many tenants, each with 10 series of 12 labels and one sample.
func tinyRecords(tenants int) []buffer.Record {
	var names []string
	for i := range 10 {
		names = append(names, fmt.Sprintf("http_requests_%d_total", i))
	}
	var all []buffer.Record
	for i := range tenants {
		all = append(all, sender{id: tenant.ID{Account: uint32(1000 + i)}}.record(1, 12, names...))
	}
	return all
}

// BenchmarkPack packs 2,000 records of as many tenants, 20,000 samples, into two requests.
func BenchmarkPack(b *testing.B) {
	f := newForwarder(Config{Pack: true, MaxLabels: 30}, newFakeStore(), memory.NewBudget(32<<20), &fakeResolver{}, &fakeSettling{}, nil,
		slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
	part := newPartition(f, fakePartition{newFakeStore()})
	records := tinyRecords(2000)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] }) //nolint:gosec // the same each time
	of := &shipment{records: records}
	b.ReportAllocs()
	came, sent, began := 0, 0, cpu()
	for b.Loop() {
		c := f.parcel(part, nil)
		for i := range records {
			c.add(item{&records[i], of})
		}
		sortByTenant(c.items)
		for _, c := range new(sorting).cut(nil, c) {
			c.pending = c.items
			p, err := f.packers.pack(context.Background(), c, len(c.pending))
			if err != nil || p.records != len(c.pending) {
				b.Fatal(p.records, err)
			}
			came, sent = came+p.before, sent+len(p.body)
			f.packers.release(p)
			c.recycle()
		}
	}
	b.ReportMetric(float64(cpu()-began)/float64(b.N)/20_000, "cpu-ns/sample")
	b.ReportMetric(float64(sent)/float64(came), "sent/came")
}

// BenchmarkForwardTiny takes blocks of 1,000 records of as many tenants, 10 samples each, the whole way, packed and not.
func BenchmarkForwardTiny(b *testing.B) {
	for _, pack := range []bool{true, false} {
		b.Run(fmt.Sprintf("pack=%v", pack), func(b *testing.B) {
			cfg := newScene(nil).cfg
			cfg.Pack = pack
			benchmarkForward(b, cfg, tinyRecords(1000))
		})
	}
}
