package alarm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/memory"
)

var inf = downstream.Figure(math.Inf(1))

// incidents are ways in which things break, each with the one alarm that has to come of it, and within a minute unless it says otherwise.
var incidents = []struct {
	name   string
	key    Key
	page   bool
	slow   time.Duration // it takes longer than a minute, but no longer than that
	breaks func(*Readings)
}{
	{"GOGC too low on one of two, which holds everything up", Key{"vminsert_gogc_too_low", insertA}, true, 0, func(r *Readings) {
		bound(&r.Servers[0])
		r.Nodes[0].Seconds, r.Nodes[0].TimedOut = 12, 0.3
		r.jammed()
	}},
	{"GOGC too low on one of two, and the other one does its work", Key{"vminsert_gogc_too_low", insertA}, false, 0, func(r *Readings) {
		bound(&r.Servers[0])
		r.Nodes[0].Seconds = 4
	}},
	{"GOGC too low everywhere", Key{"vminsert_gogc_too_low", ""}, true, 0, func(r *Readings) {
		bound(&r.Servers[0])
		bound(&r.Servers[1])
		r.Nodes[0].Seconds, r.Nodes[1].Seconds = 12, 11
		r.jammed()
	}},
	{"a page that cannot be read any more for garbage collection", Key{"vminsert_gogc_too_low", insertA}, true, 0, func(r *Readings) {
		bound(&r.Servers[0])
		fail(r, &r.Servers[0], downstream.HealthMute)
		r.jammed()
	}},
	{"memory limit too low", Key{"vminsert_memory_limit_too_low", insertB}, true, 0, func(r *Readings) {
		bound(&r.Servers[1])
		r.Servers[1].Memory.Limit = 40e6
		r.jammed()
	}},
	{"a small memory limit, of which the heap is but a half", Key{"vminsert_memory_limit_too_low", insertA}, true, 0, func(r *Readings) {
		bound(&r.Servers[0])
		m := &r.Servers[0].Memory
		m.Ratio, m.NextGC, m.LiveHeap, m.Limit, m.RSS, m.Anon = 1.24, 10315658, 8349185, 20971520, 24.8e6, downstream.Unknown()
		r.jammed()
	}},
	{"registration of new tenants", Key{"vminsert_registers_tenants", insertA}, true, 0, func(r *Readings) {
		bound(&r.Servers[0])
		r.Servers[0].Memory.Ratio, r.Servers[0].Insert.NewTenants = 1.7, 700
		r.jammed()
	}},
	{"an old version with many tenants", Key{"vminsert_old_version", insertA}, true, 0, func(r *Readings) {
		bound(&r.Servers[0])
		r.Servers[0].Memory.Ratio = 1.7
		r.jammed()
	}},
	{"garbage of a new version", Key{"vminsert_allocates", insertA}, true, 0, func(r *Readings) {
		bound(&r.Servers[0])
		r.Servers[0].Memory.Ratio, r.Servers[0].Version = 1.7, downstream.Version{Text: "v1.151.0-cluster", Major: 1, Minor: 151}
		r.Servers[1].Version = r.Servers[0].Version
		r.jammed()
	}},
	{"no CPU left", Key{"vminsert_out_of_cpu", insertA}, true, 0, func(r *Readings) {
		r.Servers[0].CPU = downstream.CPU{Used: 3.9, Available: 4, GCShare: 0.2, AssistShare: 0.02, Short: true, ShortBecause: "used"}
		r.Servers[0].Inserts.Current = 8
		r.Nodes[0].Seconds = 9
		r.jammed()
	}},
	{"throttled", Key{"vminsert_throttled", insertA}, true, 0, func(r *Readings) {
		r.Servers[0].CPU.Short, r.Servers[0].CPU.ShortBecause, r.Servers[0].Pressure.CPUStalled = true, "stalled", 0.4
		r.Nodes[0].Seconds = 9
		r.jammed()
	}},
	{"a crash loop", Key{"vminsert_crash_loop", insertA}, false, 0, func(r *Readings) {
		r.Servers[0].Restarts, r.Servers[0].LastRestart, r.Servers[0].Memory.RSS = 5, r.At.Add(-20*time.Second), 3.9e9
		fail(r, &r.Servers[0], downstream.HealthUnreachable)
	}},
	{"one of two vminserts dead", Key{"vminsert_unreachable", insertA}, false, 0, func(r *Readings) {
		fail(r, &r.Servers[0], downstream.HealthUnreachable)
		r.Nodes[0].Taken, r.Nodes[0].Unreachable, r.Nodes[0].Paused = 0, 1, true
	}},
	{"all vminserts dead", Key{"vminsert_unreachable", ""}, true, 0, func(r *Readings) {
		for i := range 2 {
			fail(r, &r.Servers[i], downstream.HealthUnreachable)
			r.Nodes[i].Taken, r.Nodes[i].Unreachable, r.Nodes[i].Paused = 0, 1, true
		}
		r.jammed()
	}},
	{"one of two vminserts frozen", Key{"vminsert_frozen", insertB}, false, 0, func(r *Readings) {
		fail(r, &r.Servers[1], downstream.HealthMute)
		r.Nodes[1].Taken, r.Nodes[1].TimedOut, r.Nodes[1].Seconds, r.Nodes[1].Paused = 0, 0.3, 30, true
	}},
	{"one of two vminserts frozen, before a poll has timed out", Key{"vminsert_frozen", insertB}, false, 0, func(r *Readings) {
		r.Servers[1].Age = 14
		r.Nodes[1].Taken, r.Nodes[1].InFlight, r.Nodes[1].Seconds, r.Nodes[1].Paused = 0, 8, downstream.Unknown(), false
	}},
	{"a wrong URL", Key{"vminsert_refuses", insertA}, true, 0, func(r *Readings) {
		r.Nodes[0].Taken, r.Nodes[0].Refused, r.Nodes[0].Paused = 0, 0.5, true
		r.jammed()
	}},
	{"one vminsert reaches no storage", Key{"vminsert_hanging", insertA}, false, 0, func(r *Readings) {
		for i := range r.Servers[0].Insert.Ways {
			r.Servers[0].Insert.Ways[i].Reachable = false
		}
		r.Nodes[0].Taken, r.Nodes[0].TimedOut, r.Nodes[0].Seconds = 0, 0.3, 30
		r.summon()
	}},
	{"places for requests taken", Key{"vminsert_queue_full", insertA}, true, 90 * time.Second, func(r *Readings) {
		r.Servers[0].Inserts = downstream.Inserts{Current: 8, Capacity: 8, LimitReached: 20, QueueTimeouts: 3}
		r.Nodes[0].Busy, r.Nodes[0].Seconds, r.Servers[0].Insert.RequestSeconds = 3, 8, 8
		r.jammed()
	}},
	{"one that passes nothing on", Key{"vminsert_swallows", insertB}, true, 0, func(r *Readings) { r.Canary.Nodes[insertB] = 130 }},
	{"one slower than its peers", Key{"vminsert_slow", insertB}, false, 90 * time.Second, func(r *Readings) {
		r.Nodes[1].Seconds, r.Servers[1].Insert.RequestSeconds = 5, 4.9
	}},
	{"one of two storages dead", Key{"vmstorage_unreachable", storageA}, false, 0, func(r *Readings) {
		fail(r, &r.Servers[2], downstream.HealthUnreachable)
		r.Servers[0].Insert.Ways[0].Reachable, r.Servers[1].Insert.Ways[0].Reachable = false, false
		r.Servers[0].Insert.Ways[0].ReroutedFrom = 1000
		r.summon()
	}},
	{"all storages dead", Key{"vmstorage_unreachable", ""}, true, 0, func(r *Readings) {
		for i := range 2 {
			fail(r, &r.Servers[2+i], downstream.HealthUnreachable)
			r.Servers[0].Insert.Ways[i].Reachable, r.Servers[1].Insert.Ways[i].Reachable = false, false
			r.Nodes[i].Taken, r.Nodes[i].TimedOut, r.Nodes[i].Seconds = 0, 0.3, 30
		}
		r.summon()
		r.jammed()
		r.Canary.Selects["vmselect-0:8481"] = "answered 503"
	}},
	{"one of two storages frozen", Key{"vmstorage_frozen", storageB}, true, 0, func(r *Readings) {
		fail(r, &r.Servers[3], downstream.HealthMute)
		for i := range 2 {
			r.Servers[i].Insert.Ways[1].SendShare, r.Servers[i].Insert.Ways[1].HandshakeErrors = 1, 0.5
			r.Nodes[i].Seconds, r.Servers[i].Insert.RequestSeconds = 20, 19
		}
		r.summon()
		r.jammed()
	}},
	{"a storage without disk space", Key{"vmstorage_read_only", storageA}, false, 0, func(r *Readings) {
		r.Servers[2].Storage.ReadOnly, r.Servers[2].Storage.FreeDisk = true, 5e6
		r.Servers[0].Insert.Ways[0].ReadOnly, r.Servers[1].Insert.Ways[0].ReadOnly = true, true
		r.summon()
	}},
	{"a storage that restarts again and again", Key{"vmstorage_crash_loop", storageA}, false, 0, func(r *Readings) {
		r.Servers[2].Restarts, r.Servers[2].LastRestart = 4, r.At.Add(-30*time.Second)
		fail(r, &r.Servers[2], downstream.HealthUnreachable)
		r.summon()
	}},
	{"a storage whose disk is slow", Key{"vmstorage_slow", storageA}, true, 0, func(r *Readings) {
		r.Servers[0].Insert.Ways[0].SendShare, r.Servers[2].Pressure.IOStalled = 0.98, 0.6
		r.summon()
		r.jammed()
	}},
	{"rows stored elsewhere than meant", Key{"rerouting_cascade", ""}, false, 90 * time.Second, func(r *Readings) {
		r.Servers[0].Insert.Ways[0].ReroutedFrom, r.Servers[0].Insert.Ways[1].ReroutedFrom = 4000, 3000
		r.summon()
	}},
	{"a connection out of step", Key{"vmstorage_desynchronised", storageB}, true, 0, func(r *Readings) {
		r.Servers[3].Ignored = []downstream.Ignored{{Reason: "big_timestamp", Rows: 900}}
		r.Servers[2].Ignored = []downstream.Ignored{{Reason: "big_timestamp", Rows: 0}}
		r.summon()
	}},
	{"a sender ahead of time", Key{"dropped_by_cluster", "10.0.1.2:8482"}, false, 0, func(r *Readings) {
		r.Servers[3].Ignored, r.Future = []downstream.Ignored{{Reason: "big_timestamp", Rows: 900}}, 2
		r.summon()
	}},
	{"series limit", Key{"dropped_by_cluster", "10.0.1.1:8482"}, true, 0, func(r *Readings) {
		r.Servers[2].Storage.DailyLimit = 40
	}},
	{"an upgrade that is half done", Key{"upgrade_half_done", ""}, true, 0, func(r *Readings) {
		r.Servers[0].Insert.Ways[0].DroppedOnUnsupported, r.Servers[0].Insert.Ways[0].HandshakeErrors = 200, 1
		r.summon()
	}},
	{"an upgrade whose handshakes fail", Key{"upgrade_half_done", ""}, false, 0, func(r *Readings) {
		r.Servers[0].Version = downstream.Version{Text: "v1.120.0-cluster", Major: 1, Minor: 120}
		r.Servers[0].Insert.Ways[0].HandshakeErrors = 1
		r.summon()
	}},
	{"versions that stay mixed", Key{"mixed_versions", ""}, false, 4 * time.Hour, func(r *Readings) {
		r.Servers[0].Version = downstream.Version{Text: "v1.107.0-cluster", Major: 1, Minor: 107}
	}},
	{"a proxy in between", Key{"vminsert_network", insertA}, true, 0, func(r *Readings) {
		r.Nodes[0].Seconds, r.Nodes[1].Seconds = 8, 7
		r.Servers[1].Insert.RequestSeconds = 6.5
		r.jammed()
	}},
	{"a server's clock", Key{"clock_skew", "10.0.1.2:8482"}, false, 90 * time.Second, func(r *Readings) { r.Servers[3].ClockAhead = 40 }},
	{"our clock", Key{"clock_skew", ""}, false, 90 * time.Second, func(r *Readings) {
		for i := range r.Servers {
			r.Servers[i].ClockAhead = -90
		}
	}},
	{"requests that are never answered, by a vminsert whose metrics are", Key{"vminsert_network", insertB}, false, 0, func(r *Readings) {
		r.Nodes[1].Taken, r.Nodes[1].Stuck, r.Nodes[1].Seconds, r.Nodes[1].InFlight = 0, true, downstream.Unknown(), 1
	}},
	{"requests that no vminsert answers, though their metrics are", Key{"vminsert_network", ""}, true, 0, func(r *Readings) {
		for i := range r.Nodes {
			r.Nodes[i].Taken, r.Nodes[i].Stuck, r.Nodes[i].Seconds, r.Nodes[i].InFlight = 0, true, downstream.Unknown(), 1
		}
		r.jammed()
	}},
	{"a storage that one of two vminserts cannot reach", Key{"vmstorage_network", storageA}, false, 0, func(r *Readings) {
		r.Servers[0].Insert.Ways[0].Reachable = false
		r.summon()
	}},
	{"names that cannot be looked up", Key{"dns", ""}, false, 0, func(r *Readings) {
		r.Lookups = []downstream.FailedLookup{{Name: "vminsert.example", Error: "no such host", Known: true}}
	}},
	{"vminserts of which no address is known", Key{"dns", ""}, true, 0, func(r *Readings) {
		r.Lookups = []downstream.FailedLookup{{Name: "vminsert.example", Error: "no such host"}}
		r.Nodes, r.Servers, r.Storages = nil, nil, nil
		r.jammed()
	}},
	{"a vmselect that does not answer", Key{"read_path", ""}, true, 0, func(r *Readings) {
		r.Canary.Selects = map[string]string{"vmselect-0:8481": "connection refused"}
		r.Canary.Age = downstream.Unknown()
	}},
	{"more load than ever", Key{"offered_load_up", ""}, true, 0, func(r *Readings) {
		r.jammed()
		r.Load = Load{Offered: 150e3, Sent: 55e3, Usual: 50e3, Recent: 120e3, Before: 50e3, Yesterday: 48e3}
	}},
	{"less is taken, and nothing says why", Key{"capacity_down", ""}, true, 0, func(r *Readings) { r.jammed() }},
	{"flooding tenants", Key{"tenant_flood", ""}, false, 0, func(r *Readings) {
		r.Tenants = append(r.Tenants, Tenant{Name: "9:9", Accepted: 2e3, Above: 500, Refused: 90e3}, Tenant{Name: "9:8", Accepted: 10, Above: 0, Refused: 300})
		r.Bulk = Backlog{Age: 400, Blocks: 900, Bytes: 1e8, Arriving: 9, Sent: 4, Drain: inf}
	}},
	{"half of the senders gone", Key{"senders_gone", ""}, false, 4 * time.Minute, func(r *Readings) {
		r.Load.Offered, r.Load.Sent, r.Load.Recent = 20e3, 20e3, 20e3
	}},
	{"credentials", Key{"credentials_refused", ""}, true, 0, func(r *Readings) {
		r.Access.Known, r.Access.Refused, r.Access.Credentials = 100, 300, 40
	}},
	{"credentials of a few of very many", Key{"credentials_refused", ""}, false, 0, func(r *Readings) {
		r.Access.Known, r.Access.Refused, r.Access.Credentials = 10000, 30, 25
	}},
	{"directory away", Key{"directory_stale", ""}, true, 0, func(r *Readings) {
		r.Access.DirectoryDown, r.Access.StaleFor, r.Senders.Unknown = true, 120, 20
	}},
	{"key set away", Key{"jwks_stale", ""}, false, 0, func(r *Readings) { r.Access.KeysFailing = true }},
	{"file of tenants not well", Key{"reload_refused", ""}, false, 0, func(r *Readings) { r.Access.ReloadRefused = true }},
	{"Kafka away", Key{"kafka_unavailable", ""}, true, 0, func(r *Readings) {
		r.inKafka()
		r.Kafka.UnreachableFor, r.Kafka.Acknowledged, r.Kafka.Failed, r.Senders.Unavailable = 20, 0, 5, 300
		r.Kafka.Unowned, r.Load.Recent = 3, 1e3
	}},
	{"a broker away", Key{"kafka_under_replicated", ""}, false, 90 * time.Second, func(r *Readings) {
		r.inKafka()
		r.Kafka.UnderReplicated = 8
	}},
	{"Kafka throttles", Key{"kafka_throttles", ""}, true, 0, func(r *Readings) {
		r.inKafka()
		r.Kafka.Throttled = 0.4
		r.jammed()
	}},
	{"a backlog that will outlive its topic", Key{"kafka_retention_too_short", ""}, true, 0, func(r *Readings) {
		r.inKafka()
		r.Bulk = Backlog{Age: 50000, Blocks: 1e5, Bytes: 1e10, Arriving: 1, Sent: 2, Drain: 9e4}
	}},
	{"a topic that is not safe", Key{"kafka_topic_unsafe", ""}, false, 0, func(r *Readings) {
		r.inKafka()
		r.Kafka.Unsafe = []string{"ingestgw-main/min.insync.replicas"}
	}},
	{"a partition without an owner", Key{"partition_without_owner", ""}, true, 90 * time.Second, func(r *Readings) {
		r.inKafka()
		r.Kafka.Unowned = 2
	}},
	{"fewer partitions than processes", Key{"too_few_partitions", ""}, false, 6 * time.Minute, func(r *Readings) {
		r.inKafka()
		r.Kafka.Members, r.Kafka.Partitions = 30, 24
	}},
	{"a disk that others fill", Key{"disk_nearly_full", ""}, true, 0, func(r *Readings) {
		r.Disk.Free, r.Disk.MainQuota, r.Disk.Errors, r.Senders.Full = 4<<30, 1<<30, 3, 100
	}},
	{"a disk that others will have filled by tomorrow", Key{"disk_nearly_full", ""}, false, 0, func(r *Readings) {
		r.Disk.Free, r.Disk.MainQuota = 9<<30, 5<<30
	}},
	{"a broken disk", Key{"disk_broken", ""}, true, 0, func(r *Readings) { r.Disk.Errors, r.Disk.Sync, r.Senders.Unavailable = 4, 3, 100 }},
	{"a slow disk", Key{"disk_slow", ""}, false, 0, func(r *Readings) { r.Disk.Sync = 0.9 }},
	{"a change of memory settings taken back", Key{"own_memory_change_reverted", ""}, true, 0, func(r *Readings) {
		r.Memory.Reverted = &memory.Reverted{At: midnight.Add(time.Minute), By: "token", From: memory.State{Limit: 16 << 20, GOGC: 100},
			To: memory.State{Limit: 1 << 30, GOGC: 100}, GCShare: 0.6, MaxShare: 0.25}
		r.Memory.Pressed, r.Senders.Spent, r.Cores = &memory.Pressed{Since: midnight, Halved: 2}, 40, 3.9
		r.Memory.Now.Live, r.Memory.Now.Room = 9<<20, 10<<20
	}},
	{"own memory limit too low", Key{"own_memory_limit_too_low", ""}, true, 0, func(r *Readings) {
		r.Memory.Pressed, r.Senders.Spent = &memory.Pressed{Since: midnight, Halved: 3}, 40
		r.Memory.Standing, r.Memory.Now = memory.Costly, memory.Reading{Known: true, Noticeable: true, GCShare: 0.5, Live: 9 << 20, Room: 10 << 20}
		r.Cores = 3.95
	}},
	{"a limit changed live that costs a hair less than what is taken back", Key{"own_memory_limit_too_low", ""}, false, 90 * time.Second, func(r *Readings) {
		r.Memory.Pressed, r.Memory.Standing = &memory.Pressed{Since: midnight.Add(time.Minute), Halved: 3}, memory.OnTrial
		r.Memory.InForce.Limit = 16 << 20
		r.Memory.Now = memory.Reading{Known: true, Noticeable: true, GCShare: 0.24, Live: 9 << 20, Room: 10 << 20}
	}},
	{"own garbage collection", Key{"own_gc", ""}, false, 0, func(r *Readings) {
		r.Memory.Standing, r.Memory.Now = memory.Costly, memory.Reading{Known: true, Noticeable: true, GCShare: 0.5}
		r.Cores = 3.95
	}},
	{"no CPU for ourselves", Key{"own_cpu", ""}, false, 90 * time.Second, func(r *Readings) { r.Cores = 3.95 }},
	{"lost blocks", Key{"samples_lost", ""}, true, 0, func(r *Readings) { r.Lost = 2 }},
	{"a newer version has written", Key{"partition_on_hold", ""}, true, 0, func(r *Readings) { r.OnHold, r.Main.Age, r.Main.Drain = 1, 60, inf }},
	{"settled by the clock", Key{"settled_by_clock", ""}, false, 6 * time.Minute, func(r *Readings) { r.ByClock = true }},
	{"a certificate for a week", Key{"certificate_expires", ""}, false, 0, func(r *Readings) { r.CertificateEnds = midnight.Add(7 * 24 * time.Hour) }},
	{"a certificate for an hour", Key{"certificate_expires", ""}, true, 0, func(r *Readings) { r.CertificateEnds = midnight.Add(time.Hour) }},
	{"a backlog, and nothing is known of the load before", Key{CauseUnknown, ""}, true, 75 * time.Second, func(r *Readings) {
		r.jammed()
		r.Load.Usual = downstream.Unknown()
	}},
	{"nothing settles", Key{CauseUnknown, ""}, true, 75 * time.Second, func(r *Readings) { r.Unsettled = 700 }},
	{"a vminsert that is not watched and dead", Key{"vminsert_unreachable", insertA}, true, 0, func(r *Readings) {
		r.Servers, r.Storages = nil, nil
		r.Nodes = r.Nodes[:1]
		r.Nodes[0].Taken, r.Nodes[0].Unreachable, r.Nodes[0].Paused = 0, 1, true
		r.jammed()
	}},
}

