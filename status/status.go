// Package status serves the admin listener: metrics, health, profiles, and what is known of a tenant.
package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	readTimeout = 10 * time.Second
	idleTimeout = 2 * time.Minute
	// writeTimeout is for a scraper on a slow line. Profiles and traces that take longer put it off by themselves.
	writeTimeout = 30 * time.Second
	// scrapesAtOnce bounds what scrapers that give up and come again can pile up.
	scrapesAtOnce = 4
)

// A Server is the listener for operators. It is not ready until SetReady says so.
type Server struct {
	cfg   Config
	log   *slog.Logger
	ready atomic.Bool
	// tenants is nil until SetTenants.
	tenants atomic.Pointer[Tenants]
	// memory is nil until SetMemory.
	memory atomic.Pointer[Memory]
	http   http.Server

	listener net.Listener
}

// New returns a Server that shows the metrics in reg, to which it adds those of the Go runtime, the process and the build.
// version is what the build calls itself.
func New(cfg Config, version string, log *slog.Logger, reg *prometheus.Registry) *Server {
	registerProcess(reg, version)
	s := &Server{cfg: cfg, log: log}
	s.http = http.Server{
		Handler:           s.routes(version, reg),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

func (s *Server) routes(version string, reg *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError, // one metric that fails must not hide all others
		MaxRequestsInFlight: scrapesAtOnce,
	}))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "healthy\n") })
	mux.HandleFunc("GET /-/ready", s.answerReady)
	s.tenantRoutes(mux)
	s.memoryRoutes(mux)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, index, version)
	})
	return mux
}

const index = `<!DOCTYPE html>
<html lang="en">
<title>ingestgw</title>
<h1>ingestgw %s</h1>
<ul>
<li><a href="/metrics">/metrics</a>: what it does and what it costs, for Prometheus</li>
<li><a href="/-/healthy">/-/healthy</a>: 200 while the process runs</li>
<li><a href="/-/ready">/-/ready</a>: 200 once it has started and until it stops, else 503</li>
<li>/api/v1/tenants/&lt;account&gt;:&lt;project&gt;: what one tenant sends, and what was refused to it</li>
<li><a href="/api/v1/memory">/api/v1/memory</a>: GOGC and memory limit, what garbage collection costs; PUT changes them</li>
<li><a href="/debug/pprof/">/debug/pprof/</a>: profiles, for go tool pprof</li>
</ul>
</html>
`

func (s *Server) answerReady(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		say(w, http.StatusServiceUnavailable, "not ready: starting or stopping\n")
		return
	}
	say(w, http.StatusOK, "ready\n")
}

func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}

// SetReady says whether the process wants requests: it does from the end of its start to the beginning of its stop. A full or
// unreachable buffer is no reason to say no: requests are then answered with 503, which senders understand, while a load
// balancer that finds no process ready gives them worse.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Listen binds the address. Connections wait until Serve.
func (s *Server) Listen() error {
	l, err := net.Listen("tcp", string(s.cfg.Listen))
	if err != nil {
		return fmt.Errorf("listen for operators (INGESTGW_ADMIN_LISTEN): %w", err)
	}
	s.listener = l
	s.log.Info("listening for operators", slog.String("address", l.Addr().String()))
	return nil
}

// Addr is the address that Listen bound.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests until Shutdown, and then returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operators: %w", err)
	}
	return nil
}

// Shutdown closes the listener and waits for the requests in flight; those that are still there when ctx ends are cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("wait for requests of operators: %w", errors.Join(err, s.http.Close()))
	}
	return nil
}
