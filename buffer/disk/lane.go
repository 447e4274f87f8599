package disk

import (
	"context"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// A lane is one sequence of blocks in a directory of its own. Its writer (writer.go) is the only one who appends; readers
// (read.go) take from the list of segments what they need and read without any lock.
type lane struct {
	*shared
	name    string
	dir     string
	log     *slog.Logger
	account *account

	queue   chan *pending  // to the writer
	wanted  chan struct{}  // to the writer: another lane finds no room; holds one token
	stopped chan struct{}  // closed when the writer has ended
	users   sync.WaitGroup // blocks on their way into queue, and saves

	aside atomic.Int64 // bytes of files that were set aside, as last counted

	removing sync.Mutex // held while segments are removed
	opening  sync.Mutex // held while a segment is opened late

	mu       sync.Mutex
	closed   bool
	segments []*segment // ascending; the last one is the newest and is never removed
	next     buffer.Offset
	changed  chan struct{} // closed when next has grown
	groups   map[string]*group
	gone     []buffer.Loss // why ranges are gone, as far as this process knows; ascending, few
	cursors  [cursors]cursor
	turn     int // the cursor to replace next
	damage   damage

	writer writer
}

// shared is what all lanes of a log have in common.
type shared struct {
	fs       fileSystem
	id       logID
	buffers  *buffers
	pendings *pendings
	quota    *quota
	metrics  *metrics
	cfg      Config
	closing  chan struct{}  // closed when the store begins to close
	all      func() []*lane // those that are open, in the order of their names
}

// A pending block waits for the writer's answer.
type pending struct {
	block *buffer.Block
	done  chan error // holds one
}

// pendings are used again once they were answered.
type pendings struct{ pool sync.Pool }

func (p *pendings) get(b *buffer.Block) *pending {
	if old, ok := p.pool.Get().(*pending); ok {
		old.block = b
		return old
	}
	return &pending{block: b, done: make(chan error, 1)}
}

// put takes back a pending block whose answer was read.
func (p *pendings) put(old *pending) {
	old.block = nil
	p.pool.Put(old)
}

// append hands b to the writer and waits for its answer.
func (l *lane) append(ctx context.Context, b *buffer.Block) error {
	if !l.enter() {
		b.Release()
		return fmt.Errorf("append to lane %s: %w", l.name, buffer.ErrClosed)
	}
	p := l.pendings.get(b)
	select {
	case l.queue <- p:
		l.users.Done()
	case <-ctx.Done():
		l.users.Done()
		b.Release()
		return fmt.Errorf("append to lane %s, in the queue: %w", l.name, ctx.Err())
	}
	select {
	case err := <-p.done:
		l.pendings.put(p)
		return err
	case <-ctx.Done():
		return fmt.Errorf("append to lane %s, being written: %w", l.name, ctx.Err())
	}
}

// enter says whether blocks are still taken. If so, close waits until users.Done.
func (l *lane) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.users.Add(1)
	return true
}

// close refuses new blocks and lets the writer end once it has answered all.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.users.Wait()
	close(l.queue)
	<-l.stopped
}

// newest is the last segment, nil when there is none.
func (l *lane) newest() *segment {
	if len(l.segments) == 0 {
		return nil
	}
	return l.segments[len(l.segments)-1]
}

// bounds are the offsets that can be read.
func (l *lane) bounds() (first, next buffer.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.firstKept(), l.next
}

func (l *lane) firstKept() buffer.Offset {
	for _, s := range l.segments {
		if !s.leaving && !s.empty() {
			return s.first
		}
	}
	return l.next
}

// published makes durable blocks readable; note has counted them in the newest segment. l.mu is held.
func (l *lane) published(next buffer.Offset) {
	l.next = next
	close(l.changed)
	l.changed = make(chan struct{})
}

// An extent is what the list of segments says about the place of an offset.
type extent struct {
	segment *segment      // nil: none holds the offset
	end     buffer.Offset // where segment or gap ends
	size    int64         // durable bytes of segment
	pos     int64         // where the frame of offset due begins, due being at or before the offset asked for
	due     buffer.Offset
	changed <-chan struct{} // set when the offset is not there yet
}

// find looks up an offset.
func (l *lane) find(o buffer.Offset) (extent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return extent{}, fmt.Errorf("read lane %s: %w", l.name, buffer.ErrClosed)
	}
	if o >= l.next {
		return extent{changed: l.changed}, nil
	}
	i := sort.Search(len(l.segments), func(i int) bool { return l.segments[i].end > o })
	for i < len(l.segments) && l.segments[i].leaving {
		i++
	}
	if i == len(l.segments) {
		return extent{end: l.next}, nil
	}
	s := l.segments[i]
	if s.first > o {
		return extent{end: s.first}, nil
	}
	at := s.entry(o)
	if pos, ok := l.cursorAt(s, o); ok {
		at = indexEntry{offset: o, pos: pos}
	}
	return extent{segment: s, end: s.end, size: s.size, pos: at.pos, due: at.offset}, nil
}

