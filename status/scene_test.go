package status

import (
	"math"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered/gatheredtest"
)

type board = gatheredtest.Board

// morning is when scenes take place.
var morning = time.Date(2026, 11, 26, 3, 0, 0, 0, time.UTC)

// A scene is a situation as the page sees it: metrics now and 30 s before, and what others say.
type scene struct {
	then, now board
	ready     bool
	alarms    []Alarm
	vitals    []NodeVitals
}

var calm = board{
	"process_start_time_seconds":                                             float64(morning.Add(-50*time.Hour).Unix()) + 0,
	"process_resident_memory_bytes":                                          310 << 20,
	`ingestgw_ingest_requests_total{answer="accepted"}`:                      100000,
	`ingestgw_ingest_requests_total{answer="buffer_full"}`:                   0,
	`ingestgw_ingest_requests_total{answer="unauthorized"}`:                  7,
	"ingestgw_ingest_samples_total":                                          5e7,
	"ingestgw_ingest_requests_in_flight":                                     3,
	"ingestgw_ingest_request_duration_seconds_sum":                           500,
	"ingestgw_ingest_request_duration_seconds_count":                         100000,
	`ingestgw_buffer_blocks_total{lane="main",result="stored"}`:              9000,
	`ingestgw_buffer_in_flight_bytes{lane="main"}`:                           40000,
	`ingestgw_buffer_append_duration_seconds_sum{lane="main"}`:               60,
	`ingestgw_buffer_append_duration_seconds_count{lane="main"}`:             9000,
	`ingestgw_disk_bytes{lane="main"}`:                                       90 << 20,
	`ingestgw_disk_bytes{lane="bulk"}`:                                       0,
	`ingestgw_disk_quota_bytes{lane="main"}`:                                 16 << 30,
	`ingestgw_disk_quota_bytes{lane="bulk"}`:                                 4 << 30,
	`ingestgw_forward_unsent_blocks{lane="main",partition="0"}`:              1,
	`ingestgw_forward_unsent_blocks{lane="bulk",partition="0"}`:              0,
	`ingestgw_forward_unsent_bytes_estimate{lane="main",partition="0"}`:      42000,
	`ingestgw_forward_unsent_bytes_estimate{lane="bulk",partition="0"}`:      0,
	`ingestgw_forward_unsent_samples_estimate{lane="main",partition="0"}`:    900,
	`ingestgw_forward_unsent_samples_estimate{lane="bulk",partition="0"}`:    0,
	`ingestgw_forward_oldest_unsent_age_seconds{lane="main",partition="0"}`:  0.4,
	`ingestgw_forward_oldest_unsent_age_seconds{lane="bulk",partition="0"}`:  0,
	`ingestgw_forward_arriving_blocks_per_second{lane="main",partition="0"}`: 12.5,
	`ingestgw_forward_arriving_blocks_per_second{lane="bulk",partition="0"}`: 0,
	`ingestgw_forward_sent_blocks_per_second{lane="main",partition="0"}`:     12.5,
	`ingestgw_forward_sent_blocks_per_second{lane="bulk",partition="0"}`:     0,
	`ingestgw_forward_time_to_drain_seconds{lane="main",partition="0"}`:      0,
	`ingestgw_forward_time_to_drain_seconds{lane="bulk",partition="0"}`:      0,
	`ingestgw_forward_uncommitted_blocks{lane="main",partition="0"}`:         430,
	`ingestgw_forward_uncommitted_blocks{lane="bulk",partition="0"}`:         0,
	`ingestgw_forward_on_hold{lane="main",partition="0"}`:                    0,
	`ingestgw_forward_on_hold{lane="bulk",partition="0"}`:                    0,
	`ingestgw_forward_samples_total{node="10.0.0.7:8480"}`:                   2.5e7,
	`ingestgw_forward_samples_total{node="10.0.0.8:8480"}`:                   2.5e7,
	`ingestgw_forward_requests_total{code="2xx",node="10.0.0.7:8480"}`:       5000,
	`ingestgw_forward_requests_total{code="2xx",node="10.0.0.8:8480"}`:       5000,
	`ingestgw_forward_requests_total{code="timeout",node="10.0.0.7:8480"}`:   0,
	`ingestgw_forward_requests_total{code="timeout",node="10.0.0.8:8480"}`:   0,
	`ingestgw_forward_request_duration_seconds_sum{node="10.0.0.7:8480"}`:    100,
	`ingestgw_forward_request_duration_seconds_sum{node="10.0.0.8:8480"}`:    100,
	`ingestgw_forward_request_duration_seconds_count{node="10.0.0.7:8480"}`:  5000,
	`ingestgw_forward_request_duration_seconds_count{node="10.0.0.8:8480"}`:  5000,
	`ingestgw_forward_node_state{node="10.0.0.7:8480",state="ready"}`:        1,
	`ingestgw_forward_node_state{node="10.0.0.7:8480",state="paused"}`:       0,
	`ingestgw_forward_node_state{node="10.0.0.8:8480",state="ready"}`:        1,
	`ingestgw_forward_node_state{node="10.0.0.8:8480",state="paused"}`:       0,
	`ingestgw_forward_blocks_in_flight{node="10.0.0.7:8480"}`:                2,
	`ingestgw_forward_blocks_in_flight{node="10.0.0.8:8480"}`:                1,
	`ingestgw_forward_waiting_for_permit{lane="main"}`:                       0,
	`ingestgw_forward_waiting_for_permit{lane="bulk"}`:                       0,
	"ingestgw_forward_unsettled_blocks":                                      425,
	"ingestgw_forward_unsettled_seconds":                                     34.2,
	"ingestgw_forward_settled_blocks_total":                                  8500,
	"ingestgw_forward_resent_blocks_total":                                   0,
	`ingestgw_forward_settle_mode{mode="watch"}`:                             1,
	`ingestgw_forward_settle_mode{mode="time"}`:                              0,
	`ingestgw_tenant_samples_total{tenant="12:3"}`:                           3e7,
	`ingestgw_tenant_samples_total{tenant="14:0"}`:                           1e7,
	`ingestgw_tenant_samples_total{tenant="other"}`:                          1e7,
	`ingestgw_tenant_bulk_samples_total{tenant="12:3"}`:                      0,
	`ingestgw_tenant_refused_samples_total{reason="samples",tenant="14:0"}`:  0,
	"ingestgw_tenants":                                       20123,
	"ingestgw_memory_gogc_percent":                           100,
	"ingestgw_memory_limit_bytes":                            2 << 30,
	"ingestgw_memory_gc_share":                               0.043,
	"ingestgw_memory_gc_assist_share":                        0.001,
	"ingestgw_memory_counted_bytes":                          280 << 20,
	"ingestgw_memory_differs":                                0,
	`ingestgw_memory_budget_bytes{budget="requests"}`:        800 << 20,
	`ingestgw_memory_budget_bytes{budget="read_ahead"}`:      200 << 20,
	`ingestgw_memory_budget_used_bytes{budget="requests"}`:   4 << 20,
	`ingestgw_memory_budget_used_bytes{budget="read_ahead"}`: 12 << 20,
}

