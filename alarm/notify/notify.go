// Package notify tells Alertmanagers and a webhook of alarms.
//
// Each of them is a target with a goroutine of its own, so that one that is dead or slow holds up no other. What a target is told is
// always the newest state: nothing queues up, and telling it twice is harmless. FORMAT.md has what is sent.
//
// An alert at an Alertmanager is shared by all processes that see the same alarm, so no process ends it: it is told with a time at which
// it ends by itself, and told again long before that.
package notify

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/alarm"
)

// A Notifier tells its targets of the alarms that it is given.
type Notifier struct {
	latest  atomic.Pointer[report] // never nil
	targets []*target
	patient time.Duration      // with tickets
	told    map[alarm.Key]bool // of what targets may know; of Update's goroutine
}

// A report is what one Update has brought. Nobody changes it any more.
type report struct {
	at     time.Time
	apart  time.Duration // from the Update before, at most mostApart
	alarms []alarm.Alarm // those that fire or have resolved
}

// mostApart bounds what is believed of the time between two Updates, as a process may stand still in between: the most that
// INGESTGW_ALARM_EVERY may be.
const mostApart = 30 * time.Second

// New reads the files that cfg names. process is the name of this one, for people. A Notifier without targets is well, and does
// nothing.
func New(cfg Config, process string, log *slog.Logger, reg prometheus.Registerer) (*Notifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Notifier{patient: cfg.TicketAfter, told: map[alarm.Key]bool{}}
	n.latest.Store(&report{at: time.Now()})
	posters, err := posters(cfg, process, log)
	if err != nil {
		return nil, err
	}
	m := newMetrics(reg)
	for _, p := range posters {
		n.targets = append(n.targets, n.target(cfg, p, log, m))
	}
	return n, nil
}

// target names the target by its address, with a number if that is taken, as when one proxy stands before several.
func (n *Notifier) target(cfg Config, p *poster, log *slog.Logger, m *metrics) *target {
	name := p.address
	for i := 2; slices.ContainsFunc(n.targets, func(t *target) bool { return t.name == name }); i++ {
		name = fmt.Sprintf("%s#%d", p.address, i)
	}
	return &target{
		name: name, poster: p, resend: cfg.Resend, timeout: cfg.Timeout,
		latest: &n.latest, wake: make(chan struct{}, 1), log: log, metrics: m.of(name),
	}
}

// Update says which alarms there are: all of them, every few seconds. It never waits, and keeps nothing of all. One goroutine at a time
// may call it, before and while Run runs. What no Update has confirmed for a while (three times INGESTGW_ALARM_RESEND) is told no more.
func (n *Notifier) Update(all []alarm.Alarm) {
	now := time.Now()
	r := &report{at: now, apart: min(now.Sub(n.latest.Load().at), mostApart)}
	told := map[alarm.Key]bool{}
	for _, a := range all {
		if n.isTold(&a, now) {
			r.alarms = append(r.alarms, clone(a))
			told[a.Key()] = true
		}
	}
	n.told = told
	n.latest.Store(r)
	for _, t := range n.targets {
		select {
		case t.wake <- struct{}{}:
		default: // it has not looked yet since the Update before, and will find this one
		}
	}
}

// isTold says whether a target hears of an alarm. What it has not heard of before does not resolve for it.
func (n *Notifier) isTold(a *alarm.Alarm, now time.Time) bool {
	switch a.State {
	case alarm.Firing:
		return a.Severity == alarm.Page || n.told[a.Key()] || now.Sub(a.Since) >= n.patient
	case alarm.Resolved:
		return n.told[a.Key()]
	}
	return false
}

// clone shares nothing with a. Lists are never nil, as JSON would have null for them.
func clone(a alarm.Alarm) alarm.Alarm {
	a.Evidence = append([]alarm.Evidence{}, a.Evidence...)
	a.Symptoms = append([]string{}, a.Symptoms...)
	return a
}

// Run tells the targets until ctx ends, and then takes at most a second to tell what they do not know yet. It returns nil.
func (n *Notifier) Run(ctx context.Context) error {
	var targets sync.WaitGroup
	for _, t := range n.targets {
		targets.Go(func() { t.run(ctx) })
	}
	<-ctx.Done()
	targets.Wait()
	return nil
}

// lifetime is how long what is told now holds unless it is told again: three times resend, and four Updates.
func (r *report) lifetime(resend time.Duration) time.Duration { return max(3*resend, 4*r.apart) }

// asOf is the report, or one without alarms when nobody has confirmed it for too long.
func (r *report) asOf(now time.Time, resend time.Duration) *report {
	if now.Sub(r.at) > r.lifetime(resend) {
		return &report{at: now, apart: r.apart}
	}
	return r
}
