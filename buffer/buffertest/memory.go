package buffertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/buffer"
)

// memoryMaxBlock is what Memory.MaxBlock returns.
const memoryMaxBlock = 8 << 20

// Memory is a buffer.Store in memory, for tests. Each lane has one partition, number 0, which this process always owns. It
// fails on request, and it spoils the bytes of a batch when that is released, so that a reader who goes on using them is found.
type Memory struct {
	log      string
	maxBytes int64

	mu      sync.Mutex
	changed chan struct{} // closed and made anew when a waiting Append, Read or Close should look again
	closed  bool
	holding int   // Holds that have not been resumed
	under   int   // Appends under way
	term    *term // in which the partitions are this process's
	fenced  bool
	faults  []Fault // what the next Appends meet
	unsaved []Fault // what the next Saves meet
	lanes   map[buffer.Lane]*memoryLane
}

// A term is the time from when this process gets its partitions to when it loses them.
type term struct {
	context.Context
	end context.CancelFunc
}

func newTerm() *term {
	ctx, cancel := context.WithCancel(context.Background())
	return &term{ctx, cancel}
}

type memoryLane struct {
	next     buffer.Offset
	blocks   []buffer.Block // by offset; those that are gone leave holes
	bytes    int64
	lost     []buffer.Loss
	progress map[string][]byte // by group, in its binary form
}

// NewMemory returns an empty Memory that holds at most maxBytes per lane, or any number when maxBytes is 0. Its log has a name
// of its own.
func NewMemory(maxBytes int64) *Memory {
	return &Memory{
		log:      "memory-" + rand.Text(),
		term:     newTerm(),
		maxBytes: maxBytes,
		changed:  make(chan struct{}),
		lanes:    make(map[buffer.Lane]*memoryLane),
	}
}

// Reopen ends m, as a crash would, and returns a Memory with what m had stored. What is under way in m fails.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	again := NewMemory(m.maxBytes)
	again.log = m.log
	again.lanes, m.lanes = m.lanes, make(map[buffer.Lane]*memoryLane)
	m.closed = true
	m.notify()
	return again
}

// FailNext makes the next Append that no earlier FailNext has claimed fail with ErrUnavailable.
func (m *Memory) FailNext(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, f)
}

// FailNextSave makes the next Save that no earlier FailNextSave has claimed fail with ErrUnavailable.
func (m *Memory) FailNextSave(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unsaved = append(m.unsaved, f)
}

// Lose makes another process own all partitions for a moment: whoever consumes loses them and gets them anew.
func (m *Memory) Lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.term.end()
	m.term = newTerm()
}

// Hold makes every Append wait until resume is called.
func (m *Memory) Hold() (resume func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holding++
	return sync.OnceFunc(func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.holding--
		m.notify()
	})
}

// Fence makes every further Save answer ErrFenced, as if another process owned all partitions now.
func (m *Memory) Fence() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fenced = true
}

// Drop loses the blocks of lane in span. Read tells of it.
func (m *Memory) Drop(lane buffer.Lane, span buffer.Span, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.lane(lane)
	l.remove(func(o buffer.Offset) bool { return span.From <= o && o < span.To })
	l.lost = append(l.lost, buffer.Loss{Span: span, Reason: reason})
	slices.SortFunc(l.lost, func(a, b buffer.Loss) int { return int(a.From - b.From) })
}

// MaxBlock is 8 MiB.
func (m *Memory) MaxBlock() int { return memoryMaxBlock }

