package kafka

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"errors"
	"hash"
	"maps"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/buffer/buffertest"
	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
	"github.com/ingestgw/ingestgw/internal/stack"
)

// realKafka marks a test that runs brokers of Apache Kafka: -short leaves it out.
func realKafka(t *testing.T, brokers int, config map[string]string) *stack.Kafka {
	t.Helper()
	if testing.Short() {
		t.Skip("runs brokers of Apache Kafka; left out with -short")
	}
	t.Parallel()
	return stack.StartKafka(t, stack.KafkaSpec{Brokers: brokers, Config: config})
}

func TestStoreKeepsItsPromisesOnApacheKafka(t *testing.T) {
	buffertest.Run(t, suite(realKafka(t, 1, nil).Addrs()))
}

func TestApacheKafkaIsServedThroughTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("runs brokers of Apache Kafka; left out with -short")
	}
	ours, others := credentialstest.NewAuthority(t, "ours"), credentialstest.NewAuthority(t, "others")
	cert, key := ours.Issue(t, pkix.Name{CommonName: "broker"})
	var keystore string
	for _, file := range []string{key, cert} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		keystore += string(text)
	}
	mutual, password := freeAddr(t), freeAddr(t)
	realKafka(t, 1, map[string]string{
		"listeners":                                      "PLAINTEXT://{kafka},CONTROLLER://{controller},MUTUAL://" + mutual + ",PASSWORD://" + password,
		"advertised.listeners":                           "PLAINTEXT://{kafka},MUTUAL://" + mutual + ",PASSWORD://" + password,
		"listener.security.protocol.map":                 "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,MUTUAL:SSL,PASSWORD:SASL_SSL",
		"ssl.keystore.type":                              "PEM",
		"ssl.keystore.location":                          textFile(t, keystore),
		"ssl.truststore.type":                            "PEM",
		"ssl.truststore.location":                        ours.File(t),
		"listener.name.mutual.ssl.client.auth":           "required",
		"listener.name.password.sasl.enabled.mechanisms": "PLAIN",
		"listener.name.password.plain.sasl.jaas.config":  `org.apache.kafka.common.security.plain.PlainLoginModule required user_gateway="secret of ingestgw";`,
	})
	awaitListeners(t, mutual, password)
	with := func(addr string) Config {
		cfg := testConfig([]string{addr})
		cfg.TLS.Enabled, cfg.TLS.CAFile = true, ours.File(t)
		return cfg
	}
	cfg := with(mutual)
	cfg.TLS.CertFile, cfg.TLS.KeyFile = ours.Issue(t, pkix.Name{CommonName: "gateway"})
	wantServed(t, cfg)
	cfg.TLS.CertFile, cfg.TLS.KeyFile = others.Issue(t, pkix.Name{CommonName: "gateway"})
	wantRefused(t, cfg, "tls")
	wantRefused(t, with(mutual), "tls")

	cfg = with(password)
	cfg.SASL = SASLConfig{Mechanism: saslPlain, User: "gateway", PasswordFile: textFile(t, "secret of ingestgw")}
	wantServed(t, cfg)
	cfg.TLS.CAFile = others.File(t)
	wantRefused(t, cfg, "INGESTGW_KAFKA_TLS_CA_FILE", "secret of ingestgw")
	cfg = with(password)
	cfg.SASL = SASLConfig{Mechanism: saslPlain, User: "gateway", PasswordFile: textFile(t, "another secret")}
	wantRefused(t, cfg, "INGESTGW_KAFKA_SASL", "another secret")
}

// awaitListeners waits until a broker listens there: it opens one listener after the other.
func awaitListeners(t *testing.T, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		eventually(t, "something listens at "+addr, func() bool {
			conn, err := net.Dial("tcp", addr)
			return err == nil && conn.Close() == nil
		})
	}
}

// secured is an Apache Kafka with a second listener where clients have to say who they are, and proxies before both.
type secured struct {
	*stack.Kafka
	wire          *wire
	plain, secure string
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	if testing.Short() {
		t.Skip("runs brokers of Apache Kafka; left out with -short")
	}
	s := &secured{wire: newWire()}
	behind := freeAddr(t)
	var broker atomic.Value // where it listens, as soon as it does
	s.plain = s.wire.proxy(t, func() string {
		addr, _ := broker.Load().(string)
		return addr
	})
	s.secure = s.wire.proxy(t, func() string { return behind })
	s.Kafka = realKafka(t, 1, map[string]string{
		"listeners":                                           "PLAINTEXT://{kafka},CONTROLLER://{controller},SECURE://" + behind,
		"advertised.listeners":                                "PLAINTEXT://" + s.plain + ",SECURE://" + s.secure,
		"listener.security.protocol.map":                      "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_PLAINTEXT",
		"listener.name.secure.sasl.enabled.mechanisms":        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.secure.plain.sasl.jaas.config":         `org.apache.kafka.common.security.plain.PlainLoginModule required user_gateway="secret of ingestgw";`,
		"listener.name.secure.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"listener.name.secure.scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
	})
	broker.Store(s.Addrs()[0])
	awaitListeners(t, behind)
	client := &kafka.Client{Addr: kafka.TCP(s.plain)}
	for m, h := range map[kafka.ScramMechanism]func() hash.Hash{kafka.ScramMechanismSha256: sha256.New, kafka.ScramMechanismSha512: sha512.New} {
		var err error
		user := kafka.UserScramCredentialsUpsertion{Name: "gateway", Mechanism: m, Iterations: 4096, Salt: []byte("salt")}
		if user.SaltedPassword, err = pbkdf2.Key(h, "secret of ingestgw", user.Salt, user.Iterations, h().Size()); err != nil {
			t.Fatal(err)
		}
		answer, err := client.AlterUserScramCredentials(soon(t), &kafka.AlterUserScramCredentialsRequest{Upsertions: []kafka.UserScramCredentialsUpsertion{user}})
		if err != nil || answer.Results[0].Error != nil {
			t.Fatal(err, answer)
		}
	}
	return s
}

