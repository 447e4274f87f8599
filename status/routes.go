package status

import (
	"log/slog"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// routes is what is served. Whatever is not read with GET changes something, and is protected without anybody thinking of it.
type routes struct {
	mux   *http.ServeMux
	guard *guard
	// patterns is all of them, "GET /api/v1/status".
	patterns []string
}

// HandleFunc adds a handler under a pattern with a method.
func (r *routes) HandleFunc(pattern string, h http.HandlerFunc) { r.Handle(pattern, h) }

// Handle adds a handler under a pattern with a method.
func (r *routes) Handle(pattern string, h http.Handler) {
	if !strings.HasPrefix(pattern, "GET ") {
		h = r.guard.protect(h)
	}
	r.patterns = append(r.patterns, pattern)
	r.mux.Handle(pattern, h)
}

// protected adds a handler that is protected although it changes nothing.
func (r *routes) protected(pattern string, h http.Handler) {
	r.patterns = append(r.patterns, pattern)
	r.mux.Handle(pattern, r.guard.protect(h))
}

// routes lists all that is served.
func (s *Server) routes() *routes {
	r := &routes{mux: http.NewServeMux(), guard: s.guard}
	r.Handle("GET /metrics", promhttp.HandlerFor(s.gatherer, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError, // one metric that fails must not hide all others
		MaxRequestsInFlight: scrapesAtOnce,
	}))
	r.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "healthy\n") })
	r.HandleFunc("GET /-/ready", s.answerReady)
	s.tenantRoutes(r)
	s.memoryRoutes(r)
	s.profileRoutes(r)
	s.apiRoutes(r)
	s.pageRoutes(r)
	return r
}

// profileRoutes adds profiles, which show memory and cost CPU.
func (s *Server) profileRoutes(r *routes) {
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /debug/pprof/":        pprof.Index,
		"GET /debug/pprof/cmdline": pprof.Cmdline,
		"GET /debug/pprof/profile": pprof.Profile,
		"GET /debug/pprof/symbol":  pprof.Symbol,
		"POST /debug/pprof/symbol": pprof.Symbol,
		"GET /debug/pprof/trace":   pprof.Trace,
	} {
		r.protected(pattern, unhurried(h))
	}
	r.protected("GET /debug/readings", http.HandlerFunc(s.answerReadings))
}

// answerReadings tells what alarms were decided on: what belongs to a report of one that was false or missing.
func (s *Server) answerReadings(w http.ResponseWriter, _ *http.Request) {
	if read := s.readings.Load(); read != nil {
		if r := (*read)(); r != nil {
			s.sayJSON(w, http.StatusOK, r)
			return
		}
	}
	s.sayError(w, http.StatusServiceUnavailable, "nothing has been looked at yet")
}

// unhurried lets a handler take its time: when the read time-out strikes, the server takes the client for gone and cancels the request.
func unhurried(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // without it, it is cut short
		h(w, r)
	})
}

// secure sets what keeps browsers from doing what the page does not.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "+
			"form-action 'none'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}
