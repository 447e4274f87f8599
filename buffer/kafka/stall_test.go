package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ingestgw/ingestgw/buffer"
)

// stalling is a Store on three brokers that can be frozen, each of which leads every third partition.
func stalling(t *testing.T, partitions int, hedge, limit time.Duration) (*Store, *wire) {
	w := newWire()
	c := fakeKafka(t, kfake.ListenFn(w.listen()))
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions, cfg.HedgeAfter, cfg.AppendTimeout = partitions, hedge, limit
	return placed(t, c, cfg), w
}

func TestFrozenBrokerHoldsNoOtherBlock(t *testing.T) {
	t.Parallel()
	const hedge, limit = 2 * time.Second, 6 * time.Second
	for name, thaws := range map[string]bool{"and it thaws": true, "for longer than a block may take": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, w := stalling(t, 3, hedge, limit)
			put(t, s, 6)
			stored(t, s) // leaves a connection to every broker
			w.freeze(0)
			began := time.Now()
			var all []*paper
			var first *paper // that went to it
			for range 30 {
				start := time.Now()
				all = append(all, put(t, s, 1)...)
				took := time.Since(start)
				if took > hedge/2 && first == nil {
					first = all[len(all)-1]
				} else if took > hedge/2 {
					t.Errorf("a block took %v though it is known that a broker stalls", took)
				}
				if took > hedge+time.Second {
					t.Errorf("a block took %v, KAFKA_HEDGE_AFTER is %v", took, hedge)
				}
			}
			if first == nil || w.heldBy(0) != 1 {
				t.Fatalf("%d blocks went to the frozen broker, and one waited: %v", w.heldBy(0), first != nil)
			}
			if n := testutil.ToFloat64(s.metrics.hedged); n != 1 {
				t.Errorf("%v blocks were written elsewhere too", n)
			}
			if time.Since(began) < limit && first.released.Load() > 0 {
				t.Error("the block's bytes were given back before the request with them had ended")
			}
			if thaws {
				w.thaw(0)
			}
			for _, p := range all {
				p.wantReleased(t)
			}
			if took := time.Since(began); !thaws && took < limit {
				t.Errorf("the bytes were given back after %v, when the request had not ended", took)
			}
			if !thaws {
				w.thaw(0)
			}
			eventually(t, "the block is there twice", func() bool { return wantStored(t, s, all) == 6+1 })
			eventually(t, "the broker gets blocks again", func() bool {
				before := len(stored(t, s)[0])
				put(t, s, 3)
				return len(stored(t, s)[0]) > before
			})
		})
	}
}

// watched notes what becomes of the requests that store blocks. A block is known by its number of samples.
type watched struct {
	kafka.RoundTripper
	mu     sync.Mutex
	frozen map[int]int           // how often a block was sent to the broker that leads partition 0
	others map[int]time.Duration // how long the other brokers had it
}

func (w *watched) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	r, ok := req.(*produce.Request)
	if !ok {
		return w.RoundTripper.RoundTrip(ctx, addr, req)
	}
	stored := &r.Topics[0].Partitions[0]
	record, err := stored.RecordSet.Records.ReadRecord()
	if err != nil {
		return nil, err
	}
	b, err := blockOf(record, messageVersion)
	if err != nil {
		return nil, err
	}
	stored.RecordSet.Records = kafka.NewRecordReader(*record)
	if stored.Partition%3 == 0 {
		w.mu.Lock()
		w.frozen[b.Samples]++
		w.mu.Unlock()
		return w.RoundTripper.RoundTrip(ctx, addr, req)
	}
	began := time.Now()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.others[b.Samples] += time.Since(began)
	}()
	return w.RoundTripper.RoundTrip(ctx, addr, req)
}

// of is how often a block was sent to the frozen broker, and how long the others had it.
func (w *watched) of(block int) (frozen int, others time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frozen[block], w.others[block]
}

