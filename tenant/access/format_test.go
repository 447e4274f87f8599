package access

import (
	"os"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/tenant"
)

func TestTheExampleInTheFormatIsAFile(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```yaml\n")
	example, _, _ := strings.Cut(rest, "```")
	table, err := parse(example, emptyTable(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	acme := table.profile(tenant.ID{Account: 12, Project: 3})
	if len(table.tenants) != 2 || table.credentialCount() != 8 || acme.Plan.Samples.PerSecond != 5000 || acme.Tags.String() != `{org="acme", region="eu"}` {
		t.Errorf("%d tenants, %d credentials, %+v, %s", len(table.tenants), table.credentialCount(), acme.Plan, acme.Tags)
	}
}

func TestSettingsThatDoNotGoTogetherAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"path":              {Config{Mode: ModePath}, ""},
		"file":              {Config{Mode: ModeFile, File: "x"}, ""},
		"directory":         {Config{Mode: ModeDirectory}, ""},
		"directory, file":   {Config{Mode: ModeDirectory, File: "x"}, ""},
		"another mode":      {Config{Mode: "magic"}, "INGESTGW_TENANT_MODE=magic"},
		"no file":           {Config{Mode: ModeFile}, "INGESTGW_TENANT_FILE is empty"},
		"a file for nobody": {Config{Mode: ModePath, File: "x"}, "INGESTGW_TENANT_FILE=x is not looked at"},
		"a bad interval":    {Config{Mode: ModePath, FileInterval: -1}, "INGESTGW_TENANT_FILE_INTERVAL"},
		"bad failures":      {Config{Mode: ModePath, FailuresPerMinute: -1}, "INGESTGW_TENANT_FAILURES_PER_MINUTE=-1"},
	} {
		err := c.cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
