package token

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
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

	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/token/tokentest"
)

func config(t testing.TB) Config {
	t.Helper()
	cfg := Config{}
	if err := settings.Load("UNSET", settings.Group{Prefix: "TENANT_JWT", Config: &cfg}); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func file(t testing.TB, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func verifier(t testing.TB, cfg Config) *Verifier {
	t.Helper()
	v, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// with returns a Verifier of the key in a file.
func with(t testing.TB, k *tokentest.Key, change func(*Config)) *Verifier {
	t.Helper()
	cfg := config(t)
	cfg.KeysFile = file(t, k.PEM(t))
	if change != nil {
		change(&cfg)
	}
	return verifier(t, cfg)
}

// said is what a token came to: the tenants, or the status that a sender would see.
func said(g *Grant, err error) string {
	switch {
	case errors.Is(err, tenant.ErrUnauthorized):
		return "401"
	case errors.Is(err, tenant.ErrForbidden):
		return "403"
	case errors.Is(err, tenant.ErrUnavailable):
		return "503"
	case err != nil:
		return err.Error()
	}
	return strings.Trim(fmt.Sprint(g.Tenants), "[]")
}

func expect(t *testing.T, v *Verifier, raw, want string) {
	t.Helper()
	g, err := v.Verify(t.Context(), raw)
	if got := said(g, err); got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
	if err != nil && len(raw) > 20 && strings.Contains(err.Error(), raw[:20]) {
		t.Errorf("the error holds the token: %v", err)
	}
}

func TestATokenWithTagsThatVminsertWouldCutIsForbidden(t *testing.T) {
	key := tokentest.NewKey(t, "k", "ES256")
	v := with(t, key, nil)
	many := map[string]string{}
	for i := range 50 {
		many[fmt.Sprint("label_", i)] = "x"
	}
	for want, labels := range map[string]map[string]string{
		`tag "org": a value of 5000 bytes: at most 4096 are allowed`: {"org": strings.Repeat("x", 5000)},
		"a name of 300 bytes: at most 256 are allowed":               {strings.Repeat("n", 300): "x"},
		"50 tags: at most 20 are allowed":                            many,
	} {
		_, err := v.Verify(t.Context(), key.Sign(t, tokentest.For(1, 0).With("vm_access", map[string]any{
			"tenant_id": map[string]any{"account_id": 1}, "extra_labels": labels})))
		if !errors.Is(err, tenant.ErrForbidden) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want forbidden: %s", err, want)
		}
	}
}

func TestTokensOfEveryAlgorithmAreVerified(t *testing.T) {
	for _, algorithm := range algorithms {
		t.Run(algorithm, func(t *testing.T) {
			if symmetric(algorithm) {
				secret := bytes.Repeat([]byte("s"), 64)
				cfg := config(t)
				cfg.SecretFile, cfg.Algorithms = file(t, secret), []string{algorithm}
				v := verifier(t, cfg)
				expect(t, v, tokentest.SignSecret(t, "", algorithm, secret, tokentest.For(1, 2)), "1:2")
				expect(t, v, tokentest.SignSecret(t, "", algorithm, []byte("another"), tokentest.For(1, 2)), "401")
				return
			}
			k := tokentest.NewKey(t, "", algorithm)
			v := with(t, k, nil)
			expect(t, v, k.Sign(t, tokentest.For(1, 2)), "1:2")
			expect(t, v, tokentest.NewKey(t, "", algorithm).Sign(t, tokentest.For(1, 2)), "401")
		})
	}
}

func TestOnlyTokensThatAreValidNowAndForUsAreTaken(t *testing.T) {
	k := tokentest.NewKey(t, "", "EdDSA")
	v := with(t, k, func(c *Config) { c.Issuer, c.Audience = "https://login", "ingestgw" })
	good := tokentest.For(1, 0).With("iss", "https://login").With("aud", "ingestgw")
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, c := range map[string]struct {
		claims tokentest.Claims
		want   string
	}{
		"good":                    {good, "1:0"},
		"one audience of several": {good.With("aud", []string{"other", "ingestgw"}), "1:0"},
		"expired":                 {good.With("exp", in(-time.Minute)), "401"},
		"expired within leeway":   {good.With("exp", in(-10*time.Second)), "1:0"},
		"without expiration":      {good.With("exp", nil), "401"},
		"expiration is a text":    {good.With("exp", "tomorrow"), "401"},
		"expiration is huge":      {good.With("exp", json.Number("1e400")), "401"},
		"not yet valid":           {good.With("nbf", in(time.Minute)), "401"},
		"not yet, within leeway":  {good.With("nbf", in(10*time.Second)), "1:0"},
		"another issuer":          {good.With("iss", "https://other"), "401"},
		"no issuer":               {good.With("iss", nil), "401"},
		"another audience":        {good.With("aud", "other"), "401"},
		"no audience":             {good.With("aud", nil), "401"},
		"an audience of numbers":  {good.With("aud", 5), "401"},
		"a subject of numbers":    {good.With("sub", 5), "401"},
		"without subject":         {good.With("sub", nil), "1:0"},
	} {
		t.Run(name, func(t *testing.T) { expect(t, v, k.Sign(t, c.claims), c.want) })
	}
}

func TestNobodyCanSignWithWhatIsPublic(t *testing.T) {
	k := tokentest.NewKey(t, "k", "RS256")
	pub := k.PEM(t)
	block, _ := pem.Decode(pub)
	secret := bytes.Repeat([]byte("s"), minSecret)
	for name, v := range map[string]*Verifier{
		"usual algorithms": with(t, k, nil),
		"secrets allowed":  with(t, k, func(c *Config) { c.SecretFile, c.Algorithms = file(t, secret), algorithms }),
	} {
		t.Run(name, func(t *testing.T) {
			claims := tokentest.For(1, 0)
			expect(t, v, k.Sign(t, claims), "1:0")
			expect(t, v, tokentest.Unsigned(t, claims), "401")
			for _, algorithm := range []string{"HS256", "HS384", "HS512"} {
				for _, public := range [][]byte{pub, bytes.TrimSpace(pub), block.Bytes, []byte("")} {
					expect(t, v, tokentest.SignSecret(t, "k", algorithm, public, claims), "401")
				}
			}
			for _, algorithm := range []string{"none", "None", "NONE", "nOnE", "", "HS257", "rs256"} {
				header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + algorithm + `","typ":"JWT"}`))
				parts := strings.Split(k.Sign(t, claims), ".")
				expect(t, v, header+"."+parts[1]+".", "401")
				expect(t, v, header+"."+parts[1]+"."+parts[2], "401")
			}
		})
	}
}