// flowed is what has been counted 30 s after calm.
var flowed = board{
	`ingestgw_ingest_requests_total{answer="accepted"}`:                     103000,
	"ingestgw_ingest_samples_total":                                         51.5e6,
	"ingestgw_ingest_request_duration_seconds_sum":                          515,
	"ingestgw_ingest_request_duration_seconds_count":                        103000,
	`ingestgw_buffer_blocks_total{lane="main",result="stored"}`:             9375,
	`ingestgw_buffer_append_duration_seconds_sum{lane="main"}`:              61.5,
	`ingestgw_buffer_append_duration_seconds_count{lane="main"}`:            9375,
	`ingestgw_forward_samples_total{node="10.0.0.7:8480"}`:                  25.75e6,
	`ingestgw_forward_samples_total{node="10.0.0.8:8480"}`:                  25.75e6,
	`ingestgw_forward_requests_total{code="2xx",node="10.0.0.7:8480"}`:      5190,
	`ingestgw_forward_requests_total{code="2xx",node="10.0.0.8:8480"}`:      5190,
	`ingestgw_forward_request_duration_seconds_sum{node="10.0.0.7:8480"}`:   103.8,
	`ingestgw_forward_request_duration_seconds_sum{node="10.0.0.8:8480"}`:   103.8,
	`ingestgw_forward_request_duration_seconds_count{node="10.0.0.7:8480"}`: 5190,
	`ingestgw_forward_request_duration_seconds_count{node="10.0.0.8:8480"}`: 5190,
	"ingestgw_forward_settled_blocks_total":                                 8875,
	`ingestgw_tenant_samples_total{tenant="12:3"}`:                          30.9e6,
	`ingestgw_tenant_samples_total{tenant="14:0"}`:                          10.3e6,
	`ingestgw_tenant_samples_total{tenant="other"}`:                         10.3e6,
}

func vitalsOf(name, kind string, gc float64, notes ...string) NodeVitals {
	return NodeVitals{Name: name, Kind: kind, Up: true, Vitals: Vitals{Version: "v1.100.0-cluster", UptimeSeconds: 7300, GCShare: downstream.Figure(gc),
		AssistShare: downstream.Figure(gc / 3), CPUCores: 1.9, AvailableCores: 2, MemoryBytes: 1400 << 20, LimitBytes: 4 << 30, Inserts: 16, InsertCapacity: 16,
		PendingBytes: 3 << 20, RowsPerSecond: 21000, Notes: notes}}
}