// A broker that stalls is known by one block, though it leads many partitions.
func TestFrozenBrokerIsGivenNoMoreBlocksThanAreUnderWay(t *testing.T) {
	t.Parallel()
	const hedge, senders, blocks = 500 * time.Millisecond, 4, 100
	s, w := stalling(t, 36, hedge, 6*time.Second)
	put(t, s, 36)
	stored(t, s) // leaves a connection to every broker
	w.freeze(0)
	defer w.thaw(0)
	l := s.lane(buffer.Main)
	trips := &watched{RoundTripper: l.trips, frozen: map[int]int{}, others: map[int]time.Duration{}}
	l.trips = trips
	onFrozen := func() (n int) { // waiting for a connection, which a frozen broker does not take either, or for an answer
		l.spread.mu.Lock()
		defer l.spread.mu.Unlock()
		for partition := 0; partition < 36; partition += 3 {
			n += l.spread.targets[partition].inFlight
		}
		return n
	}
	var under sync.WaitGroup
	for sender := range senders {
		under.Go(func() {
			slow, sent := 0, 0
			for i := range blocks {
				p := newPaper()
				p.Samples = 1 + sender*blocks + i
				began := time.Now()
				if err := s.Append(soon(t), buffer.Main, p.Block); err != nil {
					t.Errorf("append: %v", err)
				}
				took := time.Since(began)
				frozen, others := trips.of(p.Samples)
				if took-others >= hedge { // what the others take, on a machine that has other things to do, says nothing of the frozen one
					slow++
				}
				sent += frozen
			}
			if slow > 1 || sent > 1 {
				t.Errorf("%d blocks of one sender waited for the frozen broker, %d were sent to it", slow, sent)
			}
		})
	}
	under.Wait()
	if n := onFrozen(); n < 1 || n > senders {
		t.Errorf("%d blocks are on their way to the frozen broker, %d senders can have sent one each before it was known", n, senders)
	}
}

func TestEquallySlowPartitionsAreNoReasonToWriteTwice(t *testing.T) {
	t.Parallel()
	const hedge = 100 * time.Millisecond
	var s spread
	leaders := []int{0, 1, 2}
	var underWay []*try
	began := time.Now().Add(-time.Hour)
	for i := range 300 { // each is acknowledged when 30 later ones have begun
		y, _, ok := s.take(leaders, nil)
		if !ok {
			t.Fatal("all partitions are left out")
		}
		y.began = began.Add(time.Duration(i) * time.Millisecond)
		underWay = append(underWay, y)
		if len(underWay) < 30 {
			continue
		}
		s.done(underWay[0], nil)
		underWay = underWay[1:]
		s.probed = time.Now() // this is not about probes
		for _, y := range underWay {
			if s.overtake(y, hedge) {
				t.Fatalf("block %d is written again, though none that is later has been acknowledged", i)
			}
		}
	}
}

func TestPartitionThatStallsOnABrokerThatDoesNotIsLeftOutAlone(t *testing.T) {
	t.Parallel()
	var s spread
	leaders := []int{7, 7, 7}
	stuck, _, _ := s.take(leaders, []int{1, 2})
	stuck.began = stuck.began.Add(-time.Second)
	other, _, _ := s.take(leaders, []int{0, 2})
	s.done(other, nil)
	if !s.overtake(stuck, time.Hour) {
		t.Fatal("it is not overtaken")
	}
	for range 12 {
		y, _, ok := s.take(leaders, nil)
		if !ok || y.partition == 0 {
			t.Fatalf("%+v was taken, %v", y, ok)
		}
	}
}

// All blocks under way are on one broker: nobody overtakes them but the one that is written again to find a way out.
func TestTheWayOutTellsWhichBrokerStalls(t *testing.T) {
	t.Parallel()
	var s spread
	leaders := []int{0, 0, 0, 0, 0, 0, 1, 2}
	var stuck []*try
	for p := range 4 {
		var others []int
		for other := range leaders {
			if other != p {
				others = append(others, other)
			}
		}
		y, _, _ := s.take(leaders, others)
		y.began = y.began.Add(-time.Second)
		stuck = append(stuck, y)
	}
	if !s.overtake(stuck[0], time.Second) || s.overtake(stuck[1], time.Second) {
		t.Fatal("not just one of them is written again")
	}
	for range 12 { // wherever the search begins
		way, _, ok := s.take(leaders, []int{stuck[0].partition})
		if !ok || leaders[way.partition] == 0 {
			t.Fatalf("the way out is partition %d of the same broker, %v", way.partition, ok)
		}
		s.done(way, nil)
	}
	for range 12 {
		if y, _, ok := s.take(leaders, nil); !ok || leaders[y.partition] == 0 {
			t.Fatalf("%+v was taken, %v", y, ok)
		}
	}
}

