package limit

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// A fleet is processes that tell each other of a tenant, in simulated time.
type fleet struct {
	t        testing.TB
	rnd      *rand.Rand
	began    time.Time
	now      time.Duration
	profile  *tenant.Profile
	receives []*receiver
	onTheWay []letter
	unsteady bool // messages are lost, doubled, late, and out of order
}

type receiver struct {
	*Registry
	*speaker
	ear    *ear
	tenant *Tenant
	next   time.Duration // when it tells the others
	got    sent
}

type letter struct {
	at    time.Duration
	value []byte
}

const step = 100 * time.Millisecond

func newFleet(t testing.TB, seed uint64, profile *tenant.Profile, n int) *fleet {
	f := &fleet{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), began: time.Now(), profile: profile}
	for range n {
		f.join()
	}
	f.pass(30*time.Second, nil) // they get to know each other
	return f
}

func (f *fleet) join() *receiver {
	r := New(testConfig(), quiet, nil)
	r.started = f.began
	r.sharing.Store(true)
	one := &receiver{Registry: r, speaker: newSpeaker("receiver"), next: f.now + f.any(2*time.Second)}
	one.ear = newEar(r, one.speaker)
	f.receives = append(f.receives, one)
	return one
}

// leave stops one receiver, and returns it.
func (f *fleet) leave() *receiver {
	i := f.rnd.IntN(len(f.receives))
	one := f.receives[i]
	f.receives = append(f.receives[:i], f.receives[i+1:]...)
	return one
}

func (f *fleet) any(most time.Duration) time.Duration {
	return time.Duration(f.rnd.Int64N(int64(most)))
}

func (f *fleet) one() *receiver { return f.receives[f.rnd.IntN(len(f.receives))] }

func (f *fleet) time() time.Time { return f.began.Add(f.now) }

// send sends samples to a receiver.
func (f *fleet) send(to *receiver, n int) Verdict {
	if to.tenant == nil {
		to.tenant = to.Tenant(f.profile)
	}
	return to.got.send(to.tenant, f.time(), n, false)
}

// pass lets time pass. each is called for each step.
func (f *fleet) pass(d time.Duration, each func()) {
	for end := f.now + d; f.now < end; f.now += step {
		if each != nil {
			each()
		}
		for _, r := range f.receives {
			if f.now >= r.next {
				r.next += 2 * time.Second
				f.tell(r)
			}
		}
		f.deliver()
	}
}

func (f *fleet) tell(r *receiver) {
	messages := r.tell(r.takeBusy())
	if len(messages) == 0 {
		messages = [][]byte{r.greet()}
	}
	for _, m := range messages {
		copies := 1
		if f.unsteady {
			copies = f.rnd.IntN(3)
		}
		for range copies {
			late := f.any(500 * time.Millisecond)
			if f.unsteady {
				late = f.any(10 * time.Second)
			}
			f.onTheWay = append(f.onTheWay, letter{f.now + late, m})
		}
	}
}

func (f *fleet) deliver() {
	rest := f.onTheWay[:0]
	for _, l := range f.onTheWay {
		if l.at > f.now {
			rest = append(rest, l)
			continue
		}
		for _, r := range f.receives {
			r.ear.hear(f.time(), l.value)
		}
	}
	f.onTheWay = rest
}

// got is what the receivers took and refused.
func (f *fleet) got() (all sent) {
	for _, r := range f.receives {
		all.main += r.got.main
		all.bulk += r.got.bulk
		all.refused += r.got.refused
	}
	return all
}

func TestAFloodOverAllReceiversGetsTheLimitOnce(t *testing.T) {
	const perSecond, burst, hardLimit, n = 1000, 15_000, 2000, 30
	f := newFleet(t, 1, onPlan(samples(t, perSecond, burst, hardLimit)), n)
	flood := func() {
		for _, r := range f.receives {
			f.send(r, 20*perSecond/n/10)
		}
	}
	f.pass(time.Minute, flood)
	first := f.got()
	// Before they know of each other, each takes a burst, and its rate for an interval and the way of a message.
	if most := n*(burst+3*perSecond) + 61*perSecond; first.main > most {
		t.Errorf("in the first minute: %+v, want at most %d in main", first, most)
	}
	t.Logf("first minute: %+v, the limit is %d in main, %d in all", first, 60*perSecond, 60*hardLimit)
	before := first
	for range 5 {
		f.pass(time.Minute, flood)
		now := f.got()
		main, all := now.main-before.main, now.main+now.bulk-before.main-before.bulk
		t.Logf("a minute: %d in main, %d in all", main, all)
		if !near(main, 60*perSecond, 0.1) || !near(all, 60*hardLimit, 0.1) {
			t.Errorf("within a minute %d in main, %d in all; want %d and %d", main, all, 60*perSecond, 60*hardLimit)
		}
		before = now
	}
}