func wellScene() scene {
	return scene{then: calm, now: calm.With(flowed), ready: true,
		vitals: []NodeVitals{vitalsOf("10.0.0.7:8480", "vminsert", 0.05), vitalsOf("10.0.0.8:8480", "vminsert", 0.06), vitalsOf("10.0.0.20:8482", "vmstorage", 0.03)}}
}

func backlogScene() scene {
	s := wellScene()
	s.now = s.now.With(board{
		`ingestgw_ingest_requests_total{answer="buffer_full"}`:                  120,
		`ingestgw_canary_age_seconds{node="",path="buffer"}`:                    95,
		`ingestgw_forward_unsent_blocks{lane="main",partition="0"}`:             61234,
		`ingestgw_forward_unsent_bytes_estimate{lane="main",partition="0"}`:     2.9e9,
		`ingestgw_forward_unsent_samples_estimate{lane="main",partition="0"}`:   5.5e7,
		`ingestgw_forward_oldest_unsent_age_seconds{lane="main",partition="0"}`: 4324,
		`ingestgw_forward_sent_blocks_per_second{lane="main",partition="0"}`:    3.25,
		`ingestgw_forward_time_to_drain_seconds{lane="main",partition="0"}`:     math.Inf(1),
		`ingestgw_forward_requests_total{code="timeout",node="10.0.0.7:8480"}`:  60,
		`ingestgw_forward_requests_total{code="2xx",node="10.0.0.7:8480"}`:      5020,
		`ingestgw_forward_request_duration_seconds_sum{node="10.0.0.7:8480"}`:   700,
		`ingestgw_forward_request_duration_seconds_count{node="10.0.0.7:8480"}`: 5080,
		`ingestgw_forward_samples_total{node="10.0.0.7:8480"}`:                  25.1e6,
		`ingestgw_forward_node_state{node="10.0.0.7:8480",state="ready"}`:       0,
		`ingestgw_forward_node_state{node="10.0.0.7:8480",state="paused"}`:      1,
		`ingestgw_forward_waiting_for_permit{lane="main"}`:                      64,
		`ingestgw_tenant_bulk_samples_total{tenant="12:3"}`:                     60000,
		`ingestgw_tenant_refused_samples_total{reason="samples",tenant="14:0"}`: 30000,
		`ingestgw_disk_bytes{lane="main"}`:                                      3 << 30,
		"ingestgw_memory_differs":                                               1,
	})
	s.vitals[0] = vitalsOf("10.0.0.7:8480", "vminsert", 0.47, "GC takes 47 % of its CPU", "all 16 inserts busy")
	s.alarms = []Alarm{
		{Name: "disk_nearly_full", Severity: "ticket", State: "pending", Since: morning.Add(-20 * time.Second), Summary: "The buffer is full in 9 h at this rate."},
		{Name: "vminsert_gogc_too_low", Severity: "page", Node: "10.0.0.7:8480", State: "firing", Since: morning.Add(-71 * time.Minute),
			Summary: "vminsert 10.0.0.7 spends 47 % of its CPU in garbage collection, because its GOGC is too low.",
			Next:    "Start vminsert with GOGC=100 in its environment.",
			Evidence: []alarm.Evidence{
				{Name: "gc_share", Value: 0.47, Unit: "of the CPU used", Text: "47 % of the CPU it uses goes into garbage collection (30 s)"},
				{Name: "next_gc_by_live", Value: 1.1, Text: "the next collection comes at 1.1 times the live heap: GOGC is about 10"},
				{Name: "inserts", Value: 16, Text: "inserts: 16 of 16"},
			},
			Symptoms: []string{"backlog_growing", "senders_refused"}},
		{Name: "clock_skew", Severity: "ticket", State: "resolved", Since: morning.Add(-3 * time.Hour), Summary: "The clock was 40 s ahead of <vmstorage>.", Next: "Nothing."},
	}
	return s
}

func nothingScene() scene { return scene{now: board{}} }

// server returns a Server that sees the scene, and is not listening.
func (sc scene) server(t *testing.T) *Server {
	t.Helper()
	s, _ := listen(t)
	sc.show(s)
	return s
}

// show lets a Server see the scene.
func (sc scene) show(s *Server) {
	s.process, s.version = "ingestgw-0", "v1.2.3"
	s.SetReady(sc.ready)
	s.SetAlarms(func() []Alarm { return sc.alarms })
	s.SetVitals(func() []NodeVitals { return sc.vitals })
	s.watcher.gatherer = sc.now
}

// span is the figures of the scene.
func (sc scene) span() span {
	f := span{now: &figures{sc.now.Moment(morning)}}
	if sc.then != nil {
		f.then = &figures{sc.then.Moment(morning.Add(-30 * time.Second))}
	}
	return f
}
