package downstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	// idleTimeout is below vminsert's own minute (-http.idleConnTimeout), so that a connection is not taken up again at the
	// moment when the other side closes it.
	idleTimeout = 50 * time.Second
	// recheckFile is how long a credential is used before its file is looked at again.
	recheckFile = 3 * time.Second
	// maxSecretFile bounds what is read from the file of a password, token or key.
	maxSecretFile = 64 << 10
	// writeBuffer takes the head and the body of a usual record, so that they leave with one write; what does not fit is copied
	// through memory that net/http allocates for each request. Pages of it that are never written to cost nothing.
	writeBuffer = 128 << 10
	// headerSeparator stands between the pairs of Headers, as in vmagent's -remoteWrite.headers: values may hold commas.
	headerSeparator = "^^"
)

// ClientConfig says how vminsert and vmstorage are spoken to. All files are read again when they change.
type ClientConfig struct {
	TLS                   TLSConfig
	Headers               settings.Secret `desc:"Headers sent along with every request to vminsert and vmstorage, as \"Name: value\", several separated by ^^. Empty: none."`
	BasicAuthUser         string          `split_words:"true" desc:"User name for basic authentication at vminsert and vmstorage. Empty: none, or what stands in the URL."`
	BasicAuthPasswordFile string          `split_words:"true" desc:"File that holds the password of FORWARD_BASIC_AUTH_USER; read again when it changes. Empty: no password."`
	BearerTokenFile       string          `split_words:"true" desc:"File that holds the bearer token sent to vminsert and vmstorage; read again when it changes. Empty: none."`
	MetricsAuthKeyFile    string          `split_words:"true" desc:"File that holds the value of -metricsAuthKey of vminsert and vmstorage, so that their /metrics can be read; read again when it changes. Empty: they ask for none."`
}

// TLSConfig says whom to trust and what to show when a URL begins with https.
type TLSConfig struct {
	CAFile             string `split_words:"true" desc:"File with the PEM certificates of the authorities that vminsert's and vmstorage's certificates are checked against. Empty: those of the system."`
	CertFile           string `split_words:"true" desc:"File with the PEM certificate chain shown to vminsert and vmstorage. Empty: none is shown."`
	KeyFile            string `split_words:"true" desc:"File with the PEM private key of FORWARD_TLS_CERT_FILE. Empty: no certificate is shown."`
	ServerName         string `split_words:"true" desc:"Name that the certificates of vminsert and vmstorage must be valid for. Empty: the host of the URL."`
	InsecureSkipVerify bool   `split_words:"true" default:"false" desc:"Whether certificates of vminsert and vmstorage are taken unchecked. Anybody on the way could then read and change what is sent."`
}

// Validate says all that is wrong, naming the settings as they are called below the prefix INGESTGW_FORWARD.
func (c ClientConfig) Validate() error {
	var errs []error
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("INGESTGW_FORWARD_TLS_CERT_FILE and INGESTGW_FORWARD_TLS_KEY_FILE belong together: set both or none"))
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
	password *watchedFile[string]
	bearer   *watchedFile[string]
	authKey  *watchedFile[string]

	serverName string
	insecure   bool
	roots      *watchedFile[*x509.CertPool]
	cert       *watchedFile[*tls.Certificate]
}

// LoadCredentials reads all files once; what cannot be read or parsed now is an error. A file that goes bad later is logged,
// and what it held before stays in use.
func LoadCredentials(cfg ClientConfig, log *slog.Logger) (*Credentials, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	headers, _ := parseHeaders(string(cfg.Headers)) // validated
	c := &Credentials{
		headers:    headers,
		user:       cfg.BasicAuthUser,
		password:   watch("FORWARD_BASIC_AUTH_PASSWORD_FILE", readSecret, log, cfg.BasicAuthPasswordFile),
		bearer:     watch("FORWARD_BEARER_TOKEN_FILE", readSecret, log, cfg.BearerTokenFile),
		authKey:    watch("FORWARD_METRICS_AUTH_KEY_FILE", readSecret, log, cfg.MetricsAuthKeyFile),
		serverName: cfg.TLS.ServerName,
		insecure:   cfg.TLS.InsecureSkipVerify,
		roots:      watch("FORWARD_TLS_CA_FILE", readRoots, log, cfg.TLS.CAFile),
		cert:       watch("FORWARD_TLS_CERT_FILE", readCert, log, cfg.TLS.CertFile, cfg.TLS.KeyFile),
	}
	return c, errors.Join(c.password.load(), c.bearer.load(), c.authKey.load(), c.roots.load(), c.cert.load())
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
	case req.URL.User != nil: // net/http makes the header of it
	case c.bearer.configured():
		req.Header.Set("Authorization", "Bearer "+c.bearer.get())
	case c.user != "":
		req.SetBasicAuth(c.user, c.password.get())
	}
}

