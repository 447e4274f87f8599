package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// partition is a lane as one group sees it.
type partition struct {
	*lane
	group *group
}

func (p *partition) ID() buffer.PartitionID { return p.partitionID() }

func (p *partition) Bounds(context.Context) (first, next buffer.Offset, err error) {
	first, next = p.bounds()
	return first, next, nil
}

func (p *partition) Load(context.Context) (buffer.Progress, error) { return p.progress(p.group), nil }

func (p *partition) Save(_ context.Context, progress buffer.Progress) error {
	if progress.Log != p.id.String() {
		return fmt.Errorf("save progress of group %s: it belongs to log %q, this one is %v", p.group.name, progress.Log, p.id)
	}
	if !p.enter() {
		return fmt.Errorf("save progress of group %s: %w", p.group.name, buffer.ErrClosed)
	}
	defer p.users.Done()
	if err := p.save(p.group, progress); err != nil {
		return err
	}
	p.trim()
	return nil
}

// Read returns blocks of one segment at most. When all there is from the offset on is lost, the batch holds no block.
func (p *partition) Read(ctx context.Context, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	from = max(from, 0)
	var lost []buffer.Loss
	for {
		ext, err := p.find(from)
		switch {
		case err != nil:
			return buffer.Batch{}, err
		case ext.changed != nil && len(lost) > 0:
			return buffer.NewBatch(nil, lost, from, nil), nil
		case ext.changed != nil:
			if err := p.wait(ctx, ext.changed); err != nil {
				return buffer.Batch{}, err
			}
		case ext.segment == nil:
			lost = append(lost, p.unread(buffer.Span{From: from, To: ext.end})...)
			from = ext.end
		default:
			got, err := p.readSegment(ext, from, maxBytes)
			if errors.Is(err, fs.ErrNotExist) {
				p.vanished(ext.segment)
				continue // removed meanwhile
			}
			if err != nil && len(lost) > 0 {
				return buffer.NewBatch(nil, lost, from, nil), nil // what is lost is told, or it would be found out over and over
			}
			if err != nil {
				return buffer.Batch{}, fmt.Errorf("read lane %s from block %d: %w: %w", p.name, from, buffer.ErrUnavailable, err)
			}
			lost = append(lost, got.lost...)
			if len(got.blocks) > 0 {
				return buffer.NewBatch(got.blocks, lost, got.next, got.lease.release), nil
			}
			from = got.next
		}
	}
}

func (l *lane) wait(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-l.closing:
		return fmt.Errorf("read lane %s: %w", l.name, buffer.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("wait for a block in lane %s: %w", l.name, ctx.Err())
	}
}

// unread is what of a range without segment is lost to this group: what it has not done.
func (p *partition) unread(s buffer.Span) []buffer.Loss {
	p.mu.Lock()
	saved := p.group.saved
	p.mu.Unlock()
	var list []buffer.Loss
	for s.From < s.To {
		gap := saved.NextGap(s.From)
		if gap.From >= s.To {
			break
		}
		list = append(list, p.reasons(buffer.Span{From: gap.From, To: min(gap.To, s.To)})...)
		s.From = gap.To
	}
	return list
}

// vanished makes a segment whose file is not there one that is leaving. Unless it was leaving already, somebody else deleted it.
func (l *lane) vanished(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.leaving {
		return
	}
	s.leaving, s.absent = true, true
	l.forget(buffer.Span{From: s.first, To: s.end}, reasonVanished)
	l.log.Error("a segment's file has disappeared", "file", s.path, "from", s.first, "to", s.end)
}

// A reading is what was read of one segment.
type reading struct {
	blocks []buffer.Block
	lost   []buffer.Loss
	next   buffer.Offset
	lease  *lease // holds the blocks' bytes; nil without blocks
}

func (g *reading) release() {
	if g.lease != nil {
		g.lease.release()
	}
}

// A lease is a buffer that goes back once, however often it is released.
type lease struct {
	buffer   *buffered
	released atomic.Bool
}

func (l *lease) release() {
	if !l.released.Swap(true) {
		l.buffer.release()
	}
}

