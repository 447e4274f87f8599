package downstream

import (
	"cmp"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// wantedWindow is what rates are over if the process has been read for as long.
	wantedWindow = 15 * time.Second
	// leastWindow is the shortest time that rates are made of: a page can be CacheAge older than it seems.
	leastWindow = 5 * time.Second
	// pastSpacing is the time between two readings that are kept for rates.
	pastSpacing = 5 * time.Second

	// leastCPU is the seconds of CPU below which shares of it are noise: it is counted in hundredths.
	leastCPU = 0.2
	// leastRows is the rows per second below which figures per row are noise.
	leastRows = 100
	// leastGCs is how many collections have to be in a window for an estimate of what lies between two; manyGCs are enough for a good one.
	leastGCs = 4
	manyGCs  = 8
	// noMemLimit is from where on GOMEMLIMIT is none: Go's default is math.MaxInt64.
	noMemLimit = 1 << 62
	// maxErrorText bounds Vitals.Error.
	maxErrorText = 512
)

// When a process counts as short of CPU; see CPU.Short.
const (
	shortUsed         = 0.9
	shortAssist       = 0.05
	shortAssistUsed   = 0.1 // of what is available, but no more than shortAssistCores
	shortAssistCores  = 0.5
	shortWaiting      = 0.5
	shortWaitingUsed  = 0.5
	shortStalled      = 0.1
	shortBecauseUsed  = "used"
	shortBecauseWait  = "waiting"
	shortBecauseHelp  = "assist"
	shortBecauseStall = "stalled"
)

// remember adds a reading of the same process to those that rates are made of: some 5 s apart, and no more of them than go back to
// wantedWindow. It returns another slice, so that one that was handed out does not change.
func remember(past []*Reading, r *Reading) []*Reading {
	if n := len(past); n > 0 && r.Ended.Sub(past[n-1].Ended) < pastSpacing {
		return past
	}
	from := 0
	for i, p := range past {
		if r.Ended.Sub(p.Ended) >= wantedWindow {
			from = i
		}
	}
	return append(slices.Clone(past[from:]), r)
}

// Vitals returns how all servers are that are watched, sorted by kind, vminserts first, and by name. It is safe for concurrent use,
// and what it returns is the caller's.
func (w *Watch) Vitals() []Vitals {
	now := time.Now()
	all := w.records()
	vitals := make([]Vitals, len(all))
	for i := range all {
		vitals[i] = all[i].vitals(now, w.interval)
	}
	slices.SortFunc(vitals, func(a, b Vitals) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Server, b.Server))
	})
	return vitals
}

// records are copies of all records. What they refer to is never changed, only replaced, except for restarts, which is copied.
func (w *Watch) records() []record {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]record, 0, len(w.nodes)+len(w.storages))
	for _, list := range []map[string]*record{w.nodes, w.storages} {
		for _, t := range list {
			r := *t
			r.restarts = slices.Clone(t.restarts)
			all = append(all, r)
		}
	}
	return all
}

// vitals makes Vitals of what is known at a time. usual is the time between good polls after a reading.
func (t *record) vitals(now time.Time, usual func(*Reading) time.Duration) Vitals {
	v := Vitals{
		Server: t.Endpoint.String(), Kind: t.Kind, Endpoint: t.Endpoint, Listed: t.Listed,
		Health: cmp.Or(t.health, HealthUnpolled), Since: t.healthyAt,
		FailingSince: t.FailingSince, FailedPolls: t.FailedPolls,
		Age: Unknown(), PageSeconds: Unknown(), PageBytes: Unknown(), Interval: Figure(t.Interval.Seconds()),
		ClockAhead: Unknown(),
		Jumping:    t.Jumping,
	}
	if t.Err != nil {
		text := t.Err.Error()
		v.Error = strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "")
	}
	for _, at := range t.restarts {
		if now.Sub(at) < RestartMemory {
			v.Restarts++
			v.LastRestart = at
		}
	}
	s := newStretch(nil, &Reading{})
	if r := t.Last; r != nil {
		v.Read, v.Age = r.Ended, Figure(now.Sub(r.Ended).Seconds())
		v.PageSeconds, v.PageBytes = Figure(r.Ended.Sub(r.Begun).Seconds()), Figure(r.Size)
		v.Version, v.Start = versionOf(r.Version), startOfProcess(r.Start)
		if now.Sub(r.Ended) <= StaleAfter+2*usual(r) {
			s = newStretch(t.past, r)
			v.ClockAhead = r.clock.ahead()
		}
	}
	s.assess(&v)
	if v.Storage != nil && t.Last != nil { // who it is does not grow old
		if _, port, err := net.SplitHostPort(t.Last.Flags[insertAddrFlag]); err == nil {
			v.Storage.Port = port
		}
	}
	return v
}