// Append is as buffer.Store says.
func (m *Memory) Append(ctx context.Context, lane buffer.Lane, b *buffer.Block) error {
	defer b.Release()
	if len(b.Data) > memoryMaxBlock {
		return fmt.Errorf("block of %d bytes: %w: at most %d", len(b.Data), buffer.ErrTooLarge, memoryMaxBlock)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.under++
	defer m.ended()
	if err := m.until(ctx, func() bool { return m.holding == 0 }); err != nil {
		return fmt.Errorf("append: %w", err)
	}
	fault := next(&m.faults)
	if fault == Refused {
		return fmt.Errorf("append: %w: injected, nothing was stored", buffer.ErrUnavailable)
	}
	if err := m.lane(lane).append(b, m.maxBytes); err != nil {
		return err
	}
	m.notify()
	if fault == AnswerLost {
		return fmt.Errorf("append: %w: injected, the block was stored", buffer.ErrUnavailable)
	}
	return nil
}

// ended is called with mu held.
func (m *Memory) ended() {
	m.under--
	m.notify()
}

// next takes the first of the faults, or 0.
func next(faults *[]Fault) Fault {
	if len(*faults) == 0 {
		return 0
	}
	f := (*faults)[0]
	*faults = (*faults)[1:]
	return f
}

// until waits until ok, with mu held whenever ok is called. The error is ErrClosed or ctx's.
func (m *Memory) until(ctx context.Context, ok func() bool) error {
	for {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case m.closed:
			return buffer.ErrClosed
		case ok():
			return nil
		}
		m.await(ctx)
	}
}

// await waits for a change or the end of ctx. mu is held before and after, but not meanwhile.
func (m *Memory) await(ctx context.Context) {
	changed := m.changed
	m.mu.Unlock()
	defer m.mu.Lock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
}

func (m *Memory) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Memory) lane(name buffer.Lane) *memoryLane {
	l := m.lanes[name]
	if l == nil {
		l = &memoryLane{progress: make(map[string][]byte)}
		m.lanes[name] = l
	}
	return l
}

// Consume is as buffer.Store says.
func (m *Memory) Consume(
	ctx context.Context, group string, lanes []buffer.Lane, fn func(context.Context, buffer.Partition) error,
) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, lane := range lanes {
		all.Go(func() error { return m.own(ctx, &memoryPartition{m: m, lane: lane, group: group}, fn) })
	}
	all.Go(func() error { // without lanes, Consume waits all the same
		<-ctx.Done()
		return nil
	})
	return all.Wait()
}

// own runs fn once per term. A fn that returns early is not run again before the next one.
func (m *Memory) own(ctx context.Context, p *memoryPartition, fn func(context.Context, buffer.Partition) error) error {
	for ctx.Err() == nil {
		m.mu.Lock()
		owned := *p
		owned.term = m.term
		m.mu.Unlock()
		ours, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(owned.term, cancel)
		err := fn(ours, &owned)
		if err == nil {
			<-ours.Done()
		}
		stop()
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// Stats is as buffer.Store says.
func (m *Memory) Stats(context.Context) ([]buffer.PartitionStats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var stats []buffer.PartitionStats
	for name, l := range m.lanes {
		stats = append(stats, buffer.PartitionStats{
			ID: m.id(name), First: l.first(), Next: l.next, Bytes: l.bytes, MaxBytes: m.maxBytes,
		})
	}
	return stats, nil
}

func (m *Memory) id(lane buffer.Lane) buffer.PartitionID {
	return buffer.PartitionID{Log: m.log, Lane: lane}
}

// Close is as buffer.Store says. Appends that a Hold keeps waiting end with ErrClosed.
func (m *Memory) Close(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.notify()
	for m.under > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("close: %d appends are under way: %w", m.under, err)
		}
		m.await(ctx)
	}
	return nil
}

func (l *memoryLane) append(b *buffer.Block, maxBytes int64) error {
	size := int64(len(b.Data))
	if maxBytes > 0 && l.bytes+size > maxBytes {
		return fmt.Errorf("append %d bytes: %w: %d of %d bytes are held", size, buffer.ErrFull, l.bytes, maxBytes)
	}
	l.blocks = append(l.blocks, buffer.Block{
		Offset: l.next, Received: b.Received, Records: b.Records, Samples: b.Samples, Data: bytes.Clone(b.Data),
	})
	l.next++
	l.bytes += size
	return nil
}

func (l *memoryLane) first() buffer.Offset {
	if len(l.blocks) == 0 {
		return l.next
	}
	return l.blocks[0].Offset
}

func (l *memoryLane) remove(gone func(buffer.Offset) bool) {
	l.blocks = slices.DeleteFunc(l.blocks, func(b buffer.Block) bool {
		if !gone(b.Offset) {
			return false
		}
		l.bytes -= int64(len(b.Data))
		return true
	})
}

