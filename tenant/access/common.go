package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
)

// limits are a plan as the file has it, before what is left out is filled in.
type limits struct {
	samples, bytes, requests rates
	activeSeries, concurrent int
}

type rates struct{ perSecond, burst, hard float64 }

// read lays what v says over l.
func (l *limits) read(v value) error {
	said := limits{samples: unsaid, bytes: unsaid, requests: unsaid, activeSeries: l.activeSeries, concurrent: l.concurrent}
	err := v.readFields(func(key string, field value) (err error) {
		switch what, part, _ := strings.Cut(key, "_"); what + " " + part {
		case "active series":
			said.activeSeries, err = field.count()
		case "concurrent requests":
			said.concurrent, err = field.count()
		case "samples per_second", "samples burst", "samples hard":
			*said.samples.part(part), err = field.number()
		case "bytes per_second", "bytes burst", "bytes hard":
			*said.bytes.part(part), err = field.bytes()
		case "requests per_second", "requests burst", "requests hard":
			*said.requests.part(part), err = field.number()
		default:
			return errKey
		}
		return err
	})
	l.samples.lay(said.samples)
	l.bytes.lay(said.bytes)
	l.requests.lay(said.requests)
	l.activeSeries, l.concurrent = said.activeSeries, said.concurrent
	return err
}

// notSaid is a number that no limit can be.
const notSaid = -1

var unsaid = rates{notSaid, notSaid, notSaid}

func (r *rates) part(name string) *float64 {
	switch name {
	case "burst":
		return &r.burst
	case "hard":
		return &r.hard
	}
	return &r.perSecond
}

// lay puts what is said in place of r's. Who says another rate has not said its burst and hard by those of before.
func (r *rates) lay(said rates) {
	if said.perSecond != notSaid {
		*r = rates{perSecond: said.perSecond}
	}
	if said.burst != notSaid {
		r.burst = said.burst
	}
	if said.hard != notSaid {
		r.hard = said.hard
	}
}

func (l *limits) plan(name string) (p tenant.Plan, err error) {
	p = tenant.Plan{Name: name, ActiveSeries: l.activeSeries, Concurrent: l.concurrent}
	for _, r := range []struct {
		what string
		from rates
		to   *tenant.Rate
	}{{"samples", l.samples, &p.Samples}, {"bytes", l.bytes, &p.Bytes}, {"requests", l.requests, &p.Requests}} {
		if *r.to, err = tenant.NewRate(r.from.perSecond, r.from.burst, r.from.hard); err != nil {
			return p, fmt.Errorf("%s: %w", r.what, err)
		}
	}
	return p, nil
}

// A plan is one of the file's, and how it was said.
type plan struct {
	limits limits
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
			if err := one.limits.read(field); err != nil {
				return err
			}
		}
		made, err := one.limits.plan(name)
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
			if c.tags, err = field.texts(); err != nil {
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
