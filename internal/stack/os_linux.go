package stack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// sharesBoundPorts: a server may listen where another socket is bound.
const sharesBoundPorts = true

// attributes let a child die with the thread that started it, and keep a terminal's Ctrl-C from it, since whoever started
// it stops it in order.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// Host is the loopback address that servers of this process listen at when nothing else is said. Each process has one of its own
// in 127.0.0.0/8, so that neither another test process nor a connection's own port, which is always one of 127.0.0.1, can be where a
// killed server is about to come back.
func Host() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 1+pid>>16&0x7f, pid>>8&0xff, pid&0xff)
}

// standsStill is whether SIGSTOP has reached every thread of the process. A thread that has gone meanwhile counts as standing
// (proc(5): the state is what follows the name, which is in parentheses; T is stopped).
func standsStill(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if i := bytes.LastIndex(stat, []byte(") ")); i >= 0 && stat[i+2] != 'T' {
			return false
		}
	}
	return len(threads) > 0
}
