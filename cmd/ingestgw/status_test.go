package main

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/status"

	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
)

// runStatus is ingestgw status with its arguments.
func runStatus(args ...string) (code int, stdout, stderr string) {
	var out, complaints bytes.Buffer
	code = run(append([]string{"status"}, args...), &out, &complaints)
	return code, out.String(), complaints.String()
}

func TestStatusShowsTheProcessThatRunsOverTCPAndTheSocket(t *testing.T) {
	sink := startSink(t)
	dir, err := os.MkdirTemp("", "gw") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin")
	c := startChild(t, "FORWARD_URLS="+sink.URL, "ADMIN_SOCKET="+socket)
	for _, where := range [][]string{{"-url", c.admin}, {"-url", c.admin + "/"}, {"-socket", socket}} {
		eventually(t, 10*time.Second, func() error {
			code, out, complaints := runStatus(where...)
			if code != exitOK || !strings.HasPrefix(out, "WELL: All is well\n") || !strings.Contains(out, "main/0") {
				return errors.New(out + complaints)
			}
			return nil
		})
	}
	t.Setenv("INGESTGW_ADMIN_LISTEN", strings.TrimPrefix(c.admin, "http://"))
	if code, out, complaints := runStatus(); code != exitOK || !strings.HasPrefix(out, "WELL") || strings.Contains(out, "\x1b") {
		t.Errorf("where the settings say: exit %d\n%s%s", code, out, complaints)
	}
	t.Setenv("INGESTGW_ADMIN_SOCKET", socket)
	code, out, complaints := runStatus("-json")
	var st status.Status
	if err := json.Unmarshal([]byte(out), &st); code != exitOK || err != nil || !st.Healthy || len(st.Nodes) != 1 {
		t.Errorf("as JSON: exit %d, %v\n%s%s", code, err, out, complaints)
	}
}

func TestStatusSaysWhenSomethingIsWrongByItsExit(t *testing.T) {
	answer := func(code int, text string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"not healthy":     {[]string{"-url", answer(200, `{"verdict": {"state": "trouble", "text": "Data is late"}}`)}, exitFailed, "TROUBLE: Data is late"},
		"another server":  {[]string{"-url", answer(200, "<html>")}, exitFailed, "something else than a status"},
		"an error":        {[]string{"-url", answer(503, "go away")}, exitFailed, "503 Service Unavailable: go away"},
		"nobody":          {[]string{"-socket", filepath.Join(t.TempDir(), "none")}, exitFailed, "-url and -socket name another"},
		"both":            {[]string{"-socket", "a", "-url", "b"}, exitUsage, "want one of them"},
		"a word too many": {[]string{"now"}, exitUsage, `unknown argument "now"`},
		"no such flag":    {[]string{"-x"}, exitUsage, "not defined"},
		"help":            {[]string{"-h"}, exitOK, "-watch"},
	} {
		code, out, complaints := runStatus(c.args...)
		if code != c.code || !strings.Contains(out+complaints, c.want) {
			t.Errorf("%s: exit %d\n%s%s", name, code, out, complaints)
		}
	}
}

func TestStatusAsksThisMachineAtThePortOfTheListener(t *testing.T) {
	for listen, want := range map[string]string{
		":8482": "http://127.0.0.1:8482", "0.0.0.0:9": "http://127.0.0.1:9", "[::]:9": "http://127.0.0.1:9", "10.0.0.5:9": "http://10.0.0.5:9",
		"[fd00::1]:9": "http://[fd00::1]:9", "": "http://127.0.0.1:8482", "127.0.0.1:0": "http://127.0.0.1:8482",
	} {
		if got := localURL(listen); got != want {
			t.Errorf("%q: %s, want %s", listen, got, want)
		}
	}
}

// seldom are metrics that are not there before something has happened.
var seldom = []string{"ingestgw_canary_age_seconds", "ingestgw_forward_lost_blocks_total", "ingestgw_kafka_topic_unsafe", "ingestgw_kafka_unowned_partitions", "ingestgw_kafka_group_members"}

// metricsGoneBy lists the metrics that the page and alarms go by, apart from those that are seldom there: those of Kafka, or the others.
func metricsGoneBy(t *testing.T, ofKafka bool) []string {
	t.Helper()
	const file = "../../internal/gathered/names.go"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, found := range regexp.MustCompile(`"((?:ingestgw|process)_[a-z_]+)"`).FindAllSubmatch(source, -1) {
		if name := string(found[1]); strings.HasPrefix(name, "ingestgw_kafka_") == ofKafka && !slices.Contains(seldom, name) {
			names = append(names, name)
		}
	}
	if len(names) < 5 {
		t.Fatalf("%s names %d metrics", file, len(names))
	}
	return names
}

// wantMetrics waits until a process shows all of them.
func wantMetrics(t *testing.T, admin string, names []string) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		metrics := textOf(admin + "/metrics")
		var missing []string
		for _, name := range names {
			if !strings.Contains(metrics, "\n# TYPE "+name+" ") {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			return errors.New("not in /metrics: " + strings.Join(missing, ", "))
		}
		return nil
	})
}

func TestEveryMetricThatThePageAndAlarmsGoByIsThere(t *testing.T) {
	ours := credentialstest.NewAuthority(t, "ours")
	cert, key := ours.Issue(t, pkix.Name{CommonName: "gateway"})
	c := startChild(t, "FORWARD_URLS="+startSink(t).URL, "VMSELECT_URLS=http://127.0.0.1:1", "TENANT_MODE=directory", "TENANT_DIRECTORY_URL=http://127.0.0.1:1",
		"TENANT_JWT_JWKS_URL=http://127.0.0.1:1", "TENANT_FILE="+tableFile(t, "tenants:\n"+listed("5:0", "other")),
		"INGEST_TLS_CERT_FILE="+cert, "INGEST_TLS_KEY_FILE="+key)
	wantMetrics(t, c.admin, metricsGoneBy(t, false))
}
