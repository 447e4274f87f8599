package settings_test

import (
	stderrors "errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/settings"
)

const prefix = "SETTINGSTEST"

type nested struct {
	File string `desc:"File."`
}

// Shared is embedded: its fields bear the group's prefix.
type Shared struct {
	Token settings.Secret `desc:"Token."`
}

type everything struct {
	Shared
	Dir         string            `default:"data" desc:"Where blocks are kept. Empty is the working directory."`
	MaxBytes    settings.Bytes    `split_words:"true" default:"16MiB" unit:"bytes" desc:"Most bytes."`
	Limit       settings.Size     `default:"90%" desc:"Limit."`
	Wait        time.Duration     `default:"5s" desc:"Wait."`
	Series      int               `default:"100" unit:"series" desc:"Series."`
	Listen      settings.Address  `default:":8480" desc:"Listen."`
	StorageURLs settings.URLs     `split_words:"true" desc:"Storages."`
	Page        settings.URL      `desc:"Page."`
	Names       []string          `default:"a,b" desc:"Names."`
	Keys        []settings.Secret `desc:"Keys."`
	On          bool              `default:"true" desc:"On | off, <really>."`
	TLSCert     nested            `split_words:"true"`
	hidden      string
}

func load(t *testing.T, env map[string]string, groups ...settings.Group) error {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	return settings.Load(prefix, groups...)
}

func group(c *everything) settings.Group {
	return settings.Group{Prefix: "ALL", Title: "Everything", Config: c}
}

func TestLoadNamesVariablesAfterPrefixGroupAndField(t *testing.T) {
	var c everything
	err := load(t, map[string]string{
		"SETTINGSTEST_ALL_TOKEN":         "tok",
		"SETTINGSTEST_ALL_DIR":           "/var",
		"SETTINGSTEST_ALL_MAX_BYTES":     "5GiB",
		"SETTINGSTEST_ALL_LIMIT":         "2GiB",
		"SETTINGSTEST_ALL_WAIT":          "1m",
		"SETTINGSTEST_ALL_SERIES":        "7",
		"SETTINGSTEST_ALL_LISTEN":        "127.0.0.1:0",
		"SETTINGSTEST_ALL_STORAGE_URLS":  "http://a:1, http://b:2/x,",
		"SETTINGSTEST_ALL_PAGE":          "https://c/",
		"SETTINGSTEST_ALL_NAMES":         "x",
		"SETTINGSTEST_ALL_KEYS":          "k1,k2",
		"SETTINGSTEST_ALL_ON":            "false",
		"SETTINGSTEST_ALL_TLS_CERT_FILE": "/cert",
	}, group(&c))
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Token) != "tok" || c.Dir != "/var" || c.MaxBytes != 5<<30 || c.Limit != (settings.Size{Bytes: 2 << 30}) ||
		c.Wait != time.Minute || c.Series != 7 || c.Listen != "127.0.0.1:0" || c.Page.Host != "c" ||
		strings.Join(c.Names, " ") != "x" || len(c.Keys) != 2 || string(c.Keys[1]) != "k2" || c.On || c.TLSCert.File != "/cert" {
		t.Errorf("loaded %+v", c)
	}
	if got := c.StorageURLs.String(); got != "http://a:1,http://b:2/x" {
		t.Errorf("STORAGE_URLS = %q", got)
	}
}

func TestLoadFallsBackToDefaults(t *testing.T) {
	c := everything{hidden: "kept"}
	if err := load(t, nil, group(&c)); err != nil {
		t.Fatal(err)
	}
	if c.Dir != "data" || c.MaxBytes != 16<<20 || c.Limit.Percent != 90 || c.Wait != 5*time.Second || c.Listen != ":8480" ||
		len(c.Names) != 2 || !c.On || c.StorageURLs != nil || c.hidden != "kept" {
		t.Errorf("defaults are %+v", c)
	}
}

func TestLoadLetsAnEmptyTextReplaceTheDefault(t *testing.T) {
	var c everything
	if err := load(t, map[string]string{"SETTINGSTEST_ALL_DIR": ""}, group(&c)); err != nil {
		t.Fatal(err)
	}
	if c.Dir != "" {
		t.Errorf("DIR = %q", c.Dir)
	}
}

