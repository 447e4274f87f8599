package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAPartThatEndsUnaskedIsTold(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		result error
		want   string
	}{{broken, "forward: broken"}, {nil, "forward has ended by itself"}} {
		ended := make(chan error, 1)
		p := launch("forward", ended, func(context.Context) error { return c.result })
		p.wait()
		if err := <-ended; err.Error() != c.want || c.result != nil && !errors.Is(err, c.result) {
			t.Errorf("told %v, want %s", err, c.want)
		}
	}
}

func TestForwardingIsStoppedAndItsErrorTold(t *testing.T) {
	broken := errors.New("progress cannot be saved")
	for _, c := range []struct{ result, want error }{{nil, nil}, {context.Canceled, nil}, {broken, broken}} {
		p := launch("forward", make(chan error, 1), func(ctx context.Context) error {
			<-ctx.Done()
			return c.result
		})
		if err := p.end(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("stopping told %v, want %v", err, c.want)
		}
	}
}

func TestForwardingThatDoesNotEndIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		p := launch("forward", make(chan error, 1), func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := p.end(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stopping told %v", err)
		}
		close(release)
		p.wait()
	})
}

func TestAnErrorThatHasEndedForwardingIsToldOnce(t *testing.T) {
	ended := make(chan error, 1)
	p := launch("forward", ended, func(context.Context) error { return errors.New("broken") })
	p.wait()
	if err := <-ended; err == nil {
		t.Error("it is not told when it happens")
	}
	if err := p.end(t.Context()); err != nil {
		t.Errorf("it is told again while stopping: %v", err)
	}
}

// lib/cgroup of VictoriaMetrics sets GOMAXPROCS when it is imported, and lib/prompb brings it along, with goroutines and flags.
func TestTheProgramContainsNoPackageThatChangesTheProcessByItself(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "github.com/ingestgw/ingestgw/ingest\n") {
		t.Fatalf("the list is not that of the program:\n%s", out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "github.com/VictoriaMetrics/VictoriaMetrics/") {
			t.Errorf("the program contains %s", line)
		}
	}
}
