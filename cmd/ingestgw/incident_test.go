//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
	"github.com/ingestgw/ingestgw/loadtest/verify"
)

var incidentsWhole = flag.Bool("incidents-whole", false, "replay incidents with the pending and resolve times that operators have")

// patience is by what the times are multiplied that have to pass until somebody is told.
func patience() float64 {
	if *incidentsWhole {
		return 1
	}
	return 0.2
}

const (
	// toldWithin is how long an incident may last, at patience 1, until its alarm fires, and resolvedWithin how long the alarm may outlast it.
	toldWithin     = time.Minute
	resolvedWithin = 5 * time.Minute
	// evidenceTakes is the part of it that patience does not scale: rates of servers are over up to 20 s.
	evidenceTakes = 25 * time.Second
)

// within is what a time at patience 1 is in this run.
func within(whole time.Duration) time.Duration {
	return min(whole, time.Duration(float64(whole)*patience())+evidenceTakes)
}

// A site is a gateway in front of a cluster, with something that goes wrong.
type site struct {
	t       *testing.T
	gateway *stack.Process
	cluster *stack.Cluster
	token   string // of who sends one sample to see whether it arrives; empty: none
	tenant  string // whose that sample is
	stands  string // the alarm that is right there all the time, by its name; empty: none
	alarms  *alarmLog
}

// startSite starts a gateway in front of a cluster. Its settings (KEY=VALUE, without prefix) win over the usual ones.
func startSite(t *testing.T, cluster *stack.Cluster, settings ...string) *site {
	t.Helper()
	usual := []string{
		"ADMIN_TOKEN_FILE={dir}/operators",
		"FORWARD_URLS=" + strings.Join(cluster.InsertURLs(), ","),
		"FORWARD_STORAGE_URLS=" + strings.Join(cluster.StorageURLs(), ","),
		"FORWARD_POLLERS=1",
		"FORWARD_SETTLE=12s",
		"FORWARD_LOST_AFTER=10s",
		"VMSELECT_URLS=" + cluster.Select.URL(),
		"ALARM_EVERY=1s",
		fmt.Sprintf("ALARM_PATIENCE=%v", patience()),
	}
	var env []string
	for _, s := range append(usual, settings...) {
		env = append(env, "INGESTGW_"+s)
	}
	spec := stack.IngestgwSpec("ingestgw", binary(t), env...)
	spec.Files = map[string]string{"operators": operatorsToken}
	s := &site{t: t, cluster: cluster, gateway: stack.Start(t, spec), tenant: "0:0"}
	s.alarms = watchAlarms(t, s.admin())
	t.Cleanup(func() { s.isQuiet(culprit{}) })
	return s
}

func (s *site) admin() string { return "http://" + s.gateway.AddrOf("admin") }

// A culprit is what an alarm has to name.
type culprit struct {
	name, node string
	// severity is empty where it depends on what follows from it.
	severity alarm.Severity
	// says are texts that the summary, the next step or the evidence have to have.
	says []string
}

func (c *culprit) key() alarm.Key { return alarm.Key{Name: c.name, Node: c.node} }

// suffers lets something go wrong, and mends it once the right alarm has fired. No other alarm may get anybody up in between, and when
// all is over a fresh sample can be read.
func (s *site) suffers(want culprit, wrong, mend func()) {
	s.t.Helper()
	s.isFresh()
	s.isCalm()
	s.isQuiet(culprit{})
	s.tell("calm")
	began := time.Now()
	wrong()
	s.isTold(want)
	s.t.Logf("told after %v", time.Since(began).Round(100*time.Millisecond))
	s.tell("broken")
	s.picture()
	for _, a := range s.alarms.take() {
		if a.Key() != want.key() && a.Name != s.stands {
			s.t.Errorf("one incident, and there is another alarm: %s", inJSON(a))
		}
	}
	mended := time.Now()
	mend()
	s.isCalm()
	s.t.Logf("resolved %v after it was mended", time.Since(mended).Round(100*time.Millisecond))
	s.isFresh()
	s.tell("mended")
	s.isQuiet(want)
}

// isQuiet is that nobody was got up, since it was looked at last, but by the alarm that names the culprit.
func (s *site) isQuiet(but culprit) {
	s.t.Helper()
	for key, a := range s.alarms.take() {
		switch {
		case key == but.key():
		case a.Severity == alarm.Page:
			s.t.Errorf("another alarm got somebody up: %s", inJSON(a))
		default:
			s.t.Logf("besides, there was a ticket: %s", inJSON(a))
		}
	}
}

