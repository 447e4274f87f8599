package disk

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// lockedDir names the directory that a process started by TestASecondProcessIsRefused is to hold until its input ends.
const lockedDir = "DISK_TEST_HOLDS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockedDir); dir != "" {
		s, err := Open(testConfig(dir), slog.New(slog.DiscardHandler), nil)
		fmt.Println("open:", err)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		if err == nil {
			err = s.Close(context.Background())
		}
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), lockedDir+"="+dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "open: <nil>" {
		t.Fatalf("the first process: %q, %v", line, err)
	}
	_, err = Open(testConfig(dir), slog.New(slog.DiscardHandler), nil)
	if pid := strconv.Itoa(other.Process.Pid); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "pid "+pid) {
		t.Errorf("the second process: %v, want the directory %s and pid %s", err, dir, pid)
	}
	in.Close()
	if err := other.Wait(); err != nil {
		t.Errorf("the first process: %v", err)
	}
	mustOpen(t, osFS{}, testConfig(dir))
}

func TestASecondStoreIsRefusedUntilTheFirstIsClosed(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	first := mustOpen(t, osFS{}, cfg)
	_, err := Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("the second store: %v", err)
	}
	mustClose(t, first)
	mustOpen(t, osFS{}, cfg)
}
