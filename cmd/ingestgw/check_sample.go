package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/canary"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/tenant/access"
)

const (
	// sampleName is the metric that a check writes.
	sampleName = "ingestgw_check"
	// readBackWithin is how long a sample may take to be seen. vminsert and vmstorage take about two seconds.
	readBackWithin = 30 * time.Second
	readBackPause  = 500 * time.Millisecond
)

// A probe is the sample that a check writes. Its label check tells it from those of other checks.
type probe struct {
	check string
	at    time.Time
}

// encode is the probe as a remote-write 1.0 request: snappy over the message prometheus.WriteRequest
// (https://prometheus.io/docs/specs/prw/remote_write_spec/).
func (p probe) encode() []byte {
	return snappy.Encode(nil, remotewrite.AppendSample(nil, []remotewrite.Label{
		{Name: []byte("__name__"), Value: []byte(sampleName)}, {Name: []byte("check"), Value: []byte(p.check)},
	}, 1, p.at))
}

func (p probe) selector() string { return fmt.Sprintf("%s{check=%q}", sampleName, p.check) }

func remoteWriteHeader() http.Header {
	return http.Header{
		"Content-Type":                      {"application/x-protobuf"},
		"Content-Encoding":                  {"snappy"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
		"User-Agent":                        {"ingestgw-check"},
	}
}

// checkSample writes one sample and reads it back from every vmselect: through the ingestgw that runs here and receives, or, if
// there is none, straight to each vminsert.
func (c *check) checkSample(ctx context.Context, inserts []target) {
	receives := c.running && c.cfg.Process.receives() && c.cfg.Access.Mode == access.ModePath
	switch {
	case len(c.cfg.Vmselect.URLs) == 0:
		c.ok("sample", "none is written, as INGESTGW_VMSELECT_URLS is empty")
		return
	case !receives && !c.cfg.Process.forwards():
		c.ok("sample", "none is written, as no ingestgw runs here and INGESTGW_ROLE=%s does not forward", c.cfg.Process.Role)
		return
	}
	selects := c.checkSelects(ctx)
	if receives {
		u := c.ingestURL()
		c.writeAndReadBack(ctx, "sample through the ingestgw at "+u.Host+", with the settings that it was started with", c.gateway, u, selects)
		return
	}
	why := "as no ingestgw runs here"
	switch {
	case c.running && c.cfg.Process.receives():
		why = "as INGESTGW_TENANT_MODE=" + c.cfg.Access.Mode + " wants a credential, and there is none to check with"
	case c.running:
		why = "as INGESTGW_ROLE=" + c.cfg.Process.Role + " takes none"
	}
	for _, insert := range inserts {
		c.writeAndReadBack(ctx, "sample straight to "+insert.String()+", "+why, insert.client, insert.writeURL(c.cfg), selects)
	}
}

// checkSelects looks at every vmselect, whether it deduplicates what it reads, and returns those that are one.
func (c *check) checkSelects(ctx context.Context) []target {
	var all []target
	for _, ep := range c.resolve(ctx, "INGESTGW_VMSELECT_URLS", urlsOf(c.cfg.Vmselect.URLs)) {
		t := target{Endpoint: ep, client: downstream.NewClient(ep, c.anonymous, 1)}
		if c.checkSelect(ctx, t) {
			all = append(all, t)
		}
	}
	return all
}

// checkSelect says whether samples can be read there, as far as its metrics tell.
func (c *check) checkSelect(ctx context.Context, t target) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	what := "vmselect " + t.String()
	r, err := t.client.Read(ctx, t.Endpoint, "vmselect")
	if err != nil {
		c.warn(what, "%v; its flags stay unknown", unread(err))
		return true
	}
	if r.IsVMInsert() || r.IsVMStorage() {
		c.fail(what, "this is a vminsert or a vmstorage: set INGESTGW_VMSELECT_URLS to vmselects")
		return false
	}
	c.checkDedup(what, r.Flags[dedupFlag])
	return true
}

// gatewayRuns says whether what answers at our admin address is an ingestgw.
func (c *check) gatewayRuns(ctx context.Context) bool {
	status, page, err := ask(ctx, c.gateway, http.MethodGet, local(c.cfg.Admin.Listen, "/"), nil, nil)
	return err == nil && status == http.StatusOK && bytes.Contains(page, []byte("<strong>ingestgw</strong>"))
}

// local is how a process on this machine reaches a listen address.
func local(listen settings.Address, path string) *url.URL {
	host, port, _ := net.SplitHostPort(string(listen)) // an Address is well-formed
	if unspecified(host) {
		host = "localhost"
	}
	return &url.URL{Scheme: "http", Host: net.JoinHostPort(host, port), Path: path}
}

func (c *check) writeAndReadBack(ctx context.Context, what string, client doer, u *url.URL, selects []target) {
	p := probe{check: rand.Text(), at: time.Now()}
	if !c.write(ctx, what, client, u, p) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readBackWithin)
	defer cancel()
	for _, vmselect := range selects {
		c.readBack(ctx, what, vmselect, p)
	}
}

func (c *check) write(ctx context.Context, what string, client doer, u *url.URL, p probe) bool {
	status, answer, err := ask(ctx, client, http.MethodPost, u, remoteWriteHeader(), bytes.NewReader(p.encode()))
	switch {
	case err != nil:
		c.fail(what, "write: %v", err)
	case status/100 != 2:
		c.fail(what, "write: answered %s", answered(status, answer))
	default:
		c.ok(what, "written as %s for tenant %s", p.selector(), c.cfg.Access.Default)
		return true
	}
	return false
}

// readBack asks a vmselect until it shows the sample.
func (c *check) readBack(ctx context.Context, what string, vmselect target, p probe) {
	for {
		n, err := c.export(ctx, vmselect, p)
		if n > 1 {
			c.warn(what, "seen %d times at vmselect %s: start vmstorage and vmselect with -dedup.minScrapeInterval=1ms", n, vmselect)
			return
		}
		if n == 1 {
			c.ok(what, "seen at vmselect %s after %s", vmselect, time.Since(p.at).Round(time.Millisecond))
			return
		}
		select {
		case <-time.After(readBackPause):
		case <-ctx.Done():
			c.fail(what, "not seen at vmselect %s within %s: %v", vmselect, readBackWithin, err)
			return
		}
	}
}

var errNoSample = errors.New("it answers, but shows no such sample")

// export counts the samples of the probe. It shows them at once, where a query hides the last 30 seconds.
func (c *check) export(ctx context.Context, vmselect target, p probe) (int, error) {
	u := canary.ExportURL(vmselect.Endpoint, c.cfg.Access.Default)
	q := u.Query()
	q.Set("match[]", p.selector())
	q.Set("start", strconv.FormatInt(p.at.Add(-time.Minute).Unix(), 10))
	q.Set("end", strconv.FormatInt(p.at.Add(time.Minute).Unix(), 10))
	u.RawQuery = q.Encode()
	status, answer, err := ask(ctx, vmselect.client, http.MethodGet, u, nil, nil)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return 0, errors.New("answered " + answered(status, answer))
	}
	return countSamples(answer)
}

// countSamples counts in what /api/v1/export answers.
func countSamples(answer []byte) (int, error) {
	n := 0
	if err := canary.ReadExport(bytes.NewReader(answer), func(s *canary.Series) { n += len(s.Timestamps) }); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, errNoSample
	}
	return n, nil
}
