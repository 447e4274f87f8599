package downstream

import (
	"fmt"
	"io"
	"strconv"
	"time"
)

// CacheAge is how old a page of /metrics can be when it is served: the servers of VictoriaMetrics render it at most once a
// second (lib/appmetrics/appmetrics.go). What a reading says was true at some moment between Begun-CacheAge and Ended.
const CacheAge = time.Second

const (
	// maxStorages bounds how many storages one page may name. Clusters have up to a few hundred.
	maxStorages = 4096
	// cpuSlack is how much less CPU time a process may seem to have used than before, for kernels that add it up roughly.
	cpuSlack = 0.1
	// maxText bounds the length of an address, a version and the value of a flag.
	maxText = 1024
)

const (
	flushIntervalFlag = "inmemoryDataFlushInterval"
	insertAddrFlag    = "vminsertAddr" // where a vmstorage listens for vminserts
)

// wantedFlags are the command-line flags that a Reading keeps.
var wantedFlags = [...]string{
	"dedup.minScrapeInterval",
	"disableRerouting",
	"dropSamplesOnOverload",
	"futureRetention",
	flushIntervalFlag,
	"maxBackfillAge",
	"maxConcurrentInserts",
	"maxInsertRequestSize",
	"maxLabelNameLen",
	"maxLabelValueLen",
	"maxLabelsPerTimeseries",
	"replicationFactor",
	"retentionPeriod",
	insertAddrFlag,
}

// A Reading is what one look at a server's /metrics told. It does not change once it is made.
type Reading struct {
	// Begun and Ended frame the request by this machine's monotonic clock. See CacheAge for what they say about the content.
	Begun, Ended time.Time
	// Size is the bytes of the page.
	Size int64

	// Start is process_start_time_seconds as it is written there, or vm_app_start_timestamp where the operating system does not
	// tell the former. The same text means the same process, as far as whole seconds can tell.
	Start string
	// CPU is process_cpu_seconds_total. It never falls while the process is the same one.
	CPU float64
	// Version is the version label of vm_app_version, such as "vminsert-20240301-000000-tags-v1.100.0-cluster-0-g0".
	Version string
	// Flags holds the values of those command-line flags that matter to a gateway, such as "inmemoryDataFlushInterval".
	Flags map[string]string

	// Paths are a vminsert's ways to its storages; empty for any other server.
	Paths map[Path]Passage

	clock   told
	numbers *numbers // nil: none is known
	ignored []ignoring
	tenants int // series of vm_tenant_inserted_rows_total
}

// A Path is one of the queues that a vminsert keeps for its storages, each with a sender of its own.
type Path struct {
	// Addr is the storage as vminsert names it, host:port.
	Addr string
	// Call is the kind of what is sent: newer versions queue rows and metadata apart. Versions up to v1.100 name none.
	Call string
}

// Host is the storage's name or address without the port.
func (p Path) Host() string { return hostOf(p.Addr) }

// A Passage is what a vminsert counts on one Path. All numbers begin at 0 with the process.
//
// Received and Sent must not be compared: rows are sent on other paths than they were received on, and with
// -replicationFactor several times.
type Passage struct {
	// Received is the rows put into this queue: vm_rpc_rows_pushed_total, which counts rows that are re-routed at once too, and
	// vm_rpc_rows_rerouted_to_here_total.
	Received float64
	// Sent is the rows that a storage has confirmed here, whatever queue they come from: vm_rpc_rows_sent_total.
	Sent float64
	// PendingRows and PendingBytes are what waits in the queue. Rows that are being sent are not among them.
	PendingRows, PendingBytes float64
	// ConnectionErrors counts connections that broke; DialErrors and HandshakeErrors count attempts to make one.
	ConnectionErrors, DialErrors, HandshakeErrors float64
	// SendSeconds is the time spent on sending and on waiting for the storage's answer: vm_rpc_send_duration_seconds_total.
	SendSeconds float64
	// ReroutedFrom is the rows meant for this storage that went to others, ReroutedTo the reverse. The latter are in Received.
	ReroutedFrom, ReroutedTo float64
	// DroppedOnOverload and DroppedOnUnsupported are rows thrown away: with -dropSamplesOnOverload, and because the storage does not
	// know the call.
	DroppedOnOverload, DroppedOnUnsupported float64
	// Unreachable is whether vminsert takes the storage for disconnected. An idle vminsert does not notice that it is.
	Unreachable bool
	// ReadOnly is whether the storage has said that it takes no rows, because its disk is full.
	ReadOnly bool
}

// Ready is whether vminsert puts rows for this storage into its queue. When it does not, they go to other storages at once.
func (p Passage) Ready() bool { return !p.Unreachable && !p.ReadOnly }

