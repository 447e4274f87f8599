package forge

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/ingestgw/ingestgw/loadtest/roster"
)

// A Credential is how a tenant says who it is.
type Credential struct {
	// Authorization is the value of the header. Empty: the client's certificate counts.
	Authorization string
	// Certificate is the common name of the client's certificate, and the one DNS name in it.
	Certificate string

	listed roster.Credential // empty: it is not listed with the tenant
	shared bool              // with another tenant: the path has to name one
}

// Stranger is the name in a certificate that is verified and nobody's.
const Stranger = "stranger.example"

// Certificates are the names for which certificates are needed.
func (w *World) Certificates() []string {
	var names []string
	for i := range w.cfg.Certificates {
		names = append(names, certificate(i))
	}
	if len(names) > 0 {
		names = append(names, Stranger)
	}
	return names
}

func certificate(tenant int) string { return fmt.Sprintf("tenant-%d.example", tenant) }

// addCredentials gives every tenant one kind of credential or the other, some of them two.
func (w *World) addCredentials() {
	for i := range w.Tenants {
		t := &w.Tenants[i]
		switch {
		case i < w.cfg.Certificates && i%2 == 0:
			t.Credentials = []Credential{{Certificate: certificate(i), listed: roster.Credential{Subject: "CN=" + certificate(i)}}}
		case i < w.cfg.Certificates:
			t.Credentials = []Credential{{Certificate: certificate(i), listed: roster.Credential{Name: certificate(i)}}}
		case i%6 == 1:
			t.Credentials = []Credential{w.bearer(), w.bearer()}
		case i%6 == 2:
			t.Credentials = []Credential{w.basic(i)}
		case i%6 == 3 && w.cfg.Sign != nil:
			t.Credentials = []Credential{{Authorization: "Bearer " + w.cfg.Sign(t.Account, t.Project)}}
		case i%6 == 4:
			t.Credentials = []Credential{w.bearer(), w.basic(i)}
		default:
			t.Credentials = []Credential{w.bearer()}
		}
	}
	for i := 5; i+1 < len(w.Tenants); i += 30 {
		w.share(&w.Tenants[i], &w.Tenants[i+1])
	}
}

// share gives two tenants a credential that may write for both.
func (w *World) share(a, b *Tenant) {
	token := w.token("shared")
	w.shared = append(w.shared, roster.Trusted{Name: "shared by " + a.ID(), Token: token, Tenants: []string{a.ID(), b.ID()}})
	for _, t := range []*Tenant{a, b} {
		t.Credentials = append(t.Credentials, Credential{Authorization: "Bearer " + token, shared: true})
	}
}

func (w *World) bearer() Credential {
	token := w.token("tenant")
	return Credential{Authorization: "Bearer " + token, listed: roster.Credential{Token: token}}
}

func (w *World) basic(i int) Credential {
	user, password := fmt.Sprintf("user-%d", i), w.token("password")
	return Credential{Authorization: basic(user, password), listed: roster.Credential{User: user, Password: password}}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// show puts a credential on a request. Beside a header Authorization, a certificate of anybody must not matter.
func (w *World) show(c Credential, on *Request) {
	on.Certificate = c.Certificate
	if c.Authorization == "" {
		return
	}
	on.Header.Set("Authorization", c.Authorization)
	if names := w.Certificates(); len(names) > 0 && w.random.IntN(10) == 0 {
		on.Certificate = names[w.random.IntN(len(names))]
	}
}

// wrong is a credential that nobody knows. Some are almost the tenant's.
func (w *World) wrong(of Tenant) Credential {
	own := of.Credentials[0]
	switch n := w.random.IntN(4); {
	case n == 0:
		return Credential{} // none
	case n == 1 && w.cfg.Certificates > 0:
		return Credential{Certificate: Stranger}
	case n == 1 || own.Authorization == "":
		return w.bearer()
	case strings.HasPrefix(own.Authorization, "Basic "):
		return Credential{Authorization: basic(own.listed.User, own.listed.Password+"0")}
	case n == 2:
		return Credential{Authorization: own.Authorization[:len(own.Authorization)-1]}
	}
	return Credential{Authorization: own.Authorization + "0"}
}

func header() http.Header {
	return http.Header{
		"Content-Encoding":                  {"snappy"},
		"Content-Type":                      {"application/x-protobuf"},
		"X-Prometheus-Remote-Write-Version": {"0.1.0"},
	}
}
