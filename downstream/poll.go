package downstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"time"
)

// A Kind is what a server is to the gateway.
type Kind string

// The kinds of servers whose metrics are read.
const (
	VMInsert  Kind = "vminsert"
	VMStorage Kind = "vmstorage"
)

// ErrUnusable says that the server answered, and its answer can be no good however often it is asked, because something has to be configured
// otherwise.
var ErrUnusable = errors.New("metrics cannot be used")

// ErrBusy says that the server, or what stands before it, answered that it cannot give its metrics now.
var ErrBusy = errors.New("metrics cannot be had now")

// ErrNoAnswer says that the server took the connection, and did not answer in time, or not to the end. One that stands still does that,
// and one whose page takes too long.
var ErrNoAnswer = errors.New("no answer")

// Read reads an endpoint's metrics once. Every call makes a connection of its own: were it kept, a balancer in front of several
// servers would lead all calls to the same one, and look like a server.
//
// The error wraps ErrUnusable when waiting will not mend it, and says which setting may.
func (c *Client) Read(ctx context.Context, ep Endpoint, kind Kind) (*Reading, error) {
	return c.read(ctx, ep, kind, newReader())
}

func (c *Client) read(ctx context.Context, ep Endpoint, kind Kind, rd *reader) (*Reading, error) {
	begun := time.Now()
	resp, err := c.getMetrics(ctx, ep)
	if err != nil {
		return nil, fmt.Errorf("read metrics of %s %s: %w", kind, ep, err)
	}
	headed := time.Now()
	defer resp.Body.Close()
	if err := checkStatus(resp); err != nil {
		return nil, fmt.Errorf("read metrics of %s %s: %w", kind, ep, err)
	}
	r, err := rd.read(resp.Body)
	if err == nil {
		err = checkKind(r, kind)
	}
	switch {
	case errors.Is(err, errNotMetrics):
		err = fmt.Errorf("%w: %w", ErrUnusable, err)
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read metrics of %s %s: %w", kind, ep, err)
	}
	r.Begun, r.Ended = begun, time.Now()
	r.clock = toldBy(resp.Header, begun, headed)
	return r, nil
}

func (c *Client) getMetrics(ctx context.Context, ep Endpoint) (*http.Response, error) {
	target := ep.MetricsURL()
	if c.credentials.authKey.Configured() {
		target.RawQuery = url.Values{"authKey": {c.credentials.authKey.Get()}}.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, errors.New("cannot make a URL of it") // err would repeat the key
	}
	req.Close = true
	connected := false
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }}
	resp, err := c.Do(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil && connected {
		err = fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	return resp, err
}

func checkStatus(resp *http.Response) error {
	status := resp.StatusCode
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%w: answered %d: set INGESTGW_FORWARD_METRICS_AUTH_KEY_FILE (the server's -metricsAuthKey), or the credentials "+
			"INGESTGW_FORWARD_BASIC_AUTH_USER or INGESTGW_FORWARD_BEARER_TOKEN_FILE", ErrUnusable, status)
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500:
		return fmt.Errorf("%w: answered %d at /metrics: %s", ErrBusy, status, startOf(resp.Body))
	default:
		return fmt.Errorf("%w: answered %d at /metrics: %s", ErrUnusable, status, startOf(resp.Body))
	}
}

func checkKind(r *Reading, kind Kind) error {
	switch {
	case kind == VMInsert && !r.IsVMInsert():
		return fmt.Errorf("%w of a vminsert: vm_rpc_rows_sent_total is missing", errNotMetrics)
	case kind == VMStorage && !r.IsVMStorage():
		return fmt.Errorf("%w of a vmstorage: its flag inmemoryDataFlushInterval is missing", errNotMetrics)
	}
	return nil
}

// startOf is what an error shows of an answer.
func startOf(body io.Reader) string {
	start := make([]byte, 120)
	n, _ := io.ReadFull(body, start)
	return fmt.Sprintf("%q", start[:n])
}
