package access

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/ingestgw/ingestgw/tenant"
)

// A Name is what a request says of its tenant. The zero Name says nothing.
type Name struct {
	ID          tenant.ID
	Given       bool // it says something
	Multitenant bool // it says that the data name the tenants
}

// ParseName reads what stands in a path or a header: a tenant's ID, or "multitenant".
func ParseName(s string) (Name, error) {
	if s == "multitenant" {
		return Name{Given: true, Multitenant: true}, nil
	}
	id, err := tenant.Parse(s)
	return Name{Given: err == nil, ID: id}, err
}

func (n Name) String() string {
	switch {
	case n.Multitenant:
		return "multitenant"
	case n.Given:
		return n.ID.String()
	}
	return "no tenant"
}

// The headers that name a tenant, as net/http spells them.
const (
	accountHeader = "Accountid"
	projectHeader = "Projectid"
	scopeHeader   = "X-Scope-Orgid"
)

// nameOf is the one tenant that path and the headers of a request name. The error wraps tenant.ErrUnnamed: they differ, or a header
// cannot be read. X-Scope-OrgID counts when it is made of digits, be it with a colon; else it is another system's and says nothing here.
func nameOf(h http.Header, path Name) (Name, error) {
	name, from := path, "the path says"
	if len(h[accountHeader]) > 0 || len(h[projectHeader]) > 0 {
		n, err := ofAccount(h[accountHeader], h[projectHeader])
		if err != nil {
			return Name{}, err
		}
		if name.Given && name != n {
			return Name{}, disagree(from, name, "headers AccountID and ProjectID say", n)
		}
		name, from = n, "headers AccountID and ProjectID say"
	}
	for _, value := range h[scopeHeader] {
		if !numeric(value) {
			continue
		}
		n, err := ParseName(value)
		if err != nil {
			return Name{}, fmt.Errorf("%w: header X-Scope-OrgID: want numbers from 0 to 4294967295, got %.40q", tenant.ErrUnnamed, value)
		}
		if name.Given && name != n {
			return Name{}, disagree(from, name, "header X-Scope-OrgID says", n)
		}
		name, from = n, "header X-Scope-OrgID says"
	}
	return name, nil
}

// numeric says whether s is meant as an account, or as an account and a project.
func numeric(s string) bool {
	account, project, both := strings.Cut(s, ":")
	return digits(account) && (!both || digits(project))
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func disagree(from string, name Name, otherFrom string, other Name) error {
	return fmt.Errorf("%w: %s %s and %s %s", tenant.ErrUnnamed, from, name, otherFrom, other)
}

// ofAccount reads the headers AccountID and ProjectID; what is missing is 0, as with vminsert
// (https://docs.victoriametrics.com/victoriametrics/cluster-victoriametrics/#multitenancy-via-headers).
func ofAccount(accounts, projects []string) (Name, error) {
	account, err := onlyOne("AccountID", accounts)
	if err != nil {
		return Name{}, err
	}
	project, err := onlyOne("ProjectID", projects)
	if err != nil {
		return Name{}, err
	}
	n := Name{Given: true, Multitenant: account == "multitenant"}
	if !n.Multitenant {
		n.ID.Account, err = headerNumber("AccountID", account)
		if err != nil {
			return Name{}, err
		}
	}
	n.ID.Project, err = headerNumber("ProjectID", project)
	if n.Multitenant && n.ID.Project != 0 {
		return Name{}, fmt.Errorf("%w: header AccountID says multitenant and header ProjectID says %d", tenant.ErrUnnamed, n.ID.Project)
	}
	return n, err
}

func onlyOne(header string, values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return "", fmt.Errorf("%w: header %s says %.40q and header %s says %.40q", tenant.ErrUnnamed, header, values[0], header, v)
		}
	}
	return values[0], nil
}

func headerNumber(header, s string) (uint32, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: header %s: want a number from 0 to 4294967295, got %.40q", tenant.ErrUnnamed, header, s)
	}
	return uint32(n), nil
}
