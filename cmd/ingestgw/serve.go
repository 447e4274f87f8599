package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/alarm/notify"
	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/buffer/disk"
	"github.com/ingestgw/ingestgw/buffer/kafka"
	"github.com/ingestgw/ingestgw/forward"
	"github.com/ingestgw/ingestgw/ingest"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/status"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// A gateway is the parts of the process and what connects them.
//
//	            tenants
//	               │
//	senders ──▶ ingest ──▶ gather ──▶ store ──▶ forward ──▶ vminsert
//	               │                               │
//	        budget of requests          budget of reading ahead
//
//	operators ──▶ status: the metrics of all of them, and what alarm makes of them
//
//	canary ──▶ gather and every vminsert; every vmselect ──▶ canary
//
// They stop in the direction in which samples flow: who takes in stops first, so that what is inside can leave. Status is there
// before the others and after them. Alarms are looked for once all others run and as long as they do: one that is stopping looks as if
// something were wrong. What they have found is told until the end.
type gateway struct {
	log     *slog.Logger
	status  *status.Server
	tenants *tenants
	ingest  *ingest.Server
	gather  *buffer.Gatherer
	store   buffer.Store
	board   limit.Board // where processes tell each other about tenants; nil with the disk buffer
	serving *part       // of status
	knowing *part       // of tenants
	taking  *part       // of ingest
	sending *part       // of forward
	minding *part       // of memory
	alarmed *part       // of alarm
	telling *part       // of alarm/notify
	probing *part       // of canary; nil without INGESTGW_VMSELECT_URLS, and in a process that does not forward
	sources alarm.Sources
	ended   chan error // one per part, when it has ended
}

// parts is how many there are at most.
const parts = 8

// serve runs the gateway until ctx ends or a part of it fails, and stops it. What can be read anew is read anew for each value that
// reload gets. nil means that it was asked to stop and has stopped in good order.
func serve(ctx context.Context, cfg *config, log *slog.Logger, reload <-chan os.Signal) error {
	g := &gateway{log: log, ended: make(chan error, parts)}
	if err := g.start(cfg); err != nil {
		return errors.Join(fmt.Errorf("start: %w", err), g.stop(newSchedule(0, cfg.Shutdown.Timeout)))
	}
	for {
		select {
		case <-ctx.Done():
			return g.stop(newSchedule(cfg.Shutdown.Delay, cfg.Shutdown.Timeout))
		case err := <-g.ended:
			log.Error("a part of ingestgw has failed, stopping the others", "err", err)
			return errors.Join(err, g.stop(newSchedule(0, cfg.Shutdown.Timeout)))
		case <-reload:
			g.reload()
		}
	}
}

// reload reads anew what can be: the tenants. Files with passwords, keys and certificates are looked at all the time anyway.
func (g *gateway) reload() {
	if g.tenants == nil {
		g.log.Info("SIGHUP: there is nothing to be read anew in a process that only forwards")
		return
	}
	_ = g.tenants.Reload() // it has been logged
}

// start builds the parts and lets them run. What it has started when it returns an error, stop stops.
func (g *gateway) start(cfg *config) error {
	g.log.Info("starting", "version", version())
	reg := prometheus.NewRegistry()
	control, err := memory.New(cfg.Memory, g.log, reg)
	if err != nil {
		return err
	}
	requests := control.Budget("requests", memory.State.RequestBudget, cfg.Ingest.Largest(), reg)
	readAhead := control.Budget("read_ahead", cfg.readAhead, 0, reg)
	g.warnOfSmallBudget(cfg, requests.Limit())

	if err := g.startStatus(cfg, reg); err != nil {
		return err
	}
	g.startMinding(control)
	notifier, err := g.startTelling(cfg, reg)
	if err != nil {
		return err
	}
	if err := g.openStore(cfg, reg); err != nil {
		return fmt.Errorf("open the buffer: %w", err)
	}
	var forwarder *forward.Forwarder
	if cfg.Process.forwards() {
		if forwarder, err = g.startForward(cfg, readAhead, reg); err != nil {
			return err
		}
	}
	if cfg.Process.receives() {
		if err := g.startTenants(cfg, reg); err != nil {
			return err
		}
		if err := g.startIngest(cfg, requests, reg); err != nil {
			return err
		}
	}
	if forwarder != nil && len(cfg.Vmselect.URLs) > 0 {
		if err := g.startCanary(cfg, forwarder, reg); err != nil {
			return fmt.Errorf("prepare the canary: %w", err)
		}
	}
	g.startAlarms(cfg, notifier, reg)
	g.status.SetReady(true)
	g.log.Info("ready")
	return nil
}

