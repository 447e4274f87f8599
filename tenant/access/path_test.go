package access

import (
	"errors"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/tenant"
)

func inPath(account, project uint32) Name {
	return Name{Given: true, ID: tenant.ID{Account: account, Project: project}}
}

var inData = Name{Given: true, Multitenant: true}

func TestWithoutCredentialsARequestSaysItself(t *testing.T) {
	a := newAccess(t, Config{Mode: ModePath, Default: tenant.ID{Account: 7, Project: 1}})
	for name, c := range map[string]struct {
		path    Name
		headers []string
		want    string // the tenant
		refused string // or what the answer says
	}{
		"nothing":                         {want: "7:1"},
		"the path":                        {path: inPath(12, 3), want: "12:3"},
		"the path, for tenant 0":          {path: inPath(0, 0), want: "0:0"},
		"an account":                      {headers: []string{"AccountID", "12"}, want: "12:0"},
		"a project":                       {headers: []string{"ProjectID", "3"}, want: "0:3"},
		"both":                            {headers: []string{"AccountID", "12", "ProjectID", "3"}, want: "12:3"},
		"an account twice":                {headers: []string{"AccountID", "12", "AccountID", "12"}, want: "12:0"},
		"a scope":                         {headers: []string{"X-Scope-OrgID", "12"}, want: "12:0"},
		"a scope with a project":          {headers: []string{"X-Scope-OrgID", "12:3"}, want: "12:3"},
		"a scope that is no number":       {headers: []string{"X-Scope-OrgID", "acme"}, want: "7:1"},
		"a scope out of range":            {headers: []string{"X-Scope-OrgID", "4294967296"}, refused: "header X-Scope-OrgID: want numbers from 0 to 4294967295, got \"4294967296\""},
		"a project out of range":          {headers: []string{"X-Scope-OrgID", "1:4294967296"}, refused: "header X-Scope-OrgID"},
		"a scope that begins as a number": {headers: []string{"X-Scope-OrgID", "12:"}, want: "7:1"},
		"an empty scope":                  {headers: []string{"X-Scope-OrgID", ""}, want: "7:1"},
		"a scope of several":              {path: inPath(1, 0), headers: []string{"X-Scope-OrgID", "1|2"}, want: "1:0"},
		"the same three times":            {path: inPath(12, 0), headers: []string{"AccountID", "12", "X-Scope-OrgID", "12:0"}, want: "12:0"},
		"the path and another account":    {path: inPath(12, 0), headers: []string{"AccountID", "13"}, refused: "the path says 12:0 and headers AccountID and ProjectID say 13:0"},
		"the path and a project":          {path: inPath(12, 3), headers: []string{"ProjectID", "3"}, refused: "the path says 12:3 and headers AccountID and ProjectID say 0:3"},
		"the path and another scope":      {path: inPath(12, 0), headers: []string{"X-Scope-OrgID", "12:1"}, refused: "the path says 12:0 and header X-Scope-OrgID says 12:1"},
		"an account and another scope":    {headers: []string{"AccountID", "1", "X-Scope-OrgID", "2"}, refused: "headers AccountID and ProjectID say 1:0 and header X-Scope-OrgID says 2:0"},
		"two scopes":                      {headers: []string{"X-Scope-OrgID", "1", "X-Scope-OrgID", "2"}, refused: "header X-Scope-OrgID says 1:0 and header X-Scope-OrgID says 2:0"},
		"two accounts":                    {headers: []string{"AccountID", "1", "AccountID", "2"}, refused: `header AccountID says "1" and header AccountID says "2"`},
		"an account that is no number":    {headers: []string{"AccountID", "acme"}, refused: `header AccountID: want a number from 0 to 4294967295, got "acme"`},
		"an account that is a tenant":     {headers: []string{"AccountID", "1:2"}, refused: "header AccountID"},
		"a project that is too large":     {headers: []string{"ProjectID", "4294967296"}, refused: "header ProjectID"},
		"many tenants":                    {path: inData, refused: "multitenant is for senders with a credential"},
		"many tenants in the header":      {headers: []string{"AccountID", "multitenant"}, refused: "multitenant is for senders with a credential"},
		"many tenants and a project":      {headers: []string{"AccountID", "multitenant", "ProjectID", "1"}, refused: "ProjectID says 1"},
		"many tenants in the path, and 1": {path: inData, headers: []string{"AccountID", "1"}, refused: "the path says multitenant and"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := a.Identify(t.Context(), request(c.headers...), c.path)
			if c.refused != "" {
				if !errors.Is(err, tenant.ErrUnnamed) || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v, %v; want ErrUnnamed with %q", s, err, c.refused)
				}
				return
			}
			if err != nil || s.Tenant.ID.String() != c.want || s.Mapping != nil || s.Credential != "" || s.Tenant.Plan != nil {
				t.Errorf("%+v, %v; want tenant %s and nothing else", s, err, c.want)
			}
		})
	}
}

func TestCredentialsAreNotLookedAtWhenThePathIsBelieved(t *testing.T) {
	a := newAccess(t, Config{Mode: ModePath})
	s, err := a.Identify(t.Context(), request("Authorization", "Bearer anything"), inPath(1, 0))
	if err != nil || s.Tenant.ID.Account != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
