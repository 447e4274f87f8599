package downstream

import (
	"net"
	"net/url"
	"strings"
)

// An Endpoint is one process behind the gateway: one resolved address of a configured URL. Whoever posts to it, and whoever
// reads its metrics, dials that very address, so that both speak to the same process, whatever else answers to the name.
type Endpoint struct {
	// Base is the configured URL. Its host goes into the Host header and is what a TLS certificate must be valid for. For a
	// URL found by SRV lookup the host is the target of the record, with its port.
	Base *url.URL
	// Addr is the ip:port that is dialled; "localhost:port" when that is how it was configured.
	Addr string
}

// String names the endpoint in logs and metric labels: the address, after the name that led to it where there is one, and
// before the path if Base has one, such as "vminsert-0/10.0.0.7:8480". It never holds a password or a query, stays the same from one
// resolution to the next, and is unique within what a Resolver returns, so it serves as a key for the endpoint.
func (e Endpoint) String() string {
	name := e.Addr
	if host, _, err := net.SplitHostPort(e.Addr); err == nil && host != e.Base.Hostname() {
		name = e.Base.Hostname() + "/" + e.Addr
	}
	return name + strings.TrimRight(e.Base.EscapedPath(), "/")
}

// Hosts are the names by which others may know the endpoint's host: that of the URL, and the address.
func (e Endpoint) Hosts() []string {
	name, addr := e.Base.Hostname(), hostOf(e.Addr)
	if name == addr {
		return []string{addr}
	}
	return []string{name, addr}
}

// hostOf is addr without the port, if it has one.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}

// URL is Base with its path, or path when Base has none ("/" counts as none). The path must be escaped already.
func (e Endpoint) URL(path string) *url.URL {
	u := *e.Base
	if u.Path == "" || u.Path == "/" {
		return u.JoinPath(path)
	}
	return &u
}

// MetricsURL is where the endpoint's metrics are: /metrics at the root of Base's host, since that is where the servers of
// VictoriaMetrics have them, whatever path they are written to.
func (e Endpoint) MetricsURL() *url.URL {
	return &url.URL{Scheme: e.Base.Scheme, User: e.Base.User, Host: e.Base.Host, Path: "/metrics"}
}
