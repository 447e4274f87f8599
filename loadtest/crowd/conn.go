package crowd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// answerWithin is how long a receiver may take to answer, from the beginning of a request.
const answerWithin = time.Minute

// A conn is one kept HTTP/1.1 connection, without what a client of net/http adds: goroutines, pools and maps cost more than the
// request itself.
type conn struct {
	net.Conn
	url  string
	rest string // of the headers: those that are always the same
	out  *bufio.Writer
	in   *bufio.Reader
	used bool // it has carried a request
	stop func() bool
}

// dial connects to the base URL of a receiver. The connection ends with ctx.
func dial(ctx context.Context, base string) (*conn, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	tcp, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", base, err)
	}
	return &conn{
		stop: context.AfterFunc(ctx, func() { _ = tcp.Close() }),
		Conn: tcp, url: base, out: bufio.NewWriterSize(tcp, 16<<10), in: bufio.NewReaderSize(tcp, 4<<10),
		rest: "Host: " + u.Host + "\r\nContent-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n" +
			"X-Prometheus-Remote-Write-Version: 0.1.0\r\nUser-Agent: loadtest\r\n\r\n",
	}, nil
}

// post sends a request and returns the status of its answer, and whether the connection can be used again.
func (c *conn) post(head, body []byte) (status int, kept bool, err error) {
	c.used = true
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return 0, false, err
	}
	_, _ = c.out.Write(head) // Flush tells of every error
	_, _ = c.out.WriteString(c.rest)
	_, _ = c.out.Write(body)
	if err := c.out.Flush(); err != nil {
		return 0, false, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, false, err
	}
	return resp.StatusCode, !resp.Close, nil
}
