package directory

import (
	"bytes"
	"maps"
	"slices"
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

func (n *Naming) same(o *Naming) bool {
	if (n.Missing == nil) != (o.Missing == nil) || n.Missing != nil && *n.Missing != *o.Missing {
		return false
	}
	return n.Values == o.Values && slices.Equal(n.Labels, o.Labels) && maps.Equal(n.Table, o.Table)
}

// Naming says how the data of a trusted sender names the tenants of its series.
type Naming struct {
	// Labels are one label, or two: account and project.
	Labels []string
	// Values says what a value of the label stands for. Two labels are always ByNumber.
	Values Values
	// Table is for ByTable.
	Table map[string]tenant.ID
	// Missing is the tenant of series that do not have the label. nil: such series are refused.
	Missing *tenant.ID
	// Base is what holds for a tenant that is named by number or table and is not in Answer.Tenants: its plan, its tags, its
	// rules. Whoever uses it copies it and puts the ID in.
	Base tenant.Profile
}

// Values says how the value of a label becomes a tenant.
type Values string

// The ways.
const (
	// ByNumber: the value is "<account>" or "<account>:<project>".
	ByNumber Values = "number"
	// ByTable: Naming.Table has it.
	ByTable Values = "table"
	// ByDirectory: LookupLabel knows it.
	ByDirectory Values = "directory"
)
