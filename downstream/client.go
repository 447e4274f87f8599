package downstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	// idleTimeout is below vminsert's own minute (-http.idleConnTimeout), so that a connection is not taken up again at the
	// moment when the other side closes it.
	idleTimeout = 50 * time.Second
	// writeBuffer takes the head and the body of a usual record, so that they leave with one write; what does not fit is copied
	// through memory that net/http allocates for each request. Pages of it that are never written to cost nothing.
	writeBuffer = 128 << 10
	// pollBuffer takes the head of a request for metrics.
	pollBuffer = 2 << 10
	// writeGrace is more than a write to a connection that has been closed goes on for.
	writeGrace = time.Second
	// headerSeparator stands between the pairs of Headers, as in vmagent's -remoteWrite.headers: values may hold commas.
	headerSeparator = "^^"
	// tlsPrefix is what the names of the settings of TLS begin with.
	tlsPrefix = "INGESTGW_FORWARD_TLS"
)

// ClientConfig says how vminsert and vmstorage are spoken to. All files are read again when they change.
type ClientConfig struct {
	TLS                   credentials.TLSConfig
	Headers               settings.Secret `desc:"Headers sent along with every request to vminsert and vmstorage, as \"Name: value\", several separated by ^^. Empty: none."`
	BasicAuthUser         string          `split_words:"true" desc:"User name for basic authentication at vminsert and vmstorage. Empty: none, or what stands in the URL."`
	BasicAuthPasswordFile string          `split_words:"true" desc:"File that holds the password of FORWARD_BASIC_AUTH_USER; read again when it changes. Empty: no password."`
	BearerTokenFile       string          `split_words:"true" desc:"File that holds the bearer token sent to vminsert and vmstorage; read again when it changes. Empty: none."`
	MetricsAuthKeyFile    string          `split_words:"true" desc:"File that holds the value of -metricsAuthKey of vminsert and vmstorage, so that their /metrics can be read; read again when it changes. Empty: they ask for none."`
}

// Validate says all that is wrong, naming the settings as they are called below the prefix INGESTGW_FORWARD.
func (c ClientConfig) Validate() error {
	var errs []error
	if err := c.TLS.Validate(tlsPrefix); err != nil {
		errs = append(errs, err)
	}
	if c.BasicAuthPasswordFile != "" && c.BasicAuthUser == "" {
		errs = append(errs, errors.New("INGESTGW_FORWARD_BASIC_AUTH_PASSWORD_FILE is set without INGESTGW_FORWARD_BASIC_AUTH_USER"))
	}
	if c.BearerTokenFile != "" && c.BasicAuthUser != "" {
		errs = append(errs, errors.New("INGESTGW_FORWARD_BEARER_TOKEN_FILE and INGESTGW_FORWARD_BASIC_AUTH_USER exclude each other: set one of them"))
	}
	if _, err := parseHeaders(string(c.Headers)); err != nil {
		errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_HEADERS: %w", err))
	}
	return errors.Join(errs...)
}

// parseHeaders says in its errors which pair is at fault, and never what it holds.
func parseHeaders(s string) (http.Header, error) {
	headers := http.Header{}
	if strings.TrimSpace(s) == "" {
		return headers, nil
	}
	for i, pair := range strings.Split(s, headerSeparator) {
		name, value, ok := strings.Cut(pair, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("header %d is not of the form \"Name: value\"", i+1)
		}
		headers.Add(name, value)
	}
	return headers, nil
}

// Credentials are what a ClientConfig names, loaded from its files. They are shared by all clients and safe for concurrent use.
type Credentials struct {
	headers  http.Header
	user     string
	password *credentials.File[string]
	bearer   *credentials.File[string]
	authKey  *credentials.File[string]
	tls      *credentials.TLS
}

// LoadCredentials reads all files once; what cannot be read or parsed now is an error. A file that goes bad later is logged,
// and what it held before stays in use.
func LoadCredentials(cfg ClientConfig, log *slog.Logger) (*Credentials, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	headers, _ := parseHeaders(string(cfg.Headers)) // validated
	secure, err := credentials.LoadTLS(tlsPrefix, cfg.TLS, log)
	c := &Credentials{
		headers:  headers,
		user:     cfg.BasicAuthUser,
		password: credentials.Secret("INGESTGW_FORWARD_BASIC_AUTH_PASSWORD_FILE", cfg.BasicAuthPasswordFile, log),
		bearer:   credentials.Secret("INGESTGW_FORWARD_BEARER_TOKEN_FILE", cfg.BearerTokenFile, log),
		authKey:  credentials.Secret("INGESTGW_FORWARD_METRICS_AUTH_KEY_FILE", cfg.MetricsAuthKeyFile, log),
		tls:      secure,
	}
	return c, errors.Join(c.password.Load(), c.bearer.Load(), c.authKey.Load(), err)
}