// isTold waits until the alarm fires.
func (s *site) isTold(want culprit) {
	s.t.Helper()
	var told []alarm.Alarm
	eventually(s.t, within(toldWithin), func() error {
		now, err := alarmsOf(s.admin())
		if err != nil {
			return err
		}
		told = nil
		for _, a := range now {
			if a.State == alarm.Firing && a.Name == want.name {
				told = append(told, a)
			}
		}
		if len(told) == 0 {
			return fmt.Errorf("%s does not fire: %s", want.name, inJSON(now))
		}
		return nil
	})
	if len(told) > 1 {
		s.t.Errorf("one incident, and %d alarms fire: %s", len(told), inJSON(told))
	}
	a := told[0]
	if a.Node != want.node || want.severity != "" && a.Severity != want.severity {
		s.t.Errorf("it is about %q, a %s, want %q, a %s: %s", a.Node, a.Severity, want.node, want.severity, inJSON(a))
	}
	words := inJSON(a)
	for _, text := range want.says {
		if !strings.Contains(words, text) {
			s.t.Errorf("it does not say %q: %s", text, words)
		}
	}
	s.t.Logf("it says: %s", words)
}

// isCalm waits until no alarm fires but the one that stands.
func (s *site) isCalm() {
	s.t.Helper()
	eventually(s.t, within(resolvedWithin), func() error {
		now, err := alarmsOf(s.admin())
		if err != nil {
			return err
		}
		firing := slices.DeleteFunc(now, func(a alarm.Alarm) bool { return a.State != alarm.Firing || a.Name == s.stands })
		if len(firing) > 0 {
			return fmt.Errorf("it is not over: %s", inJSON(firing))
		}
		return nil
	})
}

// isFresh waits until a sample that is sent now can be read.
func (s *site) isFresh() {
	s.t.Helper()
	p := probe{check: rand.Text(), at: time.Now()}
	eventually(s.t, 20*time.Second, func() error { return s.send(p) })
	eventually(s.t, 20*time.Second, func() error {
		if err := s.cluster.Flush(s.t.Context()); err != nil {
			return err
		}
		status, text := get(s.cluster.Select.URL() + "/select/" + s.tenant + "/prometheus/api/v1/export?match[]=" + sampleName + "&start=-1h")
		if status != http.StatusOK || !strings.Contains(text, p.check) {
			return fmt.Errorf("a fresh sample cannot be read: %d %s", status, text)
		}
		return nil
	})
}

// send sends one sample.
func (s *site) send(p probe) error {
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.gateway.URL()+"/insert/"+s.tenant+"/prometheus/api/v1/write",
		bytes.NewReader(p.encode()))
	if err != nil {
		return err
	}
	req.Header = remoteWriteHeader()
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("a fresh sample is answered %s", resp.Status)
	}
	return nil
}

func alarmsOf(admin string) ([]alarm.Alarm, error) {
	status, text := get(admin + "/api/v1/alarms")
	if status != http.StatusOK {
		return nil, fmt.Errorf("/api/v1/alarms answers %d", status)
	}
	var answer struct{ Alarms []alarm.Alarm }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return nil, err
	}
	return answer.Alarms, nil
}

func inJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// An alarmLog is every alarm that has fired at a gateway.
type alarmLog struct {
	mu    sync.Mutex
	fired map[alarm.Key]alarm.Alarm // as it was seen last
}

