package status

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/ingestgw/ingestgw/downstream"
)

// A night is a situation in a cluster of three vminserts and four vmstorages, as operators would find it: with hours of history, at the
// time at which it is looked at.
type night struct {
	scene
	at time.Time
	// past is how the figures that are drawn have come to be what they are, from five hours ago to now.
	past func(hoursAgo float64, p *point)
}

// count sets a counter that grows by perSecond.
func (n *night) count(line string, before, perSecond float64) {
	n.then[line], n.now[line] = before, before+30*perSecond
}

// set sets a gauge.
func (n *night) set(line string, value float64) { n.then[line], n.now[line] = value, value }

var (
	nightInserts  = []string{"10.20.1.11:8480", "10.20.1.12:8480", "10.20.1.13:8480"}
	nightStorages = []string{"10.20.2.21:8482", "10.20.2.22:8482", "10.20.2.23:8482", "vmstorage-3.vmstorage.monitoring.svc.cluster.local:8482"}
	nightTenants  = []string{"1042:0", "7:3", "20011:0", "88:1", "4294967295:12", "311:0", "5:0", "19:0", "9100:2", "604:0", "13:0", "14:0", "77:0", "78:0", "other"}
)

// nightRate is how many samples per second are offered.
const nightRate = 182000

// calmNight is one in which nothing is wrong.
func calmNight(at time.Time) *night {
	n := &night{at: at, scene: scene{then: board{}, now: board{}, ready: true}, past: func(float64, *point) {}}
	n.receive()
	for lane, partitions := range map[string]int{"main": 6, "bulk": 3} {
		for i := range partitions {
			n.partition(lane, i)
		}
	}
	for i, node := range nightInserts {
		n.insert(i, node)
	}
	for i, node := range nightStorages {
		n.vitals = append(n.vitals, NodeVitals{Name: node, Kind: "vmstorage", Up: true, Vitals: Vitals{Version: "v1.100.0-cluster", UptimeSeconds: 41 * 86400,
			GCShare: 0.024, AssistShare: 0.001, CPUCores: 3.1 + downstream.Figure(i)/9, AvailableCores: 8, MemoryBytes: 21.3e9, LimitBytes: 34.36e9, Inserts: 3, InsertCapacity: 16,
			PendingBytes: downstream.Unknown(), RowsPerSecond: nightRate / 4}})
	}
	for i, tenant := range nightTenants {
		rate := nightRate * 0.31 / float64(i+1)
		n.count(fmt.Sprintf(`ingestgw_tenant_samples_total{tenant=%q}`, tenant), 1e9, rate)
		n.count(fmt.Sprintf(`ingestgw_tenant_bulk_samples_total{tenant=%q}`, tenant), 2e6, 0)
	}
	n.set("ingestgw_tenants", 20123)
	n.ourselves()
	return n
}

func (n *night) receive() {
	n.count(`ingestgw_ingest_requests_total{answer="accepted"}`, 8.1e6, 640)
	n.count(`ingestgw_ingest_requests_total{answer="buffer_full"}`, 0, 0)
	n.count(`ingestgw_ingest_requests_total{answer="tenant_limit"}`, 4000, 0)
	n.count(`ingestgw_ingest_requests_total{answer="unauthorized"}`, 61, 0.1)
	n.count("ingestgw_ingest_samples_total", 2.1e9, nightRate)
	n.set("ingestgw_ingest_requests_in_flight", 14)
	n.count("ingestgw_ingest_request_duration_seconds_sum", 90000, 640*0.021)
	n.count("ingestgw_ingest_request_duration_seconds_count", 8.1e6, 640)
	n.count(`ingestgw_buffer_blocks_total{lane="main",result="stored"}`, 640000, 48)
	n.set(`ingestgw_buffer_in_flight_bytes{lane="main"}`, 1.9e6)
	n.count(`ingestgw_buffer_append_duration_seconds_sum{lane="main"}`, 5000, 48*0.0082)
	n.count(`ingestgw_buffer_append_duration_seconds_count{lane="main"}`, 640000, 48)
	n.count("ingestgw_forward_settled_blocks_total", 640000, 48)
	n.count("ingestgw_forward_resent_blocks_total", 212, 0)
	n.set("ingestgw_forward_unsettled_blocks", 1632)
	n.set("ingestgw_forward_unsettled_seconds", 34.6)
	n.set(`ingestgw_forward_settle_mode{mode="watch"}`, 1)
	for _, lane := range []string{"main", "bulk"} {
		n.set(fmt.Sprintf(`ingestgw_forward_waiting_for_permit{lane=%q}`, lane), 0)
		n.set(fmt.Sprintf(`ingestgw_disk_bytes{lane=%q}`, lane), map[string]float64{"main": 412e6}[lane])
		n.set(fmt.Sprintf(`ingestgw_disk_quota_bytes{lane=%q}`, lane), map[string]float64{"main": 172e9, "bulk": 43e9}[lane])
	}
}

