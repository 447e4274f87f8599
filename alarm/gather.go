package alarm

import (
	"cmp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
	"github.com/ingestgw/ingestgw/memory"
)

const (
	// window is what rates are over, scaled by patience and not less than leastWindow.
	window      = 15 * time.Second
	leastWindow = 4 * time.Second
	// trend is what the growth of what fills a disk is over; less than leastTrend tells nothing.
	trend      = time.Minute
	leastTrend = 45 * time.Second
)

// Sources are where readings come from. What is nil is not watched.
type Sources struct {
	// Metrics are those of this process.
	Metrics prometheus.Gatherer
	// Vitals are the servers by their own metrics, Memory what memory.Control says, and Canary what the canary sees.
	Vitals func() []downstream.Vitals
	Memory func() memory.View
	Canary func() *Canary
	// Lookups are names that cannot be looked up.
	Lookups []func() []downstream.FailedLookup
}

// An observer makes readings of sources. It belongs to one goroutine.
type observer struct {
	sources Sources
	window  time.Duration
	past    []*gathered.Moment // the oldest first
	loads   loads
}

func newObserver(s Sources, patience float64) *observer {
	return &observer{sources: s, window: max(leastWindow, time.Duration(float64(window)*patience))}
}

// observe reads everything. The error says which metrics could not be read; the readings are of the rest.
func (o *observer) observe() (*Readings, error) {
	now, err := gathered.Read(o.sources.Metrics)
	return o.readings(now), err
}

func (o *observer) readings(now *gathered.Moment) *Readings {
	f := figures{gathered.Span{Then: o.before(now.At, o.window), Now: now}}
	long := figures{gathered.Span{Then: o.before(now.At, trend), Now: now}}
	o.remember(now)

	r := &Readings{At: now.At, Window: time.Duration(f.Seconds() * float64(time.Second)), CPUs: runtime.GOMAXPROCS(0)}
	r.Nodes = f.nodes(long)
	r.Main, r.Bulk = now.Backlog("lane", "main"), now.Backlog("lane", "bulk")
	r.Unsettled, r.ByClock = f.level(gathered.UnsettledAge), f.level(gathered.SettleMode, "mode", "time") == 1
	r.OnHold, r.Lost = f.level(gathered.OnHold), sum(f.growth(gathered.LostBlocks), f.growth(gathered.MalformedBlocks))
	r.Senders, r.Future, r.Access, r.Tenants = f.senders(), f.rate(gathered.IngestFuture), f.access(), f.tenants()
	r.Disk, r.Kafka = f.disk(long), f.kafka()
	r.Cores = f.rate(gathered.ProcessCPU)
	if ends := f.level(gathered.CertificateExpiry); ends > 0 {
		r.CertificateEnds = time.Unix(int64(ends), 0)
	}
	r.Load = o.loads.add(now.At, now.Sum(gathered.IngestSamples), 1+f.level(gathered.LimitPeers).Or(0), !(r.Main.Age > lateAge))
	r.Load.Offered, r.Load.Sent = f.rate(gathered.IngestSamples), f.rate(gathered.ForwardSamples)
	o.ask(r)
	return r
}

// ask takes what is not in metrics.
func (o *observer) ask(r *Readings) {
	if o.sources.Vitals != nil {
		r.Servers = o.sources.Vitals()
		r.Storages = downstream.Storages(r.Servers)
	}
	if o.sources.Memory != nil {
		v := o.sources.Memory()
		r.Memory = &v
	}
	for _, list := range o.sources.Lookups {
		r.Lookups = append(r.Lookups, list()...)
	}
	if o.sources.Canary != nil {
		r.Canary = o.sources.Canary()
	}
}

// before is the newest moment that is that old, or else the oldest; nil when there is none.
func (o *observer) before(now time.Time, age time.Duration) *gathered.Moment {
	var best *gathered.Moment
	for _, m := range o.past {
		if best == nil || now.Sub(m.At) >= age {
			best = m
		}
	}
	return best
}

