package downstream

import "time"

// A Health says what came of the last poll of a server's metrics.
type Health string

// What may come of a poll.
const (
	// HealthUnpolled: no poll has ended yet.
	HealthUnpolled Health = "unpolled"
	// HealthGood: the page was read.
	HealthGood Health = "good"
	// HealthUnreachable: there was no connection. The process is not there, its name does not resolve, or the network is broken.
	HealthUnreachable Health = "unreachable"
	// HealthMute: the connection was taken, and no answer came, or not to its end: frozen, or so slow that it looks like it.
	HealthMute Health = "mute"
	// HealthBusy: the answer was 408, 429 or 5xx, from the server or from what stands before it.
	HealthBusy Health = "busy"
	// HealthUnusable: the answer can be of no use until something is configured otherwise: 401, 403, 404, no page of metrics, or
	// that of another kind of server.
	HealthUnusable Health = "unusable"
)

// Vitals are how one vminsert or vmstorage is, as far as its metrics tell. All rates are per second and all shares are of 1, both over
// Window; levels (bytes, counts) are those of the last good page. A Figure that is not known is NaN (see Figure); times that are not
// known are zero. Figures of a server that cannot be read stay for StaleAfter after the last good page and are unknown from then on.
//
// In brackets stand the metrics that a field is made from.
type Vitals struct {
	// Server is Endpoint.String(), which is unique among servers of one kind; Kind says which kind it is.
	Server   string   `json:"server"`
	Kind     Kind     `json:"kind"`
	Endpoint Endpoint `json:"-"`
	// Listed is false for a vmstorage that is on the list no more and still answers.
	Listed bool `json:"listed"`

	// Health is what came of the last poll, and Since when the first poll of a row with that outcome began or, for HealthGood, ended.
	// Error is the last poll's error, at most 512 bytes, without secrets; empty when it was good.
	Health Health    `json:"health"`
	Since  time.Time `json:"since,omitzero"`
	Error  string    `json:"error,omitempty"`
	// FailingSince is when the first of the failed polls since the last good one began, whatever their outcomes; zero when the last
	// poll was good. FailedPolls counts them.
	FailingSince time.Time `json:"failing_since,omitzero"`
	FailedPolls  int       `json:"failed_polls"`
	// Read is when the last good page had been read; zero when there was none. Age is the seconds since then. PageSeconds is how long
	// it took to read, and PageBytes how large it was.
	Read        time.Time `json:"read,omitzero"`
	Age         Figure    `json:"age_seconds"`
	PageSeconds Figure    `json:"page_seconds"`
	PageBytes   Figure    `json:"page_bytes"`
	// Interval is the seconds between two polls, longer the larger the page is: rates cannot be newer than that.
	Interval Figure `json:"interval_seconds"`
	// Window is the seconds that rates and shares are over: 15 to 20, or from 5 on for a process that was just started or is newly
	// watched, or the time between two polls where it is longer. Unknown while there are no rates.
	Window Figure `json:"window_seconds"`

	// Version is the server's version [vm_app_version].
	Version Version `json:"version"`
	// Start is when the process was started [process_start_time_seconds, vm_app_start_timestamp]. Uptime is the seconds that it had run
	// when the page was read [vm_app_uptime_seconds], by its own clock.
	Start  time.Time `json:"start,omitzero"`
	Uptime Figure    `json:"uptime_seconds"`
	// ClockAhead is by how many seconds the server's clock is ahead of ours, below 0 when it is behind [the answer's header Date]. It is
	// told in whole seconds, so less than 1.5 s and the time until the answer came are taken for 0. Unknown without that header, or when the
	// answer came through a proxy or a cache that says so.
	ClockAhead Figure `json:"clock_ahead_seconds"`
	// Restarts counts how often another process than before was met here within the last RestartMemory; LastRestart is when it was
	// last seen. Several restarts between two good polls count once. When Jumping, several processes answer at this address, as behind a
	// Service: then Restarts means nothing, and no rate is known for long.
	Restarts    int       `json:"restarts"`
	LastRestart time.Time `json:"last_restart,omitzero"`
	Jumping     bool      `json:"jumping"`

	CPU      CPU      `json:"cpu"`
	Memory   Memory   `json:"memory"`
	Pressure Pressure `json:"pressure"`
	// Inserts is how many requests (of a vminsert) or connections' blocks (of a vmstorage) are worked on at one time.
	Inserts Inserts `json:"inserts"`

	// Ignored is what was thrown away after a 2xx because of what it is, by reason [vm_rows_ignored_total{reason}], as rows per second,
	// sorted by reason; only reasons that the page has, also at 0. The reasons of series limits are in Storage only. Reasons beyond
	// MaxReasons are summed up as OtherReasons.
	//
	// At a vminsert (since about v1.107): too_many_labels, too_long_label_name, too_long_label_value. At a vmstorage: big_timestamp,
	// small_timestamp, invalid_raw_metric_name, nan_value.
	Ignored []Ignored `json:"ignored,omitempty"`

	// Insert is what only a vminsert has; nil for a vmstorage.
	Insert *InsertVitals `json:"insert,omitempty"`
	// Storage is what only a vmstorage has; nil for a vminsert.
	Storage *StorageVitals `json:"storage,omitempty"`
}

