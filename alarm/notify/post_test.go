package notify

import (
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/internal/credentials"
)

// postOnce posts an alarm to the one target of cfg.
func postOnce(t *testing.T, cfg Config) error {
	t.Helper()
	n := built(t, cfg, io.Discard, prometheus.NewRegistry())
	n.Update([]alarm.Alarm{firing("a", alarm.Page, 1)})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return n.targets[0].poster.post(ctx, n.latest.Load())
}

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCredentialsAreShownToTheTarget(t *testing.T) {
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		got = append(got, user+":"+password, r.Header.Get("Authorization"), r.Header.Get("Content-Type"))
	}))
	defer server.Close()
	with := func(userinfo string) string { return strings.Replace(server.URL, "//", "//"+userinfo, 1) }
	for name, c := range map[string]struct {
		url, token string
		want       func([]string) bool
	}{
		"none":                       {server.URL, "", func(g []string) bool { return g[1] == "" }},
		"a user in the URL":          {with("me:pa%20ss@"), "", func(g []string) bool { return g[0] == "me:pa ss" }},
		"a token":                    {server.URL, "tok\n", func(g []string) bool { return g[1] == "Bearer tok" }},
		"a token for the other ones": {with("me:pass@"), "tok", func(g []string) bool { return g[0] == "me:pass" }},
	} {
		cfg, hook := config(t, c.url), config(t)
		hook.WebhookURL.URL = parse(t, c.url)
		if c.token != "" {
			cfg.AlertmanagerTokenFile, hook.WebhookTokenFile = written(t, c.token), written(t, c.token)
		}
		for _, cfg := range []Config{cfg, hook} {
			got = nil
			if err := postOnce(t, cfg); err != nil || !c.want(got) || got[2] != "application/json" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
	}
}

func TestATokenIsReadAgain(t *testing.T) {
	file := written(t, "first")
	run(t, func(c *Config) { c.WebhookTokenFile = file }, func(t *testing.T, s *scene) {
		p := s.targets[1].poster
		if p.authorization() != "Bearer first" {
			t.Errorf("sent %q", p.authorization())
		}
		if err := os.WriteFile(file, []byte("the second"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if p.authorization() != "Bearer the second" {
			t.Errorf("sent %q", p.authorization())
		}
	})
}

func TestAFileThatCannotBeReadIsNamed(t *testing.T) {
	cfg := config(t, "http://am:9093")
	cfg.WebhookURL.URL = parse(t, "http://hook")
	cfg.AlertmanagerTokenFile, cfg.WebhookTokenFile, cfg.WebhookTLS.CAFile = "/not/there", "/not/there", "/not/there"
	_, err := New(cfg, "gw-0", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	for _, want := range []string{"INGESTGW_ALARM_ALERTMANAGER_TOKEN_FILE", "INGESTGW_ALARM_WEBHOOK_TOKEN_FILE", "INGESTGW_ALARM_WEBHOOK_TLS_CA_FILE"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestNothingSecretIsLoggedOrCounted tells a target that repeats all that it was sent, one that redirects with it, and one that is away.
func TestNothingSecretIsLoggedOrCounted(t *testing.T) {
	secrets := []string{"hunter2", "s3cretpath", "s3cretquery", "t0ken", "aHVudGVy"}
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, strings.Join([]string{"no: ", r.RequestURI, user, password, r.Header.Get("Authorization"), r.URL.RawQuery, r.URL.Path}, " "))
	}))
	defer echo.Close()
	redirect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, echo.URL+r.RequestURI, http.StatusTemporaryRedirect)
	}))
	defer redirect.Close()
	away := httptest.NewServer(nil)
	away.Close()
	for _, target := range []string{echo.URL, redirect.URL, away.URL} {
		for _, user := range []string{"", "hunter2@", "me:hunter2@"} {
			base := strings.Replace(target, "//", "//"+user, 1) + "/s3cretpath"
			cfg := config(t, base)
			cfg.WebhookURL.URL = parse(t, base+"?s3cretquery=1")
			cfg.AlertmanagerTokenFile, cfg.WebhookTokenFile = written(t, "t0ken"), written(t, "t0ken")
			said := complaints(t, cfg)
			for _, secret := range secrets {
				if strings.Contains(said, secret) {
					t.Errorf("%q is in\n%s", secret, said)
				}
			}
			if strings.Count(said, `result="`) != 6 || strings.Count(said, "level=ERROR") != 2 {
				t.Errorf("not all was said:\n%s", said)
			}
		}
	}
}

