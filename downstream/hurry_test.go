package downstream

import (
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// hurried runs a Watch over a vminsert with a page of so many bytes, two processes, and hands over when it polls in its rhythm.
func hurried(t *testing.T, size int64, then func(w *Watch, s *servers, ep Endpoint)) {
	t.Helper()
	const addr = "10.0.0.1:8480"
	synctest.Test(t, func(t *testing.T) {
		s := newServers()
		s.set(addr, pageOf(size))
		w, _ := watching(t, WatchConfig{Pollers: 2}, &dns{}, s, addr)
		time.Sleep(500 * time.Millisecond) // between polls, which are at full seconds
		for s.pollsOf(addr) < 3 {
			time.Sleep(time.Second)
		}
		then(w, s, endpoints(t, addr)[0])
	})
}

// pollsFor counts the polls of the time to come.
func pollsFor(s *servers, ep Endpoint, d time.Duration) int {
	before := s.pollsOf(ep.Addr)
	time.Sleep(d)
	return s.pollsOf(ep.Addr) - before
}

func TestHurryReadsTwiceAtMomentsThatProcessesShare(t *testing.T) {
	hurried(t, 32e6, func(w *Watch, s *servers, ep Endpoint) { // polled every 128 s
		usual := s.timesOf(ep.Addr)[2]
		time.Sleep(3 * time.Second)
		w.Hurry(ep)
		synctest.Wait()
		if n := w.State().Nodes[ep.String()]; n.Interval != hurryInterval {
			t.Errorf("interval %s, want %s", n.Interval, hurryInterval)
		}
		time.Sleep(4 * time.Minute)
		want := []time.Duration{16 * time.Second, 32 * time.Second, 128 * time.Second}
		for i, at := range s.timesOf(ep.Addr)[3:] {
			if i < len(want) && at.Sub(usual) != want[i] || i >= len(want) && at.Sub(usual)%(128*time.Second) != 0 {
				t.Errorf("poll %d is %s after the last usual one", i, at.Sub(usual))
			}
		}
		if n := w.State().Nodes[ep.String()]; n.Interval != 128*time.Second {
			t.Errorf("interval %s afterwards", n.Interval)
		}
	})
}

func TestHurryIsOnceInAWhile(t *testing.T) {
	hurried(t, 32e6, func(w *Watch, s *servers, ep Endpoint) {
		calls := func(d time.Duration) int {
			before := s.pollsOf(ep.Addr)
			for range d / time.Second {
				w.Hurry(ep)
				time.Sleep(time.Second)
			}
			return s.pollsOf(ep.Addr) - before
		}
		if n := calls(hurryFor); n < 2 || n > 3 {
			t.Errorf("%d polls within %s of calls, want 2 or 3", n, hurryFor)
		}
		if n := calls(hurryRest); n < 4 || n > 5 {
			t.Errorf("%d polls in the ten minutes after, want 4 or 5", n)
		}
		if n := calls(time.Hour); n < 28+5*2 || n > 29+6*3 {
			t.Errorf("%d polls within an hour of calls, want 28 usual ones and 5 or 6 times 2 or 3", n)
		}
	})
}

func TestHurryCountsAgainAfterAServerWasWell(t *testing.T) {
	hurried(t, 32e6, func(w *Watch, s *servers, ep Endpoint) {
		for range 180 {
			w.Hurry(ep)
			time.Sleep(time.Second)
		}
		w.Hurry(ep)
		if n := pollsFor(s, ep, hurryWell-time.Second); n > 3 {
			t.Errorf("%d polls in a hurry that is over", n)
		}
		w.Hurry(ep) // one second too soon
		if n := pollsFor(s, ep, hurryWell); n > 3 {
			t.Errorf("%d polls in a hurry that is over", n)
		}
		w.Hurry(ep)
		if n := pollsFor(s, ep, 2*hurryInterval); n < 2 {
			t.Errorf("%d polls in a new one, want 2", n)
		}
	})
}

func TestHurryDoesNotHurryWhatIsPolledOften(t *testing.T) {
	for _, size := range []int64{30e3, 4e6} { // every second, every 16 s
		polls := func(call bool) (n int) {
			hurried(t, size, func(w *Watch, s *servers, ep Endpoint) {
				for range 120 {
					if call {
						w.Hurry(ep)
					}
					time.Sleep(time.Second)
				}
				n = s.pollsOf(ep.Addr)
			})
			return n
		}
		if calm, called := polls(false), polls(true); calm != called {
			t.Errorf("a page of %d bytes: %d polls, %d without calls", size, called, calm)
		}
	}
}

func TestHurryOfAServerThatFailsOrIsUnknownChangesNothing(t *testing.T) {
	hurried(t, 32e6, func(w *Watch, s *servers, ep Endpoint) {
		w.Hurry(endpoints(t, "10.0.0.9:8480")[0])
		s.fail(ep.Addr, ErrNoAnswer)
		time.Sleep(3 * time.Minute)
		for range 64 {
			w.Hurry(ep)
			time.Sleep(time.Second)
		}
		if n := pollsFor(s, ep, 10*time.Minute); n < 8 || n > 10 {
			t.Errorf("%d polls in ten minutes, want one each 64 s", n)
		}
	})
}

func BenchmarkHurry(b *testing.B) {
	w := &Watch{nodes: map[string]*record{}}
	ep := Endpoint{Base: &url.URL{Scheme: "http", Host: "vminsert-0.vminsert:8480"}, Addr: "10.0.0.1:8480"}
	w.nodes[ep.String()] = w.newRecord(ep, VMInsert)
	b.ReportAllocs()
	for b.Loop() {
		w.Hurry(ep)
	}
}