func TestAnAlgorithmThatIsNotAllowedIsRefused(t *testing.T) {
	k := tokentest.NewKey(t, "", "RS256")
	v := with(t, k, func(c *Config) { c.Algorithms = []string{"PS512", "ES256"} })
	expect(t, v, k.Sign(t, tokentest.For(1, 0)), "401")
	expect(t, v, k.As("", "PS512").Sign(t, tokentest.For(1, 0)), "1:0")
	keys := tokentest.NewKeySet(t, k) // the set says RS256
	cfg := config(t)
	cfg.JwksURL = address(t, keys)
	inSet := verifier(t, cfg)
	run(t, inSet)
	if err := inSet.remote.seek(t.Context(), "any"); err != nil {
		t.Fatal(err)
	}
	k.ID = ""
	expect(t, inSet, k.As("", "PS512").Sign(t, tokentest.For(1, 0)), "401")
	expect(t, inSet, k.Sign(t, tokentest.For(1, 0)), "1:0")
}

func TestATokenWithCriticalExtensionsIsRefused(t *testing.T) {
	k := tokentest.NewKey(t, "", "EdDSA")
	v := with(t, k, nil)
	_, rest, _ := strings.Cut(k.Sign(t, tokentest.For(1, 0)), ".")
	raw := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","crit":["b64"],"b64":false}`)) + "." + rest
	expect(t, v, raw, "401")
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, errCritical) {
		t.Errorf("%v", err)
	}
}

