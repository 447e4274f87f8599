package downstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRestartsAreToldFromJumps(t *testing.T) {
	for name, test := range map[string]struct {
		starts  []string
		jumping bool
	}{
		"one process":            {[]string{"100", "100", "100"}, false},
		"restarts":               {[]string{"100", "200", "300", "400", "500"}, false},
		"two behind one address": {[]string{"100", "200", "100"}, true},
		"many behind it":         {[]string{"300", "200", "100"}, true},
		"a clock put back once":  {[]string{"300", "200", "250", "260"}, false},
		"no numbers":             {[]string{"a", "b", "c"}, true},
	} {
		rec := newRecord(Endpoint{}, VMInsert)
		for i, start := range test.starts {
			now := time.Now().Add(time.Duration(i) * time.Second)
			rec.good(&Reading{Start: start, Begun: now, Ended: now}, time.Minute)
		}
		if rec.Jumping != test.jumping {
			t.Errorf("%s: jumping %v, want %v", name, rec.Jumping, test.jumping)
		}
	}
}

func TestProcessesStartedInTheSameSecondAreToldByTheirCounters(t *testing.T) {
	rec := newRecord(Endpoint{}, VMInsert)
	now := time.Now()
	for _, cpu := range []float64{5, 9, 5.5, 9.5, 6} {
		now = now.Add(time.Second)
		rec.good(&Reading{Start: "100", CPU: cpu, Begun: now, Ended: now}, time.Minute)
	}
	if rec.Restarts != 2 || !rec.Jumping {
		t.Errorf("%d restarts, jumping %v; want 2 and true", rec.Restarts, rec.Jumping)
	}
}

func TestJumpingEndsWhenOneProcessStays(t *testing.T) {
	rec := newRecord(Endpoint{}, VMInsert)
	now := time.Now()
	for _, start := range []string{"100", "200", "100"} {
		rec.good(&Reading{Start: start, Ended: now}, time.Minute)
	}
	rec.good(&Reading{Start: "100", Ended: now.Add(jumpMemory - time.Second)}, time.Minute)
	if !rec.Jumping {
		t.Error("forgotten too soon")
	}
	rec.good(&Reading{Start: "100", Ended: now.Add(jumpMemory)}, time.Minute)
	if rec.Jumping {
		t.Error("not forgotten")
	}
}

func TestRowOfGoodPollsIsBroken(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	good := func(rec *record, s int, process string) {
		rec.good(&Reading{Start: process, Begun: at(s), Ended: at(s)}, 5*time.Second)
	}
	for name, test := range map[string]struct {
		then func(*record)
		want time.Time
	}{
		"by nothing":           {func(rec *record) { good(rec, 1, "1"); good(rec, 6, "1") }, at(0)},
		"by a failed poll":     {func(rec *record) { rec.failed(at(1), errors.New("x")); good(rec, 2, "1"); good(rec, 3, "1") }, at(2)},
		"by time between them": {func(rec *record) { good(rec, 6, "1"); good(rec, 7, "1") }, at(6)},
		"by a restart":         {func(rec *record) { good(rec, 1, "2"); good(rec, 2, "2") }, at(1)},
		"while it fails":       {func(rec *record) { rec.failed(at(1), errors.New("x")); rec.failed(at(2), errors.New("x")) }, time.Time{}},
	} {
		rec := newRecord(Endpoint{}, VMStorage)
		good(rec, 0, "1")
		test.then(rec)
		if !rec.AliveSince.Equal(test.want) {
			t.Errorf("%s: alive since %v, want %v", name, rec.AliveSince.Sub(start), test.want.Sub(start))
		}
		if rec.Err != nil && !rec.FailingSince.Equal(at(1)) {
			t.Errorf("%s: failing since %v", name, rec.FailingSince.Sub(start))
		}
	}
}

// servers answers polls in the place of real servers.
type servers struct {
	mu    sync.Mutex
	pages map[string]*Reading // by address; none fails
	polls map[string][]time.Time
	hangs map[string]bool
	fails map[string]error // what those without a page answer instead of nothing
}

func newServers() *servers {
	return &servers{pages: map[string]*Reading{}, polls: map[string][]time.Time{}, hangs: map[string]bool{}, fails: map[string]error{}}
}

func (s *servers) set(addr string, r *Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[addr] = r
}

