package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
)

// TLSConfig is the settings that say whom to trust and what to show on TLS connections that we open.
type TLSConfig struct {
	CAFile             string `split_words:"true" desc:"File with the PEM certificates of the authorities that the servers' certificates are checked against; read again when it changes. Empty: those of the system."`
	CertFile           string `split_words:"true" desc:"File with the PEM certificate chain shown to the servers; read again when it changes. Empty: none is shown."`
	KeyFile            string `split_words:"true" desc:"File with the PEM private key of that certificate. Empty: no certificate is shown."`
	ServerName         string `split_words:"true" desc:"Name that the servers' certificates must be valid for. Empty: the host that is connected to."`
	InsecureSkipVerify bool   `split_words:"true" default:"false" desc:"Whether the servers' certificates are taken unchecked. Anybody on the way could then read and change what is sent."`
}

// Validate says what is wrong. prefix is what the variables' names begin with, such as INGESTGW_FORWARD_TLS.
func (c TLSConfig) Validate(prefix string) error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return fmt.Errorf("%s_CERT_FILE and %s_KEY_FILE belong together: set both or none", prefix, prefix)
	}
	return nil
}

// TLS is what a TLSConfig names, loaded from its files. It is safe for concurrent use.
type TLS struct {
	prefix     string
	serverName string
	insecure   bool
	roots      *File[*x509.CertPool]
	cert       *File[*tls.Certificate]
}

// LoadTLS reads the files that cfg names, as File.Load does. prefix is as for TLSConfig.Validate.
func LoadTLS(prefix string, cfg TLSConfig, log *slog.Logger) (*TLS, error) {
	t := &TLS{
		prefix:     prefix,
		serverName: cfg.ServerName,
		insecure:   cfg.InsecureSkipVerify,
		roots:      watch(prefix+"_CA_FILE", readRoots, log, cfg.CAFile),
		cert:       watch(prefix+"_CERT_FILE", readCert, log, cfg.CertFile, cfg.KeyFile),
	}
	return t, errors.Join(t.roots.Load(), t.cert.Load())
}

// Config is for connections to one host. The authorities are looked up at each handshake, because tls.Config cannot change its
// own.
func (t *TLS) Config(host string) *tls.Config {
	name := t.serverName
	if name == "" {
		name = host
	}
	cfg := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12}
	if t.cert.Configured() {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.cert.Get(), nil }
	}
	cfg.InsecureSkipVerify = true // the check is VerifyConnection's, with the authorities of the moment
	if !t.insecure {
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return t.verify(state, name) }
	}
	return cfg
}

// verify does what crypto/tls does by itself for authorities that do not change; without a file they are the system's.
func (t *TLS) verify(state tls.ConnectionState, name string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	opts := x509.VerifyOptions{DNSName: name, Roots: t.roots.Get(), Intermediates: x509.NewCertPool()}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return fmt.Errorf("certificate check (%s_CA_FILE, %s_SERVER_NAME): %w", t.prefix, t.prefix, err)
	}
	return nil
}

func readRoots(names []string) (*x509.CertPool, error) {
	pem, err := readFile(names[0], maxKeysFile)
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
	chain, err := readFile(names[0], maxKeysFile)
	if err != nil {
		return nil, err
	}
	key, err := readFile(names[1], maxKeysFile)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", names[0], names[1], err)
	}
	return &cert, nil
}