// partition sets what one of a lane's partitions says; of those of main each has a sixth of all.
func (n *night) partition(lane string, i int) {
	arriving := map[string]float64{"main": 8}[lane]
	waiting := math.Round(arriving * 0.3)
	n.backlog(lane, i, waiting, 0.3*arriving/8, arriving, arriving, 0)
	n.set(fmt.Sprintf(`ingestgw_forward_uncommitted_blocks{lane=%q,partition="%d"}`, lane, i), waiting+arriving*34)
	n.set(fmt.Sprintf(`ingestgw_forward_on_hold{lane=%q,partition="%d"}`, lane, i), 0)
}

// backlog sets what a partition has not sent.
func (n *night) backlog(lane string, i int, blocks, age, arriving, sent, drain float64) {
	of := fmt.Sprintf(`{lane=%q,partition="%d"}`, lane, i)
	n.set("ingestgw_forward_unsent_blocks"+of, blocks)
	n.set("ingestgw_forward_unsent_bytes_estimate"+of, blocks*47300)
	n.set("ingestgw_forward_unsent_samples_estimate"+of, blocks*3790)
	n.set("ingestgw_forward_oldest_unsent_age_seconds"+of, age)
	n.set("ingestgw_forward_arriving_blocks_per_second"+of, arriving)
	n.set("ingestgw_forward_sent_blocks_per_second"+of, sent)
	n.set("ingestgw_forward_time_to_drain_seconds"+of, drain)
}

func (n *night) insert(i int, node string) {
	n.posts(node, nightRate/3, 210, 0, 0.018)
	n.state(node, "ready")
	n.set(fmt.Sprintf(`ingestgw_forward_blocks_in_flight{node=%q}`, node), 2)
	n.vitals = append(n.vitals, NodeVitals{Name: node, Kind: "vminsert", Up: true, Vitals: Vitals{Version: "v1.100.0-cluster", UptimeSeconds: 26*86400 + 7200,
		GCShare: 0.041 + downstream.Figure(i)*0.004, AssistShare: 0.001, CPUCores: 1.12 + downstream.Figure(i)/20, AvailableCores: 4, MemoryBytes: 1.93e9, LimitBytes: 8.59e9,
		Inserts: 2, InsertCapacity: 32, PendingBytes: 740e3, RowsPerSecond: nightRate / 3}})
}

// posts sets what a vminsert answers: samples and requests per second, those that fail, and how long it takes.
func (n *night) posts(node string, samples, taken, failed, seconds float64) {
	n.count(fmt.Sprintf(`ingestgw_forward_samples_total{node=%q}`, node), 7e8, samples)
	n.count(fmt.Sprintf(`ingestgw_forward_requests_total{code="2xx",node=%q}`, node), 2e6, taken)
	n.count(fmt.Sprintf(`ingestgw_forward_requests_total{code="timeout",node=%q}`, node), 12, failed)
	n.count(fmt.Sprintf(`ingestgw_forward_request_duration_seconds_sum{node=%q}`, node), 4e4, (taken+failed)*seconds)
	n.count(fmt.Sprintf(`ingestgw_forward_request_duration_seconds_count{node=%q}`, node), 2e6, taken+failed)
}

