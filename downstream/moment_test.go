package downstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pageOf is a vminsert's page of so many bytes.
func pageOf(size int64) *Reading {
	page := vminsertPage()
	page.Size = size
	return page
}

// watchingBy is watching with another wall clock.
func watchingBy(t *testing.T, wall func() time.Time, cfg WatchConfig, s *servers, nodes ...string) *Watch {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg.Read = s.read
	w := NewWatch(cfg, NewResolver(&dns{}, silent(), reg), nil, silent(), reg)
	w.wall = wall
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
	return w
}

func (s *servers) timesOf(addr string) []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.polls[addr])
}

// What is polled how often where there are very many tenants, and what it was when each process had a page of its own, 5 % more or less.
func TestManyPollersPollLessOftenByLittle(t *testing.T) {
	const small, large = 30e3, 18e6 // 18 MB: 200,000 tenants
	for _, test := range []struct {
		pollers          int
		size             int64
		want, ownPages   time.Duration
		shareOfACoreMost float64 // of the vminsert, if clocks agree
	}{
		{1, small, time.Second, time.Second, 0.005},
		{2, small, time.Second, time.Second, 0.006},
		{5, small, time.Second, 2300 * time.Millisecond, 0.007},
		{30, small, 2 * time.Second, 14 * time.Second, 0.007},
		{1, large, 41300 * time.Millisecond, 41300 * time.Millisecond, 0.01},
		{2, large, 64 * time.Second, 82600 * time.Millisecond, 0.007},
		{5, large, 128 * time.Second, 206 * time.Second, 0.004},
		{30, large, 128 * time.Second, 1239 * time.Second, 0.006},
	} {
		w := &Watch{cfg: WatchConfig{Pollers: test.pollers}}
		if got := w.interval(&Reading{Size: test.size}); got != test.want {
			t.Errorf("%d pollers of %d bytes: every %s, want %s", test.pollers, test.size, got, test.want)
		}
		one, more := costOfMoment(test.size, 1), costOfMoment(test.size, test.pollers+1)-costOfMoment(test.size, max(2, test.pollers))
		agreed := one + time.Duration(test.pollers-1)*more
		if share := agreed.Seconds() / test.want.Seconds(); share > test.shareOfACoreMost {
			t.Errorf("%d pollers of %d bytes cost %.4f of a core", test.pollers, test.size, share)
		}
		if before := costShare * one * time.Duration(test.pollers); max(before, time.Second) < test.ownPages*19/20 || before > test.ownPages*21/20 {
			t.Errorf("%d pollers of %d bytes with pages of their own: every %s, want %s", test.pollers, test.size, before, test.ownPages)
		}
	}
}

func TestIntervalsArePowersOfTwoUpToTheLongest(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		-1: time.Second, 0: time.Second, time.Second: time.Second, time.Second + 1: 2 * time.Second, 33 * time.Second: 64 * time.Second,
		maxInterval: maxInterval, maxInterval + 1: maxInterval, 1<<63 - 1: maxInterval,
	} {
		if got := roundUp(d); got != want {
			t.Errorf("%s is made %s, want %s", d, got, want)
		}
	}
}

func TestProcessesPollAtTheSameMoments(t *testing.T) {
	const addr = "10.0.0.1:8480"
	for name, test := range map[string]struct {
		sizes [2]int64
		every [2]time.Duration
	}{
		"the same page":              {[2]int64{14e6, 14e6}, [2]time.Duration{64 * time.Second, 64 * time.Second}},
		"pages of about the size":    {[2]int64{13e6, 15e6}, [2]time.Duration{64 * time.Second, 64 * time.Second}},
		"sizes on both sides of one": {[2]int64{9e6, 9.3e6}, [2]time.Duration{32 * time.Second, 64 * time.Second}},
		"small pages":                {[2]int64{30e3, 31e3}, [2]time.Duration{time.Second, time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all [2]*servers
				for i, size := range test.sizes {
					time.Sleep(17300 * time.Millisecond)
					all[i] = newServers()
					all[i].set(addr, pageOf(size))
					watching(t, WatchConfig{Pollers: 2}, &dns{}, all[i], addr)
				}
				time.Sleep(15 * time.Minute)
				often, seldom := all[0].timesOf(addr)[1:], all[1].timesOf(addr)[1:]
				for i, list := range [][]time.Time{often, seldom} {
					if gap := list[2].Sub(list[1]); gap != test.every[i] {
						t.Errorf("process %d polls every %s, want %s", i, gap, test.every[i])
					}
				}
				for _, at := range seldom {
					if !slices.ContainsFunc(often, at.Equal) {
						t.Fatalf("one polls at %s, and the other does not", at)
					}
				}
			})
		})
	}
}

