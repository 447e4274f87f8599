package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
)

// modeWrite is the bit of vm_access's mode that allows writing. A mode of 0, or none, allows everything.
const modeWrite = 2

var (
	errNoClaim  = errors.New("the claim is missing")
	errReadOnly = errors.New("it is for reading only")
)

// grantOf reads which tenants a token names. The claim may have been put into a text, as some issuers do.
func grantOf(claims map[string]any, claim string) (*Grant, error) {
	value, ok := lookup(claims, claim)
	if !ok || value == nil {
		return nil, errNoClaim
	}
	if text, isText := value.(string); isText && strings.HasPrefix(strings.TrimSpace(text), "{") {
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return nil, err
		}
	}
	g := &Grant{}
	switch value := value.(type) {
	case map[string]any:
		return g, g.readAccess(value)
	case []any:
		for _, one := range value {
			if err := g.add(one); err != nil {
				return nil, err
			}
		}
		if len(g.Tenants) == 0 {
			return nil, errors.New("an empty list of tenants")
		}
		return g, nil
	}
	return g, g.add(value)
}

// lookup finds a claim by its name, or by names with dots between them; the names may have dots themselves, as in
// https://example.com/tenants.
func lookup(claims map[string]any, name string) (any, bool) {
	if value, ok := claims[name]; ok {
		return value, true
	}
	for i, c := range name {
		if c != '.' {
			continue
		}
		if inner, ok := claims[name[:i]].(map[string]any); ok {
			if value, ok := lookup(inner, name[i+1:]); ok {
				return value, true
			}
		}
	}
	return nil, false
}

// add reads one tenant: "12:3", "12" or 12.
func (g *Grant) add(value any) error {
	var text string
	switch value := value.(type) {
	case string:
		text = value
	case json.Number:
		text = value.String()
	default:
		return fmt.Errorf("a tenant of type %T: want \"12:3\" or 12", value)
	}
	id, err := tenant.Parse(text)
	if err != nil {
		return err
	}
	g.Tenants = append(g.Tenants, id)
	return nil
}

// An access is the claim vm_access, as vmgateway reads it (tenant_id, extra_labels, mode:
// https://docs.victoriametrics.com/victoriametrics/vmgateway/#access-control) and as vmauth does (metrics_…:
// https://docs.victoriametrics.com/victoriametrics/vmauth/#jwt-claim-based-request-templating). What it says of reading, and of
// logs, is passed over.
type access struct {
	Tenant *struct {
		Account uint32 `json:"account_id"`
		Project uint32 `json:"project_id"`
	} `json:"tenant_id"`
	Labels map[string]string `json:"extra_labels"`
	Mode   int               `json:"mode"`

	MetricsAccount *uint32  `json:"metrics_account_id"`
	MetricsProject *uint32  `json:"metrics_project_id"`
	MetricsLabels  []string `json:"metrics_extra_labels"`
}

// readAccess takes an account or a project that is not said for 0, as vmauth and vmgateway do. What they do not: a claim that names
// no tenant at all, such as {}, is nobody's here, where it would be 0:0 there.
func (g *Grant) readAccess(value map[string]any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var a access
	if err := json.Unmarshal(b, &a); err != nil {
		return err
	}
	if a.Mode != 0 && a.Mode&modeWrite == 0 {
		return errReadOnly
	}
	id, err := a.tenant()
	if err != nil {
		return err
	}
	g.Tenants = []tenant.ID{id}
	g.Tags, err = a.tags()
	return err
}

func (a *access) tenant() (tenant.ID, error) {
	var id tenant.ID
	byMetrics := a.MetricsAccount != nil || a.MetricsProject != nil
	if a.Tenant == nil && !byMetrics {
		return id, errors.New("it has neither tenant_id nor metrics_account_id")
	}
	if a.MetricsAccount != nil {
		id.Account = *a.MetricsAccount
	}
	if a.MetricsProject != nil {
		id.Project = *a.MetricsProject
	}
	if a.Tenant == nil {
		return id, nil
	}
	other := tenant.ID{Account: a.Tenant.Account, Project: a.Tenant.Project}
	if byMetrics && id != other {
		return id, fmt.Errorf("tenant_id is %s, but metrics_account_id and metrics_project_id are %s", other, id)
	}
	return other, nil
}

// tags are the labels that vmgateway and vmauth add to what is written.
func (a *access) tags() (map[string]string, error) {
	tags := a.Labels
	if tags == nil && len(a.MetricsLabels) > 0 {
		tags = make(map[string]string, len(a.MetricsLabels))
	}
	for _, text := range a.MetricsLabels {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("metrics_extra_labels: %q: want name=value", text)
		}
		if said, twice := tags[name]; twice && said != value {
			return nil, fmt.Errorf("label %q is both %q and %q", name, said, value)
		}
		tags[name] = value
	}
	_, err := tenant.NewTags(tags)
	return tags, err
}
