package downstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
	"github.com/ingestgw/ingestgw/internal/settings"
)

func load(t testing.TB, cfg ClientConfig) *Credentials {
	t.Helper()
	c, err := LoadCredentials(cfg, silent())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// endpointOf is the server under a name that no DNS knows.
func endpointOf(t *testing.T, server *httptest.Server, base string) Endpoint {
	t.Helper()
	return Endpoint{Base: mustURL(t, base), Addr: server.Listener.Addr().String()}
}

func post(t *testing.T, c *Client, ep Endpoint) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, ep.URL("/insert").String(), strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return resp, err
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestClientDialsTheAddressAndSpeaksToTheName(t *testing.T) {
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	}))
	defer server.Close()
	ep := endpointOf(t, server, "http://user:secret@vminsert-0.invalid:8480")
	c := NewClient(ep, load(t, ClientConfig{Headers: "X-Scope: a, b^^X-Other:c", BasicAuthUser: "other"}), 1)
	resp, err := post(t, c, ep)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusFound {
		t.Errorf("answer %d: the redirect was followed", resp.StatusCode)
	}
	user, password, _ := got.BasicAuth()
	if got.Host != "vminsert-0.invalid:8480" || got.ProtoMajor != 1 || user != "user" || password != "secret" {
		t.Errorf("host %s, HTTP %d, user %s:%s", got.Host, got.ProtoMajor, user, password)
	}
	if got.Header.Get("X-Scope") != "a, b" || got.Header.Get("X-Other") != "c" || got.Header.Get("Accept-Encoding") != "" {
		t.Errorf("headers %v", got.Header)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	ep := endpointOf(t, server, "http://vm.invalid")
	c := NewClient(ep, load(t, ClientConfig{}), 2)
	for range 5 {
		if _, err := post(t, c, ep); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 5 requests one after the other", n)
	}
}

// A server answers when it has read the first byte, with more than anybody wants to read, and reads on. What the request's bytes
// become once the answer is closed is for the race detector to see, and for the server, which finds none of it.
func TestAnEarlyAnswerEndsTheReadingOfTheRequest(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	received := make(chan bool, 1)
	go func() { // ends when the client closes the connection
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1)) // an answer before that would end the connection
		_, _ = io.WriteString(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 100_000))
		all, _ := io.ReadAll(conn)
		received <- bytes.Contains(all, []byte("another block's"))
	}()
	base, err := url.Parse("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(Endpoint{Base: base, Addr: listener.Addr().String()}, load(t, ClientConfig{}), 1)
	body := make([]byte, 32<<20)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base.String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answered %d", resp.StatusCode)
	}
	resp.Body.Close()
	copy(body[len(body)-100:], "another block's")
	if <-received {
		t.Error("the server has read what the bytes became after the answer was closed")
	}
}

func TestBadClientSettingsAreToldByName(t *testing.T) {
	dir := t.TempDir()
	junk := write(t, filepath.Join(dir, "junk"), []byte("junk"))
	empty := write(t, filepath.Join(dir, "empty"), nil)
	for want, cfg := range map[string]ClientConfig{
		"INGESTGW_FORWARD_TLS_CA_FILE":              {TLS: credentials.TLSConfig{CAFile: junk}},
		"INGESTGW_FORWARD_TLS_CERT_FILE":            {TLS: credentials.TLSConfig{CertFile: junk, KeyFile: junk}},
		"INGESTGW_FORWARD_TLS_KEY_FILE":             {TLS: credentials.TLSConfig{CertFile: junk}},
		"INGESTGW_FORWARD_METRICS_AUTH_KEY_FILE":    {MetricsAuthKeyFile: empty},
		"INGESTGW_FORWARD_BEARER_TOKEN_FILE":        {BearerTokenFile: filepath.Join(dir, "none")},
		"INGESTGW_FORWARD_BASIC_AUTH_USER":          {BasicAuthPasswordFile: junk},
		"INGESTGW_FORWARD_HEADERS: header 2 is not": {Headers: "A: b^^hunter2"},
		"exclude each other":                        {BearerTokenFile: junk, BasicAuthUser: "me"},
	} {
		_, err := LoadCredentials(cfg, silent())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("want an error with %s, got %v", want, err)
		}
	}
}

