package status

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// start is serve with other settings, and with a log to look into.
func serveWith(t *testing.T, cfg Config) (*Server, *bytes.Buffer) {
	t.Helper()
	cfg.Listen, cfg.History = "127.0.0.1:0", time.Hour
	log := new(bytes.Buffer)
	s := New(cfg, "v1.2.3", slog.New(slog.NewTextHandler(log, nil)), prometheus.NewRegistry())
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	return s, log
}

// protectedPaths is what wants a token.
var protectedPaths = []string{
	"POST /-/reload", "POST /api/v1/tenants/12:3/invalidate", "GET /debug/pprof/", "GET /debug/pprof/heap", "GET /debug/pprof/cmdline",
	"GET /debug/pprof/profile", "GET /debug/pprof/trace", "GET /debug/pprof/symbol", "POST /debug/pprof/symbol",
}

func TestWithoutATokenNothingIsChangedOverTCP(t *testing.T) {
	s, _ := serveWith(t, Config{})
	d := &desk{}
	s.SetTenants(d)
	for _, p := range protectedPaths {
		method, path, _ := strings.Cut(p, " ")
		code, text := do(t, s, method, path, "Authorization", "Bearer ")
		if code != 403 || !strings.Contains(text, "INGESTGW_ADMIN_TOKEN_FILE") || !strings.Contains(text, "INGESTGW_ADMIN_SOCKET") {
			t.Errorf("%s: answered %d %s, want 403 that says what to set", p, code, text)
		}
	}
	if d.reloads != 0 || len(d.invalidated) != 0 {
		t.Errorf("%d reloads, %d invalidations", d.reloads, len(d.invalidated))
	}
	if code, _ := do(t, s, "GET", "/api/v1/status"); code != 200 {
		t.Errorf("what only reads is answered %d", code)
	}
}

func TestOnlyTheTokenOpensWhatIsProtected(t *testing.T) {
	s, _ := serve(t)
	d := &desk{}
	s.SetTenants(d)
	for name, header := range map[string]string{
		"none": "", "another": "Bearer of-the-operators-of-testz", "a longer one": "Bearer " + token + "x", "a shorter one": "Bearer " + token[:20],
		"no scheme": token, "as a password": "Basic " + token, "an empty one": "Bearer ", "two": "Bearer " + token + " " + token,
	} {
		for _, p := range protectedPaths {
			method, path, _ := strings.Cut(p, " ")
			if code, text := do(t, s, method, path, "Authorization", header); code != 401 || !strings.Contains(text, "INGESTGW_ADMIN_TOKEN_FILE") {
				t.Errorf("%s with %s: answered %d %s", p, name, code, text)
			}
		}
	}
	if d.reloads != 0 || len(d.invalidated) != 0 {
		t.Errorf("%d reloads, %d invalidations", d.reloads, len(d.invalidated))
	}
	for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
		if code, _ := do(t, s, "POST", "/-/reload", "Authorization", scheme+" "+token); code != 200 {
			t.Errorf("with the token and %s: answered %d", scheme, code)
		}
	}
}

func TestWhatAnotherSiteMakesABrowserAskIsRefused(t *testing.T) {
	s, _ := serve(t)
	d := &desk{}
	s.SetTenants(d)
	for name, headers := range map[string][]string{
		"cross-site":         {"Sec-Fetch-Site", "cross-site"},
		"same-site":          {"Sec-Fetch-Site", "same-site"},
		"another origin":     {"Origin", "https://evil.example"},
		"the null origin":    {"Origin", "null"},
		"both, contradicted": {"Sec-Fetch-Site", "cross-site", "Origin", "http://" + s.Addr().String()},
	} {
		code, text := do(t, s, "POST", "/-/reload", append(headers, "Authorization", "Bearer "+token)...)
		if code != 403 || !strings.Contains(text, "another site") {
			t.Errorf("%s: answered %d %s", name, code, text)
		}
	}
	if code, _ := do(t, s, "GET", "/debug/pprof/heap", "Sec-Fetch-Site", "cross-site", "Authorization", "Bearer "+token); code != 403 {
		t.Errorf("a profile for another site: answered %d", code)
	}
	if d.reloads != 0 {
		t.Errorf("%d reloads", d.reloads)
	}
	for name, headers := range map[string][]string{
		"our page":      {"Sec-Fetch-Site", "same-origin", "Origin", "http://" + s.Addr().String()},
		"no browser":    nil,
		"typed by hand": {"Sec-Fetch-Site", "none"},
	} {
		if code, text := do(t, s, "POST", "/-/reload", append(headers, "Authorization", "Bearer "+token)...); code != 200 {
			t.Errorf("%s: answered %d %s", name, code, text)
		}
	}
}