// readSegment reads blocks from an offset on that the segment holds: one or more, or what is lost up to the segment's end. When what
// cannot be read is given up, that ends where the index knows the next place to go on.
func (p *partition) readSegment(ext extent, from buffer.Offset, maxBytes int) (reading, error) {
	giveUp := p.outOfPatience(from)
	got, unreadable, err := p.tryReading(ext, from, maxBytes, giveUp)
	if giveUp && isUnreadable(err) { // nothing of the file can be read
		got, unreadable, err = reading{next: ext.end}, ext.size, nil
		got.lose(from, ext.end, reasonDamaged)
	}
	if unreadable > 0 && giveUp && !p.diskTakesWrites(from) {
		got.release()
		return reading{}, fmt.Errorf("the disk does not give %d bytes and takes none either", unreadable)
	}
	p.noteReading(from, unreadable, err)
	if err != nil {
		return reading{}, err
	}
	p.tellDamaged(ext.segment, got.lost, unreadable)
	return got, nil
}

// tryReading reads what readSegment returns, or nothing when it has to be looked up again. With giveUp, what cannot be read is zeros,
// of which unreadable are so many.
func (p *partition) tryReading(ext extent, from buffer.Offset, maxBytes int, giveUp bool) (got reading, unreadable int64, err error) {
	if ext.segment.late {
		return reading{next: from}, 0, p.openLate(ext.segment, giveUp)
	}
	if giveUp {
		ext = p.shortened(ext, from)
	}
	f, err := p.fs.Open(ext.segment.path)
	if err != nil {
		return reading{}, 0, err
	}
	defer f.Close()
	r := frames{f: f, sums: ext.segment.sums, limit: ext.size, pool: p.buffers, patient: giveUp}
	r.chunk = min(max(maxBytes, leastChunk), mostChunk) + frameHeadSize
	defer r.release()

	pos, got, err := r.collect(ext, from, maxBytes)
	if err != nil {
		return reading{}, r.unreadable, err
	}
	p.moveCursor(from, cursor{segment: ext.segment, offset: got.next, pos: pos})
	if len(got.blocks) > 0 {
		got.lease = &lease{buffer: r.detach()}
	}
	return got, r.unreadable, nil
}

const (
	// leastChunk and mostChunk bound what one read asks the disk for, unless a single block is larger.
	leastChunk = 64 << 10
	mostChunk  = 8 << 20
)

// collect reads on until it has blocks and the next one does not fit, and returns where that one begins.
func (r *frames) collect(ext extent, from buffer.Offset, maxBytes int) (pos int64, got reading, err error) {
	pos, got.next = ext.pos, ext.due
	size := 0
	for got.next < ext.end {
		if len(got.blocks) > 0 {
			fr, ok := r.inWindow(pos, got.next, maxBytes-size)
			if !ok {
				return pos, got, nil
			}
			got.blocks = append(got.blocks, fr.block())
			size += fr.head.size
			pos, got.next = fr.next, fr.due
			continue
		}
		fr, err := r.at(pos, got.next, ext.end)
		if err != nil {
			return 0, reading{}, err
		}
		due := got.next
		switch fr.state {
		case frameValid:
			if due >= from {
				got.blocks = append(got.blocks, fr.block())
				size += fr.head.size
			}
		case frameDamaged:
			got.lose(max(due, from), min(fr.due, ext.end), reasonDamaged)
		case frameNone:
			reason := reasonDamaged
			if pos >= ext.size {
				reason = reasonNoBlock
			}
			got.lose(max(due, from), ext.end, reason)
			fr.next, fr.due = ext.size, ext.end
		case frameIndex: // of a segment that could not be read to its end when it was opened: there are no further blocks
			got.lose(max(due, from), ext.end, reasonNoBlock)
			fr.next, fr.due = ext.size, ext.end
		}
		pos, got.next = fr.next, min(fr.due, ext.end)
	}
	return pos, got, nil
}

