package status

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

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
		UptimeSeconds:   downstream.Figure(float64(f.now.At.UnixNano())/1e9) - f.now.sum(gathered.ProcessStart),
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
	st.Verdict = judge(&st, f.now.Has(gathered.UnsentBlocks), f.now.Has(gathered.IngestRequests))
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
		return cmp.Or(-cmp.Compare(a.Backlog.Seconds.OrZero(), b.Backlog.Seconds.OrZero()), -strings.Compare(a.Lane, b.Lane),
			cmp.Compare(len(a.Number), len(b.Number)), strings.Compare(a.Number, b.Number))
	})
	return all
}

func stagesOf(f span) []Stage {
	stages := []Stage{}
	if f.now.Has(gathered.IngestRequests) {
		stages = append(stages, Stage{Name: "receive", PerSecond: f.rate(gathered.IngestSamples), Unit: "samples", Waiting: f.now.sum(gathered.IngestInFlight), WaitingUnit: "requests",
			FailuresPerSecond: refusals(f), Seconds: f.mean(gathered.IngestDuration), Note: refusedWith(f)})
	}
	if f.now.Has(gathered.BufferInFlightBytes) || f.now.Has(gathered.BufferBlocks) {
		stored := f.rate(gathered.BufferBlocks, "result", "stored")
		stages = append(stages, Stage{Name: "buffer", PerSecond: stored, Unit: "blocks", Waiting: f.now.sum(gathered.BufferInFlightBytes), WaitingUnit: "bytes",
			FailuresPerSecond: max(0, f.rate(gathered.BufferBlocks)-stored.OrZero()), Seconds: f.mean(gathered.BufferAppendDuration)})
	}
	if f.now.Has(gathered.UnsettledBlocks) {
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
func refusals(f span) downstream.Figure {
	all := f.rate(gathered.IngestRequests)
	return max(0, all-f.rate(gathered.IngestRequests, "answer", "accepted").OrZero())
}

// refusedWith says what senders were told, the most frequent first.
func refusedWith(f span) string {
	rates := f.rates(gathered.IngestRequests, "answer")
	delete(rates, "accepted")
	return mostOf(rates, 3)
}

// mostOf names the n largest that are not 0.
func mostOf(rates map[string]downstream.Figure, n int) string {
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

// mostTenants is how many tenants are told.
const mostTenants = 20

// topOf lists the busiest tenants, the first one first.
func topOf(f span) TopTenants {
	top := TopTenants{Known: f.now.sum(gathered.Tenants), Top: []TenantRate{}}
	bulk, refused := f.rates(gathered.TenantBulkSamples, "tenant"), f.rates(gathered.TenantRefusedSamples, "tenant")
	for name, rate := range f.rates(gathered.TenantSamples, "tenant") {
		t := TenantRate{Tenant: name, SamplesPerSecond: rate, BulkPerSecond: valueOf(bulk, name).OrZero(), RefusedPerSecond: valueOf(refused, name).OrZero()}
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

func (t TenantRate) weight() downstream.Figure { return t.SamplesPerSecond + t.RefusedPerSecond }

func memoryOf(f *figures) MemoryFigures {
	m := MemoryFigures{GOGC: f.sum(gathered.MemoryGOGC), LimitBytes: f.sum(gathered.MemoryLimit), Differs: f.sum(gathered.MemoryDiffers) == 1, GCShare: f.sum(gathered.MemoryGCShare),
		AssistShare: f.sum(gathered.MemoryAssistShare), CountedBytes: f.sum(gathered.MemoryCounted), ResidentBytes: f.sum(gathered.ProcessResident), Budgets: []Budget{}}
	for _, name := range f.Values(gathered.MemoryBudget, "budget") {
		m.Budgets = append(m.Budgets, Budget{Name: name, UsedBytes: f.sum(gathered.MemoryBudgetUsed, "budget", name), LimitBytes: f.sum(gathered.MemoryBudget, "budget", name)})
	}
	return m
}