// apply puts the headers and credentials on a request, except where the URL brings its own.
func (c *Credentials) apply(req *http.Request) {
	for name, values := range c.headers {
		if strings.EqualFold(name, "Host") {
			req.Host = values[0]
			continue
		}
		req.Header[name] = values
	}
	switch {
	case req.URL.User != nil:
		password, _ := req.URL.User.Password()
		req.SetBasicAuth(req.URL.User.Username(), password)
	case c.bearer.Configured():
		req.Header.Set("Authorization", "Bearer "+c.bearer.Get())
	case c.user != "":
		req.SetBasicAuth(c.user, c.password.Get())
	}
}

// A Client speaks HTTP/1.1 to one endpoint: it dials exactly Endpoint.Addr, with the Host header and the TLS name of
// Endpoint.Base. It follows no redirect, uses no proxy, and asks for no compression. It is safe for concurrent use.
type Client struct {
	credentials *Credentials
	transport   *http.Transport
}

// NewClient returns a client that keeps up to conns idle connections: as many as there are requests at one time, or each
// request above that number pays for a handshake of its own. It opens no more than that at once only if the caller does not.
func NewClient(ep Endpoint, credentials *Credentials, conns int) *Client {
	return newClient(ep, credentials, conns, writeBuffer)
}

// newPoller returns a client for requests without bodies, each on a connection of its own, which then costs little.
func newPoller(ep Endpoint, credentials *Credentials) *Client {
	return newClient(ep, credentials, 1, pollBuffer)
}

func newClient(ep Endpoint, credentials *Credentials, conns, writeBuffer int) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, ep.Addr)
		},
		TLSClientConfig:     credentials.tls.Config(ep.Base.Hostname()),
		TLSHandshakeTimeout: tlsTimeout,
		MaxIdleConns:        conns,
		MaxIdleConnsPerHost: conns,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true,
		WriteBufferSize:     writeBuffer,
		Protocols:           new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &Client{credentials: credentials, transport: transport}
}

// Do sends the request, with the configured headers and credentials added, and returns the answer whatever its status. It
// has no time-out but the request's context. The request's URL is made from the endpoint's (Endpoint.URL, Endpoint.MetricsURL);
// an error does not repeat it, as it may hold secrets.
// Once Do has returned an error, or the answer's body has been closed, nobody reads the request's body any more.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	c.credentials.apply(req)
	if req.Body == nil {
		return c.transport.RoundTrip(req)
	}
	w := &writing{ctx: req.Context(), ended: make(chan struct{}, 1)}
	resp, err := c.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn:      w.begin,
		WroteRequest: w.end,
	})))
	if err != nil { // net/http has stopped writing before it returned
		return nil, err
	}
	w.answer, resp.Body = resp.Body, w
	return resp, nil
}

// A writing is the body of an answer whose request may still be written: a server may answer before it has read all, and then
// net/http goes on writing for a moment. Closing the answer waits for the end of that.
type writing struct {
	ctx    context.Context // of the request
	answer io.ReadCloser
	ended  chan struct{} // holds a token when nothing is written any more
}

func (w *writing) begin(httptrace.GotConnInfo) {
	select {
	case <-w.ended: // of a try before, on another connection
	default:
	}
}

func (w *writing) end(httptrace.WroteRequestInfo) {
	select {
	case w.ended <- struct{}{}:
	default:
	}
}

func (w *writing) Read(b []byte) (int, error) { return w.answer.Read(b) }

// Close ends the writing too, as net/http closes a connection that is answered early. When the request's time is over it closes
// any, but tells of the end of a write only if that had begun: hence the grace.
func (w *writing) Close() error {
	err := w.answer.Close()
	select {
	case <-w.ended:
		return err
	case <-w.ctx.Done():
	}
	grace := time.NewTimer(writeGrace)
	defer grace.Stop()
	select {
	case <-w.ended:
	case <-grace.C:
	}
	return err
}

// Close closes the connections that are idle. The client can still be used.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