// Errors is how often the connection to the storage broke or could not be made.
func (p Passage) Errors() float64 { return p.ConnectionErrors + p.DialErrors + p.HandshakeErrors }

// IsVMInsert is whether the page is that of a vminsert.
func (r *Reading) IsVMInsert() bool { return len(r.Paths) > 0 }

// SameProcess is whether earlier was, as far as can be told, read from the same process as r: the start time is the same and
// nothing that only ever grows has shrunk. Start times are whole seconds, so the counters tell a process that was started twice within one.
func (r *Reading) SameProcess(earlier *Reading) bool {
	if r.Start != earlier.Start || r.CPU < earlier.CPU-cpuSlack {
		return false
	}
	for path, before := range earlier.Paths {
		if now := r.Paths[path]; now.Sent < before.Sent || now.Received < before.Received || now.ConnectionErrors < before.ConnectionErrors {
			return false
		}
	}
	return true
}

// IsVMStorage is whether the page is that of a process that stores rows.
func (r *Reading) IsVMStorage() bool { return r.Flags[flushIntervalFlag] != "" }

// Reached counts the storages that vminsert takes for connected on some path.
func (r *Reading) Reached() int {
	reached := map[string]bool{}
	for path, p := range r.Paths {
		if !p.Unreachable {
			reached[path.Addr] = true
		}
	}
	return len(reached)
}

// FlushInterval is -inmemoryDataFlushInterval of a vmstorage: how long it may keep rows in memory before they go to disk, not
// counting the delays of its timers. 5 s, the default, when the page does not say.
func (r *Reading) FlushInterval() time.Duration {
	d, err := time.ParseDuration(r.Flags[flushIntervalFlag])
	if err != nil || d <= 0 {
		return 5 * time.Second
	}
	return d
}

// A reader makes readings out of pages. Its buffer is used again for the next one, so it is for one goroutine.
type reader struct {
	buf   []byte
	flags map[string]string // wanted flags by name; the values are the names, so that none is allocated anew
	// fields says where the number of a metric goes. Both kinds of received rows are added up.
	fields map[string]func(*Passage, float64)
	// sources says which numbers a metric goes into.
	sources map[string][]source
	wanted  map[string]bool   // metrics of which anything is kept
	words   map[string]string // see word
}

func newReader() *reader {
	r := &reader{
		buf:   make([]byte, 16<<10),
		flags: make(map[string]string, len(wantedFlags)),
		fields: map[string]func(*Passage, float64){
			"vm_rpc_rows_pushed_total":                     func(p *Passage, v float64) { p.Received += v },
			"vm_rpc_rows_rerouted_to_here_total":           func(p *Passage, v float64) { p.Received, p.ReroutedTo = p.Received+v, v },
			"vm_rpc_rows_sent_total":                       func(p *Passage, v float64) { p.Sent = v },
			"vm_rpc_rows_pending":                          func(p *Passage, v float64) { p.PendingRows = v },
			"vm_rpc_buf_pending_bytes":                     func(p *Passage, v float64) { p.PendingBytes = v },
			"vm_rpc_connection_errors_total":               func(p *Passage, v float64) { p.ConnectionErrors = v },
			"vm_rpc_dial_errors_total":                     func(p *Passage, v float64) { p.DialErrors = v },
			"vm_rpc_handshake_errors_total":                func(p *Passage, v float64) { p.HandshakeErrors = v },
			"vm_rpc_send_duration_seconds_total":           func(p *Passage, v float64) { p.SendSeconds = v },
			"vm_rpc_rows_rerouted_from_here_total":         func(p *Passage, v float64) { p.ReroutedFrom = v },
			"vm_rpc_rows_dropped_on_overload_total":        func(p *Passage, v float64) { p.DroppedOnOverload = v },
			"vm_rpc_rows_dropped_on_unsupported_rpc":       func(p *Passage, v float64) { p.DroppedOnUnsupported = v },
			"vm_rpc_rows_dropped_on_unsupported_rpc_total": func(p *Passage, v float64) { p.DroppedOnUnsupported = v },
			"vm_rpc_vmstorage_is_reachable":                func(p *Passage, v float64) { p.Unreachable = v == 0 },
			"vm_rpc_vmstorage_is_read_only":                func(p *Passage, v float64) { p.ReadOnly = v != 0 },
		},
		sources: sourcesByMetric(),
		words:   map[string]string{},
	}
	for _, name := range wantedFlags {
		r.flags[name] = name
	}
	r.wanted = r.metrics()
	return r
}

