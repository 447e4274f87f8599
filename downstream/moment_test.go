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
	return watchingWith(t, s.read, wall, cfg, nodes...)
}

func watchingWith(t *testing.T, read func(context.Context, Endpoint, Kind) (*Reading, error), wall func() time.Time, cfg WatchConfig, nodes ...string) *Watch {
	t.Helper()
	reg := prometheus.NewRegistry()
	cfg.Read = read
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
		{5, large, 64 * time.Second, 206 * time.Second, 0.0075},
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
		"sizes on both sides of one": {[2]int64{11.2e6, 11.6e6}, [2]time.Duration{32 * time.Second, 64 * time.Second}},
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
	for _, interval := range []time.Duration{16 * time.Second, 128 * time.Second} { // so many are polled no more often
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

// A renderer is a vminsert with a clock of its own that takes long to make a page and keeps it for CacheAge.
type renderer struct {
	ahead, takes time.Duration
	size         int64

	turn  chan struct{} // holds one while a page is made, which a mutex could not in simulated time
	made  time.Time
	pages int
	polls int
}

func (r *renderer) read(context.Context, Endpoint, Kind) (*Reading, error) {
	asked := time.Now()
	time.Sleep(time.Millisecond) // the way there
	r.turn <- struct{}{}
	r.polls++
	if time.Since(r.made) > CacheAge {
		time.Sleep(r.takes)
		r.made = time.Now()
		r.pages++
	}
	date := time.Now().Add(r.ahead).Truncate(dateStep)
	<-r.turn
	time.Sleep(time.Millisecond)
	page := pageOf(r.size)
	page.Begun, page.Ended = asked, time.Now()
	page.clock = told{true, date, asked, time.Now()}
	return page, nil
}

func (r *renderer) counts() (polls, pages int) {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	return r.polls, r.pages
}

// Whatever the clocks of processes say, a server that many of them watch makes few pages.
func TestManyProcessesWithWrongClocksShareAlmostEveryPage(t *testing.T) {
	const processes, size = 30, 18e6
	every := (&Watch{cfg: WatchConfig{Pollers: processes}}).interval(&Reading{Size: size})
	for name, off := range map[string]func(*rand.Rand) time.Duration{
		"right":                 func(*rand.Rand) time.Duration { return 0 },
		"a few milliseconds":    func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(20)-10) * time.Millisecond },
		"less than a second":    func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(1800)-900) * time.Millisecond },
		"some seconds":          func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(20000)-10000) * time.Millisecond },
		"hours":                 func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(20)-10)*time.Hour + 700*time.Millisecond },
		"half of them a second": func(r *rand.Rand) time.Duration { return time.Duration(r.IntN(2)) * time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(7, 8))
				server := &renderer{ahead: 3*time.Hour + 340*time.Millisecond, takes: 400 * time.Millisecond, size: size, turn: make(chan struct{}, 1)}
				for range processes {
					wrong := off(random)
					watchingWith(t, server.read, func() time.Time { return time.Now().Add(wrong) }, WatchConfig{Pollers: processes}, "10.0.0.1:8480")
					time.Sleep(time.Duration(random.IntN(10000)) * time.Millisecond)
				}
				time.Sleep(20 * every) // to learn
				pollsBefore, pagesBefore := server.counts()
				const moments = 50
				time.Sleep(moments * every)
				polls, pages := server.counts()
				if polls -= pollsBefore; polls < processes*moments*9/10 || polls > processes*(moments+1) {
					t.Errorf("%d polls, want about %d", polls, processes*moments)
				}
				if pages -= pagesBefore; float64(pages) > pagesPerMoment*moments {
					t.Errorf("%d pages at %d moments", pages, moments)
				}
			})
		})
	}
}

// A server's clock that is put right is learnt anew.
func TestAServersClockIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c serverClock
		ahead := 5400 * time.Millisecond
		ask := func() {
			now := time.Now()
			time.Sleep(5 * time.Millisecond)
			date := time.Now().Add(ahead).Truncate(dateStep)
			time.Sleep(5 * time.Millisecond)
			c.learn(told{true, date, now, time.Now()})
			next := c.at(time.Now(), time.Now())
			time.Sleep(untilMoment(next, 0, 16*time.Second, 8*time.Second))
		}
		wrongBy := func() time.Duration {
			now := time.Now()
			return c.at(now, now).Sub(now.Add(ahead)).Abs()
		}
		for range 12 {
			ask()
		}
		if wrong := wrongBy(); wrong > 30*time.Millisecond {
			t.Errorf("wrong by %s", wrong)
		}
		ahead = -2 * time.Hour
		for range 12 {
			ask()
		}
		if wrong := wrongBy(); wrong > 30*time.Millisecond {
			t.Errorf("after a jump: wrong by %s", wrong)
		}
		for range 200 { // it runs fast
			ahead += 2 * time.Millisecond
			ask()
		}
		if wrong := wrongBy(); wrong > 50*time.Millisecond {
			t.Errorf("with a clock that runs fast: wrong by %s", wrong)
		}
		c.learn(told{})
		if c.last.IsZero() {
			t.Error("an answer without a Date has changed something")
		}
	})
}
