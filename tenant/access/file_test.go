package access

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// acme is a file with each kind of credential.
var acme = `
plans:
  small: {samples_per_second: 100}
defaults:
  plan: small
  tags: {region: eu}
tenants:
  - id: "12:3"
    name: acme
    tags: {org: acme}
    drop: ['{__name__=~"go_.*"}']
    credentials:
      - {name: agent-1, bearer_sha256: ` + sha("agent's token") + `}
      - bearer_sha256: ` + sha("agent's next token") + `
      - {name: user, basic: {user: acme, password_sha256: ` + sha("password") + `}}
      - {name: next user, basic: {user: acme, password_sha256: ` + sha("next password") + `}}
      - {name: by subject, certificate: {subject: "CN=agent,O=acme"}}
      - {name: by san, certificate: {san: Agent.acme.example}}
      - {name: by uri, certificate: {san: "spiffe://acme/Agent"}}
      - {name: by ip, certificate: {san: 10.0.0.7}}
  - {"id": "13:0", "credentials": [{"bearer_sha256": "` + sha("13's token") + `"}]}
credentials:
  - {name: two, bearer_sha256: ` + sha("token for two") + `, tenants: ["12:3", "14"]}
  - {name: one, bearer_sha256: ` + sha("token for one") + `, tenants: ["13:0"]}
  - name: hosts
    bearer_sha256: ` + sha("token of hosts") + `
    tenants_from: {label: org, values: table, table: {acme: "12:3", other: 13}, missing: "9:9"}
  - name: bounded
    bearer_sha256: ` + sha("bounded token") + `
    tenants: ["12:3", "13:0"]
    tenants_from: {labels: [vm_account_id, vm_project_id], missing: refuse}
  - {name: any, bearer_sha256: ` + sha("token for any") + `, tenants_from: {label: org}}
`

func bearerOf(token string) []string { return []string{"Authorization", "Bearer " + token} }

