// Package canary measures how old the freshest sample is that can be read: it sends a series of ingestgw's own through the buffer and
// every vminsert, and reads it back from every vmselect.
//
//	          ┌──▶ buffer ──▶ forward ──▶ some vminsert ──┐
//	canary ───┤                                           ├──▶ vmstorage ──▶ every vmselect ──▶ canary
//	          └──▶ every vminsert by itself ──────────────┘
//
// The series is ingestgw_canary{group, path="buffer"} and ingestgw_canary{group, path="vminsert", node}; its value is when it was sent,
// in seconds since 1970-01-01 UTC. What cannot be read although a vmselect answers is stuck on its way in; when no vmselect answers,
// nothing is known of the way in, and the View says that the read path is at fault. One process of a consumer group probes.
//
// Ages are measured by this process's clock alone: a sample counts by the round in which it was written, not by its timestamp.
//
// KNOWN GAP: with Kafka a sample goes to one partition, another each time. When only some of them are stuck, the samples of the
// others are fresh.
package canary

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/clock"
)

// A Gateway is what a Canary probes. All methods are safe for concurrent use.
type Gateway interface {
	// Leads says whether this process is the one of its group that is to probe. It is cheap. Two that lead for a moment do no harm.
	Leads() bool
	// Append stores a record, as buffer.Gatherer does, for whoever forwards.
	Append(ctx context.Context, lane buffer.Lane, r buffer.Record, release func()) error
	// Nodes are the vminserts that there are now, each once.
	Nodes() []Node
}

// A Node is a vminsert, and what sends requests to it with the credentials it wants. Do has no time-out but the request's context, and
// an error of it does not repeat the URL.
type Node struct {
	Endpoint downstream.Endpoint
	Do       func(*http.Request) (*http.Response, error)
}

// A client speaks to one vmselect. *downstream.Client is one.
type client interface {
	Do(*http.Request) (*http.Response, error)
	Close()
}

// A resolver finds the addresses of vmselects. *downstream.Resolver is one.
type resolver interface {
	Resolve(context.Context, []*url.URL) ([]downstream.Endpoint, error)
}

// A Canary probes while its process leads.
type Canary struct {
	cfg      Config
	group    string
	selects  []*url.URL
	gateway  Gateway
	resolver resolver
	dial     func(downstream.Endpoint) client
	log      *slog.Logger
	metrics  *metrics

	mu   sync.Mutex
	term *term // nil while this process does not lead
}

// New returns a Canary that reads from the vmselects at those URLs, whose names resolver looks up and which are spoken to with the
// credentials. group is the name of the consumer group and becomes a label of the series. The error is that of Config.Validate.
func New(cfg Config, group string, selects []*url.URL, gateway Gateway, resolver *downstream.Resolver, credentials *downstream.Credentials,
	log *slog.Logger, reg prometheus.Registerer,
) (*Canary, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dial := func(ep downstream.Endpoint) client { return downstream.NewClient(ep, credentials, 1) }
	return newCanary(cfg, group, selects, gateway, resolver, dial, log, reg), nil
}

func newCanary(cfg Config, group string, selects []*url.URL, gateway Gateway, resolver resolver, dial func(downstream.Endpoint) client,
	log *slog.Logger, reg prometheus.Registerer,
) *Canary {
	c := &Canary{cfg: cfg, group: group, selects: selects, gateway: gateway, resolver: resolver, dial: dial, log: log}
	c.metrics = newMetrics(c, reg)
	return c
}

// Run probes whenever this process leads, until ctx ends, and returns ctx.Err() when everything on its way has been given up.
func (c *Canary) Run(ctx context.Context) error {
	defer c.resign()
	for {
		if t := c.lead(ctx); t != nil {
			t.step()
		}
		if !clock.Sleep(ctx, c.cfg.Every/2) {
			return ctx.Err()
		}
	}
}

// lead returns the term, and begins or ends one as the group wants it.
func (c *Canary) lead(ctx context.Context) *term {
	t := c.current()
	switch leads := c.gateway.Leads(); {
	case leads && t == nil:
		t = newTerm(ctx, c)
		c.set(t)
		c.log.Info("this process is the one of its group that sends the canary", "group", c.group)
	case !leads && t != nil:
		c.resign()
		c.log.Info("another process of the group sends the canary from now on", "group", c.group)
		return nil
	}
	return t
}

// resign ends the term, if there is one, and waits for its goroutines.
func (c *Canary) resign() {
	if t := c.current(); t != nil {
		t.end()
		c.set(nil)
	}
}

func (c *Canary) current() *term {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.term
}

func (c *Canary) set(t *term) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.term = t
}
