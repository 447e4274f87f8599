package credentials

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// ListenerConfig is the settings of TLS on a listener of ours.
type ListenerConfig struct {
	CertFile     string `split_words:"true" desc:"File with the PEM certificate chain of this listener; read again when it changes. Empty: the listener speaks plain HTTP."`
	KeyFile      string `split_words:"true" desc:"File with the PEM private key of that certificate."`
	ClientCAFile string `split_words:"true" desc:"File with the PEM certificates of the authorities that issue senders' certificates; read again when it changes. A certificate that none of them has issued ends the connection; a sender without one needs another credential. Empty: senders are not asked for certificates."`
}

// Validate says what is wrong. prefix is what the variables' names begin with, such as INGESTGW_INGEST_TLS.
func (c ListenerConfig) Validate(prefix string) error {
	if (c.CertFile == "") != (c.KeyFile == "") {
		return fmt.Errorf("%s_CERT_FILE and %s_KEY_FILE belong together: set both or none", prefix, prefix)
	}
	if c.ClientCAFile != "" && c.CertFile == "" {
		return fmt.Errorf("%s_CLIENT_CA_FILE=%s: certificates of senders are seen with TLS only: set %s_CERT_FILE too", prefix, c.ClientCAFile, prefix)
	}
	return nil
}

// Listener is what a ListenerConfig names, loaded from its files. It is safe for concurrent use.
type Listener struct {
	cert    *File[*tls.Certificate]
	clients *File[*x509.CertPool]
}

// LoadListener reads the files that cfg names, as File.Load does. prefix is as for ListenerConfig.Validate.
func LoadListener(prefix string, cfg ListenerConfig, log *slog.Logger) (*Listener, error) {
	l := &Listener{
		cert:    watch(prefix+"_CERT_FILE", readCert, log, cfg.CertFile, cfg.KeyFile),
		clients: watch(prefix+"_CLIENT_CA_FILE", readRoots, log, cfg.ClientCAFile),
	}
	return l, errors.Join(l.cert.Load(), l.clients.Load())
}

// Expires is when the certificate that is shown now is valid no longer; false when there is none.
func (l *Listener) Expires() (time.Time, bool) {
	cert := l.cert.Get()
	if cert == nil || cert.Leaf == nil {
		return time.Time{}, false
	}
	return cert.Leaf.NotAfter, true
}

// Config is for the listener; nil when it is to speak plain HTTP. Each handshake goes by the files as they are then.
func (l *Listener) Config() *tls.Config {
	if !l.cert.Configured() {
		return nil
	}
	base := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	base.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return l.cert.Get(), nil }
	if !l.clients.Configured() {
		return base
	}
	base.ClientAuth = tls.VerifyClientCertIfGiven
	base.SessionTicketsDisabled = true // who was let in once is looked at again
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.GetConfigForClient = nil
		now.ClientCAs = l.clients.Get()
		return now, nil
	}
	return base
}
