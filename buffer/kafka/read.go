package kafka

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/ingestgw/ingestgw/buffer"
)

const (
	// pollWait is how long a broker waits for new blocks before it answers that there are none.
	pollWait = time.Second
	// maxFetch bounds what is asked for at one time, unless a single block is larger.
	maxFetch = 16 << 20
	// patience is how long a place that cannot be read is tried before the block on it is taken for damaged: until then another
	// replica may become the leader.
	patience = time.Minute
	// silence is after how long without an answer about a partition it is made sure that its topic is still the same.
	silence = 5 * time.Second
)

// A partition is a partition of a topic as a member of a group has it.
type partition struct {
	id     buffer.PartitionID
	lane   *lane
	number int
	member *member

	fenced atomic.Bool // it is ours no more

	mu        sync.Mutex
	anchors   anchors   // blocks that were read, to recognise the topic by
	doubts    int       // how often there was reason to think that the topic may have been made anew
	dispelled int       // how many of them have turned out wrong
	answered  time.Time // when Kafka has last told something of it
	position  buffer.Offset
	read      time.Time // when a Read last returned something, or there was nothing to read
	broken    brokenPlace
	commit    commit // as last loaded or saved
}

// A brokenPlace is an offset that Kafka does not give.
type brokenPlace struct {
	at    buffer.Offset
	since time.Time
}

// Why blocks cannot be read.
const (
	reasonRemoved = "removed by Kafka's retention"
	reasonDamaged = "damaged"
	reasonMissing = "not in the topic"
	reasonMark    = "no block: the mark of another producer's transaction"
)

// ID is as buffer.Partition says.
func (p *partition) ID() buffer.PartitionID { return p.id }

// Bounds is as buffer.Partition says, as of 0.3 s ago at most; of blocks that this process has stored it knows at once.
func (p *partition) Bounds(ctx context.Context) (first, next buffer.Offset, err error) {
	span, ok := p.lane.ends.get(p.number)
	if !ok {
		spans, err := p.lane.boundsOf(ctx, p.number)
		if err != nil {
			return 0, 0, err
		}
		span = spans[0]
	}
	return span.From, span.To, nil
}

// Read is as buffer.Partition says.
func (p *partition) Read(ctx context.Context, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	from = max(from, 0)
	for {
		batch, err := p.readOnce(ctx, from, maxBytes)
		switch {
		case p.fenced.Load():
			batch.Release()
			return buffer.Batch{}, fmt.Errorf("read %v from %d: %w", p.id, from, buffer.ErrFenced)
		case err != nil && ctx.Err() != nil:
			return buffer.Batch{}, fmt.Errorf("read %v from %d: %w", p.id, from, ctx.Err())
		case err != nil:
			return buffer.Batch{}, fmt.Errorf("read %v from %d: %w", p.id, from, err)
		case len(batch.Blocks) > 0 || len(batch.Lost) > 0:
			return batch, nil
		}
	}
}

// readOnce asks once. Without error, an empty batch says that there is nothing yet.
func (p *partition) readOnce(ctx context.Context, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	select {
	case <-p.lane.s.closing:
		return buffer.Batch{}, buffer.ErrClosed
	default:
	}
	if err := p.reassure(ctx); err != nil {
		return buffer.Batch{}, err
	}
	answer, err := p.lane.fetch(ctx, p.number, from, maxBytes)
	if err == nil {
		err = answer.Error
	}
	switch {
	case errors.Is(err, kafka.OffsetOutOfRange):
		return p.outOfRange(ctx, from)
	case err != nil:
		return p.unreadable(ctx, from, err)
	}
	p.lane.ends.set(p.number, answer.LogStartOffset, answer.HighWatermark)
	batch, err := p.lane.collect(answer.Records, from, maxBytes)
	if err != nil {
		return p.unreadable(ctx, from, err)
	}
	p.note(from, buffer.Offset(answer.HighWatermark), batch)
	return batch, nil
}

