package access

import (
	"slices"
	"strings"
	"sync"

	"github.com/ingestgw/ingestgw/tenant"
)

// A reading turns values into tenants and credentials. It is safe for concurrent use.
type reading struct {
	common    *common
	previous  *table
	directory Directory

	mu    sync.Mutex
	plans map[tenant.Plan]*tenant.Plan // those of tenants with limits of their own
	rules map[string]tenant.Rule
}

// found is a tenant or a credential, and where it stands.
type found struct {
	line       int
	entry      *entry
	credential *credential // instead of entry
}

func (f found) credentials() func(yield func(*credential) bool) {
	return func(yield func(*credential) bool) {
		c := f.credential
		if f.entry != nil {
			c = f.entry.first
		}
		for ; c != nil; c = c.sibling {
			if !yield(c) {
				return
			}
		}
	}
}

// tenant reads an item of "tenants".
func (r *reading) tenant(v value) (*entry, error) {
	e := &entry{profile: r.common.base}
	p := &e.profile
	var id, limits, tags, drop, credentials value
	planName := r.common.plan
	err := v.readFields(func(key string, field value) (err error) {
		switch key {
		case "id":
			id = field
			p.ID, err = field.id()
		case "name":
			p.Name, err = field.text()
			p.Name = strings.Clone(p.Name)
		case "plan":
			planName, err = field.text()
		case "limits":
			limits = field
		case "tags":
			tags = field
		case "drop":
			drop = field
		case "credentials":
			credentials = field
		default:
			return errKey
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if id == nil {
		return nil, v.faultf("a tenant without id")
	}
	if p.Plan, err = r.plan(v, planName, limits); err != nil {
		return nil, err
	}
	if tags != nil {
		if p.Tags, err = r.tags(tags); err != nil {
			return nil, tags.at(err)
		}
	}
	if drop != nil {
		if p.Drop, err = r.drop(drop); err != nil {
			return nil, err
		}
	}
	if credentials != nil {
		e.first, err = r.credentials(p, credentials)
	}
	return e, err
}

// plan is that of name with limits laid over it. Equal plans are the same.
func (r *reading) plan(v value, name string, over value) (*tenant.Plan, error) {
	known, ok := r.common.plans[name]
	if !ok && name != "" {
		return nil, v.faultf("unknown plan %q", name)
	}
	if over == nil {
		return known.made, nil
	}
	limits, err := over.limits()
	if err != nil {
		return nil, err
	}
	if known.made != nil {
		name = known.made.Name
	}
	own, err := limits.Over(known.limits).Plan(name)
	if err != nil {
		return nil, over.at(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.plans == nil {
		r.plans = make(map[tenant.Plan]*tenant.Plan)
	}
	if p := r.plans[own]; p != nil {
		return p, nil
	}
	r.plans[own] = &own
	return &own, nil
}

// tags are those of all tenants and v, which wins.
func (r *reading) tags(v value) (tenant.Tags, error) {
	own, err := v.tags()
	if err != nil {
		return nil, err
	}
	for name, text := range r.common.tags {
		if _, said := own[name]; !said {
			own[name] = text
		}
	}
	return tenant.NewTags(own)
}

// drop are the rules of all tenants and v.
func (r *reading) drop(v value) ([]tenant.Rule, error) {
	rules := slices.Clip(slices.Clone(r.common.base.Drop))
	return rules, v.readList(func(item value) error {
		text, err := item.text()
		if err != nil {
			return err
		}
		rule, err := r.rule(text)
		rules = append(rules, rule)
		return err
	})
}

func (r *reading) rule(text string) (tenant.Rule, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if rule, ok := r.rules[text]; ok {
		return rule, nil
	}
	text = strings.Clone(text)
	rule, err := tenant.ParseRule(text)
	if err != nil {
		return rule, err
	}
	if r.rules == nil {
		r.rules = make(map[string]tenant.Rule)
	}
	r.rules[text] = rule
	return rule, nil
}
