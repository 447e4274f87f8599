package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/directory"
)

// A mapped implements tenant.Mapping for one trusted credential.
type mapped struct {
	name      string // of the credential
	naming    *directory.Naming
	bounds    map[tenant.ID]bool // nil: all tenants
	profiles  profiles
	directory Directory // for naming by directory
}

// profiles are what is known of tenants, also of those that nobody has listed.
type profiles interface {
	profile(id tenant.ID) *tenant.Profile
}

func (m *mapped) Labels() []string { return m.naming.Labels }

// Patience is how long Find waits at most for the directory; 0 when it asks nobody.
func (m *mapped) Patience() time.Duration {
	if m.naming.Values != directory.ByDirectory || m.directory == nil {
		return 0
	}
	return m.directory.Timeout()
}

// Find allocates nothing for tenants that were found before.
func (m *mapped) Find(ctx context.Context, values ...[]byte) (*tenant.Profile, error) {
	if len(values) != len(m.naming.Labels) {
		return nil, fmt.Errorf("%w: %d values for the labels %q", tenant.ErrUnnamed, len(values), m.naming.Labels)
	}
	if isMissing(values) {
		return m.findMissing()
	}
	if m.naming.Values == directory.ByDirectory {
		return m.ask(ctx, values[0])
	}
	id, err := m.translate(values)
	if err != nil {
		return nil, err
	}
	return m.within(id)
}

func isMissing(values [][]byte) bool {
	for _, v := range values {
		if len(v) > 0 {
			return false
		}
	}
	return true
}

func (m *mapped) findMissing() (*tenant.Profile, error) {
	if m.naming.Missing == nil {
		return nil, fmt.Errorf("%w: a series without the label %q, by which the data of credential %q name their tenants",
			tenant.ErrUnnamed, m.naming.Labels[0], m.name)
	}
	return m.profiles.profile(*m.naming.Missing), nil
}

func (m *mapped) ask(ctx context.Context, value []byte) (*tenant.Profile, error) {
	if m.directory == nil {
		return nil, m.notNow(value, errNoDirectory)
	}
	p, err := m.directory.LookupLabel(ctx, m.naming.Labels[0], value)
	if errors.Is(err, tenant.ErrUnavailable) {
		return nil, m.notNow(value, err)
	}
	if err != nil {
		return nil, err
	}
	if m.bounds != nil && !m.bounds[p.ID] {
		return nil, m.outOfBounds(p.ID)
	}
	return p, nil
}

var errNoDirectory = fmt.Errorf("%w: there is no directory (INGESTGW_TENANT_DIRECTORY_URL)", tenant.ErrUnavailable)

// notNow hides why a value cannot be looked up.
func (m *mapped) notNow(value []byte, why error) error {
	return tenant.Hidden(fmt.Errorf("%w: label %q of a series has the value %.100q, whose tenant cannot be found out now; try again",
		tenant.ErrUnavailable, m.naming.Labels[0], value), why)
}

func (m *mapped) within(id tenant.ID) (*tenant.Profile, error) {
	if m.bounds != nil && !m.bounds[id] {
		return nil, m.outOfBounds(id)
	}
	return m.profiles.profile(id), nil
}

func (m *mapped) outOfBounds(id tenant.ID) error {
	return fmt.Errorf("%w: credential %q may not write for tenant %s, which label %q of a series names",
		tenant.ErrForbidden, m.name, id, m.naming.Labels[0])
}