func basicOf(user, password string) []string {
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

func TestACredentialSaysWhoSends(t *testing.T) {
	a := ofText(t, acme)
	for name, c := range map[string]struct {
		headers []string
		path    Name
		want    string // credential and tenant, or "mapping"
		refused error
		says    string
	}{
		"a bearer token":                    {headers: bearerOf("agent's token"), want: "agent-1 12:3"},
		"of a scheme in small letters":      {headers: []string{"Authorization", "bearer agent's token"}, want: "agent-1 12:3"},
		"another at the same time":          {headers: bearerOf("agent's next token"), want: "acme/2 12:3"},
		"a token of a line in JSON":         {headers: bearerOf("13's token"), want: "13:0 13:0"},
		"a user":                            {headers: basicOf("acme", "password"), want: "user 12:3"},
		"with the next password":            {headers: basicOf("acme", "next password"), want: "next user 12:3"},
		"its tenant in the path":            {headers: bearerOf("agent's token"), path: inPath(12, 3), want: "agent-1 12:3"},
		"its tenant in headers":             {headers: append(bearerOf("agent's token"), "AccountID", "12", "ProjectID", "3"), want: "agent-1 12:3"},
		"another in the path":               {headers: bearerOf("agent's token"), path: inPath(13, 0), refused: tenant.ErrForbidden, says: `"agent-1" may not write for tenant 13:0`},
		"another project in the path":       {headers: bearerOf("agent's token"), path: inPath(12, 0), refused: tenant.ErrForbidden},
		"another in headers":                {headers: append(bearerOf("agent's token"), "AccountID", "13"), refused: tenant.ErrForbidden},
		"another in the scope":              {headers: append(bearerOf("agent's token"), "X-Scope-OrgID", "13"), refused: tenant.ErrForbidden},
		"one in the path, another in head":  {headers: append(bearerOf("agent's token"), "AccountID", "13"), path: inPath(12, 3), refused: tenant.ErrUnnamed},
		"many, which it may not":            {headers: bearerOf("agent's token"), path: inData, refused: tenant.ErrForbidden, says: "may not name tenants in its data"},
		"many in a header":                  {headers: append(bearerOf("agent's token"), "AccountID", "multitenant"), refused: tenant.ErrForbidden},
		"none":                              {refused: tenant.ErrUnauthorized, says: "no credential"},
		"none, for a tenant":                {path: inPath(12, 3), refused: tenant.ErrUnauthorized, says: "no credential"},
		"a token that is unknown":           {headers: bearerOf("agent's tokem"), refused: tenant.ErrUnauthorized, says: "not known"},
		"a hash instead of a token":         {headers: bearerOf(sha("agent's token")), refused: tenant.ErrUnauthorized, says: "not known"},
		"a user that is unknown":            {headers: basicOf("acmf", "password"), refused: tenant.ErrUnauthorized, says: "not known"},
		"a password that is wrong":          {headers: basicOf("acme", "passwort"), refused: tenant.ErrUnauthorized, says: "not known"},
		"a token as a password":             {headers: basicOf("", "agent's token"), refused: tenant.ErrUnauthorized},
		"a password as a token":             {headers: bearerOf("password"), refused: tenant.ErrUnauthorized},
		"a subject as a token":              {headers: bearerOf("CN=agent,O=acme"), refused: tenant.ErrUnauthorized},
		"a san as a token":                  {headers: bearerOf("agent.acme.example"), refused: tenant.ErrUnauthorized},
		"no token":                          {headers: []string{"Authorization", "Bearer "}, refused: tenant.ErrUnauthorized, says: "not known"},
		"no scheme":                         {headers: []string{"Authorization", "agent's token"}, refused: tenant.ErrUnauthorized, says: "not known"},
		"an empty header":                   {headers: []string{"Authorization", ""}, refused: tenant.ErrUnauthorized, says: "not known"},
		"another scheme":                    {headers: []string{"Authorization", "Digest agent's token"}, refused: tenant.ErrUnauthorized},
		"a user that is not base64":         {headers: []string{"Authorization", "Basic acme:password"}, refused: tenant.ErrUnauthorized},
		"two headers":                       {headers: append(bearerOf("agent's token"), bearerOf("13's token")...), refused: tenant.ErrUnauthorized},
		"several tenants and none named":    {headers: bearerOf("token for two"), refused: tenant.ErrUnnamed, says: `"two" may write for 2 tenants`},
		"several, the first":                {headers: bearerOf("token for two"), path: inPath(12, 3), want: "two 12:3"},
		"several, one that is not listed":   {headers: bearerOf("token for two"), path: inPath(14, 0), want: "two 14:0"},
		"several, another":                  {headers: bearerOf("token for two"), path: inPath(13, 0), refused: tenant.ErrForbidden},
		"several, many":                     {headers: bearerOf("token for two"), path: inData, refused: tenant.ErrForbidden},
		"a list of one":                     {headers: bearerOf("token for one"), want: "one 13:0"},
		"trusted, none named":               {headers: bearerOf("token of hosts"), want: "hosts mapping"},
		"trusted, many":                     {headers: bearerOf("token of hosts"), path: inData, want: "hosts mapping"},
		"trusted, many in a header":         {headers: append(bearerOf("token of hosts"), "AccountID", "multitenant"), want: "hosts mapping"},
		"trusted, one of its table":         {headers: bearerOf("token of hosts"), path: inPath(12, 3), want: "hosts 12:3"},
		"trusted, the one for what is not":  {headers: bearerOf("token of hosts"), path: inPath(9, 9), want: "hosts 9:9"},
		"trusted, one not of its table":     {headers: bearerOf("token of hosts"), path: inPath(14, 0), refused: tenant.ErrForbidden},
		"trusted and bounded, within":       {headers: bearerOf("bounded token"), path: inPath(13, 0), want: "bounded 13:0"},
		"trusted and bounded, beyond":       {headers: bearerOf("bounded token"), path: inPath(14, 0), refused: tenant.ErrForbidden},
		"trusted with all":                  {headers: bearerOf("token for any"), path: inPath(77, 7), want: "any 77:7"},
		"trusted, but path and head differ": {headers: append(bearerOf("token for any"), "AccountID", "1"), path: inData, refused: tenant.ErrUnnamed},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := a.Identify(t.Context(), request(c.headers...), c.path)
			expect(t, s, err, c.want, c.refused)
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%q does not say %q", err, c.says)
			}
		})
	}
}