func (s *servers) fail(addr string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages[addr], s.fails[addr] = nil, err
}

func (s *servers) hang(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hangs[addr] = true
}

func (s *servers) pollsOf(addr string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.polls[addr])
}

func (s *servers) read(ctx context.Context, ep Endpoint, _ Kind) (*Reading, error) {
	s.mu.Lock()
	s.polls[ep.Addr] = append(s.polls[ep.Addr], time.Now())
	page, hangs, fails := s.pages[ep.Addr], s.hangs[ep.Addr], s.fails[ep.Addr]
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if page == nil && fails != nil {
		return nil, fails
	}
	if page == nil {
		return nil, fmt.Errorf("nobody at %s", ep.Addr)
	}
	r := *page
	r.Begun, r.Ended = time.Now(), time.Now()
	return &r, nil
}

// watching runs a Watch over made-up servers for the length of a test.
func watching(t *testing.T, cfg WatchConfig, d *dns, s *servers, nodes ...string) (*Watch, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg.Read = s.read
	w := NewWatch(cfg, NewResolver(d, silent(), reg), nil, silent(), reg)
	w.SetNodes(endpoints(t, nodes...))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w, reg
}

func endpoints(t *testing.T, addrs ...string) []Endpoint {
	t.Helper()
	var list []Endpoint
	for _, addr := range addrs {
		list = append(list, Endpoint{Base: mustURL(t, "http://"+addr), Addr: addr})
	}
	return list
}

func vminsertPage(storages ...string) *Reading {
	r := &Reading{Start: "1", Paths: map[Path]Passage{}}
	for _, addr := range storages {
		r.Paths[Path{Addr: addr}] = Passage{}
	}
	return r
}

func TestStoragesAreThoseThatVMInsertNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dns{hosts: map[string][]string{"vmstorage-1": {"10.0.1.1", "10.0.1.2"}}}
		s := newServers()
		s.set("10.0.0.1:8480", vminsertPage("10.0.1.0:8400", "vmstorage-1:8400"))
		for _, addr := range []string{"10.0.1.0:8482", "10.0.1.1:8482"} {
			s.set(addr, &Reading{Start: "1"})
		}
		w, reg := watching(t, WatchConfig{}, d, s, "10.0.0.1:8480")
		time.Sleep(5 * time.Second)
		got := w.State().Storages
		for name, ok := range map[string]bool{"10.0.1.0:8482": true, "vmstorage-1/10.0.1.1:8482": true, "vmstorage-1/10.0.1.2:8482": false} {
			storage, listed := got[name]
			if !listed || storage.Polls < 2 || (storage.Err == nil) != ok || (storage.Last != nil) != ok {
				t.Errorf("%s: listed %v, %d polls, %v", name, listed, storage.Polls, storage.Err)
			}
		}
		if len(got) != 3 {
			t.Errorf("%d storages", len(got))
		}
		if up := counted(t, reg, "ingestgw_downstream_up"); up != 3 {
			t.Errorf("%v targets are up, want 3", up)
		}
	})
}

func TestStoragesAreThoseOfTheSettingWhenThereIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers()
		s.set("10.0.0.1:8480", vminsertPage("10.0.1.0:8400"))
		cfg := WatchConfig{StorageURLs: []*url.URL{mustURL(t, "http://10.0.2.0:9000")}}
		w, _ := watching(t, cfg, &dns{}, s, "10.0.0.1:8480")
		time.Sleep(5 * time.Second)
		if got := w.State().Storages; len(got) != 1 || got["10.0.2.0:9000"].Polls == 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestPollsAreFewerTheLargerThePage(t *testing.T) {
	for size, want := range map[int64]time.Duration{30e3: time.Second, 9e6: 32 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newServers()
			page := vminsertPage()
			page.Size = size
			s.set("10.0.0.1:8480", page)
			w, _ := watching(t, WatchConfig{Pollers: 2}, &dns{}, s, "10.0.0.1:8480")
			begun := time.Now()
			time.Sleep(20 * want)
			mean := time.Since(begun) / time.Duration(s.pollsOf("10.0.0.1:8480"))
			if mean < want*9/10 || mean > want*11/10 {
				t.Errorf("a page of %d bytes is polled every %s, want %s", size, mean, want)
			}
			if got := w.State().Nodes["10.0.0.1:8480"].Interval; got != want {
				t.Errorf("interval %s, want %s", got, want)
			}
		})
	}
}

