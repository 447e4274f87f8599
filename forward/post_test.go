package forward

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
)

// dialed returns a node at base that is spoken to over the network.
func dialed(t testing.TB, base string, cfg downstream.ClientConfig) *node {
	t.Helper()
	credentials, err := downstream.LoadCredentials(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ep := endpoint(base)
	client := downstream.NewClient(ep, credentials, 4)
	t.Cleanup(client.Close)
	return newNode(ep, client, newMetrics(prometheus.NewPedanticRegistry()).node(ep.String()))
}

func visitOnce(t testing.TB, n *node, timeout time.Duration, payload string) *failure {
	t.Helper()
	v := newVisit(context.Background(), n, timeout)
	defer v.close()
	r := record(tenant.ID{Account: 3, Project: 4}, payload)
	return v.post(&r)
}

func TestARequestIsWhatASpecifiedSenderSends(t *testing.T) {
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	if fail := visitOnce(t, dialed(t, server.URL, downstream.ClientConfig{}), time.Minute, "the bytes as they came"); fail != nil {
		t.Fatal(fail)
	}
	if string(body) != "the bytes as they came" || got.ContentLength != int64(len(body)) {
		t.Errorf("the body arrived as %q, length %d", body, got.ContentLength)
	}
	if got.Method != http.MethodPost || got.URL.String() != "/insert/3:4/prometheus/api/v1/write" || got.ProtoMajor != 1 {
		t.Errorf("arrived: %s %s %s", got.Method, got.URL, got.Proto)
	}
	for name, want := range map[string]string{
		"Content-Encoding":                  "snappy",
		"Content-Type":                      "application/x-protobuf",
		"X-Prometheus-Remote-Write-Version": "0.1.0",
		"User-Agent":                        "ingestgw",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
}

func TestPackedRequestsAndOthersTakeTurnsInAVisit(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, strings.Join([]string{r.URL.String(), r.Header.Get("Content-Encoding"), r.Header.Get("Content-Type"), string(body)}, " "))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	v := newVisit(context.Background(), dialed(t, server.URL, downstream.ClientConfig{}), time.Minute)
	defer v.close()
	tagged := sender{tenant.ID{Account: 3, Project: 4}, map[string]string{"org": "a b", "region": "e=u"}}.record(1, 1, "x")
	for _, fail := range []*failure{v.post(&tagged), v.postPacked([]byte("packed"), 1), v.probe(), v.post(&tagged)} {
		if fail != nil {
			t.Fatal(fail)
		}
	}
	loose := "/insert/3:4/prometheus/api/v1/write?extra_label=org=a+b&extra_label=region=e%3Du snappy application/x-protobuf " + string(tagged.Payload)
	want := []string{
		loose,
		"/insert/multitenant/prometheus/api/v1/write zstd application/x-protobuf packed",
		"/insert/multitenant/prometheus/api/v1/write zstd application/x-protobuf " + string(emptyZstd),
		loose,
	}
	if !slices.Equal(got, want) {
		t.Errorf("arrived\n%q\nwant\n%q", got, want)
	}
	if !v.proven {
		t.Error("a node that has taken an empty request is not proven to work")
	}
}

func TestTLSCredentialsAndHeadersOfTheClientAreUsed(t *testing.T) {
	var user, password, extra atomic.Value
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, _ := r.BasicAuth()
		user.Store(u)
		password.Store(p)
		extra.Store(r.Header.Get("X-Scope"))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := downstream.ClientConfig{
		TLS:                   credentials.TLSConfig{CAFile: write("ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))},
		Headers:               "X-Scope: one",
		BasicAuthUser:         "me",
		BasicAuthPasswordFile: write("password", []byte("secret\n")),
	}
	n := dialed(t, server.URL, cfg)
	v := newVisit(context.Background(), n, time.Minute)
	defer v.close()
	for range 3 { // what one request adds to the headers must not disturb the next
		r := record(tenant.ID{}, "x")
		if fail := v.post(&r); fail != nil {
			t.Fatal(fail)
		}
		if user.Load() != "me" || password.Load() != "secret" || extra.Load() != "one" {
			t.Errorf("arrived with %v %v %v", user.Load(), password.Load(), extra.Load())
		}
	}
	if fail := visitOnce(t, dialed(t, server.URL, downstream.ClientConfig{}), time.Minute, "x"); fail == nil || fail.kind != failed {
		t.Errorf("a certificate that nobody vouches for was taken: %v", fail)
	}
}

func TestAnAnswerTellsWhatWentWrong(t *testing.T) {
	for _, test := range []struct {
		status int
		kind   failureKind
	}{
		{301, refused},
		{400, refused},
		{401, refused},
		{404, refused},
		{408, failed},
		{413, refused},
		{429, failed},
		{500, failed},
		{503, failed},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(test.status)
			_, _ = io.WriteString(w, "because "+strings.Repeat("x", 1<<20))
		}))
		fail := visitOnce(t, dialed(t, server.URL, downstream.ClientConfig{}), time.Minute, "x")
		server.Close()
		if fail == nil || fail.kind != test.kind || fail.status != test.status {
			t.Errorf("%d: %+v, want kind %v", test.status, fail, test.kind)
			continue
		}
		if text := fail.Error(); !strings.Contains(text, "because") || len(text) > 2*maxShown {
			t.Errorf("%d: the error is %q", test.status, text)
		}
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("X-Case") == "" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 10<<10))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	n := dialed(t, server.URL, downstream.ClientConfig{})
	for range 10 {
		visitOnce(t, n, time.Minute, "x")
	}
	if got := connections.Load(); got != 1 {
		t.Errorf("10 requests took %d connections", got)
	}
}