func (o *observer) remember(now *gathered.Moment) {
	o.past = append(o.past, now)
	for len(o.past) > 1 && now.At.Sub(o.past[1].At) >= trend {
		o.past = slices.Delete(o.past, 0, 1)
	}
}

// figures are metrics now and a while ago.
type figures struct{ gathered.Span }

func (f figures) level(name string, match ...string) downstream.Figure {
	return downstream.Figure(f.Now.Sum(name, match...))
}

// ofTopic is that of the topic of a lane, whose name ends with the lane's.
func (f figures) ofTopic(name, lane string) downstream.Figure {
	for _, s := range f.Now.Of(name) {
		if strings.HasSuffix(s.Label("topic"), "-"+lane) {
			return downstream.Figure(s.Value)
		}
	}
	return downstream.Unknown()
}

func (f figures) rate(name string, match ...string) downstream.Figure {
	return downstream.Figure(f.Rate(name, match...))
}

func (f figures) growth(name string, match ...string) downstream.Figure {
	return downstream.Figure(f.Growth(name, match...))
}

// sum adds up rates; one that is not known counts as nothing.
func sum(all ...downstream.Figure) downstream.Figure {
	total := 0.0
	for _, f := range all {
		total += f.Or(0)
	}
	return downstream.Figure(total)
}

func (f figures) nodes(long figures) []Node {
	codes := map[string]map[string]float64{}
	for _, code := range []string{"2xx", "3xx", "4xx", "5xx", "timeout", "unreachable"} {
		codes[code] = f.Rates(gathered.ForwardRequests, "node", "code", code)
	}
	seconds := f.Means(gathered.ForwardDuration, "node")
	tookAny, timedOut := long.Rates(gathered.ForwardRequests, "node", "code", "2xx"), long.Rates(gathered.ForwardRequests, "node", "code", "timeout")
	busy, paused := f.Now.By(gathered.NodeInFlight, "node"), f.Now.By(gathered.NodeState, "node", "state", "paused")
	var nodes []Node
	for _, name := range f.Now.Values(gathered.NodeState, "node") {
		nodes = append(nodes, Node{
			Name: name, Paused: paused[name] == 1,
			Taken: valueOf(codes["2xx"], name), Busy: valueOf(codes["5xx"], name),
			Refused: sum(valueOf(codes["3xx"], name), valueOf(codes["4xx"], name)), TimedOut: valueOf(codes["timeout"], name),
			Unreachable: valueOf(codes["unreachable"], name), Seconds: valueOf(seconds, name),
			InFlight: valueOf(busy, name), Stuck: timedOut[name] > 0 && tookAny[name] == 0,
		})
	}
	return nodes
}

func valueOf(m map[string]float64, name string) downstream.Figure {
	if v, ok := m[name]; ok {
		return downstream.Figure(v)
	}
	return downstream.Unknown()
}

func (f figures) senders() Senders {
	answer := func(name string) downstream.Figure { return f.rate(gathered.IngestRequests, "answer", name) }
	return Senders{
		All: f.rate(gathered.IngestRequests), Full: answer("buffer_full"), Unavailable: answer("buffer_unavailable"), Spent: answer("memory_spent"),
		Broken: answer("internal"), Unknown: answer("tenant_unknown"),
	}
}

func (f figures) access() Access {
	result := func(name string) downstream.Figure { return f.rate(gathered.TenantIdentified, "result", name) }
	failed, good := f.growth(gathered.KeySetReads, "result", "failed"), f.growth(gathered.KeySetReads, "result", "good")
	return Access{
		Known:         result("ok"),
		Refused:       sum(result("unauthorized"), result("forbidden"), result("no_credential"), result("too_many_failures")),
		Credentials:   f.level(gathered.TenantRefusedCredentials),
		DirectoryDown: f.level(gathered.DirectoryBreaker) == 1, StaleFor: f.level(gathered.DirectoryStaleAge),
		KeysFailing: failed > 0 && good == 0, KeysAge: f.level(gathered.KeySetAge),
		ReloadRefused: f.level(gathered.TenantFileReload) == 0,
	}
}

