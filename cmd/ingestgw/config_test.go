package main

import (
	"bytes"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// output runs the program with the environment of the test.
func output(args ...string) (stdout, stderr string, code int) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return out.String(), errs.String(), code
}

// valid sets what has no default.
func valid(t *testing.T) {
	t.Helper()
	t.Setenv("INGESTGW_FORWARD_URLS", "http://127.0.0.1:1")
}

func described() []settings.Setting { return settings.Describe(prefix, new(config).groups()...) }

func TestReferencePagesAreUpToDate(t *testing.T) {
	for page, command := range map[string]string{"docs/configuration.md": "config", "docs/alarms.md": "alarms"} {
		have, err := os.ReadFile("../../" + page)
		if err != nil {
			t.Fatal(err)
		}
		want, _, code := output(command, "-markdown")
		if code != exitOK || string(have) != want {
			t.Errorf("exit %d; %s is not what the program says: make docs", code, page)
		}
	}
}

func TestReferencePageDoesNotDependOnTheEnvironment(t *testing.T) {
	want, _, _ := output("config", "-markdown")
	t.Setenv("INGESTGW_BUFFER_DIR", "/somewhere")
	t.Setenv("INGESTGW_NONSENSE", "1")
	if have, _, code := output("config", "-markdown"); code != exitOK || have != want {
		t.Errorf("exit %d, and the page differs: %t", code, have != want)
	}
}

func TestNamesThatConfigurationElsewhereUses(t *testing.T) {
	have := map[string]string{}
	for _, s := range described() {
		have[s.Name] = s.Default
	}
	for name, def := range map[string]string{
		"INGESTGW_INGEST_LISTEN":         ":8480",
		"INGESTGW_ADMIN_LISTEN":          ":8482",
		"INGESTGW_BUFFER":                "disk",
		"INGESTGW_BUFFER_DIR":            "data",
		"INGESTGW_BUFFER_MAX_BYTES":      "0",
		"INGESTGW_BUFFER_WHEN_FULL":      "refuse",
		"INGESTGW_FORWARD_URLS":          "",
		"INGESTGW_FORWARD_STORAGE_URLS":  "",
		"INGESTGW_FORWARD_SETTLE":        "30s",
		"INGESTGW_INGEST_CONN_MAX_AGE":   "2m",
		"INGESTGW_KAFKA_BROKERS":         "",
		"INGESTGW_KAFKA_TOPIC_PREFIX":    "ingestgw",
		"INGESTGW_KAFKA_GROUP":           "ingestgw",
		"INGESTGW_KAFKA_HEDGE_AFTER":     "2s",
		"INGESTGW_KAFKA_CREATE_TOPICS":   "false",
		"INGESTGW_KAFKA_STRICT":          "false",
		"INGESTGW_BUFFER_APPEND_TIMEOUT": "15s",
		"INGESTGW_LOG_FORMAT":            "text",
		"INGESTGW_LOG_LEVEL":             "info",
		"INGESTGW_MEMORY_GOGC":           "auto",
		"INGESTGW_MEMORY_LIMIT":          "auto",
		"INGESTGW_ROLE":                  "all",
		"INGESTGW_SHUTDOWN_DELAY":        "5s",
		"INGESTGW_SHUTDOWN_TIMEOUT":      "25s",
		"INGESTGW_TENANT_DEFAULT":        "0:0",
		"INGESTGW_VMSELECT_URLS":         "",
	} {
		if got, ok := have[name]; !ok || got != def {
			t.Errorf("%s: is a setting: %t, default %q, want %q", name, ok, got, def)
		}
	}
}

func TestEverySettingIsExplainedAndNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range described() {
		if seen[s.Name] {
			t.Errorf("%s is there twice", s.Name)
		}
		seen[s.Name] = true
		if !strings.HasSuffix(s.Desc, ".") || s.Title == "" {
			t.Errorf("%s is not explained in whole sentences under a title: %q, %q", s.Name, s.Desc, s.Title)
		}
	}
}

