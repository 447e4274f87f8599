package access

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/tenant"
)

// numberedTags are n tags as they stand in a mapping.
func numberedTags(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("label_%d: x", i))
	}
	return strings.Join(list, ", ")
}

func TestAFaultInTheFileIsToldWithItsLine(t *testing.T) {
	hash := sha("x")
	for name, c := range map[string]struct{ text, want string }{
		"an unknown key":                     {"plans: {}\ntenant: []\n", `line 2: unknown key "tenant"`},
		"an unknown key of a tenant":         {"tenants:\n- id: 1\n  plam: x\n", `line 3: unknown key "plam"`},
		"one in JSON":                        {"tenants:\n- {\"id\": 1}\n- {\"id\": 2, \"plam\": \"x\"}\n", `line 3: unknown key "plam"`},
		"a key twice":                        {"tenants:\n- id: 1\n  id: 2\n", `line 3: key "id" stands twice`},
		"one in JSON twice":                  {"tenants:\n- {\"id\": 1, \"id\": 2}\n", `line 2: key "id" stands twice`},
		"tenants twice":                      {"tenants:\n- {\"id\": 1}\nplans: {}\ntenants:\n- {\"id\": 2}\n", `line 4: key "tenants" stands twice`},
		"a tenant twice":                     {"tenants:\n- {\"id\": 1}\n- {\"id\": \"1:0\"}\n", "line 3: tenant 1:0 stands in line 2 already"},
		"a tenant twice, first in YAML":      {"tenants:\n- id: 1\n- {\"id\": 1}\n", "line 3: tenant 1:0 stands in line 2 already"},
		"a tenant twice, first in JSON":      {"tenants:\n- {\"id\": 1}\n\n- id: 1\n", "line 4: tenant 1:0 stands in line 2 already"},
		"a credential twice":                 {"tenants:\n- {\"id\": 1, \"credentials\": [{\"bearer_sha256\": \"" + hash + "\"}]}\n- id: 2\n  credentials: [{bearer_sha256: " + hash + "}]\n", `line 3: credential "2:0" (bearer) stands in line 2 already`},
		"a credential twice in a tenant":     {"tenants:\n- id: 2\n  credentials: [{bearer_sha256: " + hash + "}, {bearer_sha256: " + hash + "}]\n", `line 2: credential "2:0/2" (bearer) stands in line 2 already`},
		"a credential of a tenant and apart": {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants: [1]}\ntenants:\n- {\"id\": 1, \"credentials\": [{\"bearer_sha256\": \"" + hash + "\"}]}\n", `line 4: credential "x" (bearer) stands in line 2 already`},
		"no id":                              {"tenants:\n- {\"id\": 1}\n- name: x\n", "line 3: a tenant without id"},
		"an id that is none":                 {"tenants:\n- {\"id\": 1}\n- {\"id\": \"1:x\"}\n", `line 3: tenant "1:x": project: want a number`},
		"an id that is nothing":              {"tenants:\n- id:\n", "line 2: want a text, got nothing"},
		"an id that is null":                 {"tenants:\n- {\"id\": null}\n", "line 2: want a text, got nothing"},
		"an unknown plan":                    {"plans: {small: {}}\ntenants:\n- {\"id\": 1, \"plan\": \"smal\"}\n", `line 3: unknown plan "smal"`},
		"an unknown plan by default":         {"plans: {small: {}}\ndefaults:\n  plan: large\n", `line 3: unknown plan "large"`},
		"a plan that cannot be":              {"plans:\n  small:\n    samples_per_second: 10\n    samples_hard: 5\n", `line 2: plan "small": samples_per_second: the hard limit of 5 a second is below the sustained rate of 10`},
		"a limit that is no number":          {"plans:\n  small:\n    samples_per_second: many\n", `line 3: want a number, 0 or more, got "many"`},
		"a limit that is less than nothing":  {"plans:\n  small:\n    samples_per_second: -1\n", "line 3: want a number, 0 or more"},
		"half a series":                      {"plans:\n  small:\n    active_series: 0.5\n", "line 3: want a whole number"},
		"bytes of another unit":              {"plans:\n  small:\n    bytes_per_second: 3parsec\n", "line 3: \"3parsec\" is no number of bytes"},
		"a limit that is a list":             {"plans:\n  small:\n    active_series: [1]\n", "line 3: want a text, got a list"},
		"limits that are unknown":            {"plans:\n  small:\n    samples: {per_second: 1}\n", `line 3: unknown key "samples"`},
		"a limit that is unknown":            {"plans:\n  small:\n    samples: 1\n", `line 3: unknown key "samples"`},
		"limits that cannot be":              {"tenants:\n- {\"id\": 1, \"limits\": {\"samples_burst\": 1}}\n", "line 2: samples_per_second: burst and hard need a rate per second"},
		"a reserved tag":                     {"tenants:\n- id: 1\n  tags:\n    vm_account_id: x\n", `line 4: tag "vm_account_id"`},
		"a long value of a tag":              {"tenants:\n- id: 1\n  tags:\n    a: x\n    org: " + strings.Repeat("x", 5000) + "\n", `line 5: tag "org": a value of 5000 bytes: at most 4096 are allowed`},
		"a long name of a tag":               {"tenants:\n- {\"id\": 1}\n- {\"id\": 2, \"tags\": {\"" + strings.Repeat("n", 300) + "\": \"x\"}}\n", "line 3: tag \"" + strings.Repeat("n", 40) + "\"…: a name of 300 bytes: at most 256 are allowed"},
		"too many tags":                      {"tenants:\n- id: 1\n  tags: {" + numberedTags(21) + "}\n", "line 3: 21 tags: at most 20 are allowed"},
		"too many with those of all":         {"defaults: {tags: {x: y}}\ntenants:\n- id: 1\n  tags: {" + numberedTags(20) + "}\n", "line 4: 21 tags: at most 20 are allowed"},
		"two credentials of one name":        {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants: [1]}\n- {name: x, bearer_sha256: " + sha("other") + ", tenants: [1]}\n", `line 3: a credential of the name "x" stands in line 2 already`},
		"a reserved tag of all":              {"defaults:\n  tags: {vm_account_id: x}\n", `line 2: tag "vm_account_id"`},
		"a tag that is a list":               {"tenants:\n- id: 1\n  tags:\n    x: []\n", "line 4: want a text, got a list"},
		"a rule that is none":                {"tenants:\n- id: 1\n  drop:\n  - up\n  - 'sum(up)'\n", "line 5: rule"},
		"a rule with a bad expression":       {"defaults:\n  drop:\n  - '{a=~\"(\"}'\n", "line 3: rule"},
		"a hash that is too short":           {"tenants:\n- id: 1\n  credentials:\n  - bearer_sha256: abc\n", "line 4: want a SHA-256 as 64 hexadecimal digits, got 3 characters"},
		"a hash of other digits":             {"tenants:\n- id: 1\n  credentials:\n  - bearer_sha256: " + strings.Repeat("x", 64) + "\n", "line 4: want a SHA-256 as 64 hexadecimal digits, got other characters"},
		"a hash of nothing":                  {"tenants:\n- id: 1\n  credentials:\n  - bearer_sha256: " + sha("") + "\n", "line 4: the SHA-256 of nothing"},
		"a credential that is none":          {"tenants:\n- id: 1\n  credentials:\n  - name: x\n", "line 4: a credential that is none"},
		"a credential that is two":           {"tenants:\n- id: 1\n  credentials:\n  - bearer_sha256: " + hash + "\n    basic: {user: x, password_sha256: " + hash + "}\n", "line 5: a credential that is two"},
		"a user with a colon":                {"tenants:\n- id: 1\n  credentials:\n  - basic: {user: 'x:y', password_sha256: " + hash + "}\n", "line 4: user \"x:y\": want a name without a colon"},
		"a user without a password":          {"tenants:\n- id: 1\n  credentials:\n  - basic: {user: x}\n", "line 4: want user and password_sha256"},
		"a certificate that is none":         {"tenants:\n- id: 1\n  credentials:\n  - certificate: {}\n", "line 4: want a subject or a san"},
		"a certificate that is two":          {"tenants:\n- id: 1\n  credentials:\n  - certificate: {subject: x, san: y}\n", "line 4: want either a subject or a san"},
		"a shared credential without name":   {"credentials:\n- {bearer_sha256: " + hash + ", tenants: [1]}\n", "line 2: a credential without name"},
		"one without tenants":                {"credentials:\n- {name: x, bearer_sha256: " + hash + "}\n", `line 2: credential "x": want tenants or tenants_from`},
		"one with an empty list":             {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants: []}\n", `line 2: credential "x": want at least one tenant`},
		"no label":                           {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {}}\n", "line 2: want label, or labels"},
		"an empty label":                     {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {label: ''}}\n", "line 2: want the name of a label"},
		"three labels":                       {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {labels: [a, b, c]}}\n", "line 2: want two labels"},
		"label and labels":                   {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {label: a, labels: [a, b]}}\n", "line 2: want either label or labels"},
		"two labels and a table":             {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {labels: [a, b], values: table, table: {x: 1}}}\n", "line 2: two labels are an account and a project"},
		"a table without values":             {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {label: a, table: {x: 1}}}\n", "line 2: values: table and table belong together"},
		"values of another kind":             {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {label: a, values: magic}}\n", "line 2: values: magic: want number, table or directory"},
		"values by a directory there is not": {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {label: a, values: directory}}\n", "line 2: values: directory, and there is no directory"},
		"a table with a bad id":              {"credentials:\n- name: x\n  bearer_sha256: " + hash + "\n  tenants_from:\n    label: a\n    values: table\n    table:\n      x: y\n", `line 8: tenant "y"`},
		"something else for missing":         {"credentials:\n- {name: x, bearer_sha256: " + hash + ", tenants_from: {label: a, missing: drop}}\n", "line 2: missing: want refuse or a tenant"},
		"no YAML":                            {"plans:\n  small: [\n", "line 3"},
		"no YAML after JSON":                 {"tenants:\n- {\"id\": 1}\n- {\"id\": 2}\nplans:\n  small: {a: 1\n", "line 6"},
		"JSON that does not end":             {"tenants:\n- {\"id\": 1}\n- {\"id\": 2\n", "line 4"},
		"bytes that are no text":             {"plans: {}\ntenants:\n- {\"id\": 1, \"name\": \"\x01\"}\n", "line 3"},
		"bytes that are no UTF-8":            {"plans: {}\ntenants:\n- {\"id\": 1, \"name\": \"\xff\"}\n", "line 3"},
		"a list at the top":                  {"- id: 1\n", "line 1: want a mapping of keys and values, got a list"},
		"tenants that are no list":           {"plans: {}\ntenants: {id: 1}\n", "line 2: want a list, got a mapping"},
		"a tenant that is a word":            {"tenants:\n- x\n", "line 2: want a mapping of keys and values, got a single value"},
		"a second document":                  {"plans: {}\n---\nplans: {}\n", "a second YAML document"},
		"a key that is a list":               {"plans: {}\n? [a]\n: b\n", "line 2: a key that is no text"},
		"nothing":                            {"", "the file is empty"},
		"nothing but a comment":              {"# later\n", "the file is empty"},
		"aliases without end":                {"plans: &x\n  a: *x\n", "line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(c.text, emptyTable(nil), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAliasesCannotMakeTheFileLarge(t *testing.T) {
	var b strings.Builder
	b.WriteString("plans:\n  a0: &a0 {samples_per_second: 1}\n")
	for i := range 20 {
		fmt.Fprintf(&b, "  a%d: &a%d [*a%d, *a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i, i)
	}
	if _, err := parse(b.String(), emptyTable(nil), nil); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %v", err)
	}
}

func TestManyFaultsAreToldInTheOrderOfTheirLines(t *testing.T) {
	var b strings.Builder
	b.WriteString("tenants:\n- id: x0\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "- {\"id\": \"x%d\"}\n", i)
	}
	_, err := parse(b.String(), emptyTable(nil), nil)
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxFaults+1 || !strings.HasPrefix(lines[0], "line 2: ") || !strings.HasPrefix(lines[9], "line 11: ") || lines[10] != "and 2991 more" {
		t.Errorf("got %q", lines)
	}
}

func TestTenantsMayStandInAnyYAML(t *testing.T) {
	for name, text := range map[string]string{
		"a block":                 "tenants:\n- id: 1\n  name: a\n- id: 2\n  name: b\n",
		"a block that is moved":   "tenants:\n    - id: 1\n      name: a\n    -\n      id: 2\n      name: b\n",
		"JSON":                    "tenants:\n- {\"id\": \"1\", \"name\": \"a\"}\n- {\"id\": 2, \"name\": \"b\"}\n",
		"JSON without spaces":     "tenants:\n-   {\"id\":\"1\",\"name\":\"a\"}\n-  {\"id\":2,\"name\":\"b\"}",
		"JSON, moved":             "tenants: # all\n\n  # one\n  - {\"id\": \"1\", \"name\": \"a\"}   \n\n  - {\"id\": 2, \"name\": \"b\"}\n",
		"JSON with CRLF":          "tenants:\r\n- {\"id\": \"1\", \"name\": \"a\"}\r\n- {\"id\": 2, \"name\": \"b\"}\r\n",
		"YAML in one line":        "tenants:\n- {id: \"1\", name: a}\n- {id: 2, name: b}\n",
		"with comments":           "tenants:\n- {\"id\": \"1\", \"name\": \"a\"} # a\n- {\"id\": 2, \"name\": \"b\"} # b\n",
		"JSON of several lines":   "tenants:\n- {\"id\": \"1\",\n   \"name\": \"a\"}\n- {\"id\": 2, \"name\": \"b\"}\n",
		"one list":                "tenants: [{\"id\": \"1\", \"name\": \"a\"}, {\"id\": 2, \"name\": \"b\"}]\n",
		"all JSON":                "{\"tenants\": [\n  {\"id\": \"1\", \"name\": \"a\"},\n  {\"id\": 2, \"name\": \"b\"}\n]}\n",
		"JSON and block":          "tenants:\n- id: 2\n  name: b\n- {\"id\": \"1\", \"name\": \"a\"}\nplans: {}\n",
		"block and JSON":          "plans: {}\ntenants:\n- {\"id\": \"1\", \"name\": \"a\"}\n- id: 2\n  name: b\n",
		"aliases":                 "tenants:\n- id: 1\n  name: &n a\n  tags: &t {x: y}\n- id: 2\n  name: b\n  tags: *t\n",
		"escapes":                 "tenants:\n- {\"id\": \"\\u0031\", \"name\": \"\\x61\"}\n- {\"id\": 2, \"name\": \"b\"}\n",
		"a key like it elsewhere": "plans:\n  tenants:\n    samples_per_second: 1\ntenants:\n- {\"id\": 1, \"name\": \"a\"}\n- {\"id\": 2, \"name\": \"b\"}\n",
	} {
		t.Run(name, func(t *testing.T) {
			table, err := parse(text, emptyTable(nil), nil)
			if err != nil {
				t.Fatal(err)
			}
			for account, want := range []string{1: "a", 2: "b"} {
				if e := table.tenants[tenant.ID{Account: uint32(account)}]; want != "" && (e == nil || e.profile.Name != want) {
					t.Errorf("tenant %d is %+v, want %s", account, e, want)
				}
			}
			if len(table.tenants) != 2 {
				t.Errorf("%d tenants", len(table.tenants))
			}
		})
	}
}

func TestAFileWithoutTenantsIsWell(t *testing.T) {
	for _, text := range []string{"tenants:\n", "tenants: []\ncredentials: []\nplans: {}\ndefaults: {}\n", "plans:\ndefaults:\ntenants:\ncredentials:\n", "plans:\n  small:\n"} {
		table, err := parse(text, emptyTable(nil), nil)
		if err != nil || len(table.tenants) != 0 || table.credentialCount() != 0 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTenantsThatHaveNotChangedAreKept(t *testing.T) {
	first := "plans: {small: {samples_per_second: 1}}\ndefaults: {plan: small}\ntenants:\n- {\"id\": 1}\n- {\"id\": 2}\n- {\"id\": 3}\n"
	old, err := parse(first, emptyTable(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := func(text string) string {
		now, err := parse(text, old, nil)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for id, e := range now.tenants {
			if e == old.tenants[id] {
				ids = append(ids, id.String())
			} else if plan := now.common.plans["small"]; e.profile.Plan != plan.made {
				t.Errorf("tenant %s has a plan that is not the table's", id)
			}
		}
		slices.Sort(ids)
		return strings.Join(ids, " ")
	}
	for text, want := range map[string]string{
		first: "1:0 2:0 3:0",
		strings.Replace(first, "\"id\": 2", "\"id\": 2, \"name\": \"x\"", 1):                "1:0 3:0",
		strings.Replace(first, "- {\"id\": 1}\n", "", 1) + "- {\"id\": 1}\n- {\"id\": 4}\n": "1:0 2:0 3:0",
		strings.Replace(first, "samples_per_second: 1", "samples_per_second: 2", 1):         "",
		strings.Replace(first, "plan: small", "plan: small, tags: {a: b}", 1):               "",
	} {
		if got := kept(text); got != want {
			t.Errorf("%s\nkept %q, want %q", text, got, want)
		}
	}
}

// FuzzAFileIsReadOrItsFaultIsToldWithALine also reads the file on top of itself, which has to give the same.
func FuzzAFileIsReadOrItsFaultIsToldWithALine(f *testing.F) {
	f.Add(acme)
	f.Add("tenants:\n- {\"id\": 1, \"limits\": {\"samples_per_second\": 5}}\n- id: 2\n  tags: {a: b}\n")
	f.Add("tenants: [{\"id\": 1}]\n---\n")
	f.Add("a: &a [*a]\ntenants:\n- {\"id\": \"\xff\"}\n")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := parse(text, emptyTable(nil), nil)
		if err != nil {
			if first != nil {
				t.Fatal("a table and an error")
			}
			return
		}
		again, err := parse(text, first, nil)
		if err != nil || len(again.tenants) != len(first.tenants) || again.credentialCount() != first.credentialCount() {
			t.Fatalf("read again: %v, %d tenants and then %d", err, len(first.tenants), len(again.tenants))
		}
	})
}

// FuzzALineOfJSONIsTheSameInYAML: what is read here is what the library would have read.
func FuzzALineOfJSONIsTheSameInYAML(f *testing.F) {
	for _, s := range []string{
		`{"id": "12:3", "plan": "small", "credentials": [{"bearer_sha256": "00"}]}`, `{"a":1,"b":[1,2.5,true,null],"c":{}}`,
		`{"é": "ü", "x": " a # b: c "}`, `{"a": "\u0031"}`, `{"a": 012}`, `{ }`, `{"a": [ ] }`, `{"a": 1 }`, `{"a": "b" , "c" : 1.}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var quick tape
		if !strings.HasPrefix(text, "{") || strings.ContainsAny(text, "\n\r") || !quick.appendJSON(text, 1) {
			return
		}
		slow, err := parseYAML(text)
		if err != nil {
			t.Fatalf("%q: the library says %v", text, err)
		}
		if !slices.EqualFunc(value(quick), slow, func(a, b node) bool { return a.text == b.text && a.shape == b.shape && a.size == b.size }) {
			t.Fatalf("%q: %v, and the library has %v", text, quick, slow)
		}
	})
}