// limits are the reasons for which a tenant's limits refuse samples.
var limits = []string{"samples", "bytes", "requests", "active_series"}

func (f figures) tenants() []Tenant {
	in, bulk, old := f.Rates(gathered.TenantSamples, "tenant"), f.Rates(gathered.TenantBulkSamples, "tenant"), f.Rates(gathered.TenantOldSamples, "tenant")
	refused := map[string]float64{}
	for _, reason := range limits {
		for name, rate := range f.Rates(gathered.TenantRefusedSamples, "tenant", "reason", reason) {
			refused[name] += rate
		}
	}
	all := make([]Tenant, 0, len(in))
	for name := range in {
		if name != gathered.OtherTenants {
			all = append(all, Tenant{Name: name, Accepted: valueOf(in, name), Refused: valueOf(refused, name),
				Above: downstream.Figure(max(0, valueOf(bulk, name).Or(0)-valueOf(old, name).Or(0)))})
		}
	}
	slices.SortFunc(all, func(a, b Tenant) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (f figures) disk(long figures) *Disk {
	if !f.Now.Has(gathered.DiskFree) {
		return nil
	}
	d := &Disk{
		Main: f.level(gathered.DiskBytes, "lane", "main"), MainQuota: f.level(gathered.DiskQuota, "lane", "main"),
		Bulk: f.level(gathered.DiskBytes, "lane", "bulk"), BulkQuota: f.level(gathered.DiskQuota, "lane", "bulk"),
		Free: f.level(gathered.DiskFree), Reserve: f.level(gathered.DiskReserve), Capacity: f.level(gathered.DiskCapacity),
		Growth: downstream.Unknown(), Fills: downstream.Unknown(),
		Sync: downstream.Figure(f.Mean(gathered.DiskFsync)), Errors: sum(f.growth(gathered.DiskFsyncErrors), f.growth(gathered.DiskWriteErrors)),
	}
	if long.Seconds() >= leastTrend.Seconds() {
		d.Growth = downstream.Figure((long.Then.Sum(gathered.DiskFree) - float64(d.Free)) / long.Seconds())
		d.Fills = downstream.Figure((float64(d.Main) - long.Then.Sum(gathered.DiskBytes, "lane", "main")) / long.Seconds())
	}
	return d
}

func (f figures) kafka() *Kafka {
	if !f.Now.Has(gathered.KafkaTries) && !f.Now.Has(gathered.KafkaReachable) {
		return nil
	}
	k := &Kafka{
		UnreachableFor: f.level(gathered.KafkaUnreachable),
		Acknowledged:   downstream.Figure(f.rate(gathered.KafkaTries, "result", "acknowledged").Or(0)), Failed: f.rate(gathered.KafkaTries, "result", "failed"),
		Unstored:        f.rate(gathered.KafkaBlocks, "result", "unavailable"),
		UnderReplicated: f.level(gathered.KafkaUnderReplicated), Leaderless: f.level(gathered.KafkaLeaderless),
		Throttled: f.rate(gathered.KafkaThrottled), MainRetention: f.ofTopic(gathered.KafkaRetention, "main"), BulkRetention: f.ofTopic(gathered.KafkaRetention, "bulk"),
		Unowned: f.level(gathered.KafkaUnowned), Members: f.level(gathered.KafkaMembers), Partitions: f.ofTopic(gathered.KafkaPartitions, "main"),
	}
	if f.Then == nil {
		k.Acknowledged = downstream.Unknown()
	}
	for _, s := range f.Now.Of(gathered.KafkaUnsafe) {
		if s.Value == 1 && s.Label("setting") != "unknown" {
			k.Unsafe = append(k.Unsafe, s.Label("topic")+"/"+s.Label("setting"))
		}
	}
	slices.Sort(k.Unsafe)
	return k
}
