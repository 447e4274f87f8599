package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials"
)

const (
	dialTimeout = 5 * time.Second
	idleTimeout = 50 * time.Second
)

// An asker posts questions to the directory.
type asker struct {
	url     string
	timeout time.Duration
	bearer  *credentials.File[string]
	client  *http.Client
}

func newAsker(cfg Config, log *slog.Logger) (*asker, error) {
	secure, err := credentials.LoadTLS(tlsPrefix, cfg.TLS, log)
	a := &asker{
		url:     cfg.URL.URL.String(),
		timeout: cfg.Timeout,
		bearer:  credentials.Secret(prefix+"_BEARER_TOKEN_FILE", cfg.BearerTokenFile, log),
	}
	if err := errors.Join(err, a.bearer.Load()); err != nil {
		return nil, err
	}
	a.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSClientConfig:     secure.Config(cfg.URL.Hostname()),
			MaxIdleConnsPerHost: cfg.Concurrency,
			IdleConnTimeout:     idleTimeout,
		},
	}
	return a, nil
}

// ask returns what the directory says. errUnknown and a *malformed are the word of a directory that is there; any other error
// means that it is down, or cannot be reached by us.
func (a *asker) ask(ctx context.Context, q question, about key) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(q.json()))
	if err != nil {
		return verdict{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header["Idempotency-Key"] = nil // not sent; net/http may then repeat what an idle connection has swallowed
	if a.bearer.Configured() {
		req.Header.Set("Authorization", "Bearer "+a.bearer.Get())
	}
	resp, err := a.client.Do(req)
	if err != nil {
		var outer *url.Error // it quotes the URL
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return verdict{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return verdict{}, err
	}
	return read(resp.StatusCode, body, about)
}

// A malformed is why an answer cannot be understood. The directory is not down, but what it says is of no use.
type malformed struct{ err error }

func (m *malformed) Error() string { return "malformed answer: " + m.err.Error() }
func (m *malformed) Unwrap() error { return m.err }

// read tells a directory that does not know a credential from one that refuses us, and from a server that is no directory:
// nobody may be turned away for good because of a wrong URL.
func read(status int, body []byte, about key) (verdict, error) {
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return verdict{}, fmt.Errorf("it refuses us with status %d: look at %s_BEARER_TOKEN_FILE and %s_CERT_FILE", status, prefix, tlsPrefix)
	case status == http.StatusNotFound && saysUnknown(body):
		return verdict{}, errUnknown
	case status == http.StatusNotFound:
		return verdict{}, fmt.Errorf("status 404 without {\"unknown\":true}: is %s_URL right?", prefix)
	case status != http.StatusOK:
		return verdict{}, fmt.Errorf("status %d", status)
	case len(body) > maxAnswer:
		return verdict{}, &malformed{fmt.Errorf("more than %d bytes", maxAnswer)}
	}
	v, err := decode(body, about)
	if err != nil && !errors.Is(err, errUnknown) {
		err = &malformed{err}
	}
	return v, err
}

func saysUnknown(body []byte) bool {
	var j struct {
		Unknown bool `json:"unknown"`
	}
	return json.Unmarshal(body, &j) == nil && j.Unknown
}