func TestBareNamesHaveNoEffect(t *testing.T) {
	var c everything
	for _, s := range settings.Describe(prefix, group(&c)) {
		bare := strings.TrimPrefix(s.Name, prefix+"_ALL_")
		t.Setenv(bare, "17")
		t.Setenv("ALL_"+bare, "17")
	}
	if err := settings.Load(prefix, group(&c)); err != nil {
		t.Fatal(err)
	}
	for _, s := range settings.Describe(prefix, group(&c)) {
		if s.Value != s.Default {
			t.Errorf("%s = %q, want the default %q", s.Name, s.Value, s.Default)
		}
	}
}

type validated struct {
	Low, High int
	err       error
}

func (v validated) Validate() error { return v.err }

func TestLoadTellsEveryErrorAtOnce(t *testing.T) {
	var c everything
	err := load(t, map[string]string{
		"SETTINGSTEST_ALL_MAX_BYTES": "many",
		"SETTINGSTEST_ALL_LIMIT":     "101%",
		"SETTINGSTEST_ALL_WAIT":      "5",
		"SETTINGSTEST_ALL_SERIES":    "some",
		"SETTINGSTEST_ALL_LISTEN":    "localhost",
		"SETTINGSTEST_ALL_ON":        "",
		"SETTINGSTEST_ALL_NAME":      "x",
		"SETTINGSTEST_B_HIHG":        "1",
		"SETTINGSTEST_C_LOW":         "low",
	}, group(&c),
		settings.Group{Prefix: "B", Config: &validated{err: errors("B is wrong")}},
		settings.Group{Prefix: "C", Config: &validated{err: stderrors.Join(errors("SETTINGSTEST_C_LOW is 0"), errors("HIGH is wrong too"))}})
	for _, want := range []string{
		`SETTINGSTEST_ALL_MAX_BYTES: "many" is no number of bytes`,
		`SETTINGSTEST_ALL_LIMIT: "101%": want 1% to 100%`,
		`SETTINGSTEST_ALL_WAIT="5": want a duration such as 500ms`,
		`SETTINGSTEST_ALL_SERIES="some": want a whole number`,
		`SETTINGSTEST_ALL_LISTEN: "localhost" has no port: want host:port, such as "localhost:8480"`,
		`SETTINGSTEST_ALL_ON is set to nothing: unset it for the default, or set it to true or false`,
		`unknown setting SETTINGSTEST_ALL_NAME: did you mean SETTINGSTEST_ALL_NAMES?`,
		`unknown setting SETTINGSTEST_B_HIHG: did you mean SETTINGSTEST_B_HIGH?`,
		`SETTINGSTEST_C_LOW="low": want a whole number`,
		`B is wrong`,
		`HIGH is wrong too`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said in:\n%v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "SETTINGSTEST_C_LOW is 0") {
		t.Error("the zero in place of what could not be read is called wrong")
	}
}

type errors string

func (e errors) Error() string { return string(e) }

func TestWhatKubernetesSetsForServicesPasses(t *testing.T) {
	var c everything
	err := load(t, map[string]string{
		"SETTINGSTEST_SERVICE_HOST":                "10.0.0.1",
		"SETTINGSTEST_SERVICE_PORT":                "8480",
		"SETTINGSTEST_SERVICE_PORT_REMOTE_WRITE":   "8480",
		"SETTINGSTEST_PORT":                        "tcp://10.0.0.1:8480",
		"SETTINGSTEST_PORT_8480_TCP":               "tcp://10.0.0.1:8480",
		"SETTINGSTEST_PORT_8480_TCP_PROTO":         "tcp",
		"SETTINGSTEST_PORT_8480_TCP_PORT":          "8480",
		"SETTINGSTEST_PORT_8480_TCP_ADDR":          "10.0.0.1",
		"SETTINGSTEST_ADMIN_SERVICE_HOST":          "10.0.0.2",
		"SETTINGSTEST_ADMIN_PORT":                  "tcp://10.0.0.2:8482",
		"SETTINGSTEST_HEADLESS_PORT_8482_TCP_ADDR": "10.0.0.3",
	}, group(&c))
	if err != nil {
		t.Error(err)
	}
}