// One broker leads everything, and one of its partitions stalls: better another one of the same than none.
func TestTheWayOutMayBeOnTheSameBrokerWhenThereIsNoOther(t *testing.T) {
	t.Parallel()
	var s spread
	leaders := []int{7, 7, 7}
	stuck, _, _ := s.take(leaders, nil)
	if !s.overtake(stuck, time.Second) {
		t.Fatal("it is not written again")
	}
	if way, _, ok := s.take(leaders, []int{stuck.partition}); !ok || way.partition == stuck.partition {
		t.Errorf("the way out is %+v, %v", way, ok)
	}
}

func TestWhenEverythingStallsNothingIsWrittenTwiceInAStorm(t *testing.T) {
	t.Parallel()
	const hedge, limit = 200 * time.Millisecond, 2 * time.Second
	s, w := stalling(t, 3, hedge, limit)
	put(t, s, 6)
	for node := range 3 {
		w.freeze(node)
	}
	began := time.Now()
	var all []*paper
	var under sync.WaitGroup
	for range 40 {
		p := newPaper()
		all = append(all, p)
		under.Go(func() {
			if err := s.Append(soon(t), buffer.Main, p.Block); !errors.Is(err, buffer.ErrUnavailable) {
				t.Errorf("append: %v", err)
			}
		})
	}
	under.Wait()
	if took := time.Since(began); took < limit || took > limit+time.Second {
		t.Errorf("the blocks were given up after %v, want %v", took, limit)
	}
	if n, most := testutil.ToFloat64(s.metrics.hedged), float64(limit/hedge); n < 1 || n > most {
		t.Errorf("%v of %d blocks were written elsewhere too, want 1 to %v", n, len(all), most)
	}
	for node := range 3 {
		w.thaw(node)
	}
	began = time.Now()
	eventually(t, "blocks are stored again", func() bool { return s.Append(soon(t), buffer.Main, newPaper().Block) == nil })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v after the brokers had come back", took)
	}
	for _, p := range all {
		p.wantReleased(t)
	}
}

// Two blocks on a frozen broker, and no others that would overtake them.
func TestFewBlocksOnAFrozenBrokerAreWrittenElsewhere(t *testing.T) {
	t.Parallel()
	s, w := stalling(t, 6, 300*time.Millisecond, 5*time.Second)
	put(t, s, 6)
	stored(t, s) // leaves a connection to every broker
	w.freeze(0)
	defer w.thaw(0)
	l := s.lane(buffer.Main)
	var under sync.WaitGroup
	for _, partition := range []int{0, 3} { // those that it leads
		l.spread.mu.Lock()
		l.spread.turn = partition + 5
		l.spread.mu.Unlock()
		p := newPaper()
		under.Go(func() {
			if err := s.Append(soon(t), buffer.Main, p.Block); err != nil {
				t.Errorf("append: %v", err)
			}
		})
		eventually(t, "it is on its way", func() bool { // or waits for a connection, which a frozen broker does not take either
			l.spread.mu.Lock()
			defer l.spread.mu.Unlock()
			return l.spread.targets[partition].inFlight > 0
		})
	}
	under.Wait()
}

func TestAppendEndsWhenItsCallerGoes(t *testing.T) {
	t.Parallel()
	s, w := stalling(t, 3, time.Second, 3*time.Second)
	put(t, s, 3)
	for node := range 3 {
		w.freeze(node)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p := newPaper()
	began := time.Now()
	err := s.Append(ctx, buffer.Main, p.Block)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("append: %v after %v", err, time.Since(began))
	}
	if p.released.Load() > 0 {
		t.Error("the bytes were given back while the request was under way")
	}
	for node := range 3 {
		w.thaw(node)
	}
	p.wantReleased(t)
}

func TestCloseGivesUpBlocksThatStall(t *testing.T) {
	t.Parallel()
	s, w := stalling(t, 3, time.Second, 30*time.Second)
	put(t, s, 3)
	for node := range 3 {
		w.freeze(node)
		defer w.thaw(node)
	}
	p := newPaper()
	answer := make(chan error, 1)
	go func() { answer <- s.Append(soon(t), buffer.Main, p.Block) }() // ends with Close
	eventually(t, "the block is on its way", func() bool { return w.heldBy(0)+w.heldBy(1)+w.heldBy(2) > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if err := <-answer; err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("append: %v after %v", err, time.Since(began))
	}
	p.wantReleased(t)
}