// A Version is what a server says of its version.
type Version struct {
	// Text is the part that reads like a version, such as "v1.100.0-cluster"; empty when there is none, as in what "go install" builds.
	Text string `json:"text"`
	// Raw is the whole, such as "vminsert-20240301-000000-tags-v1.100.0-cluster-0-g0"; at most 1024 bytes.
	Raw string `json:"raw"`
	// Major, Minor and Patch are its numbers; all 0 when Text is empty.
	Major int `json:"major"`
	Minor int `json:"minor"`
	Patch int `json:"patch"`
}

// CPU is what a process does with its processors.
type CPU struct {
	// Used is the cores that it uses [process_cpu_seconds_total].
	Used Figure `json:"used_cores"`
	// Available is the cores that it may use: the least of what the page says [process_cpu_cores_available, vm_available_cpu_cores,
	// go_gomaxprocs].
	Available Figure `json:"available_cores"`
	// GCShare is the part of Used that garbage collection takes [go_gc_cpu_seconds_total / process_cpu_seconds_total], at most 1.
	// Marking in otherwise idle processors counts, so a high share says nothing unless Short. Unknown when less than 0.2 s of CPU was
	// used in the window.
	GCShare Figure `json:"gc_share"`
	// AssistShare is the part of Used that those who allocate had to spend on marking before they could go on
	// [go_gc_mark_assist_cpu_seconds_total / process_cpu_seconds_total].
	AssistShare Figure `json:"assist_share"`
	// GCsPerSecond is collections per second [go_gc_duration_seconds_count].
	GCsPerSecond Figure `json:"gcs_per_second"`
	// Short is whether the process is short of CPU, and ShortBecause by what: "used" (Used is at least 90 % of Available), "assist"
	// (AssistShare is above 5 %, and Used at least a tenth of Available or half a core), "waiting" (something in its cgroup waited for a processor during half of the
	// window, and Used is at least half of Available) or "stalled" (for a tenth of the window all of its cgroup waited for one, as when it
	// is throttled). False while nothing is known.
	Short        bool   `json:"short"`
	ShortBecause string `json:"short_because,omitempty"`
}

// Memory is a process's memory in bytes.
type Memory struct {
	// HeapAlloc is the heap in use, garbage that is not swept yet included [go_memstats_heap_alloc_bytes].
	HeapAlloc Figure `json:"heap_alloc_bytes"`
	// NextGC is how large the heap may grow until garbage is collected [go_memstats_next_gc_bytes].
	NextGC Figure `json:"next_gc_bytes"`
	// LiveHeap is an estimate of what a collection leaves: NextGC less what is allocated between two collections
	// [go_memstats_alloc_bytes_total, go_gc_duration_seconds_count]. It is NextGC / Ratio.
	LiveHeap Figure `json:"live_heap_bytes"`
	// Ratio is NextGC / LiveHeap: about 2 at GOGC=100 (1.5 and more is usual, as collections end early), 1.3 at GOGC=30, 1.1 at
	// GOGC=10, and near 1 also when a memory limit forbids more. Where fewer than 4 collections fell into the window it is the largest
	// NextGC / HeapAlloc seen in it, which may be far too low.
	Ratio Figure `json:"heap_ratio"`
	// Limit is GOMEMLIMIT [go_memlimit_bytes]; unknown when there is none.
	Limit Figure `json:"limit_bytes"`
	// ProcessLimit is what the process may use: of its cgroup, or the machine's memory [process_memory_limit_bytes,
	// vm_available_memory_bytes; the lesser].
	ProcessLimit Figure `json:"process_limit_bytes"`
	// RSS is what it has of the machine's memory [process_resident_memory_bytes], and Anon the part that no file backs
	// [process_resident_memory_anon_bytes], which cannot be given back.
	RSS  Figure `json:"rss_bytes"`
	Anon Figure `json:"rss_anon_bytes"`
	// AllocRate is bytes allocated per second [go_memstats_alloc_bytes_total].
	AllocRate Figure `json:"alloc_bytes_per_second"`
	// AllocPerRow is bytes allocated per row that was taken in. Unknown below 100 rows per second.
	AllocPerRow Figure `json:"alloc_bytes_per_row"`
}

