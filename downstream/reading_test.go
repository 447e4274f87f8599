package downstream

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func readPage(t *testing.T, page string) *Reading {
	t.Helper()
	r, err := newReader().read(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func readFile(t *testing.T, name string) *Reading {
	t.Helper()
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return readPage(t, string(page))
}

func TestPageOfRealVMInsertIsUnderstood(t *testing.T) {
	r := readFile(t, "testdata/vminsert-v1.100.0.txt")
	if r.Start != "1795486741" || !r.IsVMInsert() || r.IsVMStorage() || r.CPU <= 0 {
		t.Errorf("start %q, vminsert %v, vmstorage %v, CPU %v", r.Start, r.IsVMInsert(), r.IsVMStorage(), r.CPU)
	}
	up, down := r.Paths[Path{Addr: "127.0.0.1:28400"}], r.Paths[Path{Addr: "127.0.0.1:28409"}]
	if want := (Passage{Received: 1, Sent: 1, SendSeconds: 0.000338382}); up != want {
		t.Errorf("got %+v, want %+v", up, want)
	}
	if want := (Passage{DialErrors: 23, Unreachable: true}); down != want {
		t.Errorf("got %+v, want %+v", down, want)
	}
	if r.Reached() != 1 || len(r.Paths) != 2 {
		t.Errorf("%d of %d storages reached, want 1 of 2", r.Reached(), len(r.Paths))
	}
	for name, want := range map[string]string{"maxInsertRequestSize": "33554432", "dropSamplesOnOverload": "false", "replicationFactor": "1"} {
		if got := r.Flags[name]; got != want {
			t.Errorf("flag %s is %q, want %q", name, got, want)
		}
	}
}

func TestPageOfRealVMStorageIsUnderstood(t *testing.T) {
	r := readFile(t, "testdata/vmstorage-v1.100.0.txt")
	if r.Start != "1795486741" || r.IsVMInsert() || !r.IsVMStorage() || r.FlushInterval() != 5*time.Second {
		t.Errorf("start %q, vminsert %v, vmstorage %v, flush interval %s", r.Start, r.IsVMInsert(), r.IsVMStorage(), r.FlushInterval())
	}
	if r.Flags["dedup.minScrapeInterval"] != "0s" || r.Flags["retentionPeriod"] == "" {
		t.Errorf("flags %v", r.Flags)
	}
}

// Newer versions have a queue per kind of call, each with a sender of its own: what one of them sends says nothing of another.
func TestQueuesOfOneStorageStayApart(t *testing.T) {
	r := readPage(t, `process_start_time_seconds 1795486741
vm_app_version{version="vminsert-20260901-000000-tags-v1.150.0-cluster-0-gabc", short_version="v1.150.0-cluster"} 1
vm_rpc_rows_pushed_total{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} 5
vm_rpc_rows_rerouted_to_here_total{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} 3
vm_rpc_rows_sent_total{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} 4
vm_rpc_rows_pending{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} 2
vm_rpc_vmstorage_is_reachable{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} 1
vm_rpc_vmstorage_is_read_only{name="vminsert", addr="s:8400", rpc_call="writeRows_v1"} 1
vm_rpc_rows_sent_total{name="vminsert", addr="s:8400", rpc_call="writeMetadata_v1"} 9
vm_rpc_connection_errors_total{name="vminsert", addr="s:8400", rpc_call="writeMetadata_v1"} 1
vm_rpc_vmstorage_is_reachable{name="vminsert", addr="s:8400", rpc_call="writeMetadata_v1"} 0
`)
	rows, metadata := r.Paths[Path{"s:8400", "writeRows_v1"}], r.Paths[Path{"s:8400", "writeMetadata_v1"}]
	if want := (Passage{Received: 8, Sent: 4, PendingRows: 2, ReroutedTo: 3, ReadOnly: true}); rows != want || rows.Ready() {
		t.Errorf("got %+v, want %+v", rows, want)
	}
	if want := (Passage{Sent: 9, ConnectionErrors: 1, Unreachable: true}); metadata != want || metadata.Ready() {
		t.Errorf("got %+v, want %+v", metadata, want)
	}
	if r.Reached() != 1 {
		t.Errorf("%d storages reached, want 1", r.Reached())
	}
	if !strings.Contains(r.Version, "v1.150.0-cluster") {
		t.Errorf("version %q", r.Version)
	}
}

func TestStartTimeOfTheAppStandsInForThatOfTheProcess(t *testing.T) {
	if r := readPage(t, "vm_app_start_timestamp 17\n"); r.Start != "17" {
		t.Errorf("start %q", r.Start)
	}
	if r := readPage(t, "vm_app_start_timestamp 17\nprocess_start_time_seconds 16.5\n"); r.Start != "16.5" {
		t.Errorf("start %q", r.Start)
	}
}

func TestHostilePagesAreRefused(t *testing.T) {
	var many strings.Builder
	many.WriteString("process_start_time_seconds 1\n")
	for i := range maxStorages + 1 {
		fmt.Fprintf(&many, "vm_rpc_rows_sent_total{addr=\"%d\"} 1\n", i)
	}
	for name, page := range map[string]string{
		"no start time":    "up 1\n",
		"empty":            "",
		"HTML":             "<!DOCTYPE html>\n<html></html>\n",
		"too many addrs":   many.String(),
		"long address":     "vm_rpc_rows_sent_total{addr=\"" + strings.Repeat("x", maxText+1) + "\"} 1\n",
		"long start time":  "process_start_time_seconds " + strings.Repeat("1", maxText+1) + "\n",
		"number of words":  "process_start_time_seconds 1\nvm_rpc_rows_sent_total{addr=\"a\"} many\n",
		"unclosed labels":  "process_start_time_seconds 1\nflag{name=\"x 1\n",
		"long flag":        "process_start_time_seconds 1\nflag{name=\"retentionPeriod\",value=\"" + strings.Repeat("x", maxText+1) + "\"} 1\n",
		"words in between": "process_start_time_seconds 1\nhello\n",
	} {
		if _, err := newReader().read(strings.NewReader(page)); !errors.Is(err, errNotMetrics) {
			t.Errorf("%s: got %v; want errNotMetrics", name, err)
		}
	}
}

func TestProcessIsTheSameWhileNothingShrinks(t *testing.T) {
	path := Path{Addr: "s"}
	base := func() *Reading {
		return &Reading{Start: "100", CPU: 5, Paths: map[Path]Passage{path: {Received: 10, Sent: 10, ConnectionErrors: 1}}}
	}
	for name, change := range map[string]func(*Reading){
		"another start time": func(r *Reading) { r.Start = "101" },
		"less CPU":           func(r *Reading) { r.CPU = 0.3 },
		"less sent":          func(r *Reading) { r.Paths[path] = Passage{Received: 10, Sent: 9, ConnectionErrors: 1} },
		"less received":      func(r *Reading) { r.Paths[path] = Passage{Received: 9, Sent: 10, ConnectionErrors: 1} },
		"fewer errors":       func(r *Reading) { r.Paths[path] = Passage{Received: 10, Sent: 10} },
		"a storage less":     func(r *Reading) { r.Paths = nil },
	} {
		now := base()
		change(now)
		if now.SameProcess(base()) {
			t.Errorf("%s: taken for the same process", name)
		}
	}
	now := base()
	now.CPU, now.Paths[path] = 5.01, Passage{Received: 11, Sent: 12, ConnectionErrors: 2}
	if !now.SameProcess(base()) {
		t.Error("taken for another process although everything has grown")
	}
}
