package alarm

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Watch looks at everything again and again, and knows which alarms there are. It is safe for concurrent use.
type Watch struct {
	every    time.Duration
	observer *observer
	engine   *Engine
	log      *slog.Logger
	told     map[Key]told // by the log; of Run's goroutine

	alarms      atomic.Pointer[[]Alarm]
	readings    atomic.Pointer[Readings]
	evaluations atomic.Uint64
	failures    atomic.Uint64
}

// told is what the log has said of an alarm.
type told struct {
	state    State
	severity Severity
}

// New returns a Watch on sources that shows its alarms in reg. It looks at nothing before Run.
func New(cfg Config, s Sources, log *slog.Logger, reg prometheus.Registerer) *Watch {
	w := &Watch{every: cfg.Every, observer: newObserver(s, cfg.Patience), engine: NewEngine(cfg.Patience), log: log, told: map[Key]told{}}
	reg.MustRegister(w)
	return w
}

// Run looks every INGESTGW_ALARM_EVERY until ctx ends, and returns its error. tell gets all alarms each time, the same as Alarms; it must
// not wait.
func (w *Watch) Run(ctx context.Context, tell func([]Alarm)) error {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		tell(w.look())
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *Watch) look() []Alarm {
	r, err := w.observer.observe()
	if err != nil {
		w.failures.Add(1)
		w.log.Error("not all metrics can be read for alarms: some causes may not be seen", "err", err)
	}
	all := w.engine.Step(r)
	w.alarms.Store(&all)
	w.readings.Store(r)
	w.evaluations.Add(1)
	w.write(all)
	return all
}

// Alarms are those of the last look: pending, firing, and those that have resolved of late. The list must not be changed.
func (w *Watch) Alarms() []Alarm {
	if all := w.alarms.Load(); all != nil {
		return *all
	}
	return nil
}

// Readings are those of the last look, from which Alarms came; nil before the first one. They must not be changed. A test plays such
// readings again.
func (w *Watch) Readings() *Readings { return w.readings.Load() }

// write tells the log what has begun, become worse, or ended.
func (w *Watch) write(all []Alarm) {
	for i := range all {
		a := &all[i]
		was, now := w.told[a.Key()], told{a.State, a.Severity}
		switch {
		case was == now:
			continue
		case a.State == Firing:
			w.log.Log(context.Background(), a.level(), "alarm: "+a.Summary, a.attributes("next", a.Next, "evidence", a.sentences())...)
		case a.State == Resolved && was.state == Firing:
			w.log.Info("alarm resolved", a.attributes("lasted_until", a.Since)...)
		}
		w.told[a.Key()] = now
	}
	for key := range w.told {
		if !slices.ContainsFunc(all, func(a Alarm) bool { return a.Key() == key }) {
			delete(w.told, key)
		}
	}
}

func (a *Alarm) level() slog.Level {
	if a.Severity == Page {
		return slog.LevelError
	}
	return slog.LevelWarn
}

func (a *Alarm) attributes(more ...any) []any {
	attributes := []any{"alarm", a.Name, "severity", a.Severity}
	if a.Node != "" {
		attributes = append(attributes, "node", a.Node)
	}
	return append(attributes, more...)
}

func (a *Alarm) sentences() []string {
	var all []string
	for _, e := range a.Evidence {
		all = append(all, e.Text)
	}
	return all
}

var (
	alarmDesc = prometheus.NewDesc("ingestgw_alarm", "1 for each alarm that fires: what is wrong, how bad it is, and which server it is about. Those that are "+
		"not told yet and those that are over are not shown.", []string{"alarm", "severity", "node"}, nil)
	evaluationsDesc = prometheus.NewDesc("ingestgw_alarm_evaluations_total", "Times that it was looked at what may be wrong.", nil, nil)
	failuresDesc    = prometheus.NewDesc("ingestgw_alarm_read_failures_total", "Times that not all metrics could be read for it.", nil, nil)
)

// Describe implements prometheus.Collector.
func (w *Watch) Describe(descs chan<- *prometheus.Desc) {
	descs <- alarmDesc
	descs <- evaluationsDesc
	descs <- failuresDesc
}

// Collect implements prometheus.Collector.
func (w *Watch) Collect(metrics chan<- prometheus.Metric) {
	for _, a := range w.Alarms() {
		if a.State == Firing {
			metrics <- prometheus.MustNewConstMetric(alarmDesc, prometheus.GaugeValue, 1, a.Name, string(a.Severity), a.Node)
		}
	}
	metrics <- prometheus.MustNewConstMetric(evaluationsDesc, prometheus.CounterValue, float64(w.evaluations.Load()))
	metrics <- prometheus.MustNewConstMetric(failuresDesc, prometheus.CounterValue, float64(w.failures.Load()))
}
