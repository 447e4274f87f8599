package access

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/token"
)

// A table is what one reading of the file has found. It does not change, but for when its credentials were used last.
type table struct {
	common  common
	tenants map[tenant.ID]*entry
	// credentials are found by the beginning of their digest. The few whose beginnings are alike are in alike instead.
	credentials map[uint64]*credential
	alike       []*credential
	shared      []*credential // those that are not of one tenant
	others      unlisted      // the profiles of tenants that the file does not list
	directory   Directory
}

// An entry is one tenant of the file. Tables that follow each other share entries that have not changed.
type entry struct {
	profile tenant.Profile
	text    uint64      // the hash of its line, when it was read from one line of JSON; else 0
	first   *credential // the others follow as siblings
}

func emptyTable(dir Directory) *table { return &table{directory: dir} }

func (t *table) profile(id tenant.ID) *tenant.Profile {
	if e := t.tenants[id]; e != nil {
		return &e.profile
	}
	return t.others.profile(id)
}

// find returns the credential that a request shows, or nil. A certificate is found by its subject before it is by a SAN.
func (t *table) find(s *shown) *credential {
	c := t.get(s.kind, &s.digest)
	if c != nil || s.certificate == nil {
		return c
	}
	for _, name := range s.certificate.sans {
		d := nameDigest(name)
		if c := t.get(san, &d); c != nil {
			return c
		}
	}
	return nil
}

func (t *table) get(k kind, d *digest) *credential {
	if c := t.credentials[d.index()]; c != nil && c.is(k, d) {
		return c
	}
	for _, c := range t.alike {
		if c.is(k, d) {
			return c
		}
	}
	return nil
}

// put adds c, unless the table has it already.
func (t *table) put(c *credential) (already *credential) {
	if already = t.get(c.kind, &c.digest); already != nil {
		return already
	}
	if at := c.digest.index(); t.credentials[at] == nil {
		t.credentials[at] = c
	} else {
		t.alike = append(t.alike, c)
	}
	return nil
}

func (t *table) credentialCount() int { return len(t.credentials) + len(t.alike) }

// grant is what a verified token grants. Tags of the tenant win over those of the token.
func (t *table) grant(g *token.Grant) (*grant, error) {
	name := g.Name
	if name == "" {
		name = "jwt"
	}
	list := make([]*tenant.Profile, 0, len(g.Tenants))
	for _, id := range g.Tenants {
		p, err := withTags(t.profile(id), g.Tags)
		if err != nil {
			return nil, fmt.Errorf("%w: the token's tags and those of tenant %s: %w", tenant.ErrForbidden, id, err)
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: the token names no tenant", tenant.ErrForbidden)
	}
	return newGrant(name, list), nil
}

func withTags(p *tenant.Profile, tags map[string]string) (*tenant.Profile, error) {
	if len(tags) == 0 {
		return p, nil
	}
	all := maps.Clone(tags)
	for name, value := range p.Tags.All() {
		all[string(name)] = string(value)
	}
	encoded, err := tenant.NewTags(all)
	if err != nil {
		return nil, err
	}
	tagged := *p
	tagged.Tags = encoded
	return &tagged, nil
}

func (t *table) describe(id tenant.ID, sends *tenant.Profile) Description {
	p := sends
	if p == nil || t.tenants[id] != nil {
		p = t.profile(id)
	}
	d := Description{Name: p.Name, Plan: p.Plan}
	for name, value := range p.Tags.All() {
		if d.Tags == nil {
			d.Tags = make(map[string]string)
		}
		d.Tags[string(name)] = string(value)
	}
	for _, rule := range p.Drop {
		d.Drop = append(d.Drop, rule.String())
	}
	if e := t.tenants[id]; e != nil {
		d.Listed = true
		for c := e.first; c != nil; c = c.sibling {
			d.Credentials = append(d.Credentials, c.describe())
		}
	}
	for _, c := range t.shared {
		if c.several.isFor(id) {
			d.Credentials = append(d.Credentials, c.describe())
		}
	}
	return d
}

func (c *credential) describe() Use {
	return Use{Name: c.sender.Credential, Kind: c.kind.String(), Trusted: c.several != nil && c.several.trusted != nil, LastUsed: c.lastUse()}
}

// A builder makes a table of what was read. What is wrong is gathered in faults.
type builder struct {
	*table
	previous *table
	names    map[string]bool // of the credentials in shared
	faults   faults
}

// add takes tenants and credentials, which stand in the order of the file within each slice.
func (b *builder) add(lists ...[]found) {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	b.tenants = make(map[tenant.ID]*entry, n)
	b.credentials = make(map[uint64]*credential, n)
	b.names = make(map[string]bool)
	for _, l := range lists {
		for _, f := range l {
			b.addOne(f, lists)
		}
	}
}

func (b *builder) addOne(f found, lists [][]found) {
	if f.entry != nil {
		id := f.entry.profile.ID
		if b.tenants[id] != nil {
			b.twice(f.line, lineOf(lists, func(o found) bool { return o.entry != nil && o.entry.profile.ID == id && o.entry != f.entry }),
				fmt.Sprintf("tenant %s", id))
			return
		}
		b.tenants[id] = f.entry
	} else {
		name := f.credential.sender.Credential
		if b.names[name] {
			b.twice(f.line, lineOf(lists, func(o found) bool { return o.credential != nil && o.credential.sender.Credential == name }),
				fmt.Sprintf("a credential of the name %q", name))
			return
		}
		b.names[name] = true
		b.shared = append(b.shared, f.credential)
	}
	for c := range f.credentials() {
		if already := b.put(c); already != nil {
			b.twice(f.line, lineOf(lists, func(o found) bool { return slices.Contains(slices.Collect(o.credentials()), already) }),
				fmt.Sprintf("credential %q (%s)", c.sender.Credential, c.kind))
		}
	}
}

func lineOf(lists [][]found, is func(found) bool) int {
	for _, l := range lists {
		for _, f := range l {
			if is(f) {
				return f.line
			}
		}
	}
	return 0
}

// twice says that what stands in two lines. lineOf may have found either of them first.
func (b *builder) twice(line, other int, what string) {
	b.faults.add(&fault{line: max(line, other), err: fmt.Errorf("%s stands in line %d already", what, min(line, other))})
}

// maxFaults is how many faults are told of one reading.
const maxFaults = 10

// faults are the errors of one reading.
type faults []error

func (f *faults) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// err joins the first faults, by line.
func (f faults) err() error {
	line := func(err error) int {
		var at *fault
		if errors.As(err, &at) {
			return at.line
		}
		return 0
	}
	slices.SortStableFunc(f, func(a, b error) int { return line(a) - line(b) })
	if more := len(f) - maxFaults; more > 0 {
		return errors.Join(append(f[:maxFaults:maxFaults], fmt.Errorf("and %d more", more))...)
	}
	return errors.Join(f...)
}
