package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
	"github.com/ingestgw/ingestgw/tenant/token"
	"github.com/ingestgw/ingestgw/tenant/token/tokentest"
)

// away is a Directory that cannot be asked.
type away struct{ *desk }

var errAway = fmt.Errorf("asking the directory: %w: dial tcp 127.0.0.1:9590: connect: connection refused (INGESTGW_TENANT_DIRECTORY_BEARER_TOKEN_FILE)",
	tenant.ErrUnavailable)

func (away) Lookup(context.Context, directory.Credential) (*directory.Answer, error) {
	return nil, errAway
}

func (away) LookupLabel(context.Context, string, []byte) (*tenant.Profile, error) {
	return nil, errAway
}

func TestTheLogHasWhyACredentialIsNotKnownAndTheSenderDoesNot(t *testing.T) {
	key, other := tokentest.NewKey(t, "k", "ES256"), tokentest.NewKey(t, "other", "ES256")
	v := verifier(t, token.Config{Audience: "ingestgw"}, key)
	a := asking(t, Config{Mode: ModeFile, File: writeFile(t, acme)}, v, nil)
	for name, c := range map[string]struct {
		headers []string
		log     string
	}{
		"no such token": {bearerOf("guess"), "bearer " + sha("guess")[:8] + ": unauthorized: it is not in the file"},
		"no such user":  {basicOf("user", "guess"), "it is not in the file"},
		"no credential": {nil, "the request has no credential"},
		"another scheme": {[]string{"Authorization", "Digest x"},
			"an Authorization header that is neither Bearer nor Basic"},
		"expired":       {bearerOf(key.Sign(t, tokentest.For(12, 3).With("aud", "ingestgw").With("exp", 1000))), "token is expired"},
		"of others":     {bearerOf(key.Sign(t, tokentest.For(12, 3).With("aud", "grafana"))), "token has invalid audience"},
		"another key":   {bearerOf(other.Sign(t, tokentest.For(12, 3).With("aud", "ingestgw"))), "signature is invalid"},
		"not signed":    {bearerOf(tokentest.Unsigned(t, tokentest.For(12, 3))), "signing method none is invalid"},
		"not a token":   {bearerOf(jwt("x")), "token is malformed"},
		"no such claim": {bearerOf(key.Sign(t, tokentest.For(12, 3).With("aud", "ingestgw").With("exp", nil))), "token is missing required claim: exp claim is required"},
	} {
		_, err := a.Identify(t.Context(), request(c.headers...), Name{})
		if !errors.Is(err, tenant.ErrUnauthorized) || !strings.Contains(tenant.Cause(err).Error(), c.log) {
			t.Errorf("%s: the log has %v, want %q", name, tenant.Cause(err), c.log)
		}
		if told := err.Error(); c.headers != nil && told != "unauthorized: the credential is not known" {
			t.Errorf("%s: the sender is told %q", name, told)
		}
	}
}

func TestSendersAreToldNothingOfOursWhenTheyCannotBeLookedUp(t *testing.T) {
	d := away{&desk{}}
	hidden := []string{"dial", "127.0.0.1", "INGESTGW", "key set"}
	a := asking(t, Config{Mode: ModeDirectory, FailuresPerMinute: 1}, issuer{}, d)
	for name, c := range map[string]struct {
		find func() error
		log  string
		told string
	}{
		"credential": {func() error { return identify(a, request(bearerOf("x")...)) },
			"connection refused", "tenants cannot be looked up: who this credential belongs to cannot be found out now; try again"},
		"token": {func() error { return identify(a, request(bearerOf(jwt("down"))...)) },
			"the key set cannot be read", "tenants cannot be looked up: who this credential belongs to cannot be found out now; try again"},
		"value of a label": {func() error { return find(d) },
			"connection refused", `tenants cannot be looked up: label "org" of a series has the value "plant", whose tenant cannot be found out now; try again`},
		"no directory": {func() error { return find(nil) },
			"INGESTGW_TENANT_DIRECTORY_URL", `tenants cannot be looked up: label "org" of a series has the value "plant", whose tenant cannot be found out now; try again`},
	} {
		err := c.find()
		if !errors.Is(err, tenant.ErrUnavailable) || err.Error() != c.told || !strings.Contains(tenant.Cause(err).Error(), c.log) {
			t.Errorf("%s: the sender is told %q and the log %q", name, err, tenant.Cause(err))
		}
		for _, text := range hidden {
			if strings.Contains(err.Error(), text) {
				t.Errorf("%s: the sender is told of %s", name, text)
			}
		}
	}
}

func TestTheSettingOfFailuresIsForTheLog(t *testing.T) {
	a := asking(t, Config{Mode: ModeFile, File: writeFile(t, acme), FailuresPerMinute: 1}, nil, nil)
	_ = identify(a, request(bearerOf("guess")...))
	err := identify(a, request(bearerOf("guess")...))
	if err == nil || err.Error() != "too many failed attempts from this address: try again later" ||
		!strings.Contains(tenant.Cause(err).Error(), "INGESTGW_TENANT_FAILURES_PER_MINUTE=1") {
		t.Errorf("the sender is told %q and the log %q", err, tenant.Cause(err))
	}
}

func identify(a *Access, r *http.Request) error {
	_, err := a.Identify(r.Context(), r, Name{})
	return err
}

func find(d Directory) error {
	m := &mapped{naming: &directory.Naming{Labels: []string{"org"}, Values: directory.ByDirectory}, directory: d}
	_, err := m.Find(context.Background(), []byte("plant"))
	return err
}

// verifier knows tokens by a key in a file.
func verifier(t *testing.T, cfg token.Config, key *tokentest.Key) *token.Verifier {
	t.Helper()
	cfg.KeysFile = writeFile(t, string(key.PEM(t)))
	cfg.Claim, cfg.Algorithms, cfg.MaxCached, cfg.Refresh = "vm_access", []string{"ES256"}, 10, time.Minute
	v, err := token.New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return v
}
