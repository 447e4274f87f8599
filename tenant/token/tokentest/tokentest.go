// Package tokentest makes JSON Web Tokens and serves the keys that verify them, for tests.
package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/ingestgw/ingestgw/internal/clock"
)

// Claims are what a token says.
type Claims map[string]any

// For returns the claims of a token that may write for a tenant, for an hour from now.
func For(account, project int) Claims {
	return Claims{
		"sub":       "sender",
		"exp":       time.Now().Add(time.Hour).Unix(),
		"vm_access": map[string]any{"tenant_id": map[string]any{"account_id": account, "project_id": project}},
	}
}

// With returns c with another value of a claim; nil takes the claim out.
func (c Claims) With(name string, value any) Claims {
	changed := Claims{}
	for n, v := range c {
		changed[n] = v
	}
	changed[name] = value
	if value == nil {
		delete(changed, name)
	}
	return changed
}

// A Key signs tokens.
type Key struct {
	ID        string // empty: tokens say none
	Algorithm string
	private   crypto.Signer
}

// NewKey makes a key for an algorithm: RS…, PS…, ES… or EdDSA.
func NewKey(t testing.TB, id, algorithm string) *Key {
	t.Helper()
	private, err := generate(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return &Key{ID: id, Algorithm: algorithm, private: private}
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "ES256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "EdDSA":
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	default:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
}

// As returns the same key under another ID and for another algorithm.
func (k *Key) As(id, algorithm string) *Key {
	return &Key{ID: id, Algorithm: algorithm, private: k.private}
}

// Public returns the public key.
func (k *Key) Public() crypto.PublicKey { return k.private.Public() }

// PEM returns the public key as it stands in a file.
func (k *Key) PEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Sign makes a token.
func (k *Key) Sign(t testing.TB, c Claims) string {
	t.Helper()
	return sign(t, k.ID, k.Algorithm, k.private, c)
}

// SignSecret makes a token with a secret, by HS256, HS384 or HS512. With a public key in the place of the secret it is a forged
// one.
func SignSecret(t testing.TB, id, algorithm string, secret []byte, c Claims) string {
	t.Helper()
	return sign(t, id, algorithm, secret, c)
}

// Unsigned makes a token with alg=none.
func Unsigned(t testing.TB, c Claims) string {
	t.Helper()
	return sign(t, "", "none", jwt.UnsafeAllowNoneSignatureType, c)
}

func sign(t testing.TB, id, algorithm string, key any, c Claims) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), jwt.MapClaims(c))
	if id != "" {
		token.Header["kid"] = id
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// A KeySet serves a JSON Web Key Set that tests can change and break. It is safe for concurrent use.
type KeySet struct {
	mu     sync.Mutex
	body   []byte
	status int
	reads  int
	delay  time.Duration
}

// NewKeySet returns a set with some keys.
func NewKeySet(t testing.TB, keys ...*Key) *KeySet {
	t.Helper()
	s := &KeySet{}
	s.Set(t, keys...)
	return s
}

// Serve starts a server for s, which ends with the test, and returns its URL.
func (s *KeySet) Serve(t testing.TB) string {
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

// Set puts other keys in the place of those before.
func (s *KeySet) Set(t testing.TB, keys ...*Key) {
	t.Helper()
	set := jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{}}
	for _, k := range keys {
		jwk, err := jwkset.NewJWKFromKey(k.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{
			ALG: jwkset.ALG(k.Algorithm), KID: k.ID, USE: jwkset.UseSig,
		}})
		if err != nil {
			t.Fatal(err)
		}
		set.Keys = append(set.Keys, jwk.Marshal())
	}
	body, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	s.SetBody(body)
}

// SetBody lets s serve anything.
func (s *KeySet) SetBody(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body = body
}

// Break makes s answer with a status; 0 makes it well again.
func (s *KeySet) Break(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Delay makes s wait for so long before every answer.
func (s *KeySet) Delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// Reads returns how often the set was read, or tried to.
func (s *KeySet) Reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// ServeHTTP serves the set.
func (s *KeySet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.reads++
	body, status, delay := s.body, s.status, s.delay
	s.mu.Unlock()
	if !clock.Sleep(r.Context(), delay) {
		return
	}
	if status != 0 {
		http.Error(w, "broken", status)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	_, _ = w.Write(body) // whoever has asked may be gone
}
