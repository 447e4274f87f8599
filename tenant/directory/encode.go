package directory

import (
	"encoding/json"

	"github.com/ingestgw/ingestgw/tenant"
)

// encode is the inverse of decode.
func encode(a *Answer) []byte {
	j := answerJSON{Name: a.Name, Tenants: make([]tenantJSON, 0, len(a.Tenants))}
	for _, p := range a.Tenants {
		j.Tenants = append(j.Tenants, tenantJSON{ID: idJSON(p.ID), Name: p.Name, profileJSON: profileOf(p, a.Naming != nil)})
	}
	if a.Naming != nil {
		j.TenantsFrom = namingOf(a.Naming)
		j.profileJSON = profileOf(&a.Naming.Base, false)
	}
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // texts and finite numbers only
	}
	return b
}

// profileOf leaves out what is empty, unless in full: where it stands beside a base from which it would be taken.
func profileOf(p *tenant.Profile, full bool) profileJSON {
	var j profileJSON
	if full {
		j.Plan, j.Drop = new(tenant.Plan), []string{}
	}
	if full || len(p.Tags) > 0 {
		j.Tags = map[string]string{}
	}
	for name, value := range p.Tags.All() {
		j.Tags[string(name)] = string(value)
	}
	for _, r := range p.Drop {
		j.Drop = append(j.Drop, r.String())
	}
	if p.Plan != nil {
		j.Plan = p.Plan
	}
	return j
}

func namingOf(n *Naming) *namingJSON {
	j := &namingJSON{Labels: n.Labels, Values: n.Values}
	if len(n.Labels) == 1 {
		j.Label, j.Labels = n.Labels[0], nil
	}
	if n.Missing != nil {
		j.Missing = scalarJSON(n.Missing.String())
	}
	if n.Table != nil {
		j.Table = make(map[string]idJSON, len(n.Table))
	}
	for value, id := range n.Table {
		j.Table[value] = idJSON(id)
	}
	return j
}
