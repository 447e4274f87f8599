//go:build unix && !linux

package stack

import "syscall"

// sharesBoundPorts: a port is given back before its server starts.
const sharesBoundPorts = false

func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// Host is the loopback address that servers listen at when nothing else is said.
func Host() string { return "127.0.0.1" }

// standsStill takes it that a stop signal works at once.
func standsStill(int) bool { return true }