func TestPollsAreFewerTheMoreServersThereAre(t *testing.T) {
	for servers, want := range map[int]time.Duration{18: time.Second, 100: 5400 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s := newServers()
			var addrs []string
			for i := range servers {
				addrs = append(addrs, fmt.Sprintf("10.0.0.%d:8480", i))
				s.set(addrs[i], vminsertPage())
			}
			watching(t, WatchConfig{Pollers: 1}, &dns{}, s, addrs...)
			begun := time.Now()
			time.Sleep(20 * want)
			polls := 0
			for _, addr := range addrs {
				polls += s.pollsOf(addr)
			}
			if mean := time.Since(begun) * time.Duration(servers) / time.Duration(polls); mean < want*9/10 || mean > want*11/10 {
				t.Errorf("each of %d servers is polled every %s, want %s", servers, mean, want)
			}
		})
	}
}

func TestServerThatFailsIsTriedAgainSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers()
		page := vminsertPage()
		page.Size = 90e6 // polled every few minutes when all is well
		s.set("10.0.0.1:8480", page)
		w, reg := watching(t, WatchConfig{Pollers: 1}, &dns{}, s, "10.0.0.1:8480")
		synctest.Wait()
		s.set("10.0.0.1:8480", nil)
		time.Sleep(8 * time.Minute)
		before := s.pollsOf("10.0.0.1:8480")
		node := w.State().Nodes["10.0.0.1:8480"]
		if node.Err == nil || node.Last == nil || node.FailingSince.IsZero() || !node.AliveSince.IsZero() {
			t.Errorf("got %+v", node)
		}
		time.Sleep(time.Minute)
		if n := s.pollsOf("10.0.0.1:8480") - before; n < 11 || n > 13 {
			t.Errorf("%d polls in a minute, want about 12", n)
		}
		if n := counted(t, reg, "ingestgw_downstream_poll_failures_total"); n < 12 {
			t.Errorf("%v failures counted", n)
		}
		s.set("10.0.0.1:8480", page)
		time.Sleep(6 * time.Second)
		if node := w.State().Nodes["10.0.0.1:8480"]; node.Err != nil || node.AliveSince.IsZero() || !node.FailingSince.IsZero() {
			t.Errorf("got %+v", node)
		}
	})
}

func TestServerThatMayHaveMadeAPageForNothingIsGivenTime(t *testing.T) {
	const addr = "10.0.0.1:8480"
	for name, test := range map[string]struct {
		err  error
		want time.Duration
	}{
		"refused":     {errors.New("connection refused"), maxPollInterval},
		"no answer":   {fmt.Errorf("%w: time-out", ErrNoAnswer), 16 * time.Second},
		"busy":        {fmt.Errorf("%w: answered 503", ErrBusy), 16 * time.Second},
		"not metrics": {fmt.Errorf("%w: answered 401", ErrUnusable), 16 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServers()
				page := vminsertPage()
				page.Size = 9e6 // polled every 32 s
				s.set(addr, page)
				w, _ := watching(t, WatchConfig{Pollers: 2}, &dns{}, s, addr)
				time.Sleep(time.Second)
				s.fail(addr, test.err)
				time.Sleep(2 * time.Minute)
				if got := w.State().Nodes[addr].Interval; got != test.want {
					t.Errorf("interval %s, want %s", got, test.want)
				}
				before := s.pollsOf(addr)
				time.Sleep(20 * test.want)
				if n := s.pollsOf(addr) - before; n < 18 || n > 22 {
					t.Errorf("%d polls in 20 times %s", n, test.want)
				}
			})
		})
	}
}

