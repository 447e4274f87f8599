package token

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of JSON Web Tokens, read with prefix TENANT_JWT. Without keys there are no tokens.
type Config struct {
	KeysFile   string                `split_words:"true" desc:"File with the PEM public keys or certificates that tokens are verified with, several after each other; read again when it changes. Empty: none."`
	JwksURL    settings.URL          `split_words:"true" desc:"Where the JSON Web Key Set is that tokens are verified with, such as https://login.example.com/.well-known/jwks.json. Empty: none."`
	TLS        credentials.TLSConfig // of JwksURL
	Refresh    time.Duration         `default:"5m" desc:"How often the key set at TENANT_JWT_JWKS_URL is read anew, and so how long a key that has gone from there is still taken. A key that is not known yet is looked for at once."`
	SecretFile string                `split_words:"true" desc:"File that holds the secret of tokens signed with HS256, HS384 or HS512, at least 32 bytes; read again when it changes. Empty: such tokens are refused. Whoever has the secret can make tokens: prefer public keys."`
	Algorithms []string              `default:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA" desc:"Algorithms by which tokens may be signed. HS256, HS384 and HS512 need TENANT_JWT_SECRET_FILE. What kind a key is decides which of them it verifies."`
	Issuer     string                `desc:"What the claim iss must be. Empty: anything, or nothing."`
	Audience   string                `desc:"What the claim aud must be or hold. Empty: anything, or nothing."`
	Leeway     time.Duration         `default:"30s" desc:"By how much clocks may differ: a token is taken for so long after it has expired, and before it is valid."`
	Claim      string                `default:"vm_access" desc:"Claim that names the tenants: what vmauth and vmgateway read as vm_access, or 12, \"12:3\", or a list of those. A claim inside others is named with dots, such as realm.tenants."`
	MaxCached  int                   `split_words:"true" default:"100000" unit:"tokens" desc:"Most verified tokens that are remembered, about 1 KiB each, so that not every request costs a verification."`
}

const (
	prefix    = "INGESTGW_TENANT_JWT"
	tlsPrefix = prefix + "_TLS"
)

// Configured says whether tokens can be verified at all.
func (c Config) Configured() bool {
	return c.KeysFile != "" || c.JwksURL.URL != nil || c.SecretFile != ""
}

// Validate says everything that is wrong, naming the variables.
func (c Config) Validate() error {
	var errs []error
	bad := func(setting string, value any, want string) {
		errs = append(errs, fmt.Errorf("%s_%s=%v: want %s", prefix, setting, value, want))
	}
	if c.JwksURL.URL != nil && c.JwksURL.Scheme != "http" && c.JwksURL.Scheme != "https" {
		bad("JWKS_URL", c.JwksURL, "http:// or https://")
	}
	if c.Refresh < time.Second {
		bad("REFRESH", c.Refresh, "at least 1s")
	}
	if c.Leeway < 0 {
		bad("LEEWAY", c.Leeway, "0 or more")
	}
	if c.MaxCached < 1 {
		bad("MAX_CACHED", c.MaxCached, "at least 1")
	}
	if c.Claim == "" {
		bad("CLAIM", c.Claim, "the name of a claim")
	}
	return errors.Join(append(errs, c.TLS.Validate(tlsPrefix), c.validateAlgorithms())...)
}

func (c Config) validateAlgorithms() error {
	if len(c.Algorithms) == 0 {
		return fmt.Errorf("%s_ALGORITHMS is empty: want at least one", prefix)
	}
	secrets := 0
	for _, a := range c.Algorithms {
		if !slices.Contains(algorithms, a) {
			return fmt.Errorf("%s_ALGORITHMS=%s: want some of %s", prefix, a, strings.Join(algorithms, ", "))
		}
		if symmetric(a) {
			secrets++
		}
	}
	switch {
	case secrets > 0 && c.SecretFile == "":
		return fmt.Errorf("%s_ALGORITHMS has HS…: set %s_SECRET_FILE too, or leave them out", prefix, prefix)
	case secrets == 0 && c.SecretFile != "":
		return fmt.Errorf("%s_SECRET_FILE is set, but %s_ALGORITHMS has none of HS256, HS384 and HS512: add one", prefix, prefix)
	case secrets == len(c.Algorithms) && (c.KeysFile != "" || c.JwksURL.URL != nil):
		return fmt.Errorf("%s_ALGORITHMS has none that a public key verifies: add one, or leave %s_KEYS_FILE and %s_JWKS_URL out", prefix, prefix, prefix)
	}
	return nil
}

// symmetric says whether whoever can verify by an algorithm can sign by it too.
func symmetric(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

// algorithms are all that there are here (https://www.rfc-editor.org/rfc/rfc7518#section-3.1). "none" is not one of them.
var algorithms = []string{
	"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
}