// watchAlarms looks all the time until the test ends. No alarm fires for so short a time that two looks would miss it.
func watchAlarms(t *testing.T, admin string) *alarmLog {
	l := &alarmLog{fired: map[alarm.Key]alarm.Alarm{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var watching sync.WaitGroup
	watching.Go(func() { // ends with cancel
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			if now, err := alarmsOf(admin); err == nil {
				l.see(now)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); watching.Wait() })
	return l
}

func (l *alarmLog) see(now []alarm.Alarm) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range now {
		if a.State == alarm.Firing {
			l.fired[a.Key()] = a
		}
	}
}

// take are the alarms that were seen firing since it was asked last.
func (l *alarmLog) take() map[alarm.Key]alarm.Alarm {
	l.mu.Lock()
	defer l.mu.Unlock()
	fired := l.fired
	l.fired = map[alarm.Key]alarm.Alarm{}
	return fired
}

// vitals are the metrics of servers that tell tells.
var vitals = []string{
	"cpu_cores_used", "cpu_cores_available", "cpu_short", "gc_cpu_share", "gc_assist_share", "heap_ratio", "next_gc_bytes", "memory_limit_bytes",
	"alloc_bytes_per_row", "rows_per_second", "new_tenants_per_second", "inserts_current", "insert_queue_timeouts_per_second", "send_share_max",
	"pending_bytes", "resident_memory_bytes", "storages_unreachable", "read_age_seconds", "slow_insert_share",
}

// tell logs what rules about servers see, for whoever has to find out why an alarm did or did not come.
func (s *site) tell(when string) {
	backlog, err := s.backlog()
	s.t.Logf("%s: backlog: oldest %v s, %v blocks, %s, time to drain %v s, %v", when, backlog.Seconds, backlog.Blocks, backlog.Trend,
		backlog.Drain, err)
	var memory struct{ Now json.RawMessage }
	_ = json.Unmarshal([]byte(textOf(s.admin()+"/api/v1/memory")), &memory)
	s.t.Logf("%s: its own memory: %s", when, strings.Join(strings.Fields(string(memory.Now)), ""))
	servers := map[string][]string{}
	for line := range strings.Lines(textOf(s.admin() + "/metrics")) {
		metric, found := strings.CutPrefix(strings.TrimSpace(line), "ingestgw_downstream_")
		name, rest, labelled := strings.Cut(metric, "{")
		labels, value, valued := strings.Cut(rest, "} ")
		if number, err := strconv.ParseFloat(value, 64); found && labelled && valued && err == nil && slices.Contains(vitals, name) {
			servers[labels] = append(servers[labels], fmt.Sprintf("%s=%.3g", name, number))
		}
	}
	for _, server := range slices.Sorted(maps.Keys(servers)) {
		s.t.Logf("%s: %s: %s", when, server, strings.Join(servers[server], " "))
	}
}

// A backlog is what the status tells of it.
type backlog struct {
	Seconds, Blocks downstream.Figure
	Trend           string
	Drain           downstream.Figure `json:"time_to_drain_seconds"`
}

func (s *site) backlog() (backlog, error) {
	var answer struct{ Backlog backlog }
	err := json.Unmarshal([]byte(textOf(s.admin()+"/api/v1/status")), &answer)
	return answer.Backlog, err
}

// backlogBelow is an error unless all that waits is younger than so many seconds.
func (s *site) backlogBelow(seconds float64) error {
	b, err := s.backlog()
	if err == nil && !(float64(b.Seconds) < seconds) {
		err = fmt.Errorf("the oldest that waits is %v s old", b.Seconds)
	}
	return err
}

// offers sends until stop, and then waits until all that was acknowledged has arrived.
func (s *site) offers(cfg offer.Config) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan struct{})
	var ledger *offer.Ledger
	var report offer.Report
	cfg.URL, cfg.Duration, cfg.Labels, cfg.Patience = s.gateway.URL(), time.Hour, 8, time.Minute
	go func() { // ends with cancel
		defer close(done)
		var err error
		if ledger, report, err = offer.Run(ctx, cfg); err != nil {
			s.t.Error(err)
		}
	}()
	end := func() { cancel(); <-done }
	s.t.Cleanup(end)
	return func() {
		s.t.Helper()
		end()
		s.t.Logf("%s: %v", cfg.Metric, report)
		s.hasAll(ledger)
	}
}

// manyTenants is how many tenants are read back of those in a ledger.
const manyTenants = 300

// hasAll waits until everything acknowledged can be read; of very many tenants, of some of them.
func (s *site) hasAll(ledger *offer.Ledger) {
	s.t.Helper()
	every := 1 + ledger.Config.Tenants/manyTenants
	if *incidentsWhole {
		every = 1
	}
	vmselect := withTenants(s.t, s.cluster.Select.URL(), someOf{verify.Offered(ledger), every}.Tenants())
	eventually(s.t, 4*time.Minute, func() error {
		if err := s.cluster.Flush(s.t.Context()); err != nil {
			return err
		}
		report, err := (&verify.Cluster{URL: vmselect}).Check(s.t.Context(), someOf{verify.Offered(ledger), every})
		if err == nil && !report.OK() {
			err = fmt.Errorf("%v", report)
		}
		return err
	})
}

// someOf expects what is of each n-th tenant.
type someOf struct {
	verify.Expectation
	n int
}

func (e someOf) Tenants() []string {
	var some []string
	for i, tenant := range e.Expectation.Tenants() {
		if i%e.n == 0 {
			some = append(some, tenant)
		}
	}
	return some
}

func (e someOf) Missing(each func(tenant, what string)) {
	some := e.Tenants()
	e.Expectation.Missing(func(tenant, what string) {
		if slices.Contains(some, tenant) {
			each(tenant, what)
		}
	})
}

// withTenants is a vmselect that lists no other tenants than these. To ask for what there is of twenty thousand others takes a minute.
func withTenants(t *testing.T, vmselect string, tenants []string) (url string) {
	t.Helper()
	to, err := neturl.Parse(vmselect)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", httputil.NewSingleHostReverseProxy(to))
	mux.HandleFunc("/admin/tenants", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string][]string{"data": tenants})
	})
	proxy := httptest.NewServer(mux)
	t.Cleanup(proxy.Close)
	return proxy.URL
}
