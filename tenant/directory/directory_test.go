package directory

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/internal/direct"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory/directorytest"
)

func config(t testing.TB) Config {
	t.Helper()
	cfg := Config{}
	if err := settings.Load("UNSET", settings.Group{Prefix: "TENANT_DIRECTORY", Config: &cfg}); err != nil {
		t.Fatal(err)
	}
	cfg.URL = settings.URL{URL: &url.URL{Scheme: "http", Host: "directory.invalid"}}
	return cfg
}

// A scene is a Directory that asks a directory of the test. It must begin in a synctest bubble.
type scene struct {
	*Directory
	t    *testing.T
	far  directorytest.Directory
	reg  *prometheus.Registry
	log  strings.Builder
	stop func()
}

// start runs a Directory; change may be nil.
func start(t *testing.T, change func(*Config)) *scene {
	t.Helper()
	s := &scene{t: t}
	s.begin(change)
	return s
}

func (s *scene) begin(change func(*Config)) {
	s.t.Helper()
	cfg := config(s.t)
	if change != nil {
		change(&cfg)
	}
	s.reg = prometheus.NewRegistry()
	d, err := New(cfg, slog.New(slog.NewTextHandler(&s.log, nil)), s.reg)
	if err != nil {
		s.t.Fatal(err)
	}
	d.asker.client.Transport = direct.To(&s.far)
	s.Directory = d
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := d.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	s.t.Cleanup(s.stop)
}

// restart ends the Directory and starts another one with the same settings.
func (s *scene) restart(change func(*Config)) {
	s.t.Helper()
	s.stop()
	s.begin(change)
}

// look returns the tenants that a token may write for, or the name of the error.
func (s *scene) look(token string) string {
	a, err := s.Lookup(s.t.Context(), BearerToken(token))
	return said(a, err)
}

func said(a *Answer, err error) string {
	switch {
	case errors.Is(err, tenant.ErrUnauthorized):
		return "401"
	case errors.Is(err, tenant.ErrUnavailable):
		return "503"
	case err != nil:
		return err.Error()
	}
	return a.tenants()
}

func (s *scene) expect(token, want string) {
	s.t.Helper()
	if got := s.look(token); got != want {
		s.t.Errorf("%s: got %s, want %s", token, got, want)
	}
}

// settled waits until everything that goes on by itself has come to rest.
func (s *scene) settled() {
	s.t.Helper()
	synctest.Wait()
}

func (s *scene) asked() int {
	n, _ := s.far.Asked()
	return n
}

// metric returns the sum of a metric over all its labels that hold part.
func (s *scene) metric(name, part string) (sum float64) {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "ingestgw_tenant_directory_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if strings.Contains(fmt.Sprint(m.GetLabel()), part) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func TestWhoIsKnownAndWhoIsNotIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"name":"acme","tenants":["12:3"]}`)
		for range 3 {
			s.expect("a", "12:3")
			s.expect("b", "401")
		}
		if s.asked() != 2 {
			t.Errorf("%d questions for two credentials", s.asked())
		}
		time.Sleep(s.cfg.MissTTL)
		s.far.Bearer("b", `{"tenants":[7]}`)
		s.expect("b", "7:0")
		if got := s.metric("lookups_total", "found") + 10*s.metric("lookups_total", "fresh") + 100*s.metric("lookups_total", "miss"); got != 222 {
			t.Errorf("lookups: %v", got)
		}
	})
}

func TestCredentialsOfEveryKindAreAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Basic("alice", "secret", `{"tenants":["1"]}`)
		s.far.Certificate("CN=scraper,O=Acme", `{"tenants":["2"]}`)
		s.far.Label("org", "acme", `{"tenants":["3:4"]}`)
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: "scraper", Organization: []string{"Acme"}}}
		for want, c := range map[string]Credential{
			"1:0": BasicAuth("alice", "secret"),
			"2:0": ClientCertificate(cert),
			"401": BasicAuth("alice", "other"),
		} {
			if got := said(s.Lookup(t.Context(), c)); got != want {
				t.Errorf("%s: got %s, want %s", c.key, got, want)
			}
		}
		p, err := s.LookupLabel(t.Context(), "org", []byte("acme"))
		if err != nil || p.ID != (tenant.ID{Account: 3, Project: 4}) {
			t.Errorf("%v, %v", p, err)
		}
		if _, err := s.LookupLabel(t.Context(), "org", []byte("other")); !errors.Is(err, tenant.ErrUnnamed) {
			t.Errorf("a value that is not known: %v", err)
		}
	})
}

