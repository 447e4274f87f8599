package status

import (
	"time"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/downstream"
)

// Status is what GET /api/v1/status answers, what the page shows, and what ingestgw status prints. The backlog is that of the
// partitions which this process forwards.
type Status struct {
	// At is when it was read.
	At time.Time `json:"at"`
	// Process tells processes apart, such as "ingestgw-0"; Version is what its build calls itself.
	Process string `json:"process"`
	Version string `json:"version"`
	// UptimeSeconds is the time since the process has started.
	UptimeSeconds downstream.Figure `json:"uptime_seconds"`
	// Ready says whether the process wants requests.
	Ready bool `json:"ready"`
	// Healthy says whether the state is one in which nobody has to get up.
	Healthy bool    `json:"healthy"`
	Verdict Verdict `json:"verdict"`
	Alarms  []Alarm `json:"alarms"`
	Backlog Backlog `json:"backlog"`
	// ReadableSeconds is the age of the freshest sample that can be read of what went through the buffer, as the canary sees it; null
	// without a canary (INGESTGW_VMSELECT_URLS), and in a process that does not probe.
	ReadableSeconds downstream.Figure `json:"freshest_readable_seconds"`
	Stages          []Stage           `json:"stages"`
	Lanes           []Lane            `json:"lanes"`
	Partitions      []Partition       `json:"partitions"`
	Nodes           []Node            `json:"nodes"`
	Tenants         TopTenants        `json:"tenants"`
	Memory          MemoryFigures     `json:"memory"`
}

// States of a Verdict.
const (
	stateWell    = "well"    // nothing is wrong that anybody knows of
	stateLook    = "look"    // samples flow and are kept; somebody should look at it by day
	stateTrouble = "trouble" // data is refused, lost or late
	stateUnknown = "unknown" // nothing is known yet
)

// Verdict is the whole in a few words.
type Verdict struct {
	// State is well, look (somebody should, by day), trouble (data is refused, lost or late), or unknown.
	State string `json:"state"`
	// Text says it in one sentence, Why names the cause, Next what to do. The latter two may be empty.
	Text string `json:"text"`
	Why  string `json:"why"`
	Next string `json:"next"`
}

// An Alarm is one thing that is wrong, with its cause.
type Alarm = alarm.Alarm

// Trends of a backlog.
const (
	trendEmpty     = "empty"
	trendShrinking = "shrinking"
	trendSteady    = "steady"
	trendGrowing   = "growing"
	trendUnknown   = "unknown"
)

// Backlog is what has been accepted and not been sent.
type Backlog struct {
	// Seconds is the age of the oldest block that is not sent.
	Seconds downstream.Figure `json:"seconds"`
	// Bytes (compressed) and Samples are estimates, Blocks is counted.
	Bytes   downstream.Figure `json:"bytes"`
	Blocks  downstream.Figure `json:"blocks"`
	Samples downstream.Figure `json:"samples"`
	// ArrivingPerSecond and SentPerSecond are blocks per second in the last minute.
	ArrivingPerSecond downstream.Figure `json:"arriving_blocks_per_second"`
	SentPerSecond     downstream.Figure `json:"sent_blocks_per_second"`
	// Trend is empty, shrinking, steady, growing or unknown. Growing says the same of growing alone.
	Trend   string `json:"trend"`
	Growing bool   `json:"growing"`
	// DrainSeconds is the time until nothing is unsent if all goes on as in the last minute; null when that will never be.
	DrainSeconds downstream.Figure `json:"time_to_drain_seconds"`
}

// A Stage is one of the steps that a sample takes through the process. Rates are over the last half minute.
type Stage struct {
	// Name is receive, buffer, forward or settle.
	Name string `json:"name"`
	// PerSecond is how much it gets done, in Unit.
	PerSecond downstream.Figure `json:"per_second"`
	Unit      string            `json:"unit"`
	// Waiting is what is in it, in WaitingUnit.
	Waiting     downstream.Figure `json:"waiting"`
	WaitingUnit string            `json:"waiting_unit"`
	// FailuresPerSecond is what was refused, or has to be done again.
	FailuresPerSecond downstream.Figure `json:"failures_per_second"`
	// Seconds is how long it takes, on average; for settle, how long the oldest block has been waiting.
	Seconds downstream.Figure `json:"seconds"`
	// Note says more, such as what failures there are.
	Note string `json:"note"`
}

// A Lane is one of the two that samples go in.
type Lane struct {
	Name    string  `json:"name"`
	Backlog Backlog `json:"backlog"`
	// BufferBytes of BufferQuotaBytes are taken on the disk; null in Kafka.
	BufferBytes      downstream.Figure `json:"buffer_bytes"`
	BufferQuotaBytes downstream.Figure `json:"buffer_quota_bytes"`
	// Waiting is blocks, or parts of some, that wait for a vminsert to have room.
	Waiting downstream.Figure `json:"waiting"`
}