func (n *night) state(node, state string) {
	for _, one := range []string{"ready", "starting", "paused"} {
		is := 0.0
		if one == state {
			is = 1
		}
		n.set(fmt.Sprintf(`ingestgw_forward_node_state{node=%q,state=%q}`, node, one), is)
	}
}

func (n *night) ourselves() {
	n.set("process_start_time_seconds", float64(n.at.Add(-(9*24+5)*time.Hour).Unix()))
	n.set("process_resident_memory_bytes", 1.31e9)
	n.set("ingestgw_memory_gogc_percent", 100)
	n.set("ingestgw_memory_limit_bytes", 3<<30)
	n.set("ingestgw_memory_gc_share", 0.052)
	n.set("ingestgw_memory_gc_assist_share", 0.002)
	n.set("ingestgw_memory_counted_bytes", 1.22e9)
	n.set("ingestgw_memory_differs", 0)
	for budget, figures := range map[string][2]float64{"requests": {21e6, 1.2e9}, "read_ahead": {33e6, 300e6}} {
		n.set(fmt.Sprintf(`ingestgw_memory_budget_used_bytes{budget=%q}`, budget), figures[0])
		n.set(fmt.Sprintf(`ingestgw_memory_budget_bytes{budget=%q}`, budget), figures[1])
	}
}

// since lets something begin hours ago; part goes from 0 then to 1 now.
func since(hours float64, begin func(part float64, p *point)) func(float64, *point) {
	return func(hoursAgo float64, p *point) {
		if hoursAgo < hours {
			begin(1-hoursAgo/hours, p)
		}
	}
}

// usual are the figures drawn on a calm night. They come and go a little, the same each time.
func usual(hoursAgo float64) point {
	sway := math.Sin(hoursAgo*1.7)*0.08 + math.Sin(hoursAgo*211)*0.02
	var p point
	p[backlogSeconds], p[backlogBytes], p[backlogBlocks] = 0.3+math.Abs(sway), 662e3*(1+sway), 14
	p[samplesIn] = nightRate * (1 + sway)
	p[samplesOut] = nightRate * (1 + math.Sin((hoursAgo+0.01)*1.7)*0.08)
	p[gcShare], p[memoryBytes] = 0.05*(1+sway), 1.31e9*(1+sway/3)
	return p
}

// remember gives a Server the history of the night, and figures of 30 s ago, from which rates are made.
func (n *night) remember(s *Server) {
	const points = 5 * 360
	for i := range points - 1 {
		ago := time.Duration(points-i) * every
		p := usual(ago.Hours())
		n.past(ago.Hours(), &p)
		s.watcher.history.add(n.at.Add(-ago), p)
	}
	s.watcher.past = []*figures{{n.then.Moment(n.at.Add(-30 * time.Second))}}
}

// A script is what a Server sees, which a test may change while it runs.
type script struct {
	mu sync.Mutex
	scene
}

// Gather implements prometheus.Gatherer.
func (sc *script) Gather() ([]*dto.MetricFamily, error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return sc.now.Gather()
}

// change is what the Server sees from now on.
func (sc *script) change(to scene) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.scene = to
}

func (sc *script) listAlarms() []Alarm {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return slices.Clone(sc.alarms)
}

func (sc *script) listVitals() []NodeVitals {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return slices.Clone(sc.vitals)
}

// server returns a Server whose page, API and /metrics all show the night, and which has not been started.
func (n *night) server(t *testing.T) (*Server, *script) {
	t.Helper()
	s, _ := listen(t)
	sc := &script{scene: n.scene}
	s.process, s.version = "ingestgw-2", "v1.2.3"
	s.SetReady(n.ready)
	s.SetAlarms(sc.listAlarms)
	s.SetVitals(sc.listVitals)
	s.gatherer, s.watcher.gatherer = sc, sc
	s.watcher.history = newHistory(6 * time.Hour)
	s.http.Handler = secure(s.routes().mux) // with the other /metrics
	n.remember(s)
	return s, sc
}

// serve starts the Server of the night, which is stopped when the test ends.
func (n *night) serve(t *testing.T) (*Server, *script) {
	t.Helper()
	s, sc := n.server(t)
	start(t, s)
	return s, sc
}
