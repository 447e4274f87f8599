package alarm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/memory"
)

const (
	insertA, insertB   = "10.0.0.7:8480", "10.0.0.8:8480"
	storageA, storageB = "10.0.1.1:8400", "10.0.1.2:8400"
	step               = 5 * time.Second
)

var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// calm is a gateway with a buffer on disk, two vminserts of v1.100 and two vmstorages, where all is well.
func calm(at time.Time) *Readings {
	r := &Readings{
		At: at, Window: window, CPUs: 4, Cores: 0.4,
		Nodes:     []Node{node(insertA), node(insertB)},
		Main:      Backlog{Age: 0.4, Blocks: 3, Bytes: 90e3, Arriving: 20, Sent: 20, Drain: 0.2},
		Bulk:      Backlog{Age: 0, Blocks: 0, Bytes: 0, Arriving: 0, Sent: 0, Drain: 0},
		Unsettled: 35, OnHold: 0, Lost: 0, Future: 0,
		Senders: Senders{All: 400, Full: 0, Unavailable: 0, Spent: 0, Broken: 0, Unknown: 0},
		Load:    Load{Offered: 50e3, Sent: 50e3, Usual: 50e3, Recent: 50e3, Before: 50e3, Yesterday: 50e3},
		Tenants: []Tenant{{Name: "1:0", Accepted: 20e3, Above: 0, Refused: 0}, {Name: "2:0", Accepted: 10e3, Above: 0, Refused: 0}},
		Access:  Access{Known: 400, Refused: 0, StaleFor: 0, KeysAge: 100},
		Disk: &Disk{Main: 1 << 30, MainQuota: 80 << 30, Bulk: 0, BulkQuota: 25 << 30, Free: 85 << 30, Reserve: 5 << 30, Capacity: 100 << 30,
			Growth: 1e5, Fills: 1e5, Sync: 0.004, Errors: 0},
		Memory: &memory.View{Standing: memory.Good, MaxShare: 0.25, InForce: memory.State{Limit: 1 << 30, GOGC: 100},
			Now: memory.Reading{Known: true, GCShare: 0.05}},
		Canary: &Canary{Age: 6, Every: 10, Nodes: map[string]downstream.Figure{insertA: 6, insertB: 5}, Selects: map[string]string{"vmselect-0:8481": ""}},
	}
	ways := func() []downstream.Way { return []downstream.Way{way(storageA), way(storageB)} }
	r.Servers = []downstream.Vitals{server(insertA, downstream.VMInsert), server(insertB, downstream.VMInsert),
		server("10.0.1.1:8482", downstream.VMStorage), server("10.0.1.2:8482", downstream.VMStorage)}
	for i := range 2 {
		r.Servers[i].Insert = &downstream.InsertVitals{Rows: 25e3, Requests: 30, Errors: 0, RequestSeconds: 0.02, TenantSeries: 20e3, NewTenants: 0,
			LabelsCut: 0, IncompletelyReplicated: 0, Dropped: 0, Ways: ways()}
		r.Servers[2+i].Storage = &downstream.StorageVitals{Port: "8400", Rows: 25e3, Added: 25e3, SlowInserts: 100, SlowShare: 0.004, NewSeries: 10,
			HourlyLimit: downstream.Unknown(), DailyLimit: downstream.Unknown(), Dropped: 0, FreeDisk: 1e12, FreeDiskLimit: 1e7, FullIn: downstream.Unknown(),
			WriteRate: 1e7, PendingRows: 1e4, Parts: 20, Merges: 1, AssistedMerges: 0}
	}
	r.summon()
	return r
}

// summon makes the views of storages anew from what the servers say.
func (r *Readings) summon() {
	r.Storages = nil
	for i, addr := range []string{storageA, storageB} {
		s := downstream.StorageView{Storage: addr, Own: &r.Servers[2+i], Server: r.Servers[2+i].Server, Sum: way(addr), WorstFrom: insertA, MeanSendShare: 0.2}
		for _, v := range r.Servers[:2] {
			w := v.Insert.Ways[i]
			s.Seen++
			if !w.Reachable {
				s.Unreachable++
				s.UnreachableFrom = append(s.UnreachableFrom, v.Server)
			}
			if w.ReadOnly {
				s.ReadOnly++
			}
			s.Sum.SendShare = max(s.Sum.SendShare, w.SendShare)
			s.Sum.ReroutedFrom += w.ReroutedFrom
			s.Sum.HandshakeErrors += w.HandshakeErrors
			s.Sum.DroppedOnUnsupported += w.DroppedOnUnsupported
		}
		r.Storages = append(r.Storages, s)
	}
}

func node(name string) Node {
	return Node{Name: name, Taken: 30, Busy: 0, Refused: 0, TimedOut: 0, Unreachable: 0, Seconds: 0.03, InFlight: 1}
}

func way(storage string) downstream.Way {
	return downstream.Way{Storage: storage, Reachable: true, Rows: 12e3, SendShare: 0.2, PendingRows: 500, PendingBytes: 1e5}
}

func server(name string, kind downstream.Kind) downstream.Vitals {
	return downstream.Vitals{Server: name, Kind: kind, Listed: true, Health: downstream.HealthGood, Read: midnight, Age: 1, Interval: 1, Window: 15, Uptime: 86400,
		Version:  downstream.Version{Text: "v1.100.0-cluster", Major: 1, Minor: 100},
		CPU:      downstream.CPU{Used: 0.8, Available: 4, GCShare: 0.15, AssistShare: 0.01, GCsPerSecond: 2},
		Memory:   downstream.Memory{HeapAlloc: 150e6, NextGC: 200e6, LiveHeap: 110e6, Ratio: 1.8, Limit: downstream.Unknown(), ProcessLimit: 4e9, RSS: 400e6, Anon: 380e6, AllocRate: 1e7, AllocPerRow: 400},
		Pressure: downstream.Pressure{CPUWaiting: 0, CPUStalled: 0, IOWaiting: 0.02, IOStalled: 0.01},
		Inserts:  downstream.Inserts{Current: 1, Capacity: 8, LimitReached: 0, QueueTimeouts: 0},
	}
}