// inKafka puts the buffer into Kafka.
func (r *Readings) inKafka() {
	r.Disk = nil
	r.Kafka = &Kafka{UnreachableFor: 0, Acknowledged: 20, Failed: 0, Unstored: 0, UnderReplicated: 0, Leaderless: 0, Throttled: 0, MainRetention: 7 * 86400, BulkRetention: 86400,
		Unowned: 0, Partitions: 24, Members: 3}
}

func TestEachIncidentGivesItsOneAlarm(t *testing.T) {
	for _, c := range incidents {
		t.Run(c.name, func(t *testing.T) {
			p := play(t)
			long := max(3*time.Minute, c.slow+time.Minute)
			p.pass(long, c.breaks)
			a, ok := p.fired[c.key]
			if !ok || len(p.fired) != 1 {
				t.Fatalf("fired: %s; want %v alone", p.names(), c.key)
			}
			if (a.Severity == Page) != c.page {
				t.Errorf("it is a %s", a.Severity)
			}
			if within := max(time.Minute, c.slow); p.first > within {
				t.Errorf("it fired after %s, want %s", p.first, within)
			}
			if a.Summary == "" || a.Next == "" || len(a.Evidence) == 0 {
				t.Errorf("something is missing: %+v", a)
			}
			for _, e := range a.Evidence {
				if e.Text == "" || slices.Contains([]byte(e.Text), '%') && !slices.Contains([]byte(e.Text), ' ') {
					t.Errorf("evidence %+v", e)
				}
			}

			p.pass(15*time.Minute, nil)
			if len(p.fired) != 1 {
				t.Errorf("when all was well again, more fired: %s", p.names())
			}
			if _, over := p.ended[c.key]; !over {
				t.Error("it has not resolved")
			}
		})
	}
}

