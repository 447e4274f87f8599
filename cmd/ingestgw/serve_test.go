package main

import (
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"slices"
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

// What looks at a part that is stopping sees a fault that is none, and what it has found before is worth telling to the last.
func TestAlarmsEndBeforeWhatTheyLookAtAndAreToldAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{log: slog.New(slog.DiscardHandler), ended: make(chan error, parts)}
		var order []string // each part ends before the next one is asked to
		part := func(name string) *part {
			return launch(name, g.ended, func(ctx context.Context) error {
				<-ctx.Done()
				order = append(order, name)
				return ctx.Err()
			})
		}
		g.minding, g.telling, g.knowing = part("memory"), part("telling"), part("tenants")
		g.sending, g.probing, g.alarmed = part("forward"), part("canary"), part("alarms")
		if err := g.stop(newSchedule(0, 25*time.Second)); err != nil {
			t.Error(err)
		}
		if want := []string{"alarms", "canary", "tenants", "forward", "telling", "memory"}; !slices.Equal(order, want) {
			t.Errorf("ended in the order %q, want %q", order, want)
		}
	})
}

// A start that fails must end what it has begun, and take nothing in.
func TestAFileThatTellingOfAlarmsLacksIsMissedBeforeAnythingIsTakenIn(t *testing.T) {
	c := launchChild(t, "FORWARD_URLS=http://127.0.0.1:1", "ALARM_WEBHOOK_URL=http://127.0.0.1:1/hook", "ALARM_WEBHOOK_TOKEN_FILE=/not/there")
	code := c.exit(t, 20*time.Second)
	said := c.log.String()
	if code != exitFailed || !strings.Contains(said, "INGESTGW_ALARM_WEBHOOK_TOKEN_FILE") || strings.Contains(said, "listening for remote-write") {
		t.Errorf("exit %d:\n%s", code, said)
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
