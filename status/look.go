package status

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

// A NodeVitals is what the watch on downstream knows of one server.
type NodeVitals struct {
	// Name is the server's address as the node label of ingestgw_forward_node_state has it.
	Name string
	// Kind is "vminsert" or "vmstorage".
	Kind string
	// Up says whether its metrics can be read.
	Up bool
	Vitals
}

// SetAlarms gives the page and the API the alarms there are: pending, firing, and those that have resolved of late. list is called
// for each who asks and must not wait. Without it there are none.
func (s *Server) SetAlarms(list func() []Alarm) { s.alarms.Store(&list) }

// SetReadings gives those who look into alarms what these were decided on. read may return nil, and must not wait.
func (s *Server) SetReadings(read func() *alarm.Readings) { s.readings.Store(&read) }

// SetVitals gives the page and the API what the servers' own metrics say. list is called for each who asks and must not wait.
func (s *Server) SetVitals(list func() []NodeVitals) { s.vitals.Store(&list) }

// look reads everything.
func (s *Server) look() Status {
	return s.describe(s.watcher.read())
}

// describe makes of figures what people look at.
func (s *Server) describe(f span) Status {
	st := Status{
		At:              f.now.At.UTC().Truncate(time.Millisecond),
		Process:         s.process,
		Version:         s.version,
		UptimeSeconds:   Number(float64(f.now.At.UnixNano())/1e9) - f.now.sum(gathered.ProcessStart),
		Ready:           s.ready.Load(),
		Alarms:          s.listAlarms(),
		Backlog:         backlogOf(f.now),
		ReadableSeconds: f.now.sum(gathered.CanaryAge, "path", "buffer"),
		Stages:          stagesOf(f),
		Lanes:           lanesOf(f.now),
		Partitions:      partitionsOf(f.now),
		Nodes:           nodesOf(f, s.listVitals()),
		Tenants:         topOf(f),
		Memory:          memoryOf(f.now),
	}
	mark(st.Nodes, st.Alarms)
	st.Verdict = judge(&st, f.now.has(gathered.UnsentBlocks), f.now.has(gathered.IngestRequests))
	st.Healthy = st.Verdict.State == stateWell || st.Verdict.State == stateLook
	return st
}

func (s *Server) listAlarms() []Alarm {
	all := []Alarm{}
	if list := s.alarms.Load(); list != nil {
		all = append(all, (*list)()...)
	}
	for i := range all {
		all[i].Evidence = append([]alarm.Evidence{}, all[i].Evidence...)
		all[i].Symptoms = append([]string{}, all[i].Symptoms...)
	}
	slices.SortStableFunc(all, func(a, b Alarm) int { return cmp.Compare(urgency(a), urgency(b)) })
	return all
}

// urgency sorts alarms: firing ones first, of these pages first.
func urgency(a Alarm) int {
	rank := slices.Index([]alarm.State{alarm.Firing, alarm.Pending, alarm.Resolved}, a.State) * 2
	if a.Severity != alarm.Page {
		rank++
	}
	return rank
}

func (s *Server) listVitals() []NodeVitals {
	if list := s.vitals.Load(); list != nil {
		return (*list)()
	}
	return nil
}

// Process tells processes apart for people, such as "ingestgw-0".
func (s *Server) Process() string { return s.process }

// processName tells processes apart.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// backlogOf is the backlog of the series that match.
func backlogOf(f *figures, match ...string) Backlog {
	g := f.Backlog(match...)
	return Backlog{
		Seconds:           Number(g.Age),
		Bytes:             Number(g.Bytes),
		Blocks:            Number(g.Blocks),
		Samples:           Number(g.Samples),
		ArrivingPerSecond: Number(g.Arriving),
		SentPerSecond:     Number(g.Sent),
		DrainSeconds:      Number(g.Drain),
		Trend:             trendOf(&g),
		Growing:           trendOf(&g) == trendGrowing,
	}
}

// waits is the age from which on what is unsent is a backlog, and not on its way.
const waits = 5