// A field with a name tag is also read from the variable of that name, without any prefix.
func TestNoFieldHasANameTag(t *testing.T) {
	var look func(reflect.Type, string)
	look = func(s reflect.Type, path string) {
		for f := range s.Fields() {
			if tag, ok := f.Tag.Lookup("envconfig"); ok {
				t.Errorf("%s.%s has the tag envconfig:%q", path, f.Name, tag)
			}
			if f.Type.Kind() == reflect.Struct {
				look(f.Type, path+"."+f.Name)
			}
		}
	}
	for _, g := range new(config).groups() {
		look(reflect.TypeOf(g.Config).Elem(), g.Title)
	}
}

func TestBareNamesHaveNoEffect(t *testing.T) {
	for _, s := range described() {
		words := strings.Split(strings.TrimPrefix(s.Name, "INGESTGW_"), "_")
		for i := range words { // BUFFER_MAX_BYTES, MAX_BYTES, BYTES; HOME, PATH and the like are no settings' names
			t.Setenv(strings.Join(words[i:], "_"), "bare")
		}
	}
	valid(t)
	cfg, err := load()
	if err != nil {
		t.Errorf("bare names are read: %v", err)
	}
	for _, s := range settings.Describe(prefix, cfg.groups()...) {
		if strings.Contains(s.Value, "bare") {
			t.Errorf("%s=%s comes from a bare name", s.Name, s.Value)
		}
	}
}

func TestMisspeltVariableIsAnErrorThatNamesTheNearest(t *testing.T) {
	valid(t)
	t.Setenv("INGESTGW_FORWARD_URL", "http://x")
	t.Setenv("INGESTGW_BUFER_DIR", "/x")
	t.Setenv("INGESTGW_INGEST_LISTNE", ":1")
	t.Setenv("INGESTGW_KAFKA_BROKER", "kafka-0:9092")
	t.Setenv("INGESTGW_BROKERS", "kafka-0:9092")
	for _, args := range [][]string{nil, {"config"}} {
		_, stderr, code := output(args...)
		for _, want := range []string{
			"unknown setting INGESTGW_FORWARD_URL: did you mean INGESTGW_FORWARD_URLS?",
			"unknown setting INGESTGW_BUFER_DIR: did you mean INGESTGW_BUFFER_DIR?",
			"unknown setting INGESTGW_INGEST_LISTNE: did you mean INGESTGW_INGEST_LISTEN?",
			"unknown setting INGESTGW_KAFKA_BROKER: did you mean INGESTGW_KAFKA_BROKERS?",
			"unknown setting INGESTGW_BROKERS: did you mean INGESTGW_KAFKA_BROKERS?",
		} {
			if code != exitFailed || !strings.Contains(stderr, want) {
				t.Errorf("ingestgw %v exits %d and does not say %q:\n%s", args, code, want, stderr)
			}
		}
	}
}

