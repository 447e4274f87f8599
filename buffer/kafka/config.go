package kafka

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of the Kafka buffer, read with prefix KAFKA.
type Config struct {
	Brokers        []string       `desc:"Addresses of Kafka brokers, as host:port separated by commas; the others are found through them. Required with BUFFER=kafka."`
	TopicPrefix    string         `split_words:"true" default:"ingestgw" desc:"What the names of the topics begin with: the lanes main and bulk are kept in the topics <prefix>-main and <prefix>-bulk."`
	CreateTopics   bool           `split_words:"true" default:"false" desc:"Whether a topic that does not exist is created, with KAFKA_PARTITIONS, KAFKA_REPLICATION and KAFKA_RETENTION. Otherwise senders get 503 until somebody has."`
	Partitions     int            `default:"12" unit:"partitions" desc:"Partitions of a topic that is created. Each is forwarded by one process at a time, so have at least two for each process that forwards."`
	Replication    int            `default:"3" unit:"brokers" desc:"On how many brokers a topic that is created keeps each block; with fewer brokers on all of them, which is warned of. An acknowledged block is on two at least, if there are two."`
	Retention      time.Duration  `default:"72h" desc:"How long a topic that is created keeps blocks, forwarded or not: the longest outage that can be bridged."`
	BulkMaxBytes   settings.Bytes `split_words:"true" default:"0" unit:"bytes" desc:"Most bytes that a bulk topic which is created keeps, its replicas not counted: Kafka removes the oldest blocks beyond it, forwarded or not, instead of filling its disks. Those that were not forwarded are lost. 0 means no bound but KAFKA_RETENTION. The bulk topic holds what tenants send above their sustained rate, and what is old already when it comes."`
	Strict         bool           `default:"false" desc:"Whether a topic on which acknowledged samples are not safe is refused: the process does not start, and senders get 503. Otherwise it is warned of."`
	Group          string         `default:"ingestgw" desc:"Consumer group of the processes that forward to the same cluster. A group with another name and another FORWARD_URLS sends everything to a second cluster at its own pace."`
	SessionTimeout time.Duration  `split_words:"true" default:"6s" desc:"How long Kafka waits for a sign of life of a process that forwards before it gives its partitions to others. Brokers allow 6s to 30m by default (group.min.session.timeout.ms, group.max.session.timeout.ms)."`
	HedgeAfter     time.Duration  `split_words:"true" default:"2s" desc:"How long a block may be without acknowledgement, while later ones get theirs, before it is written to another partition too. When nothing is acknowledged at all, one block in each such time is, to find a way out. The copy is harmless."`
	TLS            TLSConfig
	SASL           SASLConfig
	AppendTimeout  time.Duration `ignored:"true"` // BUFFER_APPEND_TIMEOUT

	// RebalanceTimeout is how long the group waits for its members when it shares the partitions out anew, and how long we go on
	// with ours when we hear nothing from it. 0 is 30 s.
	RebalanceTimeout time.Duration `ignored:"true"`
	// StuckAfter is for how long a member with something to read may read nothing before it leaves the group for a tenth of that
	// time, so that others can try. 0 is 5 min.
	StuckAfter time.Duration `ignored:"true"`
}

// TLSConfig says whether and how connections to brokers are encrypted.
type TLSConfig struct {
	Enabled bool `default:"false" desc:"Whether connections to the brokers use TLS."`
	credentials.TLSConfig
}

// SASLConfig says how we authenticate at the brokers.
type SASLConfig struct {
	Mechanism    string `default:"" desc:"How to authenticate at the brokers: plain, scram-sha-256 or scram-sha-512. Empty: not at all, or by the certificate in KAFKA_TLS_CERT_FILE. plain sends the password as it is: use it with TLS."`
	User         string `desc:"User name for SASL."`
	PasswordFile string `split_words:"true" desc:"File that holds the password of KAFKA_SASL_USER; read again when it changes."`
}

// Values of SASLConfig.Mechanism.
const (
	saslPlain    = "plain"
	saslSCRAM256 = "scram-sha-256"
	saslSCRAM512 = "scram-sha-512"
)

