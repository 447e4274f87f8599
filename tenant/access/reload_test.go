package access

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/tenant"
)

// oneTenant is a file with one tenant and the credentials for secrets.
func oneTenant(secrets ...string) string {
	var b strings.Builder
	b.WriteString("tenants:\n- id: 12:3\n  credentials:\n")
	for _, s := range secrets {
		b.WriteString("  - bearer_sha256: " + sha(s) + "\n")
	}
	return b.String()
}

func rewrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// knows says which of the secrets are taken.
func knows(t *testing.T, a *Access, secrets ...string) string {
	t.Helper()
	var known []string
	for _, s := range secrets {
		if _, err := a.Identify(t.Context(), request(bearerOf(s)...), Name{}); err == nil {
			known = append(known, s)
		}
	}
	return strings.Join(known, " ")
}

func TestASecretIsChangedWithoutAGap(t *testing.T) {
	name := writeFile(t, oneTenant("old"))
	a := newAccess(t, Config{Mode: ModeFile, File: name})
	for _, step := range []struct {
		text, want string
	}{
		{oneTenant("old"), "old"},
		{oneTenant("old", "new"), "old new"},
		{oneTenant("new"), "new"},
		{"tenants: []\n", ""},
	} {
		rewrite(t, name, step.text)
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := knows(t, a, "old", "new"); got != step.want {
			t.Errorf("%s\ngot %q, want %q", step.text, got, step.want)
		}
	}
}

func TestABadFileChangesNothingAndSaysTheLine(t *testing.T) {
	name := writeFile(t, oneTenant("good"))
	var logged bytes.Buffer
	reg := prometheus.NewRegistry()
	a, err := New(Config{Mode: ModeFile, File: name}, nil, nil, slog.New(slog.NewTextHandler(&logged, nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	at := testutil.ToFloat64(a.metrics.reloadedAt)
	for what, bad := range map[string]string{
		"no YAML": "tenants:\n- [\n",
		"a fault": oneTenant("other") + "  plan: none\n",
	} {
		logged.Reset()
		rewrite(t, name, bad)
		err := a.Reload()
		if err == nil || !strings.Contains(err.Error(), name+": ") || !strings.Contains(err.Error(), "line ") || !strings.Contains(err.Error(), "INGESTGW_TENANT_FILE") {
			t.Errorf("%s: %v", what, err)
		}
		if !strings.Contains(logged.String(), "level=ERROR") || !strings.Contains(logged.String(), "line ") {
			t.Errorf("%s: logged %q", what, logged.String())
		}
		if got := knows(t, a, "good", "other"); got != "good" {
			t.Errorf("%s: %q are known, want the one of before", what, got)
		}
		if testutil.ToFloat64(a.metrics.reloaded) != 0 || testutil.ToFloat64(a.metrics.reloadedAt) != at || testutil.ToFloat64(a.metrics.tenants) != 1 {
			t.Errorf("%s: the metrics do not tell", what)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err == nil || knows(t, a, "good") != "good" {
		t.Errorf("without the file: %v", err)
	}
	rewrite(t, name, oneTenant("good", "other"))
	if err := a.Reload(); err != nil || testutil.ToFloat64(a.metrics.reloaded) != 1 || testutil.ToFloat64(a.metrics.credentials) != 2 {
		t.Errorf("after the fault: %v", err)
	}
}

func TestABadFileAtTheStartIsAnError(t *testing.T) {
	for what, c := range map[string]struct{ name, want string }{
		"a fault": {writeFile(t, "tenants:\n- id: x\n"), "line 2"},
		"no file": {filepath.Join(t.TempDir(), "none.yaml"), "no such file"},
		"no text": {t.TempDir(), "want a regular file"},
	} {
		var logged bytes.Buffer
		_, err := New(Config{Mode: ModeFile, File: c.name}, nil, nil, slog.New(slog.NewTextHandler(&logged, nil)), prometheus.NewRegistry())
		if logged.Len() > 0 {
			t.Errorf("%s: there is nothing to go on with, and it logs %s", what, &logged)
		}
		if err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := New(Config{Mode: ModeDirectory}, nil, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err == nil || !strings.Contains(err.Error(), "INGESTGW_TENANT_DIRECTORY_URL") {
		t.Errorf("no directory: %v", err)
	}
}

func TestAFIFOInThePlaceOfTheFileHangsNoReload(t *testing.T) {
	name := writeFile(t, oneTenant("good"))
	a := newAccess(t, Config{Mode: ModeFile, File: name})
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, put := range map[string]func() error{
		"a FIFO":        func() error { return syscall.Mkfifo(name, 0o600) },
		"one by a link": func() error { return os.Symlink(fifo, name) },
		"a folder":      func() error { return os.Mkdir(name, 0o700) },
	} {
		if err := errors.Join(os.Remove(name), put()); err != nil {
			t.Fatal(err)
		}
		err := a.Reload()
		if err == nil || !strings.Contains(err.Error(), name+": open: want a regular file") || knows(t, a, "good") != "good" {
			t.Errorf("%s: %v", what, err)
		}
		a.poll()
		a.poll()
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	rewrite(t, name, oneTenant("good", "other"))
	if err := a.Reload(); err != nil || knows(t, a, "other") != "other" {
		t.Errorf("a file again: %v", err)
	}
}

// polling runs a and returns what waits until a change of the file has been taken up, and what ends it.
func polling(t *testing.T, a *Access) (look, end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	look = func() { // once that it has changed, and once that it has been left alone
		time.Sleep(2*a.cfg.FileInterval + time.Millisecond)
		synctest.Wait()
	}
	return look, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func TestTheFileIsReadAgainWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "tenants.yaml")
	rewrite(t, name, oneTenant("a"))
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, Config{Mode: ModeFile, File: name, FileInterval: 5 * time.Second})
		look, end := polling(t, a)
		defer end()
		expect := func(what, want string) {
			t.Helper()
			look()
			if got := knows(t, a, "a", "b", "c"); got != want {
				t.Errorf("%s: %q are known, want %q", what, got, want)
			}
		}
		expect("at the start", "a")
		before := a.table.Load()
		look()
		if a.table.Load() != before {
			t.Error("a file that has not changed was read again")
		}
		rewrite(t, name, oneTenant("a", "b"))
		expect("after a change", "a b")
		rewrite(t, name, "tenants: x\n")
		expect("after a bad change", "a b")
		rewrite(t, name, oneTenant("a", "b"))
		expect("after it was taken back", "a b")
		if testutil.ToFloat64(a.metrics.reloaded) != 1 {
			t.Error("the metric still says that the file is bad")
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		expect("without the file", "a b")
		if testutil.ToFloat64(a.metrics.reloaded) != 0 {
			t.Error("the metric does not say that the file is gone")
		}
		rewrite(t, name, oneTenant("a", "b"))
		expect("with the file again", "a b")
		if testutil.ToFloat64(a.metrics.reloaded) != 1 {
			t.Error("the metric still says that the file is gone")
		}
	})
}

func TestAFileOfTheSameSizeAndTimeIsReadAgain(t *testing.T) {
	name := writeFile(t, oneTenant("a"))
	stamp := time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC) // just before synctest's clock begins
	setTime := func() {
		if err := os.Chtimes(name, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	setTime()
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, Config{Mode: ModeFile, File: name, FileInterval: 5 * time.Second})
		rewrite(t, name, oneTenant("b"))
		setTime()
		look, end := polling(t, a)
		defer end()
		look()
		if got := knows(t, a, "a", "b"); got != "b" {
			t.Errorf("%q are known, want the new one", got)
		}
	})
}

// Kubernetes mounts a ConfigMap as links: tenants.yaml → ..data/tenants.yaml, ..data → a directory, and swaps ..data.
func TestAFileBehindLinksIsReadAgainWhenTheyAreSwapped(t *testing.T) {
	dir := t.TempDir()
	put := func(version, text string) {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		rewrite(t, filepath.Join(dir, version, "tenants.yaml"), text)
		old := time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(dir, version, "tenants.yaml"), old, old); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "..tmp")
		if err := os.Symlink(version, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	put("v1", oneTenant("a"))
	name := filepath.Join(dir, "tenants.yaml")
	if err := os.Symlink("..data/tenants.yaml", name); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, Config{Mode: ModeFile, File: name, FileInterval: 5 * time.Second})
		look, end := polling(t, a)
		defer end()
		look()
		put("v2", oneTenant("b")) // of the same size and time
		look()
		if got := knows(t, a, "a", "b"); got != "b" {
			t.Errorf("%q are known, want the new one", got)
		}
	})
}

