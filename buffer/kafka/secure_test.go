package kafka

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
)

func textFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// secureKafka has certificates of an authority, and wants clients to have some of it as well if mutual.
func secureKafka(t *testing.T, of *credentialstest.Authority, mutual bool, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(of.Issue(t, pkix.Name{CommonName: "broker"}))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}}
	if mutual {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, of.Pool()
	}
	return fakeKafka(t, append(options, kfake.TLS(cfg))...)
}

// wantServed says whether blocks are stored and consumed by a group.
func wantServed(t *testing.T, cfg Config) {
	t.Helper()
	cfg.Partitions = 1
	s := mustOpen(t, cfg, nil)
	all := put(t, s, 3)
	p := consume(t, s, "g").one()
	if texts, _ := readUpTo(t, p, 0, 3); len(texts) != len(all) {
		t.Errorf("%d of %d blocks were read", len(texts), len(all))
	}
	save(t, p, 2)
	wantDone(t, load(t, p), 2)
}

// wantRefused says whether blocks are refused with a reason, and nothing else is told: not the secrets.
func wantRefused(t *testing.T, cfg Config, reason string, secrets ...string) {
	t.Helper()
	var log safeBuffer
	s, err := open(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	p := newPaper()
	err = s.Append(soon(t), buffer.Main, p.Block)
	if !errors.Is(err, buffer.ErrUnavailable) || !strings.Contains(err.Error(), reason) {
		t.Errorf("append: %v\nwant %q", err, reason)
	}
	if !strings.Contains(log.String(), reason) {
		t.Errorf("%q is not in the log:\n%s", reason, log.String())
	}
	for _, secret := range secrets {
		if strings.Contains(err.Error(), secret) || strings.Contains(log.String(), secret) {
			t.Errorf("the secret is in %v or in\n%s", err, log.String())
		}
	}
	p.wantReleased(t)
}

func TestSASL(t *testing.T) {
	t.Parallel()
	mechanisms := map[string]string{saslPlain: "PLAIN", saslSCRAM256: "SCRAM-SHA-256", saslSCRAM512: "SCRAM-SHA-512"}
	for mechanism, theirs := range mechanisms {
		c := fakeKafka(t, kfake.EnableSASL(), kfake.Superuser(theirs, "gateway", "secret of ingestgw"))
		as := func(t *testing.T, user, password string) Config {
			cfg := testConfig(c.ListenAddrs())
			cfg.SASL = SASLConfig{Mechanism: mechanism, User: user, PasswordFile: textFile(t, password+"\n")}
			if err := cfg.Validate(); err != nil {
				t.Fatal(err)
			}
			return cfg
		}
		t.Run(mechanism+"/the password is right", func(t *testing.T) { t.Parallel(); wantServed(t, as(t, "gateway", "secret of ingestgw")) })
		t.Run(mechanism+"/the password is wrong", func(t *testing.T) {
			t.Parallel()
			wantRefused(t, as(t, "gateway", "another secret"), "INGESTGW_KAFKA_SASL", "another secret", "secret of ingestgw")
		})
		t.Run(mechanism+"/the user is unknown", func(t *testing.T) {
			t.Parallel()
			wantRefused(t, as(t, "stranger", "another secret"), "INGESTGW_KAFKA_SASL", "another secret")
		})
		t.Run(mechanism+"/it is not set", func(t *testing.T) {
			t.Parallel()
			wantRefused(t, testConfig(c.ListenAddrs()), "INGESTGW_KAFKA_SASL")
		})
	}
}

// kfake closes the connection of who has the wrong password; Kafka says why.
func TestWhatABrokerSaysOfAPasswordIsTold(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "gateway", "secret"))
	c.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		answer := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		answer.ErrorCode, answer.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("Authentication failed: no such luck")
		return answer, nil, true
	})
	cfg := testConfig(c.ListenAddrs())
	cfg.SASL = SASLConfig{Mechanism: saslPlain, User: "gateway", PasswordFile: textFile(t, "another secret")}
	wantRefused(t, cfg, "Authentication failed: no such luck", "another secret")
}

