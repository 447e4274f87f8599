package status

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/logs"
)

// leastToken is the least number of characters that a token has to have to be worth anything.
const leastToken = 16

// A guard decides who may change something or look into memory, and writes down who did.
//
// Who connects to the unix socket may: the kernel lets nobody connect but the user that the process runs as. Over TCP it takes the
// token. An address proves nothing: behind a proxy or a mesh all look local.
type guard struct {
	token *credentials.File[string]
	cross http.CrossOriginProtection
	log   *slog.Logger
}

func newGuard(cfg Config, log *slog.Logger) *guard {
	return &guard{token: credentials.Secret("INGESTGW_ADMIN_TOKEN_FILE", cfg.Token.File, log), log: log}
}

// load reads the token for the first time.
func (g *guard) load() error {
	if err := g.token.Load(); err != nil {
		return fmt.Errorf("read the token of operators: %w", err)
	}
	if g.token.Configured() && len(g.token.Get()) < leastToken {
		return fmt.Errorf("read the token of operators: INGESTGW_ADMIN_TOKEN_FILE: it has %d characters, want %d or more", len(g.token.Get()), leastToken)
	}
	return nil
}

// A refusal is why a request is not answered.
type refusal struct {
	code int
	text string
}

// protect lets next answer only whom it should, and logs who asked for what and what came of it.
func (g *guard) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if no := g.refuse(r); no != nil {
			g.log.Warn("refused to an operator", "method", r.Method, "path", r.URL.Path, "who", whoAsks(r), "status", no.code, "why", no.text)
			if no.code == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="ingestgw"`)
			}
			writeError(w, no.code, no.text)
			return
		}
		watched := &statusWriter{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			g.log.InfoContext(logs.Always(r.Context()), "done for an operator", "method", r.Method, "path", r.URL.Path, "who", whoAsks(r), "status", watched.code)
		}()
		next.ServeHTTP(watched, r)
	})
}

// refuse returns nil if the request may go on.
func (g *guard) refuse(r *http.Request) *refusal {
	if g.crossSite(r) {
		return &refusal{http.StatusForbidden, "a page of another site has made the browser ask: nothing is done for it"}
	}
	if fromSocket(r.Context()) {
		return nil
	}
	token := g.token.Get()
	if !g.token.Configured() || len(token) < leastToken {
		return &refusal{http.StatusForbidden, "without a token of operators this is answered on the unix socket only: set INGESTGW_ADMIN_TOKEN_FILE " +
			"(one line of 16 characters or more) and send it as Authorization: Bearer, or set INGESTGW_ADMIN_SOCKET and ask there (curl --unix-socket)"}
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return &refusal{http.StatusUnauthorized, "this needs the header Authorization: Bearer with the token in INGESTGW_ADMIN_TOKEN_FILE"}
	}
	if !same(strings.TrimSpace(given), token) {
		return &refusal{http.StatusUnauthorized, "this is not the token in INGESTGW_ADMIN_TOKEN_FILE"}
	}
	return nil
}

// crossSite says whether a browser asks for another site's page. GET counts too: profiles cost CPU.
func (g *guard) crossSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return g.cross.Check(r) != nil || site == "cross-site" || site == "same-site"
}

// same compares in a time that tells nothing of the texts, not even their lengths.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// connKey is under which a request's context has its peer, if it came by the unix socket.
type connKey struct{}

// tellSocket is for http.Server.ConnContext.
func tellSocket(ctx context.Context, c net.Conn) context.Context {
	if unix, ok := c.(*net.UnixConn); ok {
		return context.WithValue(ctx, connKey{}, peerOf(unix))
	}
	return ctx
}

func fromSocket(ctx context.Context) bool { return ctx.Value(connKey{}) != nil }

// whoAsks names who has sent the request, as far as that can be known.
func whoAsks(r *http.Request) string {
	if peer, ok := r.Context().Value(connKey{}).(string); ok {
		return "unix socket, " + peer
	}
	return r.RemoteAddr
}

// A statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
