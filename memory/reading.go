package memory

import (
	"math"
	"runtime/metrics"
	"time"
)

// A Reading says what garbage collection costs and how full memory is, over the last ten seconds (a third of
// INGESTGW_MEMORY_GC_MAX_TIME).
//
// Go tells what it spends CPU on when a collection ends, and not in between (runtime: cpuStatsAggregate.compute). So the shares are
// over whole collections: from the last end before the window to the last end in it. In a window in which none ended nothing is
// known, and nothing is being spent that matters. KNOWN GAP: a collection that takes longer than the window, of a heap of tens of GB,
// is told as nothing until it ends.
//
// A high share says nothing by itself: a process with nothing else to do may spend most of the little CPU that it uses on collecting
// (and collects on cores that nobody wants, golang/go#44163). So GCShare leaves out what was collected on idle cores, which Go's
// documentation of /cpu/classes/gc/mark/idle:cpu-seconds asks for, while that stays a part of the CPU used: with cores to spare the
// share is low, and only when cores are short can it come near 1. And it counts only if Noticeable.
type Reading struct {
	// At is when it was read.
	At time.Time `json:"at"`
	// Known says whether a collection ended in the window. The figures about CPU are 0 if not.
	Known bool `json:"known"`
	// GCShare is what collecting garbage took of the CPU used, 0 to 1:
	// (/cpu/classes/gc/total - gc/mark/idle) / (/cpu/classes/total - /cpu/classes/idle).
	GCShare float64 `json:"gc_share"`
	// AssistShare is the part of it for which goroutines that do the real work were held up, because they allocate faster than
	// garbage is collected.
	AssistShare float64 `json:"assist_share"`
	// GCCores is the CPU that collecting took, in cores.
	GCCores float64 `json:"gc_cores"`
	// UsedCores is the CPU that everything took, in cores.
	UsedCores float64 `json:"used_cores"`
	// Noticeable says whether collecting took so much of a core that its share means something.
	Noticeable bool `json:"noticeable"`
	// GCPerSecond is collections per second.
	GCPerSecond float64 `json:"gc_per_second"`
	// Limiter says whether Go itself had to keep collecting below half of all CPU, letting memory grow above its limit instead
	// (/gc/limiter/last-enabled).
	Limiter bool `json:"limiter"`

	// Live is the bytes that were still in use after the last collection.
	Live int64 `json:"live_bytes"`
	// Goal is the size of the heap at which the next one is to be done.
	Goal int64 `json:"goal_bytes"`
	// Counted is the memory that counts against the limit: all that Go has from the system and has not given back.
	Counted int64 `json:"counted_bytes"`
	// Room is what the limit leaves for the heap: without stacks, Go's own tables, and gaps between objects. 0 without a limit, or
	// if it leaves nothing.
	Room int64 `json:"room_bytes"`
	// Limit is the memory limit that Go has in force; 0 is none.
	Limit int64 `json:"limit_bytes"`

	// loaded is how long the process was under load, of the time that this sample tells of and the one before did not.
	loaded time.Duration
}

const (
	// noticeable is in cores. A tenth of one is the least that anybody would look for with a profile.
	noticeable = 0.1
	// underLoad is the share of the cores that a process uses under load. With less to do, any values may seem good.
	underLoad = 0.25
	// tightLive is the share of Room that live bytes have to take for the limit to be what makes collecting dear: the heap can then
	// grow by less than half between two collections, as with GOGC=43.
	tightLive = 0.7
	// tightShare is what collecting has to cost beside that. While it collects, Go gives a quarter of the cores to it
	// (runtime.gcBackgroundUtilization), so in a spiral, when it does so nearly all the time, this is passed however many cores there are.
	tightShare = 0.2
)

// tight says whether there is a death spiral: live bytes take up that share of what the limit leaves them, so that collecting again and
// again gains little, and collecting costs more than gcShare of the CPU, or Go has to limit it.
func (r Reading) tight(share, gcShare float64) bool {
	return r.Known && r.full(share) && (r.Limiter || r.above(gcShare))
}

// full says whether live bytes take up that share of what the limit leaves them.
func (r Reading) full(share float64) bool {
	return r.Limit > 0 && float64(r.Live) >= share*float64(r.Room)
}

// roomy says whether the limit leaves live bytes room, and Go can stay below it.
func (r Reading) roomy() bool { return r.Limit == 0 || !r.full(tightLive) && r.Counted <= r.Limit }

func (r Reading) above(maxShare float64) bool { return r.Noticeable && r.GCShare > maxShare }

// A sample is what Go's counters and gauges show at one moment. CPU is in seconds since the start.
type sample struct {
	procs                           int64
	total, idle, gc, gcIdle, assist float64
	cycles, limiter                 int64
	live, goal, limit               int64
	all, released, objects, free    int64
}

