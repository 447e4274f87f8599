package directory

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
)

// A Kind is what kind of thing the directory is asked about.
type Kind string

// The kinds.
const (
	Bearer      Kind = "bearer"
	Basic       Kind = "basic"
	Certificate Kind = "certificate"
	Label       Kind = "label"
)

func (k Kind) known() bool { return k == Bearer || k == Basic || k == Certificate || k == Label }

// A Credential is what a sender has shown, without what is secret in it. What tells two credentials apart is in it, so that an
// answer for one can never be taken for another's.
type Credential struct {
	key  key
	user string    // of Basic
	cert *question // of Certificate
}

// A key is under which an answer is remembered: the kind and the SHA-256 of all that the question holds.
type key struct {
	kind Kind
	sum  [sha256.Size]byte
}

// A question is what is posted to the directory, see PROTOCOL.md.
type question struct {
	Kind Kind `json:"kind"`
	// SHA256 is of the token, or of "user:password", in hexadecimal digits.
	SHA256 string `json:"sha256,omitempty"`
	User   string `json:"user,omitempty"`

	Subject  string   `json:"subject,omitempty"`
	Issuer   string   `json:"issuer,omitempty"`
	DNSNames []string `json:"dns_names,omitempty"`
	Emails   []string `json:"emails,omitempty"`
	URIs     []string `json:"uris,omitempty"`

	Label string `json:"label,omitempty"`
	Value string `json:"value,omitempty"`
}

// BearerToken is the credential of a sender with a bearer token.
func BearerToken(token string) Credential {
	var room [usual]byte
	return Credential{key: key{Bearer, sha256.Sum256(append(room[:0], token...))}}
}

// BasicAuth is the credential of a sender with a user name, which has no colon in it, and a password.
func BasicAuth(user, password string) Credential {
	var room [usual]byte
	b := append(room[:0], user...)
	b = append(b, ':')
	b = append(b, password...)
	return Credential{key: key{Basic, sha256.Sum256(b)}, user: user}
}

// ClientCertificate is the credential of a sender with a certificate that has been verified. Its subject, its issuer and its
// alternative names are what counts, not its key: a certificate that is renewed stays the same credential.
func ClientCertificate(cert *x509.Certificate) Credential {
	q := &question{
		Kind:     Certificate,
		Subject:  cert.Subject.String(),
		Issuer:   cert.Issuer.String(),
		DNSNames: cert.DNSNames,
		Emails:   cert.EmailAddresses,
	}
	for _, u := range cert.URIs {
		q.URIs = append(q.URIs, u.String())
	}
	return Credential{key: key{Certificate, sha256.Sum256(q.json())}, cert: q}
}

// String names the kind and the first digits of the hash, for logs.
func (c Credential) String() string { return c.key.String() }

func (c *Credential) question() question {
	if c.cert != nil {
		return *c.cert
	}
	return question{Kind: c.key.kind, SHA256: hex.EncodeToString(c.key.sum[:]), User: c.user}
}

// usual is the length, in bytes, up to which nothing is allocated to hash what a sender has shown.
const usual = 256

// labelKey is of one value of a label.
func labelKey(label string, value []byte) key {
	var room [usual]byte
	b := append(room[:0], label...)
	b = append(b, 0) // label names have no NUL
	b = append(b, value...)
	return key{Label, sha256.Sum256(b)}
}

func (q *question) json() []byte {
	b, err := json.Marshal(q)
	if err != nil {
		panic(err) // strings only
	}
	return b
}

// String names the kind and the first digits of the hash, for logs.
func (k key) String() string { return string(k.kind) + " " + hex.EncodeToString(k.sum[:4]) }
