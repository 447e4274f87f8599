package downstream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/clock"
)

const (
	// pollInterval is the time between two polls of a server, unless its page is so large that it has to be longer.
	pollInterval = time.Second
	// maxPollInterval is the longest time between two polls of a server that fails, so that its return is noticed soon. One that
	// may have made a page for each is given half the time of good polls at least.
	maxPollInterval = 5 * time.Second
	// insertTimeout is long, since a vminsert in trouble takes seconds to render its page, and nothing follows from a failed poll.
	// A page that is so large that it is polled less often may take as long as the time between polls.
	insertTimeout = 20 * time.Second
	// StorageTimeout bounds a poll of a vmstorage, and with it how long one can stand still without being noticed.
	StorageTimeout = 3 * time.Second
	// resolveInterval is the time between two resolutions of the storages' names.
	resolveInterval = 15 * time.Second
	// storagePort is vmstorage's default port for HTTP (-httpListenAddr).
	storagePort = "8482"
	// complainEvery is how often a trouble that lasts is logged again.
	complainEvery = 5 * time.Minute
	// jitterPart is the part of a wait by which it is made shorter or longer at random where polls fail, and of an interval that a gap
	// between polls may be longer, as its inverse.
	jitterPart = 20

	// What making a page costs the server: vminsert and vmstorage v1.100 spent 4 to 5 ms of CPU on one of 30 KB, connection included, and
	// a vminsert with 100,000 tenants 0.19 s under load on one of 9 MB (0.09 s idle).
	bytesPerCPUSecond = 45e6
	cpuPerPage        = 3700 * time.Microsecond
	// What each process costs it that is given a page: a v1.100 on the same machine, without TLS, spent 0.15 ms on a connection and 0.4 ms
	// on a MB (TestPollsAtOneMomentShareAPage: 92 ms for one and 176 ms for 30 at one moment, of 8.1 MB).
	bytesSentPerCPUSecond = 2e9
	cpuPerConnection      = 300 * time.Microsecond
	// pagesPerMoment is how many pages are made for several polls of one moment: one, and now and then a second one where a process has
	// not learnt the server's clock yet.
	pagesPerMoment = 1.2
	// costShare is the part of a core that all pollers together may cost a server, as its inverse, and ownShare the part that all polls may
	// cost us: what alarms and metrics of tenants cost comes on top, and all of it together has to be less than 1 %.
	costShare, ownShare = 100, 200
	// What polls cost us: 0.27 ms, connection included, and 0.5 ms for a MB (BenchmarkPolling).
	cpuPerPoll            = 270 * time.Microsecond
	bytesReadPerCPUSecond = 2e9
)

// A WatchConfig says whom to watch besides the nodes.
type WatchConfig struct {
	// StorageURLs are where the vmstorages' metrics are. Without any they are looked for at port 8482 of the hosts that vminsert
	// names as its storages.
	StorageURLs []*url.URL
	// Pollers is how many processes like this one read the same servers' metrics. It stretches the interval between polls, by little,
	// since they share pages.
	Pollers int
	// Optional is whether nothing but alarms depends on the metrics: then what cannot be read is no error.
	Optional bool
	// Read reads the metrics of a server. nil asks the server by HTTP.
	Read func(context.Context, Endpoint, Kind) (*Reading, error)
}

// level is how bad it is when metrics cannot be read.
func (c WatchConfig) level() slog.Level {
	if c.Optional {
		return slog.LevelInfo
	}
	return slog.LevelError
}

// unreadable is what is said when metrics cannot be read.
func (c WatchConfig) unreadable() string {
	const where = "Look at INGESTGW_FORWARD_STORAGE_URLS (where vmstorage's metrics are), INGESTGW_FORWARD_METRICS_AUTH_KEY_FILE " +
		"and, if they cannot be read at all, "
	if c.Optional {
		return "metrics cannot be read; without them alarms cannot say what is wrong there. " + where + "INGESTGW_FORWARD_WATCH=false"
	}
	return "metrics cannot be read; without them it is not known when what was sent is safe. " + where + "INGESTGW_FORWARD_SETTLE_MODE=time"
}

