package buffer

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A lane gathers the records of one Lane.
type lane struct {
	g       *Gatherer
	name    Lane
	metrics laneMetrics
	// room has a value for every block that the lane may still hold. A block takes it when it is opened and gives it back when
	// the Store has released its bytes. Who waits for it is served in order.
	room chan struct{}

	mu     sync.Mutex
	open   *gathering // nil when no block gathers
	onWay  int        // blocks that the Store has not answered
	closed bool
}

// A gathering is a block while records come in, and while they wait for its answer.
type gathering struct {
	header   header
	data     []byte
	releases []func()

	answered chan struct{} // closed when err is set
	err      error
}

func newLane(g *Gatherer, name Lane) *lane {
	l := &lane{g: g, name: name, metrics: g.metrics.of(name), room: make(chan struct{}, maxBlocks)}
	for range maxBlocks {
		l.room <- struct{}{}
	}
	select {
	case <-g.closing:
		l.closed = true
	default:
	}
	return l
}

// gather copies r into a block and returns the block. After an error nobody has taken over release.
func (l *lane) gather(ctx context.Context, r *Record, release func()) (*gathering, error) {
	size, err := r.encodedSize()
	if err != nil {
		return nil, err
	}
	if most := l.g.store.MaxBlock(); headerSize+size > most {
		return nil, fmt.Errorf("record of %d bytes: %w: at most %d fit", size, ErrTooLarge, most-headerSize)
	}
	if b, err := l.join(r, size, release); b != nil || err != nil {
		return b, err
	}
	select {
	case <-l.room:
	case <-l.g.closing:
		return nil, fmt.Errorf("gather a record: %w", ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("wait until one of %d blocks has been stored: %w", maxBlocks, ctx.Err())
	}
	return l.joinOrOpen(r, size, release)
}

// join adds r to the open block if it fits there, else it returns nil.
func (l *lane) join(r *Record, size int, release func()) (*gathering, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("gather a record: %w", ErrClosed)
	}
	b := l.open
	if b == nil || len(b.data)+size > cap(b.data) {
		return nil, nil //nolint:nilnil // neither joined nor refused
	}
	l.add(b, r, release)
	return b, nil
}

// joinOrOpen adds r to the open block, or to a new one for which the caller has taken room.
func (l *lane) joinOrOpen(r *Record, size int, release func()) (*gathering, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.open
	switch {
	case l.closed:
		l.room <- struct{}{}
		return nil, fmt.Errorf("gather a record: %w", ErrClosed)
	case b != nil && len(b.data)+size <= cap(b.data): // somebody else has opened one meanwhile
		l.room <- struct{}{}
	default:
		if b != nil {
			l.send()
		}
		b = l.begin(size)
	}
	l.add(b, r, release)
	return b, nil
}

// begin opens a block that r fits into.
func (l *lane) begin(size int) *gathering {
	b := &gathering{data: l.g.buffer(headerSize + size)[:headerSize], answered: make(chan struct{})}
	l.open = b
	return b
}

// add copies r into the open block b, and decides whether b leaves: now, or when it has lingered.
func (l *lane) add(b *gathering, r *Record, release func()) {
	first := b.header.records == 0
	b.header.add(r)
	b.data = appendRecord(b.data, r)
	if release != nil {
		b.releases = append(b.releases, release)
	}
	switch {
	case l.onWay == 0, l.g.linger == 0, len(b.data) >= l.g.target:
		l.send()
	case first:
		time.AfterFunc(l.g.linger, func() { l.lingered(b) })
	}
}

func (l *lane) lingered(b *gathering) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == b {
		l.send()
	}
}

// send hands the open block to the Store, in a goroutine that Close waits for. The caller holds mu.
func (l *lane) send() {
	b := l.open
	l.open = nil
	l.onWay++
	b.header.put(b.data)
	l.metrics.left(&b.header, len(b.data))
	l.g.sending.Go(func() {
		block := NewBlock(time.UnixMilli(b.header.oldest), int(b.header.records), int(b.header.samples), b.data,
			func() { l.released(b) })
		l.answer(b, l.g.store.Append(l.g.ctx, l.name, block))
	})
}

// answer tells everybody in b what became of it, and sends the block that gathered meanwhile if no other is on its way.
func (l *lane) answer(b *gathering, err error) {
	l.metrics.answered(err)
	b.err = err
	close(b.answered)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.onWay--
	if l.onWay == 0 && l.open != nil {
		l.send()
	}
}

// released takes the bytes back from the Store.
func (l *lane) released(b *gathering) {
	l.metrics.bytes.Sub(float64(len(b.data)))
	for _, release := range b.releases {
		release()
	}
	l.g.recycle(b.data)
	b.data = nil
	l.room <- struct{}{}
}

// close refuses further records and sends what has gathered.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.open != nil {
		l.send()
	}
}

// wait returns what became of the block, or ctx's error when that comes first.
func (b *gathering) wait(ctx context.Context) error {
	select {
	case <-b.answered:
		return b.err
	case <-ctx.Done():
		return fmt.Errorf("wait for a block to be stored: %w", ctx.Err())
	}
}
