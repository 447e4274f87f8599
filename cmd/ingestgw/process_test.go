package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// A child is an ingestgw that the test started.
type child struct {
	cmd    *exec.Cmd
	log    *logged
	exited chan struct{} // closed when it has
	ingest string        // http://host:port
	admin  string
	token  string // that post sends; empty: none
}

// logged is what a child wrote.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// operatorsToken is that of every child.
const operatorsToken = "of-the-operators-of-tests"

// launchChild starts an ingestgw on free ports. The settings (NAME=value) are without prefix and win over the usual ones of tests.
func launchChild(t *testing.T, settings ...string) *child {
	t.Helper()
	c := &child{log: new(logged), exited: make(chan struct{})}
	c.cmd = exec.Command(binary(t))
	c.cmd.Dir = t.TempDir()
	c.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if err := os.WriteFile(filepath.Join(c.cmd.Dir, "operators"), []byte(operatorsToken), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range append([]string{"INGEST_LISTEN=127.0.0.1:0", "ADMIN_LISTEN=127.0.0.1:0", "ADMIN_TOKEN_FILE=operators", "FORWARD_SETTLE=0s",
		"SHUTDOWN_DELAY=0s"}, settings...) {
		c.cmd.Env = append(c.cmd.Env, "INGESTGW_"+s)
	}
	c.cmd.Stderr = c.log
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which Cleanup ends
		_ = c.cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.exited
		if t.Failed() {
			t.Logf("ingestgw logged:\n%s", c.log)
		}
	})
	return c
}

// startChild is launchChild that waits until the child is ready.
func startChild(t *testing.T, settings ...string) *child {
	t.Helper()
	c := launchChild(t, settings...)
	eventually(t, 20*time.Second, func() error {
		select {
		case <-c.exited:
			t.Fatalf("exited %d instead of getting ready", c.cmd.ProcessState.ExitCode())
		default:
		}
		c.admin = c.address(`listening for operators`)
		c.ingest = c.address(`listening for remote-write`)
		if c.ingest == "" {
			return errors.New("not listening")
		}
		if status := statusOf(c.admin + "/-/ready"); status != http.StatusOK {
			return fmt.Errorf("/-/ready answers %d", status)
		}
		return nil
	})
	return c
}

// address is the one that a line of the log names.
func (c *child) address(msg string) string {
	m := regexp.MustCompile(`msg="` + msg + `" address=(\S+)`).FindStringSubmatch(c.log.String())
	if m == nil {
		return ""
	}
	return "http://" + m[1]
}

func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the end, and returns the code.
func (c *child) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-c.exited:
		return c.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("still running after %s", within)
		return 0
	}
}

// statusOf is what a GET is answered, 0 when it is not.
func statusOf(url string) int {
	status, _ := get(url)
	return status
}

// textOf is the body of what a GET is answered, nothing when it is not.
func textOf(url string) string {
	_, text := get(url)
	return text
}

func get(url string) (status int, text string) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(b)
}

// post writes one sample of the series and returns what it is answered, 0 when it is not.
func (c *child) post(series string) int {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodPost, c.ingest+"/api/v1/write", bytes.NewReader(request(series)))
	if err != nil {
		return 0
	}
	req.Header = remoteWriteHeader()
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// request is a remote-write request whose only sample tells itself apart by the label check.
func request(series string) []byte { return probe{check: series, at: time.Now()}.encode() }

// A sink is a vminsert that counts what it is sent.
type sink struct {
	*httptest.Server
	mu    sync.Mutex
	times map[string]int // how often each series came
}

var checkLabel = regexp.MustCompile(`check\x12.([a-z0-9-]+)`)

func startSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{times: map[string]int{}}
	s.Server = fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		message, err := decompressed(body, r.Header.Get("Content-Encoding"))
		if err != nil {
			http.NotFound(w, r) // such as /metrics
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range checkLabel.FindAllSubmatch(message, -1) {
			s.times[string(m[1])]++
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return s
}

func TestVersionIsWhatMakeBuildSays(t *testing.T) {
	whole(t)
	make, err := exec.LookPath("make")
	if err != nil {
		t.Skip("there is no make")
	}
	shown := exec.Command(make, "--dry-run", "build", "VERSION=v1.2.3")
	shown.Dir = "../.."
	command, err := shown.Output()
	if want := "-X main.release=v1.2.3"; err != nil || !strings.Contains(string(command), want) {
		t.Fatalf("make build runs %q without %q, %v", command, want, err)
	}
	path := filepath.Join(t.TempDir(), "ingestgw")
	if err := stack.GoBuild(t.Context(), ".", ".", path, "-buildvcs=false", "-ldflags", "-X main.release=v1.2.3"); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "version").Output()
	if err != nil || !strings.HasPrefix(string(out), "ingestgw v1.2.3 go") {
		t.Errorf("it says %q, %v", out, err)
	}
}

