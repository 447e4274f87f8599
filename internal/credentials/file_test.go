package credentials

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSecretsAreReadAgainWhenTheirFilesChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		write(t, path, "first\n")
		f := Secret("INGESTGW_TOKEN_FILE", path, slog.New(slog.DiscardHandler))
		if err := f.Load(); err != nil {
			t.Fatal(err)
		}
		expect := func(want string) {
			t.Helper()
			time.Sleep(recheckFile)
			if got := f.Get(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		expect("first")
		write(t, path, "second, longer")
		if got := f.Get(); got != "first" {
			t.Errorf("got %q: the file is looked at for every use", got)
		}
		expect("second, longer")
		write(t, path, "two\nlines")
		expect("second, longer")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect("second, longer")
		write(t, path, "third")
		expect("third")
	})
}

func TestWithoutAFileThereIsNothingToRead(t *testing.T) {
	f := Secret("INGESTGW_TOKEN_FILE", "", slog.New(slog.DiscardHandler))
	if err := f.Load(); err != nil || f.Configured() || f.Get() != "" {
		t.Errorf("%v, configured %v, %q", err, f.Configured(), f.Get())
	}
}

func TestEachFaultOfAFileIsLoggedOnceAndThatItIsWellAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		write(t, path, "first")
		var log strings.Builder
		f := Secret("INGESTGW_TOKEN_FILE", path, slog.New(slog.NewTextHandler(&log, nil)))
		if err := f.Load(); err != nil {
			t.Fatal(err)
		}
		expect := func(lines int, text string) {
			t.Helper()
			log.Reset()
			for range 3 {
				time.Sleep(recheckFile)
				f.Get()
			}
			if got := log.String(); strings.Count(got, "\n") != lines || !strings.Contains(got, text) {
				t.Errorf("the log has %q, want %d lines, with %q", got, lines, text)
			}
		}
		expect(0, "")
		write(t, path, "two\nlines")
		expect(1, "want one line that is not empty")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect(1, "no such file")
		write(t, path, "second")
		expect(1, "well again")
		expect(0, "")
	})
}

func TestAFIFOInThePlaceOfAFileKeepsNobodyWaiting(t *testing.T) {
	dir := t.TempDir()
	fifo, link := filepath.Join(dir, "fifo"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fifo, link); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	for _, name := range []string{fifo, link, dir} {
		_, byTLS := LoadTLS("INGESTGW_TLS", TLSConfig{CertFile: name, KeyFile: name}, log)
		_, byRoots := LoadTLS("INGESTGW_TLS", TLSConfig{CAFile: name}, log)
		for what, err := range map[string]error{
			"secret":      Secret("INGESTGW_TOKEN_FILE", name, log).Load(),
			"keys":        PublicKeys("INGESTGW_KEYS_FILE", name, log).Load(),
			"certificate": byTLS,
			"authorities": byRoots,
		} {
			if err == nil || !strings.Contains(err.Error(), name+": want a regular file") || !strings.HasPrefix(err.Error(), "INGESTGW_") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestAFileIsReadThroughLinksAndNotBeyondItsBound(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	write(t, path, strings.Repeat("x", 10))
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if content, err := readFile(link, 10); err != nil || len(content) != 10 {
		t.Errorf("%q, %v", content, err)
	}
	if content, err := readFile(link, 9); err == nil || content != nil {
		t.Errorf("%q of more than 9 bytes", content)
	}
}
