package access

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
)

// errKey is what set returns to readFields for a key that it does not know.
var errKey = errors.New("unknown key")

// readFields calls set for each key of a mapping. Keys that stand twice, and those for which set returns errKey, are faults.
func (v value) readFields(set func(key string, field value) error) error {
	if v.shape() != mapping {
		return v.faultf("want a mapping of keys and values, got %s", v.shape())
	}
	var room [16]string
	seen := room[:0] // no mapping has as many keys that are known
	for key, field := range v.fields() {
		name := key[0].text
		if slices.Contains(seen, name) {
			return key.faultf("key %q stands twice", name)
		}
		seen = append(seen, name)
		if err := set(name, field); err != nil {
			if errors.Is(err, errKey) {
				return key.faultf("unknown key %q", name)
			}
			return field.at(err)
		}
	}
	return nil
}

// at makes err a fault of v's line, unless it says a line already.
func (v value) at(err error) error {
	var f *fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return &fault{line: v.line(), err: err}
}

// text returns what a scalar says. It points into the file: whoever keeps it clones it.
func (v value) text() (string, error) {
	if v.shape() != scalar {
		return "", v.faultf("want a text, got %s", v.shape())
	}
	return v[0].text, nil
}

// readList calls one for each item of a list.
func (v value) readList(one func(item value) error) error {
	if v.shape() != list {
		return v.faultf("want a list, got %s", v.shape())
	}
	for item := range v.items() {
		if err := one(item); err != nil {
			return item.at(err)
		}
	}
	return nil
}

func (v value) id() (tenant.ID, error) {
	text, err := v.text()
	if err != nil {
		return tenant.ID{}, err
	}
	return tenant.Parse(text)
}

func (v value) number() (float64, error) {
	text, err := v.text()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0 {
		return 0, v.faultf("want a number, 0 or more, got %.100q", text)
	}
	return n, nil
}

func (v value) bytes() (float64, error) {
	if n, err := v.number(); err == nil {
		return n, nil
	}
	text, err := v.text()
	if err != nil {
		return 0, err
	}
	n, err := settings.ParseBytes(text)
	return float64(n), err
}

func (v value) count() (int, error) {
	n, err := v.number()
	if err != nil {
		return 0, err
	}
	if n > math.MaxInt32 || n != math.Trunc(n) {
		return 0, v.faultf("want a whole number from 0 to %d, got %v", math.MaxInt32, n)
	}
	return int(n), nil
}

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

// texts reads a mapping from text to text, which it clones.
func (v value) texts() (map[string]string, error) {
	if v.shape() != mapping {
		return nil, v.faultf("want a mapping from names to values, got %s", v.shape())
	}
	m := make(map[string]string)
	for key, field := range v.fields() {
		if _, twice := m[key[0].text]; twice {
			return nil, key.faultf("key %q stands twice", key[0].text)
		}
		text, err := field.text()
		if err != nil {
			return nil, err
		}
		m[strings.Clone(key[0].text)] = strings.Clone(text)
	}
	return m, nil
}

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
	if err := known.limits.read(over); err != nil {
		return nil, err
	}
	if known.made != nil {
		name = known.made.Name
	}
	own, err := known.limits.plan(name)
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
	own, err := v.texts()
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

// credentials reads those of one tenant.
func (r *reading) credentials(p *tenant.Profile, v value) (first *credential, err error) {
	name := p.Name
	if name == "" {
		name = p.ID.String()
	}
	next, n := &first, 0
	return first, v.readList(func(item value) error {
		c := &credential{sender: tenant.Sender{Credential: name, Tenant: p}}
		if n++; n > 1 {
			c.sender.Credential = fmt.Sprintf("%s/%d", name, n)
		}
		err := item.readFields(func(key string, field value) error { return r.credentialField(c, key, field) })
		if err != nil {
			return err
		}
		*next, next = c, &c.sibling
		return r.finish(item, c)
	})
}