func (s *sink) got(series string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times[series]
}

func TestSamplesPassThroughTheProcess(t *testing.T) {
	vminsert := startSink(t)
	c := startChild(t, "FORWARD_URLS="+vminsert.URL)
	if status := c.post("a"); status != http.StatusNoContent {
		t.Fatalf("answered %d", status)
	}
	eventually(t, 10*time.Second, func() error {
		if vminsert.got("a") != 1 {
			return fmt.Errorf("came %d times", vminsert.got("a"))
		}
		return nil
	})
	c.signal(t, syscall.SIGTERM)
	if code := c.exit(t, 10*time.Second); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// slowRequest is a request whose body is half sent and half read.
type slowRequest struct {
	body   *io.PipeWriter
	rest   []byte
	answer chan int
}

func (c *child) beginSlowRequest(t *testing.T, series string) *slowRequest {
	t.Helper()
	r, w := io.Pipe()
	s := &slowRequest{body: w, answer: make(chan int, 1)}
	req, err := http.NewRequest(http.MethodPost, c.ingest+"/api/v1/write", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = remoteWriteHeader()
	go func() { // ends with the answer, at the latest when the child ends
		resp, err := (&http.Client{Transport: new(http.Transport)}).Do(req)
		if err != nil {
			s.answer <- 0
			return
		}
		_ = resp.Body.Close()
		s.answer <- resp.StatusCode
	}()
	body := request(series)
	if _, err := w.Write(body[:4]); err != nil {
		t.Fatal(err)
	}
	s.rest = body[4:]
	// The transport has connected, but a connection that ingestgw has not accepted yet ends with its listener.
	eventually(t, 10*time.Second, func() error {
		if page := textOf(c.admin + "/metrics"); !strings.Contains(page, "\ningestgw_ingest_requests_in_flight 1\n") {
			return errors.New("the request is not in flight")
		}
		return nil
	})
	return s
}

func (s *slowRequest) finish(t *testing.T) int {
	t.Helper()
	if _, err := s.body.Write(s.rest); err != nil {
		t.Fatal(err)
	}
	_ = s.body.Close()
	return <-s.answer
}

func TestSIGTERMStopsInTheOrderOfTheFlow(t *testing.T) {
	vminsert := startSink(t)
	c := startChild(t, "FORWARD_URLS="+vminsert.URL, "SHUTDOWN_DELAY=2s", "SHUTDOWN_TIMEOUT=20s", "INGEST_READ_TIMEOUT=15s")
	if status := c.post("before"); status != http.StatusNoContent {
		t.Fatalf("answered %d", status)
	}
	slow := c.beginSlowRequest(t, "slow")
	signalled := time.Now()
	c.signal(t, syscall.SIGTERM)

	eventually(t, 2*time.Second, func() error {
		if status := statusOf(c.admin + "/-/ready"); status != http.StatusServiceUnavailable {
			return fmt.Errorf("/-/ready answers %d after SIGTERM", status)
		}
		return nil
	})
	if status := c.post("during"); status != http.StatusNoContent {
		t.Errorf("a request in the delay is answered %d after %s", status, time.Since(signalled))
	}
	if status := statusOf(c.admin + "/-/healthy"); status != http.StatusOK {
		t.Errorf("/-/healthy answers %d in the delay", status)
	}
	eventually(t, 10*time.Second, func() error {
		conn, err := net.Dial("tcp", strings.TrimPrefix(c.ingest, "http://"))
		if err == nil {
			_ = conn.Close()
			return errors.New("still accepts")
		}
		return nil
	})
	if after := time.Since(signalled); after < 2*time.Second {
		t.Errorf("stopped accepting %s after SIGTERM, before SHUTDOWN_DELAY was over", after)
	}
	if status := statusOf(c.admin + "/metrics"); status != http.StatusOK {
		t.Errorf("/metrics answers %d while requests are in flight", status)
	}
	if status := slow.finish(t); status != http.StatusNoContent {
		t.Errorf("the request in flight is answered %d", status)
	}
	if code := c.exit(t, 20*time.Second-time.Since(signalled)); code != exitOK {
		t.Errorf("exit %d", code)
	}

	// What was acknowledged last may not have been forwarded; the next process does that, and repeats nothing.
	next := startChild(t, "FORWARD_URLS="+vminsert.URL, "BUFFER_DIR="+c.cmd.Dir+"/data")
	eventually(t, 10*time.Second, func() error {
		for _, series := range []string{"before", "during", "slow"} {
			if vminsert.got(series) == 0 {
				return fmt.Errorf("%s was acknowledged and never came", series)
			}
		}
		return nil
	})
	if status := next.post("last"); status != http.StatusNoContent {
		t.Fatalf("answered %d", status)
	}
	eventually(t, 10*time.Second, func() error {
		if vminsert.got("last") == 0 {
			return errors.New("the last one never came")
		}
		return nil
	})
	for _, series := range []string{"before", "during", "slow", "last"} {
		if n := vminsert.got(series); n != 1 {
			t.Errorf("%s came %d times", series, n)
		}
	}
}

func TestSecondSignalExitsAtOnce(t *testing.T) {
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "SHUTDOWN_DELAY=50s", "SHUTDOWN_TIMEOUT=60s")
	c.signal(t, os.Interrupt)
	eventually(t, 5*time.Second, func() error {
		if status := statusOf(c.admin + "/-/ready"); status != http.StatusServiceUnavailable {
			return fmt.Errorf("/-/ready answers %d", status)
		}
		return nil
	})
	c.signal(t, syscall.SIGTERM)
	if code := c.exit(t, 5*time.Second); code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if !strings.Contains(c.log.String(), "second signal") {
		t.Error("the log does not say why it ended")
	}
}

func TestStopSendsAwayWhoNeverFinishes(t *testing.T) {
	// Of four tenths of this, the last quarter is for net/http to see that the connection is idle, for which it looks twice a second.
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "SHUTDOWN_TIMEOUT=12s", "INGEST_READ_TIMEOUT=1m")
	slow := c.beginSlowRequest(t, "slow")
	c.signal(t, syscall.SIGTERM)
	if status := <-slow.answer; status != http.StatusServiceUnavailable {
		t.Errorf("a request that does not come to its end is answered %d", status)
	}
	if code := c.exit(t, 20*time.Second); code != exitOK {
		t.Errorf("exit %d", code)
	}
	_ = slow.body.CloseWithError(io.ErrUnexpectedEOF)
}

