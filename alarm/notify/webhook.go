package notify

import (
	"time"

	"github.com/ingestgw/ingestgw/alarm"
)

// hookVersion changes when a receiver of the one before would go wrong.
const hookVersion = "1"

// hook is the webhook's format.
type hook struct{ cluster, process, page string }

func newHook(cfg Config, process string) *hook {
	return &hook{cluster: cfg.Cluster, process: process, page: cfg.page()}
}

// A message is what the webhook is sent: how things are as this process sees it.
type message struct {
	Version string        `json:"version"`
	Cluster string        `json:"cluster"`
	Process string        `json:"process"`
	At      time.Time     `json:"at"`
	PageURL string        `json:"page_url,omitempty"`
	Alarms  []alarm.Alarm `json:"alarms"`
}

// tellings are the alarms that fire and those that have resolved.
func (f *hook) tellings(r *report) map[telling]bool {
	list := map[telling]bool{}
	for i := range r.alarms {
		a := &r.alarms[i]
		list[telling{a.Key(), a.Severity, a.State}] = true
	}
	return list
}

func (f *hook) body(r *report, _ time.Time) any {
	return message{
		Version: hookVersion, Cluster: f.cluster, Process: f.process, PageURL: f.page,
		At: r.at.UTC(), Alarms: append([]alarm.Alarm{}, r.alarms...),
	}
}
