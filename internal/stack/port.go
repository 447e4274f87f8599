package stack

import (
	"fmt"
	"net"
	"os"
	"syscall"
)

// A port is a TCP port that is ours: the kernel gives it to nobody who asks for any free port, also not while the server that
// uses it is dead. It is a socket that is bound and never listens. With SO_REUSEADDR on both sides, as every Go listener has it,
// Linux lets a server listen at the same address; who connects meanwhile is refused, as by any dead server.
type port struct {
	addr string
	fd   int
}

// takePort binds addr ("host:port", or "host:0" for a port that the kernel chooses).
func takePort(addr string) (*port, error) {
	tcp, err := net.ResolveTCPAddr("tcp4", addr)
	if err != nil {
		return nil, fmt.Errorf("take port %s: %w", addr, err)
	}
	if tcp.Port != 0 { // a listening server shows itself only to a listener
		l, err := net.ListenTCP("tcp4", tcp)
		if err != nil {
			return nil, fmt.Errorf("take port %s: %w", addr, err)
		}
		l.Close()
	}
	fd, err := bind(tcp)
	if err != nil {
		return nil, fmt.Errorf("take port %s: %w", addr, err)
	}
	p := &port{fd: fd}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		p.release()
		return nil, fmt.Errorf("take port %s: %w", addr, os.NewSyscallError("getsockname", err))
	}
	at := bound.(*syscall.SockaddrInet4)
	p.addr = fmt.Sprintf("%s:%d", net.IP(at.Addr[:]), at.Port)
	if !sharesBoundPorts {
		p.release()
	}
	return p, nil
}

func bind(addr *net.TCPAddr) (int, error) {
	syscall.ForkLock.RLock() // no child may inherit it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	at := &syscall.SockaddrInet4{Port: addr.Port}
	copy(at.Addr[:], addr.IP.To4())
	if err := syscall.Bind(fd, at); err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	return fd, nil
}

// release gives the port back. It may be called more than once.
func (p *port) release() {
	if p.fd >= 0 {
		syscall.Close(p.fd)
		p.fd = -1
	}
}
