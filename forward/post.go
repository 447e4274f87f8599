package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/tenant"
)

const (
	userAgent = "ingestgw"
	// writePath follows a tenant in vminsert's URLs
	// (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#url-format).
	writePath = "/prometheus/api/v1/write"
	// multitenantPath is where vminsert takes the tenant from labels and metadata fields
	// (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#multitenancy-via-labels).
	multitenantPath = "/insert/multitenant" + writePath

	// maxShown is how much of an answer's body is read into an error, and maxDrained how much is read at all so that the
	// connection can be kept.
	maxShown   = 300
	maxDrained = 64 << 10
)

// slowAfter is how long a request may take before the node counts as unwell.
const slowAfter = 2 * time.Second

// errTimeout is why a request ends that took longer than FORWARD_TIMEOUT.
var errTimeout = errors.New("no answer in time")

// A failure is why a node has not taken a record.
type failure struct {
	kind       failureKind
	status     int           // 0 when there was no answer
	retryAfter time.Duration // what the node asked for; 0 when it did not
	err        error
}

type failureKind int

const (
	// failed: the node cannot take records now. Nothing is known of the record, it may even have arrived.
	failed failureKind = iota
	// refused: the node answered that it will not take this record. Node or record is at fault.
	refused
	// refusedAgain: the same of a record that had been refused before, which makes it likely that the record is at fault.
	refusedAgain
	// cut: we have ended the request ourselves, so nothing is known of node and record.
	cut
	// yielded: bulk has made room for main before all was sent. Nothing is wrong.
	yielded
)

func (f *failure) Error() string { return f.err.Error() }

// blamesNode says whether the node is to be left alone for a while. A bad record that came back again and again would
// otherwise keep all nodes from the good ones.
func (f *failure) blamesNode() bool { return f != nil && (f.kind == failed || f.kind == refused) }

// A poster sends requests to one node. It reads a request's body no more once the answer's is closed, and names no URL in an
// error. *downstream.Client is one.
type poster interface {
	Do(*http.Request) (*http.Response, error)
	Close()
}

// A visit is the time that a parcel spends at a node. Its requests go out one after the other, which lets them share much of
// what a request costs. It is for one goroutine.
type visit struct {
	node    *node
	timeout time.Duration
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer   // cancels the request that takes too long
	slow    *time.Timer   // says so while it takes long
	request *http.Request // what all requests have in common
	body    bytes.Reader
	// proven: the node has taken a request without records, so that it is a record's fault when it refuses one.
	proven bool
}

// How a body is compressed, as the header Content-Encoding says it.
const (
	snappyEncoding = "snappy"
	zstdEncoding   = "zstd"
)

// newVisit begins a visit that ends at the latest with ctx. The caller closes it.
func newVisit(ctx context.Context, n *node, timeout time.Duration) *visit {
	v := &visit{node: n, timeout: timeout}
	v.ctx, v.cancel = context.WithCancelCause(ctx)
	v.timer = time.AfterFunc(timeout, func() { v.cancel(fmt.Errorf("%w (INGESTGW_FORWARD_TIMEOUT=%v)", errTimeout, timeout)) })
	v.slow = time.AfterFunc(slowAfter, n.looksUnwell)
	v.request = (&http.Request{
		Method:     http.MethodPost,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Host:       n.base.Host,
		Header: http.Header{
			"Content-Encoding":                  {snappyEncoding},
			"Content-Type":                      {"application/x-protobuf"},
			"User-Agent":                        {userAgent},
			"X-Prometheus-Remote-Write-Version": {"0.1.0"},
		},
	}).WithContext(v.ctx)
	return v
}

func (v *visit) close() {
	v.timer.Stop()
	v.slow.Stop()
	v.cancel(nil)
}

// post sends the record's bytes as they came. nil means that the node answered 2xx. When it returns, nobody reads the payload
// any more.
func (v *visit) post(r *buffer.Record) *failure {
	f := v.send(v.node.url(r.Tenant, r.Tags), snappyEncoding, r.Payload)
	if f == nil {
		v.node.metrics.sent(r.Samples, len(r.Payload))
	}
	return f
}

// postPacked sends a message of many tenants, compressed with zstd.
func (v *visit) postPacked(body []byte, samples int) *failure {
	f := v.send(v.node.packURL, zstdEncoding, body)
	if f == nil {
		v.node.metrics.sent(samples, len(body))
	}
	return f
}

// probe sends the empty message to where packed requests go. If that is refused too, no record is at fault.
func (v *visit) probe() *failure {
	f := v.send(v.node.packURL, zstdEncoding, emptyZstd)
	v.proven = f == nil
	return f
}