func TestARequestThatTakesTooLongIsGivenUp(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	}))
	defer server.Close()
	defer close(release)
	fail := visitOnce(t, dialed(t, server.URL, downstream.ClientConfig{}), 50*time.Millisecond, "x")
	if fail == nil || fail.kind != failed || !errors.Is(fail.err, errTimeout) || !strings.Contains(fail.Error(), "INGESTGW_FORWARD_TIMEOUT") {
		t.Errorf("got %v", fail)
	}
}

func TestARequestThatWeEndSaysNothingAboutTheNode(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	v := newVisit(ctx, dialed(t, server.URL, downstream.ClientConfig{}), time.Minute)
	defer v.close()
	r := record(tenant.ID{}, "x")
	if fail := v.post(&r); fail == nil || fail.kind != cut {
		t.Errorf("got %v", fail)
	}
}

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"17":                            17 * time.Second,
		"-1":                            0,
		"99999999999999999999":          0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:04:00 GMT": 0,
		"later":                         0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

// Everything as it is in the process, but for the disk.
func TestNewForwardsOverTheNetwork(t *testing.T) {
	taken := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		taken <- r.URL.Path + " " + string(body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	store := newFakeStore()
	store.put(encode(record(tenant.ID{Account: 5}, "r0")))
	cfg := newScene(t).cfg
	cfg.URLs = urls(t, server.URL)
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	f, err := New(cfg, store, memory.NewBudget(1<<20), slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx, "forward") }()
	if got := <-taken; got != "/insert/5:0/prometheus/api/v1/write r0" {
		t.Errorf("arrived %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := store.progress().Committed(); got != 1 {
		t.Errorf("committed is %d, want 1", got)
	}
}

func TestSettingsHaveTheirNames(t *testing.T) {
	want := []string{"URLS", "RESOLVE_INTERVAL", "CONCURRENCY", "TIMEOUT", "READ_AHEAD", "PACK", "MAX_LABELS", "RETRY_MIN", "RETRY_MAX",
		"TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_SERVER_NAME", "TLS_INSECURE_SKIP_VERIFY", "HEADERS", "BASIC_AUTH_USER",
		"BASIC_AUTH_PASSWORD_FILE", "BEARER_TOKEN_FILE", "METRICS_AUTH_KEY_FILE", "SETTLE", "SETTLE_MODE", "LOST_AFTER", "STORAGE_URLS", "POLLERS", "WATCH"}
	var got []string
	for _, s := range settings.Describe("INGESTGW", settings.Group{Prefix: "FORWARD", Config: new(Config)}) {
		got = append(got, strings.TrimPrefix(s.Name, "INGESTGW_FORWARD_"))
		if s.Desc == "" {
			t.Errorf("%s has no description", s.Name)
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("settings are\n%v, want\n%v", got, want)
	}
}

func TestValidateTellsEverySettingThatIsWrong(t *testing.T) {
	c := Config{
		URLs: urls(t, "ftp://user:geheim@x:1,http://a:1"), ResolveInterval: -1, Timeout: 0, ReadAhead: -1, RetryMin: 2, RetryMax: 1,
	}
	err := c.Validate()
	for _, name := range []string{"URLS", "RESOLVE_INTERVAL", "CONCURRENCY", "TIMEOUT", "READ_AHEAD", "MAX_LABELS", "RETRY_MAX", "SETTLE_MODE", "LOST_AFTER"} {
		if err == nil || !strings.Contains(err.Error(), "INGESTGW_FORWARD_"+name) {
			t.Errorf("%s is not in: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "geheim") {
		t.Errorf("a password is in: %v", err)
	}
}

// answersAfter is a poster that answers after a while: a status, or an error.
type answersAfter struct {
	wait   time.Duration
	status int // 0: err
	err    error
}

func (a answersAfter) Do(req *http.Request) (*http.Response, error) {
	if !sleep(req.Context(), a.wait) {
		return nil, req.Context().Err()
	}
	if a.status == 0 {
		return nil, a.err
	}
	return &http.Response{StatusCode: a.status, Body: http.NoBody}, nil
}

func (answersAfter) Close() {}

func TestNodeLooksUnwellWhenARequestFailsOrTakesLong(t *testing.T) {
	const soon = time.Millisecond
	for name, test := range map[string]struct {
		answers answersAfter
		want    []time.Duration // when it was told, since the request began
	}{
		"taken":             {answersAfter{slowAfter - 1, 204, nil}, nil},
		"refused":           {answersAfter{soon, 400, nil}, nil},
		"busy":              {answersAfter{soon, 503, nil}, []time.Duration{soon}},
		"broken off":        {answersAfter{soon, 0, io.ErrUnexpectedEOF}, []time.Duration{soon}},
		"slow":              {answersAfter{5 * time.Second, 204, nil}, []time.Duration{slowAfter}},
		"slow and busy":     {answersAfter{5 * time.Second, 503, nil}, []time.Duration{slowAfter, 5 * time.Second}},
		"no answer in time": {answersAfter{time.Minute, 204, nil}, []time.Duration{slowAfter, 30 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := endpoint("http://10.0.0.1:8480")
				n := newNode(ep, test.answers, newMetrics(prometheus.NewPedanticRegistry()).node(ep.String()))
				began := time.Now()
				var mu sync.Mutex
				var told []time.Duration
				n.hurry = func(who downstream.Endpoint) {
					mu.Lock()
					defer mu.Unlock()
					if who.String() != ep.String() {
						t.Errorf("%s is told of", who)
					}
					told = append(told, time.Since(began))
				}
				visitOnce(t, n, 30*time.Second, "x")
				time.Sleep(2 * time.Minute) // nothing is told once it has ended
				mu.Lock()
				defer mu.Unlock()
				if !slices.Equal(told, test.want) {
					t.Errorf("told after %v, want %v", told, test.want)
				}
			})
		})
	}
}