// openStore opens the buffer that the settings name.
func (g *gateway) openStore(cfg *config, reg prometheus.Registerer) error {
	if cfg.Process.Buffer == bufferKafka {
		store, err := kafka.Open(context.Background(), cfg.Kafka, g.log, reg)
		if err != nil {
			return err
		}
		g.store, g.board = store, store.Board()
		return nil
	}
	store, err := disk.Open(cfg.Disk, g.log, reg)
	if err != nil {
		return err
	}
	g.store = store
	return nil
}

// warnOfSmallBudget says so when a request of the largest size that is allowed may never be taken.
func (g *gateway) warnOfSmallBudget(cfg *config, budget int64) {
	if largest := cfg.Ingest.Largest(); budget < largest {
		g.log.Warn("the memory for requests in flight is less than one request of the largest size can take, so such requests may "+
			"always be answered 503: raise INGESTGW_MEMORY_LIMIT, or lower INGESTGW_INGEST_MAX_BODY and INGESTGW_INGEST_MAX_DECODED",
			"budget", settings.Bytes(budget), "largest_request", settings.Bytes(largest))
	}
}

func (g *gateway) startStatus(cfg *config, reg *prometheus.Registry) error {
	g.status = status.New(cfg.Admin, version(), g.log, reg)
	if err := g.status.Listen(); err != nil {
		return err
	}
	g.serving = launchServer("status", g.ended, g.status.Serve)
	return nil
}

func (g *gateway) startMinding(control *memory.Control) {
	g.minding = launch("memory", g.ended, control.Run)
	g.status.SetMemory(control)
	g.sources.Memory = control.View
}

func (g *gateway) startForward(cfg *config, budget *memory.Budget, reg prometheus.Registerer) (*forward.Forwarder, error) {
	own := cfg.Forward
	own.ReadAhead = 0 // budget is of that size, and has metrics
	forwarder, err := forward.New(own, g.store, budget, g.log, reg)
	if err != nil {
		return nil, fmt.Errorf("prepare forwarding: %w", err)
	}
	g.status.SetVitals(func() []status.NodeVitals { return vitalsOf(forwarder.Vitals()) })
	g.sources.Vitals = forwarder.Vitals
	g.sources.Lookups = append(g.sources.Lookups, forwarder.FailedLookups)
	g.sending = launch("forward", g.ended, func(ctx context.Context) error { return forwarder.Run(ctx, cfg.consumers()) })
	return forwarder, nil
}

func (g *gateway) startTenants(cfg *config, reg prometheus.Registerer) error {
	t, err := newTenants(cfg, g.log, reg)
	if err != nil {
		return err
	}
	t.board = g.board
	g.tenants = t
	g.knowing = launch("tenants", g.ended, t.run)
	g.status.SetTenants(t)
	return nil
}

func (g *gateway) startIngest(cfg *config, budget *memory.Budget, reg prometheus.Registerer) error {
	g.gather = buffer.NewGatherer(g.store, cfg.Gather, reg)
	var err error
	if g.ingest, err = ingest.New(cfg.Ingest, g.tenants.access, g.tenants.limits, g.gather, budget, g.log, reg); err != nil {
		return err
	}
	if err := g.ingest.Listen(); err != nil {
		return err
	}
	g.taking = launchServer("ingest", g.ended, g.ingest.Serve)
	return nil
}

// startTelling starts who tells people of alarms, which it gets from startAlarms. It comes early, as it may lack a file that the settings
// name: nothing is to be taken in before that is known.
func (g *gateway) startTelling(cfg *config, reg prometheus.Registerer) (*notify.Notifier, error) {
	notifier, err := notify.New(cfg.Notify, g.status.Process(), g.log, reg)
	if err != nil {
		return nil, fmt.Errorf("prepare telling of alarms: %w", err)
	}
	g.telling = launch("telling of alarms", g.ended, notifier.Run)
	return notifier, nil
}

// startAlarms looks for what is wrong from now on, in what the other parts show.
func (g *gateway) startAlarms(cfg *config, notifier *notify.Notifier, reg *prometheus.Registry) {
	g.sources.Metrics = reg
	watch := alarm.New(cfg.Alarm, g.sources, g.log, reg)
	g.status.SetAlarms(watch.Alarms)
	g.status.SetReadings(watch.Readings)
	g.alarmed = launch("alarms", g.ended, func(ctx context.Context) error { return watch.Run(ctx, notifier.Update) })
}