// A Watch reads the metrics of vminserts and vmstorages over and over: once a second, and less often where a page is so large
// that all pollers together would cost its server more than 1 % of a core, or where servers are so many (more than 18) that polling them would cost
// us more than half of that. Processes read at the same moments, see moment.go. A vminsert that looks unwell is read sooner, see Hurry.
type Watch struct {
	cfg         WatchConfig
	resolver    *Resolver
	credentials *Credentials
	log         *slog.Logger
	metrics     *watchMetrics
	wall        func() time.Time // the wall clock, which chooses the moments of polls

	unfound *complaint // of Run's own goroutine

	mu       sync.Mutex
	nodes    map[string]*record
	storages map[string]*record
	stale    chan struct{} // the list of targets has changed; has room for one

	generation int // of the last record
}

// A State is what a Watch knows at one moment, by Endpoint.String.
type State struct {
	Nodes    map[string]Target
	Storages map[string]Target
}

// NewWatch returns a Watch that has nothing to watch yet, until SetNodes.
func NewWatch(cfg WatchConfig, resolver *Resolver, credentials *Credentials, log *slog.Logger, reg prometheus.Registerer) *Watch {
	w := &Watch{
		cfg:         cfg,
		resolver:    resolver,
		credentials: credentials,
		log:         log,
		metrics:     newWatchMetrics(reg),
		wall:        time.Now,
		nodes:       map[string]*record{},
		storages:    map[string]*record{},
		stale:       make(chan struct{}, 1),
		unfound: &complaint{
			log:   log,
			level: cfg.level(),
			wrong: "cannot find the addresses of vmstorages; set INGESTGW_FORWARD_STORAGE_URLS to where their metrics are",
			right: "the addresses of vmstorages can be found again",
		},
	}
	reg.MustRegister(&vitalsCollector{vitals: w.Vitals, gauges: vitalGauges()})
	return w
}

// SetNodes says which vminserts to watch. One that is not on the list is forgotten at once.
func (w *Watch) SetNodes(list []Endpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	listed := make(map[string]bool, len(list))
	for _, ep := range list {
		name := ep.String()
		listed[name] = true
		if w.nodes[name] == nil {
			w.nodes[name] = w.newRecord(ep, VMInsert)
		}
	}
	for name := range w.nodes {
		if !listed[name] {
			delete(w.nodes, name)
		}
	}
	signal(w.stale)
}

// newRecord begins to watch a server. The lock must be held.
func (w *Watch) newRecord(ep Endpoint, kind Kind) *record {
	w.generation++
	t := newRecord(ep, kind)
	t.Generation = w.generation
	t.offset, t.sooner = offsetOf(ep.String()), make(chan struct{}, 1)
	return t
}

func newRecord(ep Endpoint, kind Kind) *record {
	return &record{Target: Target{Endpoint: ep, Kind: kind, Listed: true, Interval: pollInterval}}
}

// State returns what is known now. Readings in it are shared and never change.
func (w *Watch) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return State{Nodes: targets(w.nodes), Storages: targets(w.storages)}
}

func targets(records map[string]*record) map[string]Target {
	all := make(map[string]Target, len(records))
	for name, r := range records {
		all[name] = r.Target
	}
	return all
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run polls until ctx ends, and returns when all polls have ended. Each target has a goroutine, which ends with ctx or when the
// target is off the list; Run waits for them.
func (w *Watch) Run(ctx context.Context) error {
	var polls sync.WaitGroup
	defer polls.Wait()
	running := map[*record]context.CancelFunc{}
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	resolve := time.NewTimer(0)
	defer resolve.Stop()
	for {
		w.start(ctx, running, &polls)
		select {
		case <-ctx.Done():
			return nil
		case <-w.stale:
		case <-resolve.C:
			w.findStorages(ctx)
			resolve.Reset(w.untilResolve())
		}
	}
}

// untilResolve is short while the storages are not known, as nothing settles before they are.
func (w *Watch) untilResolve() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.storages) == 0 {
		return pollInterval
	}
	return resolveInterval
}

// start makes running what is on the lists, and nothing else.
func (w *Watch) start(ctx context.Context, running map[*record]context.CancelFunc, polls *sync.WaitGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	current := map[*record]bool{}
	for _, list := range []map[string]*record{w.nodes, w.storages} {
		for _, t := range list {
			current[t] = true
		}
	}
	for t, stop := range running {
		if !current[t] {
			stop()
			delete(running, t)
		}
	}
	for t := range current {
		if running[t] != nil {
			continue
		}
		targetCtx, stop := context.WithCancel(ctx)
		running[t] = stop
		polls.Go(func() {
			defer stop()
			w.pollOften(targetCtx, t)
		})
	}
}

