package downstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// everySecond is the time between polls of a small page.
func everySecond(*Reading) time.Duration { return time.Second }

// vitalsOf are the vitals after pages of one server that were read a few seconds apart.
func vitalsOf(t *testing.T, kind Kind, apart time.Duration, pages ...string) Vitals {
	t.Helper()
	rec := newRecord(Endpoint{Base: &url.URL{Scheme: "http", Host: "10.0.0.1:8480"}, Addr: "10.0.0.1:8480"}, kind)
	now := time.Now()
	for _, page := range pages {
		r := readPage(t, page)
		now = now.Add(apart)
		r.Begun, r.Ended = now.Add(-100*time.Millisecond), now
		rec.good(r, time.Minute)
	}
	return rec.vitals(now.Add(time.Second), everySecond)
}

func recorded(t *testing.T, kind Kind, gogc int) Vitals {
	t.Helper()
	rec := newRecord(Endpoint{Base: &url.URL{Scheme: "http", Host: "10.0.0.1:8480"}, Addr: "10.0.0.1:8480"}, kind)
	now := time.Now()
	for i := 1; i <= 2; i++ {
		r := readFile(t, fmt.Sprintf("testdata/%s-gogc%d-%d.txt", kind, gogc, i))
		now = now.Add(6 * time.Second)
		r.Begun, r.Ended = now.Add(-100*time.Millisecond), now
		rec.good(r, time.Minute)
	}
	return rec.vitals(now.Add(time.Second), everySecond)
}

// near is whether a figure is within a hundredth of what is wanted.
func near(f Figure, want float64) bool {
	return math.Abs(float64(f)-want) <= math.Abs(want)/100
}

func wantNear(t *testing.T, what string, got Figure, want float64) {
	t.Helper()
	if !near(got, want) {
		t.Errorf("%s is %v, want %v", what, float64(got), want)
	}
}

// The pages are of a v1.100 vminsert that registers a thousand tenants a second: with GOGC=10 it spends most of its CPU on collecting
// garbage, whoever allocates has to help, and the heap may grow by a tenth. With GOGC=100 it may grow twofold.
func TestVitalsTellWithWhichGOGCAVMInsertRuns(t *testing.T) {
	low := recorded(t, VMInsert, 10)
	if !low.CPU.Short || low.CPU.ShortBecause != "assist" || low.Health != HealthGood || low.Storage != nil {
		t.Errorf("got %+v, %s", low.CPU, low.Health)
	}
	for what, test := range map[string]struct {
		got  Figure
		want float64
	}{
		"window":          {low.Window, 6},
		"age":             {low.Age, 1},
		"cores available": {low.CPU.Available, 2},
		"process limit":   {low.Memory.ProcessLimit, 25276502016},
		"RSS":             {low.Memory.RSS, 31760384},
		"next GC":         {low.Memory.NextGC, 12326443},
		"capacity":        {low.Inserts.Capacity, 4},
		"current":         {low.Inserts.Current, 2},
		"queue time-outs": {low.Inserts.QueueTimeouts, 0},
		"uptime":          {low.Uptime, 12},
		"tenant series":   {low.Insert.TenantSeries, 5},
		"new tenants":     {low.Insert.NewTenants, 2. / 6},
		"pending rows":    {low.Insert.Ways[0].PendingRows, 120},
		"dropped":         {low.Insert.Dropped, 0},
	} {
		wantNear(t, what, test.got, test.want)
	}
	if low.CPU.GCShare < 0.6 || low.CPU.AssistShare < 0.1 || low.Memory.Ratio > 1.15 || low.Memory.Limit.Known() || low.Memory.AllocPerRow < 5000 {
		t.Errorf("GOGC=10: %+v %+v", low.CPU, low.Memory)
	}
	high := recorded(t, VMInsert, 100)
	if high.CPU.Short || high.CPU.AssistShare > 0.05 || high.Memory.Ratio < 1.5 {
		t.Errorf("GOGC=100: %+v %+v", high.CPU, high.Memory)
	}
	storage := recorded(t, VMStorage, 10)
	if s := storage.Storage; s == nil || s.Port != "8400" || s.SlowShare < 0.9 || s.ReadOnly || !s.FreeDisk.Known() || s.HourlyLimit.Known() ||
		!slices.ContainsFunc(storage.Ignored, func(i Ignored) bool { return i == Ignored{Reason: "big_timestamp"} }) {
		t.Errorf("vmstorage: %+v, ignored %+v", storage.Storage, storage.Ignored)
	}
}

