package canary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

const (
	// seriesName is the metric that is written.
	seriesName = "ingestgw_canary"
	userAgent  = "ingestgw-canary"
	// maxAnswer is how much of an answer is read that tells of an error, or that nobody wants.
	maxAnswer = 4 << 10
	// maxError is the most bytes of an error in a View.
	maxError = 512
)

// A path is one way in.
type path struct {
	key key

	// The term's mutex guards what follows.
	node   Node // of pathNode
	busy   bool
	begun  time.Time // its first round
	sent   time.Time // the last round that was taken
	failed string    // why the last one was not
}

// write sends a sample on every path that has none on its way.
func (t *term) write() {
	at := t.newRound()
	t.begin(&t.resolving, t.resolve)
	t.follow(t.c.gateway.Nodes())
	for _, p := range t.listPaths() {
		t.begin(&p.busy, func() { t.send(p, at) })
	}
}

// follow makes the paths those of the buffer and of the nodes that there are.
func (t *term) follow(nodes []Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.paths
	t.paths = make(map[key]*path, len(nodes)+1)
	t.keep(before, key{path: pathBuffer}, Node{})
	for _, n := range nodes {
		t.keep(before, key{path: pathNode, node: n.Endpoint.String()}, n)
	}
	for k := range before {
		if t.paths[k] == nil {
			t.c.metrics.forgetPath(k)
		}
	}
}

// keep takes a path over from before, or begins it. t.mu is held.
func (t *term) keep(before map[key]*path, k key, n Node) {
	p := before[k]
	if p == nil {
		p = &path{key: k}
	}
	p.node = n
	t.paths[k] = p
}

func (t *term) listPaths() []*path {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.paths))
}

// send writes the round's sample on one path.
func (t *term) send(p *path, at time.Time) {
	node := t.beginPath(p, at)
	ctx, cancel := context.WithTimeout(t.ctx, t.c.cfg.Timeout)
	defer cancel()
	var err error
	if p.key.path == pathBuffer {
		err = t.c.store(ctx, at)
	} else {
		err = t.c.post(ctx, p.key, node, at)
	}
	if t.ctx.Err() != nil { // we have ended it ourselves
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.paths[p.key] != p { // the node is gone
		return
	}
	if err != nil {
		t.notTaken(p, shown(err, node.Endpoint))
		return
	}
	if p.failed != "" {
		t.c.log.Info("a sample of the canary is taken again", "path", p.key.path, "node", p.key.node)
	}
	p.failed, p.sent = "", at
}

// notTaken notes that the path has not taken a sample, and why. t.mu is held.
func (t *term) notTaken(p *path, why string) {
	t.c.metrics.writeFailures.WithLabelValues(p.key.path, p.key.node).Inc()
	if p.failed == "" {
		t.c.log.Warn("a sample of the canary is not taken, so its age grows although those of senders may be fresh", "path", p.key.path,
			"node", p.key.node, "err", why)
	}
	p.failed = why
}

func (t *term) beginPath(p *path, at time.Time) Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.begun.IsZero() {
		p.begun = at
	}
	return p.node
}

// message is the round's sample of one path as a remote-write message.
func (c *Canary) message(k key, at time.Time) []byte {
	labels := []remotewrite.Label{label("__name__", seriesName), label("group", c.group)}
	if k.node != "" {
		labels = append(labels, label("node", k.node))
	}
	labels = append(labels, label("path", k.path))
	return remotewrite.AppendSample(nil, labels, float64(at.UnixMilli())/1000, at)
}

func label(name, value string) remotewrite.Label {
	return remotewrite.Label{Name: []byte(name), Value: []byte(value)}
}

// store puts the sample into the buffer, as if a sender's request with it had been accepted.
func (c *Canary) store(ctx context.Context, at time.Time) error {
	message := c.message(key{path: pathBuffer}, at)
	return c.gateway.Append(ctx, buffer.Main, buffer.Record{
		Tenant:   c.cfg.Tenant,
		Received: at,
		Encoding: buffer.Snappy,
		Series:   1,
		Samples:  1,
		Decoded:  len(message),
		Payload:  snappy.Encode(nil, message),
	}, nil)
}

// post sends the sample to a vminsert.
func (c *Canary) post(ctx context.Context, k key, node Node, at time.Time) error {
	body := snappy.Encode(nil, c.message(k, at))
	to := node.Endpoint.URL("/insert/" + c.cfg.Tenant.String() + "/prometheus/api/v1/write")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("cannot make a URL of it") // err would repeat what may be secret
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := node.Do(req)
	if err != nil {
		return tooLate(ctx, c.cfg.Timeout, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return answered(resp)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // so that the connection can be kept
	return nil
}

// tooLate is err, or that there was no answer in time.
func tooLate(ctx context.Context, timeout time.Duration, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within INGESTGW_CANARY_TIMEOUT=%v: %w", timeout, err)
	}
	return err
}

// A statusError is an answer that is none.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("answered %d: %s", e.status, e.text) }

func answered(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return &statusError{resp.StatusCode, string(text)}
}

// shown is err for people: in one line, not too long, and without what stands in the query of the endpoint's URL, as servers repeat
// that.
func shown(err error, ep downstream.Endpoint) string {
	text := err.Error()
	if ep.Base != nil {
		for _, values := range ep.Base.Query() {
			for _, value := range values {
				text = masked(masked(text, value), url.QueryEscape(value))
			}
		}
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	return strings.ToValidUTF8(text[:min(len(text), maxError)], "")
}

func masked(text, secret string) string {
	if secret == "" {
		return text
	}
	return strings.ReplaceAll(text, secret, "***")
}