func TestRunEndsWithItsContextWhenThereIsNothingToLookAt(t *testing.T) {
	for _, cfg := range []Config{{Mode: ModePath}, {Mode: ModeFile, File: writeFile(t, oneTenant("a"))}} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := newAccess(t, cfg).Run(ctx); err != nil {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	if err := newAccess(t, Config{Mode: ModePath}).Reload(); err != nil {
		t.Errorf("Reload without a file: %v", err)
	}
}

func TestAFileThatIsBeingWrittenIsNotReadByHalves(t *testing.T) {
	name := writeFile(t, oneTenant("a"))
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, Config{Mode: ModeFile, File: name, FileInterval: 5 * time.Second})
		_, end := polling(t, a)
		defer end()
		text := oneTenant("a", "b", "c")
		for n := range 5 {
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if got := knows(t, a, "a", "b", "c"); got != "a" || testutil.ToFloat64(a.metrics.reloaded) != 1 {
				t.Fatalf("%q are known while the file is written", got)
			}
			rewrite(t, name, text[:len(text)*n/5]) // at first there is nothing in it
		}
		rewrite(t, name, text)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got := knows(t, a, "a", "b", "c"); got != "a b c" {
			t.Errorf("%q are known in the end", got)
		}
	})
}

func TestNoRequestIsRefusedWhileTheFileIsReadAgain(t *testing.T) {
	// text has a tenant that changes with each reading and many that do not.
	text := func(name string) string {
		return strings.Replace(bigFile(300, 0), "tenants:\n", "tenants:\n  - id: 12:3\n    name: "+name+"\n"+
			"    credentials: [{bearer_sha256: "+sha("always")+"}]\n", 1)
	}
	name := writeFile(t, text("a"))
	a := newAccess(t, Config{Mode: ModeFile, File: name})
	done := make(chan struct{})
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				s, err := a.Identify(t.Context(), request(bearerOf("always")...), Name{})
				if err != nil || s.Tenant.Name != "a" && s.Tenant.Name != "b" {
					t.Errorf("%+v, %v", s, err)
					return
				}
				if s, err := a.Identify(t.Context(), request(bearerOf(tokenOf(7))...), Name{}); err != nil || s.Tenant.ID.Account != 7 {
					t.Errorf("%+v, %v", s, err)
					return
				}
				a.Describe(tenant.ID{Account: 7}, nil)
			}
		})
	}
	for i := range 15 {
		rewrite(t, name, text([]string{"a", "b"}[i%2]))
		bad := i%5 == 4
		if bad {
			rewrite(t, name, "tenants: bad\n")
		}
		if err := a.Reload(); (err != nil) != bad {
			t.Error(err)
		}
	}
	close(done)
	senders.Wait()
}
