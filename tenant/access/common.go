package access

import (
	"maps"
	"slices"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
)

// limits reads a mapping of keys of a plan.
func (v value) limits() (l tenant.Limits, err error) {
	err = v.readFields(func(key string, field value) error {
		text, notText := field.text()
		known, err := l.Set(key, text)
		switch {
		case !known:
			return errKey
		case notText != nil:
			return notText
		}
		return err
	})
	return l, err
}

// A plan is one of the file's, and how it was said.
type plan struct {
	limits tenant.Limits
	made   *tenant.Plan
}

// common is what the file says of all tenants.
type common struct {
	plans map[string]plan
	plan  string // of tenants that name none; empty: no limit
	tags  map[string]string
	drop  []string

	// base is what all that makes of a tenant that says nothing itself.
	base tenant.Profile
}

// same says whether tenants that are read with c and with o are the same.
func (c *common) same(o *common) bool {
	return c.plan == o.plan && maps.Equal(c.tags, o.tags) && slices.Equal(c.drop, o.drop) &&
		maps.EqualFunc(c.plans, o.plans, func(a, b plan) bool { return a.limits == b.limits })
}

func (c *common) readPlans(v value) error {
	if v.shape() == null {
		return nil
	}
	if v.shape() != mapping {
		return v.faultf("want a mapping from names to limits, got %s", v.shape())
	}
	for key, field := range v.fields() {
		name := strings.Clone(key[0].text)
		if _, twice := c.plans[name]; twice || name == "" {
			return key.faultf("plan %q: want a name that stands once", name)
		}
		var one plan
		if field.shape() != null {
			var err error
			if one.limits, err = field.limits(); err != nil {
				return err
			}
		}
		made, err := one.limits.Plan(name)
		if err != nil {
			return key.faultf("plan %q: %w", name, err)
		}
		one.made = &made
		if c.plans == nil {
			c.plans = make(map[string]plan)
		}
		c.plans[name] = one
	}
	return nil
}

func (c *common) readDefaults(v value) error {
	if v.shape() == null {
		return nil
	}
	return v.readFields(func(key string, field value) (err error) {
		switch key {
		case "plan":
			if c.plan, err = field.text(); err != nil {
				return err
			}
			c.plan = strings.Clone(c.plan)
			if _, ok := c.plans[c.plan]; !ok {
				return field.faultf("unknown plan %q", c.plan)
			}
			c.base.Plan = c.plans[c.plan].made
		case "tags":
			if c.tags, err = field.tags(); err != nil {
				return err
			}
			c.base.Tags, err = tenant.NewTags(c.tags)
		case "drop":
			return field.readList(func(item value) error {
				text, err := item.text()
				if err != nil {
					return err
				}
				rule, err := tenant.ParseRule(strings.Clone(text))
				c.drop, c.base.Drop = append(c.drop, rule.String()), append(c.base.Drop, rule)
				return err
			})
		default:
			return errKey
		}
		return err
	})
}