// note remembers what an answer told.
func (p *partition) note(from, next buffer.Offset, batch buffer.Batch) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = now
	if from <= p.broken.at && p.broken.at < batch.Next { // others read elsewhere meanwhile
		p.broken = brokenPlace{}
	}
	if len(batch.Blocks) > 0 || len(batch.Lost) > 0 || next <= from {
		p.read = now
	}
	p.position = max(p.position, batch.Next)
	if n := len(batch.Blocks); n > 0 {
		first, last := batch.Blocks[0], batch.Blocks[n-1]
		if _, anchored := p.anchors.before(last.Offset); !anchored { // else nothing would anchor a commit within the batch
			p.anchors.add(anchor{first.Offset, sum(first.Data)})
		}
		p.anchors.add(anchor{last.Offset, sum(last.Data)})
	}
}

// outOfRange tells what Kafka does not keep any more from what it has never had.
func (p *partition) outOfRange(ctx context.Context, from buffer.Offset) (buffer.Batch, error) {
	p.lane.ends.forget(p.number)
	spans, err := p.lane.boundsOf(ctx, p.number)
	if err != nil {
		return buffer.Batch{}, err
	}
	kept := spans[0]
	switch {
	case from < kept.From:
		p.mu.Lock()
		p.read = time.Now()
		p.mu.Unlock()
		return buffer.NewBatch(nil, []buffer.Loss{{Span: buffer.Span{From: from, To: kept.From}, Reason: reasonRemoved}}, kept.From, nil), nil
	case from > kept.To:
		return buffer.Batch{}, p.replaced(fmt.Sprintf("it ends at %d, block %d was to be read", kept.To, from))
	}
	return buffer.Batch{}, nil // it has changed meanwhile
}

// unreadable is for every other error. What cannot be decoded for long is passed over as damaged, one offset at a time.
func (p *partition) unreadable(ctx context.Context, from buffer.Offset, err error) (buffer.Batch, error) {
	if ctx.Err() != nil || errors.Is(err, buffer.ErrNewerVersion) {
		return buffer.Batch{}, err
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doubts++
	if !damaged(err) {
		return buffer.Batch{}, fmt.Errorf("%w: %w", buffer.ErrUnavailable, err)
	}
	if p.broken.at != from || p.broken.since.IsZero() {
		p.broken = brokenPlace{from, now}
	}
	if now.Sub(p.broken.since) < patience {
		return buffer.Batch{}, fmt.Errorf("%w: %w", buffer.ErrUnavailable, err)
	}
	p.broken = brokenPlace{}
	p.lane.s.metrics.damaged.Inc()
	p.lane.log.Error("a block cannot be read and is passed over; it stays in the topic until Kafka removes it",
		"partition", p.number, "offset", from, "err", err)
	return buffer.NewBatch(nil, []buffer.Loss{{Span: buffer.Span{From: from, To: from + 1}, Reason: reasonDamaged}}, from+1, nil), nil
}

// damaged says whether an error is about the bytes that a broker has sent, rather than about the broker or the way there.
func damaged(err error) bool {
	var code kafka.Error
	if errors.As(err, &code) {
		return code == kafka.InvalidMessage // CORRUPT_MESSAGE
	}
	return isChecksumError(err)
}

// fetch asks for blocks from an offset on, one at least if there is one.
func (l *lane) fetch(ctx context.Context, partition int, from buffer.Offset, maxBytes int) (*kafka.FetchResponse, error) {
	return l.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: l.topic, Partition: partition, Offset: int64(from),
		MinBytes: 1, MaxBytes: int64(min(max(maxBytes, 1), maxFetch)), MaxWait: pollWait,
	})
}

