// Package directory asks an HTTP endpoint whose a credential is, and remembers the answers.
//
// PROTOCOL.md says what is asked and answered, and what the cache file holds.
package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/tenant"
)

const (
	// maxWaiting is how many questions may wait for their turn. Each of those that somebody waits for belongs to a request, so more
	// are a sign that nobody will get an answer in time.
	maxWaiting = 4096
	// ttlJitter is the part of its ttl by which an answer is asked for earlier, at random and at most, as its inverse.
	ttlJitter = 10
)

// A Directory answers whose a credential is. It is safe for concurrent use.
//
// What it has heard is used without asking again for its ttl. After that it is still used at once, while the directory is asked
// in the background; so a slow directory delays nobody who is known. When the directory is down, it is used until Config.Stale
// has passed since it was heard. Only for what is not known, or was invalidated, does Lookup wait for the directory.
//
// The newest answer holds, also when it names other tenants than the one before: that is counted and logged. An answer is never
// put together from two.
type Directory struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	asker   *asker
	breaker breaker
	file    *file // nil: none

	// urgent are calls that somebody waits for, refreshes all others. A call may be in both; the first one to take it asks.
	urgent, refreshes chan *call

	mu     sync.Mutex
	memory *memory
	calls  map[key]*call // what is being asked or waits for that
	plans  map[tenant.Plan]*tenant.Plan
	dirty  bool // something was heard since the file was written
}

// A call is one question on its way. What it has come to is written before done is closed.
type call struct {
	key      key
	question question
	done     chan struct{}
	answer   *Answer
	err      error // errUnknown, or why the directory could not be asked

	// Guarded by Directory.mu.
	waiters int    // lookups that wait for it
	refresh bool   // wanted also when nobody waits
	turn    uint64 // in which it was asked; 0 as long as it waits
}

var (
	errBreaker = errors.New("the directory is down, and is left alone for a moment")
	errWaiting = fmt.Errorf("more than %d questions wait for it", maxWaiting)
	errNobody  = errors.New("nobody waits for the answer")
	errTimeout = fmt.Errorf("no answer within %s_TIMEOUT", prefix)
)

// New returns a Directory that asks nothing yet, until Run. It reads the cache file; one that is damaged is set aside and logged.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Directory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.URL.URL == nil {
		return nil, fmt.Errorf("%s_URL is not set: it says where the directory of tenants is", prefix)
	}
	asker, err := newAsker(cfg, log)
	if err != nil {
		return nil, err
	}
	d := &Directory{
		cfg:       cfg,
		log:       log,
		asker:     asker,
		urgent:    make(chan *call, maxWaiting),
		refreshes: make(chan *call, maxWaiting),
		memory:    newMemory(cfg.MaxEntries),
		calls:     map[key]*call{},
		plans:     map[tenant.Plan]*tenant.Plan{},
	}
	d.metrics = newMetrics(reg, d)
	if cfg.CacheFile != "" {
		if err := cfg.CheckCacheFile(); err != nil {
			return nil, err
		}
		d.file = &file{name: cfg.CacheFile, log: log, metrics: d.metrics}
		d.restore(d.file.read(cfg))
	}
	return d, nil
}

// Run asks the directory what Lookup needs to know, and saves the answers, until ctx ends. It returns when all its goroutines are
// gone and the answers are saved.
func (d *Directory) Run(ctx context.Context) error {
	var workers errgroup.Group
	for i := range d.cfg.Concurrency {
		refreshes := d.refreshes
		if i%2 == 1 {
			refreshes = nil // what somebody waits for never waits for refreshes
		}
		workers.Go(func() error {
			d.work(ctx, refreshes)
			return nil
		})
	}
	workers.Go(func() error {
		d.keep(ctx)
		return nil
	})
	return workers.Wait()
}

// Lookup returns what the directory says of a credential. The error wraps tenant.ErrUnauthorized when the directory does not know
// the credential, and tenant.ErrUnavailable when it cannot be asked and nothing is remembered. It waits for Config.Timeout at
// most.
func (d *Directory) Lookup(ctx context.Context, c Credential) (*Answer, error) {
	a, err := d.lookup(ctx, c.key, c.question)
	switch {
	case err == nil:
		return a, nil
	case errors.Is(err, errUnknown):
		return nil, fmt.Errorf("%s: %w: %w", c.key, tenant.ErrUnauthorized, err)
	default:
		return nil, fmt.Errorf("%s: asking the directory: %w: %w", c.key, tenant.ErrUnavailable, err)
	}
}

// Timeout is how long Lookup and LookupLabel wait at most.
func (d *Directory) Timeout() time.Duration { return d.cfg.Timeout }

