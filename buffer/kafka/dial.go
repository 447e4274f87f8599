package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/ingestgw/ingestgw/internal/credentials"
)

const (
	clientID = "ingestgw"
	// dialTimeout bounds a connection's start, TLS and SASL included.
	dialTimeout = 3 * time.Second
	// metadataTTL is how old what is known of leaders may be. kafka-go does not ask again when a broker says that it leads no
	// more, so this is also how long a partition is written to in vain.
	metadataTTL = time.Second
	// requestTimeout bounds every request but those that store a block.
	requestTimeout = 10 * time.Second
)

// A dialer opens connections to brokers, and authenticates on them, as the settings say.
type dialer struct {
	net  net.Dialer
	tls  *credentials.TLS // nil: without TLS
	sasl sasl.Mechanism   // nil: none
}

// newDialer loads what cfg names.
func newDialer(cfg Config, log *slog.Logger) (*dialer, error) {
	d := &dialer{net: net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}}
	var errs []error
	if cfg.TLS.Enabled {
		t, err := credentials.LoadTLS(tlsPrefix, cfg.TLS.TLSConfig, log)
		errs = append(errs, err)
		d.tls = t
	}
	if cfg.SASL.Mechanism != "" {
		password := credentials.Secret("INGESTGW_KAFKA_SASL_PASSWORD_FILE", cfg.SASL.PasswordFile, log)
		errs = append(errs, password.Load())
		d.sasl = &mechanism{SASLConfig: cfg.SASL, password: password}
	}
	return d, errors.Join(errs...)
}

// dial opens one connection. TLS is done here and not by kafka-go, because certificates may change.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.net.DialContext(ctx, network, address)
	if err != nil || d.tls == nil {
		return conn, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	secure := tls.Client(conn, d.tls.Config(host))
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // a handshake that ran out of time has done so
		return nil, fmt.Errorf("TLS handshake with broker %s: %w", address, err)
	}
	return secure, nil
}

// transport returns a pool of connections that knows the leaders of these topics. It is of no use once ctx has ended.
func (d *dialer) transport(ctx context.Context, topics ...string) *kafka.Transport {
	return &kafka.Transport{
		Context:        ctx,
		Dial:           d.dial,
		DialTimeout:    dialTimeout,
		MetadataTTL:    metadataTTL,
		MetadataTopics: topics,
		ClientID:       clientID,
		SASL:           d.sasl,
	}
}

// anyBroker stands for the address of one of the brokers, whichever. A consumer group that is given their addresses begins with the
// first one each time, and gets no further when that takes connections and never answers.
const anyBroker = "any-broker:0"

// group returns the dialer that kafka-go's consumer groups want. It knows anyBroker.
func (d *dialer) group(brokers []string) *kafka.Dialer {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != anyBroker {
			return d.dial(ctx, network, address)
		}
		var errs []error
		for _, i := range rand.Perm(len(brokers)) {
			conn, err := d.dial(ctx, network, brokers[i])
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	return &kafka.Dialer{ClientID: clientID, Timeout: dialTimeout, DialFunc: dial, SASLMechanism: d.sasl}
}

// A mechanism is the configured one with the password of the moment.
type mechanism struct {
	SASLConfig
	password *credentials.File[string]
}

// Name implements sasl.Mechanism.
func (m *mechanism) Name() string {
	switch m.Mechanism {
	case saslSCRAM256:
		return scram.SHA256.Name()
	case saslSCRAM512:
		return scram.SHA512.Name()
	}
	return plain.Mechanism{}.Name()
}

// Start implements sasl.Mechanism.
func (m *mechanism) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	now, err := m.now()
	if err != nil {
		return nil, nil, fmt.Errorf("prepare SASL (INGESTGW_KAFKA_SASL_USER, _PASSWORD_FILE): %w", err)
	}
	return now.Start(ctx)
}

func (m *mechanism) now() (sasl.Mechanism, error) {
	switch m.Mechanism {
	case saslSCRAM256:
		return scram.Mechanism(scram.SHA256, m.User, m.password.Get())
	case saslSCRAM512:
		return scram.Mechanism(scram.SHA512, m.User, m.password.Get())
	}
	return plain.Mechanism{Username: m.User, Password: m.password.Get()}, nil
}

// Where the address of a broker is from.
const (
	named          = "INGESTGW_KAFKA_BROKERS"
	namedByCluster = "named by the cluster"
)

// advice is what to do when a broker cannot be used, to be put behind the error, unless that says so itself. from says where the
// broker's address is from.
func advice(err error, from string) string {
	var dns *net.DNSError
	var op *net.OpError
	var header tls.RecordHeaderError
	isOp := func(name string) bool { return errors.As(err, &op) && op.Op == name }
	switch {
	case strings.Contains(err.Error(), "INGESTGW_KAFKA_"), errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, kafka.UnsupportedSASLMechanism), errors.Is(err, kafka.IllegalSASLState):
		return ": look at INGESTGW_KAFKA_SASL_MECHANISM"
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		return ": look at INGESTGW_KAFKA_SASL_USER and INGESTGW_KAFKA_SASL_PASSWORD_FILE"
	case errors.As(err, new(kafka.Error)): // a broker has answered, and says what is wrong
		return ""
	case errors.As(err, &header):
		return ": the broker speaks no TLS at this port: look at INGESTGW_KAFKA_TLS_ENABLED, or take another port"
	case isOp("remote error"): // what crypto/tls makes of an alert
		return ": the broker refuses our certificate, or that there is none: look at INGESTGW_KAFKA_TLS_CERT_FILE and INGESTGW_KAFKA_TLS_KEY_FILE"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		// All that is left of a refusal.
		return ": the broker has closed the connection: see whether INGESTGW_KAFKA_TLS_* and INGESTGW_KAFKA_SASL_* are what it wants at this port"
	case strings.Contains(err.Error(), "TLS handshake"):
		return ": look at INGESTGW_KAFKA_TLS_ENABLED, whether the broker speaks TLS at this port"
	case errors.As(err, &dns), isOp("dial"):
	case errors.Is(err, context.DeadlineExceeded):
		return ": no answer in time: see whether the brokers are overloaded or stand still, and whether INGESTGW_KAFKA_BROKERS, INGESTGW_KAFKA_TLS_* " +
			"and INGESTGW_KAFKA_SASL_* are what they want"
	default:
		return ": look at INGESTGW_KAFKA_BROKERS, INGESTGW_KAFKA_TLS_* and INGESTGW_KAFKA_SASL_*"
	}
	if from == namedByCluster {
		return ": start the broker, or set its advertised.listeners to an address that can be reached from here"
	}
	return ": start the broker, or look at INGESTGW_KAFKA_BROKERS"
}
