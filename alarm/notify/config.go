package notify

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of who is told of alarms, read with prefix ALARM.
type Config struct {
	AlertmanagerURLs      settings.URLs         `split_words:"true" desc:"Alertmanagers that are told of alarms, by their API v2, such as http://alertmanager-0:9093 or, with a path prefix, https://example.com/alertmanager. Each alarm goes to all of them: name every one, not a load balancer. A user and a password may stand in the URL. No proxy is used. Empty: none."`
	AlertmanagerTokenFile string                `split_words:"true" desc:"File that holds the bearer token sent to the Alertmanagers whose URL has no user; read again when it changes. Empty: none."`
	AlertmanagerTLS       credentials.TLSConfig `split_words:"true"`
	WebhookURL            HookURL               `split_words:"true" desc:"URL where all alarms that fire or have just resolved are posted as JSON, as alarm/notify/FORMAT.md describes, on each change and every INGESTGW_ALARM_RESEND. A user and a password may stand in it; its path and its query are taken for secrets too. No proxy is used. Empty: none."`
	WebhookTokenFile      string                `split_words:"true" desc:"File that holds the bearer token sent to the webhook if its URL has no user; read again when it changes. Empty: none."`
	WebhookTLS            credentials.TLSConfig `split_words:"true"`
	Cluster               string                `default:"default" desc:"Name of the VictoriaMetrics cluster that this is in front of: the label cluster of each alert. All processes of one cluster need the same, or each gives a notification of its own. Empty: no such label."`
	TicketAfter           time.Duration         `split_words:"true" default:"45s" desc:"For how long a ticket has to have been seen until Alertmanagers and the webhook are told; pages are told at once. Most tickets that become a page have done so by then, and are told as what they are."`
	Resend                time.Duration         `default:"1m" desc:"How often an alarm that goes on is told again. An Alertmanager takes one for resolved when no process has told it for three times as long. At least 1s."`
	Timeout               time.Duration         `default:"10s" desc:"Longest time in which an Alertmanager or the webhook has to answer."`
	PageURL               settings.URL          `split_words:"true" desc:"Where people can open the page of the admin listener, such as https://ingestgw.example.com/: what alerts link to. Empty: no link."`
}

const (
	prefix          = "INGESTGW_ALARM"
	alertmanagerTLS = prefix + "_ALERTMANAGER_TLS"
	webhookTLS      = prefix + "_WEBHOOK_TLS"
	leastResend     = time.Second
)

// Validate says everything that is wrong, naming the variables. Nobody to tell is not wrong.
func (c Config) Validate() error {
	var errs []error
	bad := func(setting string, value any, want string) {
		errs = append(errs, fmt.Errorf("%s_%s=%v: want %s", prefix, setting, value, want))
	}
	for _, u := range c.AlertmanagerURLs {
		if !isHTTP(u) {
			bad("ALERTMANAGER_URLS", u, "http:// or https://")
		} else if strings.HasSuffix(strings.TrimRight(u.Path, "/"), alertsPath) {
			bad("ALERTMANAGER_URLS", u, "it without "+alertsPath+", which is added")
		}
	}
	if c.WebhookURL.isSet() && !isHTTP(c.WebhookURL.URL) {
		bad("WEBHOOK_URL", c.WebhookURL, "http:// or https://")
	}
	if c.PageURL.URL != nil && (!isHTTP(c.PageURL) || c.PageURL.User != nil) {
		bad("PAGE_URL", c.PageURL, "http:// or https://, and no user or password: everybody who gets an alert sees it")
	}
	if c.Resend < leastResend {
		bad("RESEND", c.Resend, leastResend.String()+" or more")
	}
	if c.TicketAfter < 0 {
		bad("TICKET_AFTER", c.TicketAfter, "0s or more")
	}
	if c.Timeout <= 0 {
		bad("TIMEOUT", c.Timeout, "more than 0")
	}
	return errors.Join(append(errs, c.AlertmanagerTLS.Validate(alertmanagerTLS), c.WebhookTLS.Validate(webhookTLS))...)
}

// page is PageURL's text, empty for none.
func (c Config) page() string {
	if c.PageURL.URL == nil {
		return ""
	}
	return c.PageURL.URL.String()
}

func isHTTP(u settings.URL) bool { return u.URL != nil && (u.Scheme == "http" || u.Scheme == "https") }

// HookURL is a URL of which only scheme and host are shown: in those of some services the path is the secret.
type HookURL struct{ settings.URL }

func (u HookURL) isSet() bool { return u.URL.URL != nil }

// String is scheme and host, with *** for all else that is there.
func (u HookURL) String() string {
	if !u.isSet() {
		return ""
	}
	text := u.Scheme + "://" + u.Host
	if u.User != nil || u.Path != "" || u.RawQuery != "" {
		text += "/***"
	}
	return text
}

// MarshalText is String, for JSON and logs.
func (u HookURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Format writes String whatever the verb.
func (u HookURL) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// LogValue is String.
func (u HookURL) LogValue() slog.Value { return slog.StringValue(u.String()) }