// topicPrefixPattern leaves room for a lane's name within the 249 characters that Kafka allows
// (https://kafka.apache.org/documentation/#basic_ops_add_topic).
var topicPrefixPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)

const (
	tlsPrefix = "INGESTGW_KAFKA_TLS"
	minHedge  = 100 * time.Millisecond
)

// Validate says everything that is wrong, naming the variables.
func (c Config) Validate() error {
	var errs []error
	bad := func(setting string, value any, want string) {
		errs = append(errs, fmt.Errorf("INGESTGW_KAFKA_%s=%v: want %s", setting, value, want))
	}
	for _, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" || port == "" {
			bad("BROKERS", b, "host:port, such as kafka-0:9092")
		}
	}
	if !topicPrefixPattern.MatchString(c.TopicPrefix) {
		bad("TOPIC_PREFIX", c.TopicPrefix, "1 to 200 of the characters A-Z a-z 0-9 . _ -")
	}
	if c.Partitions < 1 {
		bad("PARTITIONS", c.Partitions, "at least 1")
	}
	if c.Replication < 1 {
		bad("REPLICATION", c.Replication, "at least 1")
	}
	if c.Retention < time.Hour {
		bad("RETENTION", c.Retention, "at least 1h")
	}
	if least := settings.Bytes(max(c.Partitions, 1)) * leastSegmentBytes; c.BulkMaxBytes < 0 || c.BulkMaxBytes > 0 && c.BulkMaxBytes < least {
		bad("BULK_MAX_BYTES", c.BulkMaxBytes, fmt.Sprintf("at least %v with KAFKA_PARTITIONS=%d, or 0 for no bound", least, c.Partitions))
	}
	if c.Group == "" {
		bad("GROUP", c.Group, "a name")
	}
	if c.SessionTimeout < time.Second {
		bad("SESSION_TIMEOUT", c.SessionTimeout, "at least 1s, and what the brokers allow")
	}
	if c.HedgeAfter < minHedge {
		bad("HEDGE_AFTER", c.HedgeAfter, fmt.Sprintf("at least %v", minHedge))
	}
	return errors.Join(append(errs, c.TLS.validate(), c.SASL.validate())...)
}

// topic is the name of a lane's topic.
func (c Config) topic(lane buffer.Lane) string { return c.TopicPrefix + "-" + string(lane) }

// keeps is the bytes that Kafka keeps of each of so many partitions of a lane's topic, as retention.bytes says it: -1 is no bound.
func (c Config) keeps(lane buffer.Lane, partitions int) int64 {
	if lane != buffer.Bulk || c.BulkMaxBytes == 0 {
		return -1
	}
	return int64(c.BulkMaxBytes) / int64(partitions)
}

func (c TLSConfig) validate() error {
	named := c.TLSConfig != credentials.TLSConfig{}
	if named && !c.Enabled {
		return fmt.Errorf("%s_* are set, but %s_ENABLED is not: set it to true", tlsPrefix, tlsPrefix)
	}
	return c.Validate(tlsPrefix)
}

func (c SASLConfig) validate() error {
	switch c.Mechanism {
	case "":
		if c.User != "" || c.PasswordFile != "" {
			return fmt.Errorf("INGESTGW_KAFKA_SASL_USER or _PASSWORD_FILE is set, but INGESTGW_KAFKA_SASL_MECHANISM is not: set it to %s, %s or %s",
				saslPlain, saslSCRAM256, saslSCRAM512)
		}
		return nil
	case saslPlain, saslSCRAM256, saslSCRAM512:
		if c.User == "" || c.PasswordFile == "" {
			return errors.New("INGESTGW_KAFKA_SASL_MECHANISM needs INGESTGW_KAFKA_SASL_USER and INGESTGW_KAFKA_SASL_PASSWORD_FILE")
		}
		return nil
	}
	return fmt.Errorf("INGESTGW_KAFKA_SASL_MECHANISM=%s: want %s, %s or %s", c.Mechanism, saslPlain, saslSCRAM256, saslSCRAM512)
}