// credentialField reads what credentials of tenants and others have in common.
func (r *reading) credentialField(c *credential, key string, v value) (err error) {
	if key == "name" {
		c.sender.Credential, err = v.text()
		c.sender.Credential = strings.Clone(c.sender.Credential)
		return err
	}
	if key != "bearer_sha256" && key != "basic" && key != "certificate" {
		return errKey
	}
	if c.kind != 0 {
		return v.faultf("a credential that is two: want one of bearer_sha256, basic and certificate")
	}
	switch key {
	case "bearer_sha256":
		c.kind = bearer
		c.digest, err = v.sha256()
	case "basic":
		c.kind = basic
		c.digest, err = v.basic()
	case "certificate":
		c.kind, c.digest, err = v.certificate()
	}
	return err
}

// finish checks c, and goes on with its last use.
func (r *reading) finish(v value, c *credential) error {
	if c.kind == 0 {
		return v.faultf("a credential that is none: want one of bearer_sha256, basic and certificate")
	}
	if r.previous != nil {
		if before := r.previous.get(c.kind, &c.digest); before != nil {
			c.used.Store(before.used.Load())
		}
	}
	return nil
}

// nothing is the SHA-256 of no bytes, which somebody may have taken for that of a secret.
var nothing = bearerDigest("")

func (v value) sha256() (d digest, err error) {
	text, err := v.text()
	if err != nil {
		return d, err
	}
	if len(text) != 2*len(d) {
		return d, v.faultf("want a SHA-256 as 64 hexadecimal digits, got %d characters", len(text))
	}
	var room [2 * len(d)]byte
	copy(room[:], text)
	if _, err := hex.Decode(d[:], room[:]); err != nil {
		return d, v.faultf("want a SHA-256 as 64 hexadecimal digits, got other characters")
	}
	if d == nothing {
		return d, v.faultf("the SHA-256 of nothing: want that of a secret")
	}
	return d, nil
}

func (v value) basic() (digest, error) {
	var user, password value
	var hash digest
	err := v.readFields(func(key string, field value) (err error) {
		switch key {
		case "user":
			user = field
		case "password_sha256":
			password = field
			hash, err = field.sha256()
		default:
			return errKey
		}
		return err
	})
	if err != nil {
		return digest{}, err
	}
	if user == nil || password == nil {
		return digest{}, v.faultf("want user and password_sha256")
	}
	name, err := user.text()
	if err != nil {
		return digest{}, err
	}
	if name == "" || strings.Contains(name, ":") {
		return digest{}, user.faultf("user %q: want a name without a colon", name)
	}
	return basicDigest(name, hash), nil
}

func (v value) certificate() (k kind, d digest, err error) {
	err = v.readFields(func(key string, field value) error {
		if key != "subject" && key != "san" {
			return errKey
		}
		text, err := field.text()
		if err != nil {
			return err
		}
		if k != 0 || text == "" {
			return field.faultf("want either a subject or a san")
		}
		k = subject
		if key == "san" {
			k = san
			if !strings.ContainsAny(text, "@/") { // names of hosts have no case
				text = strings.ToLower(text)
			}
		}
		d = nameDigest(text)
		return nil
	})
	if err == nil && k == 0 {
		err = v.faultf("want a subject or a san")
	}
	return k, d, err
}