// Pressure is the part of the time in which some of the tasks of a process's cgroup waited (Waiting), and in which all of them did
// (Stalled) [process_pressure_{cpu,io,memory}_{waiting,stalled}_seconds_total]. Unknown without cgroup v2 and PSI, and on v1.100. The
// cgroup may hold more than the process. Being throttled shows as CPUStalled; there is no other metric of it.
type Pressure struct {
	CPUWaiting    Figure `json:"cpu_waiting"`
	CPUStalled    Figure `json:"cpu_stalled"`
	IOWaiting     Figure `json:"io_waiting"`
	IOStalled     Figure `json:"io_stalled"`
	MemoryWaiting Figure `json:"memory_waiting"`
	MemoryStalled Figure `json:"memory_stalled"`
}

// Inserts are requests being worked on, against the most that may be.
type Inserts struct {
	// Current and Capacity [vm_concurrent_insert_current, vm_concurrent_insert_capacity]. Current is of the moment of the page.
	Current  Figure `json:"current"`
	Capacity Figure `json:"capacity"`
	// LimitReached is how many per second had to wait for room [vm_concurrent_insert_limit_reached_total].
	LimitReached Figure `json:"limit_reached_per_second"`
	// QueueTimeouts is how many per second waited in vain and got 503 [vm_concurrent_insert_limit_timeout_total].
	QueueTimeouts Figure `json:"queue_timeouts_per_second"`
}

// Ignored is how many rows per second are thrown away for one reason.
type Ignored struct {
	// Reason is as the server calls it, at most 64 bytes.
	Reason string `json:"reason"`
	// Rows is per second.
	Rows Figure `json:"rows_per_second"`
}

// InsertVitals are what only a vminsert has.
type InsertVitals struct {
	// Rows is rows taken in per second, over all protocols and from everybody [vm_rows_inserted_total].
	Rows Figure `json:"rows_per_second"`
	// Requests and Errors are requests per second to /insert/… and those that were refused
	// [vm_http_requests_total, vm_http_request_errors_total; path="/insert/…"].
	Requests Figure `json:"requests_per_second"`
	Errors   Figure `json:"errors_per_second"`
	// RequestSeconds is how long a request takes on average, reading and waiting for room included
	// [vminsert_request_duration_seconds_sum, _count]. Unknown when none ended in the window.
	RequestSeconds Figure `json:"request_seconds"`
	// TenantSeries is how many tenants it has met since its start, one for each protocol they used [the number of series of
	// vm_tenant_inserted_rows_total]; NewTenants is how many it meets per second. Registering one is dear before v1.107.
	TenantSeries Figure `json:"tenant_series"`
	NewTenants   Figure `json:"new_tenants_per_second"`
	// LabelsCut is series per second that lost labels, or had a name or value of one cut, as v1.100 does in place of ignoring the rows
	// [vm_metrics_with_dropped_labels_total, vm_too_long_label_names_total, vm_too_long_label_values_total].
	LabelsCut Figure `json:"labels_cut_per_second"`
	// IncompletelyReplicated is rows per second of which fewer copies were stored than -replicationFactor asks for
	// [vm_rpc_rows_incompletely_replicated_total].
	IncompletelyReplicated Figure `json:"incompletely_replicated_rows_per_second"`
	// Dropped is rows per second thrown away after a 2xx: DroppedOnOverload and DroppedOnUnsupported of all ways, and Ignored.
	Dropped Figure `json:"dropped_rows_per_second"`
	// Ways are its ways to the vmstorages, sorted by Storage.
	Ways []Way `json:"ways,omitempty"`
}

// A Way is how one vminsert gets along with one vmstorage, its queues for rows and for metadata (in newer versions) taken together.
type Way struct {
	// Storage is the vmstorage as the vminsert names it, host:port [label addr].
	Storage string `json:"storage"`
	// Reachable is false when no queue has a connection [vm_rpc_vmstorage_is_reachable]. An idle vminsert does not notice that a
	// storage is gone. ReadOnly is whether the storage takes no rows, for want of disk space [vm_rpc_vmstorage_is_read_only].
	Reachable bool `json:"reachable"`
	ReadOnly  bool `json:"read_only"`
	// Rows is rows per second that the storage confirmed [vm_rpc_rows_sent_total].
	Rows Figure `json:"rows_per_second"`
	// SendShare is the part of the time that the busier queue's sender spends sending and waiting for the storage, of which there is one
	// [vm_rpc_send_duration_seconds_total]; above 0.9 the storage, or the network to it, is what limits.
	SendShare Figure `json:"send_share"`
	// PendingRows and PendingBytes are what waits to be sent [vm_rpc_rows_pending, vm_rpc_buf_pending_bytes]; at most about 30 MiB.
	PendingRows  Figure `json:"pending_rows"`
	PendingBytes Figure `json:"pending_bytes"`
	// ConnectionErrors is connections per second that broke, DialErrors and HandshakeErrors attempts per second that failed; the latter are
	// what a half-done upgrade shows [vm_rpc_connection_errors_total, vm_rpc_dial_errors_total, vm_rpc_handshake_errors_total].
	ConnectionErrors Figure `json:"connection_errors_per_second"`
	DialErrors       Figure `json:"dial_errors_per_second"`
	HandshakeErrors  Figure `json:"handshake_errors_per_second"`
	// ReroutedFrom is rows per second meant for this storage and sent to others, ReroutedTo the reverse
	// [vm_rpc_rows_rerouted_from_here_total, vm_rpc_rows_rerouted_to_here_total].
	ReroutedFrom Figure `json:"rerouted_from_rows_per_second"`
	ReroutedTo   Figure `json:"rerouted_to_rows_per_second"`
	// DroppedOnOverload is rows per second thrown away because this storage was slow, with -dropSamplesOnOverload
	// [vm_rpc_rows_dropped_on_overload_total]; DroppedOnUnsupported because it does not know the call, being older
	// [vm_rpc_rows_dropped_on_unsupported_rpc, vm_rpc_rows_dropped_on_unsupported_rpc_total].
	DroppedOnOverload    Figure `json:"dropped_on_overload_rows_per_second"`
	DroppedOnUnsupported Figure `json:"dropped_on_unsupported_rows_per_second"`
}