// findStorages brings the list of storages up to date.
func (w *Watch) findStorages(ctx context.Context) {
	urls := w.cfg.StorageURLs
	if len(urls) == 0 {
		urls = w.namedStorages()
	}
	found, err := w.resolver.Resolve(ctx, urls)
	if ctx.Err() != nil {
		return
	}
	w.unfound.say(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	listed := make(map[string]bool, len(found))
	for _, ep := range found {
		name := ep.String()
		listed[name] = true
		if w.storages[name] == nil {
			w.storages[name] = w.newRecord(ep, VMStorage)
		}
	}
	for name, t := range w.storages {
		t.Listed = listed[name]
		w.dropIfGone(name, t)
	}
	signal(w.stale)
}

// dropIfGone takes a storage out that is neither listed nor answering, and says whether it did.
func (w *Watch) dropIfGone(name string, t *record) bool {
	gone := !t.Listed && (t.Last == nil || t.Err != nil)
	if gone {
		delete(w.storages, name)
	}
	return gone
}

// namedStorages makes URLs of the hosts that the vminserts name.
func (w *Watch) namedStorages() []*url.URL {
	w.mu.Lock()
	defer w.mu.Unlock()
	hosts := map[string]bool{}
	for _, t := range w.nodes {
		if t.Last == nil {
			continue
		}
		for path := range t.Last.Paths {
			hosts[path.Host()] = true
		}
	}
	var urls []*url.URL
	for host := range hosts {
		urls = append(urls, &url.URL{Scheme: "http", Host: net.JoinHostPort(host, storagePort)})
	}
	slices.SortFunc(urls, func(a, b *url.URL) int { return strings.Compare(a.Host, b.Host) })
	return urls
}

// pollOften polls one target until ctx ends.
func (w *Watch) pollOften(ctx context.Context, t *record) {
	read := w.cfg.Read
	if read == nil {
		client := newPoller(t.Endpoint, w.credentials)
		defer client.Close()
		rd := newReader()
		read = func(ctx context.Context, ep Endpoint, kind Kind) (*Reading, error) {
			return client.read(ctx, ep, kind, rd)
		}
	}
	defer w.metrics.forget(t.Kind, t.Endpoint)
	complaint := complaint{
		log:   w.log.With("kind", t.Kind, "target", t.Endpoint.String()),
		level: w.cfg.level(),
		wrong: w.cfg.unreadable(),
		right: "metrics can be read again",
	}
	usual := pollInterval // while polls are good
	var owed time.Time    // see turn
	for failures := 0; ; {
		timeout := pollTimeout(t.Kind, usual)
		begun := time.Now()
		pollCtx, cancel := context.WithTimeout(ctx, timeout)
		r, err := read(pollCtx, t.Endpoint, t.Kind)
		cancel()
		if ctx.Err() != nil {
			return
		}
		complaint.say(err)
		if err != nil {
			failures++
			wait := waitAfter(err, failures, usual)
			w.note(t, begun, r, err, timeout, wait)
			if !clock.Sleep(ctx, w.untilRetry(t, wait)) {
				return
			}
			continue
		}
		failures, usual = 0, w.interval(r)
		w.note(t, begun, r, nil, timeout, usual)
		var ok bool
		if owed, ok = w.awaitMoment(ctx, t, turn{begun: begun, ended: time.Now(), usual: usual, owed: owed}); !ok {
			return
		}
	}
}

// untilRetry is how long to wait after a poll that failed, if it is to be about so long. Who may have made a page is polled at moments
// that processes share, too.
func (w *Watch) untilRetry(t *record, wait time.Duration) time.Duration {
	if wait <= maxPollInterval {
		return jitter(wait)
	}
	now := time.Now()
	return turn{begun: now, ended: now, usual: wait}.next(now, w.timeAt(t, now), t.offset).Sub(now)
}

// timeAt is the time by the clock of the server, as far as it is known. Only the goroutine that polls the server may ask.
func (w *Watch) timeAt(t *record, now time.Time) time.Time { return t.clock.at(now, w.wall()) }

// awaitMoment waits for the next moment at which to poll, and says whether it came before ctx ended. If it came sooner than usual, owed is
// when it would have come.
func (w *Watch) awaitMoment(ctx context.Context, t *record, last turn) (owed time.Time, ok bool) {
	now := time.Now()
	usual := last.next(now, w.timeAt(t, now), t.offset)
	due := usual
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for {
		due = w.plan(t, last, usual, due)
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return time.Time{}, false
		case <-timer.C:
			if due.Before(usual) {
				owed = usual
			}
			return owed, ctx.Err() == nil
		case <-t.sooner:
		}
	}
}

