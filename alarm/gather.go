package alarm

import (
	"cmp"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
	"github.com/ingestgw/ingestgw/memory"
)

// The metrics that readings are made from. Nothing else in the package knows a metric's name; a test of the whole process holds that they
// exist.
const (
	mRequests    = "ingestgw_ingest_requests_total" // answer
	mSamplesIn   = "ingestgw_ingest_samples_total"
	mFuture      = "ingestgw_ingest_future_requests_total"
	mCertificate = "ingestgw_ingest_certificate_expiry_timestamp_seconds"
	mIdentified  = "ingestgw_tenant_requests_identified_total" // result

	mUnsentBlocks = "ingestgw_forward_unsent_blocks" // lane, partition, as the next ones
	mUnsentBytes  = "ingestgw_forward_unsent_bytes_estimate"
	mUnsentAge    = "ingestgw_forward_oldest_unsent_age_seconds"
	mArriving     = "ingestgw_forward_arriving_blocks_per_second"
	mSent         = "ingestgw_forward_sent_blocks_per_second"
	mDrain        = "ingestgw_forward_time_to_drain_seconds"
	mOnHold       = "ingestgw_forward_on_hold"
	mSamplesOut   = "ingestgw_forward_samples_total"            // node
	mPosts        = "ingestgw_forward_requests_total"           // node, code
	mPostTime     = "ingestgw_forward_request_duration_seconds" // node
	mNodeState    = "ingestgw_forward_node_state"               // node, state
	mNodeBusy     = "ingestgw_forward_blocks_in_flight"         // node
	mUnsettledAge = "ingestgw_forward_unsettled_seconds"
	mSettleMode   = "ingestgw_forward_settle_mode" // mode
	mLost         = "ingestgw_forward_lost_blocks_total"
	mMalformed    = "ingestgw_forward_malformed_blocks_total"

	mDiskBytes    = "ingestgw_disk_bytes"       // lane
	mDiskQuota    = "ingestgw_disk_quota_bytes" // lane
	mDiskFree     = "ingestgw_disk_free_bytes"
	mDiskReserve  = "ingestgw_disk_reserve_bytes"
	mDiskCapacity = "ingestgw_disk_capacity_bytes"
	mSync         = "ingestgw_disk_fsync_seconds"
	mSyncErrors   = "ingestgw_disk_fsync_errors_total"
	mWriteErrors  = "ingestgw_disk_write_errors_total"

	mKafkaReachable  = "ingestgw_kafka_reachable"
	mKafkaGone       = "ingestgw_kafka_unreachable_seconds"
	mKafkaTries      = "ingestgw_kafka_tries_total"  // result
	mKafkaBlocks     = "ingestgw_kafka_blocks_total" // lane, result
	mKafkaPartitions = "ingestgw_kafka_partitions"   // topic
	mKafkaUnder      = "ingestgw_kafka_under_replicated_partitions"
	mKafkaLeaderless = "ingestgw_kafka_leaderless_partitions"
	mKafkaThrottled  = "ingestgw_kafka_throttled_seconds_total"
	mKafkaRetention  = "ingestgw_kafka_retention_seconds" // topic
	mKafkaUnowned    = "ingestgw_kafka_unowned_partitions"
	mKafkaMembers    = "ingestgw_kafka_group_members"
	mKafkaUnsafe     = "ingestgw_kafka_topic_unsafe" // topic, setting

	mTenantIn      = "ingestgw_tenant_samples_total"         // tenant
	mTenantBulk    = "ingestgw_tenant_bulk_samples_total"    // tenant
	mTenantOld     = "ingestgw_tenant_old_samples_total"     // tenant
	mTenantRefused = "ingestgw_tenant_refused_samples_total" // tenant, reason
	mPeers         = "ingestgw_limit_peers"
	mReload        = "ingestgw_tenant_file_last_reload_successful"
	mBreaker       = "ingestgw_tenant_directory_breaker_open"
	mStaleAge      = "ingestgw_tenant_directory_stale_age_seconds"
	mKeyReads      = "ingestgw_tenant_jwt_key_set_reads_total" // result
	mKeyAge        = "ingestgw_tenant_jwt_key_set_age_seconds"

	mCPU = "process_cpu_seconds_total"
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
	r.Main, r.Bulk = f.backlog("main"), f.backlog("bulk")
	r.Unsettled, r.ByClock = f.level(mUnsettledAge), f.level(mSettleMode, "mode", "time") == 1
	r.OnHold, r.Lost = f.level(mOnHold), sum(f.growth(mLost), f.growth(mMalformed))
	r.Senders, r.Future, r.Access, r.Tenants = f.senders(), f.rate(mFuture), f.access(), f.tenants()
	r.Disk, r.Kafka = f.disk(long), f.kafka()
	r.Cores = f.rate(mCPU)
	if ends := f.level(mCertificate); ends > 0 {
		r.CertificateEnds = time.Unix(int64(ends), 0)
	}
	r.Load = o.loads.add(now.At, now.Sum(mSamplesIn), 1+f.level(mPeers).Or(0), !(r.Main.Age > lateAge))
	r.Load.Offered, r.Load.Sent = f.rate(mSamplesIn), f.rate(mSamplesOut)
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

func (f figures) greatest(name string, match ...string) downstream.Figure {
	return downstream.Figure(f.Now.Greatest(name, match...))
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

func (f figures) backlog(lane string) Backlog {
	return Backlog{
		Age:      f.greatest(mUnsentAge, "lane", lane),
		Blocks:   f.level(mUnsentBlocks, "lane", lane),
		Bytes:    f.level(mUnsentBytes, "lane", lane),
		Arriving: f.level(mArriving, "lane", lane),
		Sent:     f.level(mSent, "lane", lane),
		Drain:    f.greatest(mDrain, "lane", lane),
	}
}

func (f figures) nodes(long figures) []Node {
	codes := map[string]map[string]float64{}
	for _, code := range []string{"2xx", "3xx", "4xx", "5xx", "timeout", "unreachable"} {
		codes[code] = f.Rates(mPosts, "node", "code", code)
	}
	took, answers := f.Rates(mPostTime+"_sum", "node"), f.Rates(mPostTime+"_count", "node")
	tookAny, timedOut := long.Rates(mPosts, "node", "code", "2xx"), long.Rates(mPosts, "node", "code", "timeout")
	busy, paused := f.Now.By(mNodeBusy, "node"), f.Now.By(mNodeState, "node", "state", "paused")
	var nodes []Node
	for _, name := range f.Now.Values(mNodeState, "node") {
		nodes = append(nodes, Node{
			Name: name, Paused: paused[name] == 1,
			Taken: valueOf(codes["2xx"], name), Busy: valueOf(codes["5xx"], name),
			Refused: sum(valueOf(codes["3xx"], name), valueOf(codes["4xx"], name)), TimedOut: valueOf(codes["timeout"], name),
			Unreachable: valueOf(codes["unreachable"], name), Seconds: per(valueOf(took, name), valueOf(answers, name)),
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

// per is a by b; unknown when b is 0.
func per(a, b downstream.Figure) downstream.Figure {
	if b == 0 {
		return downstream.Unknown()
	}
	return a / b
}

func (f figures) senders() Senders {
	answer := func(name string) downstream.Figure { return f.rate(mRequests, "answer", name) }
	return Senders{
		All: f.rate(mRequests), Full: answer("buffer_full"), Unavailable: answer("buffer_unavailable"), Spent: answer("memory_spent"),
		Broken: answer("internal"), Unknown: answer("tenant_unknown"),
	}
}

func (f figures) access() Access {
	result := func(name string) downstream.Figure { return f.rate(mIdentified, "result", name) }
	failed, good := f.growth(mKeyReads, "result", "failed"), f.growth(mKeyReads, "result", "good")
	return Access{
		Known:         result("ok"),
		Refused:       sum(result("unauthorized"), result("forbidden"), result("no_credential"), result("too_many_failures")),
		DirectoryDown: f.level(mBreaker) == 1, StaleFor: f.level(mStaleAge),
		KeysFailing: failed > 0 && good == 0, KeysAge: f.level(mKeyAge),
		ReloadRefused: f.level(mReload) == 0,
	}
}

// others is how the metrics of tenants name those that are not told apart.
const others = "other"

// limits are the reasons for which a tenant's limits refuse samples.
var limits = []string{"samples", "bytes", "requests", "active_series"}

func (f figures) tenants() []Tenant {
	in, bulk, old := f.Rates(mTenantIn, "tenant"), f.Rates(mTenantBulk, "tenant"), f.Rates(mTenantOld, "tenant")
	refused := map[string]float64{}
	for _, reason := range limits {
		for name, rate := range f.Rates(mTenantRefused, "tenant", "reason", reason) {
			refused[name] += rate
		}
	}
	all := make([]Tenant, 0, len(in))
	for name := range in {
		if name != others {
			all = append(all, Tenant{Name: name, Accepted: valueOf(in, name), Refused: valueOf(refused, name),
				Above: downstream.Figure(max(0, valueOf(bulk, name).Or(0)-valueOf(old, name).Or(0)))})
		}
	}
	slices.SortFunc(all, func(a, b Tenant) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (f figures) disk(long figures) *Disk {
	if !f.Now.Has(mDiskFree) {
		return nil
	}
	d := &Disk{
		Main: f.level(mDiskBytes, "lane", "main"), MainQuota: f.level(mDiskQuota, "lane", "main"),
		Bulk: f.level(mDiskBytes, "lane", "bulk"), BulkQuota: f.level(mDiskQuota, "lane", "bulk"),
		Free: f.level(mDiskFree), Reserve: f.level(mDiskReserve), Capacity: f.level(mDiskCapacity),
		Growth: downstream.Unknown(), Fills: downstream.Unknown(),
		Sync: downstream.Figure(f.Mean(mSync)), Errors: sum(f.growth(mSyncErrors), f.growth(mWriteErrors)),
	}
	if long.Seconds() >= leastTrend.Seconds() {
		d.Growth = downstream.Figure((long.Then.Sum(mDiskFree) - float64(d.Free)) / long.Seconds())
		d.Fills = downstream.Figure((float64(d.Main) - long.Then.Sum(mDiskBytes, "lane", "main")) / long.Seconds())
	}
	return d
}

func (f figures) kafka() *Kafka {
	if !f.Now.Has(mKafkaTries) && !f.Now.Has(mKafkaReachable) {
		return nil
	}
	k := &Kafka{
		UnreachableFor: f.level(mKafkaGone),
		Acknowledged:   downstream.Figure(f.rate(mKafkaTries, "result", "acknowledged").Or(0)), Failed: f.rate(mKafkaTries, "result", "failed"),
		Unstored:        f.rate(mKafkaBlocks, "result", "unavailable"),
		UnderReplicated: f.level(mKafkaUnder), Leaderless: f.level(mKafkaLeaderless),
		Throttled: f.rate(mKafkaThrottled), MainRetention: f.ofTopic(mKafkaRetention, "main"), BulkRetention: f.ofTopic(mKafkaRetention, "bulk"),
		Unowned: f.level(mKafkaUnowned), Members: f.level(mKafkaMembers), Partitions: f.ofTopic(mKafkaPartitions, "main"),
	}
	if f.Then == nil {
		k.Acknowledged = downstream.Unknown()
	}
	for _, s := range f.Now.Of(mKafkaUnsafe) {
		if s.Value == 1 && s.Label("setting") != "unknown" {
			k.Unsafe = append(k.Unsafe, s.Label("topic")+"/"+s.Label("setting"))
		}
	}
	slices.Sort(k.Unsafe)
	return k
}

const (
	// hours of history are kept, a point a minute: one more than a day, for the same time yesterday.
	historyLength = 25 * 60
	// leastCalm is how many minutes without a backlog are needed to say what is usual.
	leastCalm = 10
	hour      = 60
	// recently and beforehand are in minutes: what is now, and what is too near to now to be before.
	recently   = 2
	beforehand = 10
	// yesterday is half the time around the same time yesterday that is looked at.
	aDay      = 24 * 60
	yesterday = 5
)

// loads remembers how much was offered in each minute of the last day, to all processes that receive: when there are more of them,
// each gets less. It takes it that others get as much as this one.
type loads struct {
	began time.Time // of the minute that is not over
	count float64   // of samples then
	calm  bool      // nothing has waited for long in it
	rates []float64 // one per minute, the newest last
	calms []bool
}

// add takes the counter of samples now and how many processes receive, and says what is usual for one of them.
func (l *loads) add(now time.Time, count, processes float64, calm bool) Load {
	switch {
	case math.IsNaN(count):
	case l.began.IsZero():
		l.began, l.count, l.calm = now, count, calm
	case now.Sub(l.began) >= time.Minute:
		l.put(processes*max(0, count-l.count)/now.Sub(l.began).Seconds(), l.calm && calm)
		l.began, l.count, l.calm = now, count, calm
	default:
		l.calm = l.calm && calm
	}
	one := downstream.Figure(processes)
	return Load{Usual: l.usual() / one, Recent: l.mean(recently, 0) / one, Before: l.before() / one, Yesterday: l.mean(2*yesterday, aDay-yesterday) / one}
}

func (l *loads) put(rate float64, calm bool) {
	l.rates, l.calms = append(l.rates, rate), append(l.calms, calm)
	if extra := len(l.rates) - historyLength; extra > 0 {
		l.rates, l.calms = slices.Delete(l.rates, 0, extra), slices.Delete(l.calms, 0, extra)
	}
}

// usual is the median of the calm minutes of the last hour of them.
func (l *loads) usual() downstream.Figure {
	var calm []downstream.Figure
	for i := len(l.rates) - 1; i >= 0 && len(calm) < hour; i-- {
		if l.calms[i] {
			calm = append(calm, downstream.Figure(l.rates[i]))
		}
	}
	if len(calm) < leastCalm {
		return downstream.Unknown()
	}
	return median(calm)
}

// mean is that of n minutes, the last of them ago minutes old; unknown when there are not as many.
func (l *loads) mean(n, ago int) downstream.Figure {
	end := len(l.rates) - ago
	if end-n < 0 {
		return downstream.Unknown()
	}
	total := 0.0
	for _, rate := range l.rates[end-n : end] {
		total += rate
	}
	return downstream.Figure(total / float64(n))
}

// before is the median of the hour before the last minutes; unknown before half of it is known.
func (l *loads) before() downstream.Figure {
	end := len(l.rates) - beforehand
	if end < hour/2 {
		return downstream.Unknown()
	}
	var all []downstream.Figure
	for _, rate := range l.rates[max(0, end-hour):end] {
		all = append(all, downstream.Figure(rate))
	}
	return median(all)
}
