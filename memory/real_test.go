package memory

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// A Go without one of these would tell 0 for it for ever.
func TestGoHasEveryMetricThatIsRead(t *testing.T) {
	s := newSampler()
	runtime.GC()
	got := s.read()
	for _, m := range s.list {
		if m.Value.Kind() == metrics.KindBad {
			t.Errorf("Go has no %s", m.Name)
		}
	}
	if got.procs < 1 || got.total <= 0 || got.gc <= 0 || got.cycles < 1 || got.live <= 0 || got.goal <= 0 || got.limit <= 0 ||
		got.all <= got.released || got.objects <= 0 {
		t.Errorf("sample %+v", got)
	}
}

// realPart is set in a process that has a Go runtime of its own to spoil, and names the test that runs there.
const realPart = "INGESTGW_TEST_MEMORY_PART"

// elsewhere runs the test in a process of its own, and returns what that has printed; in that process it returns false.
func elsewhere(t *testing.T) (out string, here bool) {
	t.Helper()
	if os.Getenv(realPart) == t.Name() {
		return "", false
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), realPart+"="+t.Name(), "GOGC=", "GOMEMLIMIT=", "GOMAXPROCS=1")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return string(text), true
}

// minded runs a Control with times a thirtieth as long as usual, while the process makes garbage beside live bytes, until a View is
// as wanted.
func minded(t *testing.T, live int, change Change, until func(View) bool) View {
	t.Helper()
	cfg := Config{GOGC: 100, Limit: Limit{Size: settings.Size{Bytes: 1 << 30}}, GCMaxShare: 25, GCMaxTime: leastTime}
	c, err := New(cfg, slog.New(slog.NewTextHandler(os.Stdout, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	c.Budget("requests", State.RequestBudget, 0, prometheus.NewRegistry())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Run(ctx)
	}()
	held := makeLive(live)
	if _, err := c.Set(ctx, change); err != nil {
		t.Fatal(err)
	}
	for !until(c.View()) && ctx.Err() == nil {
		makeGarbage()
	}
	v := c.View()
	if ctx.Err() != nil {
		t.Errorf("not as wanted in 50 s: %+v", v)
	}
	cancel()
	<-ended
	runtime.KeepAlive(held)
	return v
}

// makeLive returns n bytes full of pointers, which collecting has to follow.
func makeLive(n int) []*[8]*int {
	held := make([]*[8]*int, n/72)
	for i := range held {
		held[i] = new([8]*int)
	}
	return held
}

var sink [][]byte

func makeGarbage() {
	for range 2000 {
		sink = append(sink[:0], bytes.Repeat([]byte{1}, 4096))
	}
}

// The incident on our own side: GOGC=1 under load. In a process of its own, since it is that process's runtime that is changed.
func TestGOGCOfOneUnderLoadIsTakenBackByTheRealGuard(t *testing.T) {
	if out, done := elsewhere(t); done {
		for _, want := range []string{"level=ERROR", "gogc_tried=1", "REVERTED from 1 to 100, differs false"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		return
	}
	one := GOGC(1)
	v := minded(t, 8<<20, Change{GOGC: &one, By: "test"}, func(v View) bool { return v.Reverts > 0 })
	if r := v.Reverted; r != nil {
		fmt.Printf("REVERTED from %d to %d, differs %t\n", r.From.GOGC, r.To.GOGC, v.Differs)
	}
}

// A limit below what is live: the real runtime gets into a death spiral, which is seen before the limit is taken back.
func TestALimitBelowWhatIsLiveIsSeenAsADeathSpiralAndTakenBack(t *testing.T) {
	if out, done := elsewhere(t); done {
		for _, want := range []string{"too low for what is live", "limit_tried=16MiB", "SPIRAL pressed true, limit 1073741824"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		return
	}
	low := Limit{Size: settings.Size{Bytes: leastLimit}}
	pressed := false
	v := minded(t, 24<<20, Change{Limit: &low, By: "test"}, func(v View) bool {
		pressed = pressed || v.Pressed != nil
		return v.Reverts > 0
	})
	fmt.Printf("SPIRAL pressed %t, limit %d\n", pressed, v.InForce.Limit)
}

func BenchmarkStep(b *testing.B) {
	c, err := New(Config{GOGC: 100, GCMaxShare: 25, GCMaxTime: 30 * time.Second}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(time.Second)
		c.step(now, c.hands.read())
	}
}
