package forward

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// A witness is evidence that is shown states made by hand.
type witness struct {
	*evidence
	now   time.Time
	state downstream.State
}

func newWitness() *witness {
	now := time.Now()
	w := &witness{
		evidence: newEvidence(SettleConfig{Settle: 30 * time.Second, SettleMode: settleAuto, LostAfter: time.Minute}, now),
		now:      now,
		state:    downstream.State{Nodes: map[string]downstream.Target{}, Storages: map[string]downstream.Target{}},
	}
	w.state.Nodes["n"] = w.target("n", 0)
	w.state.Storages["a"] = w.target("a", 0)
	w.state.Storages["b"] = w.target("b", 0)
	return w
}

// target answered well until so long ago, for an hour.
func (w *witness) target(name string, ago time.Duration) downstream.Target {
	at := w.now.Add(-ago)
	return downstream.Target{
		Endpoint: downstream.Endpoint{Base: &url.URL{Scheme: "http", Host: name}, Addr: name}, Polls: 100, AliveSince: at.Add(-time.Hour), Interval: time.Second,
		Last: &downstream.Reading{Begun: at, Ended: at, Flags: map[string]string{"inmemoryDataFlushInterval": "5s"}},
	}
}

func (w *witness) look() { w.update(w.state, w.now) }

func TestStoragesAreSeenUntilTheEarliestOfTheirLastPolls(t *testing.T) {
	w := newWitness()
	w.state.Storages["b"] = w.target("b", 3*time.Second)
	w.look()
	if ago := w.now.Sub(w.seen); ago != 3*time.Second {
		t.Errorf("seen until %s ago, want 3s", ago)
	}
}

func TestStoragesAreUnbrokenSinceTheLatestOfTheirGaps(t *testing.T) {
	w := newWitness()
	b := w.target("b", 0)
	b.AliveSince = w.now.Add(-20 * time.Second)
	w.state.Storages["b"] = b
	w.look()
	if ago := w.now.Sub(w.unbroken); ago != 20*time.Second {
		t.Errorf("unbroken for %s, want 20s", ago)
	}
	b.Err, b.FailingSince = errors.New("x"), w.now
	w.state.Storages["b"] = b
	w.look()
	if !w.unbroken.Equal(w.now) {
		t.Errorf("unbroken for %s in the middle of a gap", w.now.Sub(w.unbroken))
	}
}

func TestNoStorageSeenMeansNothingIsOnDisk(t *testing.T) {
	w := newWitness()
	clear(w.state.Storages)
	w.look()
	if onDisk(w.now.Add(-time.Hour), w.unbroken, w.seen, w.settle) {
		t.Error("on the disk of nobody")
	}
}

func TestStorageThatVanishesChangesTheEpoch(t *testing.T) {
	w := newWitness()
	w.look()
	before := w.storageEpoch
	delete(w.state.Storages, "b")
	w.look()
	if w.storageEpoch == before || w.storageCause != storageGone || !w.lastRestart.Equal(w.now) {
		t.Errorf("epoch %d, before %d, cause %s", w.storageEpoch, before, w.storageCause)
	}
	before = w.storageEpoch
	w.look()
	if w.storageEpoch != before {
		t.Error("the epoch changed again without cause")
	}
}

func TestStorageThatWasLostAndVanishesIsLostOnce(t *testing.T) {
	w := newWitness()
	w.look()
	b := w.target("b", 2*time.Minute)
	b.Err, b.FailingSince, b.FailedPolls = errors.New("x"), w.now.Add(-time.Minute), 12
	w.state.Storages["b"] = b
	w.look()
	before := w.storageEpoch
	delete(w.state.Storages, "b")
	w.look()
	if w.storageEpoch != before {
		t.Error("lost twice")
	}
}