// trendOf says where it goes.
func trendOf(b *gathered.Backlog) string {
	switch {
	case !b.Blocks.Known():
		return trendUnknown
	case b.Blocks == 0, b.Age.Or(0) < waits:
		return trendEmpty
	case !b.Arriving.Known() || !b.Sent.Known():
		return trendUnknown
	case b.Growing():
		return trendGrowing
	case b.Shrinking():
		return trendShrinking
	}
	return trendSteady
}

func lanesOf(f *figures) []Lane {
	names := f.Values(gathered.UnsentBlocks, "lane")
	for _, more := range f.Values(gathered.DiskQuota, "lane") {
		if !slices.Contains(names, more) {
			names = append(names, more)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return -cmp.Compare(a, b) }) // main, bulk
	lanes := []Lane{}
	for _, name := range names {
		lanes = append(lanes, Lane{
			Name:             name,
			Backlog:          backlogOf(f, "lane", name),
			BufferBytes:      f.sum(gathered.DiskBytes, "lane", name),
			BufferQuotaBytes: f.sum(gathered.DiskQuota, "lane", name),
			Waiting:          f.sum(gathered.WaitingBlocks, "lane", name),
		})
	}
	return lanes
}

// partitionsOf lists the partitions, the one that is furthest behind first.
func partitionsOf(f *figures) []Partition {
	parts := f.Split("lane", "partition", gathered.UnsentBlocks, gathered.UnsentBytes, gathered.UnsentSamples, gathered.UnsentAge,
		gathered.ArrivingBlocks, gathered.SentBlocks, gathered.TimeToDrain, gathered.UncommittedBlocks, gathered.OnHold)
	all := []Partition{}
	for k, part := range parts {
		own := &figures{part}
		all = append(all, Partition{Lane: k[0], Number: k[1], Backlog: backlogOf(own), Uncommitted: own.sum(gathered.UncommittedBlocks), OnHold: own.sum(gathered.OnHold) == 1})
	}
	slices.SortFunc(all, func(a, b Partition) int {
		return cmp.Or(-cmp.Compare(a.Backlog.Seconds.orZero(), b.Backlog.Seconds.orZero()), -strings.Compare(a.Lane, b.Lane),
			cmp.Compare(len(a.Number), len(b.Number)), strings.Compare(a.Number, b.Number))
	})
	return all
}

func stagesOf(f span) []Stage {
	stages := []Stage{}
	if f.now.has(gathered.IngestRequests) {
		stages = append(stages, Stage{Name: "receive", PerSecond: f.rate(gathered.IngestSamples), Unit: "samples", Waiting: f.now.sum(gathered.IngestInFlight), WaitingUnit: "requests",
			FailuresPerSecond: refusals(f), Seconds: f.mean(gathered.IngestDuration), Note: refusedWith(f)})
	}
	if f.now.has(gathered.BufferInFlightBytes) || f.now.has(gathered.BufferBlocks) {
		stored := f.rate(gathered.BufferBlocks, "result", "stored")
		stages = append(stages, Stage{Name: "buffer", PerSecond: stored, Unit: "blocks", Waiting: f.now.sum(gathered.BufferInFlightBytes), WaitingUnit: "bytes",
			FailuresPerSecond: max(0, f.rate(gathered.BufferBlocks)-stored.orZero()), Seconds: f.mean(gathered.BufferAppendDuration)})
	}
	if f.now.has(gathered.UnsettledBlocks) {
		taken := f.rate(gathered.ForwardRequests, "code", "2xx")
		stages = append(stages,
			Stage{Name: "forward", PerSecond: f.rate(gathered.ForwardSamples), Unit: "samples", Waiting: f.now.sum(gathered.WaitingBlocks), WaitingUnit: "blocks",
				FailuresPerSecond: max(0, f.rate(gathered.ForwardRequests)-taken), Seconds: f.mean(gathered.ForwardDuration)},
			Stage{Name: "settle", PerSecond: f.rate(gathered.SettledBlocks), Unit: "blocks", Waiting: f.now.sum(gathered.UnsettledBlocks), WaitingUnit: "blocks",
				FailuresPerSecond: f.rate(gathered.ResentBlocks), Seconds: f.now.sum(gathered.UnsettledAge), Note: settlesBy(f.now)})
	}
	return stages
}