// freeAddr is an address that nobody listens at.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What we send is sent through proxies, which see the version of every request; the broker says which ones it takes.
func TestEveryRequestIsOfAVersionThatApacheKafkaTakes(t *testing.T) {
	k := startSecured(t)
	for _, mechanism := range []string{"", saslPlain, saslSCRAM256, saslSCRAM512} {
		cfg := testConfig([]string{k.plain})
		if mechanism != "" {
			cfg.Brokers = []string{k.secure}
			cfg.SASL = SASLConfig{Mechanism: mechanism, User: "gateway", PasswordFile: textFile(t, "secret of ingestgw")}
		}
		wantServed(t, cfg)
		s, other := mustOpen(t, cfg, nil), mustOpen(t, cfg, nil)
		if _, err := s.Stats(soon(t)); err != nil {
			t.Error(err)
		}
		first := consume(t, s, "another")
		first.owns(1)
		second := consume(t, other, "another")
		second.stop()
		first.stop()
	}
	client := &kafka.Client{Addr: kafka.TCP(k.Addrs()...)}
	answer, err := client.ApiVersions(soon(t), &kafka.ApiVersionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	takes := map[kmsg.Key]kafka.ApiVersionsResponseApiKey{}
	for _, one := range answer.ApiKeys {
		takes[kmsg.Key(one.ApiKey)] = one
	}
	sent := map[kmsg.Key]bool{}
	for v, n := range k.wire.versions() {
		key := kmsg.Key(v.key)
		sent[key] = true
		if most, ok := takes[key]; !ok || int(v.version) < most.MinVersion || int(v.version) > most.MaxVersion {
			t.Errorf("%d requests %s of version %d were sent; the broker takes %d to %d", n, key.Name(), v.version, most.MinVersion, most.MaxVersion)
		} else {
			t.Logf("%s v%d (%d to %d)", key.Name(), v.version, most.MinVersion, most.MaxVersion)
		}
	}
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Fetch, kmsg.ListOffsets, kmsg.Metadata, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.FindCoordinator,
		kmsg.JoinGroup, kmsg.Heartbeat, kmsg.LeaveGroup, kmsg.SyncGroup, kmsg.SASLHandshake, kmsg.ApiVersions, kmsg.CreateTopics, kmsg.DescribeConfigs, kmsg.SASLAuthenticate} {
		if !sent[key] {
			t.Errorf("no request %s was seen", key.Name())
		}
	}
	for _, mechanism := range []string{saslPlain, saslSCRAM256, saslSCRAM512} {
		cfg := testConfig([]string{k.secure})
		cfg.SASL = SASLConfig{Mechanism: mechanism, User: "gateway", PasswordFile: textFile(t, "another secret")}
		wantRefused(t, cfg, "uthentication", "another secret")
	}
}

func TestForwardingGoesOnWhenTheCoordinatorIsKilled(t *testing.T) {
	k := realKafka(t, 3, nil)
	cfg := testConfig(k.Addrs())
	cfg.AppendTimeout = 15 * time.Second
	s := mustOpen(t, cfg, nil)
	put(t, s, 9)
	group := consume(t, s, "g")
	parts := group.owns(3)
	for n, p := range parts {
		save(t, p, buffer.Offset(n))
	}
	l := s.lane(buffer.Main)
	answer, err := l.client.FindCoordinator(soon(t), &kafka.FindCoordinatorRequest{Key: "g", KeyType: kafka.CoordinatorKeyTypeConsumer})
	if err != nil || answer.Error != nil {
		t.Fatal(err, answer)
	}
	k.Brokers[answer.Coordinator.NodeID].Kill()
	killed := time.Now()
	all := put(t, s, 3) // some of them wait for a new leader
	t.Logf("blocks were stored again after %v", time.Since(killed))
	eventually(t, "nothing can be saved", func() bool {
		err := parts[0].Save(soon(t), progressOf(parts[0], 0))
		if errors.Is(err, buffer.ErrFenced) {
			t.Errorf("save: %v", err)
		}
		return errors.Is(err, buffer.ErrUnavailable)
	})
	for n, p := range parts {
		save(t, p, buffer.Offset(n), buffer.Span{From: 10, To: 12})
	}
	t.Logf("progress was saved again after %v", time.Since(killed))
	for n, p := range parts {
		wantDone(t, load(t, p), buffer.Offset(n), buffer.Span{From: 10, To: 12})
	}
	wantKept(t, parts)
	if group.begun() != 3 {
		t.Errorf("partitions were handed out %d times", group.begun())
	}
	eventually(t, "partitions are shown to lack a replica", func() bool {
		s.feel(soon(t))
		return shown(t, s, "under_replicated_partitions")["under_replicated_partitions/main"] == 3
	})
	eventually(t, "the group is shown to have all partitions", func() bool {
		return maps.Equal(counted(t, counter(s, "g", buffer.Main)), members(1, 0))
	})
	wantStored(t, s, all)
}
