package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"golang.org/x/sys/unix"
)

// A fakeCluster is a vminsert, a vmstorage and a vmselect as far as a check can see.
type fakeCluster struct {
	insert, storage, vmselect *httptest.Server

	mu          sync.Mutex
	insertFlags map[string]string
	storeFlags  map[string]string
	selectFlags map[string]string
	writeStatus int
	multitenant int // what the URL for many tenants answers; 0: there is none
	copies      int // of what is written that can be read
	morePaths   string
	processes   int    // that take turns at vminsert's address
	turn        int    // of them
	written     []byte // the last message
	exported    string // the last query
}

func startFakeCluster(t *testing.T) *fakeCluster {
	t.Helper()
	f := &fakeCluster{
		insertFlags: map[string]string{"maxInsertRequestSize": "33554432", "maxLabelsPerTimeseries": "40", "dropSamplesOnOverload": "false"},
		storeFlags:  map[string]string{"inmemoryDataFlushInterval": "5s", "retentionPeriod": "13", "dedup.minScrapeInterval": "1ms"},
		selectFlags: map[string]string{"dedup.minScrapeInterval": "1ms"},
		writeStatus: http.StatusNoContent,
		multitenant: http.StatusNoContent,
		copies:      1,
	}
	f.insert = fakeServer(t, func(w http.ResponseWriter, r *http.Request) { f.answerInsert(w, r) })
	f.storage = fakeServer(t, func(w http.ResponseWriter, _ *http.Request) { f.page(w, f.storeFlags, "") })
	f.vmselect = fakeServer(t, func(w http.ResponseWriter, r *http.Request) { f.answerSelect(w, r) })
	t.Setenv("INGESTGW_BUFFER_DIR", t.TempDir())
	t.Setenv("INGESTGW_INGEST_LISTEN", "127.0.0.1:0")
	t.Setenv("INGESTGW_ADMIN_LISTEN", "127.0.0.1:0") // no ingestgw answers there
	t.Setenv("INGESTGW_FORWARD_URLS", f.insert.URL)
	t.Setenv("INGESTGW_FORWARD_STORAGE_URLS", f.storage.URL)
	t.Setenv("INGESTGW_VMSELECT_URLS", f.vmselect.URL)
	return f
}

func fakeServer(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func (f *fakeCluster) answerInsert(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		f.page(w, f.insertFlags, "vm_rpc_rows_sent_total{name=\"vminsert\",addr=\"127.0.0.9:8400\"} 0\n"+
			"vm_rpc_vmstorage_is_reachable{name=\"vminsert\",addr=\"127.0.0.9:8400\"} 1\n"+f.morePaths)
		return
	}
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.URL.Path == "/insert/multitenant/prometheus/api/v1/write" && f.multitenant != 0 {
		w.WriteHeader(f.multitenant)
		return
	}
	if r.URL.Path != "/insert/0:0/prometheus/api/v1/write" {
		http.Error(w, "unsupported path "+r.URL.Path, http.StatusBadRequest)
		return
	}
	if len(body) > 0 {
		f.written, _ = snappy.Decode(nil, body)
	}
	w.WriteHeader(f.writeStatus)
}

func (f *fakeCluster) answerSelect(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		f.page(w, f.selectFlags, "")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exported = r.URL.Path + "?" + r.URL.RawQuery
	if f.written == nil || r.URL.Path != "/select/0:0/prometheus/api/v1/export" {
		return
	}
	values := strings.TrimSuffix(strings.Repeat("1,", f.copies), ",")
	fmt.Fprintf(w, `{"metric":{"__name__":"ingestgw_check"},"values":[%s],"timestamps":[%s]}`+"\n", values, values)
}

// page is metrics as the servers of VictoriaMetrics show them.
func (f *fakeCluster) page(w io.Writer, flags map[string]string, more string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, value := range flags {
		fmt.Fprintf(w, "flag{name=%q,value=%q,is_set=\"true\"} 1\n", name, value)
	}
	fmt.Fprint(w, more)
	start := 1_700_000_000
	if more != "" && f.processes > 1 {
		f.turn = (f.turn + 1) % f.processes
		start += f.turn
	}
	fmt.Fprintf(w, "vm_app_version{version=\"fake-1\", short_version=\"\"} 1\nprocess_start_time_seconds %d\n", start)
}