func TestCertificatesDifferByAllThatIsAsked(t *testing.T) {
	issued := func(change func(*x509.Certificate)) key {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "a"}, Issuer: pkix.Name{CommonName: "ca"}, SerialNumber: nil}
		change(c)
		return ClientCertificate(c).key
	}
	plain := issued(func(*x509.Certificate) {})
	if plain != issued(func(c *x509.Certificate) { c.NotAfter = time.Now(); c.Raw = []byte{1} }) {
		t.Error("a renewed certificate is another credential")
	}
	for name, change := range map[string]func(*x509.Certificate){
		"subject": func(c *x509.Certificate) { c.Subject.CommonName = "b" },
		"issuer":  func(c *x509.Certificate) { c.Issuer.CommonName = "other" },
		"host":    func(c *x509.Certificate) { c.DNSNames = []string{"a"} },
		"email":   func(c *x509.Certificate) { c.EmailAddresses = []string{"a"} },
		"uri":     func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}} },
	} {
		if issued(change) == plain {
			t.Errorf("another %s is the same credential", name)
		}
	}
}

func TestASlowDirectoryDelaysNobodyWhoIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.expect("a", "1:0")
		time.Sleep(s.cfg.TTL)
		s.far.Delay(s.cfg.Timeout - time.Millisecond)
		s.far.Bearer("a", `{"tenants":["2"]}`)
		began := time.Now()
		for range 10 {
			s.expect("a", "1:0")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("waited for %v", took)
		}
		time.Sleep(s.cfg.Timeout)
		s.expect("a", "2:0")
		s.expect("a", "2:0")
		if s.asked() != 2 {
			t.Errorf("%d questions, want 2", s.asked())
		}
		began = time.Now()
		s.far.Delay(time.Hour)
		s.expect("unknown", "503")
		if took := time.Since(began); took != s.cfg.Timeout {
			t.Errorf("an unknown credential waited for %v, want %v", took, s.cfg.Timeout)
		}
		s.settled()
		if got := s.metric("requests_total", "timeout"); got != 1 {
			t.Errorf("%v time-outs", got)
		}
	})
}

func TestWhoIsKnownGoesOnWhileTheDirectoryIsDownFor24Hours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.expect("a", "1:0")
		heard := time.Now()
		s.far.Break(http.StatusServiceUnavailable)
		for time.Since(heard)+10*time.Minute <= maxStale {
			time.Sleep(10 * time.Minute)
			s.expect("a", "1:0")
			s.expect("unknown", "503")
		}
		if got := s.metric("breaker_open", ""); got != 1 {
			t.Errorf("breaker_open is %v", got)
		}
		if got := s.metric("stale_age_seconds", ""); got != maxStale.Seconds() {
			t.Errorf("stale_age_seconds is %v", got)
		}
		time.Sleep(time.Second)
		s.expect("a", "503")
		if asked := s.asked(); asked > 3*24*6 {
			t.Errorf("%d questions to a directory that was down", asked)
		}
		s.far.Break(0)
		time.Sleep(maxPause)
		s.expect("a", "1:0")
		s.expect("unknown", "401")
		if got := s.metric("breaker_open", "") + s.metric("stale_age_seconds", ""); got != 0 {
			t.Errorf("breaker or age of stale answers: %v", got)
		}
	})
}

