package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// A 2xx of vminsert means that the rows are in its memory. From there they go to the memory of a vmstorage, and from there to
// disk. The settler finds out when they are there, and which blocks have to be sent again because a process died that may have
// held the only copy. What it concludes, and from what, stands in settle_rule.go and settle_evidence.go; this file keeps the
// books: which blocks were sent when, and to whom.
//
//	sent ─▶ bucket ──(a) same vminsert, (b) passed on──▶ passed ──(c) on disk──▶ settled
//	           └───────────── a restart ───────────────────┴───▶ dirty ──quiet──▶ sent again

// How settling is decided.
const (
	// settleAuto watches the processes, and goes by the clock where they cannot be watched.
	settleAuto = "auto"
	// settleWatch watches the processes and settles nothing where they cannot be watched.
	settleWatch = "watch"
	// settleTime goes by the clock and watches nothing.
	settleTime = "time"
)

const (
	// settleTick is how often the evidence is looked at.
	settleTick = 250 * time.Millisecond
	// dirtyAtMost is how long what has to be sent again waits for restarts to end: a rolling restart of many storages must not
	// send the same blocks again after each.
	dirtyAtMost = 5 * time.Minute
	// minLostAfter leaves room for the time-out of a poll of vminsert.
	minLostAfter = 5 * time.Second
)

// SettleConfig says when a block that vminsert has taken counts as safe.
type SettleConfig struct {
	Settle      time.Duration `default:"30s" desc:"How long all vmstorages have to be seen alive after they got a block before it counts as safe on their disks. At least 10 s plus twice the longest -inmemoryDataFlushInterval among them is taken. 0: vminsert's 2xx is trusted, which loses what it held in memory when a server dies."`
	SettleMode  string        `split_words:"true" default:"auto" desc:"How it is found out that a block is safe: watch (from the metrics of every vminsert and vmstorage; nothing counts as safe while they cannot be read), time (60 s after it was sent, without looking; what a dying server held in memory is lost), or auto (watch, and time with an alarm where the metrics cannot be read or several servers hide behind one address)."`
	LostAfter   time.Duration `split_words:"true" default:"60s" desc:"How long the metrics of a vminsert or vmstorage have to be unreadable, in two polls at least, until it counts as dead and what it may have held in memory is sent again. At least 5s."`
	StorageURLs settings.URLs `split_words:"true" desc:"Base URLs of the metrics of all vmstorages, separated by commas, such as http://vmstorage-0:8482; names are resolved to every address, dns+srv:http://name asks for SRV records. Empty: port 8482 of the hosts that vminsert names as its storages."`
	Pollers     int           `default:"2" desc:"How many ingestgw processes read the metrics of the same vminserts and vmstorages. The more there are and the larger a page is, the less often each reads it, so that all together cost a server less than 1 % of a core. They read at the same moments by the clock of the server, so that they share its pages. A vminsert at which requests fail or take more than 2 s is read sooner, three times within 48 s."`
	Watch       bool          `default:"true" desc:"Whether the metrics of vminsert and vmstorage are read for alarms and the status page also where settling does not need them (FORWARD_SETTLE=0 or FORWARD_SETTLE_MODE=time). false: nothing is read there, and alarms cannot say what is wrong behind the gateway."`
}

// Validate says all that is wrong.
func (c SettleConfig) Validate() error {
	var errs []error
	if c.Settle < 0 {
		errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_SETTLE is %s: want 0 or more", c.Settle))
	}
	if c.SettleMode != settleAuto && c.SettleMode != settleWatch && c.SettleMode != settleTime {
		errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_SETTLE_MODE is %q: want auto, watch or time", c.SettleMode))
	}
	if c.LostAfter < minLostAfter {
		errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_LOST_AFTER is %s: want at least %s", c.LostAfter, minLostAfter))
	}
	for _, u := range c.StorageURLs {
		if err := downstream.CheckURL(u.URL); err != nil {
			errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_STORAGE_URLS: %w", err))
		}
	}
	if c.Pollers < 1 {
		errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_POLLERS is %d: want at least 1", c.Pollers))
	}
	return errors.Join(errs...)
}

// watches is whether settling looks at metrics.
func (c SettleConfig) watches() bool { return c.Settle > 0 && c.SettleMode != settleTime }

// watchConfig is for the Watch that the settler looks at, or nobody but alarms.
func (c SettleConfig) watchConfig() downstream.WatchConfig {
	w := downstream.WatchConfig{Pollers: c.Pollers, Optional: !c.watches()}
	for _, u := range c.StorageURLs {
		w.StorageURLs = append(w.StorageURLs, u.URL)
	}
	return w
}

// A watcher is what a settler asks of a downstream.Watch.
type watcher interface {
	SetNodes([]downstream.Endpoint)
	State() downstream.State
	Run(context.Context) error
}

// A settlePartition is told what becomes of the blocks that were sent. The settler calls it from a goroutine of its own and
// holds no lock meanwhile. A call that is on its way when forget returns may still arrive.
type settlePartition interface {
	// settled: these blocks are safe.
	settled(spans []buffer.Span)
	// dirty: these blocks may be lost, and are to be sent once more, before anything that is merely old.
	dirty(spans []buffer.Span)
}

