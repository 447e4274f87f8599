// Package access says who sends a request and whose samples it brings.
//
// With TENANT_MODE=path the request says so itself. Else it has a credential, which is looked for in three places, in this order:
// the table in a file, the verifier of JSON Web Tokens, the directory. What has been found out about a request is a
// tenant.Sender; FORMAT.md describes the file.
package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
	"github.com/ingestgw/ingestgw/tenant/token"
)

// A Directory knows credentials that are not in the file; *directory.Directory is one.
type Directory interface {
	Lookup(ctx context.Context, c directory.Credential) (*directory.Answer, error)
	LookupLabel(ctx context.Context, label string, value []byte) (*tenant.Profile, error)
	Invalidate(id tenant.ID)
	// Timeout is how long the look-ups wait at most.
	Timeout() time.Duration
}

// A Verifier knows whose JSON Web Tokens are; *token.Verifier is one.
type Verifier interface {
	Verify(ctx context.Context, raw string) (*token.Grant, error)
}

// Access says who sends. It is safe for concurrent use.
type Access struct {
	cfg       Config
	tokens    Verifier  // nil: there are none
	directory Directory // nil: there is none
	table     atomic.Pointer[table]
	failures  *failures
	refused   refused
	proven    proven
	answers   *lru.Cache[*directory.Answer, *grant]
	granted   *lru.Cache[*token.Grant, tokenGrant]
	metrics   *metrics
	log       *slog.Logger

	reloading sync.Mutex  // guards what follows
	seen      stamp       // of the file as it was last read
	polled    os.FileInfo // of the file as it was when poll last found it changed
}

// maxMade is how many answers of the directory and how many tokens are kept with what was made of them.
const maxMade = 10_000

// New returns an Access. It reads the file, if there is to be one; the error then names the file and the line. Without tokens or a
// directory these are nil.
func New(cfg Config, tokens Verifier, dir Directory, log *slog.Logger, reg prometheus.Registerer) (*Access, error) {
	answers, err := lru.New[*directory.Answer, *grant](maxMade)
	if err != nil {
		return nil, err
	}
	granted, err := lru.New[*token.Grant, tokenGrant](maxMade)
	if err != nil {
		return nil, err
	}
	a := &Access{
		cfg:       cfg,
		tokens:    tokens,
		directory: dir,
		failures:  newFailures(cfg.FailuresPerMinute),
		answers:   answers,
		granted:   granted,
		log:       log,
	}
	if cfg.Mode == ModeDirectory && dir == nil {
		return nil, errors.New("INGESTGW_TENANT_MODE=directory: there is no directory to ask, set INGESTGW_TENANT_DIRECTORY_URL")
	}
	a.table.Store(emptyTable(dir))
	a.metrics = newMetrics(reg, a.hasFile(), &a.refused)
	if a.hasFile() {
		a.reloading.Lock()
		defer a.reloading.Unlock()
		return a, a.read(stamp{})
	}
	return a, nil
}

func (a *Access) hasFile() bool { return a.cfg.Mode != ModePath && a.cfg.File != "" }

// Challenge puts into the headers of a 401 how a sender may show who it is.
func Challenge(h http.Header) {
	h["Www-Authenticate"] = []string{`Basic realm="ingestgw", charset="UTF-8"`, "Bearer"}
}

// Identify says who sends r, of whose tenant the path says path, before the body is read. The error wraps one of those in tenant;
// its text may be told to the sender, and tenant.Cause has more for the log. Beside an error the Sender says whose credential it was,
// for logs, and allows nothing: it is nil when that is not known, and has a Tenant when the credential is for no other.
func (a *Access) Identify(ctx context.Context, r *http.Request, path Name) (*tenant.Sender, error) {
	sender, err := a.identify(ctx, r, path)
	a.metrics.identified(err)
	return sender, err
}

func (a *Access) identify(ctx context.Context, r *http.Request, path Name) (*tenant.Sender, error) {
	if a.cfg.Mode == ModePath {
		return a.believe(r.Header, path)
	}
	who, err := a.authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	name, err := nameOf(r.Header, path)
	if err != nil {
		return who.owner(), err
	}
	sender, err := who.allow(name)
	if err != nil {
		return who.owner(), err
	}
	return sender, nil
}

// believe takes a request's word for whose it is.
func (a *Access) believe(h http.Header, path Name) (*tenant.Sender, error) {
	name, err := nameOf(h, path)
	if err != nil {
		return nil, err
	}
	if name.Multitenant {
		return nil, fmt.Errorf("%w: multitenant is for senders with a credential that may name tenants in its data "+
			"(INGESTGW_TENANT_MODE)", tenant.ErrUnnamed)
	}
	if !name.Given {
		name.ID = a.cfg.Default
	}
	var one struct {
		sender  tenant.Sender
		profile tenant.Profile
	}
	one.profile.ID = name.ID
	one.sender.Tenant = &one.profile
	return &one.sender, nil
}

// An allower is a credential that is known.
type allower interface {
	allow(n Name) (*tenant.Sender, error)
	// owner is whose it is, whatever a request names.
	owner() *tenant.Sender
}

