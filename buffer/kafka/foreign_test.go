package kafka

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
)

// single is a Store with one partition, and a member that owns it.
func single(t *testing.T, options ...kfake.Opt) (*kfake.Cluster, *Store, *consuming) {
	t.Helper()
	c := fakeKafka(t, options...)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions = 1
	s := mustOpen(t, cfg, nil)
	return c, s, consume(t, s, "g")
}

// foreign puts messages into partition 0 as others might, in one batch.
func foreign(t *testing.T, s *Store, attributes protocol.Attributes, records ...kafka.Record) {
	t.Helper()
	l := s.lane(buffer.Main)
	answer, err := l.trips.RoundTrip(soon(t), s.addr, &produce.Request{
		Acks: int16(kafka.RequireAll), Timeout: 1000,
		Topics: []produce.RequestTopic{{Topic: l.topic, Partitions: []produce.RequestPartition{{
			RecordSet: protocol.RecordSet{Version: 2, Attributes: attributes, Records: kafka.NewRecordReader(records...)},
		}}}},
	})
	if err != nil || answer.(*produce.Response).Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatal(err, answer)
	}
}

func TestMessageOfANewerVersionHoldsItsPartitionUntilAnUpgrade(t *testing.T) {
	t.Parallel()
	_, s, group := single(t)
	p := group.one()
	all := put(t, s, 2)
	newer := []kafka.Header{{Key: headerVersion, Value: []byte("2")}, {Key: "whatever", Value: []byte("?")}}
	foreign(t, s, 0, kafka.Record{Value: kafka.NewBytes([]byte("of the future")), Headers: newer})
	all = append(all, put(t, s, 1)...)

	texts, lost := readUpTo(t, p, 0, 2)
	if !slices.Equal(texts, textsOf(all[:2])) || len(lost) > 0 {
		t.Errorf("read %q before it, lost %v", texts, lost)
	}
	for range 3 {
		if batch, err := p.Read(soon(t), 2, 1<<20); !errors.Is(err, buffer.ErrNewerVersion) || errors.Is(err, buffer.ErrUnavailable) {
			t.Fatalf("read %+v, %v", batch, err)
		}
	}
	if texts, _ := readUpTo(t, p, 3, 1); !slices.Equal(texts, textsOf(all[2:])) {
		t.Errorf("read %q behind it", texts)
	}
	save(t, p, 2)
	group.stop()

	upgraded := mustOpen(t, s.cfg, nil)
	upgraded.lane(buffer.Main).newest = 2
	p = consume(t, upgraded, "g").one()
	wantDone(t, load(t, p), 2)
	if texts, _ := readUpTo(t, p, 2, 2); !slices.Equal(texts, []string{"of the future", all[2].text}) {
		t.Errorf("after the upgrade %q is read", texts)
	}
}

func TestBlockOfANewerVersionIsReadAsItIs(t *testing.T) {
	t.Parallel()
	_, s, group := single(t)
	data := []byte("igb\x03and whatever comes then")
	if err := s.Append(soon(t), buffer.Main, buffer.NewBlock(time.UnixMilli(1), 1, 1, bytes.Clone(data), nil)); err != nil {
		t.Fatal(err)
	}
	batch, err := group.one().Read(soon(t), 0, 1)
	if err != nil || len(batch.Blocks) != 1 || !bytes.Equal(batch.Blocks[0].Data, data) {
		t.Fatalf("read %+v, %v", batch, err)
	}
	if _, err := buffer.DecodeBlock(batch.Blocks[0].Data, nil); !errors.Is(err, buffer.ErrNewerVersion) { // which forward holds
		t.Errorf("decode: %v", err)
	}
}