// expect compares what Identify has said with a credential and its tenant, or with an error.
func expect(t *testing.T, s *tenant.Sender, err error, want string, refused error) {
	t.Helper()
	if refused != nil {
		if s != nil && s.Mapping != nil || !errors.Is(err, refused) || s != nil && errors.Is(err, tenant.ErrUnauthorized) {
			t.Errorf("got %+v, %v; want %v", s, err, refused)
		}
		return
	}
	if err != nil {
		t.Errorf("got %v, want %s", err, want)
		return
	}
	got := s.Credential + " mapping"
	if (s.Tenant == nil) == (s.Mapping == nil) {
		t.Errorf("got %+v: want a tenant or a mapping", s)
	} else if s.Tenant != nil {
		got = fmt.Sprintf("%s %s", s.Credential, s.Tenant.ID)
	}
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNobodyLearnsWhatIsWrongWithACredential(t *testing.T) {
	a := ofText(t, acme)
	texts := map[string]bool{}
	for _, headers := range [][]string{
		basicOf("acme", "wrong"), basicOf("nobody", "password"), bearerOf("wrong"), {"Authorization", "Basic %"}, {"Authorization", "x"},
	} {
		_, err := a.Identify(t.Context(), request(headers...), inPath(12, 3))
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("the answers tell credentials apart: %v", texts)
	}
}

// certified is a request over a connection with a client's certificate; verified or not.
func certified(cert *x509.Certificate, verified bool, headers ...string) *http.Request {
	r := request(headers...)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	if verified {
		r.TLS.VerifiedChains = [][]*x509.Certificate{{cert, {Subject: pkix.Name{CommonName: "agent", Organization: []string{"acme"}}}}}
	}
	return r
}

func TestACertificateIsKnownByItsSubjectOrItsNames(t *testing.T) {
	a := ofText(t, acme)
	uri := func(s string) []*url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return []*url.URL{u}
	}
	agent := pkix.Name{CommonName: "agent", Organization: []string{"acme"}}
	for name, c := range map[string]struct {
		cert       x509.Certificate
		unverified bool
		headers    []string
		path       Name
		want       string
		refused    error
	}{
		"a subject":                    {cert: x509.Certificate{Subject: agent}, want: "by subject 12:3"},
		"a name":                       {cert: x509.Certificate{DNSNames: []string{"x", "agent.ACME.example"}}, want: "by san 12:3"},
		"a URI":                        {cert: x509.Certificate{URIs: uri("spiffe://acme/Agent")}, want: "by uri 12:3"},
		"an address":                   {cert: x509.Certificate{IPAddresses: []net.IP{net.IPv4(10, 0, 0, 7)}}, want: "by ip 12:3"},
		"a subject before a name":      {cert: x509.Certificate{Subject: agent, DNSNames: []string{"agent.acme.example"}}, want: "by subject 12:3"},
		"for another tenant":           {cert: x509.Certificate{Subject: agent}, path: inPath(13, 0), refused: tenant.ErrForbidden},
		"another subject":              {cert: x509.Certificate{Subject: pkix.Name{CommonName: "agent"}}, refused: tenant.ErrUnauthorized},
		"a common name like a name":    {cert: x509.Certificate{Subject: pkix.Name{CommonName: "agent.acme.example"}}, refused: tenant.ErrUnauthorized},
		"a name like a subject":        {cert: x509.Certificate{DNSNames: []string{"CN=agent,O=acme"}}, refused: tenant.ErrUnauthorized},
		"a URI in other letters":       {cert: x509.Certificate{URIs: uri("spiffe://acme/agent")}, refused: tenant.ErrUnauthorized},
		"a common name with an O in":   {cert: x509.Certificate{Subject: pkix.Name{CommonName: "agent,O=acme"}}, refused: tenant.ErrUnauthorized},
		"one that nobody has verified": {cert: x509.Certificate{Subject: agent}, unverified: true, refused: tenant.ErrUnauthorized},
		"a token decides":              {cert: x509.Certificate{Subject: agent}, headers: bearerOf("13's token"), want: "13:0 13:0"},
		"a wrong token decides":        {cert: x509.Certificate{Subject: agent}, headers: bearerOf("wrong"), refused: tenant.ErrUnauthorized},
		"a malformed header decides":   {cert: x509.Certificate{Subject: agent}, headers: []string{"Authorization", "x"}, refused: tenant.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := a.Identify(t.Context(), certified(&c.cert, !c.unverified, c.headers...), c.path)
			expect(t, s, err, c.want, c.refused)
		})
	}
}