// While nobody looks, a storage can be given up and be watched anew.
func TestStorageThatIsWatchedAnewChangesTheEpoch(t *testing.T) {
	w := newWitness()
	w.look()
	before := w.storageEpoch
	anew := downstream.Target{Endpoint: w.state.Storages["b"].Endpoint, Generation: 1, Interval: time.Second}
	w.state.Storages["b"] = anew
	w.look()
	if w.storageEpoch == before || w.storageCause != storageGone {
		t.Errorf("epoch %d, before %d, cause %s: what it held may be lost", w.storageEpoch, before, w.storageCause)
	}
	before = w.storageEpoch
	anew = w.target("b", 0)
	anew.Generation = 2
	w.state.Storages["b"] = anew
	w.look()
	if w.storageEpoch == before || w.storageCause != storageAppeared {
		t.Errorf("epoch %d, before %d, cause %s", w.storageEpoch, before, w.storageCause)
	}
	before = w.storageEpoch
	anew.Generation = 3
	w.state.Storages["b"] = anew
	w.look()
	if w.storageEpoch != before+2 {
		t.Errorf("epoch %d, before %d: want it gone and another one appeared", w.storageEpoch, before)
	}
}

func TestVMInsertThatIsWatchedAnewIsAnotherOne(t *testing.T) {
	w := newWitness()
	w.look()
	before, _ := w.ticket("n")
	n := w.target("n", 0)
	n.Generation = 1
	w.state.Nodes["n"] = n
	w.look()
	if after, ok := w.ticket("n"); !ok || after.epoch == before.epoch {
		t.Errorf("epoch %d, before %d", after.epoch, before.epoch)
	}
}

// vminsert reaches a and b; c is another cluster's, or a second address of a.
func TestStoragesAreComparedHostByHost(t *testing.T) {
	for name, test := range map[string]struct {
		sick    func(w *witness)
		covered bool
	}{
		"all seen":                 {func(*witness) {}, true},
		"another is seen instead":  {func(w *witness) { w.state.Storages["b"] = downstream.Target{Endpoint: w.state.Storages["b"].Endpoint} }, false},
		"one at two addresses":     {func(w *witness) { w.addAddress("a", "fd00::1", true); delete(w.state.Storages, "c") }, true},
		"second address is silent": {func(w *witness) { w.addAddress("a", "fd00::1", false) }, true},
		"two addresses of another": {func(w *witness) {
			w.addAddress("a", "fd00::1", true)
			w.state.Storages["b"] = downstream.Target{Endpoint: w.state.Storages["b"].Endpoint}
		}, false},
	} {
		w := newWitness()
		w.state.Storages["c"] = w.target("c", 0)
		n := w.target("n", 0)
		n.Last.Paths = map[downstream.Path]downstream.Passage{{Addr: "a:8400"}: {}, {Addr: "b:8400"}: {}}
		w.state.Nodes["n"] = n
		test.sick(w)
		w.look()
		if covered := w.uncoveredSince.IsZero(); covered != test.covered {
			t.Errorf("%s: covered %v, want %v", name, covered, test.covered)
		}
	}
}

// addAddress gives a storage one more address.
func (w *witness) addAddress(storage, addr string, answers bool) {
	t := w.target(storage, 0)
	t.Endpoint.Addr = addr
	if !answers {
		t.Last, t.Err, t.FailingSince, t.FailedPolls, t.AliveSince = nil, errors.New("x"), w.now.Add(-time.Hour), 700, time.Time{}
	}
	w.state.Storages[storage+"/"+addr] = t
}

// An address at which nobody ever answers is no storage that was never seen: what was seen is waited for when it is gone.
func TestSilentSecondAddressDoesNotShortenTheWait(t *testing.T) {
	w := newWitness()
	w.addAddress("b", "fd00::1", false)
	n := w.target("n", 0)
	n.Last.Paths = map[downstream.Path]downstream.Passage{{Addr: "a:8400"}: {}, {Addr: "b:8400"}: {}}
	w.state.Nodes["n"] = n
	w.look()
	b := w.state.Storages["b"]
	b.Err, b.FailingSince, b.FailedPolls = errors.New("x"), w.now.Add(-time.Hour), 700
	w.state.Storages["b"] = b
	w.look()
	w.now = w.now.Add(unseenGrace + time.Second)
	w.look()
	if w.uncoveredSince.IsZero() || w.blind {
		t.Errorf("uncovered since %v, blind %v: want it waited for", w.uncoveredSince, w.blind)
	}
	w.now = w.now.Add(goneGrace)
	w.look()
	if !w.blind {
		t.Error("waited for ever")
	}
}

