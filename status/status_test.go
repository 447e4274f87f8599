package status

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// serve starts a Server that is stopped when the test ends.
func serve(t *testing.T) (*Server, *prometheus.Registry) {
	t.Helper()
	s, reg := listen(t)
	start(t, s)
	return s, reg
}

func listen(t *testing.T) (*Server, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg := Config{Listen: "127.0.0.1:0", History: time.Hour}
	cfg.Token.File = tokenFile(t, token)
	s := New(cfg, "v1.2.3", slog.New(slog.DiscardHandler), reg)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	return s, reg
}

func start(t *testing.T, s *Server) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve returned %v after Shutdown", err)
		}
	})
}

// token is that of the operators in tests.
const token = "of-the-operators-of-tests"

// tokenFile returns the name of a file with the text.
func tokenFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// get asks as an operator does.
func get(t *testing.T, s *Server, path string) (code int, body string) {
	t.Helper()
	return do(t, s, http.MethodGet, path, "Authorization", "Bearer "+token)
}

// do asks with the headers, which are pairs of name and value.
func do(t *testing.T, s *Server, method, path string, headers ...string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestReadyOnlyBetweenStartAndStop(t *testing.T) {
	s, _ := serve(t)
	for _, step := range []struct {
		ready bool
		code  int
	}{{false, 503}, {true, 200}, {false, 503}} {
		s.SetReady(step.ready)
		if code, body := get(t, s, "/-/ready"); code != step.code {
			t.Errorf("ready %t: %d %s", step.ready, code, body)
		}
		if code, body := get(t, s, "/-/healthy"); code != 200 {
			t.Errorf("healthy while ready is %t: %d %s", step.ready, code, body)
		}
	}
}

func TestMetricsShowTheRegistryTheRuntimeAndTheBuild(t *testing.T) {
	s, reg := serve(t)
	ours := prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestgw_of_ours_total", Help: "Ours."})
	ours.Add(7)
	reg.MustRegister(ours)
	_, body := get(t, s, "/metrics")
	for _, want := range []string{
		"\ningestgw_of_ours_total 7\n",
		"\ngo_goroutines ",
		"\ngo_gc_gogc_percent ",
		"\ngo_gc_pauses_seconds_bucket",
		"\ngo_sched_latencies_seconds_bucket",
		"\ngo_cpu_classes_gc_total_cpu_seconds_total ",
		"\ngo_cpu_classes_total_cpu_seconds_total ",
		"\nprocess_start_time_seconds ",
		"\nprocess_resident_memory_bytes ",
		`ingestgw_build_info{goversion="go1.`,
		`version="v1.2.3"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in /metrics", want)
		}
	}
}

func TestAllLinksOfThePageWork(t *testing.T) {
	s, _ := serve(t)
	s.SetReady(true)
	code, body := get(t, s, "/")
	if code != 200 || !strings.Contains(body, "<strong>ingestgw</strong> v1.2.3") {
		t.Fatalf("page: %d %s", code, body)
	}
	links := regexp.MustCompile(`(?:href|src)="(/[^"]*)"`).FindAllStringSubmatch(body, -1)
	if len(links) < 8 {
		t.Errorf("the page has %d links only", len(links))
	}
	for _, link := range links {
		if code, text := get(t, s, link[1]); code != 200 || text == "" {
			t.Errorf("%s answers %d with %d bytes", link[1], code, len(text))
		}
	}
	if code, _ := get(t, s, "/nothing"); code != 404 {
		t.Errorf("/nothing answers %d", code)
	}
}

func TestProfilesAreServed(t *testing.T) {
	s, _ := serve(t)
	for _, path := range []string{"/debug/pprof/heap", "/debug/pprof/goroutine", "/debug/pprof/cmdline", "/debug/pprof/symbol"} {
		if code, body := get(t, s, path); code != 200 || body == "" {
			t.Errorf("%s answers %d with %d bytes", path, code, len(body))
		}
	}
}

// Profiles take as long as they are asked to: half a minute usually, minutes sometimes.
func TestAProfileMayTakeLongerThanOtherAnswers(t *testing.T) {
	s, _ := listen(t)
	s.http.WriteTimeout, s.http.ReadTimeout = 100*time.Millisecond, 100*time.Millisecond
	start(t, s)
	began := time.Now()
	if code, body := get(t, s, "/debug/pprof/profile?seconds=1"); code != 200 || body == "" {
		t.Errorf("a profile that takes ten times the time-outs answers %d with %d bytes", code, len(body))
	}
	if took := time.Since(began); took < time.Second {
		t.Errorf("a profile over one second has been cut short after %s", took)
	}
}

func TestShutdownCutsOffWhoDoesNotFinish(t *testing.T) {
	s, _ := listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /debug/pprof/trace?seconds=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadByte(); err != nil { // the answer has begun
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("Shutdown does not say that a request was cut off")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestListenErrorNamesTheSetting(t *testing.T) {
	taken, _ := serve(t)
	s := New(Config{}, "v", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	s.cfg.Listen = settings.Address(taken.Addr().String())
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "INGESTGW_ADMIN_LISTEN") {
		t.Errorf("Listen on a port that is taken: %v", err)
	}
}
