package kafka

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
)

// A fault makes one request of a kind fail.
type fault struct {
	name     string
	happened bool // what was asked for is done nevertheless
	make     func(c *kfake.Cluster, w *wire, topic string)
}

// told is a broker's answer without anything being done, or with everything done where kfake says so of that error.
func told(key kmsg.Key, err *kerr.Error, happened bool) fault {
	return fault{name: err.Message, happened: happened, make: func(c *kfake.Cluster, _ *wire, topic string) {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: topic, Err: err})
	}}
}

func cutBefore(key kmsg.Key) fault {
	return fault{name: "cut before it was read", make: func(c *kfake.Cluster, _ *wire, _ string) {
		c.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
	}}
}

func cutInAnswer(key kmsg.Key) fault {
	return fault{name: "cut in the middle of the answer", happened: true, make: func(_ *kfake.Cluster, w *wire, _ string) {
		done := false
		w.onAnswer(func(k kmsg.Key, _ []byte) (cut bool) {
			cut = k == key && !done
			done = done || cut
			return cut
		})
	}}
}

// produceTimedOut is a time-out of a broker that has appended nothing.
func produceTimedOut(c *kfake.Cluster, _ *wire, _ string) {
	c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		asked := r.(*kmsg.ProduceRequest)
		answer := asked.ResponseKind().(*kmsg.ProduceResponse)
		one := kmsg.ProduceResponseTopicPartition{Partition: asked.Topics[0].Partitions[0].Partition, ErrorCode: kerr.RequestTimedOut.Code}
		answer.Topics = []kmsg.ProduceResponseTopic{{Topic: asked.Topics[0].Topic, Partitions: []kmsg.ProduceResponseTopicPartition{one}}}
		return answer, nil, true
	})
}

func TestBlockGoesElsewhereWhenAPartitionRefusesIt(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{
		told(kmsg.Produce, kerr.NotEnoughReplicas, false),
		told(kmsg.Produce, kerr.NotEnoughReplicasAfterAppend, true),
		told(kmsg.Produce, kerr.NotLeaderForPartition, false),
		told(kmsg.Produce, kerr.KafkaStorageError, false),
		told(kmsg.Produce, kerr.RequestTimedOut, true),
		{name: "REQUEST_TIMED_OUT before", make: produceTimedOut},
		cutBefore(kmsg.Produce),
		cutInAnswer(kmsg.Produce),
	} {
		t.Run(f.name, func(t *testing.T) {
			w := newWire()
			c := fakeKafka(t, kfake.ListenFn(w.listen()))
			cfg := testConfig(c.ListenAddrs())
			cfg.AppendTimeout = 10 * time.Second
			s := mustOpen(t, cfg, nil)
			before := put(t, s, 3)
			f.make(c, w, s.lane(buffer.Main).topic)
			began := time.Now()
			all := put(t, s, 1)
			if took := time.Since(began); took > cfg.HedgeAfter {
				t.Errorf("it took %v: no answer was waited for", took)
			}
			all = append(append(before, all...), put(t, s, 3)...)
			more := wantStored(t, s, all)
			if want := map[bool]int{true: 1}[f.happened]; more != want {
				t.Errorf("%d more copies than blocks, want %d", more, want)
			}
			for _, p := range all {
				p.wantReleased(t)
			}
		})
	}
}

func TestPartitionThatRefusesEverythingHoldsNoBlock(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	s := mustOpen(t, testConfig(c.ListenAddrs()), nil)
	sick := c.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Topic: s.lane(buffer.Main).topic, Partitions: []int32{1}, Err: kerr.NotEnoughReplicas, Count: -1,
	})
	began := time.Now()
	all := put(t, s, 50)
	if tries := sick.Hits(); tries == 0 || tries > 2+int(time.Since(began)/leaveOutMin) {
		t.Errorf("the partition was tried %d times in %v", tries, time.Since(began))
	}
	if there := stored(t, s); len(there[1]) > 0 || len(there[0]) == 0 || len(there[2]) == 0 {
		t.Errorf("%d, %d and %d blocks are in the partitions", len(there[0]), len(there[1]), len(there[2]))
	}
	sick.Remove()
	eventually(t, "it is used again", func() bool {
		all = append(all, put(t, s, 1)...)
		return len(stored(t, s)[1]) > 0
	})
	wantStored(t, s, all)
}

