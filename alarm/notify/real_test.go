package notify

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/internal/stack"
)

// TestTenProcessesGiveOneNotification has ten Notifiers and a real Alertmanager, beside one that is dead.
func TestTenProcessesGiveOneNotification(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an Alertmanager")
	}
	t.Parallel()
	people := newPeople(t)
	am := stack.Start(t, stack.AlertmanagerSpec("alertmanager", people.route()))
	dead := httptest.NewServer(nil)
	dead.Close()
	var all []*process
	for i := range 10 {
		all = append(all, startProcess(t, i, am.URL(), dead.URL))
	}
	const incident = "vminsert_gogc_too_low"
	for i, p := range all { // one after the other, and figures of its own in each
		p.sees(now(incident, alarm.Page, 0.4+float64(i)/100))
		until(t, "it is told", func() bool { return p.told(t) >= 1 })
	}
	for _, p := range all {
		until(t, "it is told several times", func() bool { return p.told(t) >= 4 })
	}
	if got := people.about(incident); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("while all see it people hear %q", got)
	}
	for _, p := range all[:9] {
		p.sees(resolved(now(incident, alarm.Page, 0.1)))
	}
	last, before := all[9], all[9].told(t)
	until(t, "what the others have told would have expired", func() bool { return last.told(t) >= before+5 })
	if got := people.about(incident); !slices.Equal(got, []string{"firing"}) {
		t.Errorf("while one still sees it people hear %q", got)
	}
	last.sees()
	until(t, "people hear that it is over", func() bool { return len(people.about(incident)) > 1 })
	last.sees(now("another", alarm.Ticket, 1))
	until(t, "people hear of what came later", func() bool { return len(people.about("another")) > 0 })
	if got := people.about(incident); !slices.Equal(got, []string{"firing", "resolved"}) {
		t.Errorf("in the end people have heard %q", got)
	}
	if got := people.alerts(incident); !slices.Equal(got, []string{"page firing", "page resolved"}) {
		t.Errorf("it is not one alert: people have heard %q", got)
	}
}

func TestASeverityThatRisesNotifiesAgainAndTheLesserAlertEnds(t *testing.T) {
	if testing.Short() {
		t.Skip("needs an Alertmanager")
	}
	t.Parallel()
	for name, c := range map[string]struct {
		rules string
		want  []string
	}{
		"as it is":  {"", []string{"ticket firing", "page firing, ticket firing", "page firing, ticket resolved"}},
		"inhibited": {inhibitRules(t), []string{"ticket firing", "page firing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			people := newPeople(t)
			am := stack.Start(t, stack.AlertmanagerSpec("alertmanager", people.route()+c.rules))
			p := startProcess(t, 0, am.URL())
			p.sees(now("a", alarm.Ticket, 1))
			until(t, "people hear of the ticket", func() bool { return len(people.alerts("a")) == 1 })
			p.sees(now("a", alarm.Page, 1))
			until(t, "people hear of the page and all that follows", func() bool { return len(people.alerts("a")) >= len(c.want) })
			if got := people.alerts("a"); !slices.Equal(got, c.want) {
				t.Errorf("people hear %q, want %q", got, c.want)
			}
		})
	}
}

// inhibitRules are those that FORMAT.md recommends.
func inhibitRules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	rules, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("FORMAT.md has no rules")
	}
	return rules
}

// now is an alarm that was first seen now. What has begun long ago, an Alertmanager tells without waiting for others of its group.
func now(name string, severity alarm.Severity, figure float64) alarm.Alarm {
	a := firing(name, severity, figure)
	a.Since = time.Now()
	return a
}

// A process is a Notifier that runs, and is updated every 50 ms.
type process struct {
	am       string // host:port
	registry *prometheus.Registry

	mu  sync.Mutex
	all []alarm.Alarm
}

func startProcess(t *testing.T, i int, alertmanagers ...string) *process {
	t.Helper()
	cfg := config(t, alertmanagers...)
	cfg.Resend = time.Second
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	p := &process{am: strings.TrimPrefix(alertmanagers[0], "http://"), registry: prometheus.NewRegistry()}
	n := built(t, cfg, new(lines), p.registry)
	n.targets[0].poster.format.(*alerts).process = fmt.Sprintf("gw-%d", i)
	var running sync.WaitGroup
	running.Go(func() { _ = n.Run(t.Context()) })
	running.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				n.Update(p.seen())
			case <-t.Context().Done():
				return
			}
		}
	})
	t.Cleanup(running.Wait) // the context of the test has ended by then
	return p
}

func (p *process) sees(all ...alarm.Alarm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = all
}

func (p *process) seen() []alarm.Alarm {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all
}

// told is how often the Alertmanager has taken what it was told.
func (p *process) told(t *testing.T) float64 {
	t.Helper()
	s := scene{registry: p.registry}
	return s.notifications(t, p.am, "ok")
}

// people are who an Alertmanager notifies.
type people struct {
	url string

	mu    sync.Mutex
	heard []notification
}

// A notification is about one group of alerts, all of one name.
type notification struct{ name, status, alerts string }

func newPeople(t *testing.T) *people {
	t.Helper()
	p := new(people)
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// route is an Alertmanager's configuration. A group that is new is heard of after the next look at the others.
func (p *people) route() string {
	return `
route:
  receiver: people
  group_by: [alertname, cluster, node]
  group_wait: 2s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: people
    webhook_configs:
      - url: ` + p.url + `
        send_resolved: true
`
}

// ServeHTTP implements http.Handler.
func (p *people) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var m struct {
		Status      string
		GroupLabels map[string]string `json:"groupLabels"`
		Alerts      []struct {
			Status string
			Labels map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		m.Status = err.Error()
	}
	var list []string
	for _, a := range m.Alerts {
		list = append(list, a.Labels["severity"]+" "+a.Status)
	}
	slices.Sort(list)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, notification{m.GroupLabels["alertname"], m.Status, strings.Join(list, ", ")})
}

// about are the notifications about alarms of that name: firing or resolved.
func (p *people) about(name string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for _, n := range p.heard {
		if n.name == name {
			list = append(list, n.status)
		}
	}
	return list
}

// alerts are which alerts they were, with their states.
func (p *people) alerts(name string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for _, n := range p.heard {
		if n.name == name {
			list = append(list, n.alerts)
		}
	}
	return list
}

// until waits for something that must come within half a minute.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !is(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