func TestATenantIsWhatTheFileSaysOfItAndOfAll(t *testing.T) {
	a := ofText(t, `
plans:
  small: {samples_per_second: 100, samples_hard: 150, bytes_per_second: 1MiB, active_series: 1000, concurrent_requests: 3}
  large: {samples_per_second: 1e6, samples_burst: 2e6, requests_per_second: 50}
defaults:
  plan: small
  tags: {region: eu, org: nobody}
  drop: ['up']
tenants:
- {"id": "1"}
- id: 2:5
  plan: large
  tags: {org: acme}
  drop: ['{job="x"}']
- {"id": "3", "limits": {"samples_per_second": 200, "active_series": 5}}
- {"id": "4", "limits": {"active_series": 5, "samples_per_second": 200}}
`)
	small := tenant.Plan{Name: "small", Samples: tenant.Rate{PerSecond: 100, Burst: 1500, Hard: 150},
		Bytes: tenant.Rate{PerSecond: 1 << 20, Burst: 15 << 20, Hard: 2 << 20}, ActiveSeries: 1000, Concurrent: 3}
	large := tenant.Plan{Name: "large", Samples: tenant.Rate{PerSecond: 1e6, Burst: 2e6, Hard: 2e6},
		Requests: tenant.Rate{PerSecond: 50, Burst: 750, Hard: 100}}
	own := small
	own.Samples, own.ActiveSeries = tenant.Rate{PerSecond: 200, Burst: 3000, Hard: 400}, 5
	for _, c := range []struct {
		id, tags, drop string
		plan           tenant.Plan
	}{
		{"1:0", `{org="nobody", region="eu"}`, "[up]", small},
		{"2:5", `{org="acme", region="eu"}`, `[up {job="x"}]`, large},
		{"3:0", `{org="nobody", region="eu"}`, "[up]", own},
		{"99:0", `{org="nobody", region="eu"}`, "[up]", small},
	} {
		id, err := tenant.Parse(c.id)
		if err != nil {
			t.Fatal(err)
		}
		p := a.Profile(id)
		if p.ID != id || p.Tags.String() != c.tags || fmt.Sprint(p.Drop) != c.drop || *p.Plan != c.plan {
			t.Errorf("%s: got %s, %s, drop %v, %+v; want %+v", c.id, p.ID, p.Tags, p.Drop, *p.Plan, c)
		}
	}
	if a.Profile(tenant.ID{Account: 3}).Plan != a.Profile(tenant.ID{Account: 4}).Plan {
		t.Error("equal limits are kept twice")
	}
}

