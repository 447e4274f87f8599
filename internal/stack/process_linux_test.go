package stack

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), childMode+"=parent", "DIR="+filepath.Join(t.TempDir(), "child"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent says %q", line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // killed
	for deadline := time.Now().Add(10 * time.Second); !gone(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the child %d outlives its parent by 10 s", pid)
		}
	}
}

// gone says whether the process has ended; it may still lie about as a zombie, until whoever inherited it looks.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestUsageGrows(t *testing.T) {
	p := Start(t, childSpec(""))
	before, err := p.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if before.RSS < 1<<20 || before.PeakRSS < before.RSS {
		t.Errorf("a Go server holds %d bytes, at most %d", before.RSS, before.PeakRSS)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := get(t, p.URL()); err != nil {
			t.Fatal(err)
		}
		after, err := p.Usage()
		if err != nil {
			t.Fatal(err)
		}
		if after.CPU > before.CPU {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("20 s of requests cost no CPU")
		}
	}
}
