package downstream

import (
	"bytes"
	"math"
)

// A number is one of those that a Reading keeps of a page for the vitals. Counters and levels alike; NaN when the page has none.
type number int

const (
	cpuSeconds number = iota
	gcSeconds
	assistSeconds
	gcs
	coresOfProcess
	coresOfApp
	coresOfGo
	heapAlloc
	nextGC
	allocBytes
	memLimit
	limitOfProcess
	limitOfApp
	rss
	rssAnon
	uptime
	cpuWaiting
	cpuStalled
	ioWaiting
	ioStalled
	memoryWaiting
	memoryStalled
	insertsCurrent
	insertsCapacity
	insertsLimitReached
	insertsTimeouts
	rowsInserted
	insertRequests
	insertErrors
	requestSeconds
	requestsEnded
	labelsCut
	incompletelyReplicated
	rowsReceived
	rowsAdded
	slowInserts
	newSeries
	hourlyLimit
	dailyLimit
	readOnly
	freeDisk
	freeDiskLimit
	diskWritten
	pendingRows
	parts
	merges
	assistedMerges
	numberCount
)

// numbers are the numbers of one page.
type numbers [numberCount]float64

func newNumbers() *numbers {
	var all numbers
	for i := range all {
		all[i] = math.NaN()
	}
	return &all
}

// A source is where a number comes from. Values of several series, and of several sources, are added up, or the least is taken.
type source struct {
	metric string
	into   number
	label  string // that has to begin with prefix; "" asks for none
	prefix string
	least  bool
}

var sources = [...]source{
	{metric: "process_cpu_seconds_total", into: cpuSeconds},
	{metric: "go_gc_cpu_seconds_total", into: gcSeconds},
	{metric: "go_gc_mark_assist_cpu_seconds_total", into: assistSeconds},
	{metric: "go_gc_duration_seconds_count", into: gcs},
	{metric: "process_cpu_cores_available", into: coresOfProcess},
	{metric: "vm_available_cpu_cores", into: coresOfApp},
	{metric: "go_gomaxprocs", into: coresOfGo},
	{metric: "go_memstats_heap_alloc_bytes", into: heapAlloc},
	{metric: "go_memstats_next_gc_bytes", into: nextGC},
	{metric: "go_memstats_alloc_bytes_total", into: allocBytes},
	{metric: "go_memlimit_bytes", into: memLimit},
	{metric: "process_memory_limit_bytes", into: limitOfProcess},
	{metric: "vm_available_memory_bytes", into: limitOfApp},
	{metric: "process_resident_memory_bytes", into: rss},
	{metric: "process_resident_memory_anon_bytes", into: rssAnon},
	{metric: "vm_app_uptime_seconds", into: uptime},
	{metric: "process_pressure_cpu_waiting_seconds_total", into: cpuWaiting},
	{metric: "process_pressure_cpu_stalled_seconds_total", into: cpuStalled},
	{metric: "process_pressure_io_waiting_seconds_total", into: ioWaiting},
	{metric: "process_pressure_io_stalled_seconds_total", into: ioStalled},
	{metric: "process_pressure_memory_waiting_seconds_total", into: memoryWaiting},
	{metric: "process_pressure_memory_stalled_seconds_total", into: memoryStalled},
	{metric: "vm_concurrent_insert_current", into: insertsCurrent},
	{metric: "vm_concurrent_insert_capacity", into: insertsCapacity},
	{metric: "vm_concurrent_insert_limit_reached_total", into: insertsLimitReached},
	{metric: "vm_concurrent_insert_limit_timeout_total", into: insertsTimeouts},
	{metric: "vm_rows_inserted_total", into: rowsInserted},
	{metric: "vm_http_requests_total", into: insertRequests, label: "path", prefix: "/insert/"},
	{metric: "vm_http_request_errors_total", into: insertErrors, label: "path", prefix: "/insert/"},
	{metric: "vminsert_request_duration_seconds_sum", into: requestSeconds},
	{metric: "vminsert_request_duration_seconds_count", into: requestsEnded},
	{metric: "vm_metrics_with_dropped_labels_total", into: labelsCut},
	{metric: "vm_too_long_label_names_total", into: labelsCut},
	{metric: "vm_too_long_label_values_total", into: labelsCut},
	{metric: "vm_rpc_rows_incompletely_replicated_total", into: incompletelyReplicated},
	{metric: "vm_rows_received_by_storage_total", into: rowsReceived},
	{metric: "vm_rows_added_to_storage_total", into: rowsAdded},
	{metric: "vm_slow_row_inserts_total", into: slowInserts},
	{metric: "vm_new_timeseries_created_total", into: newSeries},
	{metric: "vm_hourly_series_limit_rows_dropped_total", into: hourlyLimit},
	{metric: "vm_daily_series_limit_rows_dropped_total", into: dailyLimit},
	{metric: "vm_storage_is_read_only", into: readOnly},
	{metric: "vm_free_disk_space_bytes", into: freeDisk, least: true},
	{metric: "vm_free_disk_space_limit_bytes", into: freeDiskLimit, least: true},
	{metric: "process_io_storage_written_bytes_total", into: diskWritten},
	{metric: "vm_pending_rows", into: pendingRows, label: "type", prefix: "storage"},
	{metric: "vm_parts", into: parts, label: "type", prefix: "storage/inmemory"},
	{metric: "vm_parts", into: parts, label: "type", prefix: "storage/small"},
	{metric: "vm_active_merges", into: merges},
	{metric: "vm_assisted_merges_total", into: assistedMerges},
}

