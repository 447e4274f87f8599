package directory

import (
	"bytes"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
)

// An Answer is what the directory says of a credential. It does not change, and may be shared.
type Answer struct {
	// Name names the credential in logs and metrics. It is never empty: without one from the directory it is the kind and the
	// first digits of the hash.
	Name string
	// Tenants are those that the credential may write for, in the order of the directory. With Naming, none means all.
	Tenants []*tenant.Profile
	// Naming is how the sender's data names tenants; nil for all who are not trusted to.
	Naming *Naming
}

// Tenant returns the profile of a tenant that the credential may write for by its list, or nil.
func (a *Answer) Tenant(id tenant.ID) *tenant.Profile {
	for _, p := range a.Tenants {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// tenants lists those that a names, for the log.
func (a *Answer) tenants() string {
	var list []string
	for _, p := range a.Tenants {
		list = append(list, p.ID.String())
	}
	if a.Naming != nil {
		list = append(list, "by label "+strings.Join(a.Naming.Labels, ", "))
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, " ")
}

// sameAnswer says whether two answers say the same in all.
func sameAnswer(a, b *Answer) bool { return a != nil && b != nil && bytes.Equal(encode(a), encode(b)) }

// sameTenants says whether two answers let a credential write for the same tenants.
func sameTenants(a, b *Answer) bool {
	if len(a.Tenants) != len(b.Tenants) || (a.Naming == nil) != (b.Naming == nil) {
		return false
	}
	for _, p := range a.Tenants {
		if b.Tenant(p.ID) == nil {
			return false
		}
	}
	return a.Naming == nil || a.Naming.same(b.Naming)
}