// tlsConfig is for one host. The authorities are looked up at each handshake, because tls.Config cannot change its own.
func (c *Credentials) tlsConfig(host string) *tls.Config {
	name := c.serverName
	if name == "" {
		name = host
	}
	cfg := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if c.cert.configured() {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert.get(), nil }
	}
	cfg.InsecureSkipVerify = true // the check is VerifyConnection's, with the authorities of the moment
	if !c.insecure {
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return verify(state, name, c.roots.get()) }
	}
	return cfg
}

// verify does what crypto/tls does by itself for roots that do not change; nil roots are the system's.
func verify(state tls.ConnectionState, name string, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	opts := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return fmt.Errorf("certificate check (INGESTGW_FORWARD_TLS_CA_FILE, INGESTGW_FORWARD_TLS_SERVER_NAME): %w", err)
	}
	return nil
}

// A Client speaks HTTP/1.1 to one endpoint: it dials exactly Endpoint.Addr, with the Host header and the TLS name of
// Endpoint.Base. It follows no redirect, uses no proxy, and asks for no compression. It is safe for concurrent use.
type Client struct {
	credentials *Credentials
	transport   *http.Transport
	http        *http.Client
}

// NewClient returns a client that keeps up to conns idle connections: as many as there are requests at one time, or each
// request above that number pays for a handshake of its own. It opens no more than that at once only if the caller does not.
func NewClient(ep Endpoint, credentials *Credentials, conns int) *Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, ep.Addr)
		},
		TLSClientConfig:     credentials.tlsConfig(ep.Base.Hostname()),
		TLSHandshakeTimeout: tlsTimeout,
		MaxIdleConns:        conns,
		MaxIdleConnsPerHost: conns,
		IdleConnTimeout:     idleTimeout,
		DisableCompression:  true,
		WriteBufferSize:     writeBuffer,
		Protocols:           new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return &Client{
		credentials: credentials,
		transport:   transport,
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Do sends the request, with the configured headers and credentials added, and returns the answer whatever its status. It
// has no time-out but the request's context. The request's URL is made from the endpoint's (Endpoint.URL, Endpoint.MetricsURL).
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	c.credentials.apply(req)
	return c.http.Do(req)
}

// Close closes the connections that are idle. The client can still be used.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// A watchedFile holds what was made of one or more files, and makes it anew when they change. Without a name it holds the
// zero value of T.
type watchedFile[T any] struct {
	setting string
	names   []string
	read    func(names []string) (T, error)
	log     *slog.Logger

	mu      sync.Mutex
	value   T
	stamp   string // what os.Stat said when value was read
	checked time.Time
	failing bool
}

func watch[T any](setting string, read func([]string) (T, error), log *slog.Logger, names ...string) *watchedFile[T] {
	if names[0] == "" {
		names = nil
	}
	return &watchedFile[T]{setting: "INGESTGW_" + setting, names: names, read: read, log: log}
}

func (f *watchedFile[T]) configured() bool { return len(f.names) > 0 }

func (f *watchedFile[T]) load() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.configured() {
		return nil
	}
	if err := f.reread(); err != nil {
		return fmt.Errorf("%s: %w", f.setting, err)
	}
	return nil
}

// get returns the value, after looking at the files if that was not done within the last seconds.
func (f *watchedFile[T]) get() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.configured() || time.Since(f.checked) < recheckFile {
		return f.value
	}
	err := f.reread()
	if err != nil && !f.failing {
		f.log.Error("cannot read a credential again, going on with the one read before", "setting", f.setting, "err", err)
	}
	f.failing = err != nil
	return f.value
}

func (f *watchedFile[T]) reread() error {
	f.checked = time.Now()
	stamp, err := stampOf(f.names)
	if err != nil {
		return err
	}
	if stamp == f.stamp {
		return nil
	}
	value, err := f.read(f.names)
	if err != nil {
		return err
	}
	f.value, f.stamp = value, stamp
	return nil
}

// stampOf changes when a file does, also when Kubernetes swaps the link that a mounted Secret is.
func stampOf(names []string) (string, error) {
	var stamp strings.Builder
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&stamp, "%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return stamp.String(), nil
}

func readSecret(names []string) (string, error) {
	info, err := os.Stat(names[0])
	if err != nil {
		return "", err
	}
	if info.Size() > maxSecretFile {
		return "", fmt.Errorf("%s has %d bytes; at most %d are read as a secret", names[0], info.Size(), maxSecretFile)
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(content), "\r\n")
	if secret == "" || !httpguts.ValidHeaderFieldValue(secret) {
		return "", fmt.Errorf("%s: want one line that is not empty", names[0])
	}
	return secret, nil
}

func readRoots(names []string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(names[0])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", names[0])
	}
	return pool, nil
}

func readCert(names []string) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(names[0], names[1])
	if err != nil {
		return nil, err
	}
	return &cert, nil
}