// What senders hear. It is the same whatever was wrong with a credential, and names nothing of ours; see tenant.Hidden for the rest.
var (
	errNoCredential = fmt.Errorf("%w: the request has no credential; "+
		"send a bearer token, a user and a password, or a client certificate", tenant.ErrUnauthorized)
	errUnknown  = fmt.Errorf("%w: the credential is not known", tenant.ErrUnauthorized)
	errNotNow   = fmt.Errorf("%w: who this credential belongs to cannot be found out now; try again", tenant.ErrUnavailable)
	errTooMany  = fmt.Errorf("%w from this address: try again later", tenant.ErrTooManyFailures)
	errScheme   = fmt.Errorf("%w: an Authorization header that is neither Bearer nor Basic with something in it, or more than one", tenant.ErrUnauthorized)
	errUnlisted = fmt.Errorf("%w: it is not in the file", tenant.ErrUnauthorized)
)

// authenticate finds out whose credential r has.
func (a *Access) authenticate(ctx context.Context, r *http.Request) (allower, error) {
	s, given := credentialOf(r)
	if !given {
		return nil, errNoCredential
	}
	known := a.table.Load().find(&s)
	if known != nil && known.used.Load() != 0 {
		known.use(time.Now())
		return known, nil
	}
	if a.failures.tooMany(r.RemoteAddr) && (known != nil || !a.proven.has(&s.digest)) {
		a.refused.add(&s.digest, time.Now())
		return nil, tenant.Hidden(errTooMany, fmt.Errorf("%w from this address (INGESTGW_TENANT_FAILURES_PER_MINUTE=%d)",
			tenant.ErrTooManyFailures, a.cfg.FailuresPerMinute))
	}
	if known != nil {
		known.use(time.Now())
		return known, nil
	}
	who, err := a.ask(ctx, r, &s)
	switch {
	case err == nil || errors.Is(err, tenant.ErrForbidden):
		a.proven.add(&s.digest)
	case errors.Is(err, tenant.ErrUnauthorized):
		a.refused.add(&s.digest, time.Now())
		a.failures.count(r.RemoteAddr)
		return nil, tenant.Hidden(errUnknown, err)
	case errors.Is(err, tenant.ErrUnavailable):
		return nil, tenant.Hidden(errNotNow, err)
	}
	return who, err
}

// ask asks those who know credentials that are in no table.
func (a *Access) ask(ctx context.Context, r *http.Request, s *shown) (allower, error) {
	if a.tokens != nil && s.kind == bearer && token.Looks(s.token) {
		return a.verify(ctx, s)
	}
	c, ok := s.question(r)
	if !ok {
		return nil, errScheme
	}
	if a.cfg.Mode != ModeDirectory {
		return nil, fmt.Errorf("%s: %w", c, errUnlisted)
	}
	answer, err := a.directory.Lookup(ctx, c)
	if err != nil {
		return nil, err
	}
	if g, ok := a.answers.Get(answer); ok {
		return g, nil
	}
	g := grantOf(answer, a.directory)
	a.answers.Add(answer, g)
	return g, nil
}

// A tokenGrant is what was made of a token's grant. It holds as long as the table does.
type tokenGrant struct {
	*grant
	table *table
}

func (a *Access) verify(ctx context.Context, s *shown) (allower, error) {
	granted, err := a.tokens.Verify(ctx, s.token)
	if err != nil {
		return nil, err
	}
	t := a.table.Load()
	if g, ok := a.granted.Get(granted); ok && g.table == t {
		return g, nil
	}
	g, err := t.grant(granted)
	if err != nil {
		return nil, err
	}
	made := tokenGrant{grant: g, table: t}
	a.granted.Add(granted, made)
	return made, nil
}

// Profile returns what the file says of a tenant; of one that it does not list, what it says of all of those. In the directory
// tenants are found by credentials only.
func (a *Access) Profile(id tenant.ID) *tenant.Profile { return a.table.Load().profile(id) }

// A Description is what the status API tells of a tenant.
type Description struct {
	Name string `json:"name,omitempty"`
	// Listed says whether the file has the tenant. Of one that it does not have this is what the directory, or the token, has said with
	// which it has sent of late; else what the file says of all tenants.
	Listed bool              `json:"listed"`
	Plan   *tenant.Plan      `json:"plan,omitempty"` // nil is no limit
	Tags   map[string]string `json:"tags,omitempty"`
	Drop   []string          `json:"drop,omitempty"`
	// Credentials are those of the file that may write for this tenant, but for trusted ones that may write for everybody.
	Credentials []Use `json:"credentials,omitempty"`
}

// A Use is when a credential was used last.
type Use struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// Trusted: its data name tenants, this one among others.
	Trusted bool `json:"trusted,omitempty"`
	// LastUsed is zero when the credential was not used since the process started.
	LastUsed time.Time `json:"last_used,omitzero"`
}

// Describe tells what is known of a tenant. sends is by what it was let in when it sent last; nil when it has not, of late.
func (a *Access) Describe(id tenant.ID, sends *tenant.Profile) Description {
	return a.table.Load().describe(id, sends)
}

// Tenants is how many the file has.
func (a *Access) Tenants() int { return len(a.table.Load().tenants) }

// Invalidate makes what the directory said of a tenant be asked anew.
func (a *Access) Invalidate(id tenant.ID) {
	if a.directory != nil {
		a.directory.Invalidate(id)
	}
}
