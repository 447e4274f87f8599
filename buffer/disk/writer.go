package disk

import (
	"errors"
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

const (
	// queueBlocks is how many blocks may wait for the writer; their bytes are bounded by whoever appends.
	queueBlocks = 256
	// batchBlocks is the most blocks in one write.
	batchBlocks = 512

	// A disk that cannot take a new segment is tried again with the next block; when it fails again, after retryFirst, then after twice
	// as long, up to retryMost.
	retryFirst = 200 * time.Millisecond
	retryMost  = time.Second
)

// writer is what a lane's writing goroutine alone uses.
type writer struct {
	active *segment // nil: the next block needs a new one
	file   file     // of active
	heads  []byte   // of one batch
	bufs   [][]byte // of one batch
	batch  []*pending

	complaint complaint
	failures  int       // creations of a segment that failed since the last one that did not
	retryAt   time.Time // not before, after a failure
	failure   error
}

// run answers pending blocks until the queue is closed, then seals. Open starts it, close waits for it.
func (l *lane) run() {
	defer close(l.stopped)
	var carried *pending
	for {
		p := carried
		if p == nil {
			p = l.await()
		}
		if p == nil {
			break
		}
		carried = l.gather(p)
		l.answer(l.commit())
	}
	if l.writer.active != nil {
		l.retire()
	}
}

// await returns the next block, nil when there will be none. Meanwhile it makes way for other lanes.
func (l *lane) await() *pending {
	for {
		select {
		case p := <-l.queue: // nil once it is closed
			return p
		case <-l.wanted:
			l.makeWay()
		}
	}
}

// gather makes a batch of first and of what else waits already. It returns a block that is too many.
func (l *lane) gather(first *pending) (carried *pending) {
	most := min(batchBytes, l.account.segment(int64(l.cfg.SegmentBytes)))
	w := &l.writer
	w.batch = append(w.batch[:0], first)
	for size := frameBytes(first.block); size < most && len(w.batch) < batchBlocks; {
		select {
		case p, ok := <-l.queue:
			if !ok {
				return nil
			}
			if size += frameBytes(p.block); size > most {
				return p
			}
			w.batch = append(w.batch, p)
		default:
			return nil
		}
	}
	return nil
}

func frameBytes(b *buffer.Block) int64 { return frameHeadSize + int64(len(b.Data)) }

// answer gives all blocks of the batch back, and the result to those who wait.
func (l *lane) answer(err error) {
	l.metrics.appended(l.name, len(l.writer.batch), err)
	if err != nil {
		l.writer.complaint.raise(l.log, len(l.writer.batch), err)
	} else {
		l.writer.complaint.end(l.log)
	}
	for i, p := range l.writer.batch {
		p.block.Release()
		p.done <- err
		l.writer.batch[i] = nil
	}
	clear(l.writer.bufs) // of which WriteAll may have left some
}

// commit makes the batch durable and readable, as a whole or not at all.
func (l *lane) commit() error {
	w := &l.writer
	if w.resting() {
		return w.failure
	}
	var size int64
	for _, p := range w.batch {
		size += frameBytes(p.block)
	}
	if err := l.makeRoom(size); err != nil {
		return err
	}
	defer l.account.add(-size) // what was written is counted with its segment
	err := l.prepare(size)
	if err == nil {
		err = l.writeBatch()
	}
	if errors.Is(err, buffer.ErrFull) { // the disk has less room than the quota: the sender's next try is to find some
		_, _ = l.gain(size) // whatever goes wrong is tried again then
	}
	return err
}

// resting says whether it is too early to try again to create a segment.
func (w *writer) resting() bool { return w.failures > 1 && time.Now().Before(w.retryAt) }

// prepare sees to it that there is a segment for a batch of that size.
func (l *lane) prepare(size int64) error {
	a := l.writer.active
	if a != nil && (a.empty() || a.size+size <= l.account.segment(int64(l.cfg.SegmentBytes))) && !l.deleted(a) {
		return nil
	}
	return l.renew()
}

// deleted says whether a reader has found that a segment's file was deleted.
func (l *lane) deleted(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return s.absent
}

// writeBatch appends the batch to the active segment.
func (l *lane) writeBatch() error {
	w := &l.writer
	s := w.active
	if err := w.file.WriteAll(l.encodeBatch(), s.size); err != nil {
		return l.writeFailed(err)
	}
	start := time.Now()
	err := w.file.Sync()
	l.metrics.synced(time.Since(start), err)
	if err != nil {
		l.abandon(err)
		return l.failed("sync a segment", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.absent { // meanwhile: the next block gets another segment
		return fmt.Errorf("write to %s: %w: somebody has deleted the file", s.path, buffer.ErrUnavailable)
	}
	for _, p := range w.batch {
		s.note(blockHead(s.end, p.block), s.size)
	}
	l.resized(s, s.size)
	l.published(s.end)
	return nil
}

// encodeBatch returns what is to be written: heads of our own, and the blocks' bytes where they are.
func (l *lane) encodeBatch() [][]byte {
	w := &l.writer
	if n := len(w.batch) * frameHeadSize; cap(w.heads) < n {
		w.heads = make([]byte, n)
	}
	w.bufs = w.bufs[:0]
	for i, p := range w.batch {
		head := w.heads[i*frameHeadSize : (i+1)*frameHeadSize]
		blockHead(w.active.end+buffer.Offset(i), p.block).put(head, w.active.sums, p.block.Data)
		w.bufs = append(w.bufs, head, p.block.Data)
	}
	return w.bufs
}

// writeFailed leaves no byte of the batch behind the segment's durable end, or closes the segment for good.
func (l *lane) writeFailed(err error) error {
	w := &l.writer
	l.metrics.writeErrors.Inc()
	if !isFull(err) {
		l.abandon(err)
	} else if cut := w.file.Truncate(w.active.size); cut != nil {
		l.abandon(errors.Join(err, cut))
	}
	return l.failed("write to a segment", err)
}

// abandon closes the active segment for good, as nobody knows what is on the disk behind its last durable block: it is read up to
// there, and the next segment begins with the offset that is due.
func (l *lane) abandon(err error) {
	w := &l.writer
	l.log.Error("closing a segment for good at its last durable block, as the disk failed; nothing acknowledged is lost",
		"file", w.active.path, "durable_bytes", w.active.size, "next_block", w.active.end, "err", err)
	l.putAway()
}

// retire seals the active segment and closes it.
func (l *lane) retire() {
	s := l.writer.active
	if !s.empty() {
		start := time.Now()
		size, err := s.finish(l.writer.file)
		l.metrics.synced(time.Since(start), err)
		if err != nil {
			l.log.Warn("cannot seal a segment: it is read all the same, and sealed at the next start", "file", s.path, "err", err)
		} else {
			l.mu.Lock()
			s.sealed = true
			l.resized(s, size)
			l.mu.Unlock()
		}
	}
	l.putAway()
}

// putAway closes the active segment's file.
func (l *lane) putAway() {
	w := &l.writer
	if !w.active.sealed {
		if size, err := w.file.Size(); err == nil {
			l.mu.Lock()
			l.resized(w.active, size)
			l.mu.Unlock()
		}
	}
	if err := w.file.Close(); err != nil {
		l.log.Warn("cannot close a segment", "file", w.active.path, "err", err)
	}
	w.active, w.file, w.bufs = nil, nil, nil
}

// renew retires the active segment and makes a new one for the block that is due.
func (l *lane) renew() error {
	w := &l.writer
	if w.active != nil {
		l.retire()
	}
	s, f, err := createSegment(l.fs, l.dir, l.name, l.id, l.next)
	if err != nil {
		w.failures++
		w.retryAt = time.Now().Add(min(retryFirst<<min(max(w.failures-2, 0), 10), retryMost))
		w.failure = l.failed("create a segment", err)
		return w.failure
	}
	w.active, w.file, w.failures = s, f, 0
	l.mu.Lock()
	if old := l.newest(); old != nil && old.first == s.first {
		l.resized(old, 0) // it had no durable block; the new file has taken its name
		l.segments = l.segments[:len(l.segments)-1]
	}
	l.segments = append(l.segments, s)
	l.resized(s, s.size)
	l.mu.Unlock()
	l.trim() // the one before may be done
	l.keepSpares()
	l.countAside()
	return nil
}

// resized counts what a segment takes of the disk. l.mu is held.
func (l *lane) resized(s *segment, size int64) {
	n := allocated(size)
	l.account.add(n - s.disk)
	s.disk = n
}