func TestAFaultOfTheDirectoryIsNeverASendersFault(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"our token is refused":   {401, `{"unknown":true}`},
		"we are forbidden":       {403, `{"unknown":true}`},
		"the URL is wrong":       {404, "404 page not found"},
		"another API's 404":      {404, `{"error":"no route"}`},
		"overloaded":             {429, `{"unknown":true}`},
		"redirected to a login":  {302, ""},
		"a page":                 {200, "<html>"},
		"nothing":                {200, ""},
		"an empty object":        {200, "{}"},
		"null":                   {200, "null"},
		"a list":                 {200, `["1"]`},
		"no content":             {204, ""},
		"too large":              {200, `{"tenants":[],"name":"` + strings.Repeat("a", maxAnswer) + `"}`},
		"a forged tag":           {200, `{"tenants":["1"],"tags":{"vm_account_id":"2"}}`},
		"a bad rule":             {200, `{"tenants":["1"],"drop":["rate(x[5m])"]}`},
		"a tenant that is none":  {200, `{"tenants":["-1"]}`},
		"a tenant without id":    {200, `{"tenants":[{"name":"x"}]}`},
		"a tenant twice":         {200, `{"tenants":["1","1:0"]}`},
		"a negative limit":       {200, `{"tenants":["1"],"plan":{"samples_per_second":-1}}`},
		"a table that is none":   {200, `{"tenants_from":{"label":"org","values":"table"}}`},
		"a mapping without name": {200, `{"tenants_from":{"label":""}}`},
		"a mapping of three":     {200, `{"tenants_from":{"labels":["a","b","c"]}}`},
		"label and labels":       {200, `{"tenants_from":{"label":"a","labels":["a","b"]}}`},
		"missing by no tenant":   {200, `{"tenants_from":{"label":"a","missing":"drop"}}`},
		"two labels, a table":    {200, `{"tenants_from":{"labels":["a","b"],"values":"table","table":{"a":"1"}}}`},
		"an unknown way":         {200, `{"tenants_from":{"label":"a","values":"guess"}}`},
		"a ttl without unit":     {200, `{"tenants":["1"],"ttl":"60"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := start(t, nil)
				s.far.Bearer("known", `{"tenants":["1"]}`)
				s.expect("known", "1:0")
				s.asker.client.Transport = direct.To(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Location", "/login")
					w.WriteHeader(c.status)
					_, _ = w.Write([]byte(c.body))
				}))
				time.Sleep(s.cfg.TTL)
				for range 3 * tripAfter {
					s.expect("known", "1:0")
					s.expect("a", "503")
				}
			})
		})
	}
}

func TestTheNewestAnswerHoldsAndAChangeIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"name":"acme","tenants":["1"],"ttl":"10s"}`)
		s.expect("a", "1:0")
		s.far.Bearer("a", `{"name":"acme","tenants":["2"],"ttl":"10s"}`)
		s.expect("a", "1:0")
		time.Sleep(10 * time.Second)
		s.expect("a", "1:0") // and asks
		s.settled()
		s.expect("a", "2:0")
		if got := s.metric("changed_total", ""); got != 1 {
			t.Errorf("changed_total is %v", got)
		}
		if !strings.Contains(s.log.String(), "before=1:0 now=2:0") || strings.Contains(s.log.String(), "token") {
			t.Errorf("log: %s", s.log.String())
		}
		s.far.Bearer("a", "")
		time.Sleep(10 * time.Second)
		s.expect("a", "2:0") // and asks
		s.settled()
		s.expect("a", "401")
		if got := s.metric("changed_total", ""); got != 2 {
			t.Errorf("changed_total is %v", got)
		}
	})
}

func TestAnAnswerThatStaysTheSameIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"tenants":["1"],"plan":{"name":"gold","samples_per_second":10}}`)
		first, err := s.Lookup(t.Context(), BearerToken("a"))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(s.cfg.TTL)
		s.expect("a", "1:0")
		s.settled()
		again, err := s.Lookup(t.Context(), BearerToken("a"))
		if err != nil || again != first || s.asked() != 2 {
			t.Errorf("%p, then %p, %v, after %d questions", first, again, err, s.asked())
		}
		s.far.Bearer("b", `{"tenants":["2"],"plan":{"name":"gold","samples_per_second":10}}`)
		other, err := s.Lookup(t.Context(), BearerToken("b"))
		if err != nil || other.Tenants[0].Plan != first.Tenants[0].Plan {
			t.Error("equal plans are two")
		}
	})
}

func TestManyRequestsForOneCredentialAskOneQuestion(t *testing.T) {
	for name, answer := range map[string]string{"known": `{"tenants":["1"]}`, "unknown": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := start(t, nil)
				s.far.Bearer("a", answer)
				s.far.Delay(time.Second)
				want := map[string]string{"known": "1:0", "unknown": "401"}[name]
				var all sync.WaitGroup
				for range 100 {
					all.Go(func() { s.expect("a", want) })
				}
				all.Wait()
				if s.asked() != 1 {
					t.Errorf("%d questions", s.asked())
				}
			})
		})
	}
}

func TestWhoGivesUpDoesNotSpoilItForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.far.Delay(time.Second)
		hasty, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := s.Lookup(hasty, BearerToken("a")); !errors.Is(err, tenant.ErrUnavailable) {
				t.Errorf("who gives up: %v", err)
			}
		})
		synctest.Wait()
		all.Go(func() { s.expect("a", "1:0") })
		all.Wait()
		if s.asked() != 1 {
			t.Errorf("%d questions", s.asked())
		}
	})
}

func TestQuestionsAtOneTimeAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(c *Config) { c.Concurrency = 4 })
		s.far.Delay(time.Second)
		var all sync.WaitGroup
		answers := make([]string, 10)
		for i := range answers {
			s.far.Bearer(fmt.Sprint(i), `{"tenants":["1"]}`)
			all.Go(func() { answers[i] = s.look(fmt.Sprint(i)) })
		}
		all.Wait()
		got := strings.Join(answers, " ")
		if n, m := strings.Count(got, "1:0"), strings.Count(got, "503"); n != 8 && n+m != 10 { // two rounds fit into the time-out
			t.Errorf("answers: %s", got)
		}
		if _, most := s.far.Asked(); most != 4 {
			t.Errorf("%d questions at one time, want 4", most)
		}
		time.Sleep(10 * time.Second)
		if asked := s.asked(); asked > 10 {
			t.Errorf("%d questions", asked)
		}
	})
}

func TestRefreshesLeaveRoomForTheUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(c *Config) { c.Concurrency = 4 })
		for i := range 100 {
			s.far.Bearer(fmt.Sprint(i), `{"tenants":["1"]}`)
			s.expect(fmt.Sprint(i), "1:0")
		}
		time.Sleep(s.cfg.TTL)
		s.far.Delay(time.Second)
		for i := range 100 {
			s.expect(fmt.Sprint(i), "1:0")
		}
		s.far.Bearer("new", `{"tenants":["2"]}`)
		began := time.Now()
		s.expect("new", "2:0")
		if took := time.Since(began); took != time.Second {
			t.Errorf("waited for %v behind refreshes", took)
		}
	})
}

func TestAFullQueueOfQuestionsIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(c *Config) { c.Concurrency = 1 })
		s.far.Delay(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all sync.WaitGroup
		for i := range maxWaiting + 1 { // one of them is being asked
			all.Go(func() { _, _ = s.Lookup(ctx, BearerToken(fmt.Sprint(i))) })
			if i == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		began := time.Now()
		_, err := s.Lookup(t.Context(), BearerToken("one more"))
		if !errors.Is(err, errWaiting) || !errors.Is(err, tenant.ErrUnavailable) || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		cancel()
		all.Wait()
		s.far.Delay(0)
		s.far.Bearer("a", `{"tenants":["1"]}`)
		time.Sleep(s.cfg.Timeout + time.Second)
		s.expect("a", "1:0")
		if asked := s.asked(); asked != 2 {
			t.Errorf("%d questions: those are asked for which nobody waits any more", asked)
		}
	})
}

func TestAnInvalidatedTenantIsAskedForAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"tenants":["1","2"]}`)
		s.far.Bearer("b", `{"tenants":["3"]}`)
		s.far.Bearer("c", `{"tenants_from":{"label":"org","values":"table","table":{"x":"2"}}}`)
		s.far.Label("org", "acme", `{"tenants":["2"]}`)
		look := func() {
			s.look("a")
			s.look("b")
			s.look("c")
			s.look("d")
			_, _ = s.LookupLabel(t.Context(), "org", []byte("acme"))
		}
		look()
		s.Invalidate(tenant.ID{Account: 2})
		before := s.asked()
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.expect("a", "1:0")
		look()
		look()
		if got := s.asked() - before; got != 4 { // not b
			t.Errorf("%d questions after the invalidation, want 4", got)
		}
	})
}