// A ticket is what was known before a POST. It is taken before the POST and handed in after it.
type ticket struct {
	node     string
	byTime   bool                // the node cannot be watched
	epoch    int                 // of the node
	storages int                 // epoch of all storages
	before   *downstream.Reading // the node's last good reading; nil when it cannot be watched
}

// A settler keeps track of the blocks that vminsert has taken until they are safe. All methods are safe for concurrent use.
type settler struct {
	cfg     SettleConfig
	watch   watcher // nil when nothing is watched
	log     *slog.Logger
	metrics *settleMetrics
	wake    chan struct{} // something can be handed out at once; has room for one

	mu       sync.Mutex
	evidence *evidence
	books    *books
	dirtied  map[settlePartition]*dirtied
	done     map[settlePartition]spans // settled without further ado
}

// dirtied is what is to be sent again, and since when it waits for that.
type dirtied struct {
	spans spans
	since time.Time
}

// newSettler returns a settler that looks at watch, which it runs. watch is not used when cfg watches nothing.
func newSettler(cfg SettleConfig, watch watcher, log *slog.Logger, reg prometheus.Registerer) *settler {
	if !cfg.watches() {
		watch = nil
	}
	return &settler{
		cfg:      cfg,
		watch:    watch,
		log:      log,
		metrics:  newSettleMetrics(reg),
		wake:     make(chan struct{}, 1),
		evidence: newEvidence(cfg, time.Now()),
		books:    newBooks(),
		dirtied:  map[settlePartition]*dirtied{},
		done:     map[settlePartition]spans{},
	}
}

// setNodes says which nodes there are. What was sent to one that is not among them any more counts as lost with it.
func (s *settler) setNodes(list []downstream.Endpoint) {
	if s.watch == nil {
		return
	}
	s.watch.SetNodes(list)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evidence.setNodes(list)
}

// begin says whether something may be posted to the node now, and if so, returns the ticket for it. It may not when the node
// has had no good poll yet, because what is posted then could be lost without a trace.
func (s *settler) begin(ep downstream.Endpoint) (ticket, bool) {
	if s.watch == nil {
		return ticket{byTime: true}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.evidence.ticket(ep.String())
}

// sent takes over a block of which every record has got its 2xx by now, with the ticket of each POST that had part in it.
func (s *settler) sent(part settlePartition, off buffer.Offset, tickets []ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Settle == 0 || len(tickets) == 0 {
		s.done[part] = s.done[part].add(buffer.Span{From: off, To: off + 1})
		select {
		case s.wake <- struct{}{}:
		default:
		}
		return
	}
	s.books.enter(part, off, tickets, time.Now())
}

// forget drops all that is known of a partition, because it is no longer this process's.
func (s *settler) forget(part settlePartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.books.forget(part)
	delete(s.dirtied, part)
	delete(s.done, part)
}

// run watches and hands out what has settled until ctx ends. It returns when its goroutines, of which the Watch is one, are gone.
func (s *settler) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if s.watch != nil {
		group.Go(func() error { return s.watch.Run(ctx) })
	}
	group.Go(func() error {
		s.handOut(ctx)
		return nil
	})
	return group.Wait()
}

func (s *settler) handOut(ctx context.Context) {
	tick := time.NewTicker(settleTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-tick.C:
		}
		settled, dirty := s.judge(time.Now())
		for part, list := range settled {
			part.settled(list)
		}
		for part, list := range dirty {
			part.dirty(list)
		}
	}
}

// judge takes in what the Watch knows and returns what is to be handed out.
func (s *settler) judge(now time.Time) (settled, dirty map[settlePartition]spans) {
	var state downstream.State
	if s.watch != nil {
		state = s.watch.State()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watch != nil {
		s.evidence.update(state, now)
	}
	settled, s.done = s.done, map[settlePartition]spans{}
	for _, b := range s.books.buckets {
		verdict, cause := b.judge(s.evidence, now)
		switch verdict {
		case isSettled:
			b.moveTo(settled)
		case isDirty:
			s.soil(b, cause, now)
		}
	}
	s.books.dropEmpty()
	dirty = s.ripe(now)
	s.metrics.note(settled, s.books, s.dirtied, s.evidence, now)
	s.evidence.complain(s.log, now)
	return settled, dirty
}

// soil marks a bucket's blocks as to be sent again.
func (s *settler) soil(b *bucket, cause string, now time.Time) {
	s.metrics.dirty.WithLabelValues(cause).Add(float64(b.blocks()))
	for part, list := range b.parts {
		d := s.dirtied[part]
		if d == nil {
			d = &dirtied{since: now}
			s.dirtied[part] = d
		}
		for _, span := range list {
			d.spans = d.spans.add(span)
		}
	}
	b.parts = nil
}

// ripe takes out what is to be sent again now: when no restart has been seen for as long as settling takes, or after a while
// in any case.
func (s *settler) ripe(now time.Time) map[settlePartition]spans {
	quiet := now.Sub(s.evidence.lastRestart) >= s.evidence.settle
	out := map[settlePartition]spans{}
	for part, d := range s.dirtied {
		if quiet || now.Sub(d.since) >= dirtyAtMost {
			out[part] = d.spans
			delete(s.dirtied, part)
			s.metrics.resent.Add(float64(d.spans.blocks()))
		}
	}
	return out
}
