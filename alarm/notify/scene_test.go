package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/direct"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// A far is a server that is told. Its zero value answers 200 to all.
type far struct {
	mu     sync.Mutex
	status int   // that it answers; 0 is 200
	fault  fault // that lies between us and it
	heard  []heard
	tries  []time.Time // that we made, whether they arrived or not
}

// A heard is one request that has arrived.
type heard struct {
	at   time.Time
	path string
	body []byte
}

type fault int

const (
	noFault fault = iota
	notArrived
	answerLost
	hangs
)

// RoundTrip implements http.RoundTripper.
func (f *far) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	fault := f.fault
	f.tries = append(f.tries, time.Now())
	f.mu.Unlock()
	switch fault {
	case notArrived:
		return nil, io.ErrClosedPipe
	case answerLost:
		if resp, err := direct.To(f).RoundTrip(r); err == nil {
			resp.Body.Close()
		}
		return nil, io.ErrUnexpectedEOF
	case hangs:
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return direct.To(f).RoundTrip(r)
}

// ServeHTTP implements http.Handler.
func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, heard{time.Now(), r.URL.Path, body})
	if f.status != 0 {
		w.WriteHeader(f.status)
	}
}

func (f *far) set(status int, fault fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status, f.fault = status, fault
}

func (f *far) tried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.tries)
}

// told are the requests since the last call.
func (f *far) told() []heard {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.heard
	f.heard = nil
	return list
}

// names are the alarms of a request, in the order in which they stand there, as "name/severity" and, when it is said, "/state".
func (h heard) names() string {
	var list []string
	var posted []alert
	if json.Unmarshal(h.body, &posted) == nil {
		for _, a := range posted {
			list = append(list, a.Labels["alertname"]+"/"+a.Labels["severity"])
		}
		return strings.Join(list, " ")
	}
	var m message
	if err := json.Unmarshal(h.body, &m); err != nil {
		return err.Error()
	}
	for _, a := range m.Alarms {
		list = append(list, a.Name+"/"+string(a.Severity)+"/"+string(a.State))
	}
	return strings.Join(list, " ")
}

// said are the names of all requests since the last call, with | between requests.
func (f *far) said() string {
	var list []string
	for _, h := range f.told() {
		list = append(list, h.names())
	}
	return strings.Join(list, " | ")
}

// A scene is a Notifier with all that is around it.
type scene struct {
	*Notifier
	log      lines
	registry *prometheus.Registry
	am, hook far
	stop     context.CancelFunc
	stopped  chan struct{}
}

// run plays a scene in simulated time, with an Alertmanager and a webhook.
func run(t *testing.T, change func(*Config), play func(*testing.T, *scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t, "http://am:9093")
		cfg.WebhookURL.URL = parse(t, "http://hook/x")
		if change != nil {
			change(&cfg)
		}
		s := &scene{registry: prometheus.NewRegistry(), stopped: make(chan struct{})}
		s.Notifier = built(t, cfg, &s.log, s.registry)
		for _, one := range s.targets {
			one.poster.client.Transport = map[string]http.RoundTripper{"am:9093": &s.am, "hook:80": &s.hook}[one.name]
		}
		ctx, stop := context.WithCancel(t.Context())
		s.stop = stop
		go func() { // ends with stop; ended waits
			defer close(s.stopped)
			_ = s.Run(ctx)
		}()
		play(t, s)
		s.end()
	})
}

// end stops the Notifier and returns when it has.
func (s *scene) end() {
	s.stop()
	<-s.stopped
}

// update is Update, and returns when all targets have done what it made them do.
func (s *scene) update(all ...alarm.Alarm) {
	s.Update(all)
	synctest.Wait()
}

// goOn updates every 5 s for so long.
func (s *scene) goOn(d time.Duration, all ...alarm.Alarm) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(5 * time.Second)
		s.update(all...)
	}
}

func config(t *testing.T, alertmanagers ...string) Config {
	t.Helper()
	cfg := Config{Cluster: "main", Resend: time.Minute, Timeout: 10 * time.Second}
	for _, u := range alertmanagers {
		cfg.AlertmanagerURLs = append(cfg.AlertmanagerURLs, parse(t, u))
	}
	return cfg
}

func parse(t *testing.T, text string) settings.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return settings.URL{URL: u}
}

func built(t *testing.T, cfg Config, log io.Writer, reg prometheus.Registerer) *Notifier {
	t.Helper()
	n, err := New(cfg, "gw-0", slog.New(slog.NewTextHandler(log, nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lines is a log's output.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// count is how many lines there are with that in them.
func (l *lines) count(part string) (n int) {
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

// metric is the value of one series, -1 when there is none.
func (s *scene) metric(t *testing.T, name string, labels map[string]string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if want, ok := labels[l.GetName()]; ok && want != l.GetValue() {
					continue series
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return -1
}

// firing is an alarm of that name, whose figures differ from process to process.
func firing(name string, severity alarm.Severity, figure float64) alarm.Alarm {
	return alarm.Alarm{
		Name: name, Severity: severity, Node: "vminsert-0:8480", State: alarm.Firing,
		Since:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		Summary:  "vminsert-0:8480 collects garbage instead of working: its GOGC is too low",
		Next:     "Start it with GOGC=100.",
		Evidence: []alarm.Evidence{{Name: "gc_share", Value: downstream.Figure(figure), Unit: "ratio", Text: "GC takes much"}, {Name: "gogc", Value: 10, Text: "GOGC is 10"}},
		Symptoms: []string{"backlog_growing", "senders_refused"},
	}
}

func resolved(a alarm.Alarm) alarm.Alarm {
	a.State = alarm.Resolved
	return a
}
