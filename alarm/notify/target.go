package notify

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
)

const (
	// firstPause is how long a target that failed is left alone the first time; twice as long each further time, up to mostPause or
	// INGESTGW_ALARM_RESEND. What really passes is half of that or more, at random.
	firstPause = time.Second
	mostPause  = 15 * time.Second
	// lastTry bounds what is told at the end, as the process wants to stop.
	lastTry = time.Second
)

// A target is one Alertmanager, or the webhook.
type target struct {
	name    string // in the log and in metrics
	poster  *poster
	resend  time.Duration
	timeout time.Duration
	latest  *atomic.Pointer[report]
	wake    chan struct{} // holds a token when latest is newer than what was looked at
	log     *slog.Logger
	metrics targetMetrics

	// What follows belongs to run.

	// known is what the target has been told, or has refused to hear.
	known map[telling]bool
	// due is when to tell all again, or to try again.
	due time.Time
	// failures counts those in a row that call for another try soon.
	failures int
	// faults says which kinds of failure there were since the target last took what it was told. Each is logged once.
	faults struct{ any, unavailable, refused bool }
}

// A telling is what a target is told of at once when it is new. All else waits for the next repetition.
type telling struct {
	alarm.Key
	severity alarm.Severity
	state    alarm.State
}

// run tells the target until ctx ends. Nothing is due before the first Update.
func (t *target) run(ctx context.Context) {
	for ctx.Err() == nil {
		now := time.Now()
		if r := t.latest.Load().asOf(now, t.resend); t.wants(r, now) {
			t.tell(ctx, r, t.timeout, late(t.timeout))
		}
		t.wait(ctx)
	}
	if r := t.latest.Load(); t.hasNews(r) {
		t.tell(context.WithoutCancel(ctx), r, min(t.timeout, lastTry), errLastTry)
	}
}

// wait returns when there is another look to take: an Update, something due, the end of ctx.
func (t *target) wait(ctx context.Context) {
	var due <-chan time.Time
	if left := time.Until(t.due); left > 0 { // what is due by now and was not done takes an Update to be done
		timer := time.NewTimer(left)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-t.wake:
	case <-due:
	case <-ctx.Done():
	}
}

// wants is whether the target is to be told now. One that failed is tried again even if nothing fires any more: so one learns that it is
// well again, and the webhook how things are.
func (t *target) wants(r *report, now time.Time) bool {
	isDue := !now.Before(t.due)
	if t.failures > 0 {
		return isDue
	}
	return t.hasNews(r) || isDue && (t.faults.any || r.fires())
}

// hasNews is whether there is something that the target does not know.
func (t *target) hasNews(r *report) bool {
	for one := range t.poster.tellings(r) {
		if !t.known[one] {
			return true
		}
	}
	return false
}

func (r *report) fires() bool {
	for i := range r.alarms {
		if r.alarms[i].State == alarm.Firing {
			return true
		}
	}
	return false
}

// errLastTry is that the end did not wait for an answer.
var errLastTry = errors.New("no answer before the process ended")

// tell sends the report once. tooLate is what is said when there is no answer within that time.
func (t *target) tell(ctx context.Context, r *report, within time.Duration, tooLate error) {
	limited, cancel := context.WithTimeoutCause(ctx, within, tooLate)
	defer cancel()
	err := t.poster.post(limited, r)
	if ctx.Err() != nil { // the end interrupted it, and there is a last try
		return
	}
	var refused *refusal
	switch {
	case err == nil:
		t.took(r)
	case errors.As(err, &refused):
		t.refused(r, err)
	default:
		t.failed(err)
	}
}

func (t *target) took(r *report) {
	t.metrics.ok.Inc()
	t.metrics.failing.Set(0)
	t.settle(r)
	if t.faults.any {
		t.log.Info("alarms can be told again", "target", t.name)
	}
	t.faults.any, t.faults.unavailable, t.faults.refused = false, false, false
}

// refused is for what the target will not take however often it is told: only something new, or time, may change that.
func (t *target) refused(r *report, err error) {
	t.metrics.refused.Inc()
	t.settle(r)
	t.complain(&t.faults.refused, "alarms are refused by whom they are told", err)
}

func (t *target) failed(err error) {
	t.metrics.failed.Inc()
	t.failures++
	t.due = time.Now().Add(t.pause())
	t.complain(&t.faults.unavailable, "cannot tell alarms, trying again", err)
}

// settle leaves the target alone until there is news, or time for a repetition.
func (t *target) settle(r *report) {
	t.known = t.poster.tellings(r)
	t.due, t.failures = time.Now().Add(t.resend), 0
}

func (t *target) complain(already *bool, message string, err error) {
	t.metrics.failing.Set(1)
	if !*already {
		t.log.Error(message, "target", t.name, "setting", t.poster.setting, "err", err)
	}
	*already, t.faults.any = true, true
}

// pause is how long to wait after so many failures in a row.
func (t *target) pause() time.Duration {
	d := min(firstPause<<min(t.failures-1, 10), mostPause, t.resend)
	return d/2 + rand.N(d/2+1)
}
