package main

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/ingest"
	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
	"github.com/ingestgw/ingestgw/tenant/directory"
)

// multitenantPath is where records of several tenants are posted together.
const multitenantPath = "/insert/multitenant/prometheus/api/v1/write"

// checkTenants looks at what the process that receives asks who sends: its certificates, its table, and whether the directory and the
// keys of tokens can be had.
func (c *check) checkTenants(ctx context.Context) {
	if _, err := credentials.LoadListener(ingest.TLSPrefix, c.cfg.Ingest.TLS, c.log); err != nil {
		c.failAll("listener for senders", err)
	}
	cfg := *c.cfg
	if err := cfg.Directory.CheckCacheFile(); err != nil {
		c.fail("directory of tenants", "%v", err)
	}
	cfg.Directory.CacheFile = "" // it is for the process that runs
	t, err := newTenants(&cfg, c.log, prometheus.NewRegistry())
	if err != nil {
		c.failAll("tenants", err)
		return
	}
	if cfg.Access.Mode == access.ModePath {
		c.ok("tenants", "INGESTGW_TENANT_MODE=path: whoever reaches INGESTGW_INGEST_LISTEN may write for every tenant")
		return
	}
	if cfg.Access.File != "" {
		c.ok("tenants", "%s can be read: %d tenants", cfg.Access.File, t.access.Tenants())
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- t.run(ctx) }() // ends with ctx; checkTenants waits for it
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			c.fail("tenants", "%v", err)
		}
	}()
	if t.directory != nil {
		c.checkDirectory(ctx, t.directory)
	}
	if t.tokens != nil {
		c.checkTokens(ctx, t)
	}
}

// checkDirectory asks for a credential that nobody has.
func (c *check) checkDirectory(ctx context.Context, d *directory.Directory) {
	what := "directory " + c.cfg.Directory.URL.String()
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	switch _, err := d.Lookup(ctx, directory.BearerToken("ingestgw-check-"+rand.Text())); {
	case errors.Is(err, tenant.ErrUnauthorized):
		c.ok(what, "it answers, and does not know a token that nobody has")
	case err == nil:
		c.fail(what, "it knows a token that was made up just now: everybody would be let in")
	default:
		c.fail(what, "%v", err)
	}
}

// checkTokens waits for the keys.
func (c *check) checkTokens(ctx context.Context, t *tenants) {
	what := "keys of JSON Web Tokens"
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	switch n, err := t.tokens.Keys(ctx); {
	case err != nil:
		c.fail(what, "%v", err)
	case n == 0:
		c.fail(what, "there are none: no token would be taken")
	default:
		c.ok(what, "%d", n)
	}
}

// checkMultitenantURL posts nothing to where small records of many tenants will be posted together.
func (c *check) checkMultitenantURL(ctx context.Context, t target) {
	if !c.cfg.Forward.Pack || t.Base.Path != "" && t.Base.Path != "/" {
		return
	}
	what := "write for many tenants to " + t.String()
	status, answer, err := ask(ctx, t.client, http.MethodPost, t.URL(multitenantPath), remoteWriteHeader(), http.NoBody)
	switch {
	case err != nil:
		c.fail(what, "%v", err)
	case status/100 == 2:
		c.ok(what, "an empty request to %s is answered %d", multitenantPath, status)
	default:
		c.warn(what, "an empty request to %s is answered %s: small records will be sent one by one, which costs vminsert several times the "+
			"CPU; open the URL, or set INGESTGW_FORWARD_PACK=false", multitenantPath, answered(status, answer))
	}
}

// ingestURL is how a process on this machine reaches the listener for senders.
func (c *check) ingestURL() *url.URL {
	u := local(c.cfg.Ingest.Listen, "/api/v1/write")
	if c.cfg.Ingest.TLS.CertFile != "" {
		u.Scheme = "https"
	}
	return u
}