func TestSettingsHaveTheNamesThatOperatorsKnow(t *testing.T) {
	var cfg ClientConfig
	names := map[string]bool{}
	for _, s := range settings.Describe("INGESTGW", settings.Group{Prefix: "FORWARD", Config: &cfg}) {
		names[strings.TrimPrefix(s.Name, "INGESTGW_FORWARD_")] = true
	}
	for _, want := range []string{
		"TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_SERVER_NAME", "TLS_INSECURE_SKIP_VERIFY", "HEADERS",
		"BASIC_AUTH_USER", "BASIC_AUTH_PASSWORD_FILE", "BEARER_TOKEN_FILE", "METRICS_AUTH_KEY_FILE",
	} {
		if !names[want] {
			t.Errorf("no setting %s among %v", want, names)
		}
	}
}

// secureServer has a certificate of an authority for a name, and says what a client has shown.
func secureServer(t *testing.T, of *credentialstest.Authority, name string) *httptest.Server {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(of.Issue(t, pkix.Name{CommonName: name}, name))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Sni", r.TLS.ServerName)
		w.Header().Set("Shown", strconv.Itoa(len(r.TLS.PeerCertificates)))
		w.WriteHeader(http.StatusNoContent)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: of.Pool()}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestCertificatesAreCheckedAgainstTheNameAndTheAuthority(t *testing.T) {
	ours, foreign := credentialstest.NewAuthority(t, "ours"), credentialstest.NewAuthority(t, "foreign")
	ca := ours.File(t)
	cert, key := ours.Issue(t, pkix.Name{CommonName: "client"})
	server := secureServer(t, ours, "vminsert.invalid")
	for _, test := range []struct {
		name, base string
		cfg        credentials.TLSConfig
		server     *httptest.Server
		ok         bool
		sni        string
	}{
		{"right", "https://vminsert.invalid:8480", credentials.TLSConfig{CAFile: ca, CertFile: cert, KeyFile: key}, server, true, "vminsert.invalid"},
		{"system's authorities", "https://vminsert.invalid", credentials.TLSConfig{}, server, false, ""},
		{"other name", "https://vmstorage.invalid", credentials.TLSConfig{CAFile: ca}, server, false, ""},
		{"name given", "https://vmstorage.invalid", credentials.TLSConfig{CAFile: ca, ServerName: "vminsert.invalid"}, server, true, "vminsert.invalid"},
		{"other authority", "https://vminsert.invalid", credentials.TLSConfig{CAFile: ca}, secureServer(t, foreign, "vminsert.invalid"), false, ""},
		{"unchecked", "https://vmstorage.invalid", credentials.TLSConfig{InsecureSkipVerify: true}, server, true, "vmstorage.invalid"},
		{"other address", "https://127.0.0.2", credentials.TLSConfig{CAFile: ca}, server, false, ""},
	} {
		ep := endpointOf(t, test.server, test.base)
		resp, err := post(t, NewClient(ep, load(t, ClientConfig{TLS: test.cfg}), 1), ep)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
		if err != nil {
			continue
		}
		if got := resp.Header.Get("Sni"); got != test.sni {
			t.Errorf("%s: server name %q, want %q", test.name, got, test.sni)
		}
		if shown := resp.Header.Get("Shown") == "1"; shown != (test.cfg.CertFile != "") {
			t.Errorf("%s: certificate shown: %v", test.name, shown)
		}
	}
}