func TestATenantWithinItsLimitIsNeverRefusedHoweverManyReceiversThereAre(t *testing.T) {
	const perSecond, burst = 1000, 15_000
	ways := map[string]func(f *fleet, to **receiver){
		"one connection, steadily": func(f *fleet, to **receiver) { f.send(*to, perSecond/10) },
		"one connection, a scrape every 15 s": func(f *fleet, to **receiver) {
			if f.now%(15*time.Second) == 0 {
				f.send(*to, 14*perSecond)
			}
		},
		"many connections": func(f *fleet, _ **receiver) {
			for range 10 {
				f.send(f.one(), perSecond/100)
			}
		},
		"many connections, a scrape every 15 s": func(f *fleet, _ **receiver) {
			if f.now%(15*time.Second) == 0 {
				for range 28 {
					f.send(f.one(), perSecond/2)
				}
			}
		},
		"a connection that moves every 10 s": func(f *fleet, to **receiver) {
			if f.now%(10*time.Second) == 0 {
				*to = f.one()
			}
			f.send(*to, perSecond/10)
		},
		"after a pause, all at once": func(f *fleet, _ **receiver) {
			if f.now%(20*time.Second) == 0 {
				f.send(f.one(), burst)
			}
		},
	}
	for name, way := range ways {
		for _, n := range []int{1, 2, 30} {
			for _, scaling := range []bool{false, true} {
				f := newFleet(t, uint64(n), onPlan(samples(t, perSecond, burst, perSecond)), n)
				to := f.one()
				var left sent
				each := func() {
					if scaling && f.rnd.IntN(50) == 0 && len(f.receives) < 40 {
						f.join()
					}
					if scaling && f.rnd.IntN(50) == 0 && len(f.receives) > 1 {
						gone := f.leave()
						left.main += gone.got.main
						left.bulk += gone.got.bulk
						left.refused += gone.got.refused
						if gone == to {
							to = f.one()
						}
					}
					way(f, &to)
				}
				f.pass(4*time.Minute, each)
				got := f.got()
				if got.refused+left.refused > 0 || got.bulk+left.bulk > 0 || got.main+left.main < 4*60*perSecond*2/3 {
					t.Errorf("%s, %d receivers, scaling %v: %+v and, where receivers left, %+v", name, n, scaling, got, left)
				}
			}
		}
	}
}

func TestABurstAtOneReceiverAndTheRestAtAnotherAreTaken(t *testing.T) {
	const perSecond, burst = 1000, 15_000
	for seed := range uint64(50) {
		f := newFleet(t, seed, onPlan(samples(t, perSecond, burst, perSecond)), 2)
		f.send(f.receives[1], 1)
		f.pass(30*time.Second, nil)
		f.send(f.receives[0], burst)
		wait := time.Duration(1+seed%5) * time.Second
		f.pass(wait, nil)
		f.send(f.receives[1], int(wait.Seconds()*perSecond)*95/100)
		f.pass(time.Minute, func() { f.send(f.receives[1], perSecond/10) })
		if got := f.got(); got.refused > 0 || got.bulk > 0 {
			t.Errorf("seed %d, the rest after %v: %+v", seed, wait, got)
		}
	}
}

// A true bucket says what is within the limit, whoever receives it.
func TestWhateverIsWithinTheLimitIsTaken(t *testing.T) {
	const perSecond, burst = 1000, 15_000
	for seed := range uint64(30) {
		f := newFleet(t, seed, onPlan(samples(t, perSecond, burst, perSecond)), 1+int(seed%30))
		level, most, chance, moves, to := float64(burst), 1+f.rnd.IntN(burst), 2+f.rnd.IntN(300), f.rnd.IntN(20), f.one()
		f.pass(5*time.Minute, func() {
			level = min(burst, level+perSecond*step.Seconds())
			for f.rnd.IntN(chance) == 0 {
				if f.rnd.IntN(1+moves) == 0 {
					to = f.one()
				}
				if n := 1 + f.rnd.IntN(most); float64(n) <= level {
					level -= float64(n)
					f.send(to, n)
				}
			}
		})
		if got := f.got(); got.refused > 0 || got.bulk > 0 || got.main == 0 {
			t.Errorf("seed %d: up to %d samples, 1 in %d, on %d receivers: %+v", seed, most, chance, len(f.receives), got)
		}
	}
}