func TestAMisspeltPortIsNotTakenForKubernetes(t *testing.T) {
	var c everything
	err := load(t, map[string]string{"SETTINGSTEST_ALL_PORT": "8480"}, group(&c))
	if err == nil || !strings.Contains(err.Error(), "unknown setting SETTINGSTEST_ALL_PORT") {
		t.Errorf("Load: %v", err)
	}
}

func TestASettingNamedLikeAServiceVariableIsRead(t *testing.T) {
	var c struct{ Port int }
	if err := load(t, map[string]string{"SETTINGSTEST_ADMIN_PORT": "tcp://10.0.0.2:8482"},
		settings.Group{Prefix: "ADMIN", Config: &c}); err == nil {
		t.Error("a setting took the URL that Kubernetes sets, want an error that says so")
	}
}

func TestGroupsShareAPrefix(t *testing.T) {
	var a struct{ Dir string }
	var b struct{ Linger time.Duration }
	if err := load(t, map[string]string{"SETTINGSTEST_BUFFER_DIR": "d", "SETTINGSTEST_BUFFER_LINGER": "1ms"},
		settings.Group{Prefix: "BUFFER", Config: &a}, settings.Group{Prefix: "BUFFER", Config: &b}); err != nil {
		t.Fatal(err)
	}
	if a.Dir != "d" || b.Linger != time.Millisecond {
		t.Errorf("loaded %+v and %+v", a, b)
	}
}

func TestMarkdownEscapesTablesAndLeavesValuesOut(t *testing.T) {
	var c everything
	if err := load(t, map[string]string{"SETTINGSTEST_ALL_DIR": "/var/here"}, group(&c)); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := settings.Markdown(&b, settings.Describe(prefix, group(&c))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n## Everything\n\n| Variable | Type | Default | Meaning |\n|---|---|---|---|\n",
		"| `SETTINGSTEST_ALL_MAX_BYTES` | bytes | `16MiB` | Most bytes. |\n",
		"| `SETTINGSTEST_ALL_SERIES` | number of series | `100` | Series. |\n",
		"| `SETTINGSTEST_ALL_STORAGE_URLS` | URLs |  | Storages. |\n",
		"| On \\| off, &lt;really>. |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "/var/here") {
		t.Error("Markdown shows a current value")
	}
}

func TestDurationsPrintWithoutTrailingZeros(t *testing.T) {
	var c struct{ A, B, C, D, E, F time.Duration }
	want := []string{"0s", "2m", "1h", "1h30m", "10m0.5s", "1h0m5s"}
	for i, text := range want {
		t.Setenv("SETTINGSTEST_"+string(rune('A'+i)), text)
	}
	g := settings.Group{Config: &c}
	if err := settings.Load(prefix, g); err != nil {
		t.Fatal(err)
	}
	for i, s := range settings.Describe(prefix, g) {
		if s.Value != want[i] {
			t.Errorf("%s prints as %s", want[i], s.Value)
		}
	}
}

func TestPrintShowsValueTypeDefaultAndMeaning(t *testing.T) {
	var c everything
	if err := load(t, map[string]string{"SETTINGSTEST_ALL_WAIT": "90s"}, group(&c)); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := settings.Print(&b, settings.Describe(prefix, group(&c))); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Everything\n\n",
		"SETTINGSTEST_ALL_WAIT=1m30s\n    Wait. [duration, default 5s]\n\n",
		"SETTINGSTEST_ALL_NAMES=a,b\n    Names. [list, default a,b]\n\n",
		"SETTINGSTEST_ALL_PAGE=\n    Page. [URL, no default]\n\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
}

func TestFlattenTakesApartWhatWasJoinedAndNothingElse(t *testing.T) {
	a, b, c := errors("a"), errors("b"), errors("c")
	wrapped := fmt.Errorf("%w because of %w", a, b)
	list := settings.Flatten(stderrors.Join(a, stderrors.Join(b, nil, wrapped), c))
	if got := fmt.Sprint(list); got != "[a b a because of b c]" {
		t.Errorf("flattened to %s", got)
	}
	if list := settings.Flatten(nil); len(list) != 0 {
		t.Errorf("nil is flattened to %v", list)
	}
}
