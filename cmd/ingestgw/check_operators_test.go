package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shortDir is a folder with a path that is short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func fileWith(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckLooksAtWhatOperatorsNeed(t *testing.T) {
	taken := filepath.Join(shortDir(t), "taken")
	l, err := net.Listen("unix", taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	free := filepath.Join(shortDir(t), "admin")
	for name, c := range map[string]struct {
		token, socket string
		verdict       string
		parts         []string
	}{
		"neither":          {"", "", "ok", []string{"neither INGESTGW_ADMIN_TOKEN_FILE nor INGESTGW_ADMIN_SOCKET is set"}},
		"a token":          {fileWith(t, "sixteen-or-more-of-them\n"), "", "ok", []string{"INGESTGW_ADMIN_TOKEN_FILE", "can be read"}},
		"no such token":    {"/nowhere/token", "", "FAIL", []string{"INGESTGW_ADMIN_TOKEN_FILE", "/nowhere/token"}},
		"a short token":    {fileWith(t, "short\n"), "", "FAIL", []string{"INGESTGW_ADMIN_TOKEN_FILE", "5 characters, want 16"}},
		"a socket":         {"", free, "ok", []string{"INGESTGW_ADMIN_SOCKET=" + free, "can be made"}},
		"no such folder":   {"", "/nowhere/admin", "FAIL", []string{"INGESTGW_ADMIN_SOCKET=/nowhere/admin"}},
		"a file there":     {"", fileWith(t, ""), "FAIL", []string{"INGESTGW_ADMIN_SOCKET", "is no socket"}},
		"somebody listens": {"", taken, "FAIL", []string{"INGESTGW_ADMIN_SOCKET", "another process listens there"}},
		"too long a path":  {"", filepath.Join(shortDir(t), strings.Repeat("a", 120)), "FAIL", []string{"INGESTGW_ADMIN_SOCKET", "bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			startFakeCluster(t)
			t.Setenv("INGESTGW_VMSELECT_URLS", "")
			t.Setenv("INGESTGW_ADMIN_TOKEN_FILE", c.token)
			t.Setenv("INGESTGW_ADMIN_SOCKET", c.socket)
			out, code := runCheck(t)
			wantLine(t, out, c.verdict, append(c.parts, "operators")...)
			if failed := c.verdict == "FAIL"; failed != (code == exitFailed) {
				t.Errorf("exit %d:\n%s", code, out)
			}
		})
	}
	if left, err := os.ReadDir(filepath.Dir(free)); err != nil || len(left) > 0 {
		t.Errorf("the check leaves %v, %v", left, err)
	}
}

func TestCheckLooksAtTheSocketOfTheIngestgwThatRuns(t *testing.T) {
	f := startFakeCluster(t)
	dir := shortDir(t)
	socket := filepath.Join(dir, "admin")
	c := startChild(t, "FORWARD_URLS="+f.insert.URL, "ADMIN_SOCKET="+socket)
	t.Setenv("INGESTGW_VMSELECT_URLS", "")
	t.Setenv("INGESTGW_BUFFER_DIR", filepath.Join(c.cmd.Dir, "data"))
	t.Setenv("INGESTGW_INGEST_LISTEN", strings.TrimPrefix(c.ingest, "http://"))
	t.Setenv("INGESTGW_ADMIN_LISTEN", strings.TrimPrefix(c.admin, "http://"))
	t.Setenv("INGESTGW_ADMIN_SOCKET", socket)
	out, code := runCheck(t)
	if code != exitOK {
		t.Errorf("exit %d", code)
	}
	wantLine(t, out, "ok", "operators", "a process listens at INGESTGW_ADMIN_SOCKET="+socket)
	t.Setenv("INGESTGW_ADMIN_SOCKET", filepath.Join(dir, "other"))
	out, _ = runCheck(t)
	wantLine(t, out, "warn", "operators", "does not listen at", "start it anew")
	if _, err := os.Lstat(socket); err != nil {
		t.Errorf("the check has taken away the socket in use: %v", err)
	}
}