func TestPartingsAreConnectionsThatWereLost(t *testing.T) {
	away := downstream.Passage{Sent: 5, Unreachable: true, ConnectionErrors: 1}
	there := downstream.Passage{Sent: 5, ConnectionErrors: 1}
	with := func(p downstream.Passage, change func(*downstream.Passage)) downstream.Passage {
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		was, is downstream.Passage
		want    bool
	}{
		"away all along":   {away, away, false},
		"there all along":  {there, with(there, func(p *downstream.Passage) { p.Sent++ }), false},
		"comes":            {away, there, false},
		"goes":             {there, away, true},
		"comes and goes":   {away, with(away, func(p *downstream.Passage) { p.Sent++ }), true},
		"goes and comes":   {there, with(there, func(p *downstream.Passage) { p.ConnectionErrors++ }), true},
		"restarts without": {there, downstream.Passage{Unreachable: true}, true},
		"restarts with":    {there, downstream.Passage{Sent: 1}, false},
		"restarts, idle":   {away, downstream.Passage{Unreachable: true}, false},
	} {
		reading := func(p downstream.Passage) *downstream.Reading {
			return &downstream.Reading{Paths: map[downstream.Path]downstream.Passage{{Addr: "a:8400"}: p}}
		}
		if got := partings(reading(test.was), reading(test.is)); (len(got) == 1) != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	gone := partings(
		&downstream.Reading{Paths: map[downstream.Path]downstream.Passage{{Addr: "a:8400"}: there, {Addr: "b:8400"}: away}},
		&downstream.Reading{Paths: map[downstream.Path]downstream.Passage{}})
	if len(gone) != 1 || gone[0] != "a" {
		t.Errorf("off vminsert's list: %v, want a, which was connected", gone)
	}
}

// Two names of one storage are one storage: counted twice, they would hide that another is not seen.
func TestStorageWithTwoNamesCountsOnce(t *testing.T) {
	w := newWitness()
	b := w.state.Storages["b"]
	b.Endpoint.Addr = "a"
	w.state.Storages["b"] = b
	n := w.target("n", 0)
	n.Last.Paths = map[downstream.Path]downstream.Passage{{Addr: "a"}: {}, {Addr: "b"}: {}}
	w.state.Nodes["n"] = n
	w.look()
	if w.uncoveredSince.IsZero() {
		t.Error("vminsert reaches two storages, and one is seen")
	}
}

func TestLongerIntervalsBetweenPollsTakeLonger(t *testing.T) {
	w := newWitness()
	b := w.state.Storages["b"]
	b.Interval = 16 * time.Second
	w.state.Storages["b"] = b
	w.look()
	if w.settle != 35*time.Second {
		t.Errorf("%s, want 10s + 2*5s + 15s", w.settle)
	}
}

func TestStorageThatFlappedWhileAwayIsNotPassedOver(t *testing.T) {
	away := downstream.Passage{Received: 1, Unreachable: true, ConnectionErrors: 1}
	for name, test := range map[string]struct {
		now  downstream.Passage
		want bool
	}{
		"away all along": {downstream.Passage{Received: 2, Unreachable: true, ConnectionErrors: 1, DialErrors: 9}, true},
		"back":           {downstream.Passage{Received: 2, ConnectionErrors: 1}, false},
		"back and away":  {downstream.Passage{Received: 2, Unreachable: true, ConnectionErrors: 2}, false},
		"sent something": {downstream.Passage{Received: 2, Sent: 1, Unreachable: true, ConnectionErrors: 1}, false},
		"rows wait":      {downstream.Passage{Received: 2, PendingRows: 1, Unreachable: true, ConnectionErrors: 1}, false},
	} {
		if got := awayAllAlong(away, test.now); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