// runCheck returns what ingestgw check prints and exits with.
func runCheck(t *testing.T) (string, int) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run([]string{"check"}, &out, &errs)
	if errs.Len() > 0 {
		t.Errorf("check complains: %s", errs.String())
	}
	return out.String(), code
}

// wantLine fails unless some line begins with the verdict and has all the parts.
func wantLine(t *testing.T, out, verdict string, parts ...string) {
	t.Helper()
	for line := range strings.Lines(out) {
		found := strings.HasPrefix(line, verdict)
		for _, part := range parts {
			found = found && strings.Contains(line, part)
		}
		if found {
			return
		}
	}
	t.Errorf("no line says %s with %q:\n%s", verdict, parts, out)
}

func TestCheckOfAHealthyClusterIsAllOK(t *testing.T) {
	f := startFakeCluster(t)
	out, code := runCheck(t)
	if code != 0 || strings.Contains(out, "FAIL") || strings.Contains(out, "warn") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantLine(t, out, "ok", "settings")
	wantLine(t, out, "ok", "memory", "GOGC")
	wantLine(t, out, "ok", "buffer", "writable")
	wantLine(t, out, "ok", "vminsert", "fake-1", "reaches all of its 1 storages")
	wantLine(t, out, "ok", "write to", "/insert/0:0/prometheus/api/v1/write", "204")
	wantLine(t, out, "ok", "vminsert", "40 labels (-maxLabelsPerTimeseries)")
	wantLine(t, out, "ok", "write for many tenants", "/insert/multitenant/", "204")
	wantLine(t, out, "ok", "tenants", "INGESTGW_TENANT_MODE=path", "every tenant")
	wantLine(t, out, "ok", "vmstorage", "13 months")
	wantLine(t, out, "ok", "vmstorage", "in memory for 5s")
	wantLine(t, out, "ok", "INGESTGW_INGEST_LISTEN", "free")
	wantLine(t, out, "ok", "alarms", "nobody is told")
	wantLine(t, out, "0 failed, 0 to look at")
	wantLine(t, out, "ok", "vmstorage", "deduplicates", "1ms")
	wantLine(t, out, "ok", "vmselect", "deduplicates")
	wantLine(t, out, "ok", "sample straight to", "no ingestgw runs here", "written")
	wantLine(t, out, "ok", "sample straight to", "seen at vmselect")
	if !bytes.Contains(f.written, []byte("ingestgw_check")) || !strings.Contains(f.exported, "ingestgw_check") {
		t.Errorf("written %q, asked for %q", f.written, f.exported)
	}
}

func TestCheckFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		scene   func(*testing.T, *fakeCluster)
		verdict string
		parts   []string
	}{
		"drops on overload": {
			func(_ *testing.T, f *fakeCluster) { f.insertFlags["dropSamplesOnOverload"] = "true" },
			"FAIL", []string{"vminsert", "-dropSamplesOnOverload"},
		},
		"takes less than we do": {
			func(_ *testing.T, f *fakeCluster) { f.insertFlags["maxInsertRequestSize"] = "16MB" },
			"FAIL", []string{"vminsert", "-maxInsertRequestSize=16MB", "INGESTGW_INGEST_MAX_DECODED=32MiB"},
		},
		"an Alertmanager that is none": {
			func(t *testing.T, f *fakeCluster) {
				t.Setenv("INGESTGW_ALARM_ALERTMANAGER_URLS", "http://127.0.0.1:1,http://user:hidden@"+strings.TrimPrefix(f.storage.URL, "http://"))
			},
			"FAIL", []string{"alarms", "127.0.0.1:1", "INGESTGW_ALARM_ALERTMANAGER_URLS", "refused"},
		},
		"an Alertmanager that does not answer": {
			func(t *testing.T, _ *fakeCluster) {
				hangs := fakeServer(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() })
				t.Setenv("INGESTGW_ALARM_ALERTMANAGER_URLS", hangs.URL)
				t.Setenv("INGESTGW_ALARM_TIMEOUT", "50ms")
			},
			"FAIL", []string{"alarms", "no answer within INGESTGW_ALARM_TIMEOUT=50ms"},
		},
		"few labels": {
			func(_ *testing.T, f *fakeCluster) { f.insertFlags["maxLabelsPerTimeseries"] = "39" },
			"warn", []string{"vminsert", "39 labels (-maxLabelsPerTimeseries)", "INGESTGW_INGEST_MAX_LABELS=40", "answers 2xx"},
		},
		"too few labels for packing": {
			func(_ *testing.T, f *fakeCluster) { f.insertFlags["maxLabelsPerTimeseries"] = "29" },
			"warn", []string{"vminsert", "29 labels (-maxLabelsPerTimeseries)", "INGESTGW_FORWARD_MAX_LABELS=30", "answers 2xx"},
		},
		"short label names": {
			func(_ *testing.T, f *fakeCluster) { f.insertFlags["maxLabelNameLen"] = "64" },
			"warn", []string{"vminsert", "names of 64 bytes (-maxLabelNameLen)", "INGESTGW_INGEST_MAX_LABEL_NAME=256"},
		},
		"short label values": {
			func(_ *testing.T, f *fakeCluster) { f.insertFlags["maxLabelValueLen"] = "1024" },
			"warn", []string{"vminsert", "values of 1024 bytes (-maxLabelValueLen)", "INGESTGW_INGEST_MAX_LABEL_VALUE=4096"},
		},
		"no URL for many tenants": {
			func(_ *testing.T, f *fakeCluster) { f.multitenant = 0 },
			"warn", []string{"write for many tenants", "400", "INGESTGW_FORWARD_PACK=false"},
		},
		"tenants without a file": {
			func(t *testing.T, _ *fakeCluster) {
				t.Setenv("INGESTGW_TENANT_MODE", "file")
				t.Setenv("INGESTGW_TENANT_FILE", "/nowhere/tenants.yaml")
			},
			"FAIL", []string{"tenants", "INGESTGW_TENANT_FILE", "/nowhere/tenants.yaml"},
		},
		"a directory that is away": {
			func(t *testing.T, _ *fakeCluster) {
				t.Setenv("INGESTGW_TENANT_MODE", "directory")
				t.Setenv("INGESTGW_TENANT_DIRECTORY_URL", "http://127.0.0.1:1/lookup")
			},
			"FAIL", []string{"directory http://127.0.0.1:1/lookup"},
		},
		"a folder of the cache file that is missing": {
			func(t *testing.T, _ *fakeCluster) {
				t.Setenv("INGESTGW_TENANT_MODE", "directory")
				t.Setenv("INGESTGW_TENANT_DIRECTORY_URL", "http://127.0.0.1:1/lookup")
				t.Setenv("INGESTGW_TENANT_DIRECTORY_CACHE_FILE", "/nowhere/answers")
			},
			"FAIL", []string{"INGESTGW_TENANT_DIRECTORY_CACHE_FILE=/nowhere/answers", "the folder has to be there"},
		},
		"a directory that knows everybody": {
			func(t *testing.T, _ *fakeCluster) {
				everybody := fakeServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"tenants":["1:2"]}`) })
				t.Setenv("INGESTGW_TENANT_MODE", "directory")
				t.Setenv("INGESTGW_TENANT_DIRECTORY_URL", everybody.URL)
			},
			"FAIL", []string{"directory", "everybody would be let in"},
		},
		"keys that cannot be had": {
			func(t *testing.T, _ *fakeCluster) {
				path := filepath.Join(t.TempDir(), "tenants.yaml")
				if err := os.WriteFile(path, []byte("tenants: []\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv("INGESTGW_TENANT_MODE", "file")
				t.Setenv("INGESTGW_TENANT_FILE", path)
				t.Setenv("INGESTGW_TENANT_JWT_JWKS_URL", "http://127.0.0.1:1/keys")
			},
			"FAIL", []string{"keys of JSON Web Tokens", "INGESTGW_TENANT_JWT_JWKS_URL"},
		},
		"storage does not deduplicate": {
			func(_ *testing.T, f *fakeCluster) { f.storeFlags["dedup.minScrapeInterval"] = "0s" },
			"FAIL", []string{"vmstorage", "-dedup.minScrapeInterval=1ms"},
		},
		"vmselect does not deduplicate": {
			func(_ *testing.T, f *fakeCluster) { delete(f.selectFlags, "dedup.minScrapeInterval") },
			"FAIL", []string{"vmselect", "-dedup.minScrapeInterval=1ms"},
		},
		"sample comes twice": {
			func(_ *testing.T, f *fakeCluster) { f.copies = 2 },
			"warn", []string{"sample", "seen 2 times"},
		},
		"wrong path": {
			func(t *testing.T, f *fakeCluster) { t.Setenv("INGESTGW_FORWARD_URLS", f.insert.URL+"/wrong") },
			"FAIL", []string{"write to", "/wrong", "400", "INGESTGW_FORWARD_URLS"},
		},
		"credentials missing": {
			func(_ *testing.T, f *fakeCluster) { f.writeStatus = http.StatusUnauthorized },
			"FAIL", []string{"write to", "401", "INGESTGW_FORWARD_BASIC_AUTH_USER"},
		},
		"vminsert refuses": {
			func(_ *testing.T, f *fakeCluster) { f.writeStatus = http.StatusServiceUnavailable },
			"FAIL", []string{"write to", "503"},
		},
		"vminsert is away": {
			func(_ *testing.T, f *fakeCluster) { f.insert.Close() },
			"FAIL", []string{"vminsert", "refused"},
		},
		"name does not resolve": {
			func(t *testing.T, f *fakeCluster) {
				t.Setenv("INGESTGW_FORWARD_URLS", f.insert.URL+",http://vminsert.invalid:8480")
			},
			"FAIL", []string{"INGESTGW_FORWARD_URLS", "vminsert.invalid"},
		},
		"vmstorage is away": {
			func(_ *testing.T, f *fakeCluster) { f.storage.Close() },
			"FAIL", []string{"vmstorage", "refused"},
		},
		"not all vmstorages are listed": {
			func(_ *testing.T, f *fakeCluster) {
				f.morePaths = "vm_rpc_vmstorage_is_reachable{name=\"vminsert\",addr=\"127.0.0.8:8400\"} 1\n"
			},
			"FAIL", []string{"vminsert", "reaches 2 storages", "only 1", "INGESTGW_FORWARD_STORAGE_URLS"},
		},
		"several processes at one address": {
			func(_ *testing.T, f *fakeCluster) { f.processes = 2 },
			"FAIL", []string{"vminsert", "several processes", "INGESTGW_FORWARD_URLS"},
		},
		"short retention": {
			func(_ *testing.T, f *fakeCluster) { f.storeFlags["retentionPeriod"] = "1d" },
			"warn", []string{"vmstorage", "only 1d", "-retentionPeriod", "4 days"},
		},
		"long flush interval": {
			func(_ *testing.T, f *fakeCluster) { f.storeFlags["inmemoryDataFlushInterval"] = "30s" },
			"warn", []string{"vmstorage", "-inmemoryDataFlushInterval", "1m10s", "INGESTGW_FORWARD_SETTLE=30s"},
		},
		"listen address is taken": {
			func(t *testing.T, f *fakeCluster) {
				t.Setenv("INGESTGW_INGEST_LISTEN", strings.TrimPrefix(f.insert.URL, "http://"))
			},
			"FAIL", []string{"INGESTGW_INGEST_LISTEN", "in use"},
		},
		"both listeners at one address": {
			func(t *testing.T, _ *fakeCluster) {
				t.Setenv("INGESTGW_INGEST_LISTEN", "127.0.0.1:9000")
				t.Setenv("INGESTGW_ADMIN_LISTEN", "127.0.0.1:9000")
			},
			"FAIL", []string{"settings", "INGESTGW_INGEST_LISTEN=127.0.0.1:9000 and INGESTGW_ADMIN_LISTEN=127.0.0.1:9000"},
		},
		"both listeners at one address by two names": {
			func(t *testing.T, _ *fakeCluster) {
				l, err := net.Listen("tcp4", "127.0.0.1:0") // for a port that is free
				if err != nil {
					t.Fatal(err)
				}
				l.Close()
				port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
				t.Setenv("INGESTGW_INGEST_LISTEN", "localhost:"+port)
				t.Setenv("INGESTGW_ADMIN_LISTEN", "127.0.0.1:"+port)
			},
			"FAIL", []string{"INGESTGW_INGEST_LISTEN", "in use"},
		},
		"vmselect is a vminsert": {
			func(t *testing.T, f *fakeCluster) { t.Setenv("INGESTGW_VMSELECT_URLS", f.insert.URL) },
			"FAIL", []string{"vmselect", "INGESTGW_VMSELECT_URLS"},
		},
		"no vmstorage at the usual port": {
			func(t *testing.T, _ *fakeCluster) { t.Setenv("INGESTGW_FORWARD_STORAGE_URLS", "") },
			"FAIL", []string{"vmstorage", "127.0.0.9:8482", "INGESTGW_FORWARD_STORAGE_URLS"},
		},
		"vmselect refuses": {
			func(t *testing.T, _ *fakeCluster) {
				t.Setenv("INGESTGW_VMSELECT_URLS", fakeServer(t, http.NotFound).URL)
			},
			"warn", []string{"vmselect", "404"},
		},
		"buffer is no directory": {
			func(t *testing.T, _ *fakeCluster) {
				file := filepath.Join(t.TempDir(), "file")
				if err := os.WriteFile(file, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv("INGESTGW_BUFFER_DIR", file)
			},
			"FAIL", []string{"buffer", "INGESTGW_BUFFER_DIR", "not a directory"},
		},
		"buffer larger than the disk": {
			func(t *testing.T, _ *fakeCluster) { t.Setenv("INGESTGW_BUFFER_MAX_BYTES", "4000TiB") },
			"warn", []string{"buffer", "INGESTGW_BUFFER_MAX_BYTES=4000TiB"},
		},
		"memory too small": {
			func(t *testing.T, _ *fakeCluster) { t.Setenv("INGESTGW_MEMORY_LIMIT", "250MiB") },
			"warn", []string{"memory", "may take 100MiB", "can take 102MiB", "INGESTGW_MEMORY_LIMIT"},
		},
		"memory without a unit": {
			func(t *testing.T, _ *fakeCluster) { t.Setenv("INGESTGW_MEMORY_LIMIT", "512") },
			"FAIL", []string{"settings", "INGESTGW_MEMORY_LIMIT=512 is 512 bytes", "512MiB"},
		},
		"token file missing": {
			func(t *testing.T, _ *fakeCluster) { t.Setenv("INGESTGW_FORWARD_BEARER_TOKEN_FILE", "/nowhere/token") },
			"FAIL", []string{"credentials", "/nowhere/token"},
		},
		"a setting is wrong": {
			func(t *testing.T, _ *fakeCluster) { t.Setenv("INGESTGW_BUFFER_LINGER", "soon") },
			"FAIL", []string{"settings", "INGESTGW_BUFFER_LINGER"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFakeCluster(t)
			t.Setenv("INGESTGW_VMSELECT_URLS", "") // reading back takes half a minute when it fails
			if strings.Contains(name, "vmselect") || strings.Contains(name, "sample") {
				t.Setenv("INGESTGW_VMSELECT_URLS", f.vmselect.URL)
			}
			c.scene(t, f)
			if name == "vmselect refuses" {
				f.writeStatus = http.StatusTeapot
			}
			out, code := runCheck(t)
			wantLine(t, out, c.verdict, c.parts...)
			if failed := strings.Contains(out, "\nFAIL") || strings.HasPrefix(out, "FAIL"); failed != (code == exitFailed) {
				t.Errorf("exit %d:\n%s", code, out)
			}
			if c.verdict == "FAIL" && code != exitFailed {
				t.Errorf("exit %d after a failure", code)
			}
		})
	}
}

func TestCheckSaysThatAProcessUsesTheBuffer(t *testing.T) {
	startFakeCluster(t)
	t.Setenv("INGESTGW_VMSELECT_URLS", "")
	f, err := os.Create(filepath.Join(os.Getenv("INGESTGW_BUFFER_DIR"), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d", code)
	}
	wantLine(t, out, "ok", "buffer", "in use by a running ingestgw")
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	out, _ = runCheck(t)
	wantLine(t, out, "ok", "buffer", "no process uses it")
}

func TestCheckLeavesNothingBehindInTheBuffer(t *testing.T) {
	startFakeCluster(t)
	t.Setenv("INGESTGW_VMSELECT_URLS", "")
	dir := os.Getenv("INGESTGW_BUFFER_DIR")
	t.Setenv("INGESTGW_BUFFER_DIR", filepath.Join(dir, "not", "yet", "there"))
	out, code := runCheck(t)
	wantLine(t, out, "ok", "buffer", "writable")
	if left, err := os.ReadDir(dir); code != exitOK || err != nil || len(left) > 0 {
		t.Errorf("exit %d, %d entries left, %v", code, len(left), err)
	}
}

func TestCheckWithoutSettlingNeedsNoMetrics(t *testing.T) {
	sink := fakeServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	startFakeCluster(t)
	t.Setenv("INGESTGW_VMSELECT_URLS", "")
	t.Setenv("INGESTGW_FORWARD_STORAGE_URLS", "")
	t.Setenv("INGESTGW_FORWARD_SETTLE", "0s")
	t.Setenv("INGESTGW_FORWARD_URLS", sink.URL)
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d:\n%s", code, out)
	}
	wantLine(t, out, "warn", "vminsert", "404", "INGESTGW_FORWARD_SETTLE=0s")
}

func TestCheckSaysThatAShareOfMemoryHasNoEffectWithoutAContainer(t *testing.T) {
	startFakeCluster(t)
	t.Setenv("INGESTGW_VMSELECT_URLS", "")
	t.Setenv("INGESTGW_MEMORY_LIMIT", "50%")
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d", code)
	}
	if strings.Contains(out, "50% of the container's limit") { // the test runs in a container with a limit
		return
	}
	wantLine(t, out, "warn", "memory", "INGESTGW_MEMORY_LIMIT=50% has no effect")
}

func TestTheProbeIsAValidRequest(t *testing.T) {
	message, err := snappy.Decode(nil, probe{check: "abc", at: time.UnixMilli(1)}.encode())
	want := "\x0a\x37" + // a series of 55 bytes
		"\x0a\x1a" + "\x0a\x08__name__" + "\x12\x0eingestgw_check" +
		"\x0a\x0c" + "\x0a\x05check" + "\x12\x03abc" +
		"\x12\x0b" + "\x09\x00\x00\x00\x00\x00\x00\xf0\x3f" + "\x10\x01" // 1 at 1 ms
	if err != nil || string(message) != want {
		t.Errorf("encoded as %q, want %q, %v", message, want, err)
	}
}

func TestCheckWritesThroughTheIngestgwThatRuns(t *testing.T) {
	f := startFakeCluster(t)
	c := startChild(t, "FORWARD_URLS="+f.insert.URL)
	t.Setenv("INGESTGW_BUFFER_DIR", filepath.Join(c.cmd.Dir, "data"))
	t.Setenv("INGESTGW_INGEST_LISTEN", strings.TrimPrefix(c.ingest, "http://"))
	t.Setenv("INGESTGW_ADMIN_LISTEN", strings.TrimPrefix(c.admin, "http://"))
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d", code)
	}
	wantLine(t, out, "ok", "buffer", "in use by a running ingestgw")
	wantLine(t, out, "ok", "sample through the ingestgw at "+strings.TrimPrefix(c.ingest, "http://"), "written")
	wantLine(t, out, "ok", "sample through the ingestgw at", "seen at vmselect")
	if strings.Contains(out, "straight to") {
		t.Errorf("a sample went past the ingestgw that runs:\n%s", out)
	}
}