// The text asks for it: no alarm of an idle server, however hard it collects.
func TestAnIdleServerThatCollectsIsNoIncident(t *testing.T) {
	p := play(t)
	p.pass(time.Hour, func(r *Readings) {
		v := &r.Servers[0]
		v.CPU = downstream.CPU{Used: 0.05, Available: 4, GCShare: 0.9, AssistShare: 0, GCsPerSecond: 1}
		v.Memory.Ratio, v.Memory.NextGC = 1.1, 5e6
	})
	if len(p.fired) > 0 {
		t.Errorf("fired: %s", p.names())
	}
}

// Where vmstorages' metrics are is a guess unless it is configured.
func TestAWrongGuessOfWhereMetricsAreIsNoIncident(t *testing.T) {
	p := play(t)
	p.pass(time.Hour, func(r *Readings) {
		for i := range 2 {
			fail(r, &r.Servers[2+i], downstream.HealthUnreachable)
			r.Servers[2+i].Read = time.Time{}
		}
		r.summon()
	})
	if len(p.fired) > 0 {
		t.Errorf("fired: %s", p.names())
	}
}

func TestACalmHourFiresNothing(t *testing.T) {
	for seed := range uint64(20) {
		p := play(t)
		p.pass(time.Hour, noisy(rand.New(rand.NewPCG(seed, 1))))
		if len(p.fired) > 0 {
			t.Errorf("seed %d: fired: %s", seed, p.names())
		}
	}
}