// shared reads an item of "credentials", which is for more than one tenant.
func (r *reading) shared(t *table, v value) (*credential, error) {
	c := &credential{}
	var bounds []tenant.ID
	var tenants, from value
	err := v.readFields(func(key string, field value) error {
		switch key {
		case "tenants":
			tenants = field
			return field.readList(func(item value) error {
				id, err := item.id()
				bounds = append(bounds, id)
				return err
			})
		case "tenants_from":
			from = field
			return nil
		}
		return r.credentialField(c, key, field)
	})
	if err != nil {
		return nil, err
	}
	switch {
	case c.sender.Credential == "":
		return nil, v.faultf("a credential without name")
	case tenants == nil && from == nil:
		return nil, v.faultf("credential %q: want tenants or tenants_from", c.sender.Credential)
	case tenants != nil && len(bounds) == 0:
		return nil, tenants.faultf("credential %q: want at least one tenant", c.sender.Credential)
	}
	if from == nil {
		c.several = newGrant(c.sender.Credential, profilesOf(t, bounds))
		return c, r.finish(v, c)
	}
	naming, err := readNaming(from)
	if err != nil {
		return nil, err
	}
	if naming.Values == directory.ByDirectory && r.directory == nil {
		return nil, from.faultf("values: directory, and there is no directory (INGESTGW_TENANT_MODE)")
	}
	m := &mapped{name: c.sender.Credential, naming: naming, profiles: t, directory: r.directory}
	if tenants != nil {
		m.bounds = make(map[tenant.ID]bool, len(bounds))
		for _, id := range bounds {
			m.bounds[id] = true
		}
	}
	c.several = trust(c.sender.Credential, m)
	return c, r.finish(v, c)
}

func profilesOf(t *table, ids []tenant.ID) []*tenant.Profile {
	list := make([]*tenant.Profile, 0, len(ids))
	for _, id := range ids {
		list = append(list, t.profile(id))
	}
	return list
}

// readNaming reads "tenants_from".
func readNaming(v value) (*directory.Naming, error) {
	n := &directory.Naming{Values: directory.ByNumber}
	var labels, table value
	err := v.readFields(func(key string, field value) (err error) {
		switch key {
		case "label", "labels":
			if labels != nil {
				return field.faultf("want either label or labels")
			}
			labels = field
			n.Labels, err = field.labelNames(key)
		case "values":
			var text string
			text, err = field.text()
			n.Values = directory.Values(strings.Clone(text))
			if err == nil && n.Values != directory.ByNumber && n.Values != directory.ByTable && n.Values != directory.ByDirectory {
				return field.faultf("values: %s: want number, table or directory", n.Values)
			}
		case "table":
			table = field
			n.Table, err = field.ids()
		case "missing":
			n.Missing, err = field.missing()
		default:
			return errKey
		}
		return err
	})
	switch {
	case err != nil:
	case labels == nil:
		err = v.faultf("want label, or labels")
	case len(n.Labels) == 2 && n.Values != directory.ByNumber:
		err = labels.faultf("two labels are an account and a project: want values: number")
	case (n.Values == directory.ByTable) != (table != nil):
		err = v.faultf("values: table and table belong together")
	}
	return n, err
}

// labelNames reads one name, or a list of two.
func (v value) labelNames(key string) (names []string, err error) {
	one := func(item value) error {
		text, err := item.text()
		names = append(names, strings.Clone(text))
		if err == nil && text == "" {
			return item.faultf("want the name of a label")
		}
		return err
	}
	if key == "label" {
		return names, one(v)
	}
	err = v.readList(one)
	if err == nil && len(names) != 2 {
		err = v.faultf("want two labels, account and project, got %d", len(names))
	}
	return names, err
}

func (v value) ids() (map[string]tenant.ID, error) {
	texts, err := v.texts()
	if err != nil {
		return nil, err
	}
	m := make(map[string]tenant.ID, len(texts))
	for key, field := range v.fields() {
		id, err := field.id()
		if err != nil {
			return nil, field.at(err)
		}
		if key[0].text == "" {
			return nil, key.faultf("an empty value: that is for missing")
		}
		m[strings.Clone(key[0].text)] = id
	}
	return m, nil
}

func (v value) missing() (*tenant.ID, error) {
	text, err := v.text()
	if err != nil || text == "refuse" {
		return nil, err
	}
	id, err := tenant.Parse(text)
	if err != nil {
		return nil, v.faultf("want refuse or a tenant: %w", err)
	}
	return &id, nil
}
