package access

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
	"github.com/ingestgw/ingestgw/tenant/token"
)

// issuer is a Verifier that knows tokens by their text.
type issuer map[string]*token.Grant

func (i issuer) Verify(_ context.Context, raw string) (*token.Grant, error) {
	switch g := i[raw]; {
	case raw == jwt("down"):
		return nil, fmt.Errorf("%w: the key set cannot be read", tenant.ErrUnavailable)
	case raw == jwt("nobody"):
		return nil, fmt.Errorf("%w: the token names no tenant", tenant.ErrForbidden)
	case g == nil:
		return nil, fmt.Errorf("%w: signature is invalid", tenant.ErrUnauthorized)
	default:
		return g, nil
	}
}

// jwt is a token that looks like one: its first part is {"alg":"none"} in base64.
func jwt(name string) string { return "eyJhbGciOiJub25lIn0." + name + ".c2ln" }

// desk is a Directory that knows what is in it.
type desk struct {
	known       []pair
	labels      map[string]*tenant.Profile
	asked       int
	invalidated []tenant.ID
	down        bool
}

type pair struct {
	credential directory.Credential
	answer     *directory.Answer
}

func (d *desk) Lookup(_ context.Context, c directory.Credential) (*directory.Answer, error) {
	d.asked++
	if d.down {
		return nil, fmt.Errorf("%w: the directory is down", tenant.ErrUnavailable)
	}
	for _, p := range d.known {
		if reflect.DeepEqual(p.credential, c) {
			return p.answer, nil
		}
	}
	return nil, fmt.Errorf("%w: no such credential", tenant.ErrUnauthorized)
}

func (d *desk) LookupLabel(_ context.Context, label string, value []byte) (*tenant.Profile, error) {
	if p := d.labels[label+"="+string(value)]; p != nil {
		return p, nil
	}
	return nil, tenant.ErrUnnamed
}

func (d *desk) Timeout() time.Duration { return 2 * time.Second }

func (d *desk) Invalidate(id tenant.ID) { d.invalidated = append(d.invalidated, id) }