func TestAnAnswerFromBeforeAnInvalidationIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Delay(time.Second)
		for _, c := range []struct{ token, before, after string }{
			{"was", "1:0", "1:0 2:0"},
			{"was not", "401", "1:0"},
		} {
			if c.before == "1:0" {
				s.far.Bearer(c.token, `{"tenants":["1"]}`)
			}
			var all sync.WaitGroup
			all.Go(func() { s.expect(c.token, c.before) })
			synctest.Wait() // it is being asked
			s.Invalidate(tenant.ID{Account: 1})
			s.far.Bearer(c.token, `{"tenants":[`+strings.ReplaceAll(`"`+strings.ReplaceAll(c.after, " ", `","`)+`"`, ":0", "")+`]}`)
			all.Go(func() { s.expect(c.token, c.after) })
			all.Wait()
			s.expect(c.token, c.after)
		}
	})
}

func TestAnInvalidatedAnswerIsUsedWhenTheDirectoryIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.expect("a", "1:0")
		s.far.Break(http.StatusBadGateway)
		s.Invalidate(tenant.ID{Account: 1})
		s.expect("a", "1:0")
		s.far.Delay(time.Hour)
		s.expect("a", "1:0")
		s.settled()
		s.far.Break(0)
		s.far.Delay(0)
		s.far.Bearer("a", `{"tenants":["2"]}`)
		s.expect("a", "2:0")
	})
}

func TestAFlappingDirectoryIsNotStormed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const senders = 500
		s := start(t, nil)
		for i := range senders {
			s.far.Bearer(fmt.Sprint(i), `{"tenants":["1"],"ttl":"10s"}`)
			s.expect(fmt.Sprint(i), "1:0")
		}
		before := s.asked()
		const rounds = 20
		for round := range rounds {
			s.far.Break([]int{http.StatusInternalServerError, 0}[round%2])
			for range 10 {
				time.Sleep(time.Second)
				for i := range senders {
					s.expect(fmt.Sprint(i), "1:0")
				}
				s.settled()
			}
		}
		asked := s.asked() - before
		// Once per ttl and sender while it is well; while it is not, until the breaker opens, and a try now and then.
		if limit := senders*(rounds/2+1) + rounds*(s.cfg.Concurrency+tripAfter+10); asked > limit || asked < senders {
			t.Errorf("%d questions, want at most %d", asked, limit)
		}
		if _, most := s.far.Asked(); most > s.cfg.Concurrency {
			t.Errorf("%d questions at one time", most)
		}
	})
}

func TestKnownSendersGetInAfterARestartWhileTheDirectoryIsDown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "answers")
	synctest.Test(t, func(t *testing.T) {
		with := func(c *Config) { c.CacheFile = file }
		s := start(t, with)
		s.far.Bearer("a-secret-token", `{"name":"acme","tenants":["1"],"plan":{"samples_per_second":5},"tags":{"org":"acme"},"drop":["up"]}`)
		s.far.Bearer("b", `{"tenants":["2"]}`)
		s.expect("a-secret-token", "1:0")
		s.expect("b", "2:0")
		s.expect("unknown", "401")
		s.Invalidate(tenant.ID{Account: 2})
		heard := time.Now()
		s.far.Break(http.StatusServiceUnavailable)
		s.restart(with)
		a, err := s.Lookup(t.Context(), BearerToken("a-secret-token"))
		if err != nil || a.Name != "acme" || a.Tenants[0].Tags.String() != `{org="acme"}` || a.Tenants[0].Plan.Samples.PerSecond != 5 || a.Tenants[0].Drop[0].String() != "up" {
			t.Fatalf("after the restart: %+v, %v", a, err)
		}
		s.expect("b", "2:0")
		s.expect("unknown", "503")
		content, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(content), "secret") {
			t.Errorf("the file: %v\n%s", err, content)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		// It is the same after many restarts, and ends with the bound.
		time.Sleep(23 * time.Hour)
		s.restart(with)
		s.expect("a-secret-token", "1:0")
		time.Sleep(maxStale - time.Since(heard) + time.Second)
		s.restart(with)
		s.expect("a-secret-token", "503")
		// An invalidation is remembered too: b is asked for when that is possible again.
		s.far.Break(0)
		s.far.Bearer("b", `{"tenants":["3"]}`)
		time.Sleep(maxPause)
		s.expect("b", "3:0")
	})
}

func TestAnInvalidationSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "answers")
	synctest.Test(t, func(t *testing.T) {
		with := func(c *Config) { c.CacheFile = file }
		s := start(t, with)
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.far.Bearer("b", `{"tenants":["2"]}`)
		s.expect("a", "1:0")
		s.expect("b", "2:0")
		s.Invalidate(tenant.ID{Account: 1})
		s.restart(with)
		s.far.Bearer("a", `{"tenants":["3"]}`)
		s.far.Bearer("b", `{"tenants":["4"]}`)
		s.expect("a", "3:0")
		s.expect("b", "2:0") // and asks in the background
		time.Sleep(retryAfter)
		s.expect("b", "2:0")
		s.settled()
		s.expect("b", "4:0")
	})
}

func TestAnswersAreSavedWhileItRuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "answers")
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(c *Config) { c.CacheFile = file })
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.expect("a", "1:0")
		time.Sleep(saveEvery)
		s.settled()
		list, err := readAnswers(open(t, file), s.cfg, time.Now())
		if err != nil || len(list) != 1 || list[0].answer.tenants() != "1:0" {
			t.Fatalf("%v, %v", list, err)
		}
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * saveEvery)
		if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
			t.Errorf("written again though nothing has changed: %v", err)
		}
	})
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestADamagedCacheFileIsSetAsideAndTheGoodLinesUsed(t *testing.T) {
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		known  int // of the tokens a, b and c
	}{
		"empty":                {func([]byte) []byte { return nil }, 0},
		"another version":      {func(b []byte) []byte { return []byte(strings.Replace(string(b), `"version":1`, `"version":2`, 1)) }, 0},
		"torn":                 {func(b []byte) []byte { return b[:len(b)-10] }, 2},
		"without last newline": {func(b []byte) []byte { return b[:len(b)-1] }, 2},
		"a byte flipped":       {func(b []byte) []byte { b[len(fileHead)+60] ^= 1; return b }, 2},
		"zeros at the end":     {func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, 3},
		"an endless line":      {func(b []byte) []byte { return append(b, strings.Repeat("a", 2*maxLine)...) }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "answers")
			synctest.Test(t, func(t *testing.T) {
				with := func(c *Config) { c.CacheFile = file }
				s := start(t, with)
				for _, token := range []string{"a", "b", "c"} {
					s.far.Bearer(token, `{"tenants":["1"]}`)
					s.expect(token, "1:0")
				}
				s.stop()
				content, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				damaged := c.damage(content)
				if err := os.WriteFile(file, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				s.far.Break(http.StatusServiceUnavailable)
				s.begin(with)
				known := 0
				for _, token := range []string{"a", "b", "c"} {
					if s.look(token) == "1:0" {
						known++
					}
				}
				if known != c.known {
					t.Errorf("%d are known, want %d", known, c.known)
				}
				if got := s.metric("cache_file_damaged_total", ""); got != 1 {
					t.Errorf("cache_file_damaged_total is %v", got)
				}
				aside, _ := filepath.Glob(file + ".damaged-*")
				if len(aside) != 1 {
					t.Fatalf("set aside: %v", aside)
				}
				if kept, err := os.ReadFile(aside[0]); err != nil || string(kept) != string(damaged) {
					t.Errorf("what was set aside is not what there was: %v", err)
				}
			})
		})
	}
}

