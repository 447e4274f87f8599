package main

import "net"

// checkOperators looks at what lets operators change something: the token and the unix socket.
func (c *check) checkOperators() {
	admin := c.cfg.Admin
	if admin.Token.File == "" && admin.Socket == "" {
		c.ok("operators", "nobody can change memory settings or ask for profiles while ingestgw runs: neither INGESTGW_ADMIN_TOKEN_FILE nor INGESTGW_ADMIN_SOCKET is set")
		return
	}
	if admin.Token.File != "" {
		c.checkToken()
	}
	if admin.Socket != "" {
		c.checkSocket()
	}
}

func (c *check) checkToken() {
	if err := c.cfg.Admin.CheckToken(); err != nil {
		c.fail("operators", "%v", err)
		return
	}
	c.ok("operators", "the token in INGESTGW_ADMIN_TOKEN_FILE=%s can be read", c.cfg.Admin.Token.File)
}

// checkSocket makes the socket for a moment, unless an ingestgw runs: then it is asked whether it listens there.
func (c *check) checkSocket() {
	path := c.cfg.Admin.Socket
	if conn, err := net.Dial("unix", path); err == nil && c.running {
		conn.Close()
		c.ok("operators", "a process listens at INGESTGW_ADMIN_SOCKET=%s", path)
		return
	}
	if err := c.cfg.Admin.CheckSocket(); err != nil {
		c.fail("operators", "INGESTGW_ADMIN_SOCKET=%s cannot be made: %v", path, err)
		return
	}
	if c.running {
		c.warn("operators", "the ingestgw that runs does not listen at INGESTGW_ADMIN_SOCKET=%s: start it anew with this setting", path)
		return
	}
	c.ok("operators", "INGESTGW_ADMIN_SOCKET=%s can be made", path)
}