// LookupLabel returns the tenant for which a value of a label stands, for Naming with ByDirectory. The error wraps
// tenant.ErrUnnamed when the directory does not know the value, and tenant.ErrUnavailable as with Lookup. The value is not kept.
func (d *Directory) LookupLabel(ctx context.Context, label string, value []byte) (*tenant.Profile, error) {
	a, err := d.lookup(ctx, labelKey(label, value), func() question {
		return question{Kind: Label, Label: label, Value: string(value)}
	})
	switch {
	case err == nil:
		return a.Tenants[0], nil
	case errors.Is(err, errUnknown):
		return nil, fmt.Errorf("label %s=%.100q: %w: %w", label, value, tenant.ErrUnnamed, err)
	default:
		return nil, fmt.Errorf("label %s=%.100q: asking the directory: %w: %w", label, value, tenant.ErrUnavailable, err)
	}
}

// Invalidate makes the directory be asked anew, at their next use, for all answers that name the tenant, and for all credentials
// that it did not know. Until then and after that nobody gets an answer from before, with one exception: while the directory
// cannot be asked, what it said last still holds, as otherwise an invalidation during an outage would lock the tenant out.
// It does not wait.
func (d *Directory) Invalidate(id tenant.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory.invalidate(id)
	d.dirty = true
}

func (d *Directory) lookup(ctx context.Context, k key, q func() question) (*Answer, error) {
	d.mu.Lock()
	e := d.memory.get(k)
	now := time.Now()
	outdated := e != nil && d.memory.outdated(e)
	switch {
	case e != nil && !outdated && now.Before(e.fresh):
		d.mu.Unlock()
		return d.remembered(e)
	case e != nil && !outdated && d.usable(e, now):
		d.refresh(e, now, q)
		d.mu.Unlock()
		d.metrics.stale(now.Sub(e.heard))
		return e.answer, nil
	}
	c, err := d.join(k, q)
	d.mu.Unlock()
	if err == nil {
		var a *Answer
		if a, err = d.wait(ctx, c); err == nil || errors.Is(err, errUnknown) {
			d.metrics.asked(err)
			return a, err
		}
	}
	if e != nil && d.usable(e, time.Now()) {
		d.metrics.stale(now.Sub(e.heard))
		return e.answer, nil
	}
	d.metrics.unavailable.Inc()
	return nil, err
}

// remembered is what an entry says that is still fresh.
func (d *Directory) remembered(e *entry) (*Answer, error) {
	if e.answer == nil {
		d.metrics.miss.Inc()
		return nil, errUnknown
	}
	d.metrics.fresh.Inc()
	return e.answer, nil
}

// usable says whether an answer may be used though it is not fresh.
func (d *Directory) usable(e *entry, now time.Time) bool {
	return e.answer != nil && now.Sub(e.heard) <= d.cfg.Stale
}

// join returns the call that asks about k: the one that is on its way, unless something has been invalidated since it was asked,
// or a new one. The lock must be held.
func (d *Directory) join(k key, q func() question) (*call, error) {
	if d.breaker.open() {
		return nil, errBreaker
	}
	c := d.calls[k]
	if c == nil || c.turn != 0 && c.turn < d.memory.latest {
		c = &call{key: k, question: q(), done: make(chan struct{})}
	}
	if c.turn == 0 && c.waiters == 0 { // a new one, or one that waits among the refreshes
		select {
		case d.urgent <- c:
		default:
			return nil, errWaiting
		}
		d.calls[k] = c
	}
	c.waiters++
	return c, nil
}

// refresh has an answer brought up to date in the background. The lock must be held.
func (d *Directory) refresh(e *entry, now time.Time, q func() question) {
	if d.calls[e.key] != nil || now.Before(e.retry) || d.breaker.open() {
		return
	}
	c := &call{key: e.key, question: q(), done: make(chan struct{}), refresh: true}
	select {
	case d.refreshes <- c:
		d.calls[e.key] = c
	default:
		d.metrics.skipped.Inc()
	}
}

