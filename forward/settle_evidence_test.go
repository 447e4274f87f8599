package forward

import (
	"errors"
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
		Endpoint: downstream.Endpoint{Addr: name}, Polls: 100, AliveSince: at.Add(-time.Hour), Interval: time.Second,
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
	b.Err, b.FailingSince = errors.New("x"), w.now.Add(-time.Minute)
	w.state.Storages["b"] = b
	w.look()
	before := w.storageEpoch
	delete(w.state.Storages, "b")
	w.look()
	if w.storageEpoch != before {
		t.Error("lost twice")
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
