package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

const (
	// readSize is the bytes of blocks that are read at one time when there is a backlog.
	readSize = 1 << 20
	// saveEvery is how often progress is saved if it has changed.
	saveEvery = time.Second
	// saveAlarm is for how long it may fail before that is an error.
	saveAlarm = 30 * time.Second
	// holdRetry is how often a block of a newer version, which holds its partition, is looked at again.
	holdRetry = time.Minute
)

// A partition is one sequence of blocks that is being forwarded. Of each offset it knows whether it is
//
//	done      nobody has to send it any more: settled, lost or undecodable; this is what is saved
//	claimed   done, or read, or sent and not yet settled: not to be read now
//
// Everything else is to be read, the oldest first. A block that settling finds dirty is simply not claimed any more: being
// older than what is read meanwhile, it is read next.
//
// KNOWN GAP: done takes 16 bytes for each run of settled blocks between others that are not. A node on which nothing settles
// for hours, while others settle, makes one such run of every few blocks in which it had no part.
type partition struct {
	f       *Forwarder
	src     buffer.Partition
	log     *slog.Logger
	lane    *lane
	metrics *partitionMetrics
	line    *tally // its parcels that wait for their first permit
	// strangers are those of them whose tenants are new, which wait for each other.
	strangers *tally
	sorting   sorting // of the blocks that are being dispatched
	// sending is the context of requests. It ends later than the one of reading, so that requests can end in peace.
	sending context.Context
	ships   sync.WaitGroup

	saving sync.Mutex // held during a Save, so that an older progress never replaces a newer one

	mu        sync.Mutex
	done      buffer.Progress
	changed   bool          // done has changed since it was saved
	committed buffer.Offset // of done as it was saved last
	claimed   buffer.Progress
	dirtied   buffer.Progress // not a progress, but a set of offsets: those that are being sent once more
	// held says when the blocks that were read and not yet sent had been received.
	held       map[buffer.Offset]time.Time
	blocksSent int64            // repetitions included
	mean       buffer.BlockMean // of the blocks that were read
	// stopReading ends a Read that may wait for new blocks, because there are older ones to be read.
	stopReading context.CancelFunc
}

func newPartition(f *Forwarder, src buffer.Partition) *partition {
	id := src.ID()
	return &partition{
		f:           f,
		src:         src,
		lane:        f.lane(id.Lane),
		line:        newTally(),
		strangers:   newTally(),
		log:         f.log.With("partition", id.String()),
		metrics:     f.metrics.partition(id),
		held:        map[buffer.Offset]time.Time{},
		stopReading: func() {},
	}
}