func TestMessagesThatAreLostDoubledLateOrOutOfOrderRefuseNobody(t *testing.T) {
	const perSecond = 1000
	for seed := range uint64(4) {
		f := newFleet(t, seed, onPlan(samples(t, perSecond, 15*perSecond, perSecond)), 10)
		f.unsteady = true
		f.pass(10*time.Minute, func() { f.send(f.one(), perSecond/10*9/10) })
		if got := f.got(); got.refused > 0 || got.bulk > 0 {
			t.Errorf("seed %d: %+v", seed, got)
		}
		before := f.got()
		f.pass(10*time.Minute, func() { f.send(f.one(), perSecond) }) // ten times the limit
		got := f.got()
		if taken := got.main + got.bulk - before.main - before.bulk; taken < 9*60*perSecond || taken > 15*60*perSecond+10*18*perSecond {
			t.Errorf("seed %d: a flood got %d of %d", seed, taken, 10*60*perSecond)
		}
	}
}

func TestEachReceiverGetsItsPartOfAFlood(t *testing.T) {
	const perSecond, burst = 1000, 15_000
	f := newFleet(t, 1, onPlan(samples(t, perSecond, burst, perSecond)), 4)
	flood := func() {
		f.send(f.receives[0], perSecond) // ten times the limit
		for _, r := range f.receives[1:3] {
			f.send(r, perSecond/10*5/2) // two and a half times
		}
	}
	f.pass(5*time.Minute, flood)
	var before []int
	for _, r := range f.receives {
		before = append(before, r.got.main)
		r.got = sent{}
	}
	f.pass(5*time.Minute, flood)
	for i, part := range []float64{10. / 15, 2.5 / 15, 2.5 / 15, 0} {
		if got := f.receives[i].got.main; !near(got, int(5*60*perSecond*part), 0.1) {
			t.Errorf("receiver %d, which has %.2f of the flood, has taken %d of %d (%d before)", i, part, got, 5*60*perSecond, before[i])
		}
	}
}

func TestATenantThatKeepsToItsLimitAfterAFloodIsTakenSoon(t *testing.T) {
	const perSecond, burst = 1000, 15_000
	f := newFleet(t, 1, onPlan(samples(t, perSecond, burst, perSecond)), 30)
	f.pass(2*time.Minute, func() {
		for _, r := range f.receives {
			f.send(r, 20*perSecond/30/10)
		}
	})
	calm := func() { f.send(f.receives[3], perSecond/10*9/10) }
	f.pass(time.Minute, calm)
	f.receives[3].got = sent{}
	f.pass(5*time.Minute, calm)
	if got := f.receives[3].got; got.refused > 0 {
		t.Errorf("a minute after a flood of 20 times the limit: %+v", got)
	}
}

func TestFloodsWithPausesGetNoMoreThanTheLimitInTheLongRun(t *testing.T) {
	const perSecond, burst, n, long = 1000, 15_000, 30, 20 * time.Minute
	for _, pause := range []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute} {
		f := newFleet(t, 1, onPlan(samples(t, perSecond, burst, perSecond)), n)
		period := 20*time.Second + pause
		rounds := int(long / period)
		for range rounds {
			f.pass(20*time.Second, func() {
				for _, r := range f.receives {
					f.send(r, 20*perSecond/n/10)
				}
			})
			f.pass(pause, nil)
		}
		got, most := f.got(), int(long.Seconds())*perSecond*11/10+n*(burst+3*perSecond)
		t.Logf("pauses of %v: %+v, the limit is %d", pause, got, int(long.Seconds())*perSecond)
		if got.main+got.bulk > most {
			t.Errorf("pauses of %v: %+v, want at most %d", pause, got, most)
		}
	}
}