// refusals is how many requests of senders per second were not accepted.
func refusals(f span) Number {
	all := f.rate(gathered.IngestRequests)
	return max(0, all-f.rate(gathered.IngestRequests, "answer", "accepted").orZero())
}

// refusedWith says what senders were told, the most frequent first.
func refusedWith(f span) string {
	rates := f.rates(gathered.IngestRequests, "answer")
	delete(rates, "accepted")
	return mostOf(rates, 3)
}

// mostOf names the n largest that are not 0.
func mostOf(rates map[string]Number, n int) string {
	var names []string
	for name, r := range rates {
		if r > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(-cmp.Compare(rates[a], rates[b]), strings.Compare(a, b)) })
	var said []string
	for _, name := range names[:min(n, len(names))] {
		said = append(said, fmt.Sprintf("%s %s/s", name, count(rates[name])))
	}
	return strings.Join(said, ", ")
}

func settlesBy(f *figures) string {
	for _, s := range f.Of(gathered.SettleMode) {
		if s.Value == 1 {
			return map[string]string{"watch": "by the servers' metrics", "time": "by the clock, without proof", "off": "vminsert's word is taken"}[s.Label("mode")]
		}
	}
	return ""
}

// nodesOf lists the servers: first those that are not well.
func nodesOf(f span, vitals []NodeVitals) []Node {
	nodes := []Node{}
	samples, all, taken := f.rates(gathered.ForwardSamples, "node"), f.rates(gathered.ForwardRequests, "node"), f.rates(gathered.ForwardRequests, "node", "code", "2xx")
	states, busy, seconds := statesOf(f.now), f.now.By(gathered.NodeInFlight, "node"), f.means(gathered.ForwardDuration, "node")
	for _, name := range f.now.Values(gathered.NodeState, "node") {
		nodes = append(nodes, Node{Name: name, Kind: "vminsert", State: cmp.Or(states[name], "unknown"), Vitals: unknownVitals(),
			SamplesPerSecond: valueOf(samples, name), FailuresPerSecond: max(0, valueOf(all, name)-valueOf(taken, name).orZero()),
			AnswerSeconds: valueOf(seconds, name), InFlight: Number(busy[name])})
	}
	at := map[string]int{}
	for i, n := range nodes {
		at[n.Name] = i
	}
	for _, v := range vitals {
		i, there := at[v.Name]
		if !there || v.Kind != "vminsert" {
			nodes = append(nodes, Node{Name: v.Name, Kind: v.Kind, State: map[bool]string{true: "up", false: "down"}[v.Up],
				SamplesPerSecond: unknown, FailuresPerSecond: unknown, AnswerSeconds: unknown, InFlight: unknown})
			i = len(nodes) - 1
		}
		nodes[i].Vitals = v.Vitals
		nodes[i].Notes = append([]string{}, v.Notes...)
	}
	sortNodes(nodes)
	return nodes
}

// sortNodes puts those that are not well first.
func sortNodes(nodes []Node) {
	slices.SortStableFunc(nodes, func(a, b Node) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), cmp.Compare(doing(a), doing(b)), strings.Compare(a.Name, b.Name))
	})
}

// mark notes at each server which alarms name it.
func mark(nodes []Node, alarms []Alarm) {
	for i := range nodes {
		for _, a := range alarms {
			if a.State == alarm.Firing && a.Server == nodes[i].Name && a.Server != "" {
				nodes[i].Notes = append([]string{strings.ReplaceAll(a.Name, "_", " ")}, nodes[i].Notes...)
			}
		}
	}
	sortNodes(nodes)
}

// doing is smaller for a node that is worse.
func doing(n Node) int {
	switch {
	case n.State == "paused" || n.State == "down":
		return 0
	case len(n.Notes) > 0:
		return 1
	case n.State != "ready" && n.State != "up":
		return 2
	}
	return 3
}

