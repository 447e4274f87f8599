package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// A pager is whoever an Alertmanager notifies.
type pager struct {
	*httptest.Server
	mu    sync.Mutex
	heard []string // "firing vminsert_unreachable 10.0.0.7:8480", one for each notification
}

func startPager(t *testing.T) *pager {
	t.Helper()
	p := &pager{}
	p.Server = fakeServer(t, func(_ http.ResponseWriter, r *http.Request) {
		var n struct {
			Status string            `json:"status"`
			Alerts []map[string]any  `json:"alerts"`
			Labels map[string]string `json:"commonLabels"`
		}
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Errorf("a notification that cannot be read: %v", err)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard = append(p.heard, fmt.Sprintf("%s %s %s, %d alerts", n.Status, n.Labels["alertname"], n.Labels["node"], len(n.Alerts)))
	})
	return p
}

func (p *pager) notifications() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.heard)
}

// route is an Alertmanager's configuration that notifies the pager of each cause at once.
func (p *pager) route() string {
	return "route: {receiver: pager, group_by: [alertname, cluster, node], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}\n" +
		"receivers: [{name: pager, webhook_configs: [{url: '" + p.URL + "', send_resolved: true}]}]\n"
}

// Ten gateways before a vminsert that dies and comes back.
func TestTenProcessesWakeSomebodyOnce(t *testing.T) {
	whole(t)
	people := startPager(t)
	alertmanager := stack.Start(t, stack.AlertmanagerSpec("alertmanager", people.route()))
	cluster := stack.StartCluster(t, stack.ClusterSpec{})
	vminsert := cluster.Inserts[0]
	var gateways []*stack.Process
	for i := range 10 {
		gateways = append(gateways, stack.Start(t, stack.IngestgwSpec(fmt.Sprintf("ingestgw-%d", i), binary(t), "INGESTGW_FORWARD_URLS="+vminsert.URL(),
			"INGESTGW_ALARM_ALERTMANAGER_URLS="+alertmanager.URL(), "INGESTGW_ALARM_RESEND=1s", "INGESTGW_ALARM_EVERY=1s", "INGESTGW_ALARM_PATIENCE=0.2")))
	}

	vminsert.Kill()
	for _, g := range gateways {
		awaitMetric(t, g, `ingestgw_alarm{alarm="vminsert_unreachable",node="`+vminsert.Addr()+`",severity="page"} 1`)
	}
	eventually(t, 30*time.Second, func() error {
		if len(people.notifications()) == 0 {
			return fmt.Errorf("nobody has heard of it")
		}
		return nil
	})
	if err := vminsert.Restart(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, 60*time.Second, func() error {
		if n := len(people.notifications()); n < 2 {
			return fmt.Errorf("%d notifications", n)
		}
		return nil
	})
	want := []string{"firing vminsert_unreachable " + vminsert.Addr() + ", 1 alerts", "resolved vminsert_unreachable " + vminsert.Addr() + ", 1 alerts"}
	if got := people.notifications(); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// awaitMetric waits until a gateway shows a line in its metrics.
func awaitMetric(t *testing.T, gateway *stack.Process, line string) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		page := textOf("http://" + gateway.AddrOf("admin") + "/metrics")
		if !strings.Contains(page, "\n"+line+"\n") {
			var alarms []string
			for shown := range strings.Lines(page) {
				if strings.HasPrefix(shown, "ingestgw_alarm{") {
					alarms = append(alarms, shown)
				}
			}
			return fmt.Errorf("%s shows %q and not %s", gateway.Name(), alarms, line)
		}
		return nil
	})
}