// sourcesByMetric is sources by the name of the metric.
func sourcesByMetric() map[string][]source {
	byMetric := map[string][]source{}
	for _, s := range sources {
		byMetric[s.metric] = append(byMetric[s.metric], s)
	}
	return byMetric
}

// take adds a line's value, if the source is of that line.
func (s source) take(all *numbers, l line) error {
	if s.label != "" {
		if value, _ := l.label(s.label); !bytes.HasPrefix(value, []byte(s.prefix)) {
			return nil
		}
	}
	var value float64
	if err := keepNumber(&value, l.value); err != nil {
		return err
	}
	before := all[s.into]
	switch {
	case math.IsNaN(before):
		all[s.into] = value
	case s.least:
		all[s.into] = min(before, value)
	default:
		all[s.into] = before + value
	}
	return nil
}

// number is one of the page's numbers, NaN when it has none.
func (r *Reading) number(n number) float64 {
	if r.numbers == nil {
		return math.NaN()
	}
	return r.numbers[n]
}

// An ignoring is how many rows were ignored for one reason.
type ignoring struct {
	reason string
	rows   float64
}

// maxReason bounds the bytes of a reason that are kept.
const maxReason = 64

// takeIgnored adds what a line says of ignored rows. Reasons beyond MaxReasons are one.
func (rd *reader) takeIgnored(r *Reading, l line) error {
	var rows float64
	if err := keepNumber(&rows, l.value); err != nil {
		return err
	}
	name, _ := l.label("reason")
	reason := rd.word(name[:min(len(name), maxReason)])
	for i := range r.ignored {
		if r.ignored[i].reason == reason {
			r.ignored[i].rows += rows
			return nil
		}
	}
	switch n := len(r.ignored); {
	case n < MaxReasons:
		r.ignored = append(r.ignored, ignoring{reason, rows})
	case n == MaxReasons:
		r.ignored = append(r.ignored, ignoring{OtherReasons, rows})
	default:
		r.ignored[MaxReasons].rows += rows
	}
	return nil
}

// ignoredFor is how many rows were ignored for a reason, NaN when the page does not say.
func (r *Reading) ignoredFor(reason string) float64 {
	for _, i := range r.ignored {
		if i.reason == reason {
			return i.rows
		}
	}
	return math.NaN()
}

// maxWords bounds how many words a reader remembers: twice the most that one page can have.
const maxWords = 4 * maxStorages

// word is text as a string, the same one as last time where it can be.
func (rd *reader) word(text []byte) string {
	if w, ok := rd.words[string(text)]; ok {
		return w
	}
	if len(rd.words) >= maxWords {
		clear(rd.words)
	}
	w := string(text)
	rd.words[w] = w
	return w
}