// While it starts, a process knows nothing yet.
func TestNothingKnownFiresNothing(t *testing.T) {
	e := NewEngine(1)
	for i := range 100 {
		r := newObserver(Sources{}, 1).readings(board{}.Moment(midnight.Add(time.Duration(i) * step)))
		if all := e.Step(r); len(all) > 0 {
			t.Fatalf("alarms: %+v", all)
		}
	}
}

func TestAnIncidentThroughNoiseIsOneAlarm(t *testing.T) {
	for seed := range uint64(10) {
		noise := noisy(rand.New(rand.NewPCG(seed, 2)))
		p := play(t)
		p.pass(20*time.Minute, func(r *Readings) {
			noise(r)
			bound(&r.Servers[0])
			r.Nodes[0].Seconds = 9
			r.jammed()
		})
		if want := (Key{"vminsert_gogc_too_low", insertA}); len(p.fired) != 1 || p.fired[want].Name == "" || len(p.ended) > 0 {
			t.Errorf("seed %d: fired: %s, resolved %d", seed, p.names(), len(p.ended))
		}
	}
}

// A cause that comes and goes must not hide a symptom for ever.
func TestACauseThatNeverFiresHidesNothing(t *testing.T) {
	p := play(t)
	n := 0
	p.pass(5*time.Minute, func(r *Readings) {
		r.jammed()
		r.Load.Usual = downstream.Unknown()
		if n++; n%3 == 0 {
			bound(&r.Servers[0])
		}
	})
	if _, ok := p.fired[Key{CauseUnknown, ""}]; !ok {
		t.Errorf("fired: %s", p.names())
	}
}

