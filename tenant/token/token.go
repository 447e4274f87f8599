// Package token verifies JSON Web Tokens and reads which tenants they name.
//
// A token is verified by the keys in a file, by those of a JSON Web Key Set at a URL, or by a secret. What has been verified is
// remembered until it expires or the keys change: to verify costs 100 to 300 µs, to remember 2 (bench_test.go, two busy cores).
package token

import (
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/tenant"
)

const (
	// maxToken bounds a token. Issuers stay below 8 KiB, as most servers take no larger headers.
	maxToken   = 16 << 10
	usualToken = 2 << 10
	// minSecret is the shortest secret, in bytes (https://www.rfc-editor.org/rfc/rfc7518#section-3.2).
	minSecret = 32
	// maxName bounds the subject that is kept.
	maxName = 256
)

// A Grant is what a token grants. It does not change, and is shared: the same token gives the same *Grant as long as it is cached.
type Grant struct {
	// Name is the token's subject, for logs; empty when it has none.
	Name string
	// Tenants are those that the token may write for; at least one.
	Tenants []tenant.ID
	// Tags are labels for every series that comes with the token; all of them are fit for tenant.NewTags.
	Tags map[string]string
	// Expires is when the token does, without the leeway.
	Expires time.Time
}

// A Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	claim      string
	leeway     time.Duration
	algorithms []string
	parser     *jwt.Parser
	public     *credentials.File[[]crypto.PublicKey]
	secret     *credentials.File[string]
	remote     *remote // nil: none
	log        *slog.Logger
	metrics    *metrics

	mu     sync.Mutex
	set    *keySet
	files  filesStamp // of set
	grants *simplelru.LRU[[sha256.Size]byte, granted]
}

// A granted is a token that has been verified by the keys of one set.
type granted struct {
	grant *Grant
	until time.Time
	by    *keySet
}

// filesStamp tells whether what was read from files has changed.
type filesStamp struct {
	public *crypto.PublicKey // the first one
	secret string
}

// New reads the files that cfg names. The key set at a URL is read by Run.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Verifier, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if !cfg.Configured() {
		return nil, fmt.Errorf("there is nothing to verify tokens with: set %s_KEYS_FILE, %s_JWKS_URL or %s_SECRET_FILE", prefix, prefix, prefix)
	}
	v := &Verifier{
		claim:      cfg.Claim,
		leeway:     cfg.Leeway,
		algorithms: cfg.Algorithms,
		parser:     newParser(cfg),
		public:     credentials.PublicKeys(prefix+"_KEYS_FILE", cfg.KeysFile, log),
		secret:     credentials.Secret(prefix+"_SECRET_FILE", cfg.SecretFile, log),
		log:        log,
		set:        &keySet{},
	}
	var err error
	if v.grants, err = simplelru.NewLRU[[sha256.Size]byte, granted](cfg.MaxCached, nil); err != nil {
		return nil, err
	}
	if err := errors.Join(v.public.Load(), v.secret.Load()); err != nil {
		return nil, err
	}
	if v.set.files, err = v.fileKeys(v.public.Get(), v.secret.Get()); err != nil {
		return nil, err
	}
	v.files = stampOf(v.public.Get(), v.secret.Get())
	v.metrics = newMetrics(reg)
	if cfg.JwksURL.URL != nil {
		if v.remote, err = newRemote(cfg, log, v.metrics, v.setRemote); err != nil {
			return nil, err
		}
	}
	registerGauges(reg, v)
	return v, nil
}

func newParser(cfg Config) *jwt.Parser {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(cfg.Algorithms),
		jwt.WithLeeway(cfg.Leeway),
		jwt.WithExpirationRequired(),
		jwt.WithJSONNumber(),
	}
	if cfg.Issuer != "" {
		options = append(options, jwt.WithIssuer(cfg.Issuer))
	}
	if cfg.Audience != "" {
		options = append(options, jwt.WithAudience(cfg.Audience))
	}
	return jwt.NewParser(options...)
}

// Run keeps the key set at JWKS_URL up to date until ctx ends. Without it no token that needs the key set can be verified.
func (v *Verifier) Run(ctx context.Context) error {
	if v.remote == nil {
		<-ctx.Done()
		return nil
	}
	v.remote.run(ctx)
	return nil
}

// Verify checks a token and returns what it grants. The error wraps tenant.ErrUnauthorized for a token that is not valid,
// tenant.ErrForbidden for a valid one that may not write for anybody, and tenant.ErrUnavailable when the key it needs may be in a
// key set that cannot be read now; it never holds the token. It waits only for a key that is not known yet, 5 s at most.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Grant, error) {
	if len(raw) > maxToken {
		err := fmt.Errorf("token: %w: it has %d bytes, at most %d are taken", tenant.ErrUnauthorized, len(raw), maxToken)
		v.metrics.verified(err)
		return nil, err
	}
	var room [usualToken]byte // or every request would allocate that much
	sum := sha256.Sum256(append(room[:0], raw...))
	set := v.keys()
	if g := v.recall(sum, set); g != nil {
		v.metrics.cached.Inc()
		return g, nil
	}
	g, err := v.verify(ctx, raw, sum, set)
	v.metrics.verified(err)
	return g, err
}

