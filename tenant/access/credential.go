package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
)

// A kind is how a credential is shown.
type kind uint8

const (
	bearer  kind = iota + 1 // Authorization: Bearer …
	basic                   // Authorization: Basic …
	subject                 // the subject of a TLS client certificate
	san                     // a name that a TLS client certificate is for
)

func (k kind) String() string {
	return [...]string{"unknown", bearer: "bearer", basic: "basic", subject: "certificate subject", san: "certificate SAN"}[k]
}

// A digest stands for a credential wherever it is kept. The secret cannot be told from it, as long as secrets are long and random.
type digest [sha256.Size]byte

// index is enough of a digest to find it by.
func (d *digest) index() uint64 { return binary.LittleEndian.Uint64(d[:]) }

// bearerDigest is the SHA-256 of the token, as the file has it in bearer_sha256.
func bearerDigest(token string) digest { return sha256.Sum256([]byte(token)) }

// basicDigest is that of a user and the SHA-256 of the password, which the file has in password_sha256.
func basicDigest(user string, password [sha256.Size]byte) digest {
	b := make([]byte, 0, 128)
	b = append(b, password[:]...)
	b = append(b, user...)
	return sha256.Sum256(b)
}

// nameDigest is that of a certificate's subject or SAN, which are no secrets: the authority that signed it is who vouches.
func nameDigest(name string) digest { return sha256.Sum256([]byte(name)) }

// A credential is one that a table knows. Tables that follow each other share those that have not changed.
type credential struct {
	sender  tenant.Sender // Tenant is missing when there are several
	digest  digest
	several *grant // instead of sender.Tenant
	sibling *credential
	used    atomic.Uint32 // unix time of the last use, in seconds
	kind    kind
}

func (c *credential) owner() *tenant.Sender {
	if c.several != nil {
		return c.several.owner()
	}
	return &c.sender
}

func (c *credential) allow(n Name) (*tenant.Sender, error) {
	if c.several != nil {
		return c.several.allow(n)
	}
	if n.Given && n != (Name{Given: true, ID: c.sender.Tenant.ID}) {
		return nil, forbidden(c.sender.Credential, n)
	}
	return &c.sender, nil
}

func (c *credential) is(k kind, d *digest) bool {
	return c.kind == k && subtle.ConstantTimeCompare(c.digest[:], d[:]) == 1
}

func (c *credential) lastUse() time.Time {
	if at := c.used.Load(); at != 0 {
		return time.Unix(int64(at), 0)
	}
	return time.Time{}
}

// use writes down that c was used now. The clock's second is written once, so that processors do not fight for a busy sender's.
func (c *credential) use(now time.Time) {
	if at := uint32(now.Unix()); c.used.Load() != at {
		c.used.Store(at)
	}
}

// A shown credential is what a request has with it.
type shown struct {
	kind        kind
	digest      digest
	token       string            // of kind Bearer
	certificate *certificateNames // of kind Subject, which stands for both kinds that certificates have
}

// credentialOf returns what r shows. An Authorization header decides over a certificate. One that is malformed shows something
// that nobody has.
func credentialOf(r *http.Request) (s shown, given bool) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		names := namesOf(r.TLS)
		if names == nil {
			return shown{}, false
		}
		return shown{kind: subject, digest: nameDigest(names.subject), certificate: names}, true
	}
	if len(headers) > 1 {
		return shown{}, true
	}
	scheme, rest, _ := strings.Cut(headers[0], " ")
	switch rest = strings.Trim(rest, " "); {
	case rest == "":
	case strings.EqualFold(scheme, "Bearer"):
		return shown{kind: bearer, digest: bearerDigest(rest), token: rest}, true
	case strings.EqualFold(scheme, "Basic"):
		if user, password, ok := r.BasicAuth(); ok {
			return shown{kind: basic, digest: basicDigest(user, sha256.Sum256([]byte(password)))}, true
		}
	}
	return shown{}, true
}

// question is what the directory is asked about s, which r shows.
func (s *shown) question(r *http.Request) (c directory.Credential, ok bool) {
	switch s.kind {
	case bearer:
		return directory.BearerToken(s.token), true
	case basic:
		user, password, _ := r.BasicAuth()
		return directory.BasicAuth(user, password), true
	case subject:
		return directory.ClientCertificate(r.TLS.VerifiedChains[0][0]), true
	}
	return directory.Credential{}, false
}

// certificateNames are what credentials may name a certificate by.
type certificateNames struct {
	subject string
	sans    []string
}

// namesOf returns nil unless the connection's certificate was verified.
func namesOf(state *tls.ConnectionState) *certificateNames {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil
	}
	leaf := state.VerifiedChains[0][0]
	names := &certificateNames{subject: leaf.Subject.String()}
	for _, name := range leaf.DNSNames {
		names.sans = append(names.sans, strings.ToLower(name))
	}
	names.sans = append(names.sans, leaf.EmailAddresses...)
	for _, ip := range leaf.IPAddresses {
		names.sans = append(names.sans, ip.String())
	}
	for _, uri := range leaf.URIs {
		names.sans = append(names.sans, uri.String())
	}
	return names
}