// jammed makes the backlog grow, as when vminserts take nothing, or less than comes in.
func (r *Readings) jammed() {
	r.Main = Backlog{Age: 90, Blocks: 4000, Bytes: 1e9, Arriving: 20, Sent: 2, Drain: inf}
	r.Load.Sent = 5e3
	r.Canary.Age = 95
}

// bound makes a vminsert lack CPU because of garbage collection. The figures were measured at v1.100 with 20,000 tenants and GOGC=10.
func bound(v *downstream.Vitals) {
	v.CPU = downstream.CPU{Used: 2.4, Available: 4, GCShare: 0.57, AssistShare: 0.4, GCsPerSecond: 60, Short: true, ShortBecause: "assist"}
	v.Memory.Ratio, v.Memory.NextGC, v.Memory.LiveHeap = 1.14, 28e6, 25e6
}

// failing makes a server's metrics unreadable since a while.
func fail(r *Readings, v *downstream.Vitals, health downstream.Health) {
	v.Health, v.FailedPolls, v.FailingSince, v.Error = health, 5, r.At.Add(-15*time.Second), "connect: connection refused"
}

// unknownFigures makes everything that the server's metrics say unknown, as it is when they have not been read for a while.
func unknownFigures(v *downstream.Vitals) {
	u := downstream.Unknown()
	v.CPU, v.Memory = downstream.CPU{Used: u, Available: u, GCShare: u, AssistShare: u, GCsPerSecond: u}, downstream.Memory{HeapAlloc: u, NextGC: u, LiveHeap: u,
		Ratio: u, Limit: u, ProcessLimit: u, RSS: u, Anon: u, AllocRate: u, AllocPerRow: u}
}

// play lets an Engine see the scene for so long, broken by the given function, after a calm minute and before calm again. It returns what fired when.
type played struct {
	t      *testing.T
	engine *Engine
	now    time.Time
	// fired are the alarms that fired at any time, ended those that resolved.
	fired, ended map[Key]Alarm
	// first is when the first one fired, after it was broken.
	first time.Duration
}

func play(t *testing.T) *played {
	t.Helper()
	p := &played{t: t, engine: NewEngine(1), now: midnight, fired: map[Key]Alarm{}, ended: map[Key]Alarm{}}
	p.pass(time.Minute, nil)
	if len(p.fired) > 0 {
		t.Fatalf("fired while all was well: %v", p.names())
	}
	return p
}

// pass lets time pass with the scene broken in that way.
func (p *played) pass(d time.Duration, breaks func(*Readings)) []Alarm {
	var all []Alarm
	for began := p.now; p.now.Sub(began) < d; p.now = p.now.Add(step) {
		r := calm(p.now)
		if breaks != nil {
			breaks(r)
		}
		all = p.engine.Step(r)
		for _, a := range all {
			switch a.State {
			case Firing:
				if len(p.fired) == 0 {
					p.first = p.now.Sub(began)
				}
				p.fired[a.Key()] = a
			case Resolved:
				p.ended[a.Key()] = a
			}
		}
	}
	return all
}

func (p *played) names() string {
	var names []string
	for key, a := range p.fired {
		names = append(names, fmt.Sprintf("%s(%s)@%s", key.Name, a.Severity, key.Node))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// noisy disturbs the readings as they are in real life: figures of servers come and go, and everything varies.
func noisy(rng *rand.Rand) func(*Readings) {
	return func(r *Readings) {
		vary := func(f *downstream.Figure, by float64) { *f *= downstream.Figure(1 + by*(rng.Float64()-0.5)) }
		vary(&r.Main.Arriving, 0.6)
		vary(&r.Main.Sent, 0.6)
		vary(&r.Main.Age, 3)
		vary(&r.Load.Offered, 0.5)
		vary(&r.Load.Sent, 0.5)
		vary(&r.Load.Recent, 0.3)
		vary(&r.Disk.Sync, 1.5)
		for i := range r.Nodes {
			vary(&r.Nodes[i].Seconds, 1.5)
			if rng.IntN(40) == 0 { // a single request fails now and then
				r.Nodes[i].Busy = 0.07
			}
			if rng.IntN(60) == 0 { // a collection at the wrong moment
				r.Nodes[i].Seconds = 1.4
			}
		}
		for i := range r.Servers {
			v := &r.Servers[i]
			vary(&v.CPU.GCShare, 1)
			vary(&v.CPU.Used, 1)
			vary(&v.Memory.Ratio, 0.3)
			switch rng.IntN(50) {
			case 0: // short for a moment
				v.CPU.Short, v.CPU.ShortBecause, v.CPU.GCShare, v.CPU.Used = true, "used", 0.34, 3.9
			case 1: // a poll that fails
				v.Health, v.FailedPolls, v.FailingSince = downstream.HealthMute, 1, r.At.Add(-time.Second)
			case 2:
				unknownFigures(v)
			}
		}
		if rng.IntN(30) == 0 {
			r.Canary.Age = 21
		}
		if rng.IntN(100) == 0 { // one request of many came at the wrong moment
			r.Senders.Spent = 0.2
		}
		r.summon()
	}
}