func TestStopDoesNotWaitForSettling(t *testing.T) {
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "FORWARD_SETTLE=1h", "FORWARD_SETTLE_MODE=watch")
	if status := c.post("a"); status != http.StatusNoContent {
		t.Fatalf("answered %d", status)
	}
	c.signal(t, syscall.SIGTERM)
	if code := c.exit(t, 10*time.Second); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

func TestAPartThatCannotStartEndsTheProcessAndSaysWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	running := startChild(t, "FORWARD_URLS="+startSink(t).URL)
	for setting, want := range map[string]string{
		"INGEST_LISTEN=" + taken.Addr().String():  "INGESTGW_INGEST_LISTEN",
		"ADMIN_LISTEN=" + taken.Addr().String():   "INGESTGW_ADMIN_LISTEN",
		"BUFFER_DIR=" + running.cmd.Dir + "/data": "lock",
		"FORWARD_BEARER_TOKEN_FILE=/nowhere/tok":  "INGESTGW_FORWARD_BEARER_TOKEN_FILE",
		"ROLE=forward":                            "INGESTGW_ROLE",
	} {
		c := launchChild(t, "FORWARD_URLS=http://127.0.0.1:1", setting)
		if code := c.exit(t, 10*time.Second); code != exitFailed || !strings.Contains(c.log.String(), want) {
			t.Errorf("%s: exit %d, and the log does not name %s:\n%s", setting, code, want, c.log)
		}
	}
}
