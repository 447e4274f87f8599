package status

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
)

// nights are the situations of which people look at pictures.
var nights = []struct {
	name string
	make func(at time.Time) *night
	// page says whether somebody was called out of bed: then what to do has to be seen without scrolling.
	page bool
}{
	{"well", calmNight, false},
	{"gogc", gogcNight, true},
	{"growing", growingNight, true},
	{"storages-dead", storagesDeadNight, true},
	{"memory-reverted", revertedNight, false},
	{"flood", floodNight, false},
}

// What people are shown in pictures is what alarms are called.
func TestNightsHaveAlarmsThatThereAre(t *testing.T) {
	table := alarm.Markdown()
	for _, one := range nights {
		for _, a := range one.make(morning).alarms {
			for _, name := range append([]string{a.Name}, a.Symptoms...) {
				if !strings.Contains(table, "\n| `"+name+"` |") {
					t.Errorf("%s: no alarm or symptom is called %s", one.name, name)
				}
			}
		}
	}
}

// stuck lets all partitions of main have a backlog that grows: blocks and age of the first; the others have a little less.
func (n *night) stuck(blocks, age, sent float64) {
	for i := range 6 {
		less := 1 - float64(i)/50
		n.backlog("main", i, math.Round(blocks*less), age*less, 8, sent, math.Inf(1))
	}
	n.set(`ingestgw_forward_waiting_for_permit{lane="main"}`, 64)
	n.set(`ingestgw_disk_bytes{lane="main"}`, blocks*6*47300)
}

// gogcNight is the one in which nobody looked at GOGC for hours.
func gogcNight(at time.Time) *night {
	n := calmNight(at)
	n.stuck(4120, 754, 6.1)
	slow := nightInserts[1]
	n.posts(slow, 21000, 71, 4.2, 3.4)
	n.set(fmt.Sprintf(`ingestgw_forward_blocks_in_flight{node=%q}`, slow), 32)
	v := &n.vitals[1].Vitals
	v.GCShare, v.AssistShare, v.CPUCores, v.AvailableCores, v.Inserts = 0.716, 0.31, 3.97, 4, 32
	v.Notes = []string{"short of CPU", "GC takes 72 % of its CPU", "all 32 inserts busy"}
	n.alarms = []Alarm{{
		Name: "vminsert_gogc_too_low", Severity: "page", Node: slow, State: "firing", Since: at.Add(-11 * time.Minute),
		Summary: "vminsert 10.20.1.12:8480 spends 72 % of its CPU on garbage collection because its GOGC is too low: it collects whenever its heap has grown by 10 %.",
		Next:    "Raise GOGC of 10.20.1.12:8480 to 100 (its default: unset the variable GOGC) and restart it.",
		Evidence: []alarm.Evidence{
			{Name: "gc_share", Value: 0.716, Text: "72 % of the CPU that it uses goes into garbage collection (over 30 s)"},
			{Name: "cpu_used", Value: 3.97, Text: "it uses 3.97 of 4 cores"},
			{Name: "assist_share", Value: 0.31, Text: "31 % of its CPU is work held up to collect"},
			{Name: "next_gc_by_live", Value: 1.1, Text: "its next collection comes at 1.1 times the live heap, as GOGC=10 does"},
			{Name: "inserts", Value: 32, Text: "inserts: 32 of 32 busy"},
			{Name: "its_rate", Value: 21000, Text: "it takes 21 k samples/s, its peers 60.7 k"},
		},
		Symptoms: []string{"backlog_growing", "backlog_old", "never_drains"},
	}}
	n.past = since(0.21, func(part float64, p *point) {
		p[backlogSeconds], p[backlogBytes], p[backlogBlocks] = 754*part, 1.11e9*part, 23500*part
		p[samplesOut] *= 0.77
	})
	return n
}