// plan notes when a server is polled next: when it is due, or sooner if somebody asked for that.
func (w *Watch) plan(t *record, last turn, usual, due time.Time) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if last.usual > hurryInterval && now.Before(t.hurry.until) {
		if sooner := last.hurried(now, w.timeAt(t, now), t.offset); sooner.Before(due) && !sooner.After(t.hurry.until) {
			due = sooner
		}
	}
	t.due = due
	if t.Kind == VMInsert {
		t.Interval = due.Sub(last.begun)
		if !due.Before(usual) {
			t.Interval = max(t.Interval, last.usual)
		}
		w.metrics.planned(&t.Target)
	}
	return due
}

// note takes in what came of a poll. The next one comes after the interval, or at the first moment after it.
func (w *Watch) note(t *record, begun time.Time, r *Reading, err error, timeout, interval time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		t.failed(begun, err)
	} else {
		t.good(r, t.Interval+t.Interval/jitterPart+timeout+time.Second)
		if t.Kind == VMStorage && t.AliveSince.Before(r.Ended) {
			interval = max(interval, t.Interval)
		}
	}
	t.Interval = interval
	w.metrics.note(&t.Target)
	if t.Kind == VMStorage && w.dropIfGone(t.Endpoint.String(), t) {
		signal(w.stale)
	}
}

// pollTimeout is how long a poll of a server may take that is polled that often.
func pollTimeout(kind Kind, usual time.Duration) time.Duration {
	if kind == VMStorage {
		return StorageTimeout
	}
	return max(insertTimeout, usual)
}

// waitAfter is how long to wait for the next poll after so many that failed, the last one with err.
func waitAfter(err error, failures int, usual time.Duration) time.Duration {
	wait := min(pollInterval*time.Duration(failures), maxPollInterval)
	if errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrBusy) || errors.Is(err, ErrUnusable) { // it was no refusal
		wait = max(wait, usual/2)
	}
	return wait
}

// interval is the time between good polls of a server with such a page.
func (w *Watch) interval(r *Reading) time.Duration {
	w.mu.Lock()
	servers := len(w.nodes) + len(w.storages)
	w.mu.Unlock()
	least := max(costShare*costOfMoment(r.Size, w.cfg.Pollers), ownShare*time.Duration(servers)*costOfPoll(r.Size))
	if w.cfg.Pollers < 2 { // there is nobody to agree with
		return min(max(pollInterval, least), maxInterval)
	}
	return roundUp(least)
}

// costOfMoment is the CPU time of a server whose page so many processes read at one moment.
func costOfMoment(size int64, pollers int) time.Duration {
	making := cpuPerPage + seconds(float64(size)/bytesPerCPUSecond)
	sending := cpuPerConnection + seconds(float64(size)/bytesSentPerCPUSecond)
	if pollers < 2 {
		return making + sending
	}
	return time.Duration(pagesPerMoment*float64(making)) + time.Duration(pollers)*sending
}

// costOfPoll is our own CPU time for a poll.
func costOfPoll(size int64) time.Duration {
	return cpuPerPoll + seconds(float64(size)/bytesReadPerCPUSecond)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// jitter spreads what many processes do over time.
func jitter(d time.Duration) time.Duration {
	return d - d/jitterPart + rand.N(2*d/jitterPart)
}

// A complaint is a trouble that is logged when it begins, every few minutes while it lasts, and when it is over.
type complaint struct {
	log          *slog.Logger
	level        slog.Level // of wrong
	wrong, right string
	said         time.Time
	on           bool
}

func (c *complaint) say(err error) {
	switch {
	case err == nil && c.on:
		c.on = false
		c.log.Info(c.right)
	case err != nil && (!c.on || time.Since(c.said) >= complainEvery):
		c.on, c.said = true, time.Now()
		c.log.Log(context.Background(), c.level, c.wrong, "err", err)
	}
}