// shortened ends an extent at the next place behind the offset that its segment's index knows.
func (l *lane) shortened(ext extent, o buffer.Offset) extent {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := ext.segment.entryAfter(o)
	ext.end, ext.size = at.offset, at.pos
	return ext
}

// A cursor remembers where a reader stopped, so that reading on needs no search.
type cursor struct {
	segment *segment
	offset  buffer.Offset
	pos     int64
}

// cursors is how many readers of a lane can read on without a search.
const cursors = 8

func (l *lane) cursorAt(s *segment, o buffer.Offset) (pos int64, ok bool) {
	for _, c := range l.cursors {
		if c.segment == s && c.offset == o {
			return c.pos, true
		}
	}
	return 0, false
}

// moveCursor notes that a reader came from one offset and goes on with another.
func (l *lane) moveCursor(from buffer.Offset, to cursor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range l.cursors {
		if c.segment == to.segment && c.offset == from {
			l.cursors[i] = to
			return
		}
	}
	l.cursors[l.turn] = to
	l.turn = (l.turn + 1) % cursors
}

// maxGone bounds what is remembered of ranges that are gone: beyond it, neighbours are joined.
const maxGone = 32

// forget notes why a range is gone. l.mu is held.
func (l *lane) forget(s buffer.Span, reason string) {
	if n := len(l.gone); n > 0 && l.gone[n-1].To == s.From && l.gone[n-1].Reason == reason {
		l.gone[n-1].To = s.To
		return
	}
	l.gone = append(l.gone, buffer.Loss{Span: s, Reason: reason})
	if len(l.gone) > maxGone {
		l.gone = l.gone[1:]
	}
}

// reasons splits a range without segment by what is known about it.
func (l *lane) reasons(s buffer.Span) []buffer.Loss {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := append([]buffer.Loss(nil), l.gone...)
	sort.Slice(known, func(i, j int) bool { return known[i].From < known[j].From })
	var list []buffer.Loss
	for _, g := range known {
		from, to := max(g.From, s.From), min(g.To, s.To)
		if from >= to {
			continue
		}
		if from > s.From {
			list = append(list, buffer.Loss{Span: buffer.Span{From: s.From, To: from}, Reason: reasonMissing})
		}
		list = append(list, buffer.Loss{Span: buffer.Span{From: from, To: to}, Reason: g.Reason})
		s.From = to
	}
	if s.From < s.To {
		list = append(list, buffer.Loss{Span: s, Reason: reasonMissing})
	}
	return list
}

// Why blocks cannot be read.
const (
	reasonDamaged  = "damaged"
	reasonDropped  = "dropped to make room"
	reasonAside    = "segment set aside, its header is damaged"
	reasonMissing  = "not kept any more"
	reasonVanished = "the file of its segment was deleted"
	reasonNoBlock  = "never written, or cut off as an unfinished write"
)

func (l *lane) segmentCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segments)
}

// stats says what the lane holds.
func (l *lane) stats() buffer.PartitionStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := buffer.PartitionStats{ID: l.partitionID(), First: l.firstKept(), Next: l.next}
	for _, s := range l.segments {
		st.Bytes += s.disk
	}
	return st
}

func (l *lane) partitionID() buffer.PartitionID {
	return buffer.PartitionID{Log: l.id.String(), Lane: buffer.Lane(l.name)}
}

// failed says what kind of error it is that the disk answered an operation with.
func (l *lane) failed(op string, err error) error {
	kind := buffer.ErrUnavailable
	if isFull(err) {
		kind = buffer.ErrFull
	}
	return fmt.Errorf("%s in %s: %w: %w", op, l.dir, kind, err)
}

// A complaint logs what goes on failing once, then every few seconds, and its end. Its owner alone uses it.
type complaint struct {
	since, told time.Time
	count       int
}

// complaintPause is the time between two lines about the same trouble.
const complaintPause = 10 * time.Second

func (c *complaint) raise(log *slog.Logger, blocks int, err error) {
	now := time.Now()
	isNew := c.count == 0
	if isNew {
		c.since = now
	}
	c.count += blocks
	if isNew || now.Sub(c.told) >= complaintPause {
		c.told = now
		log.Error("the log on disk refuses blocks; senders get 503 and come back", "err", err, "refused", c.count, "since", c.since)
	}
}

func (c *complaint) end(log *slog.Logger) {
	if c.count > 0 {
		log.Info("the log on disk takes blocks again", "refused", c.count, "after", time.Since(c.since).Round(time.Millisecond))
		*c = complaint{}
	}
}