func TestMessagesOfOthersAreReadAsBlocksThatAreNone(t *testing.T) {
	t.Parallel()
	_, s, group := single(t)
	p := group.one()
	all := put(t, s, 1)
	text := func(s string) kafka.Record { return kafka.Record{Value: kafka.NewBytes([]byte(s))} }
	key := text("with a key")
	key.Key = kafka.NewBytes([]byte("key"))
	foreign(t, s, 0, key)
	foreign(t, s, 0, kafka.Record{}) // a tombstone
	foreign(t, s, 0, kafka.Record{Value: kafka.NewBytes([]byte{})})
	foreign(t, s, 0, text("three"), text("in one"), text("batch"))
	for _, codec := range []kafka.Compression{kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		foreign(t, s, protocol.Attributes(codec), text("compressed"))
	}
	odd := text("odd headers")
	odd.Headers = []kafka.Header{{Key: headerVersion, Value: []byte("-1")}, {Key: headerReceived, Value: []byte("9223372036854775807")},
		{Key: headerRecords, Value: nil}, {Key: headerSamples, Value: []byte("99999999999999999999999")}}
	foreign(t, s, 0, odd)
	all = append(all, put(t, s, 1)...)

	want := []string{all[0].text, "with a key", "", "", "three", "in one", "batch", "compressed", "compressed", "compressed", "compressed", "odd headers", all[1].text}
	for _, at := range []buffer.Offset{0, 4, 5, 6, 11} { // 5 and 6 are within a batch
		texts, lost := readUpTo(t, p, at, len(want)-int(at))
		if !slices.Equal(texts, want[at:]) || len(lost) > 0 {
			t.Errorf("read from %d %q, lost %v", at, texts, lost)
		}
	}
	batch, err := p.Read(soon(t), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range batch.Blocks {
		if _, err := buffer.DecodeBlock(b.Data, nil); !errors.Is(err, buffer.ErrMalformed) {
			t.Errorf("block %d is decoded: %v", b.Offset, err)
		}
		if b.Records < 0 || b.Samples < 0 || b.Received.IsZero() {
			t.Errorf("block %d: %+v", b.Offset, b)
		}
	}
	save(t, p, buffer.Offset(len(want)))
	wantDone(t, load(t, p), buffer.Offset(len(want)))
}

// kafka-go keeps the marks of transactions to itself: who waits for something at the offset of one would wait for ever.
func TestTransactionsOfOthersHoldNothing(t *testing.T) {
	t.Parallel()
	c, s, group := single(t)
	p := group.one()
	topic := s.lane(buffer.Main).topic
	all := put(t, s, 1)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.TransactionalID("other"), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, commits := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := client.ProduceSync(soon(t), kgo.StringRecord("in a transaction")).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := client.EndTransaction(soon(t), commits); err != nil {
			t.Fatal(err)
		}
	}
	read := func(from buffer.Offset) ([]string, []buffer.Loss) {
		spans, err := s.lane(buffer.Main).boundsOf(soon(t), 0)
		if err != nil {
			t.Fatal(err)
		}
		return readUpTo(t, p, from, int(spans[0].To-from))
	}
	mark := func(o buffer.Offset) buffer.Loss {
		return buffer.Loss{Span: buffer.Span{From: o, To: o + 1}, Reason: reasonMark}
	}
	if texts, lost := read(0); len(texts) != 3 || lost[len(lost)-1] != mark(4) {
		t.Errorf("read %q, lost %v", texts, lost)
	}
	if texts, lost := read(4); len(texts) > 0 || !slices.Equal(lost, []buffer.Loss{mark(4)}) {
		t.Errorf("read %q at a mark that is the last, lost %v", texts, lost)
	}
	all = append(all, put(t, s, 1)...)
	if texts, _ := read(2); len(texts) != 2 || texts[1] != all[1].text {
		t.Errorf("read %q from the first mark on", texts)
	}
}

// spoil changes a byte of every answer that holds the text, until told otherwise.
func spoil(w *wire, text string) {
	w.onAnswer(func(key kmsg.Key, frame []byte) bool {
		if i := bytes.Index(frame, []byte(text)); key == kmsg.Fetch && i >= 0 {
			frame[i] ^= 1
		}
		return false
	})
}

func TestDamagedBlockIsPassedOnlyAfterAWhile(t *testing.T) {
	t.Parallel()
	w := newWire()
	_, s, group := single(t, kfake.ListenFn(w.listen()))
	p := group.one()
	all := put(t, s, 6)
	spoil(w, all[3].text)
	texts, lost := readUpTo(t, p, 0, 3)
	if !slices.Equal(texts, textsOf(all[:3])) || len(lost) > 0 {
		t.Errorf("read %d blocks before the damaged one, lost %v", len(texts), lost)
	}
	damagedFor := func(d time.Duration) {
		mine := p.Partition.(*partition)
		mine.mu.Lock()
		defer mine.mu.Unlock()
		mine.broken.since = mine.broken.since.Add(-d)
	}
	tried := func() (buffer.Batch, error) { return p.Read(soon(t), 3, 1<<20) }
	if _, err := tried(); !errors.Is(err, buffer.ErrUnavailable) {
		t.Fatalf("read: %v", err)
	}
	damagedFor(patience / 2)
	if _, err := tried(); !errors.Is(err, buffer.ErrUnavailable) {
		t.Fatalf("read: %v", err)
	}
	readUpTo(t, p, 0, 3) // others read elsewhere
	readUpTo(t, p, 4, 2)
	damagedFor(patience / 2)
	batch, err := tried()
	want := buffer.Loss{Span: buffer.Span{From: 3, To: 4}, Reason: reasonDamaged}
	if err != nil || len(batch.Blocks) > 0 || !slices.Equal(batch.Lost, []buffer.Loss{want}) || batch.Next != 4 {
		t.Errorf("read %+v, %v", batch, err)
	}
	if texts, _ := readUpTo(t, p, 4, 2); !slices.Equal(texts, textsOf(all[4:])) {
		t.Errorf("read %d blocks behind it", len(texts))
	}
}