// translate returns the ID that values stand for, which are not all empty.
func (m *mapped) translate(values [][]byte) (tenant.ID, error) {
	if m.naming.Values == directory.ByTable {
		if id, ok := m.naming.Table[string(values[0])]; ok {
			return id, nil
		}
		return tenant.ID{}, m.unknown(values[0])
	}
	account, project := values[0], []byte(nil)
	if len(values) == 2 {
		project = values[1]
	} else if before, after, both := bytes.Cut(account, []byte(":")); both {
		if len(after) == 0 {
			return tenant.ID{}, m.unknown(values[0])
		}
		account, project = before, after
	}
	a, ok := number(account)
	if !ok {
		return tenant.ID{}, m.unknown(values...)
	}
	if len(project) == 0 {
		return tenant.ID{Account: a}, nil
	}
	p, ok := number(project)
	if !ok {
		return tenant.ID{}, m.unknown(values...)
	}
	return tenant.ID{Account: a, Project: p}, nil
}

func number(b []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(b), 10, 32)
	return uint32(n), err == nil
}

func (m *mapped) unknown(values ...[]byte) error {
	if len(values) == 1 {
		return fmt.Errorf("%w: label %q of a series has the value %.100q, which names no tenant", tenant.ErrUnnamed, m.naming.Labels[0], values[0])
	}
	return fmt.Errorf("%w: labels %q and %q of a series have the values %.100q and %.100q, which are no account and project",
		tenant.ErrUnnamed, m.naming.Labels[0], m.naming.Labels[1], values[0], values[1])
}

// allowed returns the profile of a tenant for which m may write a whole request, or nil.
func (m *mapped) allowed(id tenant.ID) *tenant.Profile {
	switch {
	case m.bounds != nil:
		if !m.bounds[id] {
			return nil
		}
	case m.naming.Values == directory.ByTable:
		if !m.inTable(id) {
			return nil
		}
	case m.naming.Values == directory.ByDirectory:
		return nil // the directory knows values of labels, and no tenants by their IDs
	}
	return m.profiles.profile(id)
}

// names says whether m was made for the tenant: it is within its bounds, in its table, or that of series without the label.
func (m *mapped) names(id tenant.ID) bool {
	if m.bounds != nil && m.bounds[id] {
		return true
	}
	return m.inTable(id) && (m.bounds == nil || m.naming.Missing != nil && *m.naming.Missing == id)
}

func (m *mapped) inTable(id tenant.ID) bool {
	for _, one := range m.naming.Table {
		if one == id {
			return true
		}
	}
	return m.naming.Missing != nil && *m.naming.Missing == id
}

// maxUnlisted is how many profiles of tenants that are listed nowhere are kept, about 100 bytes each.
const maxUnlisted = 10_000

// An unlisted makes profiles of tenants that nobody has listed from one that holds for all of them, and keeps those in use.
type unlisted struct {
	base tenant.Profile

	mu   sync.RWMutex
	made map[tenant.ID]*tenant.Profile
}

func (u *unlisted) profile(id tenant.ID) *tenant.Profile {
	u.mu.RLock()
	p := u.made[id]
	u.mu.RUnlock()
	if p != nil {
		return p
	}
	made := u.base
	made.ID = id
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.made == nil || len(u.made) >= maxUnlisted {
		u.made = make(map[tenant.ID]*tenant.Profile)
	}
	u.made[id] = &made
	return &made
}

// answered are the tenants of an answer of the directory.
type answered struct {
	answer *directory.Answer
	unlisted
}

func (a *answered) profile(id tenant.ID) *tenant.Profile {
	if p := a.answer.Tenant(id); p != nil {
		return p
	}
	return a.unlisted.profile(id)
}

// grantOf is what an answer of the directory allows.
func grantOf(answer *directory.Answer, dir Directory) *grant {
	if answer.Naming == nil {
		return newGrant(answer.Name, answer.Tenants)
	}
	m := &mapped{
		name:      answer.Name,
		naming:    answer.Naming,
		profiles:  &answered{answer: answer, unlisted: unlisted{base: answer.Naming.Base}},
		directory: dir,
	}
	if len(answer.Tenants) > 0 {
		m.bounds = make(map[tenant.ID]bool, len(answer.Tenants))
		for _, p := range answer.Tenants {
			m.bounds[p.ID] = true
		}
	}
	return trust(answer.Name, m)
}
