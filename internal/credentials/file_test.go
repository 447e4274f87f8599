package credentials

import (
	"log/slog"
	"os"
	"path/filepath"
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
