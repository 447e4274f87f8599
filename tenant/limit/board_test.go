package limit

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A memoryBoard is a Board of one process. It can be made to fail.
type memoryBoard struct {
	mu      sync.Mutex
	failing bool
	stands  map[string][]byte
	watch   []chan posted
}

type posted struct {
	key   string
	value []byte
}

func (b *memoryBoard) Post(_ context.Context, key string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failing {
		return errors.New("no broker answers")
	}
	value = slices.Clone(value)
	if b.stands == nil {
		b.stands = map[string][]byte{}
	}
	b.stands[key] = value
	for _, w := range b.watch {
		w <- posted{key, value}
	}
	return nil
}

func (b *memoryBoard) Watch(ctx context.Context, fn func(key string, value []byte)) error {
	posts := make(chan posted, 1000)
	b.mu.Lock()
	b.watch = append(b.watch, posts)
	for key, value := range b.stands {
		posts <- posted{key, value}
	}
	b.mu.Unlock()
	for {
		select {
		case p := <-posts:
			fn(p.key, p.value)
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *memoryBoard) fail(failing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing = failing
}

// share begins to share, and returns what ends that and waits.
func share(t *testing.T, r *Registry, b Board) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Share(ctx, b, "receiver") }() // ends with ctx
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("share: %v", err)
		}
	}
}

func TestProcessesShareLimitsWhileTheBoardCanBeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var board memoryBoard
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		here := New(testConfig(), slog.New(slog.NewTextHandler(&log, nil)), reg)
		there := New(testConfig(), quiet, nil)
		defer share(t, here, &board)()
		defer share(t, there, &board)()
		plan := samples(t, 1000, 15_000, 1000)
		a, b := here.Tenant(onPlan(plan)), there.Tenant(onPlan(plan))
		flood := func(d time.Duration) (s sent) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(step) {
				s.send(a, time.Now(), perStep, false)
				s.send(b, time.Now(), perStep, false)
			}
			return s
		}
		flood(2 * time.Minute)
		if got := flood(time.Minute); !near(got.main, 60_000, 0.1) {
			t.Errorf("%d samples are taken together, the limit is 60000", got.main)
		}
		board.fail(true)
		flood(2 * time.Minute)
		if got := flood(time.Minute); got.main < 110_000 || got.main > 125_000 {
			t.Errorf("%d samples are taken when limits hold for each process alone, want 120000", got.main)
		}
		board.fail(false)
		flood(2 * time.Minute)
		if got := flood(time.Minute); !near(got.main, 60_000, 0.1) {
			t.Errorf("%d samples are taken together later, the limit is 60000", got.main)
		}
		if text := log.String(); strings.Count(text, "this process alone") != 1 || strings.Count(text, "together again") != 1 {
			t.Errorf("the log says\n%s", text)
		}
		if n := testutil.ToFloat64(here.metrics.peers); n != 1 {
			t.Errorf("%v other processes are there, want 1", n)
		}
	})
}

const perStep = 1000

func TestProcessesThatHaveNothingToTellKnowOfEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var board memoryBoard
		a, b := New(testConfig(), quiet, nil), New(testConfig(), quiet, nil)
		defer share(t, a, &board)()
		stop := share(t, b, &board)
		time.Sleep(time.Minute)
		if n := a.peers.Load(); n != 1 {
			t.Errorf("%d others are there, want 1", n)
		}
		stop()
		time.Sleep(time.Minute)
		if n := a.peers.Load(); n != 0 {
			t.Errorf("%d others are there after the only one has gone", n)
		}
	})
}

type brokenBoard struct{ memoryBoard }

func (*brokenBoard) Watch(context.Context, func(string, []byte)) error {
	return errors.New("cannot watch")
}

func TestShareEndsWhenTheBoardGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRegistry()
		for range 2 { // the second time shows that it can be begun anew
			if err := r.Share(t.Context(), new(brokenBoard), ""); err == nil || !strings.Contains(err.Error(), "cannot watch") {
				t.Errorf("share: %v", err)
			}
		}
	})
}

func TestLimitsAreSharedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var board memoryBoard
		r, _ := newRegistry()
		defer share(t, r, &board)()
		synctest.Wait()
		if err := r.Share(t.Context(), &board, ""); err == nil {
			t.Error("a second Share begins")
		}
	})
}

func TestRunForgetsUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newRegistry()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }() // ends with ctx
		r.Tenant(onPlan(nil)).Admit(time.Now(), Usage{}, false)
		time.Sleep(3 * time.Hour)
		if _, ok := r.Describe(acme); ok {
			t.Error("an idle tenant is remembered after three hours")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