// StorageVitals are what only a vmstorage has.
type StorageVitals struct {
	// Port is where it listens for vminserts [flag vminsertAddr], such as "8400": with the host it tells which Way leads here. It stays when
	// the figures have grown too old.
	Port string `json:"port"`
	// Rows is rows per second that arrive [vm_rows_received_by_storage_total, or vm_rows_added_to_storage_total on v1.100];
	// Added is those that were kept [vm_rows_added_to_storage_total].
	Rows  Figure `json:"rows_per_second"`
	Added Figure `json:"added_rows_per_second"`
	// SlowInserts is rows per second whose series was not in the cache [vm_slow_row_inserts_total], and SlowShare their part of Rows:
	// above some 5 %, churn or a cache that is cold or too small is what makes it slow. Unknown below 100 rows per second.
	SlowInserts Figure `json:"slow_inserts_per_second"`
	SlowShare   Figure `json:"slow_share"`
	// NewSeries is series per second that it had never met [vm_new_timeseries_created_total].
	NewSeries Figure `json:"new_series_per_second"`
	// HourlyLimit and DailyLimit are rows per second thrown away by a limit of series [vm_hourly_series_limit_rows_dropped_total,
	// vm_daily_series_limit_rows_dropped_total]; unknown when no such limit is set.
	HourlyLimit Figure `json:"hourly_limit_rows_per_second"`
	DailyLimit  Figure `json:"daily_limit_rows_per_second"`
	// Dropped is rows per second thrown away after a 2xx: Ignored, HourlyLimit and DailyLimit.
	Dropped Figure `json:"dropped_rows_per_second"`
	// ReadOnly is whether it takes no rows, for want of disk space [vm_storage_is_read_only]; false where it does not say.
	ReadOnly bool `json:"read_only"`
	// FreeDisk is the bytes that are free, FreeDiskLimit those at which it becomes read-only [vm_free_disk_space_bytes,
	// vm_free_disk_space_limit_bytes]. FullIn is the seconds until then at the rate of the window; unknown when it grows no less.
	FreeDisk      Figure `json:"free_disk_bytes"`
	FreeDiskLimit Figure `json:"free_disk_limit_bytes"`
	FullIn        Figure `json:"full_in_seconds"`
	// WriteRate is bytes per second written to disk [process_io_storage_written_bytes_total].
	WriteRate Figure `json:"write_bytes_per_second"`
	// PendingRows is rows not made into parts yet [vm_pending_rows{type="storage"}].
	PendingRows Figure `json:"pending_rows"`
	// Parts is parts of data in memory and small ones on disk [vm_parts{type="storage/inmemory"|"storage/small"}], and Merges how many
	// merges run [vm_active_merges]. Parts that grow mean that merging, hence the disk or the CPU, does not keep up.
	Parts  Figure `json:"parts"`
	Merges Figure `json:"merges"`
	// AssistedMerges is how often per second who adds rows had to merge because there were too many parts [vm_assisted_merges_total].
	AssistedMerges Figure `json:"assisted_merges_per_second"`
}

const (
	// RestartMemory is how long a restart is counted in Vitals.Restarts.
	RestartMemory = 15 * time.Minute
	// MaxReasons is how many reasons of ignored rows are kept apart.
	MaxReasons = 16
	// StaleAfter is how long figures are shown after the last good page, on top of twice the time between polls.
	StaleAfter = time.Minute
	// OtherReasons is the reason that stands for those that are not kept apart.
	OtherReasons = "other"
)