// assess fills in what is made of figures.
func (s stretch) assess(v *Vitals) {
	v.Window = Unknown()
	if s.before != nil {
		v.Window = Figure(s.seconds)
	}
	v.Uptime = s.level(uptime)
	v.Pressure = s.pressure()
	v.CPU = s.cpu(v.Pressure)
	v.Inserts = Inserts{
		Current: s.level(insertsCurrent), Capacity: s.level(insertsCapacity),
		LimitReached: s.rate(insertsLimitReached), QueueTimeouts: s.rate(insertsTimeouts),
	}
	v.Ignored = s.ignored()
	var rows Figure
	if v.Kind == VMStorage {
		v.Storage = s.storage(v.Ignored)
		rows = v.Storage.Rows
	} else {
		v.Insert = s.insert(v.Ignored)
		rows = v.Insert.Rows
	}
	v.Memory = s.memory(rows)
}

// A stretch is the time between two readings of one process.
type stretch struct {
	now     *Reading
	before  *Reading // nil when there is none that is old enough
	seconds float64
	between []*Reading // readings in it, now among them
}

// newStretch goes back from now to the newest reading of past that is wantedWindow older, or else to the oldest.
func newStretch(past []*Reading, now *Reading) stretch {
	s := stretch{now: now, between: []*Reading{now}}
	for i := len(past) - 1; i >= 0; i-- {
		age := now.Ended.Sub(past[i].Ended)
		s.between = append(s.between, past[i])
		if age >= leastWindow {
			s.before, s.seconds = past[i], age.Seconds()
		}
		if age >= wantedWindow {
			break
		}
	}
	return s
}

// level is what a number is now.
func (s stretch) level(n number) Figure { return clean(s.now.number(n)) }

// growth is by how much a number has grown; unknown when it has shrunk, as no counter does.
func (s stretch) growth(n number) Figure {
	if s.before == nil {
		return Unknown()
	}
	return grown(s.before.number(n), s.now.number(n))
}

func grown(before, now float64) Figure {
	if now < before {
		return Unknown()
	}
	return clean(now - before)
}

// rate is by how much a number has grown per second.
func (s stretch) rate(n number) Figure { return s.growth(n) / Figure(s.seconds) }

// rateOf is the rate of a counter that stood at before and now.
func (s stretch) rateOf(before, now float64) Figure { return grown(before, now) / Figure(s.seconds) }

// share is the part of the time that a counter of seconds has grown by, at most 1.
func (s stretch) share(n number) Figure { return capped(s.rate(n)) }

// capped is f, and 1 when it is more, as a share that is measured a little wrong may be.
func capped(f Figure) Figure {
	if f > 1 {
		return 1
	}
	return f
}

// leastOf is the least of those that are known and above 0.
func leastOf(all ...Figure) Figure {
	least := Unknown()
	for _, f := range all {
		if f > 0 && !(f >= least) { // least may be unknown
			least = f
		}
	}
	return least
}

// sum adds up those that are known; unknown when none is.
func sum(all ...Figure) Figure {
	total := Unknown()
	for _, f := range all {
		switch {
		case !f.Known():
		case total.Known():
			total += f
		default:
			total = f
		}
	}
	return total
}

func (s stretch) pressure() Pressure {
	return Pressure{
		CPUWaiting: s.share(cpuWaiting), CPUStalled: s.share(cpuStalled),
		IOWaiting: s.share(ioWaiting), IOStalled: s.share(ioStalled),
		MemoryWaiting: s.share(memoryWaiting), MemoryStalled: s.share(memoryStalled),
	}
}

func (s stretch) cpu(p Pressure) CPU {
	c := CPU{
		Used:         s.rate(cpuSeconds),
		Available:    leastOf(s.level(coresOfProcess), s.level(coresOfApp), s.level(coresOfGo)),
		GCShare:      Unknown(),
		AssistShare:  Unknown(),
		GCsPerSecond: s.rate(gcs),
	}
	if used := s.growth(cpuSeconds); used >= leastCPU {
		c.GCShare = capped(s.growth(gcSeconds) / used)
		c.AssistShare = capped(s.growth(assistSeconds) / used)
	}
	switch {
	case c.Used >= shortUsed*c.Available:
		c.ShortBecause = shortBecauseUsed
	case c.AssistShare > shortAssist && c.Used >= min(shortAssistUsed*c.Available, shortAssistCores):
		c.ShortBecause = shortBecauseHelp
	case p.CPUStalled >= shortStalled:
		c.ShortBecause = shortBecauseStall
	case p.CPUWaiting >= shortWaiting && c.Used >= shortWaitingUsed*c.Available:
		c.ShortBecause = shortBecauseWait
	}
	c.Short = c.ShortBecause != ""
	return c
}