// run forwards the partition until ctx ends, another process owns it, or the Store is closed. It starts the goroutines of the
// blocks that are on their way, the one that saves progress and the one that measures the backlog, which wait for each other in
// nothing; and it waits for all of them.
func (p *partition) run(ctx context.Context) {
	if !p.load(ctx) {
		p.metrics.forget()
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var stopSending context.CancelFunc
	p.sending, stopSending = context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	keeping, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	var keeper sync.WaitGroup
	keeper.Go(func() { p.keep(keeping, cancel) })
	var observing sync.WaitGroup
	observing.Go(func() { p.observe(ctx) })

	p.read(ctx)
	cancel()
	observing.Wait()
	p.metrics.forget() // the backlog is another's to tell from now on, though requests may be on their way for a while
	p.saveLast(ctx)    // in case that there is no time for what follows
	stop := time.AfterFunc(drainTime, stopSending)
	p.ships.Wait()
	stop.Stop()
	p.f.settle.forget(p)
	stopKeeping()
	keeper.Wait()
	p.saveLast(ctx)
}

// load gets the progress and says whether the partition is still to be forwarded.
func (p *partition) load(ctx context.Context) bool {
	for failures := 1; ; failures++ {
		progress, err := p.src.Load(ctx)
		if err == nil {
			progress.Log = p.src.ID().Log
			p.done, p.claimed, p.committed = progress.Clone(), progress.Clone(), progress.Committed()
			p.log.Info("forwarding a partition", "committed", progress.Committed(), "log", progress.Log)
			return true
		}
		if errors.Is(err, buffer.ErrNewerVersion) {
			if !p.hold(ctx, "the progress", err) {
				return false
			}
		} else if !p.retry(ctx, "load progress", err, failures) {
			return false
		}
	}
}

// retry waits after an error of the Store, and says whether to try again.
func (p *partition) retry(ctx context.Context, what string, err error, failures int) bool {
	if ctx.Err() != nil {
		return false
	}
	if errors.Is(err, buffer.ErrFenced) || errors.Is(err, buffer.ErrClosed) {
		p.log.Info("the partition is ours no more", "what", what, "err", err)
		return false
	}
	p.metrics.storeErrors.Inc()
	wait := p.f.backoff.after(failures)
	p.log.Error("the buffer fails, trying again", "what", what, "err", err, "wait", wait)
	return sleep(ctx, wait)
}

// read reads blocks and sends them on their way until ctx ends or the partition is ours no more.
func (p *partition) read(ctx context.Context) {
	for failures := 0; ; {
		l, err := p.fetch(ctx)
		fetched := time.Now()
		if err == nil {
			err = p.dispatch(ctx, l)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && p.sorting.sparse:
			failures = 0
			sleep(ctx, packPause-time.Since(fetched))
		case err == nil, errors.Is(err, context.Canceled): // of a Read that stopReading has ended
			failures = 0
		case errors.Is(err, buffer.ErrNewerVersion):
			if !p.hold(ctx, "a block", err) {
				return
			}
		default:
			failures++
			if !p.retry(ctx, "read blocks", err, failures) {
				return
			}
		}
	}
}

// hold waits because of what only a newer version can read: a block, or progress. Nothing is sent meanwhile, so that nothing overtakes
// the block or is sent anew.
func (p *partition) hold(ctx context.Context, what string, err error) bool {
	p.metrics.onHold.Set(1)
	defer p.metrics.onHold.Set(0)
	p.log.Error(what+" was written by a newer version: nothing of this partition is sent until that version runs here", "err", err)
	return sleep(ctx, holdRetry)
}

// fetch reads the oldest blocks that are not claimed. A read that has something to return at once is paid for from the budget
// beforehand. One that may have to wait for new blocks is paid for when they have come, as idle partitions must not keep the
// budget from busy ones; it takes a single block.
func (p *partition) fetch(ctx context.Context) (*load, error) {
	ctx, from, cancel := p.aim(ctx)
	defer cancel()
	_, next, err := p.src.Bounds(ctx)
	if err != nil {
		return nil, fmt.Errorf("bounds: %w", err)
	}
	l := &load{budget: p.lane.budget, from: from}
	size := 1
	if from < next {
		size = int(min(readSize, max(1, l.budget.Limit()/4)))
		if err := l.pay(ctx, int64(size)); err != nil {
			return nil, err
		}
	}
	l.batch, err = p.src.Read(ctx, from, size)
	if err != nil {
		l.free()
		return nil, fmt.Errorf("read from offset %d: %w", from, err)
	}
	if err := l.settleAccount(ctx); err != nil {
		l.batch.Release()
		return nil, err
	}
	l.last = l.batch.Next >= next
	return l, nil
}

// aim says where to read, under a context that ends when there is something older to be read.
func (p *partition) aim(ctx context.Context) (context.Context, buffer.Offset, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopReading = cancel
	return ctx, p.claimed.NextGap(0).From, cancel
}

// dispatch sends the blocks of l on their way, in parcels, each as soon as a node has room: what goes as it came block by block, and
// then the small records of all blocks together.
func (p *partition) dispatch(ctx context.Context, l *load) error {
	p.lose(l.batch.Lost)
	blocks, ok := p.claim(l)
	l.holders.Store(int64(len(blocks)) + 1) // one for the loop
	defer l.drop()
	p.sorting.begin(p)
	sent, err := 0, error(nil)
	for sent < len(blocks) && err == nil {
		var s *shipment
		if s, err = p.open(l, &blocks[sent]); err == nil {
			sent++
			err = p.sorting.block(ctx, s)
		}
	}
	p.unclaim(blocks[sent:])
	l.holders.Add(-int64(len(blocks) - sent)) // the loop's is still there
	err = cmp.Or(err, p.sorting.end(ctx, l))
	if err == nil && !ok { // or it would be asked for the same over and over
		return fmt.Errorf("read from offset %d: there came neither that block nor word of its loss", l.from)
	}
	return err
}

// open decodes a block. There is none when it is damaged and passed over. An error means that it stays where it is.
func (p *partition) open(l *load, b *buffer.Block) (*shipment, error) {
	s := p.f.shipment(p, l, b)
	var err error
	if s.records, err = buffer.DecodeBlock(b.Data, s.records[:0]); err == nil {
		s.left = len(s.records)
		for i := range s.records {
			s.samples += s.records[i].Samples
		}
		return s, nil
	}
	p.f.recycle(s)
	if errors.Is(err, buffer.ErrNewerVersion) {
		return nil, fmt.Errorf("block %d: %w", b.Offset, err)
	}
	p.pass(b, err)
	l.drop()
	return nil, nil //nolint:nilnil // said above
}

// ship sends a parcel on its way, into the line for its node if there is no room yet, and returns when not too many of the
// partition's are in the line. An error, which is ctx's, means that the parcel was given up, or may be.
func (p *partition) ship(ctx context.Context, c *parcel) error {
	c.pending = c.items
	if err := p.lane.parked.below(ctx, maxParked); err != nil {
		c.abandon()
		return err
	}
	line, most := p.line, p.f.fleet.inLine()+1
	if c.strange {
		line, most = p.strangers, maxStrangers
	}
	w := c.want()
	line.enter()
	p.f.fleet.queue(w)
	p.ships.Go(func() { c.run(ctx, w, line.leave) })
	return line.below(ctx, most)
}

// claim marks the blocks of l as taken and returns those that were not taken already. ok means that the first offset asked for
// is taken care of.
func (p *partition) claim(l *load) (fresh []buffer.Block, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fresh = make([]buffer.Block, 0, len(l.batch.Blocks))
	for _, b := range l.batch.Blocks {
		if p.claimed.Contains(b.Offset) {
			continue
		}
		p.claimed.Add(buffer.Span{From: b.Offset, To: b.Offset + 1})
		p.held[b.Offset] = b.Received
		p.mean.Add(&b)
		fresh = append(fresh, b)
	}
	return fresh, p.claimed.Contains(l.from)
}

// unclaim is for blocks that were not sent. They are read again when their turn comes.
func (p *partition) unclaim(blocks []buffer.Block) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range blocks {
		p.claimed.Remove(buffer.Span{From: b.Offset, To: b.Offset + 1})
		delete(p.held, b.Offset)
	}
}