// growingNight is one of which nobody knows why.
func growingNight(at time.Time) *night {
	n := calmNight(at)
	n.stuck(31760, 5210, 3.4)
	for i, node := range nightInserts {
		n.posts(node, 26000, 88, 0.4, 1.9)
		n.set(fmt.Sprintf(`ingestgw_forward_blocks_in_flight{node=%q}`, node), 24)
		n.vitals[i].RowsPerSecond, n.vitals[i].Inserts = 26000, 21
	}
	n.count(`ingestgw_ingest_requests_total{answer="buffer_full"}`, 1200, 37)
	n.set(`ingestgw_disk_bytes{lane="main"}`, 167.4e9)
	n.alarms = []Alarm{
		{
			Name: "cause_unknown", Severity: "page", State: "firing", Since: at.Add(-4 * time.Minute),
			Summary: "5.5 % of the requests of senders are refused with 503.",
			Next:    "Look at which answers senders get and at the stage that they name: buffer_full and buffer_unavailable are the buffer's, memory_spent is the memory limit's, tenant_unknown the directory's.",
			Evidence: []alarm.Evidence{
				{Name: "refused_share", Value: 0.055, Text: "5.5 % of the requests of senders are answered 503"},
				{Name: "answer_buffer_full", Value: 37, Text: "37 per second are answered buffer_full"},
				{Name: "buffer_share", Value: 0.973, Text: "97.3 % of the buffer is taken"},
			},
			Symptoms: []string{"backlog_growing", "buffer_nearly_full", "backlog_old", "never_drains"},
		},
		{
			Name: "vmstorage_read_only", Severity: "ticket", Node: nightStorages[2], State: "pending", Since: at.Add(-20 * time.Second),
			Summary: "vmstorage 10.20.2.23:8482 has 4.1 % of its disk left.",
		},
		{
			Name: "clock_skew", Severity: "ticket", Node: nightStorages[0], State: "resolved", Since: at.Add(-2 * time.Hour),
			Summary: "The clock of 10.20.2.21:8482 was 41 s ahead.", Next: "Look at the time synchronisation of 10.20.2.21:8482.",
		},
	}
	n.past = since(1.45, func(part float64, p *point) {
		p[backlogSeconds], p[backlogBytes], p[backlogBlocks] = 5210*part, 8.55e9*part, 181000*part
		p[samplesOut] *= 0.43
		if part > 0.95 {
			p[refusedRequests] = 37
		}
	})
	return n
}

// storagesDeadNight is one in which vminserts hang, which is no fault of theirs.
func storagesDeadNight(at time.Time) *night {
	n := calmNight(at)
	n.stuck(1290, 164, 0)
	for i, node := range nightInserts {
		n.posts(node, 0, 0, 1.1, 10)
		n.state(node, "paused")
		n.set(fmt.Sprintf(`ingestgw_forward_blocks_in_flight{node=%q}`, node), 0)
		n.vitals[i].Inserts, n.vitals[i].RowsPerSecond, n.vitals[i].PendingBytes = 32, 0, 29.1e6
		n.vitals[i].Notes = []string{"cannot reach 4 of its storages", "all 32 inserts busy"}
	}
	for i := range nightStorages {
		v := &n.vitals[len(nightInserts)+i]
		v.Up, v.Vitals = false, unknownVitals()
		v.Notes = []string{"its metrics cannot be read: connection refused"}
	}
	n.alarms = []Alarm{{
		Name: "vmstorage_unreachable", Severity: "page", State: "firing", Since: at.Add(-2*time.Minute - 20*time.Second),
		Summary: "All 4 vmstorages are away: no vminsert reaches any of them.",
		Next:    "Bring the vmstorages back; vminserts hang meanwhile, which is no fault of theirs, and go on by themselves.",
		Evidence: []alarm.Evidence{
			{Name: "vmstorages", Value: 4, Text: "0 of 4 vmstorages answer: connection refused"},
			{Name: "reachable", Value: 0, Text: "10.20.1.11:8480, 10.20.1.12:8480, 10.20.1.13:8480 reach 0 of 4 vmstorages"},
			{Name: "pending", Value: 29.1e6, Text: "27.8 MiB wait in each vminsert"},
			{Name: "sent", Value: 0, Text: "0 samples/s are taken"},
		},
		Symptoms: []string{"backlog_growing", "backlog_old", "not_settling", "canary_not_seen"},
	}}
	n.past = since(0.045, func(part float64, p *point) {
		p[backlogSeconds], p[backlogBytes], p[backlogBlocks], p[samplesOut] = 164*part, 347e6*part, 7350*part, 0
	})
	return n
}