func TestWhoDidWhatIsLoggedAndNoToken(t *testing.T) {
	cfg := Config{}
	cfg.Token.File = tokenFile(t, token)
	s, log := serveWith(t, cfg)
	s.SetTenants(&desk{})
	do(t, s, "POST", "/-/reload", "Authorization", "Bearer "+token)
	do(t, s, "POST", "/-/reload", "Authorization", "Bearer wrong-wrong-wrong-wrong")
	if err := s.Shutdown(t.Context()); err != nil { // what is done is logged when it has been answered
		t.Fatal(err)
	}
	text := log.String()
	for _, want := range []string{`msg="done for an operator" method=POST path=/-/reload who=127.0.0.1:`, "status=200", `msg="refused to an operator" method=POST path=/-/reload who=127.0.0.1:`, "status=401"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, token) || strings.Contains(text, "wrong-wrong") {
		t.Errorf("the log shows a token:\n%s", text)
	}
}

func TestATokenThatCannotBeReadOrIsTooShortIsAnErrorAtTheStart(t *testing.T) {
	for name, file := range map[string]string{"none": filepath.Join(t.TempDir(), "none"), "short": tokenFile(t, "short"), "empty": tokenFile(t, "")} {
		cfg := Config{Listen: "127.0.0.1:0"}
		cfg.Token.File = file
		err := New(cfg, "v", slog.New(slog.DiscardHandler), prometheus.NewRegistry()).Listen()
		if err == nil || !strings.Contains(err.Error(), "INGESTGW_ADMIN_TOKEN_FILE") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// socketPath is short enough for a unix socket, which t.TempDir need not be.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "admin")
}

func overSocket(t *testing.T, path, method, target string, headers ...string) int {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://socket"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestTheUnixSocketNeedsNoTokenAndIsOurUsersAlone(t *testing.T) {
	path := socketPath(t)
	s, log := serveWith(t, Config{Socket: path})
	d := &desk{}
	s.SetTenants(d)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("mode %v, %v; want a socket with 0600", info.Mode(), err)
	}
	if code := overSocket(t, path, "POST", "/-/reload"); code != 200 || d.reloads != 1 {
		t.Errorf("reload: answered %d, %d reloads", code, d.reloads)
	}
	if code := overSocket(t, path, "GET", "/debug/pprof/heap"); code != 200 {
		t.Errorf("a profile: answered %d", code)
	}
	if code := overSocket(t, path, "POST", "/-/reload", "Sec-Fetch-Site", "cross-site"); code != 403 || d.reloads != 1 {
		t.Errorf("reload for another site, by way of some proxy: answered %d", code)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after the end: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("something is left beside it: %v", left)
	}
	if !strings.Contains(log.String(), `who="unix socket, user `) {
		t.Errorf("the log does not say who came by the socket:\n%s", log)
	}
}

func TestAStaleSocketIsReplacedAndNothingElseIs(t *testing.T) {
	path := socketPath(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a socket that is in use: %v", err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	l, err := listenSocket(path)
	if err != nil {
		t.Fatalf("a socket that was left behind: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file has become %q, %v", text, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("something is left beside it: %v", left)
	}
}

func TestASocketThatIsSomebodyElsesByNowStays(t *testing.T) {
	path := socketPath(t)
	l, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first one's end has taken the second one's socket away: %v", err)
	}
}

func TestListenErrorNamesTheSocketsSetting(t *testing.T) {
	s := New(Config{Listen: "127.0.0.1:0", Socket: "/nowhere/at/all"}, "v", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "INGESTGW_ADMIN_SOCKET") {
		t.Errorf("Listen: %v", err)
	}
}

func TestSettingsThatAreWrongAreNamed(t *testing.T) {
	err := Config{Socket: "relative", History: time.Minute}.Validate()
	if err == nil || !strings.Contains(err.Error(), "INGESTGW_ADMIN_SOCKET=relative") || !strings.Contains(err.Error(), "INGESTGW_ADMIN_HISTORY=1m0s") {
		t.Errorf("Validate: %v", err)
	}
	if err := (Config{Socket: "/run/ingestgw.sock", History: time.Hour}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestEveryAnswerKeepsBrowsersFromDoingMore(t *testing.T) {
	s, _ := serve(t)
	for _, path := range []string{"/", "/assets/page.js", "/api/v1/status", "/metrics", "/nothing"} {
		resp, err := http.Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: headers %v", path, resp.Header)
		}
	}
}