// A page of a version from 2026, as far as names are known.
const newInsertPage = `process_start_time_seconds 1795486741
process_cpu_seconds_total %[1]d
go_gc_cpu_seconds_total %[1]d
process_cpu_cores_available 4
go_gomaxprocs 2
process_pressure_cpu_stalled_seconds_total %[1]d
process_pressure_io_waiting_seconds_total 7
go_memlimit_bytes 1000
vm_app_version{version="vminsert-20260901-000000-tags-v1.150.3-enterprise-cluster-0-gabc", short_version="v1.150.3-enterprise-cluster"} 1
vm_rows_ignored_total{reason="too_many_labels"} %[1]d
vm_rows_ignored_total{reason="too_long_label_name"} 5
vm_http_requests_total{path="/insert/{}/prometheus/", protocol="promremotewrite"} %[1]d
vm_http_requests_total{path="/metrics"} 1%[1]d
vm_rpc_rows_sent_total{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} %[1]d
vm_rpc_send_duration_seconds_total{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} %[1]d
vm_rpc_vmstorage_is_reachable{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} 0
vm_rpc_rows_sent_total{name="vminsert", addr="s:8400", rpc_call="writeMetadata_v1"} %[1]d
vm_rpc_send_duration_seconds_total{name="vminsert", addr="s:8400", rpc_call="writeMetadata_v1"} 1
vm_rpc_rows_dropped_on_unsupported_rpc{name="vminsert", addr="s:8400", rpc_call="writeMetadata_v1"} %[1]d
vm_rpc_vmstorage_is_reachable{name="vminsert", addr="s:8400", rpc_call="writeMetadata_v1"} 1
`

func TestNewerNamesAreUnderstood(t *testing.T) {
	v := vitalsOf(t, VMInsert, 10*time.Second, fmt.Sprintf(newInsertPage, 10), fmt.Sprintf(newInsertPage, 20))
	if v.Version.Text != "v1.150.3-enterprise-cluster" || v.Version.Minor != 150 || v.Version.Before(1, 107) || !v.Version.Before(2, 0) {
		t.Errorf("version %+v", v.Version)
	}
	if !slices.Equal(v.Ignored, []Ignored{{"too_long_label_name", 0}, {"too_many_labels", 1}}) {
		t.Errorf("ignored %+v", v.Ignored)
	}
	if !v.Start.Equal(time.Unix(1795486741, 0)) {
		t.Errorf("started %v", v.Start)
	}
	way := v.Insert.Ways[0]
	if len(v.Insert.Ways) != 1 || way.Storage != "s:8400" || !way.Reachable || way.Rows != 2 || way.SendShare != 1 || way.DroppedOnUnsupported != 1 {
		t.Errorf("ways %+v", v.Insert.Ways)
	}
	if !v.CPU.Short || v.CPU.ShortBecause != "stalled" || v.CPU.Available != 2 || v.CPU.GCShare != 1 || v.Memory.Limit != 1000 {
		t.Errorf("CPU %+v, memory %+v", v.CPU, v.Memory)
	}
	if v.Insert.Requests != 1 || v.Insert.Dropped != 2 || v.Pressure.IOWaiting != 0 || v.Pressure.MemoryStalled.Known() {
		t.Errorf("requests %v, dropped %v, pressure %+v", v.Insert.Requests, v.Insert.Dropped, v.Pressure)
	}
}

// figuresOf calls visit with every Figure in v.
func figuresOf(v reflect.Value, path string, visit func(string, Figure)) {
	switch {
	case v.Type() == reflect.TypeFor[Figure]():
		visit(path, Figure(v.Float()))
	case v.Kind() == reflect.Pointer && !v.IsNil():
		figuresOf(v.Elem(), path, visit)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			figuresOf(v.Index(i), fmt.Sprintf("%s[%d]", path, i), visit)
		}
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]() && v.Type() != reflect.TypeFor[Endpoint]():
		for i := range v.NumField() {
			figuresOf(v.Field(i), path+"."+v.Type().Field(i).Name, visit)
		}
	}
}

