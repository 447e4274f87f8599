package stack

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Usage is what a process has used.
type Usage struct {
	// CPU is user and system time of all threads since the start, in steps of 10 ms.
	CPU time.Duration
	// RSS is the resident memory now, PeakRSS the most it has been, in bytes.
	RSS, PeakRSS int64
}

// Usage reads what the present life of a running process has used, from /proc, which only Linux has.
func (p *Process) Usage() (Usage, error) {
	var u Usage
	proc := fmt.Sprintf("/proc/%d/", p.PID())
	stat, err := os.ReadFile(proc + "stat")
	if err != nil {
		return u, fmt.Errorf("usage of %s: %w", p.spec.Name, err)
	}
	// proc_pid_stat(5): after "(name) ", field 3 is the state, 14 and 15 are user and system time in ticks of 1/100 s.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return u, fmt.Errorf("usage of %s: %w", p.spec.Name, err)
		}
		u.CPU += time.Duration(ticks) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return u, fmt.Errorf("usage of %s: %w", p.spec.Name, err)
	}
	u.RSS, u.PeakRSS = kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
	return u, nil
}

// kilobytes reads a line such as "VmRSS:	    5348 kB" of proc_pid_status(5), as bytes.
func kilobytes(status []byte, name string) int64 {
	_, rest, _ := bytes.Cut(status, []byte(name))
	line, _, _ := bytes.Cut(rest, []byte(" kB"))
	n, _ := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	return n << 10
}