func (v *Verifier) verify(ctx context.Context, raw string, sum [sha256.Size]byte, set *keySet) (*Grant, error) {
	c, err := v.check(raw, set)
	if newer := v.keys(); c.missing && newer != set { // it was read in between
		set = newer
		c, err = v.check(raw, set)
	}
	if c.missing {
		if set, err = v.seek(ctx, c.id); err != nil {
			return nil, err
		}
		c, err = v.check(raw, set)
		if c.missing {
			v.remote.miss(c.id)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("token: %w: %w", tenant.ErrUnauthorized, err)
	}
	g, err := grantOf(c.claims, v.claim)
	if err != nil {
		return nil, fmt.Errorf("token: %w: claim %q: %w", tenant.ErrForbidden, v.claim, err)
	}
	g.Name, _ = c.claims.GetSubject() // it was checked that there is a text, and an expiration
	g.Name = strings.ToValidUTF8(g.Name[:min(len(g.Name), maxName)], "")
	expires, _ := c.claims.GetExpirationTime()
	g.Expires = expires.Time
	v.remember(sum, granted{grant: g, until: expires.Add(v.leeway), by: set})
	return g, nil
}

// A checked is a token on its way.
type checked struct {
	claims jwt.MapClaims
	id     string // of its key
	// missing: it does not fit the keys that there are, and the key set may have another one by now.
	missing bool
}

var errCritical = errors.New("it has extensions that have to be understood (crit)")

// check verifies a token by the keys of a set.
func (v *Verifier) check(raw string, set *keySet) (checked, error) {
	c := checked{claims: jwt.MapClaims{}}
	absent := false
	_, err := v.parser.ParseWithClaims(raw, c.claims, func(t *jwt.Token) (any, error) {
		if _, critical := t.Header["crit"]; critical {
			return nil, errCritical
		}
		id, given := t.Header["kid"].(string)
		c.id = id
		absent = v.remote != nil && !symmetric(t.Method.Alg()) && (given && !set.has(id) || !given && v.remote.down())
		keys := set.find(id, t.Method.Alg())
		if len(keys) == 0 {
			return nil, errAbsent
		}
		return jwt.VerificationKeySet{Keys: keys}, nil
	})
	if err == nil {
		_, err = c.claims.GetSubject()
	}
	c.missing = absent && (errors.Is(err, errAbsent) || errors.Is(err, jwt.ErrTokenSignatureInvalid))
	return c, err
}

// seek returns the keys after the key set has been read anew, because one was not in it.
func (v *Verifier) seek(ctx context.Context, id string) (*keySet, error) {
	err := v.remote.seek(ctx, id)
	switch {
	case err == nil:
		return v.keys(), nil
	case errors.Is(err, errAbsent):
		return nil, fmt.Errorf("token: %w: key %.40q: %w", tenant.ErrUnauthorized, id, err)
	default:
		return nil, fmt.Errorf("token: key %.40q: %w: %w (%s_JWKS_URL)", id, tenant.ErrUnavailable, err, prefix)
	}
}

// recall returns what a token grants that was verified before by the same keys, or nil.
func (v *Verifier) recall(sum [sha256.Size]byte, set *keySet) *Grant {
	v.mu.Lock()
	defer v.mu.Unlock()
	g, ok := v.grants.Get(sum)
	if !ok {
		return nil
	}
	if g.by != set || !time.Now().Before(g.until) {
		v.grants.Remove(sum)
		return nil
	}
	return g.grant
}

func (v *Verifier) remember(sum [sha256.Size]byte, g granted) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.grants.Add(sum, g)
}

func (v *Verifier) cached() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.grants.Len()
}

// keys returns the set of the moment, after looking whether the files have changed.
func (v *Verifier) keys() *keySet {
	public, secret := v.public.Get(), v.secret.Get()
	v.mu.Lock()
	defer v.mu.Unlock()
	if stamp := stampOf(public, secret); stamp != v.files {
		v.files = stamp
		files, err := v.fileKeys(public, secret)
		if err != nil {
			v.log.Error("cannot use the keys of tokens, going on with those from before", "err", err)
			return v.set
		}
		v.replace(&keySet{files: files, remote: v.set.remote})
	}
	return v.set
}

// setRemote puts the keys of the JSON Web Key Set into use.
func (v *Verifier) setRemote(keys []key) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.replace(&keySet{files: v.set.files, remote: keys})
}

// replace makes all tokens be verified again. The lock must be held.
func (v *Verifier) replace(set *keySet) {
	v.set = set
	v.grants.Purge()
}

func stampOf(public []crypto.PublicKey, secret string) filesStamp {
	s := filesStamp{secret: secret}
	if len(public) > 0 {
		s.public = &public[0]
	}
	return s
}

func (v *Verifier) fileKeys(public []crypto.PublicKey, secret string) ([]key, error) {
	keys, err := filed(public, v.algorithms)
	if err != nil {
		return nil, fmt.Errorf("%s_KEYS_FILE: %w", prefix, err)
	}
	if secret == "" {
		return keys, nil
	}
	if len(secret) < minSecret {
		return nil, fmt.Errorf("%s_SECRET_FILE: a secret of %d bytes: want at least %d", prefix, len(secret), minSecret)
	}
	k, err := newKey("", []byte(secret), v.algorithms)
	return append(keys, k), err
}

// Looks says whether a bearer token has the form of a JSON Web Token: three parts with dots between them, the first of which is
// the beginning of a JSON object. Others are not meant for Verify.
func Looks(raw string) bool {
	const brace = "wxyz0123456789-_" // after e, in base64: a byte {
	return len(raw) > 4 && raw[0] == 'e' && strings.IndexByte(brace, raw[1]) >= 0 && strings.Count(raw, ".") == 2
}