func TestSaveIsTriedAgainWhateverTheCoordinatorAnswers(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{
		told(kmsg.OffsetCommit, kerr.RebalanceInProgress, false),
		told(kmsg.OffsetCommit, kerr.NotCoordinator, false),
		told(kmsg.OffsetCommit, kerr.CoordinatorNotAvailable, false),
		told(kmsg.OffsetCommit, kerr.CoordinatorLoadInProgress, false),
		told(kmsg.OffsetCommit, kerr.NotEnoughReplicas, false),
		told(kmsg.OffsetCommit, kerr.RequestTimedOut, true),
		cutBefore(kmsg.OffsetCommit),
		cutInAnswer(kmsg.OffsetCommit),
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWire()
			c := fakeKafka(t, kfake.ListenFn(w.listen()))
			cfg := testConfig(c.ListenAddrs())
			cfg.Partitions = 1
			s := mustOpen(t, cfg, nil)
			put(t, s, 10)
			group := consume(t, s, "g")
			p := group.one()
			readUpTo(t, p, 0, 10)
			save(t, p, 3, buffer.Span{From: 5, To: 6})
			f.make(c, w, s.lane(buffer.Main).topic)
			if err := p.Save(soon(t), progressOf(p, 7)); !errors.Is(err, buffer.ErrUnavailable) || errors.Is(err, buffer.ErrFenced) {
				t.Errorf("save: %v", err)
			}
			if f.happened {
				wantDone(t, load(t, p), 7)
			} else {
				wantDone(t, load(t, p), 3, buffer.Span{From: 5, To: 6})
			}
			save(t, p, 8, buffer.Span{From: 9, To: 10})
			wantDone(t, load(t, p), 8, buffer.Span{From: 9, To: 10})
			if p.ctx.Err() != nil || group.begun() != 1 {
				t.Errorf("the partition was handed out %d times", group.begun())
			}
		})
	}
}

func TestMoreProgressThanABrokerTakesIsShortened(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions = 1
	s := mustOpen(t, cfg, nil)
	put(t, s, 1)
	p := consume(t, s, "g").one()
	var done []buffer.Span
	for o := range buffer.Offset(60) {
		done = append(done, buffer.Span{From: 100 + 10*o, To: 101 + 10*o + o%5})
	}
	const most = 100 // offset.metadata.max.bytes
	tooLarge := c.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1,
		Topic: s.lane(buffer.Main).topic, When: func(r kmsg.Request) bool {
			text := r.(*kmsg.OffsetCommitRequest).Topics[0].Partitions[0].Metadata
			return text != nil && len(*text) > most
		},
	})
	if err := p.Save(soon(t), progressOf(p, 1, done...)); err != nil {
		t.Fatal(err)
	}
	if tooLarge.Hits() == 0 {
		t.Error("everything fitted")
	}
	got := load(t, p)
	if len(got) < 10 || got[0] != (buffer.Span{To: 1}) {
		t.Errorf("loaded %v", got)
	}
	for _, span := range got[1:] {
		if !slices.Contains(done, span) {
			t.Errorf("%v is done now, and was not", span)
		}
	}
	for _, span := range done { // the longest are kept
		if span.To-span.From == 5 && !slices.Contains(got, span) {
			t.Errorf("%v was forgotten", span)
		}
	}
}

func TestRetentionThatOvertakesTheReaderIsALoss(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions = 1
	s := mustOpen(t, cfg, nil)
	all := put(t, s, 12)
	p := consume(t, s, "g").one()
	readUpTo(t, p, 0, 3)
	save(t, p, 3)
	if err := c.DeleteRecords(s.lane(buffer.Main).topic, 0, 7); err != nil {
		t.Fatal(err)
	}
	batch, err := p.Read(soon(t), 3, 1)
	want := buffer.Loss{Span: buffer.Span{From: 3, To: 7}, Reason: reasonRemoved}
	if err != nil || len(batch.Blocks) > 0 || !slices.Equal(batch.Lost, []buffer.Loss{want}) || batch.Next != 7 {
		t.Errorf("read %+v, %v", batch, err)
	}
	texts, lost := readUpTo(t, p, 7, 5)
	if !slices.Equal(texts, textsOf(all[7:])) || len(lost) > 0 {
		t.Errorf("read %d blocks behind it, lost %v", len(texts), lost)
	}
	wantDone(t, load(t, p), 3)
}