func TestBlockThatWasDamagedOnTheWayIsReadOnceItIsNot(t *testing.T) {
	t.Parallel()
	w := newWire()
	_, s, group := single(t, kfake.ListenFn(w.listen()))
	p := group.one()
	all := put(t, s, 2)
	spoil(w, all[0].text)
	if _, err := p.Read(soon(t), 0, 1); !errors.Is(err, buffer.ErrUnavailable) {
		t.Fatalf("read: %v", err)
	}
	w.onAnswer(nil)
	if texts, lost := readUpTo(t, p, 0, 2); !slices.Equal(texts, textsOf(all)) || len(lost) > 0 {
		t.Errorf("read %d blocks, lost %v", len(texts), lost)
	}
}

func TestFetchIsAnsweredByTheBytesOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWire()
	_, s, group := single(t, kfake.ListenFn(w.listen()))
	p := group.one()
	all := put(t, s, 3)
	cuts := 0
	w.onAnswer(func(key kmsg.Key, frame []byte) (cut bool) {
		cut = key == kmsg.Fetch && bytes.Contains(frame, []byte(all[0].text)) && cuts < 3
		if cut {
			cuts++
		}
		return cut
	})
	texts, lost := readUpTo(t, p, 0, 3)
	if !slices.Equal(texts, textsOf(all)) || len(lost) > 0 || cuts != 3 {
		t.Errorf("read %d blocks, lost %v, after %d answers that were cut", len(texts), lost, cuts)
	}
}

// What is read at the far end, while the oldest is still to be done, must not take the anchor away from what is committed.
func TestCommitsAreAnchoredThoughTheNewestIsReadFirst(t *testing.T) {
	t.Parallel()
	c, s, group := single(t)
	put(t, s, 40)
	p := group.one()
	read := func(from buffer.Offset) {
		batch, err := p.Read(soon(t), from, 1)
		if err != nil {
			t.Fatal(err)
		}
		batch.Release()
	}
	read(39)
	read(38)
	for o := range buffer.Offset(20) {
		read(o)
		save(t, p, o+1, buffer.Span{From: 38, To: 40})
		was := c.GroupInfo("g").Commits[s.lane(buffer.Main).topic][0]
		if got := parseCommit(was.Offset, was.Metadata); !got.anchored || got.anchor.offset > o {
			t.Fatalf("%d is committed with %+v", was.Offset, got)
		}
	}
}

func TestAnchorsAreFewAndKeepTheOldestAndTheNewest(t *testing.T) {
	a := anchors{{7, 7}}
	for i := range buffer.Offset(1000) {
		a.add(anchor{10_000 - i, uint32(i)})
		a.add(anchor{20_000 + i, uint32(i)})
		if len(a) > maxAnchors || !slices.IsSortedFunc(a, func(x, y anchor) int { return int(x.offset - y.offset) }) {
			t.Fatalf("%v", a)
		}
		if a[0].offset != 7 || a[len(a)-1].offset != 20_000+i {
			t.Fatalf("from %d to %d after %d", a[0].offset, a[len(a)-1].offset, i)
		}
	}
	if _, ok := a.before(7); ok {
		t.Error("there is one before the first")
	}
	for _, o := range []buffer.Offset{8, 9_500, 20_500, 1 << 40} {
		got, ok := a.before(o)
		if !ok || got.offset >= o {
			t.Errorf("%+v, %v is before %d", got, ok, o)
		}
	}
	a.forget(20_500)
	if len(a) == 0 || a[0].offset >= 20_500 || len(a) > 1 && a[1].offset < 20_500 {
		t.Errorf("%v is left", a)
	}
}

// A request that is given up before it was written must not write what is left of its block.
func TestWithdrawnBlockIsNeverWritten(t *testing.T) {
	t.Parallel()
	_, s, _ := single(t)
	put(t, s, 1)
	l := s.lane(buffer.Main)
	send := func(ctx context.Context, v *value) error {
		_, err := l.trips.RoundTrip(ctx, s.addr, &produce.Request{
			Acks: int16(kafka.RequireAll), Timeout: 1000,
			Topics: []produce.RequestTopic{{Topic: l.topic, Partitions: []produce.RequestPartition{{
				RecordSet: protocol.RecordSet{Records: kafka.NewRecordReader(kafka.Record{Value: v})},
			}}}},
		})
		return err
	}
	before := &value{rest: []byte("0123456789")}
	before.withdraw()
	if err := send(soon(t), before); !errors.Is(err, errWithdrawn) {
		t.Errorf("sending what was withdrawn: %v", err)
	}
	if n := len(stored(t, s)[0]); n != 1 {
		t.Errorf("%d blocks are in the topic, want the first one alone", n)
	}
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan struct{})
		go func() { // at once
			defer close(cancelled)
			cancel()
		}()
		v := &value{rest: []byte("0123456789")}
		_ = send(ctx, v)
		v.withdraw()
		<-cancelled
	}
	for text := range stored(t, s)[0] {
		if len(text) < 10 || len(text) == 10 && text != "0123456789" {
			t.Errorf("%q is in the topic", text)
		}
	}
}