func TestWhatIsNotKnownIsNotZero(t *testing.T) {
	always := map[string]bool{".Interval": true}
	once := map[string]bool{".Interval": true, ".Age": true, ".PageSeconds": true, ".PageBytes": true, ".Insert.TenantSeries": true}
	for name, test := range map[string]struct {
		vitals Vitals
		known  map[string]bool
	}{
		"vminsert never read":               {newRecord(Endpoint{Base: &url.URL{}}, VMInsert).vitals(time.Now(), everySecond), always},
		"vmstorage never read":              {newRecord(Endpoint{Base: &url.URL{}}, VMStorage).vitals(time.Now(), everySecond), always},
		"one page":                          {vitalsOf(t, VMInsert, time.Second, "process_start_time_seconds 1\nvm_rpc_rows_sent_total{addr=\"s\"} 5\n"), once},
		"two pages within less than can be": {vitalsOf(t, VMInsert, 4*time.Second, fmt.Sprintf(newInsertPage, 1), fmt.Sprintf(newInsertPage, 2)), nil},
	} {
		if test.vitals.Window.Known() {
			t.Errorf("%s: window %v", name, test.vitals.Window)
		}
		figuresOf(reflect.ValueOf(test.vitals), "", func(path string, f Figure) {
			switch {
			case test.known != nil && f.Known() != test.known[path] && !strings.Contains(path, ".Pending"):
				t.Errorf("%s: %s is %v", name, path, f)
			case test.known == nil && f.Known() && strings.Contains(path, "Rows") && !strings.Contains(path, "Pending"):
				t.Errorf("%s: %s is %v", name, path, f)
			}
		})
		if _, err := json.Marshal(test.vitals); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRatesBeginAnewWithAProcess(t *testing.T) {
	page := func(start, n int) string {
		return fmt.Sprintf("process_start_time_seconds %d\nprocess_cpu_seconds_total %d\nvm_rows_inserted_total{type=\"a\"} %d\nvm_rpc_rows_sent_total{addr=\"s\"} %d\n",
			start, n, 100*n, n)
	}
	v := vitalsOf(t, VMInsert, 6*time.Second, page(1, 100), page(1, 106), page(2, 1))
	if v.Insert.Rows.Known() || v.Restarts != 1 || v.LastRestart.IsZero() {
		t.Errorf("after a restart: %v rows a second, %d restarts at %v", v.Insert.Rows, v.Restarts, v.LastRestart)
	}
	v = vitalsOf(t, VMInsert, 6*time.Second, page(1, 100), page(2, 1), page(2, 7))
	if v.Insert.Rows != 100 || v.CPU.Used != 1 || v.Window != 6 || v.Restarts != 1 {
		t.Errorf("after a restart: %v rows a second, %v cores over %v, %d restarts", v.Insert.Rows, v.CPU.Used, v.Window, v.Restarts)
	}
	v = vitalsOf(t, VMInsert, 6*time.Second, page(1, 100), strings.Replace(page(1, 106), "10600", "9", 1))
	if v.Insert.Rows.Known() || v.CPU.Used != 1 {
		t.Errorf("with a counter that shrank: %v rows a second, %v cores", v.Insert.Rows, v.CPU.Used)
	}
}

func TestRestartsAreForgotten(t *testing.T) {
	rec := newRecord(Endpoint{Base: &url.URL{}}, VMInsert)
	now := time.Now()
	for i := range 2 * keepRestarts {
		now = now.Add(time.Second)
		rec.good(&Reading{Start: fmt.Sprint(i), Ended: now}, time.Minute)
	}
	if v := rec.vitals(now, everySecond); v.Restarts != keepRestarts || !v.LastRestart.Equal(now) {
		t.Errorf("%d restarts, the last one %v ago", v.Restarts, now.Sub(v.LastRestart))
	}
	if v := rec.vitals(now.Add(RestartMemory), everySecond); v.Restarts != 0 {
		t.Errorf("%d restarts after they are to be forgotten", v.Restarts)
	}
}

func TestRatesAreOverTheLastSeconds(t *testing.T) {
	rec := newRecord(Endpoint{Base: &url.URL{}}, VMInsert)
	now := time.Now()
	rows := 0
	for i := range 300 {
		now = now.Add(time.Second)
		if i >= 200 {
			rows += 50
		}
		r := readPage(t, fmt.Sprintf("process_start_time_seconds 1\nvm_rows_inserted_total %d\nvm_rpc_rows_sent_total{addr=\"s\"} 1\n", rows))
		r.Ended = now
		rec.good(r, time.Minute)
		if len(rec.past) > 6 {
			t.Fatalf("%d readings are kept", len(rec.past))
		}
		v := rec.vitals(now, everySecond)
		if i >= 30 && (v.Window < 15 || v.Window > 21) {
			t.Fatalf("after %d s the window is %v", i, v.Window)
		}
		if i == 199 && v.Insert.Rows != 0 || i >= 221 && v.Insert.Rows != 50 {
			t.Fatalf("after %d s: %v rows a second", i, v.Insert.Rows)
		}
	}
}

func TestFiguresThatAreTooOldAreNotShown(t *testing.T) {
	rec := newRecord(Endpoint{Base: &url.URL{}}, VMInsert)
	now := time.Now()
	for i := range 3 {
		r := readPage(t, fmt.Sprintf(newInsertPage, 10*i))
		r.Ended = now.Add(time.Duration(i) * 6 * time.Second)
		rec.good(r, time.Minute)
	}
	now = now.Add(12 * time.Second)
	failed := now.Add(time.Second)
	rec.failed(failed, fmt.Errorf("%w: %s", ErrNoAnswer, strings.Repeat("ä", maxErrorText)))
	rec.failed(failed.Add(time.Second), fmt.Errorf("%w: x", ErrNoAnswer))
	v := rec.vitals(now.Add(StaleAfter), everySecond)
	if !v.CPU.Used.Known() || v.Health != HealthMute || !v.Since.Equal(failed) || v.Age != 60 || v.FailedPolls != 2 || !v.FailingSince.Equal(failed) {
		t.Errorf("got %+v", v)
	}
	v = rec.vitals(now.Add(StaleAfter+3*time.Second), everySecond)
	if v.CPU.Used.Known() || len(v.Insert.Ways) > 0 || v.Version.Text == "" || v.Age != 63 {
		t.Errorf("old figures are shown: %+v", v)
	}
	storage := newRecord(Endpoint{Base: &url.URL{}}, VMStorage)
	page := readPage(t, "process_start_time_seconds 1\nflag{name=\"inmemoryDataFlushInterval\", value=\"5s\"} 1\nflag{name=\"vminsertAddr\", value=\":8411\"} 1\n")
	page.Ended = now
	storage.good(page, time.Minute)
	if v := storage.vitals(now.Add(time.Hour), everySecond); v.Storage.Port != "8411" {
		t.Errorf("an hour later it is not known any more which storage it is: %+v", v.Storage)
	}
	for want, err := range map[Health]error{
		HealthUnreachable: errors.New("connection refused"), HealthBusy: ErrBusy, HealthUnusable: ErrUnusable, HealthMute: ErrNoAnswer,
	} {
		rec.failed(now, fmt.Errorf("read: %w", err))
		if v := rec.vitals(now, everySecond); v.Health != want || v.Error == "" || len(v.Error) > maxErrorText {
			t.Errorf("%v: health %s, error %q", err, v.Health, v.Error)
		}
	}
}

func TestHostileReasonsStayFew(t *testing.T) {
	page := func(n int) string {
		var b strings.Builder
		b.WriteString("process_start_time_seconds 1\nflag{name=\"inmemoryDataFlushInterval\", value=\"5s\"} 1\n")
		for i := range 1000 {
			fmt.Fprintf(&b, "vm_rows_ignored_total{reason=\"%04d%s\"} %d\n", i, strings.Repeat("x", 2*maxReason), n)
		}
		return b.String()
	}
	v := vitalsOf(t, VMStorage, 10*time.Second, page(0), page(10))
	if len(v.Ignored) != MaxReasons+1 || len(v.Ignored[0].Reason) != maxReason || v.Storage.Dropped != 1000 {
		t.Fatalf("%d reasons, dropped %v", len(v.Ignored), v.Storage.Dropped)
	}
	if last := v.Ignored[MaxReasons]; last.Reason != OtherReasons || last.Rows != 1000-MaxReasons {
		t.Errorf("others: %+v", last)
	}
}

func TestLimitsOfSeriesCountOnce(t *testing.T) {
	page := func(n int) string {
		return fmt.Sprintf(`process_start_time_seconds 1
flag{name="inmemoryDataFlushInterval", value="5s"} 1
vm_rows_received_by_storage_total %d
vm_rows_ignored_total{reason="hourly_limit_exceeded"} %[1]d
vm_hourly_series_limit_rows_dropped_total %[1]d
vm_free_disk_space_bytes{path="a"} %d
vm_free_disk_space_limit_bytes{path="a"} 400
`, n, 1000-n)
	}
	v := vitalsOf(t, VMStorage, 10*time.Second, page(0), page(500))
	if v.Storage.Dropped != 50 || v.Storage.HourlyLimit != 50 || len(v.Ignored) != 0 || v.Storage.Rows != 50 {
		t.Errorf("got %+v, ignored %+v", v.Storage, v.Ignored)
	}
	if v.Storage.FullIn != 2 {
		t.Errorf("full in %v s, want 2", v.Storage.FullIn)
	}
}

// insertSeeing are the vitals of a vminsert with such ways.
func insertSeeing(server string, ways ...Way) Vitals {
	return Vitals{Server: server, Kind: VMInsert, Insert: &InsertVitals{Ways: ways}}
}

func storageAt(addr, port string) Vitals {
	ep := Endpoint{Base: &url.URL{Scheme: "http", Host: addr}, Addr: addr}
	return Vitals{Server: ep.String(), Kind: VMStorage, Endpoint: ep, Storage: &StorageVitals{Port: port}}
}

func TestStoragesAreSeenThroughAllVMInserts(t *testing.T) {
	way := func(storage string, reachable bool, share Figure) Way {
		w := unknownWay(storage)
		w.Reachable, w.SendShare, w.PendingBytes = reachable, share, 10
		return w
	}
	views := Storages([]Vitals{
		insertSeeing("i1", way("10.0.0.1:8400", true, 0.5), way("10.0.0.1:8401", true, Unknown())),
		insertSeeing("i2", way("10.0.0.1:8400", false, 0.9), way("s3", true, 0.1)),
		insertSeeing("i3", way("10.0.0.1:8400", true, Unknown())),
		storageAt("10.0.0.1:8482", "8400"), storageAt("10.0.0.1:8483", "8401"), storageAt("s3:8482", ""), storageAt("10.0.0.9:8482", "8400"),
	})
	var names []string
	for _, v := range views {
		names = append(names, v.Storage+" is "+v.Server)
	}
	want := []string{"10.0.0.1:8400 is 10.0.0.1:8482", "10.0.0.1:8401 is 10.0.0.1:8483", "10.0.0.9:8482 is 10.0.0.9:8482", "s3 is s3:8482"}
	if !slices.Equal(names, want) {
		t.Fatalf("got %q, want %q", names, want)
	}
	first := views[0]
	if first.Seen != 3 || first.Unreachable != 1 || !slices.Equal(first.UnreachableFrom, []string{"i2"}) || first.Sum.SendShare != 0.9 ||
		first.WorstFrom != "i2" || !near(first.MeanSendShare, 0.7) || first.Sum.PendingBytes != 30 || !first.Sum.Reachable {
		t.Errorf("got %+v", first)
	}
	if views[1].MeanSendShare.Known() || views[2].Seen != 0 || views[2].Own == nil {
		t.Errorf("got %+v and %+v", views[1], views[2])
	}
}

func TestVMStorageThatMightBeTwoIsNeither(t *testing.T) {
	views := Storages([]Vitals{insertSeeing("i", unknownWay("10.0.0.1:8400")), storageAt("10.0.0.1:1", "8400"), storageAt("10.0.0.1:2", "8400")})
	if len(views) != 3 || views[0].Storage != "10.0.0.1:1" && views[0].Own != nil {
		t.Errorf("got %+v", views)
	}
	for _, v := range views {
		if v.Storage == "10.0.0.1:8400" && v.Own != nil {
			t.Errorf("taken for %s", v.Server)
		}
	}
}

func TestFiguresGoThroughJSON(t *testing.T) {
	for text, f := range map[string]Figure{"null": Unknown(), "0.5": 0.5, "12": 12} {
		out, err := json.Marshal(f)
		if err != nil || string(out) != text {
			t.Errorf("%v becomes %s, %v", f, out, err)
		}
		var back Figure
		if err := json.Unmarshal(out, &back); err != nil || back != f && f.Known() || back.Known() != f.Known() {
			t.Errorf("%s becomes %v, %v", out, back, err)
		}
	}
	if Unknown().Or(3) != 3 || Figure(2).Or(3) != 2 || Unknown() > 0 || Unknown() < 0 {
		t.Error("what is unknown compares")
	}
}

func TestWatchShowsVitalsAsMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServers()
		reg := prometheus.NewPedanticRegistry()
		w := NewWatch(WatchConfig{Pollers: 1, Read: s.read}, NewResolver(nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry()), nil,
			slog.New(slog.DiscardHandler), reg)
		w.SetNodes([]Endpoint{{Base: &url.URL{Scheme: "http", Host: "10.0.0.1:8480"}, Addr: "10.0.0.1:8480"}})
		if v := w.Vitals(); len(v) != 1 || v[0].Health != HealthUnpolled {
			t.Errorf("before the first poll: %+v", v)
		}
		w.nodes["10.0.0.1:8480"].good(at(readPage(t, fmt.Sprintf(newInsertPage, 0))), time.Minute)
		time.Sleep(10 * time.Second)
		w.nodes["10.0.0.1:8480"].good(at(readPage(t, fmt.Sprintf(newInsertPage, 20))), time.Minute)
		err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ingestgw_downstream_cpu_cores_used Cores that this server uses.
# TYPE ingestgw_downstream_cpu_cores_used gauge
ingestgw_downstream_cpu_cores_used{kind="vminsert",server="10.0.0.1:8480"} 2
# HELP ingestgw_downstream_send_share_max Part of the time that this vminsert spends on sending to the vmstorage that keeps it busiest. Near 1 that one limits.
# TYPE ingestgw_downstream_send_share_max gauge
ingestgw_downstream_send_share_max{kind="vminsert",server="10.0.0.1:8480"} 1
`), "ingestgw_downstream_cpu_cores_used", "ingestgw_downstream_send_share_max", "ingestgw_downstream_free_disk_bytes", "ingestgw_downstream_io_waiting")
		if err != nil {
			t.Error(err)
		}
	})
}

func at(r *Reading) *Reading {
	r.Begun, r.Ended = time.Now(), time.Now()
	return r
}

// FuzzVitals makes vitals of two pages of one process, whatever is on them.
func FuzzVitals(f *testing.F) {
	f.Add("process_start_time_seconds 1\nprocess_cpu_seconds_total 1\n", "process_start_time_seconds 1\nprocess_cpu_seconds_total 3e308\n")
	f.Add(fmt.Sprintf(newInsertPage, 1), fmt.Sprintf(newInsertPage, 1000))
	f.Add("process_start_time_seconds 1\nvm_rows_ignored_total{reason=\"\"} -Inf\ngo_memstats_next_gc_bytes -1\n",
		"process_start_time_seconds 1\nvm_rows_ignored_total{reason=\"a\"} NaN\ngo_memstats_next_gc_bytes 0\nvm_rpc_rows_sent_total{addr=\"\"} 1\n")
	f.Fuzz(func(t *testing.T, first, second string) {
		before, err := newReader().read(strings.NewReader(first))
		if err != nil {
			return
		}
		after, err := newReader().read(strings.NewReader(second))
		if err != nil {
			return
		}
		for _, kind := range []Kind{VMInsert, VMStorage} {
			rec := newRecord(Endpoint{Base: &url.URL{}}, kind)
			now := time.Now()
			before.Ended, after.Ended = now, now.Add(6*time.Second)
			rec.good(before, time.Minute)
			rec.good(after, time.Minute)
			v := rec.vitals(after.Ended, everySecond)
			if _, err := json.Marshal(v); err != nil {
				t.Fatal(err)
			}
			if len(v.Ignored) > MaxReasons+1 || v.CPU.GCShare > 1 || v.Pressure.IOWaiting > 1 {
				t.Fatalf("%d reasons, GC share %v, waiting for the disk %v", len(v.Ignored), v.CPU.GCShare, v.Pressure.IOWaiting)
			}
			Storages([]Vitals{v, v})
		}
	})
}

func BenchmarkVitalsOf100VMInsertsWith60Storages(b *testing.B) {
	w := NewWatch(WatchConfig{Pollers: 1}, nil, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var page strings.Builder
	fmt.Fprintf(&page, newInsertPage, 5)
	for i := range 60 {
		fmt.Fprintf(&page, "vm_rpc_rows_sent_total{addr=\"storage-%d:8400\"} 1\n", i)
	}
	for i := range 100 {
		rec := newRecord(Endpoint{Base: &url.URL{Host: fmt.Sprint(i)}, Addr: fmt.Sprint(i)}, VMInsert)
		for n := range 4 {
			r, err := newReader().read(strings.NewReader(page.String()))
			if err != nil {
				b.Fatal(err)
			}
			r.Ended = time.Now().Add(time.Duration(n-4) * 6 * time.Second)
			rec.good(r, time.Minute)
		}
		w.nodes[fmt.Sprint(i)] = rec
	}
	b.ReportAllocs()
	for b.Loop() {
		Storages(w.Vitals())
	}
}