// send sends one request. nil means that the node answered 2xx. When it returns, nobody reads the body any more.
func (v *visit) send(to *url.URL, encoding string, body []byte) *failure {
	req := new(http.Request)
	*req = *v.request
	if encoding != snappyEncoding {
		req.Header = v.request.Header.Clone()
		req.Header.Set("Content-Encoding", encoding)
	}
	req.URL = to
	req.ContentLength = int64(len(body))
	v.body.Reset(body)
	req.Body = io.NopCloser(&v.body) // net/http writes what it knows to be in memory together with the head
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }

	v.timer.Reset(v.timeout)
	v.slow.Reset(slowAfter)
	defer v.slow.Stop()
	begun, status := time.Now(), 0
	var f *failure
	resp, err := v.node.client.Do(req) //nolint:bodyclose // read closes it
	if err != nil {
		f = v.unanswered(err)
	} else {
		f, status = v.read(resp), resp.StatusCode
	}
	v.node.metrics.answered(f, status, time.Since(begun))
	if f != nil && f.kind == failed {
		v.node.looksUnwell()
	}
	return f
}

func (v *visit) unanswered(err error) *failure {
	cause := context.Cause(v.ctx)
	switch {
	case errors.Is(cause, errTimeout):
		return &failure{kind: failed, err: cause}
	case cause != nil:
		return &failure{kind: cut, err: cause}
	}
	return &failure{kind: failed, err: err}
}

// read takes in the answer, so that the connection can be used again.
func (v *visit) read(resp *http.Response) *failure {
	defer func() { _ = resp.Body.Close() }()
	if 200 <= resp.StatusCode && resp.StatusCode < 300 {
		if resp.ContentLength != 0 {
			_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
		}
		return nil
	}
	shown, _ := io.ReadAll(io.LimitReader(resp.Body, maxShown))
	_, _ = io.CopyN(io.Discard, resp.Body, maxDrained)
	f := &failure{
		kind:       failed,
		status:     resp.StatusCode,
		retryAfter: retryAfter(resp.Header, time.Now()),
		err:        fmt.Errorf("answered %s: %q", resp.Status, strings.TrimSpace(string(shown))),
	}
	if isRefusal(resp.StatusCode) {
		f.kind = refused
	}
	return f
}

// isRefusal tells a request that the node will not take from one that it cannot take now.
func isRefusal(status int) bool {
	return status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}

// retryAfter reads the header of that name: seconds or a date (RFC 9110, section 10.2.3). 0 when there is none that can be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// url is where records of the tenant go: the node's own path if it has one, or vminsert's for the tenant. vminsert puts the tags
// on every series, in place of labels of the same names
// (https://docs.victoriametrics.com/victoriametrics/#how-to-import-data-in-prometheus-exposition-format has extra_label).
func (n *node) url(id tenant.ID, tags tenant.Tags) *url.URL {
	if n.hasPath && len(tags) == 0 {
		return n.base
	}
	u := *n.base
	if !n.hasPath {
		path := make([]byte, 0, len("/insert/4294967295:4294967295")+len(writePath))
		path = append(path, "/insert/"...)
		path = id.AppendTo(path)
		u.Path = string(append(path, writePath...))
	}
	if len(tags) > 0 {
		u.RawQuery = withTags(u.RawQuery, tags)
	}
	return &u
}

// withTags adds tags to a query.
func withTags(query string, tags tenant.Tags) string {
	for name, value := range tags.All() {
		if query != "" {
			query += "&"
		}
		query += "extra_label=" + url.QueryEscape(string(name)) + "=" + url.QueryEscape(string(value))
	}
	return query
}

// advice says what a refusal may mean and what to do.
func advice(status int) string {
	switch {
	case status < 400:
		return "redirects are not followed: set INGESTGW_FORWARD_URLS to where they lead"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "credentials are missing or wrong: see INGESTGW_FORWARD_BASIC_AUTH_USER, _BASIC_AUTH_PASSWORD_FILE, _BEARER_TOKEN_FILE, _HEADERS"
	case status == http.StatusBadRequest:
		return "vminsert says so to a wrong URL and to a record that it cannot read: " +
			"if all records are refused look at INGESTGW_FORWARD_URLS, else at this tenant's sender and at vminsert's -maxInsertRequestSize"
	case status == http.StatusRequestEntityTooLarge:
		return "a proxy on the way bounds the size of requests: raise its limit above INGESTGW_INGEST_MAX_BODY"
	}
	return "INGESTGW_FORWARD_URLS may lead to something that is no vminsert"
}

// masked is the URL as it may be shown.
func masked(u *url.URL) string { return settings.MaskURL(u) }
