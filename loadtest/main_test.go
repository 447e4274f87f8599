package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/internal/stack"
)

func TestSendThenVerify(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers; left out with -short")
	}
	c := stack.StartCluster(t, stack.ClusterSpec{})
	ledger := t.TempDir() + "/ledger"
	var out, errOut bytes.Buffer
	do := func(args ...string) int { return run(t.Context(), args, &out, &errOut) }
	if code := do("send", "-url", c.InsertURLs()[0], "-tenants=3", "-series=50", "-per-request=20", "-rounds=10", "-rate=0", "-ledger", ledger); code != 0 {
		t.Fatal(code, out.String(), errOut.String())
	}
	if code := do("verify", "-url", c.Select.URL(), "-ledger", ledger); code != 0 || !strings.Contains(out.String(), "1500 samples right, 0 missing") {
		t.Fatal(code, out.String(), errOut.String())
	}
	// The same numbers were never sent under this name.
	text, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(`"Metric":"loadtest_`), []byte(`"Metric":"nobody_`))
	if err := os.WriteFile(ledger, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := do("verify", "-url", c.Select.URL(), "-ledger", ledger, "-patience=0"); code != 1 || !strings.Contains(out.String(), "1500 missing") {
		t.Fatal(code, out.String(), errOut.String())
	}
}

func TestSinkCounts(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	lines, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- sink(ctx, nil, out); out.Close() }()
	var url string
	if _, err := fmt.Fscanf(lines, "listening at %s", &url); err != nil {
		t.Fatal(err)
	}
	url = strings.TrimSuffix(url, ";")
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	for range 3 {
		resp, err := http.Post(url+"/insert/1:0/prometheus/api/v1/write", "", strings.NewReader("12345"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNoContent {
			t.Error(resp.Status)
		}
	}
	resp, err := http.Get(url + "/counted")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if counted, _ := io.ReadAll(resp.Body); string(counted) != "3 15\n" {
		t.Errorf("counted %q", counted)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftOfWhatTakesTooLong(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, name := range []string{"compare", "tenants", "flood"} {
		var out, errOut bytes.Buffer
		code := run(t.Context(), []string{name, "-timeout=1ms"}, &out, &errOut)
		if code != 1 || !strings.Contains(errOut.String(), "given up after 1ms (-timeout)") {
			t.Errorf("%s: exit status %d, %s", name, code, &errOut)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestWrongUsageIsToldApart(t *testing.T) {
	var out, errOut bytes.Buffer
	for _, c := range []struct {
		args string
		code int
	}{
		{"", 2}, {"help", 0}, {"nonsense", 2}, {"send extra", 2}, {"send -no-such-flag", 2}, {"verify -help", 0},
		{"send -tenants=0 -ledger=", 1}, {"verify -ledger=/no/such/file", 1},
	} {
		if code := run(t.Context(), strings.Fields(c.args), &out, &errOut); code != c.code {
			t.Errorf("%q: exit status %d, want %d", c.args, code, c.code)
		}
	}
}
