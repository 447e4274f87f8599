package directory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

const (
	// maxAnswer bounds what is read of an answer: a table of some thousand values fits.
	maxAnswer = 256 << 10
	// maxName bounds the name of a credential or a tenant.
	maxName = 256
	// minTTL and maxStale bound the ttl of an answer.
	minTTL = time.Second
)

// These are an answer as PROTOCOL.md describes it.
type (
	answerJSON struct {
		Unknown     bool         `json:"unknown,omitempty"`
		Name        string       `json:"name,omitempty"`
		Tenants     []tenantJSON `json:"tenants"`
		TenantsFrom *namingJSON  `json:"tenants_from,omitempty"`
		TTL         string       `json:"ttl,omitempty"`
		profileJSON
	}
	profileJSON struct {
		Plan *tenant.Plan      `json:"plan,omitempty"`
		Tags map[string]string `json:"tags,omitzero"`
		Drop []string          `json:"drop,omitzero"`
	}
	tenantJSON struct {
		ID   idJSON `json:"id"`
		Name string `json:"name,omitempty"`
		profileJSON
	}
	namingJSON struct {
		Label   string            `json:"label,omitempty"`
		Labels  []string          `json:"labels,omitempty"`
		Values  Values            `json:"values,omitempty"`
		Table   map[string]idJSON `json:"table,omitzero"`
		Missing scalarJSON        `json:"missing,omitempty"`
	}
	idJSON     tenant.ID
	scalarJSON string // a text or a number, as text
)

// UnmarshalJSON reads "12:3", "12" and 12.
func (id *idJSON) UnmarshalJSON(b []byte) error {
	parsed, err := tenant.Parse(string(bytes.Trim(b, `"`)))
	*id = idJSON(parsed)
	return err
}

func (id idJSON) MarshalJSON() ([]byte, error) { return json.Marshal(tenant.ID(id).String()) }

// UnmarshalJSON reads an object, or only its id.
func (t *tenantJSON) UnmarshalJSON(b []byte) error {
	if b[0] != '{' {
		return t.ID.UnmarshalJSON(b)
	}
	type object tenantJSON
	o := struct {
		ID *idJSON `json:"id"`
		*object
	}{object: (*object)(t)}
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	if o.ID == nil {
		return errors.New("a tenant without id")
	}
	t.ID = *o.ID
	return nil
}

// UnmarshalJSON reads a text without escapes, or a number.
func (s *scalarJSON) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		*s = scalarJSON(bytes.Trim(b, `"`))
	}
	return nil
}

// errUnknown is the directory's word that it does not know what it was asked about.
var errUnknown = errors.New("unknown to the directory")

// A verdict is an answer and what is kept of it.
type verdict struct {
	answer *Answer
	ttl    time.Duration // 0: the usual
	cost   int           // bytes of memory, roughly
}

// decode reads an answer. It returns errUnknown, or an error that says what is malformed.
func decode(b []byte, about key) (verdict, error) {
	var j answerJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return verdict{}, err
	}
	if j.Unknown {
		return verdict{}, errUnknown
	}
	a, err := j.answer(about)
	if err != nil {
		return verdict{}, err
	}
	v := verdict{answer: a, cost: costOf(a, len(b))}
	if j.TTL != "" {
		ttl, err := time.ParseDuration(j.TTL)
		if err != nil {
			return verdict{}, fmt.Errorf("ttl: %w", err)
		}
		v.ttl = min(max(ttl, minTTL), maxStale)
	}
	return v, nil
}

func (j *answerJSON) answer(about key) (*Answer, error) {
	switch {
	case len(j.Name) > maxName:
		return nil, fmt.Errorf("a name of %d bytes: at most %d are allowed", len(j.Name), maxName)
	case j.Tenants == nil && j.TenantsFrom == nil:
		return nil, errors.New("neither tenants nor tenants_from")
	case about.kind == Label && (len(j.Tenants) != 1 || j.TenantsFrom != nil):
		return nil, fmt.Errorf("%d tenants for the value of a label: want one, and no tenants_from", len(j.Tenants))
	}
	base, err := j.profile(tenant.Profile{})
	if err != nil {
		return nil, err
	}
	a := &Answer{Name: j.Name}
	if a.Name == "" {
		a.Name = about.String()
	}
	for _, t := range j.Tenants {
		p, err := t.profile(base)
		if err != nil {
			return nil, fmt.Errorf("tenant %s: %w", tenant.ID(t.ID), err)
		}
		p.ID, p.Name = tenant.ID(t.ID), t.Name
		if len(p.Name) > maxName {
			return nil, fmt.Errorf("tenant %s: a name of %d bytes: at most %d are allowed", p.ID, len(p.Name), maxName)
		}
		if a.Tenant(p.ID) != nil {
			return nil, fmt.Errorf("tenant %s is there twice", p.ID)
		}
		a.Tenants = append(a.Tenants, &p)
	}
	if j.TenantsFrom != nil {
		a.Naming, err = j.TenantsFrom.naming(base)
	}
	return a, err
}

// profile is base with what j says in the place of what base says.
func (j *profileJSON) profile(base tenant.Profile) (tenant.Profile, error) {
	var err error
	if j.Plan != nil {
		base.Plan = j.Plan
		if *j.Plan == (tenant.Plan{}) {
			base.Plan = nil // no limits
		}
	}
	if j.Tags != nil {
		if base.Tags, err = tenant.NewTags(j.Tags); err != nil {
			return base, err
		}
	}
	if j.Drop != nil {
		base.Drop = make([]tenant.Rule, len(j.Drop))
		for i, text := range j.Drop {
			if base.Drop[i], err = tenant.ParseRule(text); err != nil {
				return base, err
			}
		}
	}
	return base, nil
}

func (j *namingJSON) naming(base tenant.Profile) (*Naming, error) {
	n := &Naming{Labels: j.Labels, Values: j.Values, Base: base}
	switch {
	case j.Label != "" && j.Labels != nil:
		return nil, errors.New("tenants_from: want either label or labels")
	case j.Label != "":
		n.Labels = []string{j.Label}
	}
	if n.Values == "" {
		n.Values = ByNumber
	}
	if j.Table != nil {
		n.Table = make(map[string]tenant.ID, len(j.Table))
	}
	for value, id := range j.Table {
		n.Table[value] = tenant.ID(id)
	}
	var err error
	if j.Missing != "" {
		n.Missing, err = ParseMissing(string(j.Missing))
	}
	if err == nil {
		err = n.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("tenants_from: %w", err)
	}
	return n, nil
}

// costOf is roughly what an answer takes in memory: beside itself, what stands around it in memory.
func costOf(a *Answer, length int) int {
	const (
		entry   = 512
		profile = 192
		rule    = 2 << 10 // a compiled expression
	)
	rules := 0
	for _, p := range a.Tenants {
		rules += len(p.Drop)
	}
	return entry + 2*length + profile*len(a.Tenants) + rule*rules
}