// stop stops what start has started. An error says what was not done in time and was cut off; nothing acknowledged is lost then,
// but more will be sent again after the next start.
func (g *gateway) stop(s schedule) error {
	var errs []error
	step := func(until time.Time, what string, do func(context.Context) error) {
		ctx, cancel := context.WithDeadline(context.Background(), until)
		defer cancel()
		if err := do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop: %s: %w", what, err))
		}
	}
	if g.status != nil {
		g.status.SetReady(false)
	}
	if g.taking != nil {
		g.goOnAccepting(s.accepting)
		step(s.requests, "finish requests in flight", func(ctx context.Context) error {
			defer g.taking.wait() // it ends when its listener is closed
			return g.ingest.Shutdown(ctx)
		})
	}
	if g.alarmed != nil {
		step(s.flushed, "stop looking for what is wrong", g.alarmed.end)
	}
	if g.probing != nil {
		step(s.flushed, "end the canary", g.probing.end)
	}
	if g.gather != nil {
		step(s.flushed, "flush", g.gather.Close)
	}
	if g.knowing != nil {
		step(s.flushed, "keep what is known of tenants", g.knowing.end)
	}
	if g.sending != nil {
		step(s.saved, "save progress", g.sending.end)
	}
	if g.store != nil {
		step(s.closed, "close the buffer", g.store.Close)
	}
	if g.telling != nil {
		step(s.closed, "stop telling of alarms", g.telling.end)
	}
	if g.minding != nil {
		step(s.closed, "stop minding memory", g.minding.end)
	}
	if g.serving != nil {
		step(s.end, "finish requests of operators", func(ctx context.Context) error {
			defer g.serving.wait() // it ends when its listener is closed
			if err := g.status.Shutdown(ctx); err != nil {
				g.log.Info("cut off", "err", err) // a profile may take as long as it likes: no reason to fail
			}
			return nil
		})
	}
	return errors.Join(errs...)
}

// goOnAccepting waits for load balancers to notice that the process is not ready any more.
func (g *gateway) goOnAccepting(until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case err := <-g.ended:
		g.log.Error("a part of ingestgw has failed while stopping", "err", err)
	}
}

// A schedule says until when each step of a stop may take. Each deadline is later than the one before, and end is the last.
type schedule struct {
	accepting, requests, flushed, saved, closed, end time.Time
}

// newSchedule begins now. The time after the delay is shared out so that a step that overruns leaves enough for those that
// follow: four tenths for the requests in flight, which wait for senders and disks, one for flushing, three for forwarding, which
// lets its own requests end and saves its progress, a half each for closing the buffer and for operators. The last tenth is for
// the exit itself.
func newSchedule(delay, timeout time.Duration) schedule {
	accepting := time.Now().Add(delay)
	twentieth := (timeout - delay) / 20
	return schedule{
		accepting: accepting,
		requests:  accepting.Add(8 * twentieth),
		flushed:   accepting.Add(10 * twentieth),
		saved:     accepting.Add(16 * twentieth),
		closed:    accepting.Add(17 * twentieth),
		end:       accepting.Add(18 * twentieth),
	}
}

// A part is something that runs until it is stopped.
type part struct {
	stop context.CancelFunc
	err  error
	done chan struct{} // closed when it has ended, after err is set
}

// launch runs a part in a goroutine of its own. It ends when run returns, which it does soon after end has cancelled its context; end and
// wait wait for it. When run has returned, ended, which must have room, gets an error: a part that is not being stopped has no reason to end.
func launch(name string, ended chan<- error, run func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{stop: cancel, done: make(chan struct{})}
	go func() {
		p.err = run(ctx)
		close(p.done)
		if p.err == nil {
			ended <- fmt.Errorf("%s has ended by itself", name)
			return
		}
		ended <- fmt.Errorf("%s: %w", name, p.err)
	}()
	return p
}

// launchServer runs a part that ends when its listener is closed.
func launchServer(name string, ended chan<- error, serve func() error) *part {
	return launch(name, ended, func(context.Context) error { return serve() })
}

// wait returns when the part has ended.
func (p *part) wait() { <-p.done }

// end stops the part and returns when it has ended. An error that had ended it before has been told.
func (p *part) end(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	default:
	}
	p.stop()
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if errors.Is(p.err, context.Canceled) { // as asked
		return nil
	}
	return p.err
}
