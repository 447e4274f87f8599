package status

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peerOf names the process at the other end.
func peerOf(c *net.UnixConn) string {
	const unknown = "of nobody knows whom"
	raw, err := c.SyscallConn()
	if err != nil {
		return unknown
	}
	peer := unknown
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			peer = fmt.Sprintf("user %d, process %d", cred.Uid, cred.Pid)
		}
	})
	return peer
}
