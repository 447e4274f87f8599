package forward

import (
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

// received is a reading, some seconds after the beginning, of a vminsert whose queue for s0 has received so many rows and sent all of
// them, and whose queue for s1 is untouched.
func received(at int, rows float64) *downstream.Reading {
	moment := time.Unix(int64(1000+at), 0)
	return &downstream.Reading{Begun: moment, Ended: moment, Paths: map[downstream.Path]downstream.Passage{
		{Addr: "s0"}: {Received: rows, Sent: rows}, {Addr: "s1"}: {},
	}}
}

func TestOfTwoTicketsForOneNodeTheOlderCounts(t *testing.T) {
	bk := newBooks()
	old, young := received(0, 1), received(5, 2)
	bk.enter(nil, 0, []ticket{
		{node: "n", epoch: 7, storages: 3, before: young},
		{node: "n", epoch: 6, storages: 2, before: old},
	}, time.Unix(1010, 0))
	bk.enter(nil, 1, []ticket{{node: "n", epoch: 8, storages: 4, before: young}}, time.Unix(1010, 1))
	b := bk.buckets[0]
	l := b.legs["n"]
	if len(bk.buckets) != 1 || b.storages != 2 || l.epoch != 6 || l.before != old {
		t.Errorf("%d buckets, storages %d, epoch %d, before %v", len(bk.buckets), b.storages, l.epoch, l.before.Begun)
	}
}

// stuck is a leg that waits for the queue of a storage, others being passed.
func stuck(storage string) *leg {
	return &leg{epoch: 5, last: received(9, 9), crossings: map[downstream.Path]*crossing{
		{Addr: storage}:  {},
		{Addr: "passed"}: {passed: time.Unix(1009, 0)},
	}}
}

func TestMergedLegsWaitForWhatEitherWaitsFor(t *testing.T) {
	s0, s1 := downstream.Path{Addr: "s0"}, downstream.Path{Addr: "s1"}

	t.Run("old one has passed", func(t *testing.T) {
		l := &leg{epoch: 6, before: received(5, 2)}
		l.absorb(&leg{epoch: 5, passed: time.Unix(1009, 0)})
		if l.epoch != 6 || l.before.Paths[s0].Received != 2 {
			t.Errorf("epoch %d, before %+v: what has passed is of no account any more", l.epoch, l.before.Paths)
		}
	})
	t.Run("neither has been observed", func(t *testing.T) {
		l := &leg{epoch: 6, before: received(5, 2)}
		l.absorb(&leg{epoch: 5, before: received(0, 1)})
		if l.epoch != 5 || l.before.Paths[s0].Received != 1 {
			t.Errorf("epoch %d, before %+v: want the older ticket's", l.epoch, l.before.Paths)
		}
	})
	t.Run("old one waits, young one is not observed", func(t *testing.T) {
		l := &leg{epoch: 6, before: received(5, 2)}
		l.absorb(stuck("s1"))
		l.observe(received(10, 2)) // nothing was received since the young one's ticket
		if l.epoch != 5 || l.crossings[s1] == nil || l.crossings[s0] != nil || !l.passed.IsZero() {
			t.Errorf("epoch %d, crossings %v, passed %v: want it to wait for s1 alone", l.epoch, l.crossings, l.passed)
		}
	})
	t.Run("young one waits, old one is not observed", func(t *testing.T) {
		l := stuck("s1")
		l.absorb(&leg{epoch: 4, before: received(5, 2)}) // its bucket was filled for longer
		l.observe(received(10, 3))
		if l.epoch != 4 || l.crossings[s0] == nil || l.crossings[s1] == nil || len(l.crossings) != 2 || !l.passed.IsZero() {
			t.Errorf("epoch %d, crossings %v, passed %v: want it to wait for s0 and s1", l.epoch, l.crossings, l.passed)
		}
	})
	t.Run("both wait, for different queues", func(t *testing.T) {
		l := stuck("s0")
		young := l.crossings[s0]
		l.absorb(stuck("s1"))
		if l.crossings[s0] != young || l.crossings[s1] == nil {
			t.Errorf("crossings %v", l.crossings)
		}
	})
	t.Run("old one waits, young one has passed", func(t *testing.T) {
		l := stuck("passed")
		l.crossings[downstream.Path{Addr: "passed"}].passed = time.Unix(1009, 0)
		l.passed = time.Unix(1009, 0)
		l.absorb(stuck("s1"))
		if !l.passed.IsZero() || l.crossings[s1] == nil {
			t.Errorf("crossings %v, passed %v", l.crossings, l.passed)
		}
	})
	t.Run("both wait for the same queue", func(t *testing.T) {
		l := stuck("s0")
		young := l.crossings[s0]
		l.absorb(stuck("s0"))
		if l.crossings[s0] != young {
			t.Error("proof for the old one is none for the young one")
		}
	})
}

func TestMergedBucketsKeepTheOldestAgeAndTheLatestAnswer(t *testing.T) {
	bk := newBooks()
	at := time.Unix(1000, 0)
	for i := range 5 {
		node := "n" + string(rune('0'+i%2))
		bk.enter(nil, buffer.Offset(i), []ticket{{node: node, epoch: 1, storages: 9 - i, before: received(i, 1)}}, at.Add(time.Duration(i)*2*time.Second))
	}
	bk.coalesce(time.Now().Add(time.Hour))
	if len(bk.buckets) != 3 {
		t.Fatalf("%d buckets, want 2+2+1", len(bk.buckets))
	}
	b := bk.buckets[0]
	if !b.opened.Equal(at) || !b.sent.Equal(at.Add(2*time.Second)) || b.storages != 8 || len(b.legs) != 2 || b.blocks() != 2 {
		t.Errorf("opened %v, sent %v, storages %d, %d legs, %d blocks", b.opened, b.sent, b.storages, len(b.legs), b.blocks())
	}
	if bk.spanCount() != 3 {
		t.Errorf("%d spans, want neighbours joined to 3", bk.spanCount())
	}
}