func TestNewAuthorityIsTrustedWithoutRestart(t *testing.T) {
	t.Parallel()
	before, after := credentialstest.NewAuthority(t, "before"), credentialstest.NewAuthority(t, "after")
	ca := before.File(t)
	loaded := load(t, ClientConfig{TLS: credentials.TLSConfig{CAFile: ca}})
	server := secureServer(t, after, "vm.invalid")
	ep := endpointOf(t, server, "https://vm.invalid")
	c := NewClient(ep, loaded, 1)
	if _, err := post(t, c, ep); err == nil {
		t.Fatal("a foreign authority was trusted")
	}
	write(t, ca, slices.Concat(read(t, ca), read(t, after.File(t))))
	deadline := time.Now().Add(20 * time.Second)
	for { // files are looked at every few seconds
		_, err := post(t, c, ep)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestReadTellsWhatToConfigure(t *testing.T) {
	vminsert, err := os.ReadFile("testdata/vminsert-v1.100.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for _, test := range []struct {
		name     string
		answer   http.HandlerFunc
		kind     Kind
		unusable bool
		want     string
	}{
		{"good", answer(200, string(vminsert)), VMInsert, false, ""},
		{"no vmstorage", answer(200, string(vminsert)), VMStorage, true, "not a page of metrics of a vmstorage"},
		{"no vminsert", answer(200, "process_start_time_seconds 1\n"), VMInsert, true, "not a page of metrics of a vminsert"},
		{"unauthorized", answer(401, ""), VMInsert, true, "INGESTGW_FORWARD_METRICS_AUTH_KEY_FILE"},
		{"forbidden", answer(403, ""), VMInsert, true, "INGESTGW_FORWARD_METRICS_AUTH_KEY_FILE"},
		{"not found", answer(404, "no such page"), VMInsert, true, "no such page"},
		{"redirect", http.RedirectHandler("/login", 302).ServeHTTP, VMInsert, true, "302"},
		{"HTML", answer(200, "<html>\n</html>\n"), VMInsert, true, "not a page of metrics"},
		{"overload", answer(503, "busy"), VMInsert, false, "busy"},
		{"too many", answer(429, "busy"), VMInsert, false, "busy"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write(vminsert)
		}, VMInsert, false, "unexpected EOF"},
	} {
		server := httptest.NewServer(test.answer)
		ep := endpointOf(t, server, "http://vm.invalid")
		r, err := NewClient(ep, load(t, ClientConfig{}), 1).Read(t.Context(), ep, test.kind)
		server.Close()
		if test.want == "" {
			if err != nil || r.Ended.Before(r.Begun) || r.Begun.IsZero() || r.Size != int64(len(vminsert)) {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		if err == nil || errors.Is(err, ErrUnusable) != test.unusable || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v; want %q, unusable %v", test.name, err, test.want, test.unusable)
		}
	}
}

func TestKeyOfTheMetricsIsSentAndNeverShown(t *testing.T) {
	var got url.Values
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Query() }))
	ep := endpointOf(t, server, "http://vm.invalid")
	file := write(t, filepath.Join(t.TempDir(), "key"), []byte("hunter2&x"))
	c := NewClient(ep, load(t, ClientConfig{MetricsAuthKeyFile: file}), 1)
	_, err := c.Read(t.Context(), ep, VMInsert)
	if got.Get("authKey") != "hunter2&x" || err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("key %q, %v", got.Get("authKey"), err)
	}
	server.Close()
	for _, ctx := range []context.Context{t.Context(), canceled(t)} {
		if _, err := c.Read(ctx, ep, VMInsert); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v", err)
		}
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// A balancer chooses a server for each connection. Over a connection that is kept, it would look like one server.
func TestEachReadMakesAConnectionOfItsOwn(t *testing.T) {
	var conns atomic.Int32
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	ep := endpointOf(t, server, "http://vm.invalid")
	c := NewClient(ep, load(t, ClientConfig{}), 1)
	for range 3 {
		_, _ = c.Read(t.Context(), ep, VMInsert)
	}
	if n := conns.Load(); n != 3 {
		t.Errorf("%d connections for 3 readings", n)
	}
}
