package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/tenant"
)

// values are those of labels.
func values(texts ...string) (list [][]byte) {
	for _, s := range texts {
		list = append(list, []byte(s))
	}
	return list
}

func TestDataNameTheirTenants(t *testing.T) {
	for name, c := range map[string]struct {
		from    string // tenants_from
		tenants string
		find    map[string]string // values, joined by "|", to the tenant or the error
	}{
		"a number": {
			from: "{label: org}",
			find: map[string]string{
				"12": "12:0", "12:3": "12:3", "0": "0:0", "4294967295:4294967295": "4294967295:4294967295",
				"": "no tenant", "acme": "no tenant", "12:": "no tenant", ":3": "no tenant", "12:3:4": "no tenant", "-1": "no tenant",
				"1 2": "no tenant", "4294967296": "no tenant", "multitenant": "no tenant", "12\x00": "no tenant",
			},
		},
		"a number, or else 9:9": {
			from: "{label: org, values: number, missing: '9:9'}",
			find: map[string]string{"12": "12:0", "": "9:9", "acme": "no tenant"},
		},
		"an account and a project": {
			from: "{labels: [vm_account_id, vm_project_id]}",
			find: map[string]string{
				"12|3": "12:3", "12|": "12:0", "0|0": "0:0",
				"|": "no tenant", "|3": "no tenant", "12:3|": "no tenant", "12|x": "no tenant", "x|3": "no tenant",
			},
		},
		"an account and a project, or else 9": {
			from: "{labels: [vm_account_id, vm_project_id], missing: 9}",
			find: map[string]string{"12|3": "12:3", "|": "9:0", "|3": "no tenant"},
		},
		"a table": {
			from: "{label: org, values: table, table: {acme: '12:3', other: 7}}",
			find: map[string]string{"acme": "12:3", "other": "7:0", "": "no tenant", "12:3": "no tenant", "Acme": "no tenant"},
		},
		"a number within bounds": {
			from: "{label: org, missing: 9}", tenants: "tenants: ['12:3'], ",
			find: map[string]string{"12:3": "12:3", "12": "forbidden", "": "9:0", "x": "no tenant"},
		},
		"a table within bounds": {
			from: "{label: org, values: table, table: {acme: '12:3', other: 7}}", tenants: "tenants: ['12:3'], ",
			find: map[string]string{"acme": "12:3", "other": "forbidden"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := ofText(t, "tenants:\n- {id: '12:3', name: acme}\ncredentials:\n- {name: scraper, bearer_sha256: "+sha("s")+", "+c.tenants+"tenants_from: "+c.from+"}\n")
			s, err := a.Identify(t.Context(), request(bearerOf("s")...), Name{})
			if err != nil {
				t.Fatal(err)
			}
			for text, want := range c.find {
				list := [][]byte{[]byte(text)}
				if len(s.Mapping.Labels()) == 2 {
					list = splitValues(text)
				}
				for range 2 { // the second time it is known
					p, err := s.Mapping.Find(t.Context(), list...)
					if got := outcome(p, err); got != want {
						t.Errorf("%q is %s (%v), want %s", text, got, err, want)
					}
					if err == nil && (p.ID == tenant.ID{Account: 12, Project: 3}) != (p.Name == "acme") {
						t.Errorf("%q: the profile is not the file's: %+v", text, p)
					}
				}
			}
			if _, err := s.Mapping.Find(t.Context(), values("1", "2", "3")...); !errors.Is(err, tenant.ErrUnnamed) {
				t.Errorf("too many values: %v", err)
			}
		})
	}
}

func TestValuesThatNameNoTenantAreToldAsTheyStandInTheSeries(t *testing.T) {
	for from, finds := range map[string]map[string]string{
		"{label: org}": {"12:x": `label "org" of a series has the value "12:x", which names no tenant`},
		"{labels: [vm_account_id, vm_project_id]}": {
			"|3":     `labels "vm_account_id" and "vm_project_id" of a series have the values "" and "3", which are no account and project`,
			"12|x":   `have the values "12" and "x"`,
			"12:3|":  `have the values "12:3" and ""`,
			"12:3|4": `have the values "12:3" and "4"`,
		},
	} {
		a := ofText(t, "tenants: []\ncredentials:\n- {name: scraper, bearer_sha256: "+sha("s")+", tenants_from: "+from+"}\n")
		s, err := a.Identify(t.Context(), request(bearerOf("s")...), Name{})
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range finds {
			_, err := s.Mapping.Find(t.Context(), splitValues(text)[:len(s.Mapping.Labels())]...)
			if !errors.Is(err, tenant.ErrUnnamed) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %s", text, err, want)
			}
		}
	}
}

func splitValues(text string) [][]byte {
	for i := range text {
		if text[i] == '|' {
			return values(text[:i], text[i+1:])
		}
	}
	return values(text)
}

// outcome is the tenant, or which error it is.
func outcome(p *tenant.Profile, err error) string {
	for _, is := range []error{tenant.ErrUnnamed, tenant.ErrForbidden, tenant.ErrUnavailable} {
		if errors.Is(err, is) {
			return is.Error()
		}
	}
	if err != nil {
		return err.Error()
	}
	return p.ID.String()
}

func TestFindingATenantAgainAllocatesNothing(t *testing.T) {
	a := ofText(t, acme)
	for token, list := range map[string][][]byte{
		"token for any":  values("77:7"),
		"bounded token":  values("12", "3"),
		"token of hosts": values("acme"),
	} {
		s, err := a.Identify(t.Context(), request(bearerOf(token)...), Name{})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if n := testing.AllocsPerRun(100, func() { _, err = s.Mapping.Find(ctx, list...) }); n != 0 || err != nil {
			t.Errorf("%s: %v allocations, %v", token, n, err)
		}
	}
}

func TestTenantsThatNobodyHasListedTakeBoundedMemory(t *testing.T) {
	u := unlisted{base: tenant.Profile{Name: "all"}}
	for i := range 3*maxUnlisted + 7 {
		id := tenant.ID{Account: uint32(i)}
		if p := u.profile(id); p.ID != id || p.Name != "all" || p != u.profile(id) {
			t.Fatalf("%v: %+v", id, p)
		}
	}
	if len(u.made) > maxUnlisted {
		t.Errorf("%d are kept", len(u.made))
	}
}

func ExampleName() {
	for _, s := range []string{"12", "12:3", "multitenant", "acme"} {
		n, err := ParseName(s)
		fmt.Println(n, err)
	}
	// Output:
	// 12:0 <nil>
	// 12:3 <nil>
	// multitenant <nil>
	// no tenant tenant "acme": account: want a number from 0 to 4294967295, got "acme"
}
