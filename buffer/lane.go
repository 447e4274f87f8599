package buffer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// maxReleases is the most release functions that recycled bytes keep room for, 64 KiB of them; records are rarely so small.
const maxReleases = 8192

// A lane gathers the records of one Lane.
type lane struct {
	name    Lane
	g       *Gatherer
	metrics laneMetrics

	// Who finds no room waits at the door, first come first served; the first of them holds the door and listens to freed.
	door  chan struct{} // holds one token while somebody has the door
	freed chan struct{} // holds one token after a block was answered or released

	mu      sync.Mutex
	closed  bool
	waiting int    // Appends at the door; while there are any, nobody passes them by
	held    int    // blocks whose bytes are held, at most maxHeld
	sending int    // of them, those that the Store has not answered; with open at most maxBlocks
	open    *block // of them, the one that gathers; there is none unless some are sending
}

func newLane(g *Gatherer, name Lane) *lane {
	l := &lane{
		name:    name,
		g:       g,
		metrics: g.metrics.lane(name),
		door:    make(chan struct{}, 1),
		freed:   make(chan struct{}, 1),
	}
	select {
	case <-g.closing:
		l.closed = true
	default:
	}
	return l
}

// gather copies r into a block and returns the block, and what tells that r has waited too long if it had to wait for room: who
// had not is answered in time with the block. After an error, release is still the caller's to call.
func (l *lane) gather(ctx context.Context, r *Record, release func()) (b *block, late <-chan time.Time, err error) {
	size, err := r.encodedSize()
	if err != nil {
		return nil, nil, err
	}
	if most := l.g.store.MaxBlock(); headerSize+size > most {
		return nil, nil, fmt.Errorf("record of %d bytes makes a block of %d: %w, which takes at most %d",
			len(r.Payload), headerSize+size, ErrTooLarge, most)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("gather a record in lane %s: %w", l.name, err)
	}
	l.mu.Lock()
	if l.waiting == 0 {
		if b, err := l.place(r, size, release); b != nil || err != nil {
			l.mu.Unlock()
			return b, nil, err
		}
	}
	l.waiting++
	l.mu.Unlock()
	late = time.After(l.g.timeout)
	b, err = l.queue(ctx, late, r, size, release)
	return b, late, err
}

// queue waits for room and then does what place does.
func (l *lane) queue(ctx context.Context, late <-chan time.Time, r *Record, size int, release func()) (*block, error) {
	defer l.leaveQueue()
	select {
	case l.door <- struct{}{}:
	case <-l.g.closing:
		return nil, l.errClosed()
	case <-ctx.Done():
		return nil, l.errNoRoom(ctx.Err())
	case <-late:
		return nil, l.errNoRoom(l.errLate())
	}
	defer func() { <-l.door }()
	for {
		l.mu.Lock()
		b, err := l.place(r, size, release)
		l.mu.Unlock()
		if b != nil || err != nil {
			return b, err
		}
		select {
		case <-l.freed:
		case <-l.g.closing:
			return nil, l.errClosed()
		case <-ctx.Done():
			return nil, l.errNoRoom(ctx.Err())
		case <-late:
			return nil, l.errNoRoom(l.errLate())
		}
	}
}

func (l *lane) leaveQueue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting--
}

func (l *lane) errClosed() error {
	return fmt.Errorf("gather a record in lane %s: %w", l.name, ErrClosed)
}

func (l *lane) errNoRoom(why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Errorf("gather a record in lane %s: %d blocks wait to be stored, of at most %d, and the bytes of %d are held, of at most %d: %w",
		l.name, l.unanswered(), maxBlocks, l.held, maxHeld, why)
}

func (l *lane) errLate() error {
	return fmt.Errorf("%w: not stored within INGESTGW_BUFFER_APPEND_TIMEOUT=%v", ErrUnavailable, l.g.timeout)
}

// place copies r into the open block or opens one for it. It returns neither a block nor an error when there is no room.
// l.mu is held.
func (l *lane) place(r *Record, size int, release func()) (*block, error) {
	if l.closed {
		return nil, l.errClosed()
	}
	if l.open != nil && l.open.fits(size) {
		l.add(l.open, r, size, release)
		return l.open, nil
	}
	alone := headerSize+size > l.g.target()
	if !alone && l.open != nil {
		l.send(l.takeOpen()) // it is full
	}
	if l.unanswered() == maxBlocks || l.held == maxHeld {
		return nil, nil
	}
	b := l.newBlock(headerSize + size)
	l.add(b, r, size, release)
	if alone || l.sending == 0 {
		l.send(b)
		return b, nil
	}
	l.open = b
	b.linger = time.AfterFunc(l.g.linger, func() { l.lingered(b) })
	return b, nil
}

