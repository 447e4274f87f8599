package credentials_test

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
)

func load(t *testing.T, cfg credentials.ListenerConfig) *credentials.Listener {
	t.Helper()
	l, err := credentials.LoadListener("INGESTGW_INGEST_TLS", cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// handshake connects a client to a server, and returns what the server knows of the client, and what either complains of.
func handshake(t *testing.T, server, client *tls.Config) (state tls.ConnectionState, err error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() { served <- serveOne(l, &state) }() // ends when the client has gone; served tells
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		_, err = io.ReadAll(conn) // TLS 1.3 tells a client only then that its certificate was refused
		conn.Close()
	}
	if serverErr := <-served; serverErr != nil {
		return state, serverErr
	}
	return state, err
}

func serveOne(l net.Listener, state *tls.ConnectionState) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	secure := conn.(*tls.Conn)
	if err := secure.Handshake(); err != nil {
		return err
	}
	*state = secure.ConnectionState()
	return nil
}

func client(t *testing.T, ca *credentialstest.Authority, certFile, keyFile string) *tls.Config {
	t.Helper()
	cfg := &tls.Config{RootCAs: ca.Pool(), ServerName: "gateway.example"}
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		// Certificates would be left at home when the server does not ask for their authority.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	return cfg
}

func TestCertificatesOfSendersAreCheckedAndNotRequired(t *testing.T) {
	ours, theirs, others := credentialstest.NewAuthority(t, "ours"), credentialstest.NewAuthority(t, "theirs"), credentialstest.NewAuthority(t, "others")
	cert, key := ours.Issue(t, pkix.Name{CommonName: "gateway"}, "gateway.example")
	server := load(t, credentials.ListenerConfig{CertFile: cert, KeyFile: key, ClientCAFile: theirs.File(t)}).Config()
	known, knownKey := theirs.Issue(t, pkix.Name{CommonName: "agent"})
	foreign, foreignKey := others.Issue(t, pkix.Name{CommonName: "agent"})

	state, err := handshake(t, server, client(t, ours, known, knownKey))
	if err != nil || len(state.VerifiedChains) != 1 || state.VerifiedChains[0][0].Subject.CommonName != "agent" {
		t.Errorf("a certificate of the right authority: %v, chains %v", err, state.VerifiedChains)
	}
	if state, err := handshake(t, server, client(t, ours, "", "")); err != nil || len(state.VerifiedChains) != 0 {
		t.Errorf("no certificate: %v, chains %v", err, state.VerifiedChains)
	}
	if _, err := handshake(t, server, client(t, ours, foreign, foreignKey)); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("a certificate of another authority: %v", err)
	}
}

func TestNewCertificatesAreUsedWithoutARestart(t *testing.T) {
	first, second := credentialstest.NewAuthority(t, "first"), credentialstest.NewAuthority(t, "second")
	cert, key := first.Issue(t, pkix.Name{CommonName: "gateway"}, "gateway.example")
	clients := first.File(t)
	server := load(t, credentials.ListenerConfig{CertFile: cert, KeyFile: key, ClientCAFile: clients}).Config()
	known, knownKey := second.Issue(t, pkix.Name{CommonName: "agent"})
	if _, err := handshake(t, server, client(t, first, known, knownKey)); err == nil {
		t.Error("a certificate of the second authority is taken before it is there")
	}

	newCert, newKey := second.Issue(t, pkix.Name{CommonName: "gateway"}, "gateway.example")
	replace(t, cert, newCert)
	replace(t, key, newKey)
	replace(t, clients, second.File(t))
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := handshake(t, server, client(t, second, known, knownKey))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still not: %v", err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

func TestExpiryIsThatOfTheCertificateShownNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := credentialstest.NewAuthority(t, "ours")
		cert, key := ours.Issue(t, pkix.Name{CommonName: "gateway"})
		first := time.Now().Add(time.Hour)
		l := load(t, credentials.ListenerConfig{CertFile: cert, KeyFile: key})
		if at, known := l.Expires(); !known || !at.Equal(first) {
			t.Errorf("it expires at %v, want %v", at, first)
		}
		time.Sleep(time.Minute)
		newCert, newKey := ours.Issue(t, pkix.Name{CommonName: "gateway"})
		replace(t, cert, newCert)
		replace(t, key, newKey)
		if at, _ := l.Expires(); !at.Equal(first.Add(time.Minute)) {
			t.Errorf("after it was replaced it expires at %v, want %v", at, first.Add(time.Minute))
		}
		if _, known := load(t, credentials.ListenerConfig{}).Expires(); known {
			t.Error("there is an expiry without a certificate")
		}
	})
}

// replace does what a mounted Secret does: another file under the same name, at once.
func replace(t *testing.T, path, by string) {
	t.Helper()
	if err := os.Rename(by, path); err != nil {
		t.Fatal(err)
	}
}

func TestListenerSettingsThatDoNotGoTogether(t *testing.T) {
	for want, cfg := range map[string]credentials.ListenerConfig{
		"":                            {},
		"INGESTGW_X_KEY_FILE":         {CertFile: "c"},
		"INGESTGW_X_CERT_FILE":        {KeyFile: "k"},
		"INGESTGW_X_CLIENT_CA_FILE=a": {ClientCAFile: "a"},
	} {
		if err := cfg.Validate("INGESTGW_X"); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
	if l := load(t, credentials.ListenerConfig{}); l.Config() != nil {
		t.Error("TLS without a certificate")
	}
	if _, err := credentials.LoadListener("INGESTGW_X", credentials.ListenerConfig{CertFile: "/none", KeyFile: "/none"}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a certificate that is not there is no error")
	}
}