// complaints are the log and the metrics after one telling of all targets.
func complaints(t *testing.T, cfg Config) string {
	t.Helper()
	var log lines
	reg := prometheus.NewRegistry()
	n := built(t, cfg, &log, reg)
	n.Update([]alarm.Alarm{firing("a", alarm.Page, 1)})
	for _, one := range n.targets {
		one.tell(t.Context(), n.latest.Load(), time.Minute, late(time.Minute))
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	return log.String() + text.String()
}

func TestAnAnswerSaysWhy(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "start time must be before end time"+strings.Repeat("!", 10*maxAnswer))
	}))
	defer server.Close()
	err := postOnce(t, config(t, server.URL))
	if err == nil || !strings.Contains(err.Error(), `status 400, "start time must be before end time!`) || len(err.Error()) > 300 {
		t.Errorf("got %v", err)
	}
}

// FuzzExcerpt looks for an answer that makes a line of the log long, or shows what we have sent.
func FuzzExcerpt(f *testing.F) {
	const path = "/services/T0000/B0000/s3cret"
	f.Add("no such hook: "+path, 1)
	f.Add(" "+path+"\n", 4*maxAnswer)
	f.Add("\xff\x00", 100)
	bearer := credentials.Secret("", "", nil)
	p := &poster{url: &url.URL{Scheme: "http", Host: "h", Path: path}, user: url.UserPassword("me", "hunter2"), bearer: bearer}
	f.Fuzz(func(t *testing.T, text string, times int) {
		if text == "" {
			return
		}
		answer := strings.Repeat(text, min(max(times, 1), maxAnswer/len(text)+1))
		got := p.excerpt([]byte(answer[:min(len(answer), maxAnswer)]))
		if strings.Contains(got, "s3cret") && !strings.Contains(strings.ReplaceAll(answer, path, ""), "s3cret") || strings.Contains(got, "hunter2") ||
			strings.ContainsAny(got, "\n\r") || len(got) > 10*maxShown {
			t.Errorf("%q is shown as %s", answer, got)
		}
	})
}

func TestAnAnswerThatIsCutWithinASecretShowsNoPart(t *testing.T) {
	path := "/" + strings.Repeat("s3cret", 20)
	p := &poster{url: &url.URL{Scheme: "http", Host: "h", Path: path}, bearer: credentials.Secret("", "", nil)}
	if got := p.excerpt([]byte(strings.Repeat(path, maxAnswer)[:maxAnswer])); got == "" || strings.Contains(got, "s3") {
		t.Errorf("shown is %s", got)
	}
}

func TestAnEndlessAnswerIsTakenByItsStatus(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	if err := postOnce(t, config(t, server.URL)); err != nil {
		t.Error(err)
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("alarms went where nobody has configured them to go")
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusPermanentRedirect))
	defer server.Close()
	if err := postOnce(t, config(t, server.URL)); err == nil || !strings.Contains(err.Error(), "status 308, a redirect, which is not followed") {
		t.Errorf("got %v", err)
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	cfg := config(t, server.URL)
	if err := postOnce(t, cfg); err == nil || !strings.Contains(err.Error(), "INGESTGW_ALARM_ALERTMANAGER_TLS_CA_FILE") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	cfg.AlertmanagerTLS.CAFile = written(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	if err := postOnce(t, cfg); err != nil {
		t.Error(err)
	}
}

func TestNoProxyIsUsed(t *testing.T) {
	n := built(t, config(t, "http://am:9093"), io.Discard, prometheus.NewRegistry())
	if n.targets[0].poster.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the environment may name a proxy, which forward and the directory do not use either")
	}
}

func TestTargetsAtOneAddressAreToldApart(t *testing.T) {
	cfg := config(t, "https://proxy/a", "https://proxy:443/b", "http://am:9093")
	cfg.WebhookURL.URL = parse(t, "https://proxy/hook")
	var names []string
	for _, one := range built(t, cfg, io.Discard, prometheus.NewRegistry()).targets {
		names = append(names, one.name)
	}
	if !slices.Equal(names, []string{"proxy:443", "proxy:443#2", "am:9093", "proxy:443#3"}) {
		t.Errorf("the targets are %q", names)
	}
}
