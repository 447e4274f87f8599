package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// minRSABits is the smallest RSA key that is taken (https://www.rfc-editor.org/rfc/rfc7518#section-3.3).
const minRSABits = 2048

// A key verifies tokens.
type key struct {
	id         string // empty: of a file, for tokens with any key ID
	key        any    // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, or the []byte of a secret
	algorithms []string
}

// newKey returns a key for those of the allowed algorithms that a key of its type is for: so a public key can never be taken for a
// secret, nor one algorithm for another. The error says why a key is for none.
func newKey(id string, k any, allowed []string) (key, error) {
	var fit []string
	switch k := k.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits {
			return key{}, fmt.Errorf("an RSA key of %d bits: want at least %d", bits, minRSABits)
		}
		fit = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		fit = []string{map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[k.Curve.Params().Name]}
	case ed25519.PublicKey:
		fit = []string{"EdDSA"}
	case []byte:
		fit = []string{"HS256", "HS384", "HS512"}
	}
	fit = slices.DeleteFunc(fit, func(a string) bool { return !slices.Contains(allowed, a) })
	if len(fit) == 0 {
		return key{}, fmt.Errorf("a key of type %T is for none of the algorithms %q (%s_ALGORITHMS)", k, allowed, prefix)
	}
	return key{id: id, key: k, algorithms: fit}, nil
}

// filed are the keys of PEM files.
func filed(public []crypto.PublicKey, allowed []string) ([]key, error) {
	var keys []key
	for i, p := range public {
		k, err := newKey("", p, allowed)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// parseKeySet reads a JSON Web Key Set (https://www.rfc-editor.org/rfc/rfc7517#section-5). Keys that are of no use here are passed
// over, as the RFC wants it; the last one is in the error when none is left.
func parseKeySet(b []byte, allowed []string) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("no key set: %w", err)
	}
	var keys []key
	last := errors.New("there is none in it")
	for _, raw := range set.Keys {
		k, err := parseKey(raw, allowed)
		if err != nil {
			last = err
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no key of use in the key set: %w", last)
	}
	return keys, nil
}

func parseKey(raw json.RawMessage, allowed []string) (key, error) {
	// Without Private, secrets are not read, and of private keys the public part.
	jwk, err := jwkset.NewJWKFromRawJSON(raw, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return key{}, err
	}
	m := jwk.Marshal()
	if m.USE != "" && m.USE != jwkset.UseSig {
		return key{}, fmt.Errorf("key %.40q is for %s, not for signatures", m.KID, m.USE)
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return key{}, fmt.Errorf("key %.40q is not for verifying", m.KID)
	}
	if m.ALG != "" {
		allowed = slices.DeleteFunc(slices.Clone(allowed), func(a string) bool { return a != m.ALG.String() })
	}
	k, err := newKey(m.KID, jwk.Key(), allowed)
	if err != nil {
		return key{}, fmt.Errorf("key %.40q: %w", m.KID, err)
	}
	return k, nil
}

// A keySet is all keys at one time. It does not change.
type keySet struct {
	files  []key
	remote []key // of the JSON Web Key Set
}

// find returns the keys that may have signed a token with that header.
func (s *keySet) find(id, algorithm string) (found []jwt.VerificationKey) {
	for _, k := range s.files {
		if slices.Contains(k.algorithms, algorithm) {
			found = append(found, k.key)
		}
	}
	for _, k := range s.remote {
		if (id == "" || k.id == id) && slices.Contains(k.algorithms, algorithm) {
			found = append(found, k.key)
		}
	}
	return found
}

// has says whether the JSON Web Key Set has a key with that ID.
func (s *keySet) has(id string) bool {
	return slices.ContainsFunc(s.remote, func(k key) bool { return k.id == id })
}