func (s stretch) memory(rows Figure) Memory {
	m := Memory{
		HeapAlloc:    s.level(heapAlloc),
		NextGC:       s.level(nextGC),
		Ratio:        s.heapRatio(),
		Limit:        s.level(memLimit),
		ProcessLimit: leastOf(s.level(limitOfProcess), s.level(limitOfApp)),
		RSS:          s.level(rss),
		Anon:         s.level(rssAnon),
		AllocRate:    s.rate(allocBytes),
		AllocPerRow:  Unknown(),
	}
	m.LiveHeap = m.NextGC / m.Ratio
	if m.Limit >= noMemLimit {
		m.Limit = Unknown()
	}
	if rows >= leastRows {
		m.AllocPerRow = m.AllocRate / rows
	}
	return m
}

// heapRatio estimates how large the heap may grow against what is alive in it.
func (s stretch) heapRatio() Figure {
	if ratio := s.ratioByCycles(); ratio.Known() {
		return ratio
	}
	return s.ratioByLevels()
}

// ratioByCycles takes what is allocated between two collections for what the heap may grow by: over the shortest time up to now with manyGCs
// in it, so that a heap that grows disturbs little, or else over all of the stretch. It can say too little, as a collection
// may end before the heap is as large as it might be.
func (s stretch) ratioByCycles() Figure {
	for i, before := range s.between[1:] {
		cycles := grown(before.number(gcs), s.now.number(gcs))
		isLast := i == len(s.between)-2
		if !(cycles >= manyGCs || isLast && cycles >= leastGCs) {
			continue
		}
		next := clean((before.number(nextGC) + s.now.number(nextGC)) / 2)
		perCycle := grown(before.number(allocBytes), s.now.number(allocBytes)) / cycles
		if perCycle < next {
			return next / (next - perCycle)
		}
	}
	return Unknown()
}

// ratioByLevels is the largest ratio that was seen while the heap might grow as large as now. It can only say too little, as the
// heap that is read holds garbage too.
func (s stretch) ratioByLevels() Figure {
	ratio, now := Unknown(), s.now.number(nextGC)
	for _, r := range s.between {
		next := r.number(nextGC)
		if seen := clean(next / r.number(heapAlloc)); math.Abs(next-now) <= now/4 && seen.Known() {
			ratio = max(1, seen, Figure(ratio.Or(1)))
		}
	}
	return ratio
}

// limitReasons are reasons of ignored rows that newer vmstorages count, which have counters of their own as well.
var limitReasons = [...]string{"hourly_limit_exceeded", "daily_limit_exceeded"}

func (s stretch) ignored() []Ignored {
	var all []Ignored
	for _, i := range s.now.ignored {
		if slices.Contains(limitReasons[:], i.reason) {
			continue
		}
		rows := Unknown()
		if s.before != nil { // a reason that was not there before had none
			before := s.before.ignoredFor(i.reason)
			if math.IsNaN(before) {
				before = 0
			}
			rows = s.rateOf(before, i.rows)
		}
		all = append(all, Ignored{Reason: i.reason, Rows: rows})
	}
	slices.SortFunc(all, func(a, b Ignored) int { return cmp.Compare(a.Reason, b.Reason) })
	return all
}

func sumIgnored(all []Ignored) Figure {
	total := Unknown()
	for _, i := range all {
		total = sum(total, i.Rows)
	}
	return total
}

func (s stretch) insert(ignored []Ignored) *InsertVitals {
	v := &InsertVitals{
		Rows:                   s.rate(rowsInserted),
		Requests:               s.rate(insertRequests),
		Errors:                 s.rate(insertErrors),
		RequestSeconds:         Unknown(),
		TenantSeries:           Unknown(),
		NewTenants:             Unknown(),
		LabelsCut:              s.rate(labelsCut),
		IncompletelyReplicated: s.rate(incompletelyReplicated),
		Dropped:                sumIgnored(ignored),
		Ways:                   s.ways(),
	}
	if ended := s.growth(requestsEnded); ended > 0 {
		v.RequestSeconds = s.growth(requestSeconds) / ended
	}
	if s.now.IsVMInsert() {
		v.TenantSeries = Figure(s.now.tenants)
	}
	if s.before != nil {
		v.NewTenants = s.rateOf(float64(s.before.tenants), float64(s.now.tenants))
	}
	for _, way := range v.Ways {
		v.Dropped = sum(v.Dropped, way.DroppedOnOverload, way.DroppedOnUnsupported)
	}
	return v
}

