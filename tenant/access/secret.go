package access

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
)

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