func valueOf(m map[string]Number, name string) Number {
	if v, ok := m[name]; ok {
		return v
	}
	return unknown
}

func unknownVitals() Vitals {
	return Vitals{UptimeSeconds: unknown, GCShare: unknown, AssistShare: unknown, CPUCores: unknown, AvailableCores: unknown, MemoryBytes: unknown,
		LimitBytes: unknown, Inserts: unknown, InsertCapacity: unknown, PendingBytes: unknown, RowsPerSecond: unknown, Notes: []string{}}
}

// statesOf is the state of each node.
func statesOf(f *figures) map[string]string {
	states := map[string]string{}
	for _, s := range f.Of(gathered.NodeState) {
		if s.Value == 1 {
			states[s.Label("node")] = s.Label("state")
		}
	}
	return states
}

// mostTenants is how many tenants are told.
const mostTenants = 20

// topOf lists the busiest tenants, the first one first.
func topOf(f span) TopTenants {
	top := TopTenants{Known: f.now.sum(gathered.Tenants), Top: []TenantRate{}}
	bulk, refused := f.rates(gathered.TenantBulkSamples, "tenant"), f.rates(gathered.TenantRefusedSamples, "tenant")
	for name, rate := range f.rates(gathered.TenantSamples, "tenant") {
		t := TenantRate{Tenant: name, SamplesPerSecond: rate, BulkPerSecond: valueOf(bulk, name).orZero(), RefusedPerSecond: valueOf(refused, name).orZero()}
		if t.weight() > 0 {
			top.Top = append(top.Top, t)
		}
	}
	slices.SortFunc(top.Top, func(a, b TenantRate) int {
		return cmp.Or(rest(a)-rest(b), -cmp.Compare(a.weight(), b.weight()), strings.Compare(a.Tenant, b.Tenant))
	})
	top.Top = top.Top[:min(mostTenants, len(top.Top))]
	return top
}

// rest is 1 for all the others together, who come last.
func rest(t TenantRate) int {
	if t.Tenant == gathered.OtherTenants {
		return 1
	}
	return 0
}

func (t TenantRate) weight() Number { return t.SamplesPerSecond + t.RefusedPerSecond }

func memoryOf(f *figures) MemoryFigures {
	m := MemoryFigures{GOGC: f.sum(gathered.MemoryGOGC), LimitBytes: f.sum(gathered.MemoryLimit), Differs: f.sum(gathered.MemoryDiffers) == 1, GCShare: f.sum(gathered.MemoryGCShare),
		AssistShare: f.sum(gathered.MemoryAssistShare), CountedBytes: f.sum(gathered.MemoryCounted), ResidentBytes: f.sum(gathered.ProcessResident), Budgets: []Budget{}}
	for _, name := range f.Values(gathered.MemoryBudget, "budget") {
		m.Budgets = append(m.Budgets, Budget{Name: name, UsedBytes: f.sum(gathered.MemoryBudgetUsed, "budget", name), LimitBytes: f.sum(gathered.MemoryBudget, "budget", name)})
	}
	return m
}

// late is the age of the oldest sample not sent from which on it is said, whether or not there is an alarm.
const late = 60