func TestWhatKubernetesInjectsIsLetPass(t *testing.T) {
	valid(t)
	for _, service := range []string{"INGESTGW", "INGESTGW_ADMIN", "INGESTGW_HEADLESS"} {
		t.Setenv(service+"_SERVICE_HOST", "10.0.0.1")
		t.Setenv(service+"_SERVICE_PORT", "8480")
		t.Setenv(service+"_SERVICE_PORT_HTTP", "8480")
		t.Setenv(service+"_PORT", "tcp://10.0.0.1:8480")
		t.Setenv(service+"_PORT_8480_TCP", "tcp://10.0.0.1:8480")
		t.Setenv(service+"_PORT_8480_TCP_PROTO", "tcp")
		t.Setenv(service+"_PORT_8480_TCP_PORT", "8480")
		t.Setenv(service+"_PORT_8480_TCP_ADDR", "10.0.0.1")
	}
	if _, stderr, code := output("config"); code != exitOK {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	t.Setenv("INGESTGW_ROLE", "both")
	t.Setenv("INGESTGW_BUFFER", "tape")
	t.Setenv("INGESTGW_INGEST_LISTEN", "localhost")
	t.Setenv("INGESTGW_INGEST_MAX_SERIES", "-1")
	t.Setenv("INGESTGW_BUFFER_WHEN_FULL", "shrug")
	t.Setenv("INGESTGW_MEMORY_GOGC", "0")
	t.Setenv("INGESTGW_LOG_LEVEL", "loud")
	t.Setenv("INGESTGW_SHUTDOWN_TIMEOUT", "5s")
	t.Setenv("INGESTGW_VMSELECT_URLS", "ftp://vmselect")
	_, stderr, code := output()
	if code != exitFailed {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{
		"INGESTGW_ROLE=both: want all, receive or forward",
		"INGESTGW_BUFFER=tape: want disk or kafka",
		`INGESTGW_INGEST_LISTEN: "localhost" has no port`,
		"INGESTGW_INGEST_MAX_SERIES=-1",
		"INGESTGW_BUFFER_WHEN_FULL",
		"INGESTGW_FORWARD_URLS",
		"INGESTGW_MEMORY_GOGC",
		`INGESTGW_LOG_LEVEL="loud": want debug, info, warn or error`,
		"INGESTGW_SHUTDOWN_TIMEOUT=5s: want at least 1s more than INGESTGW_SHUTDOWN_DELAY=5s",
		"INGESTGW_VMSELECT_URLS: ftp://vmselect",
	} {
		if strings.Count(stderr, "\n  "+want) != 1 {
			t.Errorf("%q does not stand on a line of its own in:\n%s", want, stderr)
		}
	}
}

func TestSettingsThatDoNotGoTogetherAreTold(t *testing.T) {
	kafka := map[string]string{"BUFFER": "kafka", "KAFKA_BROKERS": "127.0.0.1:1"}
	for _, c := range []struct {
		env  map[string]string
		want string // "" is nothing wrong
	}{
		{map[string]string{"ROLE": "receive"}, "INGESTGW_ROLE=receive: want all, because the disk buffer"},
		{map[string]string{"ROLE": "forward"}, "INGESTGW_ROLE=forward: want all, because the disk buffer"},
		{map[string]string{"BUFFER": "kafka"}, "INGESTGW_KAFKA_BROKERS is empty"},
		{map[string]string{"ROLE": "all", "FORWARD_URLS": ""}, "INGESTGW_FORWARD_URLS is empty"},
		{kafka, ""},
		{with(kafka, "ROLE", "forward"), ""},
		{with(with(kafka, "ROLE", "forward"), "FORWARD_URLS", ""), "INGESTGW_FORWARD_URLS is empty"},
		{with(with(kafka, "ROLE", "receive"), "FORWARD_URLS", ""), ""},
		{with(kafka, "KAFKA_BROKERS", "localhost"), "INGESTGW_KAFKA_BROKERS=localhost"},
		{with(kafka, "KAFKA_SASL_USER", "me"), "INGESTGW_KAFKA_SASL_MECHANISM"},
		{with(kafka, "KAFKA_TLS_CA_FILE", "ca.pem"), "INGESTGW_KAFKA_TLS_ENABLED"},
		{with(kafka, "BUFFER_APPEND_TIMEOUT", "10ms"), "INGESTGW_BUFFER_APPEND_TIMEOUT"},
		{map[string]string{"INGEST_LISTEN": ":9000", "ADMIN_LISTEN": ":9000"}, "INGESTGW_INGEST_LISTEN=:9000 and INGESTGW_ADMIN_LISTEN=:9000 are the same port"},
		{map[string]string{"INGEST_LISTEN": "127.0.0.1:9000", "ADMIN_LISTEN": ":9000"}, "INGESTGW_INGEST_LISTEN=127.0.0.1:9000 and INGESTGW_ADMIN_LISTEN=:9000"},
		{map[string]string{"INGEST_LISTEN": "[::]:9000", "ADMIN_LISTEN": "localhost:9000"}, "INGESTGW_INGEST_LISTEN=[::]:9000 and INGESTGW_ADMIN_LISTEN=localhost:9000"},
		{map[string]string{"INGEST_LISTEN": "127.0.0.1:9000", "ADMIN_LISTEN": "127.0.0.2:9000"}, ""},
		{map[string]string{"INGEST_LISTEN": ":0", "ADMIN_LISTEN": ":0"}, ""},
		{with(with(with(kafka, "ROLE", "forward"), "INGEST_LISTEN", ":9000"), "ADMIN_LISTEN", ":9000"), ""},
	} {
		t.Run(c.want, func(t *testing.T) {
			valid(t)
			for name, value := range c.env {
				t.Setenv("INGESTGW_"+name, value)
			}
			_, stderr, code := output("config")
			if (code == exitOK) != (c.want == "") || !strings.Contains(stderr, c.want) {
				t.Errorf("%v: exit %d, want %q:\n%s", c.env, code, c.want, stderr)
			}
		})
	}
}

// with is a copy of env with one more variable.
func with(env map[string]string, name, value string) map[string]string {
	env = maps.Clone(env)
	env[name] = value
	return env
}

func TestConfigShowsValuesAndWhatIsInForce(t *testing.T) {
	valid(t)
	t.Setenv("INGESTGW_BUFFER_DIR", "/var/lib/ingestgw")
	t.Setenv("INGESTGW_MEMORY_LIMIT", "1GiB")
	t.Setenv("GOGC", "77")
	stdout, stderr, code := output("config")
	if code != exitOK || stderr != "" {
		t.Errorf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{
		"INGESTGW_BUFFER_DIR=/var/lib/ingestgw\n    Directory of",
		"INGESTGW_FORWARD_URLS=http://127.0.0.1:1\n",
		"GOGC 77 (the variable GOGC), memory limit 1GiB (INGESTGW_MEMORY_LIMIT)",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in:\n%s", want, stdout)
		}
	}
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"version"}, exitOK, "ingestgw ", ""},
		{[]string{"help"}, exitOK, "usage:", ""},
		{[]string{"-h"}, exitOK, "usage:", ""},
		{[]string{"serve"}, exitUsage, "", `"serve"`},
		{[]string{"config", "-json"}, exitUsage, "", "usage:"},
		{[]string{"check", "all"}, exitUsage, "", "usage:"},
		{[]string{"version", "now"}, exitUsage, "", "usage:"},
		{[]string{""}, exitUsage, "", "usage:"},
	} {
		stdout, stderr, code := output(c.args...)
		if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%q: exit %d, printed %q, complained %q", c.args, code, stdout, stderr)
		}
	}
}

func TestStopScheduleFitsIntoTheTimeout(t *testing.T) {
	for _, c := range []struct{ delay, timeout time.Duration }{
		{5 * time.Second, 25 * time.Second}, {0, minStop}, {0, time.Hour}, {10 * time.Minute, 10*time.Minute + minStop},
	} {
		if err := (shutdownConfig{Delay: c.delay, Timeout: c.timeout}).Validate(); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		before := time.Now()
		s := newSchedule(c.delay, c.timeout)
		last := before.Add(c.delay)
		for i, next := range []time.Time{s.accepting, s.requests, s.flushed, s.saved, s.closed, s.end} {
			if i > 0 && next.Sub(last) < minStop/20 {
				t.Errorf("%v: step %d has %s", c, i, next.Sub(last))
			}
			last = next
		}
		// What is left after the last step is for the exit itself.
		if left := before.Add(c.timeout).Sub(s.end); left < minStop/10-time.Millisecond {
			t.Errorf("%v: %s are left at the end", c, left)
		}
	}
	for _, c := range []shutdownConfig{{Delay: -1, Timeout: time.Minute}, {Delay: 5 * time.Second, Timeout: 5 * time.Second}, {Timeout: minStop - 1}} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken for valid", c)
		}
	}
}