// A meter makes Readings of samples.
type meter struct {
	window time.Duration
	ring   []moment // oldest first; all but the first are within the window
}

type moment struct {
	at time.Time
	sample
}

// add takes a sample. A gap longer than the window (the process was stopped, or had no CPU) begins anew: what happened in it would be
// told as if it had happened now.
func (m *meter) add(now time.Time, s sample) Reading {
	if n := len(m.ring); n > 0 && now.Sub(m.ring[n-1].at) > m.window {
		m.ring = m.ring[:0]
	}
	m.ring = append(m.ring, moment{now, s})
	for len(m.ring) > 2 && now.Sub(m.ring[1].at) >= m.window {
		m.ring = append(m.ring[:0], m.ring[1:]...)
	}
	r := s.gauges(now)
	first, last := m.ring[0], m.ring[max(0, len(m.ring)-2)]
	if elapsed := now.Sub(first.at).Seconds(); elapsed > 0 {
		r.GCPerSecond = float64(s.cycles-first.cycles) / elapsed
	}
	if c := s.since(first.sample); c.wall > 0 {
		r.Known = true
		r.GCShare, r.AssistShare = c.share(c.gc), c.share(c.assist)
		r.GCCores, r.UsedCores = c.gc/c.wall, c.used/c.wall
		r.Noticeable = r.GCCores >= noticeable
		r.Limiter = s.limiter > 0 && s.limiter > first.cycles
	}
	if c := s.since(last.sample); c.wall > 0 && c.used/c.wall >= underLoad*float64(s.procs) {
		r.loaded = time.Duration(c.wall * float64(time.Second))
	}
	return r
}

// forget begins a new window with the newest sample, so that what follows is told apart from what was before.
func (m *meter) forget() {
	if n := len(m.ring); n > 0 {
		m.ring = append(m.ring[:0], m.ring[n-1])
	}
}

// gauges is the part of a Reading for which one sample is enough.
func (s sample) gauges(now time.Time) Reading {
	r := Reading{At: now, Live: s.live, Goal: s.goal, Counted: s.all - s.released}
	if s.limit > 0 && s.limit < math.MaxInt64 {
		r.Limit = s.limit
		// As in runtime.memoryLimitHeapGoal.
		r.Room = max(0, s.limit-(r.Counted-s.objects-s.free))
	}
	return r
}

// cost is CPU seconds between two ends of collections, and wall the seconds between them; 0 if no collection ended.
type cost struct{ wall, used, gc, assist float64 }

func (s sample) since(old sample) cost {
	return cost{
		wall:   (s.total - old.total) / float64(max(1, s.procs)),
		used:   (s.total - s.idle) - (old.total - old.idle),
		gc:     (s.gc - s.gcIdle) - (old.gc - old.gcIdle),
		assist: s.assist - old.assist,
	}
}

// share is v of the CPU used. Go estimates these figures one by one, so that they may be a little off against each other.
func (c cost) share(v float64) float64 {
	if c.used <= 0 {
		return 0
	}
	return min(1, max(0, v/c.used))
}

// A sampler reads samples. It is not safe for concurrent use.
type sampler struct{ list []metrics.Sample }

func newSampler() *sampler {
	names := []string{
		"/sched/gomaxprocs:threads",
		"/cpu/classes/total:cpu-seconds", "/cpu/classes/idle:cpu-seconds", "/cpu/classes/gc/total:cpu-seconds",
		"/cpu/classes/gc/mark/idle:cpu-seconds", "/cpu/classes/gc/mark/assist:cpu-seconds",
		"/gc/cycles/total:gc-cycles", "/gc/limiter/last-enabled:gc-cycle",
		"/gc/heap/live:bytes", "/gc/heap/goal:bytes", "/gc/gomemlimit:bytes",
		"/memory/classes/total:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/objects:bytes",
		"/memory/classes/heap/free:bytes",
	}
	s := &sampler{make([]metrics.Sample, len(names))}
	for i, name := range names {
		s.list[i].Name = name
	}
	return s
}

func (s *sampler) read() sample {
	metrics.Read(s.list)
	i := 0
	next := func() metrics.Value { i++; return s.list[i-1].Value }
	// A Go that lacks a metric has to be noticed by a test, not at night.
	seconds := func() float64 {
		if v := next(); v.Kind() == metrics.KindFloat64 {
			return v.Float64()
		}
		return 0
	}
	number := func() int64 {
		if v := next(); v.Kind() == metrics.KindUint64 {
			return int64(min(v.Uint64(), math.MaxInt64))
		}
		return 0
	}
	return sample{
		procs: number(),
		total: seconds(), idle: seconds(), gc: seconds(), gcIdle: seconds(), assist: seconds(),
		cycles: number(), limiter: number(),
		live: number(), goal: number(), limit: number(),
		all: number(), released: number(), objects: number(), free: number(),
	}
}