func TestTopicMadeAnewWhileNobodyRunsIsForwardedFromItsStart(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]int{"and smaller": 4, "and grown beyond": 30} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fakeKafka(t)
			cfg := testConfig(c.ListenAddrs())
			cfg.Partitions = 1
			s := mustOpen(t, cfg, nil)
			topic := s.lane(buffer.Main).topic
			put(t, s, 20)
			first := consume(t, s, "g")
			p := first.one()
			readUpTo(t, p, 0, 20)
			save(t, p, 10, buffer.Span{From: 12, To: 15})
			first.stop()
			was := c.GroupInfo("g").Commits[topic][0]

			remake(t, c, topic, 1)
			putOnceThere(t, s)
			all := put(t, s, again-1)
			recommit(t, s, "g", was) // a coordinator may have known nothing of it

			p = consume(t, s, "g").one()
			wantDone(t, load(t, p), 0)
			texts, lost := readUpTo(t, p, 0, again)
			if !slices.Equal(texts[1:], textsOf(all)) || len(lost) > 0 {
				t.Errorf("read %d blocks of %d, lost %v", len(texts), again, lost)
			}
		})
	}
}

func TestTopicMadeAnewWhileItIsReadIsHandedOutAnew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		again   int
		waiting bool // somebody waits for the next block meanwhile; else nobody has read for long
	}{
		"and smaller":         {4, true},
		"and grown beyond":    {30, true},
		"and smaller, unseen": {4, false},
		"and grown beyond before anybody had looked": {30, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := fakeKafka(t)
			cfg := testConfig(k.ListenAddrs())
			cfg.Partitions = 1
			s, other := mustOpen(t, cfg, nil), mustOpen(t, cfg, nil)
			put(t, s, 20)
			group := consume(t, s, "g")
			p := group.one()
			readUpTo(t, p, 0, 20)
			save(t, p, 10)
			var answer atomic.Value
			read := func() {
				for {
					_, err := p.Read(soon(t), 20, 1<<20)
					if !errors.Is(err, buffer.ErrUnavailable) {
						answer.Store(fmt.Errorf("read: %w", err))
						return
					}
				}
			}
			if c.waiting {
				go read() // ends when the topic has been found out, or with its deadline
			}
			if err := k.DeleteTopic(s.lane(buffer.Main).topic); err != nil {
				t.Fatal(err)
			}
			mine := p.Partition.(*partition)
			doubts := func() int {
				mine.mu.Lock()
				defer mine.mu.Unlock()
				return mine.doubts
			}
			eventually(t, "who waits has been told of an error", func() bool { return !c.waiting || doubts() > 0 })
			if err := k.CreateTopic(s.lane(buffer.Main).topic, 1, nil); err != nil {
				t.Fatal(err)
			}
			putOnceThere(t, other)
			all := put(t, other, c.again-1)
			if !c.waiting {
				mine.mu.Lock()
				mine.answered = mine.answered.Add(-2 * silence)
				mine.mu.Unlock()
				read()
			}
			eventually(t, "the reader is told", func() bool { return answer.Load() != nil })
			if err := answer.Load().(error); !errors.Is(err, buffer.ErrFenced) {
				t.Errorf("it was told %v", err)
			}
			<-p.ctx.Done()
			eventually(t, "it is handed out anew", func() bool { return group.begun() == 2 })
			p = group.one()
			wantDone(t, load(t, p), 0)
			if texts, lost := readUpTo(t, p, 0, c.again); !slices.Equal(texts[1:], textsOf(all)) || len(lost) > 0 {
				t.Errorf("read %d blocks of %d, lost %v", len(texts), c.again, lost)
			}
		})
	}
}
