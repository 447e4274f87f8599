package notify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/settings"
)

func TestSettingsAreReadFromTheEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"ALERTMANAGER_URLS": "http://a:9093,https://u:p@b/am", "ALERTMANAGER_TOKEN_FILE": "/t", "ALERTMANAGER_TLS_CA_FILE": "/ca",
		"WEBHOOK_URL": "https://hooks.example.com/secret/path?x=1", "WEBHOOK_TOKEN_FILE": "/w", "WEBHOOK_TLS_CA_FILE": "/wca",
		"CLUSTER": "eu", "RESEND": "30s", "TIMEOUT": "5s", "PAGE_URL": "https://gw/",
	} {
		t.Setenv("INGESTGW_ALARM_"+name, value)
	}
	var c Config
	group := settings.Group{Prefix: "ALARM", Title: "Alarms", Config: &c}
	if err := settings.Load("INGESTGW", group); err != nil {
		t.Fatal(err)
	}
	if len(c.AlertmanagerURLs) != 2 || c.AlertmanagerTokenFile != "/t" || c.AlertmanagerTLS.CAFile != "/ca" || c.WebhookTokenFile != "/w" ||
		c.WebhookTLS.CAFile != "/wca" || c.Cluster != "eu" || c.Resend != 30*time.Second || c.Timeout != 5*time.Second ||
		c.PageURL.Host != "gw" || c.WebhookURL.Path != "/secret/path" {
		t.Errorf("read %+v", c)
	}
	var shown strings.Builder
	if err := settings.Print(&shown, settings.Describe("INGESTGW", group)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shown.String(), "secret/path") || !strings.Contains(shown.String(), "INGESTGW_ALARM_WEBHOOK_URL=https://hooks.example.com/***\n") {
		t.Errorf("shown are %s", shown.String())
	}
}

func TestTheDefaultsAreGood(t *testing.T) {
	var c Config
	if err := settings.Load("INGESTGW", settings.Group{Prefix: "ALARM", Config: &c}); err != nil {
		t.Fatal(err)
	}
	if c.Cluster != "default" || c.Resend != time.Minute || c.Timeout != 10*time.Second || c.WebhookURL.isSet() || len(c.AlertmanagerURLs) > 0 {
		t.Errorf("defaults are %+v", c)
	}
}

func TestWhatIsWrongWithSettingsIsNamed(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"INGESTGW_ALARM_ALERTMANAGER_URLS=ftp://am:1: want http":                     func(c *Config) { c.AlertmanagerURLs = settings.URLs{parse(t, "ftp://am:1")} },
		"INGESTGW_ALARM_ALERTMANAGER_URLS=http://am/api/v2/alerts/: want it without": func(c *Config) { c.AlertmanagerURLs = settings.URLs{parse(t, "http://am/api/v2/alerts/")} },
		"INGESTGW_ALARM_WEBHOOK_URL=dns+srv:http://hook/***: want http":              func(c *Config) { _ = c.WebhookURL.UnmarshalText([]byte("dns+srv:http://hook/secret")) },
		"INGESTGW_ALARM_PAGE_URL=https://u:***@gw: want":                             func(c *Config) { c.PageURL = parse(t, "https://u:p@gw") },
		"INGESTGW_ALARM_RESEND=999ms: want 1s or more":                               func(c *Config) { c.Resend = 999 * time.Millisecond },
		"INGESTGW_ALARM_TIMEOUT=0s: want more than 0":                                func(c *Config) { c.Timeout = 0 },
		"INGESTGW_ALARM_WEBHOOK_TLS_CERT_FILE":                                       func(c *Config) { c.WebhookTLS.CertFile = "x" },
		"INGESTGW_ALARM_ALERTMANAGER_TLS_CERT_FILE":                                  func(c *Config) { c.AlertmanagerTLS.KeyFile = "x" },
	} {
		c := config(t, "http://am:9093")
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := config(t).Validate(); err != nil {
		t.Errorf("nobody to tell: %v", err)
	}
}

func TestAWebhookIsShownWithoutWhatMayBeSecret(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"https://h:1":             "https://h:1",
		"https://h/services/T/B":  "https://h/***",
		"https://user:pw@h":       "https://h/***",
		"https://h?authKey=12345": "https://h/***",
	} {
		var u HookURL
		if err := u.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		json, _ := u.MarshalText()
		for _, got := range []string{u.String(), fmt.Sprintf("%v", u), fmt.Sprintf("%+v", u), u.LogValue().String(), string(json)} {
			if got != want {
				t.Errorf("%s is shown as %s", text, got)
			}
		}
	}
}