// metrics are those of which anything is kept, besides tenantRows.
func (rd *reader) metrics() map[string]bool {
	wanted := map[string]bool{
		"process_start_time_seconds": true, "vm_app_start_timestamp": true, "process_cpu_seconds_total": true,
		"vm_app_version": true, "vm_rows_ignored_total": true, "flag": true,
	}
	for name := range rd.fields {
		wanted[name] = true
	}
	for name := range rd.sources {
		wanted[name] = true
	}
	return wanted
}

// tenantRows is the metric that there is of every tenant. Only its series are counted.
const tenantRows = "vm_tenant_inserted_rows_total"

// skip says whether nothing of a line is kept, which is so of by far the most.
func (rd *reader) skip(r *Reading, text []byte) bool {
	if len(text) > len(tenantRows) && text[len(tenantRows)] == '{' && string(text[:len(tenantRows)]) == tenantRows {
		r.tenants++
		return true
	}
	name := nameOf(text)
	return len(name) > 0 && !rd.wanted[string(name)]
}

// read parses a page. The times are left to the caller. What has no start time is no page of such a server.
func (rd *reader) read(page io.Reader) (*Reading, error) {
	r := &Reading{Flags: map[string]string{}, numbers: newNumbers()}
	appStart, paths := "", map[Path]*Passage{}
	skip := func(text []byte) bool { return rd.skip(r, text) }
	size, err := scan(page, rd.buf, maxPage, skip, func(l line) error { return rd.take(r, &appStart, paths, l) })
	if err != nil {
		return nil, err
	}
	if r.Start == "" {
		r.Start = appStart
	}
	if r.Start == "" {
		return nil, fmt.Errorf("%w of a server of VictoriaMetrics: process_start_time_seconds is missing", errNotMetrics)
	}
	r.Size = size
	r.Paths = make(map[Path]Passage, len(paths))
	for path, p := range paths {
		r.Paths[path] = *p
	}
	return r, nil
}

// take keeps what is wanted of one line.
func (rd *reader) take(r *Reading, appStart *string, paths map[Path]*Passage, l line) error {
	for _, s := range rd.sources[string(l.name)] {
		if err := s.take(r.numbers, l); err != nil {
			return err
		}
	}
	switch string(l.name) {
	case "process_start_time_seconds":
		return keepText(&r.Start, l.value)
	case "vm_app_start_timestamp":
		return keepText(appStart, l.value)
	case "process_cpu_seconds_total":
		return keepNumber(&r.CPU, l.value)
	case "vm_app_version":
		return takeVersion(r, l)
	case "vm_rows_ignored_total":
		return rd.takeIgnored(r, l)
	case "flag":
		return rd.takeFlag(r, l)
	}
	if len(l.name) < 8 || string(l.name[:7]) != "vm_rpc_" {
		return nil
	}
	return rd.takePassage(paths, l)
}

func takeVersion(r *Reading, l line) error {
	version, _ := l.label("version")
	if len(version) == 0 {
		version, _ = l.label("short_version")
	}
	return keepText(&r.Version, version)
}

func (rd *reader) takeFlag(r *Reading, l line) error {
	name, _ := l.label("name")
	wanted, ok := rd.flags[string(name)]
	if !ok {
		return nil
	}
	value, _ := l.label("value")
	var text string
	if err := keepText(&text, value); err != nil {
		return err
	}
	r.Flags[wanted] = text
	return nil
}

func (rd *reader) takePassage(paths map[Path]*Passage, l line) error {
	set, wanted := rd.fields[string(l.name)]
	if !wanted {
		return nil
	}
	addr, _ := l.label("addr")
	call, _ := l.label("rpc_call")
	p, err := rd.pathOf(paths, addr, call)
	if err != nil {
		return err
	}
	var value float64
	if err := keepNumber(&value, l.value); err != nil {
		return err
	}
	set(p, value)
	return nil
}

func (rd *reader) pathOf(paths map[Path]*Passage, addr, call []byte) (*Passage, error) {
	if p := paths[Path{Addr: string(addr), Call: string(call)}]; p != nil {
		return p, nil
	}
	if len(paths) >= maxStorages || len(addr) > maxText || len(call) > maxText {
		return nil, fmt.Errorf("%w: more than %d storages, or addresses longer than %d bytes", errNotMetrics, maxStorages, maxText)
	}
	p := &Passage{}
	paths[Path{Addr: rd.word(addr), Call: rd.word(call)}] = p
	return p, nil
}

func keepText(dst *string, text []byte) error {
	if len(text) > maxText {
		return fmt.Errorf("%w: a value of %d bytes", errNotMetrics, len(text))
	}
	*dst = string(text)
	return nil
}

func keepNumber(dst *float64, text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("%w: %.40q is no number", errNotMetrics, text)
	}
	*dst = n
	return nil
}