func TestSeriesThatAreActiveElsewhereGoOnHereAndCount(t *testing.T) {
	const limit = 1000
	f := newFleet(t, 1, onPlan(seriesPlan(limit)), 3)
	for _, r := range f.receives {
		r.tenant = r.Tenant(f.profile)
	}
	a, b := f.receives[0].tenant, f.receives[1].tenant
	for i := range limit {
		if !a.Series(hashOf(i), f.time()) {
			t.Fatalf("series %d is refused", i)
		}
	}
	f.pass(10*time.Second, nil)
	taken := 0
	for i := range 2 * limit {
		if b.Series(hashOf(limit+i), f.time()) {
			taken++
		}
	}
	f.pass(10*time.Second, nil)
	if taken > limit/2 {
		t.Errorf("elsewhere %d series are taken, when %d of %d are active", taken, limit, limit)
	}
	for round := range 40 { // three hours and a half: whoever tells of them tells anew
		for i := range limit {
			a.Series(hashOf(i), f.time())
			if round > retellEpochs && !b.Series(hashOf(i), f.time()) {
				t.Fatalf("round %d: series %d goes on at one receiver and is refused at the other", round, i)
			}
		}
		f.pass(5*time.Minute, nil)
	}
	if n := f.receives[2].tenant.table.count; n != limit {
		t.Errorf("the receiver to which nothing is sent counts %d series, want %d", n, limit)
	}
}

func TestHearingMakesNoStateAndBoundsWhatItAdds(t *testing.T) {
	r, c := newRegistry()
	me, other := newSpeaker("me"), newSpeaker("other")
	e := newEar(r, me)
	e.hear(c.now, other.greet())
	hostile := func() []byte {
		b := other.greet()
		all := use{}
		for k := range kinds {
			all.main[k], all.bulk[k], all.refused[k] = 1<<32-1, 1<<32-1, 1<<32-1
		}
		var news []fingerprint
		for i := range 100_000 {
			news = append(news, fingerprintOf(hashOf(i)))
		}
		return appendEntry(b, acme, all, news)
	}
	e.hear(c.now, hostile())
	if r.find(acme) != nil {
		t.Fatal("a message has made state for a tenant that does not send here")
	}
	plan := samples(t, 1000, 15_000, 1000)
	plan.ActiveSeries = 1000
	te := r.Tenant(onPlan(plan))
	for range 100 {
		e.hear(c.now, hostile())
	}
	if n := te.table.count; n > 2000 {
		t.Errorf("%d series of messages are kept for a tenant with a limit of 1000", n)
	}
	var s sent
	for range 10 * 60 * 10 { // what was said costs ten minutes at most
		c.pass(100 * time.Millisecond)
		s.send(te, c.now, 100, false)
	}
	if s.refused == 0 || s.main < 5*60*1000 {
		t.Errorf("%+v in ten minutes", s)
	}
	s = sent{}
	for range 600 {
		c.pass(100 * time.Millisecond)
		s.send(te, c.now, 100, false)
	}
	if s.refused > 0 {
		t.Errorf("%+v in the eleventh minute", s)
	}
}

func TestMessagesThatSayNothingNewChangeNothing(t *testing.T) {
	r, c := newRegistry()
	te := r.Tenant(onPlan(samples(t, 1000, 15_000, 1000)))
	me, other, third := newSpeaker("me"), newSpeaker("other"), newSpeaker("third")
	e := newEar(r, me)
	of := func(s *speaker, n uint32) []byte {
		return appendEntry(s.greet(), acme, use{main: [kinds]uint32{n}}, nil)
	}
	wants := func(what string, value []byte, result string, theirs float64) {
		t.Helper()
		if got := e.take(c.now, value); got != result {
			t.Errorf("%s: %s, want %s", what, got, result)
		}
		if got := te.theirs(); got != theirs {
			t.Errorf("%s: %v of the others are counted, want %v", what, got, theirs)
		}
	}
	wants("our own", of(me, 1), "own", 0)
	wants("the first of another process", of(other, 1), "first", 0)
	second, next, last := of(other, 2), of(other, 4), of(other, 8)
	wants("its second", second, "taken", 2)
	wants("its second again", second, "again", 2)
	wants("its fourth", last, "taken", 10)
	wants("its third, late", next, "taken", 14)
	wants("its third again", next, "again", 14)
	wants("the second once more", second, "again", 14)
	for range 100 {
		e.take(c.now, third.greet())
	}
	wants("of a newer version", append([]byte{2}, last[1:]...), "newer", 14)
	wants("cut", last[:len(last)-1], "malformed", 14)
	wants("nothing", nil, "malformed", 14)
	other.seq += 1000
	wants("after a gap", of(other, 16), "taken", 30)
	wants("before the gap", last, "again", 30)
}

func (t *Tenant) theirs() float64 {
	if t.others == nil {
		return 0
	}
	return t.others.theirs[Samples]
}