// lose marks done what can never be read.
func (p *partition) lose(losses []buffer.Loss) {
	for _, loss := range losses {
		lost := p.finishUnclaimed(loss.Span)
		if lost == 0 {
			continue
		}
		p.metrics.lost(loss.Reason).Add(float64(lost))
		p.log.Error("blocks were lost before they were sent", "blocks", lost, "from", loss.From, "to", loss.To, "reason", loss.Reason)
	}
}

// finishUnclaimed marks done what of the span nobody has claimed, and says how many blocks that were.
func (p *partition) finishUnclaimed(s buffer.Span) (blocks buffer.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for gap := p.claimed.NextGap(s.From); gap.From < s.To; gap = p.claimed.NextGap(s.From) {
		gap.To = min(gap.To, s.To)
		p.finish(gap)
		blocks += gap.To - gap.From
		s.From = gap.To
	}
	return blocks
}

// pass gives up a block whose bytes are damaged in a way that its checksum does not show.
func (p *partition) pass(b *buffer.Block, err error) {
	p.metrics.malformed.Inc()
	p.log.Error("a block cannot be decoded and is passed over", "offset", b.Offset, "bytes", len(b.Data), "records", b.Records,
		"samples", b.Samples, "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, b.Offset)
	p.finish(buffer.Span{From: b.Offset, To: b.Offset + 1})
}

// finish marks blocks done. p.mu is held.
func (p *partition) finish(s buffer.Span) {
	p.done.Add(s)
	p.claimed.Add(s)
	p.dirtied.Remove(s)
	p.changed = true
}

// sent hands a block to settling, all of whose records have got their 2xx.
func (p *partition) sent(off buffer.Offset, samples int, tickets []ticket) {
	span := buffer.Span{From: off, To: off + 1}
	p.mu.Lock()
	delete(p.held, off)
	p.blocksSent++
	again := p.dirtied.Contains(off)
	p.dirtied.Remove(span)
	trusted := p.f.cfg.Settle == 0
	if trusted {
		p.finish(span)
	}
	p.mu.Unlock()
	if again {
		p.metrics.resent.Add(float64(samples))
	}
	if !trusted {
		p.f.settle.sent(p, off, tickets)
	}
}

// settled implements settlePartition.
func (p *partition) settled(spans []buffer.Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range spans {
		p.finish(s)
	}
}

// dirty implements settlePartition.
func (p *partition) dirty(spans []buffer.Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range spans {
		p.claimed.Remove(s)
		p.dirtied.Add(s)
	}
	p.stopReading()
}

// keep saves progress until ctx ends. It calls lost when another process owns the partition.
func (p *partition) keep(ctx context.Context, lost func()) {
	saved := time.Now()
	for sleep(ctx, saveEvery) {
		saving, cancel := context.WithTimeout(ctx, saveTimeout)
		err := p.save(saving)
		cancel()
		switch {
		case err == nil:
			saved = time.Now()
		case errors.Is(err, buffer.ErrFenced):
			p.log.Info("the partition is ours no more", "what", "save progress", "err", err)
			lost()
		case ctx.Err() == nil:
			p.metrics.storeErrors.Inc()
			level := slog.LevelWarn // usual while partitions are shared out anew
			if time.Since(saved) > saveAlarm {
				level = slog.LevelError
			}
			p.log.Log(ctx, level, "cannot save progress, trying again; after a restart more would be sent twice", "err", err, "saved", saved)
		}
	}
}

// save saves the progress if it has changed.
func (p *partition) save(ctx context.Context) error {
	p.saving.Lock()
	defer p.saving.Unlock()
	p.mu.Lock()
	if !p.changed {
		p.mu.Unlock()
		return nil
	}
	progress := p.done.Clone()
	p.changed = false
	p.mu.Unlock()
	err := p.src.Save(ctx, progress)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.changed = true
		return err
	}
	p.committed = progress.Committed()
	return nil
}

// saveLast saves although ctx has ended.
func (p *partition) saveLast(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if err := p.save(ctx); err != nil && !errors.Is(err, buffer.ErrFenced) {
		p.log.Error("cannot save progress at the end; some blocks will be sent twice", "err", err)
	}
}
