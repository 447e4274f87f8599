package stack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhoMayNotInstallABrowserIsToldWhatToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no browser, no npm, no apt-get
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "cache"))
	for part, want := range map[Part]string{
		Chromium: "install Chromium, or run this as root on Debian: it lacks the packages chromium",
		AxeCore:  "install npm, or run this as root on Debian: it lacks the packages npm",
	} {
		_, err := Install(t.Context(), part, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Install of %s: %v", part, err)
		}
	}
}

func TestABrowserThatIsThereIsUsedUnderAnyOfItsNames(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(t.TempDir(), "cache"))
	program := filepath.Join(bin, "google-chrome")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := Install(t.Context(), Chromium, nil)
	if err != nil {
		t.Fatal(err)
	}
	if to, err := os.Readlink(path); err != nil || to != program {
		t.Errorf("%s leads to %q, %v", path, to, err)
	}
	if err := os.Rename(program, filepath.Join(bin, "chromium")); err != nil {
		t.Fatal(err)
	}
	if path, err = Install(t.Context(), Chromium, nil); err != nil {
		t.Fatalf("when the browser has another name: %v", err)
	}
	if to, err := os.Readlink(path); err != nil || filepath.Base(to) != "chromium" {
		t.Errorf("%s leads to %q, %v", path, to, err)
	}
}

func TestOneFileOfAnArchiveIsUnpacked(t *testing.T) {
	var packed bytes.Buffer
	compressed := gzip.NewWriter(&packed)
	files := tar.NewWriter(compressed)
	for name, text := range map[string]string{"package/package.json": "{}", inArchive: "script"} {
		if err := files.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := files.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if err := compressed.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	archive, to := filepath.Join(dir, "a.tgz"), filepath.Join(dir, "script")
	write := func(content []byte) {
		if err := os.WriteFile(archive, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(packed.Bytes())
	if err := unpackOne(archive, inArchive, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "script" {
		t.Errorf("unpacked %q, %v", got, err)
	}
	if err := unpackOne(archive, "package/none", to); err == nil || !strings.Contains(err.Error(), "package/none") {
		t.Errorf("a file that is not there: %v", err)
	}
	write(packed.Bytes()[:packed.Len()/2])
	if err := unpackOne(archive, inArchive, to); err == nil {
		t.Error("half of an archive is unpacked")
	}
}
