// Package crowd sends for very many tenants over few connections, as cheaply as it can be done: what sending costs is not to be seen
// in what is measured.
package crowd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/loadtest/offer"
)

// Config says who sends what.
type Config struct {
	// Tenants have the accounts from FirstAccount on, project 0.
	Tenants, FirstAccount int
	// Series is how many each of them has; a request brings one sample of each.
	Series int
	// Labels is how many each series has, at least 3. The metric's name is Metric.
	Labels int
	Metric string
	// Bodies is how many different requests there are; tenants take turns with them, so that their memory is bounded. 0: every tenant
	// has its own.
	Bodies int
	// Connections are kept open. Each sends one request after the other, of its own share of the tenants.
	Connections int
	// Rate is the samples per second to send; 0: as fast as they are acknowledged.
	Rate float64
	// Token, when not nil, is the bearer token of the i-th tenant. Requests then name no tenant in the path.
	Token func(tenant int) string
	// Alone sends all requests for the first tenant, for comparison.
	Alone bool
}

// Validate says everything that is wrong.
func (cfg *Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(cfg.Tenants > 0, "%d tenants: at least 1", cfg.Tenants)
	need(cfg.FirstAccount >= 0, "account %d: 0 or more", cfg.FirstAccount)
	need(cfg.Series > 0, "%d series: at least 1", cfg.Series)
	need(cfg.Labels >= 3, "%d labels: at least 3", cfg.Labels)
	need(cfg.Metric != "", "no metric name")
	need(cfg.Bodies >= 0, "%d bodies: 0 or more", cfg.Bodies)
	need(cfg.Connections > 0 && cfg.Connections <= cfg.Tenants, "%d connections: 1 to as many as there are tenants (%d)", cfg.Connections, cfg.Tenants)
	need(cfg.Rate >= 0, "rate %v: 0 or more", cfg.Rate)
	return errors.Join(errs...)
}

// A Crowd is the tenants and their connections. It is not safe for concurrent use.
type Crowd struct {
	cfg   Config
	lanes []*lane
}

// New prepares all requests, which takes some 50 µs each. The caller ends with Close.
func New(cfg Config) (*Crowd, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("a crowd of senders: %w", err)
	}
	c := &Crowd{cfg: cfg, lanes: make([]*lane, cfg.Connections)}
	var ready sync.WaitGroup
	for i := range c.lanes {
		ready.Go(func() { c.lanes[i] = newLane(&c.cfg, i) }) // ends when the lane is made
	}
	ready.Wait()
	return c, nil
}

// Close closes the connections.
func (c *Crowd) Close() {
	for _, l := range c.lanes {
		l.hangUp()
	}
}

// Send lets the next tenants send one request each, going round, until so many requests are answered or ctx ends. url is the base URL
// of the receiver, which may be another one each time. Nothing is sent a second time, unless a kept connection proves to be closed.
// The error is that of a connection that could not be made, or of ctx.
func (c *Crowd) Send(ctx context.Context, url string, requests int) (Report, error) {
	began := time.Now()
	parts, errs := make([]Report, len(c.lanes)), make([]error, len(c.lanes))
	var all sync.WaitGroup
	for i, l := range c.lanes {
		share := requests / len(c.lanes)
		if i < requests%len(c.lanes) {
			share++
		}
		all.Go(func() { parts[i], errs[i] = l.send(ctx, url, began, share) }) // ends with its share or ctx
	}
	all.Wait()
	r := Report{Answers: map[int]int{}, Took: time.Since(began)}
	for _, p := range parts {
		r.Requests += p.Requests
		r.waits = append(r.waits, p.waits...)
		for status, n := range p.Answers {
			r.Answers[status] += n
		}
	}
	slices.Sort(r.waits)
	r.Samples = (r.Answers[200] + r.Answers[204]) * c.cfg.Series
	return r, errors.Join(errs...)
}

// A Report is what became of what was sent.
type Report struct {
	// Requests were sent, of which those that got a 2xx brought Samples.
	Requests, Samples int
	// Answers counts requests by status; 0 is no answer at all.
	Answers map[int]int
	Took    time.Duration

	waits []time.Duration // of all that were answered, sorted
}