// save replaces the group's progress, as it was encoded, and removes what every group has done.
func (l *memoryLane) save(group string, encoded []byte) error {
	l.progress[group] = encoded
	all := make([]buffer.Progress, 0, len(l.progress))
	for _, data := range l.progress {
		var p buffer.Progress
		if err := p.UnmarshalBinary(data); err != nil {
			return err
		}
		all = append(all, p)
	}
	l.remove(func(o buffer.Offset) bool {
		return !slices.ContainsFunc(all, func(p buffer.Progress) bool { return !p.Contains(o) })
	})
	return nil
}

// batch copies the blocks that a Read returns. There is at least one.
func (l *memoryLane) batch(from buffer.Offset, maxBytes int) buffer.Batch {
	i, _ := slices.BinarySearchFunc(l.blocks, from, func(b buffer.Block, o buffer.Offset) int { return int(b.Offset - o) })
	var blocks []buffer.Block
	room := maxBytes
	for _, b := range l.blocks[i:] {
		if room -= len(b.Data); room < 0 && len(blocks) > 0 {
			break
		}
		b.Data = bytes.Clone(b.Data)
		blocks = append(blocks, b)
	}
	next := blocks[len(blocks)-1].Offset + 1
	var lost []buffer.Loss
	for _, loss := range l.lost {
		loss.From, loss.To = max(loss.From, from), min(loss.To, next)
		if loss.From < loss.To {
			lost = append(lost, loss)
		}
	}
	return buffer.NewBatch(blocks, lost, next, func() {
		for _, b := range blocks {
			for i := range b.Data {
				b.Data[i] = 0xdb
			}
		}
	})
}

// memoryPartition is a lane as one group sees it.
type memoryPartition struct {
	m     *Memory
	lane  buffer.Lane
	group string
	term  *term
}

func (p *memoryPartition) ID() buffer.PartitionID { return p.m.id(p.lane) }

func (p *memoryPartition) Bounds(context.Context) (first, next buffer.Offset, err error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	l := p.m.lane(p.lane)
	return l.first(), l.next, nil
}

func (p *memoryPartition) Read(ctx context.Context, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	l := p.m.lane(p.lane)
	err := p.m.until(ctx, func() bool { return len(l.blocks) > 0 && l.blocks[len(l.blocks)-1].Offset >= from })
	if err != nil {
		return buffer.Batch{}, fmt.Errorf("read %v from %d: %w", p.ID(), from, err)
	}
	return l.batch(from, maxBytes), nil
}

func (p *memoryPartition) Load(context.Context) (buffer.Progress, error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	l := p.m.lane(p.lane)
	progress := buffer.Progress{Log: p.m.log, Done: []buffer.Span{{To: l.first()}}}
	if data, saved := l.progress[p.group]; saved {
		if err := progress.UnmarshalBinary(data); err != nil {
			return buffer.Progress{}, err
		}
	}
	return progress, nil
}

func (p *memoryPartition) Save(_ context.Context, progress buffer.Progress) error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	switch {
	case p.m.fenced, p.term.Err() != nil:
		return fmt.Errorf("save progress of %v: %w", p.ID(), buffer.ErrFenced)
	case p.m.closed:
		return fmt.Errorf("save progress of %v: %w", p.ID(), buffer.ErrClosed)
	case progress.Log != p.m.log:
		return fmt.Errorf("save progress of %v: it belongs to log %q, this is %q", p.ID(), progress.Log, p.m.log)
	}
	data, err := progress.AppendBinary(nil)
	if err != nil {
		return err
	}
	fault := next(&p.m.unsaved)
	if fault == Refused {
		return fmt.Errorf("save progress of %v: %w: injected, nothing was saved", p.ID(), buffer.ErrUnavailable)
	}
	if err := p.m.lane(p.lane).save(p.group, data); err != nil {
		return err
	}
	if fault == AnswerLost {
		return fmt.Errorf("save progress of %v: %w: injected, it was saved", p.ID(), buffer.ErrUnavailable)
	}
	return nil
}
