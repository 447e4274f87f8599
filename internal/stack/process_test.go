package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The test binary is also the server that these tests start: see serve.
const childMode = "STACK_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "serve":
		serve()
	case "parent":
		startChildAndWait()
	default:
		os.Exit(m.Run())
	}
}

// serve answers 200 with its own environment. It does not catch SIGTERM.
func serve() {
	fmt.Println("serving at", os.Getenv("LISTEN"))
	err := http.ListenAndServe(os.Getenv("LISTEN"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Join(os.Environ(), "\n"))
	}))
	fmt.Println(err)
	os.Exit(3)
}

// startChildAndWait is a parent that is about to be killed.
func startChildAndWait() {
	p, err := Launch(context.Background(), childSpec(os.Getenv("DIR")))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	select {}
}

func childSpec(dir string) Spec {
	return Spec{
		Name:   "child",
		Binary: os.Args[0],
		Env:    []string{childMode + "=serve", "LISTEN={http}"},
		Listen: map[string]string{"http": ""},
		Ready:  "http://{http}/",
		Dir:    dir,
	}
}

func get(t *testing.T, url string) (string, error) {
	t.Helper()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var b strings.Builder
	_, err = bufio.NewReader(resp.Body).WriteTo(&b)
	return b.String(), err
}

func TestKilledProcessComesBackOnItsPort(t *testing.T) {
	p := Start(t, childSpec(""))
	url, pid := p.URL(), p.PID()
	for range 3 {
		p.Kill()
		if p.Running() {
			t.Fatal("it runs after Kill")
		}
		if _, err := get(t, url); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("a killed server answers %v, want connection refused", err)
		}
		if err := p.Restart(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if p.URL() != url || p.PID() == pid {
			t.Fatalf("after Restart: %s, process %d; before: %s, process %d", p.URL(), p.PID(), url, pid)
		}
		if _, err := get(t, url); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestartChangesTheEnvironmentAndNothingElse(t *testing.T) {
	t.Setenv("INGESTGW_LEAK", "from the parent")
	p := Start(t, childSpec(""))
	p.Kill()
	if err := p.Restart(t.Context(), func(s *Spec) { s.Env = append(s.Env, "GOGC=17"); s.Name = "other" }); err != nil {
		t.Fatal(err)
	}
	env, err := get(t, p.URL())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(env, "GOGC=17") || !strings.Contains(env, "LISTEN="+p.Addr()) {
		t.Errorf("environment lacks GOGC=17 or LISTEN=%s:\n%s", p.Addr(), env)
	}
	if strings.Contains(env, "INGESTGW_LEAK") {
		t.Error("the parent's environment leaks into the child")
	}
	if p.Name() != "child" {
		t.Errorf("name is %q after Restart", p.Name())
	}
}

func TestFrozenProcessKeepsConnectionsAndAnswersNobody(t *testing.T) {
	p := Start(t, childSpec(""))
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatalf("a frozen server's kernel takes connections: %v", err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a frozen server answered %d bytes, %v", n, err)
	}
	if err := p.Thaw(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatalf("a thawed server: %v", err)
	}
}

func TestStopTellsABadEnd(t *testing.T) {
	p := Start(t, childSpec(""))
	if err := p.Freeze(); err != nil { // Stop thaws it
		t.Fatal(err)
	}
	err := p.Stop(t.Context()) // serve does not catch SIGTERM, so it ends by the signal
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Fatalf("Stop: %v, want an end by SIGTERM", err)
	}
	if !strings.Contains(err.Error(), "serving at") {
		t.Errorf("the error lacks the log: %v", err)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("stopping it again: %v", err)
	}
}

func TestFailedStartShowsTheLog(t *testing.T) {
	spec := childSpec(filepath.Join(t.TempDir(), "child"))
	spec.Env = []string{childMode + "=serve", "LISTEN=nowhere"}
	_, err := Launch(t.Context(), spec)
	if err == nil || !strings.Contains(err.Error(), "missing port in address") || !strings.Contains(err.Error(), "exit status 3") {
		t.Fatalf("Launch: %v, want the exit status and what the program printed", err)
	}
}

func TestStartGivesUpWhenNeverReady(t *testing.T) {
	spec := childSpec(filepath.Join(t.TempDir(), "child"))
	spec.Ready = "http://127.0.0.1:1/"
	spec.ReadyWithin = 50 * time.Millisecond
	if _, err := Launch(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "not ready within 50ms") {
		t.Fatalf("Launch: %v", err)
	}
}

func TestTakenPortIsReplaced(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	spec := childSpec("")
	spec.Listen = map[string]string{"http": l.Addr().String()}
	if p := Start(t, spec); p.Addr() == l.Addr().String() || !strings.HasPrefix(p.Addr(), "127.0.0.1:") {
		t.Errorf("%s was taken, and the server is at %s", l.Addr(), p.Addr())
	}
}

func TestWishedPortIsUsedWhenFree(t *testing.T) {
	l, err := net.Listen("tcp4", Host()+":0")
	if err != nil {
		t.Fatal(err)
	}
	wish := l.Addr().String()
	l.Close()
	spec := childSpec("")
	spec.Listen = map[string]string{"http": wish}
	if p := Start(t, spec); p.Addr() != wish {
		t.Errorf("%s was free, and the server is at %s", wish, p.Addr())
	}
}