func asking(t *testing.T, cfg Config, v Verifier, d Directory) *Access {
	t.Helper()
	a, err := New(cfg, v, d, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestATokenSaysForWhomItIs(t *testing.T) {
	id := func(account uint32) tenant.ID { return tenant.ID{Account: account} }
	v := issuer{
		jwt("one"):    {Name: "alice", Tenants: []tenant.ID{id(5)}},
		jwt("two"):    {Tenants: []tenant.ID{id(5), id(13)}},
		jwt("tagged"): {Name: "bob", Tenants: []tenant.ID{{Account: 12, Project: 3}}, Tags: map[string]string{"org": "evil", "team": "x"}},
	}
	a := asking(t, Config{Mode: ModeFile, File: writeFile(t, acme)}, v, nil)
	for name, c := range map[string]struct {
		headers []string
		path    Name
		want    string
		refused error
	}{
		"one tenant":                    {headers: bearerOf(jwt("one")), want: "alice 5:0"},
		"in the path":                   {headers: bearerOf(jwt("one")), path: inPath(5, 0), want: "alice 5:0"},
		"another in the path":           {headers: bearerOf(jwt("one")), path: inPath(13, 0), refused: tenant.ErrForbidden},
		"many":                          {headers: bearerOf(jwt("one")), path: inData, refused: tenant.ErrForbidden},
		"two tenants, one named":        {headers: bearerOf(jwt("two")), path: inPath(13, 0), want: "jwt 13:0"},
		"two tenants, none named":       {headers: bearerOf(jwt("two")), refused: tenant.ErrUnnamed},
		"a token that is not valid":     {headers: bearerOf(jwt("forged")), refused: tenant.ErrUnauthorized},
		"one that is for nobody":        {headers: bearerOf(jwt("nobody")), refused: tenant.ErrForbidden},
		"keys that cannot be read":      {headers: bearerOf(jwt("down")), refused: tenant.ErrUnavailable},
		"a token of the file as before": {headers: bearerOf("agent's token"), want: "agent-1 12:3"},
		"a password that looks like it": {headers: basicOf("x", jwt("one")), refused: tenant.ErrUnauthorized},
	} {
		for range 2 { // the second time it was seen before
			s, err := a.Identify(t.Context(), request(c.headers...), c.path)
			expect(t, s, err, c.want, c.refused)
			if t.Failed() {
				t.Fatal(name)
			}
		}
	}
	s, err := a.Identify(t.Context(), request(bearerOf(jwt("tagged"))...), Name{})
	if err != nil || s.Tenant.Tags.String() != `{org="acme", region="eu", team="x"}` || s.Tenant.Name != "acme" {
		t.Errorf("tags of a token: %+v, %v", s, err)
	}
	before, _ := a.Identify(t.Context(), request(bearerOf(jwt("one"))...), Name{})
	rewrite(t, a.cfg.File, "defaults: {tags: {region: us}}\n")
	if err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	after, err := a.Identify(t.Context(), request(bearerOf(jwt("one"))...), Name{})
	if err != nil || before.Tenant.Tags.String() != `{region="eu"}` || after.Tenant.Tags.String() != `{region="us"}` {
		t.Errorf("after a reload: %v and then %v, %v", before.Tenant.Tags, after.Tenant.Tags, err)
	}
}

func TestTheDirectoryKnowsTheOthers(t *testing.T) {
	one := &tenant.Profile{ID: tenant.ID{Account: 1}, Name: "one"}
	two := &tenant.Profile{ID: tenant.ID{Account: 2}}
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "host"}}
	nine := tenant.ID{Account: 9}
	d := &desk{
		known: []pair{
			{directory.BearerToken("one's"), &directory.Answer{Name: "first", Tenants: []*tenant.Profile{one}}},
			{directory.BasicAuth("user", "password"), &directory.Answer{Name: "both", Tenants: []*tenant.Profile{one, two}}},
			{directory.ClientCertificate(cert), &directory.Answer{Name: "host", Tenants: []*tenant.Profile{two}}},
			{directory.BearerToken("scraper's"), &directory.Answer{Name: "scraper", Naming: &directory.Naming{
				Labels: []string{"org"}, Values: directory.ByNumber, Missing: &nine, Base: tenant.Profile{Name: "base"}}}},
			{directory.BearerToken("bounded"), &directory.Answer{Name: "bounded", Tenants: []*tenant.Profile{one}, Naming: &directory.Naming{
				Labels: []string{"org"}, Values: directory.ByTable, Table: map[string]tenant.ID{"a": one.ID, "b": two.ID}}}},
			{directory.BearerToken("asking"), &directory.Answer{Name: "asking", Naming: &directory.Naming{
				Labels: []string{"org"}, Values: directory.ByDirectory}}},
			{directory.BearerToken("nothing"), &directory.Answer{Name: "nothing"}},
		},
		labels: map[string]*tenant.Profile{"org=acme": one},
	}
	a := asking(t, Config{Mode: ModeDirectory, File: writeFile(t, acme)}, nil, d)
	for name, c := range map[string]struct {
		r       *http.Request
		path    Name
		want    string
		refused error
	}{
		"a token":                     {r: request(bearerOf("one's")...), want: "first 1:0"},
		"a token for another":         {r: request(bearerOf("one's")...), path: inPath(2, 0), refused: tenant.ErrForbidden},
		"a token and many":            {r: request(bearerOf("one's")...), path: inData, refused: tenant.ErrForbidden},
		"a user":                      {r: request(basicOf("user", "password")...), path: inPath(2, 0), want: "both 2:0"},
		"a user who has to say":       {r: request(basicOf("user", "password")...), refused: tenant.ErrUnnamed},
		"a wrong password":            {r: request(basicOf("user", "passwort")...), refused: tenant.ErrUnauthorized},
		"a certificate":               {r: certified(cert, true), want: "host 2:0"},
		"one that is not verified":    {r: certified(cert, false), refused: tenant.ErrUnauthorized},
		"a trusted one":               {r: request(bearerOf("scraper's")...), path: inData, want: "scraper mapping"},
		"a trusted one for a tenant":  {r: request(bearerOf("scraper's")...), path: inPath(8, 8), want: "scraper 8:8"},
		"a bounded one":               {r: request(bearerOf("bounded")...), want: "bounded mapping"},
		"a bounded one within":        {r: request(bearerOf("bounded")...), path: inPath(1, 0), want: "bounded 1:0"},
		"a bounded one beyond":        {r: request(bearerOf("bounded")...), path: inPath(2, 0), refused: tenant.ErrForbidden},
		"one that asks":               {r: request(bearerOf("asking")...), want: "asking mapping"},
		"one that asks, for a tenant": {r: request(bearerOf("asking")...), path: inPath(1, 0), refused: tenant.ErrForbidden},
		"one for nobody":              {r: request(bearerOf("nothing")...), refused: tenant.ErrForbidden},
		"one of the file":             {r: request(bearerOf("agent's token")...), want: "agent-1 12:3"},
		"a malformed header":          {r: request("Authorization", "Bearer"), refused: tenant.ErrUnauthorized},
		"none":                        {r: request(), refused: tenant.ErrUnauthorized},
	} {
		for range 2 {
			s, err := a.Identify(t.Context(), c.r, c.path)
			expect(t, s, err, c.want, c.refused)
			if t.Failed() {
				t.Fatal(name)
			}
		}
	}
	find := func(token, value string) string {
		s, err := a.Identify(t.Context(), request(bearerOf(token)...), Name{})
		if err != nil {
			t.Fatal(err)
		}
		return outcome(s.Mapping.Find(t.Context(), []byte(value)))
	}
	for _, c := range [][3]string{
		{"scraper's", "7", "7:0"}, {"scraper's", "", "9:0"}, {"scraper's", "x", "no tenant"},
		{"bounded", "a", "1:0"}, {"bounded", "b", "forbidden"}, {"bounded", "", "no tenant"},
		{"asking", "acme", "1:0"}, {"asking", "other", "no tenant"},
	} {
		if got := find(c[0], c[1]); got != c[2] {
			t.Errorf("%s, value %q: %s, want %s", c[0], c[1], got, c[2])
		}
	}
	a.Invalidate(one.ID)
	if len(d.invalidated) != 1 || d.invalidated[0] != one.ID {
		t.Errorf("the directory has heard of %v", d.invalidated)
	}
}