func TestTheClaimSaysWhoseSamplesTheyAre(t *testing.T) {
	k := tokentest.NewKey(t, "", "EdDSA")
	type object = map[string]any
	type list = []any
	for name, c := range map[string]struct {
		claim string // empty: vm_access
		value any
		want  string
		tags  string
	}{
		"vmgateway":                {value: object{"tenant_id": object{"account_id": 1, "project_id": 5}, "extra_labels": object{"team": "dev"}, "mode": 2}, want: "1:5", tags: `{team="dev"}`},
		"vmgateway, account only":  {value: object{"tenant_id": object{"account_id": 4294967295}}, want: "4294967295:0"},
		"vmgateway, the least":     {value: object{"tenant_id": object{}}, want: "0:0"},
		"vmgateway, as a text":     {value: `{"tenant_id":{"account_id":1,"project_id":4294967295},"extra_labels":{"a":"b"},"mode":3}`, want: "1:4294967295", tags: `{a="b"}`},
		"vmgateway, filters":       {value: object{"tenant_id": object{"account_id": 1}, "extra_filters": list{`{a="b"}`}}, want: "1:0"},
		"vmauth":                   {value: object{"metrics_account_id": 1, "metrics_project_id": 2, "metrics_extra_labels": list{"dev=team", "env=a=b"}, "logs_account_id": 9}, want: "1:2", tags: `{dev="team", env="a=b"}`},
		"vmauth, project only":     {value: object{"metrics_project_id": 2}, want: "0:2"},
		"no tenant":                {value: object{}, want: "403"},
		"no tenant, but labels":    {value: object{"extra_labels": object{"a": "b"}, "mode": 2}, want: "403"},
		"logs only":                {value: object{"logs_account_id": 9}, want: "403"},
		"both, the same":           {value: object{"tenant_id": object{"account_id": 1}, "metrics_account_id": 1}, want: "1:0"},
		"both, different":          {value: object{"tenant_id": object{"account_id": 1}, "metrics_account_id": 2}, want: "403"},
		"reading only":             {value: object{"tenant_id": object{"account_id": 1}, "mode": 1}, want: "403"},
		"everything":               {value: object{"tenant_id": object{"account_id": 1}, "mode": 0}, want: "1:0"},
		"a mode of text":           {value: object{"mode": "write"}, want: "403"},
		"a negative account":       {value: object{"tenant_id": object{"account_id": -1}}, want: "403"},
		"an account too large":     {value: object{"tenant_id": object{"account_id": 4294967296}}, want: "403"},
		"an account of text":       {value: object{"tenant_id": object{"account_id": "1"}}, want: "403"},
		"a broken text":            {value: `{"tenant_id":`, want: "403"},
		"a forged label":           {value: object{"extra_labels": object{"vm_account_id": "7"}}, want: "403"},
		"a label without value":    {value: object{"metrics_extra_labels": list{"team"}}, want: "403"},
		"a label with two values":  {value: object{"extra_labels": object{"a": "b"}, "metrics_extra_labels": list{"a=c"}}, want: "403"},
		"missing":                  {claim: "tenants", want: "403"},
		"null":                     {claim: "nothing", want: "403"},
		"true":                     {claim: "t", value: true, want: "403"},
		"a number":                 {claim: "t", value: 12, want: "12:0"},
		"a fraction":               {claim: "t", value: 1.5, want: "403"},
		"a text":                   {claim: "t", value: "12:3", want: "12:3"},
		"another text":             {claim: "t", value: "acme", want: "403"},
		"a list":                   {claim: "t", value: list{"12:3", 4, "5"}, want: "12:3 4:0 5:0"},
		"a list with a fault":      {claim: "t", value: list{"12:3", "x"}, want: "403"},
		"a list of lists":          {claim: "t", value: list{list{1}}, want: "403"},
		"an empty list":            {claim: "t", value: list{}, want: "403"},
		"inside another":           {claim: "realm.a.tenants", want: "7:8"},
		"a name with dots":         {claim: "https://example.com/tenants", want: "9:9"},
		"inside, a name with dots": {claim: "realm.b.c", want: "6:0"},
		"inside a text":            {claim: "sub.x", want: "403"},
	} {
		t.Run(name, func(t *testing.T) {
			v := with(t, k, func(cfg *Config) {
				if c.claim != "" {
					cfg.Claim = c.claim
				}
			})
			claims := tokentest.For(0, 0).With("vm_access", nil).
				With("realm", object{"a": object{"tenants": "7:8"}, "b.c": 6}).
				With("https://example.com/tenants", list{"9:9"})
			claims["nothing"] = nil
			if c.value != nil {
				claims = claims.With(v.claim, c.value)
			}
			raw := k.Sign(t, claims)
			expect(t, v, raw, c.want)
			if g, err := v.Verify(t.Context(), raw); err == nil {
				tags, err := tenant.NewTags(g.Tags)
				if want := map[bool]string{true: "{}", false: c.tags}[c.tags == ""]; err != nil || tags.String() != want || g.Name != "sender" {
					t.Errorf("%q has the tags %s, want %s (%v)", g.Name, tags, want, err)
				}
			}
		})
	}
}

