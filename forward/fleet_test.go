package forward

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
)

func newFleet(settle settling, concurrency int, names ...string) *fleet {
	f := &fleet{
		concurrency: concurrency,
		backoff:     backoff{min: 100 * time.Millisecond, max: 10 * time.Second},
		settle:      settle,
		dial:        func(downstream.Endpoint) poster { return &fakeNode{} },
		log:         slog.New(slog.DiscardHandler),
		metrics:     newMetrics(prometheus.NewPedanticRegistry()),
	}
	var list []downstream.Endpoint
	for _, name := range names {
		list = append(list, endpoint("http://"+name))
	}
	f.set(list)
	return f
}

// warm ends the slow start of all nodes.
func (f *fleet) warm(t *testing.T) {
	t.Helper()
	for _, n := range f.nodes {
		f.answered(permit{node: n, episode: n.episode})
	}
}

func mustAcquire(t *testing.T, f *fleet, w want) permit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	p, err := f.acquire(ctx, &w)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBackoffDoublesUpToItsBound(t *testing.T) {
	b := backoff{min: time.Second, max: time.Minute}
	for failures, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 6: 32 * time.Second, 7: time.Minute,
		40: time.Minute, 64: time.Minute, 1 << 40: time.Minute,
	} {
		for range 100 {
			if got := b.after(failures); got > want || got < want*3/4 {
				t.Fatalf("after %d failures %v, want %v less up to a quarter", failures, got, want)
			}
		}
	}
	if got := b.asked(1, 5*time.Second); got != 5*time.Second {
		t.Errorf("asked for 5s: %v", got)
	}
	if got := b.asked(1, time.Hour); got != time.Minute {
		t.Errorf("asked for an hour: %v, want the bound", got)
	}
}

func TestWhenItsOwnNodeStaysFullTheLeastBusyIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(&fakeSettling{}, 2, "a:1", "b:1", "c:1")
		f.warm(t)
		var got string
		for range 6 {
			got += mustAcquire(t, f, want{home: f.nodes[0]}).node.name[:1]
		}
		if got != "aabcbc" {
			t.Errorf("nodes were taken in the order %q, want aabcbc", got)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := f.acquire(ctx, &want{}); !errors.Is(err, context.Canceled) {
			t.Errorf("acquire without a free node and with a context that has ended: %v", err)
		}
	})
}

func TestANodeToAvoidIsTakenWhenThereIsNoOther(t *testing.T) {
	f := newFleet(&fakeSettling{}, 1, "a:1", "b:1")
	f.warm(t)
	a := f.nodes[0]
	if p := mustAcquire(t, f, want{avoid: a}); p.node == a {
		t.Error("the node to avoid was taken although there is another")
	}
	if p := mustAcquire(t, f, want{avoid: a}); p.node != a {
		t.Error("the only node that is free was not taken")
	}
}

func TestFailuresOfRequestsThatWereOnTheirWayTogetherCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(&fakeSettling{}, 8, "a:1")
		f.warm(t)
		var permits []permit
		for range 8 {
			permits = append(permits, mustAcquire(t, f, want{}))
		}
		broken := &failure{kind: failed, err: errBroken}
		for _, p := range permits[:7] {
			f.done(p, broken)
		}
		n := f.nodes[0]
		if n.failures != 1 || time.Until(n.until) > 100*time.Millisecond {
			t.Errorf("%d failures, left alone for %v; want those of one failure", n.failures, time.Until(n.until))
		}
		f.answered(permits[7]) // began before the failure, so it says nothing about the time after
		f.done(permits[7], nil)
		if n.limit != 1 {
			t.Errorf("the limit is %d after an old answer, want 1", n.limit)
		}

		began := time.Now()
		p := mustAcquire(t, f, want{})
		if waited := time.Since(began); waited < 75*time.Millisecond || waited > 100*time.Millisecond {
			t.Errorf("the node was used again after %v", waited)
		}
		f.done(p, broken)
		began = time.Now()
		p = mustAcquire(t, f, want{})
		if waited := time.Since(began); waited < 150*time.Millisecond || waited > 200*time.Millisecond {
			t.Errorf("after the second failure it was used again after %v", waited)
		}
		f.answered(p)
		f.done(p, nil)
		if n.failures != 0 || n.limit != 8 {
			t.Errorf("after an answer: %d failures, limit %d", n.failures, n.limit)
		}
	})
}

func TestWhatWeHaveCutOffDoesNotBlameTheNode(t *testing.T) {
	for _, kind := range []failureKind{cut, refusedAgain} {
		f := newFleet(&fakeSettling{}, 8, "a:1")
		f.warm(t)
		f.done(mustAcquire(t, f, want{}), &failure{kind: kind, err: errBroken})
		if n := f.nodes[0]; n.failures != 0 || n.limit != 8 || !n.until.IsZero() {
			t.Errorf("kind %v: %d failures, limit %d", kind, n.failures, n.limit)
		}
	}
}

func endpointsOf(f *fleet) []downstream.Endpoint {
	var list []downstream.Endpoint
	for _, n := range f.nodes {
		list = append(list, n.ep)
	}
	return list
}

func TestNodesAreThoseOfNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t, "a", "b")
		f := s.start()
		synctest.Wait()
		nodes := f.Nodes()
		if len(nodes) != 2 || nodes[0].Endpoint.String() != "a:8480" || nodes[1].Endpoint.String() != "b:8480" {
			t.Fatalf("nodes %v", nodes)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, nodes[1].Endpoint.URL("/x").String(), strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := nodes[1].Do(req)
		if err != nil || resp.StatusCode != http.StatusNoContent {
			t.Fatalf("answered %v, %v", resp, err)
		}
		if got := s.node("b").arrivals(); len(got) != 1 || got[0].path != "/x" {
			t.Errorf("b got %v", got)
		}
		s.stop()
	})
}
