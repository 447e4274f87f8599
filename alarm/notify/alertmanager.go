package notify

import (
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
)

// alertsPath is where Alertmanager takes alerts, below its own path.
const alertsPath = "/api/v2/alerts"

// alerts is the format of Alertmanager's API v2.
type alerts struct {
	cluster, process, page string
	resend                 time.Duration
}

func newAlerts(cfg Config, process string) *alerts {
	return &alerts{cluster: cfg.Cluster, process: process, resend: cfg.Resend, page: cfg.page()}
}

// An alert is a postableAlert of Alertmanager's API v2
// (https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml).
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// tellings are the alarms that fire. One whose severity changes is another alert: the one before is told no more, and ends by itself.
func (f *alerts) tellings(r *report) map[telling]bool {
	list := map[telling]bool{}
	for i := range r.alarms {
		if a := &r.alarms[i]; a.State == alarm.Firing {
			list[telling{a.Key(), a.Severity, a.State}] = true
		}
	}
	return list
}

func (f *alerts) body(r *report, now time.Time) any {
	list := []alert{}
	for i := range r.alarms {
		if a := &r.alarms[i]; a.State == alarm.Firing {
			list = append(list, f.alert(a, now, now.Add(r.lifetime(f.resend))))
		}
	}
	return list
}

// alert begins now if the clock was set back since it did: Alertmanager refuses what ends before it begins.
func (f *alerts) alert(a *alarm.Alarm, now, end time.Time) alert {
	since := a.Since
	if since.After(now) {
		since = now
	}
	return alert{
		Labels:       f.labels(a),
		Annotations:  f.annotations(a),
		StartsAt:     since.UTC(),
		EndsAt:       end.UTC(),
		GeneratorURL: f.page,
	}
}

// labels are the same in every process that sees the alarm: nothing of the process and no figure may be in them.
func (f *alerts) labels(a *alarm.Alarm) map[string]string {
	return texts("alertname", a.Name, "cluster", f.cluster, "node", a.Node, "severity", string(a.Severity))
}

func (f *alerts) annotations(a *alarm.Alarm) map[string]string {
	return texts(
		"summary", a.Summary,
		"description", evidence(a),
		"next_step", a.Next,
		"symptoms", strings.Join(a.Symptoms, ", "),
		"process", f.process,
		"since", a.Since.UTC().Format(time.RFC3339),
		"page", f.page,
	)
}

// evidence is one line for each figure.
func evidence(a *alarm.Alarm) string {
	var lines []string
	for _, e := range a.Evidence {
		lines = append(lines, e.Text)
	}
	return strings.Join(lines, "\n")
}

// texts makes a map of names and values, without those that are empty.
func texts(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			m[pairs[i]] = pairs[i+1]
		}
	}
	return m
}
