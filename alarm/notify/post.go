package notify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials"
)

const (
	dialTimeout = 5 * time.Second
	idleTimeout = 50 * time.Second
	// maxAnswer bounds what is read of an answer, and maxShown what of it is shown, in bytes.
	maxAnswer = 4 << 10
	maxShown  = 200
)

// A poster says how one target is spoken to: where, with which credentials, in which format.
type poster struct {
	format
	setting string   // that names it
	address string   // host:port, which is all of the URL that may be seen
	url     *url.URL // without the user
	user    *url.Userinfo
	bearer  *credentials.File[string]
	client  *http.Client
}

// A format is what is told, and of which alarms.
type format interface {
	// tellings are those that the target is to know.
	tellings(*report) map[telling]bool
	// body is what is sent, to be made JSON of.
	body(r *report, now time.Time) any
}

// A server is what the settings say of the Alertmanagers, or of the webhook.
type server struct {
	setting   string
	tokenFile string
	tls       credentials.TLSConfig
}

// posters are one for each target.
func posters(cfg Config, process string, log *slog.Logger) ([]*poster, error) {
	var list []*poster
	var errs []error
	add := func(s server, f format, urls ...*url.URL) {
		some, err := s.posters(f, urls, log)
		list, errs = append(list, some...), append(errs, err)
	}
	var alertmanagers []*url.URL
	for _, u := range cfg.AlertmanagerURLs {
		alertmanagers = append(alertmanagers, u.JoinPath(alertsPath))
	}
	add(server{prefix + "_ALERTMANAGER", cfg.AlertmanagerTokenFile, cfg.AlertmanagerTLS}, newAlerts(cfg, process), alertmanagers...)
	if cfg.WebhookURL.isSet() {
		add(server{prefix + "_WEBHOOK", cfg.WebhookTokenFile, cfg.WebhookTLS}, newHook(cfg, process), cfg.WebhookURL.URL.URL)
	}
	return list, errors.Join(errs...)
}

func (s server) posters(f format, urls []*url.URL, log *slog.Logger) ([]*poster, error) {
	secure, err := credentials.LoadTLS(s.setting+"_TLS", s.tls, log)
	bearer := credentials.Secret(s.setting+"_TOKEN_FILE", s.tokenFile, log)
	if err := errors.Join(err, bearer.Load()); err != nil {
		return nil, err
	}
	var list []*poster
	for _, u := range urls {
		bare := *u
		bare.User, bare.Fragment = nil, ""
		list = append(list, &poster{
			format: f, setting: s.setting, address: address(u), url: &bare, user: u.User, bearer: bearer, client: client(secure, u),
		})
	}
	return list, nil
}

// address is host:port, also where the URL leaves the port to its scheme.
func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// client speaks to one target. It follows no redirect and uses no proxy.
func client(secure *credentials.TLS, u *url.URL) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:     secure.Config(u.Hostname()),
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     idleTimeout,
		},
	}
}

// post sends the report. A *refusal says that the same will not be taken later either; any other error, that it may. When ctx's time is
// over it is ctx's cause.
func (p *poster) post(ctx context.Context, r *report) error {
	body, err := json.Marshal(p.body(r, time.Now()))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return unseen(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "ingestgw")
	req.Header["Idempotency-Key"] = nil // not sent; net/http may then repeat what an idle connection has swallowed
	if auth := p.authorization(); auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := p.client.Do(req)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return unseen(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status says all; this is for people, and spares the connection
	return p.judge(resp.StatusCode, answer)
}

// authorization is the header of that name; empty when there are no credentials.
func (p *poster) authorization() string {
	switch {
	case p.user != nil:
		password, _ := p.user.Password()
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user.Username()+":"+password))
	case p.bearer.Configured():
		return "Bearer " + p.bearer.Get()
	}
	return ""
}

// late says that there was no answer in time.
func late(timeout time.Duration) error {
	return fmt.Errorf("no answer within %s_TIMEOUT=%v", prefix, timeout)
}

// unseen is err without the URL.
func unseen(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// A refusal is an answer that will be the same to the same request.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func (p *poster) judge(status int, answer []byte) error {
	text := fmt.Sprintf("status %d%s%s", status, p.hint(status), p.excerpt(answer))
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return errors.New(text)
	}
	return &refusal{text}
}

// hint says what to look at.
func (p *poster) hint(status int) string {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return fmt.Sprintf(": look at the user in the URL, or %s_TOKEN_FILE", p.setting)
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return ": is the URL right?"
	case status >= 300 && status < 400:
		return ", a redirect, which is not followed: is the URL right?"
	}
	return ""
}

// excerpt is the beginning of an answer, without anything secret that we have sent and that is repeated there.
// KNOWN GAP: a server may repeat it in an encoding that is not recognised.
func (p *poster) excerpt(answer []byte) string {
	text, longest := strings.ToValidUTF8(string(answer), "�"), 0
	for _, secret := range p.secrets() {
		text, longest = strings.ReplaceAll(text, secret, "***"), max(longest, len(secret))
	}
	if len(answer) >= maxAnswer { // it may end within a secret
		text = text[:max(0, len(text)-longest)]
	}
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	return fmt.Sprintf(", %q", text[:min(len(text), maxShown)])
}

// secrets are the parts of a request that may be seen nowhere, long ones first.
func (p *poster) secrets() []string {
	_, credential, _ := strings.Cut(p.authorization(), " ")
	list := []string{credential, p.url.RequestURI(), p.url.EscapedPath(), p.url.Path, p.url.RawQuery}
	if p.user != nil {
		password, _ := p.user.Password()
		list = append(list, password, p.user.Username())
	}
	var there []string
	for _, s := range list {
		if len(s) > 1 { // "/" is no secret
			there = append(there, s)
		}
	}
	return there
}