func TestGarbageIsRefused(t *testing.T) {
	k := tokentest.NewKey(t, "", "EdDSA")
	v := with(t, k, nil)
	good := k.Sign(t, tokentest.For(1, 0))
	huge := k.Sign(t, tokentest.For(1, 0).With("more", strings.Repeat("x", maxToken)))
	for _, raw := range []string{"", ".", "..", "...", "a.b.c", good + ".", good + "a", "Bearer " + good, good[:len(good)-2], huge, "eyJ..", strings.Repeat(".", maxToken),
		good[:20] + "\x00" + good[21:]} {
		expect(t, v, raw, "401")
	}
	if Looks("opaque") || Looks("a.b.c") || Looks(good+".x") || Looks("") || !Looks(good) || !Looks(huge) {
		t.Error("what looks like a token and what does not")
	}
}

func FuzzNoTokenIsValidButTheOne(f *testing.F) {
	k := tokentest.NewKey(f, "k", "EdDSA")
	v := with(f, k, nil)
	good := k.Sign(f, tokentest.For(1, 0))
	f.Add(good)
	f.Add(good + ".")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJFZERTQSIsImtpZCI6NX0.eyJleHAiOiJ4In0.AA")
	f.Fuzz(func(t *testing.T, raw string) {
		if g, err := v.Verify(t.Context(), raw); (err == nil) != (raw == good) {
			t.Errorf("%q grants %+v, %v", raw, g, err)
		}
	})
}

func FuzzClaimsAreReadOrRefused(f *testing.F) {
	f.Add([]byte(`{"vm_access":{"tenant_id":{"account_id":1},"extra_labels":{"a":"b"},"metrics_extra_labels":["a=b"]}}`), "vm_access")
	f.Add([]byte(`{"a":{"b.c":["1:2",3]}}`), "a.b.c")
	f.Add([]byte(`{"a":"{\"mode\":2}"}`), "a")
	f.Fuzz(func(t *testing.T, text []byte, claim string) {
		var claims map[string]any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if d.Decode(&claims) != nil {
			return
		}
		g, err := grantOf(claims, claim)
		if err != nil {
			return
		}
		if _, err := tenant.NewTags(g.Tags); err != nil || len(g.Tenants) == 0 {
			t.Errorf("%+v, %v", g, err)
		}
	})
}

func FuzzKeySetsAreReadOrRefused(f *testing.F) {
	for _, algorithm := range []string{"RS256", "ES384", "EdDSA"} {
		k := tokentest.NewKey(f, "k", algorithm)
		w := httptest.NewRecorder()
		tokentest.NewKeySet(f, k).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		f.Add(w.Body.Bytes())
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, err := parseKeySet(body, algorithms)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if _, secret := k.key.([]byte); secret || len(k.algorithms) == 0 {
				t.Errorf("%+v", k)
			}
		}
	})
}

func TestAVerifiedTokenIsRememberedUntilItExpires(t *testing.T) {
	k := tokentest.NewKey(t, "", "EdDSA")
	name := file(t, k.PEM(t))
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.KeysFile, cfg.MaxCached = name, 3
		v := verifier(t, cfg)
		raw := k.Sign(t, tokentest.For(1, 0))
		first, err := v.Verify(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		again, err := v.Verify(t.Context(), raw)
		if err != nil || again != first {
			t.Errorf("verified again: %v", err)
		}
		if want := time.Now().Add(time.Hour); !first.Expires.Equal(want.Truncate(time.Second)) {
			t.Errorf("expires at %v, want %v", first.Expires, want)
		}
		time.Sleep(time.Until(first.Expires) + cfg.Leeway - time.Nanosecond)
		expect(t, v, raw, "1:0")
		time.Sleep(time.Nanosecond)
		expect(t, v, raw, "401")
		for i := range 10 {
			expect(t, v, k.Sign(t, tokentest.For(i, 0)), fmt.Sprintf("%d:0", i))
		}
		if v.cached() != 3 {
			t.Errorf("%d tokens are remembered, want 3", v.cached())
		}
	})
}