func TestWhoCannotBeLookedUpIsNotTurnedAway(t *testing.T) {
	d := &desk{down: true}
	a := asking(t, Config{Mode: ModeDirectory, FailuresPerMinute: 1}, nil, d)
	for range 5 {
		s, err := a.Identify(t.Context(), request(bearerOf("x")...), Name{})
		expect(t, s, err, "", tenant.ErrUnavailable)
		if errors.Is(err, tenant.ErrUnauthorized) {
			t.Errorf("%v: a sender drops its samples for that", err)
		}
	}
	d.down = false
	d.known = []pair{{directory.BearerToken("x"), &directory.Answer{Name: "x", Tenants: []*tenant.Profile{{ID: tenant.ID{Account: 1}}}}}}
	s, err := a.Identify(t.Context(), request(bearerOf("x")...), Name{})
	expect(t, s, err, "x 1:0", nil)
}

func TestTheDirectoryIsNotAskedForWhoGuesses(t *testing.T) {
	d := &desk{known: []pair{
		{directory.BearerToken("used"), &directory.Answer{Name: "used", Tenants: []*tenant.Profile{{ID: tenant.ID{Account: 1}}}}},
		{directory.BearerToken("new"), &directory.Answer{Name: "new", Tenants: []*tenant.Profile{{ID: tenant.ID{Account: 1}}}}},
	}}
	a := asking(t, Config{Mode: ModeDirectory, FailuresPerMinute: 2}, nil, d)
	send := func(token string) error {
		_, err := a.Identify(t.Context(), request(bearerOf(token)...), Name{})
		return err
	}
	if err := send("used"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := send("guess"); !errors.Is(err, tenant.ErrUnauthorized) {
			t.Fatal(err)
		}
	}
	asked := d.asked
	for _, token := range []string{"guess", "new"} {
		if err := send(token); !errors.Is(err, tenant.ErrTooManyFailures) {
			t.Errorf("%s: %v", token, err)
		}
	}
	if d.asked != asked {
		t.Errorf("the directory was asked %d times more", d.asked-asked)
	}
	if err := send("used"); err != nil {
		t.Errorf("one that was right before: %v", err)
	}
}

func TestAChallengeNamesBothSchemes(t *testing.T) {
	h := http.Header{}
	Challenge(h)
	if got := fmt.Sprint(h.Values("WWW-Authenticate")); got != `[Basic realm="ingestgw", charset="UTF-8" Bearer]` {
		t.Error(got)
	}
}

func TestOnlyAMappingThatAsksTheDirectoryIsPatient(t *testing.T) {
	d := new(desk)
	for values, want := range map[directory.Values]time.Duration{directory.ByNumber: 0, directory.ByTable: 0, directory.ByDirectory: d.Timeout()} {
		for _, dir := range []Directory{d, nil} {
			m := &mapped{naming: &directory.Naming{Labels: []string{"org"}, Values: values}, directory: dir}
			if dir == nil {
				want = 0
			}
			if got := m.Patience(); got != want {
				t.Errorf("values by %v, directory %v: patient for %v, want %v", values, dir, got, want)
			}
		}
	}
}