// unanswered is how many blocks have records that wait for an answer. l.mu is held.
func (l *lane) unanswered() int {
	if l.open != nil {
		return l.sending + 1
	}
	return l.sending
}

// newBlock returns a block with room for at least size bytes.
func (l *lane) newBlock(size int) *block {
	l.held++
	l.metrics.bytes.Add(headerSize)
	return &block{bytes: l.g.bytes(size), answered: make(chan struct{})}
}

func (l *lane) add(b *block, r *Record, size int, release func()) {
	b.add(r, release)
	l.metrics.bytes.Add(float64(size))
}

// lingered sends b unless it has left in the meantime.
func (l *lane) lingered(b *block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == b {
		l.send(l.takeOpen())
	}
}

// takeOpen ends the gathering of the open block.
func (l *lane) takeOpen() *block {
	b := l.open
	l.open = nil
	b.linger.Stop()
	return b
}

// send starts a goroutine that stores b. It ends when b and what it carries after b have been answered; Gatherer.Close waits
// for it. l.mu is held.
func (l *lane) send(b *block) {
	l.sending++
	l.g.sending.Go(func() { l.carry(b) })
}

// carry stores b, and then the block that has gathered meanwhile if none is on its way any more.
func (l *lane) carry(b *block) {
	for ; b != nil; b = l.next() {
		l.store(b)
	}
}

// store stores b and answers its records. The Store may release b later.
func (l *lane) store(b *block) {
	b.header.put(b.bytes.data)
	stored := NewBlock(time.UnixMilli(b.header.oldest), int(b.header.records), int(b.header.samples), b.bytes.data,
		func() { l.release(b) })
	ctx, cancel := context.WithTimeout(l.g.ctx, l.g.timeout)
	defer cancel()
	l.answer(b, stored, l.g.store.Append(ctx, l.name, stored))
}

// next notes that a block has been answered, and returns the one to carry then.
func (l *lane) next() *block {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sending--
	l.free()
	if l.sending > 0 || l.open == nil {
		return nil
	}
	l.sending++
	return l.takeOpen()
}

func (l *lane) answer(b *block, stored *Block, err error) {
	l.metrics.answered(stored, err)
	if err != nil && l.g.ctx.Err() != nil {
		// What ended is not the context of those who wait.
		err = fmt.Errorf("%w: stopped while it was being stored: %s", ErrUnavailable, err.Error())
	} else if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrUnavailable) {
		err = fmt.Errorf("%w: %s", l.errLate(), err.Error())
	}
	if err != nil {
		err = fmt.Errorf("store a block of %d records in lane %s: %w", stored.Records, l.name, err)
	}
	b.err = err
	close(b.answered)
}

// release is what the Store calls when it needs b's bytes no more. A second call would hand them to two blocks at once.
func (l *lane) release(b *block) {
	if b.released.Swap(true) {
		panic("buffer: the Store released a block twice")
	}
	for _, release := range b.bytes.releases {
		release()
	}
	l.metrics.bytes.Sub(float64(len(b.bytes.data)))
	l.g.recycle(b.bytes)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.held--
	l.free()
}

// free tells who has the door that there may be room. It never blocks. l.mu is held.
func (l *lane) free() {
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// close refuses further records and sends the open block.
func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.open != nil {
		l.send(l.takeOpen())
	}
}

// A block is records that are being gathered or stored.
type block struct {
	header   header
	bytes    *blockBytes // used again for another block once released
	released atomic.Bool
	linger   *time.Timer // set when it was the open block
	answered chan struct{}
	err      error // the Store's answer, once answered is closed
}

func (b *block) fits(size int) bool { return len(b.bytes.data)+size <= cap(b.bytes.data) }

func (b *block) add(r *Record, release func()) {
	b.header.add(r)
	b.bytes.data = appendRecord(b.bytes.data, r)
	if release != nil {
		b.bytes.releases = append(b.bytes.releases, release)
	}
}

// wait returns the Store's answer, or an error when ctx or the record's time ends before.
func (l *lane) wait(ctx context.Context, b *block, late <-chan time.Time) error {
	var why error
	select {
	case <-b.answered:
		return b.err
	case <-ctx.Done():
		why = ctx.Err()
	case <-late:
		why = l.errLate()
	}
	select {
	case <-b.answered:
		return b.err
	default:
		return fmt.Errorf("wait for a record to be stored, which may still happen: %w", why)
	}
}

// blockBytes is the part of a block that outlives its answer and is used again.
type blockBytes struct {
	data     []byte
	releases []func() // of the records in data
}

func newBlockBytes(size int) *blockBytes {
	return &blockBytes{data: make([]byte, headerSize, size)}
}

func (b *blockBytes) reset() {
	b.data = b.data[:headerSize]
	clear(b.releases)
	b.releases = b.releases[:0]
}
