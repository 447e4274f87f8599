package roster

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestEachTenantIsOneLine(t *testing.T) {
	var b strings.Builder
	err := Write(&b, map[string]Limits{"small": {"samples_per_second": 100}}, slices.Values([]Tenant{
		{ID: "1:0"},
		{ID: "4294967295:2", Plan: "small", Tags: map[string]string{"region": "größe=\"1\""}, Drop: []string{`{a!=""}`}, Credentials: Bearer("secret")},
		{ID: "1:1", Credentials: []Credential{{User: "u", Password: "p"}, {Subject: "CN=a"}, {Name: "a.example"}}},
	}), Trusted{Name: "scraper", Token: "t", Labels: []string{"org"}, Table: map[string]string{"a": "1:0"}},
		Trusted{Name: "vmagent", Token: "v", Labels: []string{"vm_account_id", "vm_project_id"}, Missing: "1:0"},
		Trusted{Name: "two", Token: "w", Tenants: []string{"1:0", "1:1"}})
	const want = `plans: {"small":{"samples_per_second":100}}
tenants:
- {"id":"1:0"}
- {"credentials":[{"bearer_sha256":"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}],"drop":["{a!=\"\"}"],"id":"4294967295:2","plan":"small","tags":{"region":"größe=\"1\""}}
- {"credentials":[{"basic":{"password_sha256":"148de9c5a7a44d19e56cd9ae1a554bf67847afb0c58f6e12fa29ac7ddfca9940","user":"u"}},{"certificate":{"subject":"CN=a"}},{"certificate":{"san":"a.example"}}],"id":"1:1"}
credentials:
- {"bearer_sha256":"e3b98a4da31a127d4bde6e43033f66ba274cab0eb7eb1c70ec41402bf6273dd8","name":"scraper","tenants_from":{"label":"org","missing":"refuse","table":{"a":"1:0"},"values":"table"}}
- {"bearer_sha256":"4c94485e0c21ae6c41ce1dfe7b6bfaceea5ab68e40a2476f50208e526f506080","name":"vmagent","tenants_from":{"labels":["vm_account_id","vm_project_id"],"missing":"1:0"}}
- {"bearer_sha256":"50e721e49c013f00c62cf59f2163542a9d8df02464efeb615d31051b0fddc326","name":"two","tenants":["1:0","1:1"]}
`
	if err != nil || b.String() != want {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestAFullDiskIsTold(t *testing.T) {
	r, w := io.Pipe()
	full := errors.New("no space")
	r.CloseWithError(full)
	if err := Write(w, nil, slices.Values([]Tenant{{ID: "1:0"}})); !errors.Is(err, full) {
		t.Error(err)
	}
}
