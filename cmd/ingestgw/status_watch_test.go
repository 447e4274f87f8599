package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestStatusWatchGoesOnUntilItIsInterrupted(t *testing.T) {
	var answer atomic.Value
	answer.Store(`{"healthy": true, "verdict": {"state": "well", "text": "All is well"}}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, _ := answer.Load().(string)
		if text == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write([]byte(text))
	}))
	defer server.Close()
	out, complaints := new(logged), new(logged)
	cmd := exec.Command(binary(t), "status", "-watch", "-url", server.URL)
	cmd.Stdout, cmd.Stderr = out, complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with the process
	defer func() { _ = cmd.Process.Kill() }()
	says := func(what *logged, text string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			if !strings.Contains(what.String(), text) {
				return errors.New(text + " is not said: " + out.String() + complaints.String())
			}
			return nil
		})
	}
	says(out, "WELL: All is well")
	answer.Store("")
	says(complaints, "503 Service Unavailable") // as of a process that is started anew: no reason to stop looking
	answer.Store(`{"healthy": false, "verdict": {"state": "trouble", "text": "Data is late"}}`)
	says(out, "TROUBLE: Data is late")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := <-ended
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("after Ctrl-C, when it was not well: %v", err)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("it moves the cursor of what is no terminal: %q", out.String())
	}
}
