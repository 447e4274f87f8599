// Package ingest accepts remote-write requests and answers once their samples are durable.
package ingest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

const (
	// idleTimeout is longer than the usual scrape intervals, so that a sender of one request a minute keeps its connection.
	idleTimeout = 2 * time.Minute
	// maxHeader is enough for any sender's headers, with a long bearer token.
	maxHeader = 64 << 10
)

// An Access finds out who sends. *access.Access is one.
type Access interface {
	// Identify says who sends the request, of whose tenant its path says path. The error is one that the answers know; the Sender beside it
	// is nil, or says whose credential it was.
	Identify(ctx context.Context, r *http.Request, path access.Name) (*tenant.Sender, error)
}

// A Server is the listener that senders talk to.
type Server struct {
	cfg       Config
	access    Access
	limits    *limit.Registry
	valid     remotewrite.Limits
	gather    *buffer.Gatherer
	budget    *memory.Budget
	decoders  decoders
	bodies    bodies
	deadlines deadlines
	metrics   *metrics
	log       *slog.Logger

	listener net.Listener
	http     http.Server
}

// New returns a Server that takes what access and limits let through, and stores it through gather, within the budget of bytes in
// flight. The error is about files that cfg names and that cannot be read.
func New(cfg Config, access Access, limits *limit.Registry, gather *buffer.Gatherer, budget *memory.Budget,
	log *slog.Logger, reg prometheus.Registerer,
) (*Server, error) {
	secure, err := credentials.LoadListener(TLSPrefix, cfg.TLS, log)
	if err != nil {
		return nil, fmt.Errorf("load the certificates of the listener for remote-write: %w", err)
	}
	if cfg.Gateway == "" {
		if cfg.Gateway, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("the host has no name, set INGESTGW_INGEST_GATEWAY: %w", err)
		}
	}
	s := &Server{
		cfg:    cfg,
		access: access,
		limits: limits,
		valid: remotewrite.Limits{
			Series: cfg.MaxSeries, Expanded: int(cfg.MaxExpanded), LegacyNames: cfg.LabelNames == namesLegacy,
		},
		gather:   gather,
		budget:   budget,
		decoders: newDecoders(runtime.GOMAXPROCS(0), cfg),
		metrics:  newMetrics(reg),
		log:      log,
	}
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: cfg.ReadTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnContext:       s.connected,
		ConnState:         s.metrics.connection,
		TLSConfig:         secure.Config(),
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2: one request at a time on a connection
	}
	if s.http.TLSConfig != nil {
		s.metrics.expiry(reg, secure)
	}
	return s, nil
}

// Listen binds the address. Connections wait until Serve.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", string(s.cfg.Listen))
	if err != nil {
		return fmt.Errorf("listen for remote-write (INGESTGW_INGEST_LISTEN): %w", err)
	}
	scheme := "http"
	if s.http.TLSConfig != nil {
		l, scheme = tls.NewListener(l, s.http.TLSConfig), "https"
	}
	s.listener = l
	s.log.Info("listening for remote-write", slog.String("address", l.Addr().String()), slog.String("scheme", scheme))
	return nil
}

// Addr is the address that Listen bound.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until Shutdown, and then returns nil.
func (s *Server) Serve() error {
	if s.cfg.Discarded {
		ctx, cancel := context.WithCancel(context.Background())
		var telling sync.WaitGroup
		telling.Go(func() { s.tellDiscarded(ctx) }) // ends when Serve does, which waits for it
		defer telling.Wait()
		defer cancel()
	}
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve remote-write: %w", err)
	}
	return nil
}

// Shutdown closes the listener and idle connections, and waits for the requests in flight or for ctx. Bodies that have not come when
// three quarters of the time are over are answered 503.
func (s *Server) Shutdown(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok {
		s.deadlines.shorten(time.Now().Add(time.Until(end) * 3 / 4))
	}
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("wait for requests in flight: %w", errors.Join(err, s.http.Close()))
	}
	return nil
}

// retirement is the context key of the time after which a connection is to be closed.
type retirement struct{}

// connected gives a new connection its time to retire, spread so that those that came together do not leave together.
func (s *Server) connected(ctx context.Context, _ net.Conn) context.Context {
	if s.cfg.ConnMaxAge == 0 {
		return ctx
	}
	age := time.Duration(float64(s.cfg.ConnMaxAge) * (0.9 + 0.2*rand.Float64()))
	return context.WithValue(ctx, retirement{}, time.Now().Add(age))
}

// retire asks the sender to close a connection that is old: with a header, after a whole answer, so that nothing is lost.
func (s *Server) retire(r *http.Request, h http.Header) {
	at, ok := r.Context().Value(retirement{}).(time.Time)
	if ok && time.Now().After(at) {
		h.Set("Connection", "close")
		s.metrics.retired.Inc()
	}
}