// Wait is how long at least that part of the requests waited for its answer, such as 0.99. With a Rate it counts from when a request was due.
func (r *Report) Wait(part float64) time.Duration {
	if len(r.waits) == 0 {
		return 0
	}
	return r.waits[min(int(part*float64(len(r.waits))), len(r.waits)-1)]
}

// AllAccepted is nil when everything was answered 204.
func (r *Report) AllAccepted() error {
	if r.Answers[204] != r.Requests {
		return fmt.Errorf("of %d requests not all were answered 204: %v", r.Requests, r.Answers)
	}
	return nil
}

// A lane is one connection, and the tenants who send over it: those whose number leaves index when divided by the number of lanes.
type lane struct {
	cfg     *Config
	index   int
	tenants int
	bodies  []*offer.Body
	sent    int // requests, ever

	conn *conn // nil when there is none
}

func newLane(cfg *Config, index int) *lane {
	l := &lane{cfg: cfg, index: index, tenants: (cfg.Tenants - index + cfg.Connections - 1) / cfg.Connections}
	bodies := l.tenants
	if cfg.Bodies > 0 {
		bodies = min(bodies, max(1, cfg.Bodies/cfg.Connections))
	}
	made := offer.Config{Metric: cfg.Metric, Labels: cfg.Labels}
	for i := range bodies {
		l.bodies = append(l.bodies, offer.NewBody(&made, cfg.FirstAccount+l.tenant(i), 0, cfg.Series))
	}
	return l
}

// tenant is the number of the lane's i-th tenant among all.
func (l *lane) tenant(i int) int { return l.index + i*l.cfg.Connections }

func (l *lane) send(ctx context.Context, url string, began time.Time, requests int) (Report, error) {
	r := Report{Answers: map[int]int{}, waits: make([]time.Duration, 0, requests)}
	for i := range requests {
		due := time.Now()
		if l.cfg.Rate > 0 {
			nth := i*l.cfg.Connections + l.index
			due = began.Add(time.Duration(float64(nth*l.cfg.Series) / l.cfg.Rate * float64(time.Second)))
		}
		if err := sleepUntil(ctx, due); err != nil {
			return r, err
		}
		turn := l.sent % l.tenants
		body := l.bodies[turn%len(l.bodies)].Fill(l.sent/l.tenants, time.Now().UnixMilli())
		l.sent++
		r.Requests++
		status, err := l.post(ctx, url, l.head(l.tenant(turn), len(body)), body)
		r.Answers[status]++
		if err != nil {
			return r, err
		}
		if status != 0 {
			r.waits = append(r.waits, time.Since(due))
		}
	}
	return r, nil
}

// head is the request line and the headers that are the tenant's.
func (l *lane) head(tenant, size int) []byte {
	if l.cfg.Alone {
		tenant = 0
	}
	b := make([]byte, 0, 256)
	if l.cfg.Token != nil {
		b = append(b, "POST /api/v1/write HTTP/1.1\r\nAuthorization: Bearer "...)
		b = append(b, l.cfg.Token(tenant)...)
	} else {
		b = append(b, "POST /insert/"...)
		b = strconv.AppendInt(b, int64(l.cfg.FirstAccount+tenant), 10)
		b = append(b, ":0/prometheus/api/v1/write HTTP/1.1"...)
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(size), 10)
	return append(b, "\r\n"...)
}

// post returns the status, 0 when there was no answer. A request over a connection that the other side had closed meanwhile is
// sent once more.
func (l *lane) post(ctx context.Context, url string, head, body []byte) (int, error) {
	for {
		if l.conn == nil || l.conn.url != url {
			l.hangUp()
			fresh, err := dial(ctx, url)
			if err != nil {
				return 0, err
			}
			l.conn = fresh
		}
		used := l.conn.used
		status, kept, err := l.conn.post(head, body)
		if !kept {
			l.hangUp()
		}
		if err == nil || !used {
			return status, nil
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
}

func (l *lane) hangUp() {
	if l.conn != nil {
		l.conn.stop()
		l.conn.Close()
		l.conn = nil
	}
}

func sleepUntil(ctx context.Context, at time.Time) error {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