// inWindow returns the valid frame with at most so many bytes of data that stands at pos, if it is in the window already. If not,
// it is for the next read.
func (r *frames) inWindow(pos int64, due buffer.Offset, most int) (frame, bool) {
	if !r.holds(pos, frameHeadSize) {
		return frame{}, false
	}
	b := r.held[pos-r.start:]
	head, ok := parseHead(b, r.sums)
	if !ok || head.kind != kindBlock || head.offset != due || head.size > most || !r.holds(pos, head.frameSize()) {
		return frame{}, false
	}
	end := head.frameSize()
	fr := frame{state: frameValid, head: head, data: b[frameHeadSize:end:end], next: pos + end, due: due + 1}
	return fr, head.dataValid(b, r.sums)
}

func (fr frame) block() buffer.Block {
	return buffer.Block{
		Offset:   fr.head.offset,
		Received: time.UnixMilli(fr.head.received),
		Records:  int(fr.head.records),
		Samples:  int(fr.head.samples),
		Data:     fr.data,
	}
}

func (g *reading) lose(from, to buffer.Offset, reason string) {
	if from >= to {
		return
	}
	if n := len(g.lost); n > 0 && g.lost[n-1].To == from && g.lost[n-1].Reason == reason {
		g.lost[n-1].To = to
		return
	}
	g.lost = append(g.lost, buffer.Loss{Span: buffer.Span{From: from, To: to}, Reason: reason})
}

// damage is what a lane remembers of places that cannot be read.
type damage struct {
	told  map[buffer.Offset]struct{}  // damaged blocks that were counted and logged, first of each range
	since map[buffer.Offset]time.Time // when reading from there first failed
}

const (
	// maxDamage bounds what is remembered; beyond it, damage is told again.
	maxDamage = 1024
	// patience is how long a place that the disk cannot read is tried, while it does take writes, before the blocks on it are taken
	// for damaged.
	patience = time.Minute
)

// tellDamaged counts and logs damage that is seen for the first time.
func (l *lane) tellDamaged(s *segment, lost []buffer.Loss, unreadable int64) {
	if len(lost) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, loss := range lost {
		if _, known := l.damage.told[loss.From]; known || loss.Reason != reasonDamaged {
			continue
		}
		if l.damage.told == nil || len(l.damage.told) >= maxDamage {
			l.damage.told = make(map[buffer.Offset]struct{})
		}
		l.damage.told[loss.From] = struct{}{}
		l.metrics.damaged(l.name, int(loss.To-loss.From))
		l.log.Error("blocks are damaged and cannot be read; all others are", "file", s.path, "from", loss.From, "to", loss.To,
			"unreadable_bytes", unreadable)
	}
}

// noteReading notes whether the disk gave what is stored from an offset on, or for how many bytes zeros were made up.
func (l *lane) noteReading(from buffer.Offset, unreadable int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, known := l.damage.since[from]
	switch {
	case err == nil && unreadable == 0 && known: // it is well again
		delete(l.damage.since, from)
		return
	case known || !isUnreadable(err) && !errors.Is(err, errNotDurable):
		return
	}
	if l.damage.since == nil || len(l.damage.since) >= maxDamage {
		l.damage.since = make(map[buffer.Offset]time.Time)
	}
	l.damage.since[from] = time.Now()
}

// outOfPatience says whether reading from an offset has failed for so long that what cannot be read there is given up. It is not
// while the disk takes no writes either: then the disk is away, not the blocks, and acknowledged ones must not be lost for that.
func (p *partition) outOfPatience(from buffer.Offset) bool {
	p.mu.Lock()
	since, failing := p.damage.since[from]
	p.mu.Unlock()
	return failing && time.Since(since) >= patience && p.diskTakesWrites(from)
}

// diskTakesWrites tries to save the group's progress once more, which needs no space. If it cannot, patience with what cannot be read
// from an offset on begins anew.
func (p *partition) diskTakesWrites(from buffer.Offset) bool {
	if !p.enter() {
		return false
	}
	defer p.users.Done()
	err := p.saveAgain(p.group)
	if err == nil {
		return true
	}
	p.log.Error("the disk can neither be read nor written: waiting for it, and nothing is given up", "from", from, "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, failing := p.damage.since[from]; failing {
		p.damage.since[from] = time.Now()
	}
	return false
}