// A Partition is one that this process forwards.
type Partition struct {
	Lane    string  `json:"lane"`
	Number  string  `json:"partition"`
	Backlog Backlog `json:"backlog"`
	// Uncommitted is blocks between the committed offset and the end: what Kafka's tools call lag.
	Uncommitted downstream.Figure `json:"uncommitted_blocks"`
	// OnHold says that nothing of it is sent because a newer version has written it.
	OnHold bool `json:"on_hold"`
}

// A Node is a vminsert or vmstorage. What ingestgw sees of it comes from its own requests, the rest from the node's metrics.
type Node struct {
	Name string `json:"name"`
	// Kind is vminsert or vmstorage.
	Kind string `json:"kind"`
	// State is ready, starting, paused or unknown for one that samples are sent to; else up, down or unknown.
	State string `json:"state"`
	// SamplesPerSecond is what it takes from this process, FailuresPerSecond the requests that it does not answer with 2xx.
	SamplesPerSecond  downstream.Figure `json:"samples_per_second"`
	FailuresPerSecond downstream.Figure `json:"failures_per_second"`
	// AnswerSeconds is how long it takes to answer, on average. InFlight is what is on its way to it.
	AnswerSeconds downstream.Figure `json:"answer_seconds"`
	InFlight      downstream.Figure `json:"in_flight"`
	Vitals
}

// Vitals are what a node's own metrics say, over the last seconds. Each may be unknown.
type Vitals struct {
	Version       string            `json:"version"`
	UptimeSeconds downstream.Figure `json:"uptime_seconds"`
	// GCShare is what garbage collection takes of the CPU that it uses, AssistShare the part that holds up its work, 0 to 1. Unknown
	// of one that uses less than a tenth of a core, where they mean nothing.
	GCShare     downstream.Figure `json:"gc_share"`
	AssistShare downstream.Figure `json:"gc_assist_share"`
	// CPUCores is what it uses of AvailableCores.
	CPUCores       downstream.Figure `json:"cpu_cores"`
	AvailableCores downstream.Figure `json:"available_cores"`
	MemoryBytes    downstream.Figure `json:"memory_bytes"`
	LimitBytes     downstream.Figure `json:"memory_limit_bytes"`
	// Inserts are those it works on at one time, of InsertCapacity.
	Inserts        downstream.Figure `json:"inserts"`
	InsertCapacity downstream.Figure `json:"insert_capacity"`
	// PendingBytes is what a vminsert holds for storages, or rows that a vmstorage holds in memory as bytes, if it tells.
	PendingBytes downstream.Figure `json:"pending_bytes"`
	// RowsPerSecond is rows from everybody.
	RowsPerSecond downstream.Figure `json:"rows_per_second"`
	// Notes are what is not as it should be, such as "read-only", each a few words.
	Notes []string `json:"notes"`
}

// TopTenants is the busiest tenants.
type TopTenants struct {
	// Known is how many tenants this process remembers.
	Known downstream.Figure `json:"known"`
	Top   []TenantRate      `json:"top"`
}

// A TenantRate is how much a tenant sends to this process. Rates are over the last half minute.
type TenantRate struct {
	Tenant           string            `json:"tenant"`
	SamplesPerSecond downstream.Figure `json:"samples_per_second"`
	// BulkPerSecond of them go to the bulk lane; RefusedPerSecond come on top.
	BulkPerSecond    downstream.Figure `json:"bulk_samples_per_second"`
	RefusedPerSecond downstream.Figure `json:"refused_samples_per_second"`
}

// MemoryFigures is memory and garbage collection of this process.
type MemoryFigures struct {
	// GOGC is in per cent, -1 when off. LimitBytes is the memory limit, 0 when there is none.
	GOGC       downstream.Figure `json:"gogc_percent"`
	LimitBytes downstream.Figure `json:"limit_bytes"`
	// Differs says that one of them was changed live and is not what is configured.
	Differs bool `json:"differs"`
	// GCShare is what collecting takes of the CPU used, AssistShare the part that holds up real work, 0 to 1.
	GCShare     downstream.Figure `json:"gc_share"`
	AssistShare downstream.Figure `json:"gc_assist_share"`
	// CountedBytes is what counts against the limit, ResidentBytes what the system says.
	CountedBytes  downstream.Figure `json:"counted_bytes"`
	ResidentBytes downstream.Figure `json:"resident_bytes"`
	Budgets       []Budget          `json:"budgets"`
}

// A Budget bounds the bytes that a part of the process holds.
type Budget struct {
	Name       string            `json:"name"`
	UsedBytes  downstream.Figure `json:"used_bytes"`
	LimitBytes downstream.Figure `json:"limit_bytes"`
}
