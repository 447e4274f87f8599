// Package status serves the listener for operators: a page, the same as an API, metrics, health, profiles, and what may be changed.
package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/alarm"
)

const (
	readTimeout = 10 * time.Second
	idleTimeout = 2 * time.Minute
	// writeTimeout is for a scraper on a slow line. Profiles, traces and events, which take longer, put it off by themselves.
	writeTimeout = 30 * time.Second
	// scrapesAtOnce bounds what scrapers that give up and come again can pile up.
	scrapesAtOnce = 4
)

// A Server is the listener for operators. It is not ready until SetReady says so.
type Server struct {
	cfg      Config
	version  string
	process  string // its name
	log      *slog.Logger
	gatherer prometheus.Gatherer
	guard    *guard
	watcher  *watcher
	viewers  viewers
	ready    atomic.Bool
	// tenants is nil until SetTenants.
	tenants  atomic.Pointer[Tenants]
	memory   atomic.Pointer[Memory]                 // nil until SetMemory
	alarms   atomic.Pointer[func() []Alarm]         // nil until SetAlarms
	vitals   atomic.Pointer[func() []NodeVitals]    // nil until SetVitals
	readings atomic.Pointer[func() *alarm.Readings] // nil until SetReadings
	http     http.Server

	listener net.Listener
	socket   *socket // nil: none
	// stopping ends when Shutdown begins: what never ends by itself ends then.
	stopping context.Context
	stop     context.CancelFunc
}

// New returns a Server that shows the metrics in reg, to which it adds those of the Go runtime, the process and the build.
// version is what the build calls itself.
func New(cfg Config, version string, log *slog.Logger, reg *prometheus.Registry) *Server {
	registerProcess(reg, version)
	s := &Server{cfg: cfg, version: version, process: processName(), log: log, gatherer: reg, guard: newGuard(cfg, log)}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.watcher = newWatcher(reg, cfg.History, log)
	s.http = http.Server{
		Handler:           secure(s.routes().mux),
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       tellSocket,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

func (s *Server) answerReady(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		say(w, http.StatusServiceUnavailable, "not ready: starting or stopping\n")
		return
	}
	say(w, http.StatusOK, "ready\n")
}

// SetReady says whether the process wants requests: it does from the end of its start to the beginning of its stop. A full or
// unreachable buffer is no reason to say no: requests are then answered with 503, which senders understand, while a load
// balancer that finds no process ready gives them worse.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Listen reads the token and binds the address and the unix socket. Connections wait until Serve.
func (s *Server) Listen() error {
	if err := s.guard.load(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", string(s.cfg.Listen))
	if err != nil {
		return fmt.Errorf("listen for operators (INGESTGW_ADMIN_LISTEN): %w", err)
	}
	if s.cfg.Socket != "" {
		if s.socket, err = listenSocket(s.cfg.Socket); err != nil {
			l.Close()
			return fmt.Errorf("listen for operators on a unix socket (INGESTGW_ADMIN_SOCKET): %w", err)
		}
	}
	s.listener = l
	s.log.Info("listening for operators", slog.String("address", l.Addr().String()), "socket", s.cfg.Socket)
	return nil
}

// Addr is the address that Listen bound.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers requests and writes down history until Shutdown, and then returns nil. What it has started has ended then.
func (s *Server) Serve() error {
	var group errgroup.Group
	serve := func(l net.Listener) {
		group.Go(func() error {
			err := s.http.Serve(l)
			s.stop() // all of them end together
			if !errors.Is(err, http.ErrServerClosed) {
				return errors.Join(fmt.Errorf("serve operators: %w", err), s.http.Close())
			}
			return nil
		})
	}
	serve(s.listener)
	if s.socket != nil {
		serve(s.socket)
	}
	group.Go(func() error { s.watcher.run(s.stopping); return nil })
	return group.Wait()
}

// Shutdown closes the listeners and waits for the requests in flight; those that are still there when ctx ends are cut off. Events
// end at once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("wait for requests of operators: %w", errors.Join(err, s.http.Close()))
	}
	return nil
}