// judge says it in a few words. Alarms come first; without any, what can be seen without them.
func judge(st *Status, forwards, receives bool) Verdict {
	var pages, tickets []Alarm
	for _, a := range st.Alarms {
		switch {
		case a.State != alarm.Firing:
		case a.Severity == alarm.Page:
			pages = append(pages, a)
		default:
			tickets = append(tickets, a)
		}
	}
	backlog := mainOf(st)
	behind := backlog.Seconds.orZero() >= late
	switch {
	case len(pages) > 0:
		return verdictOf(stateTrouble, trouble(pages), pages, len(tickets))
	case !forwards && !receives:
		return Verdict{State: stateUnknown, Text: "Nothing is known yet", Why: "This process has just started, or is stopping.",
			Next: "Wait for some seconds; if this stays, look into its log."}
	case behind && backlog.Trend != trendShrinking:
		v := verdictOf(stateLook, "The newest samples may be late: "+backlog.sentence(), tickets, 0)
		if v.Why == "" {
			v.Why = "No alarm names a cause so far."
			v.Next = "Look at the vminserts below: which one is slow, paused, or short of CPU or memory?"
		}
		return v
	case len(tickets) > 0:
		return verdictOf(stateLook, "Samples flow and are kept; something should be looked at by day", tickets, 0)
	case behind:
		return Verdict{State: stateLook, Text: "It catches up: " + backlog.sentence(), Why: "There was an outage, or more load than the cluster could take."}
	case !st.Ready:
		return Verdict{State: stateUnknown, Text: "This process is starting or stopping", Why: "It is not ready: load balancers keep requests from it."}
	}
	return Verdict{State: stateWell, Text: "All is well"}
}

// mainOf is the backlog that makes samples late. What waits in bulk is old, or more than its tenant may send.
func mainOf(st *Status) Backlog {
	for i := range st.Lanes {
		if st.Lanes[i].Name == "main" && st.Lanes[i].Backlog.Blocks.Known() {
			return st.Lanes[i].Backlog
		}
	}
	return st.Backlog
}

// readPath is the alarm of those who read, not of those who send (package alarm).
const readPath = "read_path"

// trouble says what pages mean.
func trouble(pages []Alarm) string {
	if !slices.ContainsFunc(pages, func(a Alarm) bool { return a.Name != readPath }) {
		return "Samples are taken and kept, and cannot be read"
	}
	return "Data is refused, lost or late"
}

// verdictOf names the first alarm's cause and next step, and says how many more there are.
func verdictOf(state, text string, alarms []Alarm, others int) Verdict {
	v := Verdict{State: state, Text: text}
	if len(alarms) == 0 {
		return v
	}
	v.Why, v.Next = alarms[0].Summary, alarms[0].Next
	if more := len(alarms) - 1 + others; more > 0 {
		v.Text += fmt.Sprintf(" (%d more below)", more)
	}
	return v
}

// sentence says how much is waiting and how it goes on.
func (b Backlog) sentence() string {
	return fmt.Sprintf("the oldest of %s unsent was received %s ago, and %s.", size(b.Bytes), lasting(b.Seconds), b.outlook())
}

// outlook says where the backlog goes.
func (b Backlog) outlook() string {
	switch b.Trend {
	case trendEmpty:
		return "nothing is waiting"
	case trendGrowing:
		return "it grows"
	case trendShrinking:
		return "it will be gone in " + b.goneIn()
	case trendSteady:
		return "it does not get less"
	}
	return "it is not known yet where it goes"
}

// waiting says what waits: in main, which makes samples late, and in bulk if something does.
func (st *Status) waiting() string {
	said := mainOf(st).inShort()
	for i := range st.Lanes {
		if b := st.Lanes[i].Backlog; st.Lanes[i].Name == "bulk" && b.Trend != trendEmpty && b.Trend != trendUnknown {
			said += "; in bulk " + b.inShort()
		}
	}
	return said
}

// inShort says how much is waiting, and where that goes, in as few words as can be.
func (b Backlog) inShort() string {
	switch b.Trend {
	case trendEmpty:
		return "nothing waits"
	case trendUnknown:
		return "not known yet"
	}
	how := map[string]string{
		trendGrowing:   "growing",
		trendShrinking: "gone in " + b.goneIn(),
		trendSteady:    "not getting less",
	}[b.Trend]
	return fmt.Sprintf("%s and %s, %s", lasting(b.Seconds), how, size(b.Bytes))
}

// goneIn says when nothing will be unsent. That it never will be is not told in JSON, where only the trend is left to say so.
func (b Backlog) goneIn() string {
	if !b.DrainSeconds.finite() && (b.Trend == trendGrowing || b.Trend == trendSteady) {
		return "never"
	}
	return lasting(b.DrainSeconds)
}