func TestAFileThatCannotBeWrittenIsToldAndTriedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(c *Config) { c.CacheFile = filepath.Join(dir, "answers") })
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		s.far.Bearer("a", `{"tenants":["1"],"ttl":"24h"}`)
		s.expect("a", "1:0")
		time.Sleep(saveEvery)
		s.settled()
		if got := s.metric("cache_file_failures_total", ""); got != 1 {
			t.Errorf("cache_file_failures_total is %v", got)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(saveEvery)
		s.settled()
		if _, err := os.Stat(filepath.Join(dir, "answers")); err != nil {
			t.Error(err)
		}
	})
}

func TestMemoryIsBoundedAndMissesPushNobodyOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, func(c *Config) { c.MaxEntries = 20 })
		for i := range 10 {
			s.far.Bearer(fmt.Sprint(i), `{"tenants":["1"]}`)
			s.expect(fmt.Sprint(i), "1:0")
		}
		for i := range 100 {
			s.expect(fmt.Sprint("wrong", i), "401")
		}
		before := s.asked()
		for i := range 10 {
			s.expect(fmt.Sprint(i), "1:0")
		}
		if s.asked() != before {
			t.Error("credentials that are not known push out those that are")
		}
		for i := range 100 {
			s.far.Bearer(fmt.Sprint("more", i), `{"tenants":["1"]}`)
			s.expect(fmt.Sprint("more", i), "1:0")
		}
		if n := s.entries(); n.hits != 20 || n.misses != 20 || n.bytes > 20*bytesPerEntry {
			t.Errorf("%+v", n)
		}
		s.far.Bearer("large", `{"name":"large","tenants_from":{"label":"org","values":"table","table":{"`+strings.Repeat("x", 20*bytesPerEntry)+`":"1"}}}`)
		s.look("large")
		if n := s.entries(); n.hits != 1 {
			t.Errorf("%d answers beside one that takes all the room", n.hits-1)
		}
		time.Sleep(25 * time.Hour)
		if n := s.entries(); n.hits != 0 || n.bytes != 0 {
			t.Errorf("what cannot be used any more is kept: %+v", n)
		}
	})
}

func TestWhatIsBroughtUpToDateIsTriedAgainOnlyAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		s.far.Bearer("a", `{"tenants":["1"]}`)
		s.expect("a", "1:0")
		time.Sleep(s.cfg.TTL)
		s.far.Bearer("a", `garbage`)
		before := s.asked()
		for range 60 {
			s.expect("a", "1:0")
			time.Sleep(time.Second)
		}
		if got := s.asked() - before; got < 60/10 || got > 60/5 {
			t.Errorf("%d questions within a minute", got)
		}
	})
}

func TestSettingsThatCannotBeAreNamed(t *testing.T) {
	cfg := config(t)
	if err := cfg.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	bad := Config{URL: settings.URL{URL: &url.URL{Scheme: "ftp", Host: "x"}}, Stale: 25 * time.Hour}
	err := bad.Validate()
	for _, name := range []string{"URL", "TIMEOUT", "CONCURRENCY", "TTL", "MISS_TTL", "STALE", "MAX_ENTRIES"} {
		if err == nil || !strings.Contains(err.Error(), prefix+"_"+name+"=") {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	for name, change := range map[string]func(*Config){
		prefix + "_URL":               func(c *Config) { c.URL.URL = nil },
		prefix + "_CACHE_FILE":        func(c *Config) { c.CacheFile = filepath.Join(t.TempDir(), "none", "file") },
		prefix + "_BEARER_TOKEN_FILE": func(c *Config) { c.BearerTokenFile = filepath.Join(t.TempDir(), "none") },
		tlsPrefix + "_CA_FILE":        func(c *Config) { c.TLS.CAFile = filepath.Join(t.TempDir(), "none") },
	} {
		c := config(t)
		change(&c)
		if _, err := New(c, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}

func TestMetricsKeepTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, nil)
		if problems, err := testutil.GatherAndLint(s.reg); err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
	})
}