// A server that does not answer in time may have made a page all the same.
func TestProcessesWhosePollsAreNotAnsweredPollAtTheSameMoments(t *testing.T) {
	const addr = "10.0.0.1:8480"
	synctest.Test(t, func(t *testing.T) {
		var all [2]*servers
		for i := range all {
			all[i] = newServers()
			all[i].set(addr, pageOf(14e6)) // polled every 64 s
			watching(t, WatchConfig{Pollers: 2}, &dns{}, all[i], addr)
			time.Sleep(17300 * time.Millisecond)
		}
		time.Sleep(5 * time.Minute)
		from := all[0].pollsOf(addr)
		for _, s := range all {
			s.fail(addr, ErrNoAnswer)
		}
		time.Sleep(10 * time.Minute)
		times, other := all[0].timesOf(addr)[from:], all[1].timesOf(addr)
		if len(times) < 18 || len(times) > 20 {
			t.Errorf("%d polls in 10 minutes, want one each 32 s", len(times))
		}
		for _, at := range times {
			if !slices.ContainsFunc(other, at.Equal) {
				t.Fatalf("one polls at %s, and the other does not", at)
			}
		}
	})
}

func TestServersAreNotPolledAllAtOnce(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 128 * time.Second} {
		var parts [4]int
		for i := range 100 {
			server := fmt.Sprintf("vminsert-%d.vminsert.monitoring.svc/10.0.%d.7:8480", i, i)
			parts[4*(offsetOf(server)%interval)/interval]++
		}
		if slices.Min(parts[:]) < 10 {
			t.Errorf("of 100 servers %v are polled in the quarters of %s", parts, interval)
		}
	}
}

func TestClockThatJumpsNeitherStopsPollingNorMakesItBusy(t *testing.T) {
	const addr, every = "10.0.0.1:8480", 64 * time.Second
	random := rand.New(rand.NewPCG(1, 2))
	for name, wall := range map[string]func() time.Time{
		"at random":      func() time.Time { return time.Unix(0, int64(random.Uint64())) },
		"back and forth": func() time.Time { return time.Now().Add(time.Duration(random.IntN(7200)-3600) * time.Second) },
		"stands still":   func() time.Time { return time.Unix(1e9, 0) },
		"runs backwards": func() time.Time { return time.Unix(1e9, 0).Add(-time.Duration(time.Now().UnixNano() % 1e18)) },
		"knows no time":  func() time.Time { return time.Time{} },
		"a second ahead": func() time.Time { return time.Now().Add(time.Second) },
		"long after":     func() time.Time { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServers()
				s.set(addr, pageOf(14e6))
				w := watchingBy(t, wall, WatchConfig{Pollers: 2}, s, addr)
				for range 3600 {
					w.Hurry(endpoints(t, addr)[0])
					time.Sleep(time.Second)
				}
				usual := 0
				times := s.timesOf(addr)
				for i := range len(times) - 1 {
					gap := times[i+1].Sub(times[i])
					if gap < hurryInterval*7/8 || gap > 2*every {
						t.Errorf("polls are %s apart", gap)
					}
					if gap >= every*7/8 {
						usual++
					}
				}
				if usual < 20 { // of some 50 minutes without hurry
					t.Errorf("%d polls at the usual pace, %d in all", usual, len(times))
				}
			})
		})
	}
}

func TestServerThatAnswersSlowlyIsGivenTime(t *testing.T) {
	begun := time.Unix(1000, 0)
	for took, want := range map[time.Duration]time.Duration{
		10 * time.Millisecond:   time.Second,
		500 * time.Millisecond:  time.Second,
		501 * time.Millisecond:  2 * time.Second,
		2300 * time.Millisecond: 3 * time.Second,
		2700 * time.Millisecond: 4 * time.Second,
	} {
		ended := begun.Add(took)
		last := turn{begun: begun, ended: ended, usual: time.Second}
		if got := last.next(ended, ended, 0).Sub(begun); got != want {
			t.Errorf("after a poll of %s the next one is %s after it began, want %s", took, got, want)
		}
	}
}

// Settling allows for a storage that stands still between two polls, of any that the row of good polls is made of.
func TestIntervalOfAStorageIsTheLongestOfTheRow(t *testing.T) {
	reg := prometheus.NewRegistry()
	w := NewWatch(WatchConfig{Pollers: 1}, nil, nil, silent(), reg)
	now := time.Now()
	for _, test := range []struct {
		kind Kind
		want []time.Duration
	}{
		{VMStorage, []time.Duration{8 * time.Second, 8 * time.Second, time.Second, 2 * time.Second, 2 * time.Second}},
		{VMInsert, []time.Duration{8 * time.Second, 2 * time.Second, time.Second, 2 * time.Second, time.Second}},
	} {
		rec := w.newRecord(endpoints(t, "10.0.1.0:8482")[0], test.kind)
		rec.Listed = true
		for i, interval := range []time.Duration{8 * time.Second, 2 * time.Second, time.Second, 2 * time.Second, time.Second} {
			now = now.Add(time.Second)
			start := "1"
			if i >= 2 { // it has restarted, which ends the row
				start = "2"
			}
			w.note(rec, now, &Reading{Start: start, Begun: now, Ended: now}, nil, time.Second, interval)
			if rec.Interval != test.want[i] {
				t.Errorf("%s: interval %s after poll %d, want %s", test.kind, rec.Interval, i, test.want[i])
			}
		}
	}
}