func TestPasswordThatChangesIsUsedForNewConnections(t *testing.T) {
	t.Parallel()
	const before, after = "the first secret", "the second secret, longer"
	c := fakeKafka(t, kfake.EnableSASL(), kfake.Superuser("PLAIN", "gateway", after), kfake.Superuser("PLAIN", "admin", "admin"))
	cfg := testConfig(c.ListenAddrs())
	cfg.SASL = SASLConfig{Mechanism: saslPlain, User: "gateway", PasswordFile: textFile(t, before)}
	s := mustOpen(t, cfg, nil)
	group := consume(t, s, "g")
	if err := s.Append(soon(t), buffer.Main, newPaper().Block); !errors.Is(err, buffer.ErrUnavailable) {
		t.Fatalf("append with the wrong password: %v", err)
	}
	if err := os.WriteFile(cfg.SASL.PasswordFile, []byte(after), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "blocks are stored", func() bool { return s.Append(soon(t), buffer.Main, newPaper().Block) == nil })
	group.owns(3)
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, others := credentialstest.NewAuthority(t, "ours"), credentialstest.NewAuthority(t, "others")
	oneWay, mutual := secureKafka(t, ours, false), secureKafka(t, ours, true)
	with := func(c *kfake.Cluster, ca string) Config {
		cfg := testConfig(c.ListenAddrs())
		cfg.TLS.Enabled, cfg.TLS.CAFile = true, ca
		return cfg
	}
	t.Run("the authority is ours", func(t *testing.T) { t.Parallel(); wantServed(t, with(oneWay, ours.File(t))) })
	t.Run("the authority is another one", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, with(oneWay, others.File(t)), "INGESTGW_KAFKA_TLS_CA_FILE")
	})
	t.Run("the authorities are those of the system", func(t *testing.T) {
		t.Parallel()
		wantRefused(t, with(oneWay, ""), "INGESTGW_KAFKA_TLS_CA_FILE")
	})
	t.Run("the name is another one", func(t *testing.T) {
		t.Parallel()
		cfg := with(oneWay, ours.File(t))
		cfg.TLS.ServerName = "kafka.example"
		wantRefused(t, cfg, "INGESTGW_KAFKA_TLS_SERVER_NAME")
	})
	t.Run("nothing is checked", func(t *testing.T) {
		t.Parallel()
		cfg := with(oneWay, others.File(t))
		cfg.TLS.InsecureSkipVerify = true
		wantServed(t, cfg)
	})
	t.Run("it is not set", func(t *testing.T) { t.Parallel(); wantRefused(t, testConfig(oneWay.ListenAddrs()), "") })
	t.Run("mutual", func(t *testing.T) {
		t.Parallel()
		cfg := with(mutual, ours.File(t))
		cfg.TLS.CertFile, cfg.TLS.KeyFile = ours.Issue(t, pkix.Name{CommonName: "gateway"})
		wantServed(t, cfg)
	})
	t.Run("mutual, of another authority", func(t *testing.T) {
		t.Parallel()
		cfg := with(mutual, ours.File(t))
		cfg.TLS.CertFile, cfg.TLS.KeyFile = others.Issue(t, pkix.Name{CommonName: "gateway"})
		wantRefused(t, cfg, "tls")
	})
	t.Run("mutual, without a certificate", func(t *testing.T) { t.Parallel(); wantRefused(t, with(mutual, ours.File(t)), "tls") })
	t.Run("with SASL", func(t *testing.T) {
		t.Parallel()
		c := secureKafka(t, ours, false, kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "gateway", "secret"))
		cfg := with(c, ours.File(t))
		cfg.SASL = SASLConfig{Mechanism: saslSCRAM512, User: "gateway", PasswordFile: textFile(t, "secret")}
		wantServed(t, cfg)
	})
}

func TestCertificateThatChangesIsUsedForNewConnections(t *testing.T) {
	t.Parallel()
	ours, others := credentialstest.NewAuthority(t, "ours"), credentialstest.NewAuthority(t, "others")
	c := secureKafka(t, ours, true)
	cfg := testConfig(c.ListenAddrs())
	cfg.TLS.Enabled, cfg.TLS.CAFile = true, ours.File(t)
	cfg.TLS.CertFile, cfg.TLS.KeyFile = others.Issue(t, pkix.Name{CommonName: "gateway"})
	s := mustOpen(t, cfg, nil)
	if err := s.Append(soon(t), buffer.Main, newPaper().Block); !errors.Is(err, buffer.ErrUnavailable) {
		t.Fatalf("append with a certificate of another authority: %v", err)
	}
	cert, key := ours.Issue(t, pkix.Name{CommonName: "gateway"})
	for from, to := range map[string]string{cert: cfg.TLS.CertFile, key: cfg.TLS.KeyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "blocks are stored", func() bool { return s.Append(soon(t), buffer.Main, newPaper().Block) == nil })
}

func TestFilesThatCannotBeReadAreToldAtTheStart(t *testing.T) {
	for setting, change := range map[string]func(*Config){
		"INGESTGW_KAFKA_SASL_PASSWORD_FILE": func(c *Config) {
			c.SASL = SASLConfig{Mechanism: saslPlain, User: "u", PasswordFile: "/nonexistent"}
		},
		"INGESTGW_KAFKA_TLS_CA_FILE":   func(c *Config) { c.TLS.Enabled, c.TLS.CAFile = true, "/nonexistent" },
		"INGESTGW_KAFKA_TLS_CERT_FILE": func(c *Config) { c.TLS.Enabled, c.TLS.CertFile, c.TLS.KeyFile = true, "/nonexistent", "/nonexistent" },
	} {
		cfg := testConfig([]string{"127.0.0.1:1"})
		change(&cfg)
		if s, err := Open(t.Context(), cfg, slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s: %v, %v", setting, s, err)
		}
	}
}