// wait returns what a call has come to.
func (d *Directory) wait(ctx context.Context, c *call) (*Answer, error) {
	defer func() {
		d.mu.Lock()
		c.waiters--
		d.mu.Unlock()
	}()
	timer := time.NewTimer(d.cfg.Timeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.answer, c.err
	case <-timer.C:
		return nil, errTimeout
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// work asks one question after the other until ctx ends.
func (d *Directory) work(ctx context.Context, refreshes <-chan *call) {
	for {
		c := d.next(ctx, refreshes)
		if c == nil {
			return
		}
		if turn, ok := d.begin(c); ok {
			d.serve(ctx, c, turn)
		}
	}
}

// next takes what somebody waits for before all others. It returns nil when ctx has ended.
func (d *Directory) next(ctx context.Context, refreshes <-chan *call) *call {
	select {
	case c := <-d.urgent:
		return c
	default:
	}
	select {
	case c := <-d.urgent:
		return c
	case c := <-refreshes:
		return c
	case <-ctx.Done():
		return nil
	}
}

// begin says whether c is still to be asked, and in which turn it is.
func (d *Directory) begin(c *call) (turn uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.turn != 0 { // taken from the other queue already
		return 0, false
	}
	d.memory.turn++
	c.turn = d.memory.turn
	if c.waiters == 0 && !c.refresh {
		d.finish(c, nil, errNobody)
		return 0, false
	}
	return c.turn, true
}

// serve asks, and remembers the answer.
func (d *Directory) serve(ctx context.Context, c *call, turn uint64) {
	if !d.breaker.allow() {
		d.settle(c, entry{}, errBreaker)
		return
	}
	began := time.Now()
	v, err := d.asker.ask(ctx, c.question, c.key)
	if ctx.Err() != nil {
		d.breaker.forget()
		d.settle(c, entry{}, ctx.Err())
		return
	}
	d.metrics.request(err, time.Since(began))
	d.judge(c.key, err)
	ttl := v.ttl
	if ttl == 0 {
		ttl = d.cfg.TTL
	}
	if errors.Is(err, errUnknown) {
		ttl = d.cfg.MissTTL
	}
	d.settle(c, entry{
		key:    c.key,
		answer: v.answer,
		cost:   v.cost,
		heard:  began,
		fresh:  time.Now().Add(ttl - rand.N(ttl/ttlJitter+1)),
		asked:  turn,
	}, err)
}

// judge tells the breaker and the log how a question has ended.
func (d *Directory) judge(k key, err error) {
	var unreadable *malformed
	answered := err == nil || errors.Is(err, errUnknown) || errors.As(err, &unreadable)
	opened, closed := d.breaker.tell(answered)
	switch {
	case opened:
		d.log.Error("the directory of tenants is down: known senders go on for as long as its last answers may be used, unknown ones get 503",
			"url", d.cfg.URL, "stale", d.cfg.Stale, "err", err)
	case closed:
		d.log.Info("the directory of tenants answers again", "url", d.cfg.URL)
	}
	if err != nil && !errors.Is(err, errUnknown) {
		d.log.Warn("cannot ask the directory of tenants", "url", d.cfg.URL, "about", k.String(), "err", err)
	}
}

// settle remembers what c has come to and wakes those who wait for it.
func (d *Directory) settle(c *call, e entry, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.memory.get(c.key)
	switch {
	case old != nil && old.asked > c.turn:
		// A later question was answered earlier: that answer holds.
	case err == nil || errors.Is(err, errUnknown):
		d.note(old, &e)
		if old != nil && sameAnswer(old.answer, e.answer) {
			e.answer = old.answer // others may have made something of it
		}
		d.share(e.answer)
		d.memory.put(&e)
		d.dirty = true
	case old != nil:
		old.retry = time.Now().Add(retryAfter + rand.N(retryAfter))
	}
	d.finish(c, e.answer, err)
}

// finish ends a call. The lock must be held.
func (d *Directory) finish(c *call, a *Answer, err error) {
	if d.calls[c.key] == c {
		delete(d.calls, c.key)
	}
	c.answer, c.err = a, err
	close(c.done)
}

// note counts and logs when the directory says other tenants than before.
func (d *Directory) note(old, e *entry) {
	if old == nil || old.answer == nil || e.answer != nil && sameTenants(old.answer, e.answer) {
		return
	}
	now := "unknown"
	if e.answer != nil {
		now = e.answer.tenants()
	}
	d.metrics.changed.Inc()
	d.log.Warn("the directory of tenants has changed its mind about a credential", "name", old.answer.Name,
		"credential", e.key.String(), "before", old.answer.tenants(), "now", now)
}

// maxPlans bounds what is remembered of plans in order to share them.
const maxPlans = 10_000

// share lets tenants with equal plans have the same one. The lock must be held, and nobody else know the answer yet.
func (d *Directory) share(a *Answer) {
	if a == nil {
		return
	}
	for _, p := range a.Tenants {
		p.Plan = d.sharedPlan(p.Plan)
	}
	if a.Naming != nil {
		a.Naming.Base.Plan = d.sharedPlan(a.Naming.Base.Plan)
	}
}

func (d *Directory) sharedPlan(p *tenant.Plan) *tenant.Plan {
	if p == nil {
		return nil
	}
	if shared := d.plans[*p]; shared != nil {
		return shared
	}
	if len(d.plans) >= maxPlans {
		clear(d.plans)
	}
	d.plans[*p] = p
	return p
}