func TestLargePageMayTakeAsLongAsThereIsBetweenPolls(t *testing.T) {
	const addr = "10.0.0.1:8480"
	for size, want := range map[int64]time.Duration{30e3: insertTimeout, 9e6: 20850 * time.Millisecond, 90e6: 204900 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s := newServers()
			page := vminsertPage()
			page.Size = size
			s.set(addr, page)
			w, _ := watching(t, WatchConfig{Pollers: 1}, &dns{}, s, addr)
			time.Sleep(500 * time.Millisecond)
			s.hang(addr)
			for s.pollsOf(addr) < 2 {
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(want - time.Second)
			if node := w.State().Nodes[addr]; node.FailedPolls != 0 {
				t.Errorf("a page of %d bytes: given up after %s, want %s", size, want-time.Second, want)
			}
			time.Sleep(2 * time.Second)
			if node := w.State().Nodes[addr]; node.FailedPolls != 1 || !errors.Is(node.Err, context.DeadlineExceeded) {
				t.Errorf("a page of %d bytes: %d failed polls after %s, %v", size, node.FailedPolls, want+time.Second, node.Err)
			}
		})
	}
}

func TestHangingServerCostsOneTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers()
		s.hangs["10.0.1.0:8482"] = true
		cfg := WatchConfig{StorageURLs: []*url.URL{mustURL(t, "http://10.0.1.0:8482")}}
		w, _ := watching(t, cfg, &dns{}, s)
		time.Sleep(StorageTimeout + 500*time.Millisecond)
		storage := w.State().Storages["10.0.1.0:8482"]
		if !errors.Is(storage.Err, context.DeadlineExceeded) || storage.Polls != 1 {
			t.Errorf("%d polls, %v", storage.Polls, storage.Err)
		}
	})
}

func TestNodeOffTheListIsForgottenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers()
		s.set("10.0.0.1:8480", vminsertPage())
		s.set("10.0.0.2:8480", vminsertPage())
		w, reg := watching(t, WatchConfig{}, &dns{}, s, "10.0.0.1:8480", "10.0.0.2:8480")
		time.Sleep(3 * time.Second)
		w.SetNodes(endpoints(t, "10.0.0.2:8480"))
		if _, known := w.State().Nodes["10.0.0.1:8480"]; known {
			t.Error("still known")
		}
		synctest.Wait()
		before, kept := s.pollsOf("10.0.0.1:8480"), w.State().Nodes["10.0.0.2:8480"].Polls
		time.Sleep(10 * time.Second)
		if n := s.pollsOf("10.0.0.1:8480"); n != before {
			t.Errorf("polled %d times since", n-before)
		}
		if n := w.State().Nodes["10.0.0.2:8480"].Polls; n <= kept {
			t.Error("the other is not polled any more")
		}
		if up := counted(t, reg, "ingestgw_downstream_up"); up != 1 {
			t.Errorf("%v targets shown as up, want 1", up)
		}
	})
}

// A storage that a hiccup of DNS takes off the list may still hold rows in memory, and is the same process when it is back.
func TestStorageOffTheListIsWatchedWhileItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &dns{hosts: map[string][]string{"vm": {"10.0.1.0", "10.0.1.1"}}}
		s := newServers()
		s.set("10.0.1.0:8482", &Reading{Start: "1"})
		s.set("10.0.1.1:8482", &Reading{Start: "1"})
		cfg := WatchConfig{StorageURLs: []*url.URL{mustURL(t, "http://vm:8482")}}
		w, _ := watching(t, cfg, d, s)
		time.Sleep(time.Second)
		first := w.State().Storages["vm/10.0.1.0:8482"].Generation
		d.set(map[string][]string{"vm": {"10.0.1.1"}}, nil)
		time.Sleep(time.Minute)
		storage, known := w.State().Storages["vm/10.0.1.0:8482"]
		if !known || storage.Listed || storage.Err != nil || storage.Polls < 40 {
			t.Errorf("known %v, %+v", known, storage)
		}
		s.set("10.0.1.0:8482", nil)
		time.Sleep(2 * time.Second)
		if _, known := w.State().Storages["vm/10.0.1.0:8482"]; known {
			t.Error("still watched although it does not answer")
		}
		if n := len(w.State().Storages); n != 1 {
			t.Errorf("%d storages, want 1", n)
		}
		s.set("10.0.1.0:8482", &Reading{Start: "1"})
		d.set(map[string][]string{"vm": {"10.0.1.0", "10.0.1.1"}}, nil)
		time.Sleep(20 * time.Second)
		storages := w.State().Storages
		if again, other := storages["vm/10.0.1.0:8482"], storages["vm/10.0.1.1:8482"]; again.Generation <= max(first, other.Generation) {
			t.Errorf("generation %d, before %d: it was given up in between", again.Generation, first)
		}
	})
}
