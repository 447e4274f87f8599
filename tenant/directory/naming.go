package directory

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ingestgw/ingestgw/tenant"
)

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

// ParseMissing reads what becomes of series without the label: a tenant, or "refuse", which is nil.
func ParseMissing(text string) (*tenant.ID, error) {
	if text == "refuse" {
		return nil, nil
	}
	id, err := tenant.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("missing: want refuse or a tenant: %w", err)
	}
	return &id, nil
}

// Check says what of n cannot be, by the keys under which it stands in the file of tenants and in answers.
func (n *Naming) Check() error {
	switch {
	case len(n.Labels) == 0:
		return errors.New("want label, or labels")
	case len(n.Labels) > 2:
		return fmt.Errorf("want two labels, account and project, got %d", len(n.Labels))
	case slices.Contains(n.Labels, ""):
		return errors.New("want the name of a label")
	case n.Values != ByNumber && n.Values != ByTable && n.Values != ByDirectory:
		return fmt.Errorf("values: %s: want number, table or directory", n.Values)
	case len(n.Labels) == 2 && n.Values != ByNumber:
		return errors.New("two labels are an account and a project: want values: number")
	case n.Values == ByTable && n.Table == nil, n.Values != ByTable && len(n.Table) > 0:
		return errors.New("values: table and table belong together")
	}
	return nil
}

func (n *Naming) same(o *Naming) bool {
	if (n.Missing == nil) != (o.Missing == nil) || n.Missing != nil && *n.Missing != *o.Missing {
		return false
	}
	return n.Values == o.Values && slices.Equal(n.Labels, o.Labels) && maps.Equal(n.Table, o.Table)
}