func TestKeysInAFileCanBeExchangedWithoutRestart(t *testing.T) {
	old, next := tokentest.NewKey(t, "1", "ES256"), tokentest.NewKey(t, "2", "RS256")
	name := file(t, old.PEM(t))
	synctest.Test(t, func(t *testing.T) {
		cfg := config(t)
		cfg.KeysFile = name
		v := verifier(t, cfg)
		put := func(content []byte) {
			t.Helper()
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		claims := tokentest.For(1, 0)
		expect(t, v, old.Sign(t, claims), "1:0")
		expect(t, v, next.Sign(t, claims), "401")
		put(append(old.PEM(t), next.PEM(t)...))
		expect(t, v, old.Sign(t, claims), "1:0")
		expect(t, v, next.Sign(t, claims), "1:0")
		put([]byte("garbage"))
		expect(t, v, old.Sign(t, claims), "1:0")
		put(next.PEM(t))
		remembered := old.Sign(t, claims)
		expect(t, v, remembered, "401")
		expect(t, v, next.Sign(t, claims), "1:0")
	})
}

func TestAKeyThatIsOfNoUseIsToldAtTheStart(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&small.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	k := tokentest.NewKey(t, "", "ES256")
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"none":                {func(c *Config) {}, "_KEYS_FILE, "},
		"a small RSA key":     {func(c *Config) { c.KeysFile = file(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})) }, "1024 bits"},
		"a private key":       {func(c *Config) { c.KeysFile = file(t, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"})) }, "PRIVATE KEY"},
		"no key":              {func(c *Config) { c.KeysFile = file(t, []byte("x")) }, "no PEM"},
		"no file":             {func(c *Config) { c.KeysFile = filepath.Join(t.TempDir(), "x") }, "_KEYS_FILE"},
		"another algorithm":   {func(c *Config) { c.KeysFile, c.Algorithms = file(t, k.PEM(t)), []string{"RS256"} }, "_ALGORITHMS"},
		"a short secret":      {func(c *Config) { c.SecretFile, c.Algorithms = file(t, []byte("short")), []string{"HS256"} }, "5 bytes"},
		"a secret for nobody": {func(c *Config) { c.SecretFile = file(t, []byte("short")) }, "_SECRET_FILE"},
		"no secret":           {func(c *Config) { c.Algorithms = []string{"HS256"} }, "_SECRET_FILE"},
		"no public algorithm": {func(c *Config) {
			c.KeysFile, c.SecretFile, c.Algorithms = "x", "y", []string{"HS256"}
		}, "_KEYS_FILE"},
		"none as algorithm":   {func(c *Config) { c.Algorithms = []string{"none"} }, "_ALGORITHMS=none"},
		"no algorithm":        {func(c *Config) { c.Algorithms = nil }, "_ALGORITHMS"},
		"a wrong URL":         {func(c *Config) { c.JwksURL.URL = &url.URL{Scheme: "file", Host: "x"} }, "_JWKS_URL"},
		"a wrong time":        {func(c *Config) { c.Refresh = 0 }, "_REFRESH"},
		"a wrong leeway":      {func(c *Config) { c.Leeway = -1 }, "_LEEWAY"},
		"a wrong number":      {func(c *Config) { c.MaxCached = 0 }, "_MAX_CACHED"},
		"a wrong claim":       {func(c *Config) { c.Claim = "" }, "_CLAIM"},
		"an authority's file": {func(c *Config) { c.JwksURL.URL, c.TLS.CAFile = &url.URL{Scheme: "https", Host: "x"}, "none" }, "_TLS_CA_FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			c.change(&cfg)
			if _, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

func TestMetricsKeepTheRules(t *testing.T) {
	cfg := config(t)
	cfg.KeysFile = file(t, tokentest.NewKey(t, "", "EdDSA").PEM(t))
	reg := prometheus.NewRegistry()
	if _, err := New(cfg, slog.New(slog.DiscardHandler), reg); err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// address is where keys are served by a real server.
func address(t testing.TB, keys *tokentest.KeySet) settings.URL {
	t.Helper()
	u, err := url.Parse(keys.Serve(t))
	if err != nil {
		t.Fatal(err)
	}
	return settings.URL{URL: u}
}

// run runs v until the test ends.
func run(t *testing.T, v *Verifier) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}