func TestOneSeesWhichCredentialsAreInUse(t *testing.T) {
	file := writeFile(t, acme)
	synctest.Test(t, func(t *testing.T) {
		a := newAccess(t, Config{Mode: ModeFile, File: file})
		uses := func() string {
			var b strings.Builder
			for _, u := range a.Describe(tenant.ID{Account: 12, Project: 3}, nil).Credentials {
				if !u.LastUsed.IsZero() {
					fmt.Fprintf(&b, "%s (%s) %s; ", u.Name, u.Kind, u.LastUsed.UTC().Format(time.TimeOnly))
				}
			}
			return b.String()
		}
		if got := uses(); got != "" {
			t.Errorf("before any request: %s", got)
		}
		send := func(headers []string, path Name) {
			_, _ = a.Identify(t.Context(), request(headers...), path)
		}
		send(bearerOf("agent's token"), Name{})
		time.Sleep(time.Minute)
		send(basicOf("acme", "password"), Name{})
		send(basicOf("acme", "wrong"), Name{})
		send(bearerOf("token for two"), inPath(12, 3))
		want := "agent-1 (bearer) 00:00:00; user (basic) 00:01:00; two (bearer) 00:01:00; "
		if got := uses(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if err := a.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := uses(); got != want {
			t.Errorf("after a reload: %s, want %s", got, want)
		}
	})
}

func TestDescribeTellsWhatIsKnownOfATenant(t *testing.T) {
	a := ofText(t, acme)
	d := a.Describe(tenant.ID{Account: 12, Project: 3}, nil)
	if !d.Listed || d.Name != "acme" || d.Plan.Name != "small" || fmt.Sprint(d.Tags) != "map[org:acme region:eu]" ||
		fmt.Sprint(d.Drop) != `[{__name__=~"go_.*"}]` || len(d.Credentials) != 11 {
		t.Errorf("got %+v", d)
	}
	if d := a.Describe(tenant.ID{Account: 99}, nil); d.Listed || d.Plan.Name != "small" || len(d.Credentials) != 0 {
		t.Errorf("of one that is not listed: %+v", d)
	}
	if d := newAccess(t, Config{Mode: ModePath}).Describe(tenant.ID{}, nil); d.Listed || d.Plan != nil {
		t.Errorf("without a file: %+v", d)
	}
}

func TestATenantThatTheFileDoesNotListIsDescribedByWhatItHasSentWith(t *testing.T) {
	a := ofText(t, acme)
	tags, err := tenant.NewTags(map[string]string{"org": "plant"})
	if err != nil {
		t.Fatal(err)
	}
	rule, err := tenant.ParseRule("up")
	if err != nil {
		t.Fatal(err)
	}
	sends := &tenant.Profile{Name: "plant", Tags: tags, Drop: []tenant.Rule{rule}, Plan: &tenant.Plan{Name: "gold"}}
	d := a.Describe(tenant.ID{Account: 99}, sends)
	if d.Listed || d.Name != "plant" || d.Plan.Name != "gold" || fmt.Sprint(d.Tags) != "map[org:plant]" || fmt.Sprint(d.Drop) != "[up]" {
		t.Errorf("got %+v", d)
	}
	if d := a.Describe(tenant.ID{Account: 12, Project: 3}, sends); !d.Listed || d.Name != "acme" || d.Plan.Name != "small" {
		t.Errorf("of one that is listed: %+v", d)
	}
}

func TestTrustedCredentialsAreListedWithTheTenantsThatTheyAreFor(t *testing.T) {
	a := ofText(t, acme+`  - name: narrow
    bearer_sha256: `+sha("narrow")+`
    tenants: ["13:0"]
    tenants_from: {label: org, values: table, table: {acme: "12:3", other: 13}, missing: "8:8"}
`)
	for id, want := range map[tenant.ID]string{
		{Account: 12, Project: 3}: "hosts bounded",
		{Account: 13}:             "hosts bounded narrow",
		{Account: 9, Project: 9}:  "hosts",
		{Account: 8, Project: 8}:  "narrow",
		{Account: 99}:             "",
	} {
		var names []string
		for _, u := range a.Describe(id, nil).Credentials {
			if u.Trusted {
				names = append(names, u.Name)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}
