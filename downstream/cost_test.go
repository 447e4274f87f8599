package downstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// servedTenants says of how many tenants the page has that a process serves which a benchmark has started, until its input ends.
const servedTenants = "DOWNSTREAM_TEST_SERVES"

func TestMain(m *testing.M) {
	if tenants, err := strconv.Atoi(os.Getenv(servedTenants)); err == nil {
		if err := servePage(tenants); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func servePage(tenants int) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	page := tenantPage(tenants)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })}
	go func() { // ends with its input, and ends the server
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		_ = server.Close()
	}()
	fmt.Println(l.Addr())
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// served is where another process serves a page of so many tenants, so that what serving costs is not in this one's CPU time.
func served(b *testing.B, tenants int) Endpoint {
	b.Helper()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), servedTenants+"="+strconv.Itoa(tenants))
	other.Stderr = os.Stderr
	in, err := other.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := other.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := in.Close(); err != nil {
			b.Error(err)
		}
		if err := other.Wait(); err != nil {
			b.Error(err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	addr := strings.TrimSpace(line)
	return Endpoint{Base: &url.URL{Scheme: "http", Host: addr}, Addr: addr}
}

// cpuTime is what this process has used of its processors, system calls included.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// What polls cost us, connections included: of CPU for a poll (cpu-µs/op) and for the bytes of a page (cpu-ms/MB), and which part of a core
// goes to polling 100 vminserts with such pages as often as the Watch does (share-of-core).
func BenchmarkPolling(b *testing.B) {
	for _, tenants := range []int{0, 100_000, 500_000} {
		b.Run(fmt.Sprintf("tenants=%d", tenants), func(b *testing.B) {
			ep := served(b, tenants)
			client, rd := newPoller(ep, load(b, ClientConfig{})), newReader()
			w := &Watch{cfg: WatchConfig{Pollers: 1}, nodes: map[string]*record{}}
			for i := range 100 {
				w.nodes[strconv.Itoa(i)] = nil
			}
			var last *Reading
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				var err error
				if last, err = client.read(b.Context(), ep, VMInsert, rd); err != nil {
					b.Fatal(err)
				}
			}
			each := (cpuTime(b) - before) / time.Duration(b.N)
			b.SetBytes(last.Size)
			b.ReportMetric(float64(each.Microseconds()), "cpu-µs/op")
			b.ReportMetric(each.Seconds()*1e3/(float64(last.Size)/1e6), "cpu-ms/MB")
			b.ReportMetric(float64(len(w.nodes))*each.Seconds()/w.interval(last).Seconds(), "share-of-core")
		})
	}
}

// What is allocated while a page is read is more than what is held at any moment of it.
func TestPollOfALargePageHoldsLittle(t *testing.T) {
	const most = 1 << 20
	page := tenantPage(100_000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, bytes.NewReader(page)) }))
	defer server.Close()
	ep := endpointOf(t, server, "http://vm.invalid")
	client, rd := newPoller(ep, load(t, ClientConfig{})), newReader()
	poll := func() *Reading {
		r, err := client.read(context.WithoutCancel(t.Context()), ep, VMInsert, rd)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	poll() // what is made once is made
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := poll()
	runtime.ReadMemStats(&after)
	if r.Size < 9e6 || r.tenants < 100_000 {
		t.Fatalf("the page has %d bytes and %d tenants", r.Size, r.tenants)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > most {
		t.Errorf("%d bytes were allocated for a page of %d, want %d at most", got, r.Size, most)
	} else {
		t.Logf("%d bytes were allocated for a page of %d", got, r.Size)
	}
}