// ways takes the queues to each storage together.
func (s stretch) ways() []Way {
	byStorage := make(map[string]*Way, len(s.now.Paths))
	for path, now := range s.now.Paths {
		one := s.way(path, now)
		if all := byStorage[path.Addr]; all != nil {
			all.add(one)
		} else {
			byStorage[path.Addr] = &one
		}
	}
	ways := make([]Way, 0, len(byStorage))
	for _, way := range byStorage {
		ways = append(ways, *way)
	}
	slices.SortFunc(ways, func(a, b Way) int { return cmp.Compare(a.Storage, b.Storage) })
	return ways
}

// way is one queue.
func (s stretch) way(path Path, now Passage) Way {
	var before Passage
	known := false
	if s.before != nil {
		before, known = s.before.Paths[path]
	}
	rate := func(before, now float64) Figure {
		if !known {
			return Unknown()
		}
		return s.rateOf(before, now)
	}
	return Way{
		Storage:              path.Addr,
		Reachable:            !now.Unreachable,
		ReadOnly:             now.ReadOnly,
		Rows:                 rate(before.Sent, now.Sent),
		SendShare:            capped(rate(before.SendSeconds, now.SendSeconds)),
		PendingRows:          clean(now.PendingRows),
		PendingBytes:         clean(now.PendingBytes),
		ConnectionErrors:     rate(before.ConnectionErrors, now.ConnectionErrors),
		DialErrors:           rate(before.DialErrors, now.DialErrors),
		HandshakeErrors:      rate(before.HandshakeErrors, now.HandshakeErrors),
		ReroutedFrom:         rate(before.ReroutedFrom, now.ReroutedFrom),
		ReroutedTo:           rate(before.ReroutedTo, now.ReroutedTo),
		DroppedOnOverload:    rate(before.DroppedOnOverload, now.DroppedOnOverload),
		DroppedOnUnsupported: rate(before.DroppedOnUnsupported, now.DroppedOnUnsupported),
	}
}

// add takes in another queue to the same storage, or the way of another vminsert to it.
func (w *Way) add(o Way) {
	w.Reachable = w.Reachable || o.Reachable
	w.ReadOnly = w.ReadOnly || o.ReadOnly
	if !(w.SendShare >= o.SendShare) { // either may be unknown
		w.SendShare = Figure(o.SendShare.Or(float64(w.SendShare)))
	}
	for _, f := range []struct {
		all *Figure
		one Figure
	}{
		{&w.Rows, o.Rows},
		{&w.PendingRows, o.PendingRows},
		{&w.PendingBytes, o.PendingBytes},
		{&w.ConnectionErrors, o.ConnectionErrors},
		{&w.DialErrors, o.DialErrors},
		{&w.HandshakeErrors, o.HandshakeErrors},
		{&w.ReroutedFrom, o.ReroutedFrom},
		{&w.ReroutedTo, o.ReroutedTo},
		{&w.DroppedOnOverload, o.DroppedOnOverload},
		{&w.DroppedOnUnsupported, o.DroppedOnUnsupported},
	} {
		*f.all = sum(*f.all, f.one)
	}
}

func (s stretch) storage(ignored []Ignored) *StorageVitals {
	v := &StorageVitals{
		Rows:           s.rate(rowsReceived),
		Added:          s.rate(rowsAdded),
		SlowInserts:    s.rate(slowInserts),
		SlowShare:      Unknown(),
		NewSeries:      s.rate(newSeries),
		HourlyLimit:    s.rate(hourlyLimit),
		DailyLimit:     s.rate(dailyLimit),
		ReadOnly:       s.level(readOnly) > 0,
		FreeDisk:       s.level(freeDisk),
		FreeDiskLimit:  s.level(freeDiskLimit),
		FullIn:         Unknown(),
		WriteRate:      s.rate(diskWritten),
		PendingRows:    s.level(pendingRows),
		Parts:          s.level(parts),
		Merges:         s.level(merges),
		AssistedMerges: s.rate(assistedMerges),
	}
	if !v.Rows.Known() {
		v.Rows = v.Added
	}
	if v.Rows >= leastRows {
		v.SlowShare = capped(v.SlowInserts / v.Rows)
	}
	v.Dropped = sum(sumIgnored(ignored), v.HourlyLimit, v.DailyLimit)
	if s.before != nil {
		if falling := s.rateOf(s.now.number(freeDisk), s.before.number(freeDisk)); falling > 0 {
			v.FullIn = max(0, v.FreeDisk-v.FreeDiskLimit) / falling
		}
	}
	return v
}

// startOfProcess is a start time as it stands on a page, zero when it is none.
func startOfProcess(text string) time.Time {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds > 0 && seconds < 1<<40) {
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000))
}