// Whoever has a wrong password sends again and again.
func TestOneSenderWithAWrongCredentialIsNoAlarm(t *testing.T) {
	p := play(t)
	p.pass(time.Hour, func(r *Readings) { r.Access.Known, r.Access.Refused, r.Access.Credentials = 5, 50, 1 })
	if len(p.fired) > 0 {
		t.Errorf("fired: %s", p.names())
	}
}

// Budgets grow back step by step.
func TestALimitThatWasRaisedIsTooLowNoMore(t *testing.T) {
	for name, limit := range map[string]int64{"none": 0, "raised": 1 << 30} {
		p := play(t)
		p.pass(10*time.Minute, func(r *Readings) {
			r.Memory.Pressed, r.Memory.InForce.Limit = &memory.Pressed{Since: midnight, Halved: 2}, limit
			r.Memory.Now = memory.Reading{Known: true, GCShare: 0.01, Live: 9 << 20, Room: max(0, limit-8<<20)}
		})
		if len(p.fired) > 0 {
			t.Errorf("%s: fired: %s", name, p.names())
		}
	}
}

// What is seen all the time stays one alarm, however short the times of its rule are.
func TestWhatLastsDoesNotFlap(t *testing.T) {
	for _, c := range incidents {
		if c.slow > 2*time.Minute {
			continue
		}
		p := play(t)
		p.pass(5*time.Minute, c.breaks)
		if len(p.ended) > 0 {
			t.Errorf("%s: resolved while it lasts", c.name)
		}
	}
}

