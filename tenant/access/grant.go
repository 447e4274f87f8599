package access

import (
	"fmt"

	"github.com/ingestgw/ingestgw/tenant"
)

// A grant is for whom a credential may write that is not simply one tenant's.
type grant struct {
	name    string // of the credential
	senders map[tenant.ID]*tenant.Sender
	trusted *tenant.Sender // with a Mapping, of a credential that may name tenants in its data
	mapping *mapped        // that of trusted
}

// newGrant is for the profiles of a credential that names no tenants in its data.
func newGrant(name string, profiles []*tenant.Profile) *grant {
	g := &grant{name: name, senders: make(map[tenant.ID]*tenant.Sender, len(profiles))}
	for _, p := range profiles {
		g.senders[p.ID] = &tenant.Sender{Credential: name, Tenant: p}
	}
	return g
}

// trust is for a credential that names tenants in its data.
func trust(name string, m *mapped) *grant {
	return &grant{name: name, mapping: m, trusted: &tenant.Sender{Credential: name, Mapping: m}}
}

// allow returns the sender of a request that names n. The error wraps ErrForbidden, or ErrUnnamed when n has to say more.
func (g *grant) allow(n Name) (*tenant.Sender, error) {
	switch {
	case g.trusted != nil:
		return g.allowTrusted(n)
	case n.Multitenant:
		return nil, forbidden(g.name, n)
	case n.Given:
		if s := g.senders[n.ID]; s != nil {
			return s, nil
		}
		return nil, forbidden(g.name, n)
	case len(g.senders) == 0:
		return nil, fmt.Errorf("%w: credential %q may not write for anybody", tenant.ErrForbidden, g.name)
	case len(g.senders) == 1:
		for _, s := range g.senders {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%w: credential %q may write for %d tenants; name one in the path, as /insert/<account>:<project>/…",
		tenant.ErrUnnamed, g.name, len(g.senders))
}

// isFor says whether the tenant is one of those that the credential is for, and not just one of all.
func (g *grant) isFor(id tenant.ID) bool {
	if g.trusted != nil {
		return g.mapping.names(id)
	}
	return g.senders[id] != nil
}

func (g *grant) owner() *tenant.Sender {
	if len(g.senders) == 1 {
		for _, s := range g.senders {
			return s
		}
	}
	return &tenant.Sender{Credential: g.name}
}

func (g *grant) allowTrusted(n Name) (*tenant.Sender, error) {
	if !n.Given || n.Multitenant {
		return g.trusted, nil
	}
	p := g.mapping.allowed(n.ID)
	if p == nil {
		return nil, forbidden(g.name, n)
	}
	return &tenant.Sender{Credential: g.name, Tenant: p}, nil
}

func forbidden(credential string, n Name) error {
	if n.Multitenant {
		return fmt.Errorf("%w: credential %q may not name tenants in its data", tenant.ErrForbidden, credential)
	}
	return fmt.Errorf("%w: credential %q may not write for tenant %s", tenant.ErrForbidden, credential, n.ID)
}