// revertedNight is one in which somebody has set our memory limit too low, and it was set back.
func revertedNight(at time.Time) *night {
	n := calmNight(at)
	n.set("ingestgw_memory_gc_share", 0.061)
	n.set("ingestgw_memory_differs", 1)
	n.set("ingestgw_memory_limit_bytes", 2<<30)
	n.set(`ingestgw_memory_budget_bytes{budget="requests"}`, 0.6e9)
	n.set(`ingestgw_memory_budget_bytes{budget="read_ahead"}`, 150e6)
	n.alarms = []Alarm{{
		Name: "own_memory_change_reverted", Severity: "ticket", State: "firing", Since: at.Add(-95 * time.Second),
		Summary: "A memory limit of 640 MiB, set live, made garbage collection cost 58 % of our CPU for 30 s: GOGC=100 and 2 GiB are in force again.",
		Next:    "Choose a higher GOGC or limit (PUT /api/v1/memory), or leave what is in force; what is configured holds again after a restart.",
		Evidence: []alarm.Evidence{
			{Name: "gc_share", Value: 0.58, Text: "58 % of our CPU went into garbage collection, at most 25 % may (INGESTGW_MEMORY_GC_MAX_SHARE)"},
			{Name: "refused_limit", Value: 640 << 20, Text: "the limit was 640 MiB, and 1.14 GiB was live"},
			{Name: "set_by", Text: "set by unix socket, uid 1000, pid 48211"},
		},
	}}
	n.past = since(0.04, func(part float64, p *point) {
		p[gcShare] = 0.061
		if part < 0.4 {
			p[gcShare], p[memoryBytes] = 0.58, 1.2e9
		}
	})
	return n
}

// floodNight is one in which a tenant sends ten times what it may.
func floodNight(at time.Time) *night {
	n := calmNight(at)
	for i := range 3 {
		n.backlog("bulk", i, 2140, 611, 14, 4.2, math.Inf(1))
	}
	n.set(`ingestgw_forward_waiting_for_permit{lane="bulk"}`, 8)
	n.set(`ingestgw_disk_bytes{lane="bulk"}`, 304e6)
	flooding := nightTenants[4]
	n.count(fmt.Sprintf(`ingestgw_tenant_samples_total{tenant=%q}`, flooding), 1e9, 161000)
	n.count(fmt.Sprintf(`ingestgw_tenant_bulk_samples_total{tenant=%q}`, flooding), 2e6, 158000)
	n.count(fmt.Sprintf(`ingestgw_tenant_refused_samples_total{reason="samples",tenant=%q}`, flooding), 9e6, 1.24e6)
	n.count(`ingestgw_ingest_requests_total{answer="tenant_limit"}`, 4000, 410)
	n.count("ingestgw_ingest_samples_total", 2.1e9, nightRate+158000)
	n.alarms = []Alarm{{
		Name: "tenant_flood", Severity: "ticket", State: "firing", Since: at.Add(-8 * time.Minute),
		Summary: "1 tenant sends more than it may: 1.24 M samples/s are refused and 158 k samples/s wait apart, most of them of 4294967295:12.",
		Next:    "Talk to the tenants named, or change their plans; what they send too much is refused or waits apart, and harms no other.",
		Evidence: []alarm.Evidence{
			{Name: "flooding", Value: 1, Text: "1 of 20 123 tenants is above its plan"},
			{Name: "top", Value: 1.4e6, Text: "4294967295:12: 1.4 M samples/s offered, 120 k are in its plan"},
			{Name: "refused_share", Value: 0.78, Text: "78 % of all samples offered are refused by the limits of their tenants"},
		},
	}}
	n.past = since(0.17, func(part float64, p *point) {
		p[backlogSeconds], p[backlogBytes], p[backlogBlocks] = 611*part, 304e6*part, 6420*part
		p[samplesIn] += 158000
		p[samplesOut] += 48000
		p[refusedRequests] = 410
	})
	return n
}