// An alarm that only lingers is no reason for what begins later.
func TestWhatIsOverExplainsNothingNew(t *testing.T) {
	p := play(t)
	p.pass(2*time.Minute, func(r *Readings) { bound(&r.Servers[0]) })
	p.pass(20*time.Second, nil)
	p.pass(2*time.Minute, func(r *Readings) {
		r.jammed()
		r.Load.Usual = downstream.Unknown()
	})
	if a := p.fired[Key{"vminsert_gogc_too_low", insertA}]; a.Severity != Ticket {
		t.Errorf("it has become a %s", a.Severity)
	}
	if _, ok := p.fired[Key{CauseUnknown, ""}]; !ok {
		t.Errorf("fired: %s", p.names())
	}
}

func TestALittleAboveTheLimitsIsNoFlood(t *testing.T) {
	p := play(t)
	p.pass(time.Hour, func(r *Readings) {
		r.Tenants = append(r.Tenants, Tenant{Name: "9:9", Accepted: 2000, Above: 300, Refused: 90}, Tenant{Name: "9:8", Accepted: 0, Above: 0, Refused: 3})
	})
	if len(p.fired) > 0 {
		t.Errorf("fired: %s", p.names())
	}
}

func TestWorkingOffABacklogIsNoAlarm(t *testing.T) {
	p := play(t)
	p.pass(2*time.Hour, func(r *Readings) {
		r.Main = Backlog{Age: 3000, Blocks: 4000, Bytes: 1e9, Arriving: 20, Sent: 60, Drain: 900}
		r.Load.Sent = 150e3
	})
	if len(p.fired) > 0 {
		t.Errorf("fired: %s", p.names())
	}
}