// collect copies the blocks from an offset on out of an answer. What is missing between them is told as lost.
func (l *lane) collect(records kafka.RecordReader, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	c := collecting{bytes: l.s.room(), next: from, newest: l.newest}
	for {
		m, err := records.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = c.add(m, maxBytes)
		}
		if err != nil && len(c.blocks) == 0 {
			l.s.recycle(c.bytes)
			return buffer.Batch{}, err
		}
		if err != nil { // for the next read
			break
		}
	}
	if len(c.blocks) == 0 {
		l.s.recycle(c.bytes)
		c.passMarks(records)
		return buffer.NewBatch(nil, c.lost, c.next, nil), nil
	}
	at := 0
	for i := range c.blocks {
		size := c.sizes[i]
		c.blocks[i].Data = c.bytes.b[at : at+size : at+size]
		at += size
		l.see(&c.blocks[i])
	}
	var released atomic.Bool
	return buffer.NewBatch(c.blocks, c.lost, c.next, func() {
		if !released.Swap(true) {
			l.s.recycle(c.bytes)
		}
	}), nil
}

// A collecting is blocks being copied.
type collecting struct {
	blocks []buffer.Block
	sizes  []int // of the blocks' bytes, which lie in bytes one after the other
	bytes  *room
	lost   []buffer.Loss
	next   buffer.Offset
	newest int64 // version of messages that is known
}

// errFull ends a collecting: the next block does not fit.
var errFull = errors.New("no room")

func (c *collecting) add(m *kafka.Record, maxBytes int) error {
	size := 0
	if m.Value != nil {
		defer m.Value.Close()
		size = m.Value.Len()
	}
	if m.Key != nil {
		defer m.Key.Close()
	}
	offset := buffer.Offset(m.Offset)
	if offset < c.next {
		return nil // Kafka may answer with the whole batch that an offset is in
	}
	if len(c.blocks) > 0 && len(c.bytes.b)+size > maxBytes {
		return errFull
	}
	b, err := blockOf(m, c.newest)
	if err != nil {
		return err
	}
	if offset > c.next {
		c.lost = append(c.lost, buffer.Loss{Span: buffer.Span{From: c.next, To: offset}, Reason: reasonMissing})
	}
	if err := c.bytes.read(m.Value, size); err != nil {
		return err
	}
	c.blocks, c.sizes, c.next = append(c.blocks, b), append(c.sizes, size), offset+1
	return nil
}

// passMarks passes over marks of transactions, which kafka-go keeps to itself. Only producers that are not ours leave them, but
// nothing behind them could be read.
func (c *collecting) passMarks(records kafka.RecordReader) {
	stream, ok := records.(*protocol.RecordStream)
	if !ok {
		return
	}
	for _, batch := range stream.Records {
		if mark, ok := batch.(*protocol.ControlBatch); ok && buffer.Offset(mark.BaseOffset) >= c.next {
			next := buffer.Offset(mark.BaseOffset) + 1 // there is one in a batch
			c.lost = append(c.lost, buffer.Loss{Span: buffer.Span{From: c.next, To: next}, Reason: reasonMark})
			c.next = next
		}
	}
}

// room is memory for blocks that were read.
type room struct{ b []byte }

func (r *room) read(v protocol.Bytes, size int) error {
	if size == 0 {
		return nil
	}
	at := len(r.b)
	if cap(r.b)-at < size {
		r.b = append(make([]byte, 0, max(at+size, 2*cap(r.b))), r.b...)
	}
	r.b = r.b[:at+size]
	_, err := io.ReadFull(v, r.b[at:])
	return err
}

// keepRoom is the most memory that is used again: what a usual read brings. More is left to the garbage collector.
const keepRoom = 4 << 20

func (s *Store) room() *room {
	if r, ok := s.rooms.Get().(*room); ok {
		return r
	}
	return new(room)
}

func (s *Store) recycle(r *room) {
	if cap(r.b) <= keepRoom {
		r.b = r.b[:0]
		s.rooms.Put(r)
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(data []byte) uint32 { return crc32.Checksum(data, castagnoli) }

// isChecksumError says whether kafka-go has found that bytes are not those that were written. It has no kind of its own for that
// (protocol/record_v2.go).
func isChecksumError(err error) bool {
	return err != nil && strings.Contains(err.Error(), "crc32 checksum mismatch")
}