func TestWhatSpreadsToMostBecomesOneAlarm(t *testing.T) {
	p := play(t)
	p.pass(2*time.Minute, func(r *Readings) { bound(&r.Servers[0]) })
	all := p.pass(2*time.Minute, func(r *Readings) {
		bound(&r.Servers[0])
		bound(&r.Servers[1])
	})
	var firing []Key
	for _, a := range all {
		if a.State == Firing {
			firing = append(firing, a.Key())
		}
	}
	if !slices.Equal(firing, []Key{{"vminsert_gogc_too_low", ""}}) {
		t.Errorf("firing: %v", firing)
	}
	all = p.pass(20*time.Minute, nil)
	for _, a := range all {
		if a.State != Resolved {
			t.Errorf("left: %+v", a)
		}
	}
}

// When one storage is away it may be its turn to be restarted. When all are, nothing can be stored.
func TestAllStoragesAwayAreToldSoonerThanOne(t *testing.T) {
	first := map[int]time.Duration{}
	for away := 1; away <= 2; away++ {
		p := play(t)
		p.pass(time.Minute, func(r *Readings) {
			for i := range away {
				fail(r, &r.Servers[2+i], downstream.HealthUnreachable)
			}
			r.summon()
		})
		first[away] = p.first
	}
	if first[1] != 20*time.Second || first[2] != 5*time.Second {
		t.Errorf("told after %v", first)
	}
}

func TestPatienceScalesAllTimes(t *testing.T) {
	fast, slow := NewEngine(0.2), NewEngine(1)
	when := func(e *Engine) time.Duration {
		for i := range 100 {
			at := midnight.Add(time.Duration(i) * time.Second)
			r := calm(at)
			bound(&r.Servers[0])
			if all := e.Step(r); len(all) == 1 && all[0].State == Firing {
				return at.Sub(midnight)
			}
		}
		return -1
	}
	if f, s := when(fast), when(slow); f != 3*time.Second || s != 15*time.Second {
		t.Errorf("fired after %s and %s, want 3s and 15s", f, s)
	}
}

// Everything that a rule names has to be there, and no two rules may follow from each other.
func TestRulesNameWhatThereIs(t *testing.T) {
	all, signs := causes(), symptoms()
	named := map[string]bool{}
	for i := range all {
		if named[all[i].Name] {
			t.Errorf("%s is there twice", all[i].Name)
		}
		named[all[i].Name] = true
	}
	for i := range all {
		r := &all[i]
		for _, sign := range r.Explains {
			if !slices.ContainsFunc(signs, func(s Rule) bool { return s.Name == sign }) {
				t.Errorf("%s explains %s, which is no symptom", r.Name, sign)
			}
		}
		for _, pattern := range r.Covers {
			if !slices.ContainsFunc(all, func(o Rule) bool { return fits(pattern, o.Name) }) {
				t.Errorf("%s covers %s, which is no rule", r.Name, pattern)
			}
		}
		for j := range all {
			if i != j && all[i].covers("", &all[j], "") && all[j].covers("", &all[i], "") {
				t.Errorf("%s and %s follow from each other", all[i].Name, all[j].Name)
			}
		}
	}
	for _, c := range incidents {
		delete(named, c.key.Name)
	}
	for name := range named {
		t.Errorf("no incident is played for %s", name)
	}
}
