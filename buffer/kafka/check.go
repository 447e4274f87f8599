package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// A Finding is what Check has found out about one thing. Err is nil when all is well; Unsafe tells that things work, but that
// acknowledged samples can be lost.
type Finding struct {
	What   string // such as "broker kafka-0:9092"
	Text   string // when all is well
	Err    error
	Unsafe bool
}

// Check reaches every broker once, and says whether the topic of the main lane is there and safe. It changes nothing.
func Check(ctx context.Context, cfg Config, log *slog.Logger) []Finding {
	d, err := newDialer(cfg, log)
	if err != nil {
		return []Finding{{What: "credentials for Kafka", Err: err}}
	}
	c := &checking{ctx: ctx, cfg: cfg, dialer: d, seen: map[string]bool{}}
	for _, addr := range cfg.Brokers {
		c.broker(addr, "INGESTGW_KAFKA_BROKERS")
	}
	if c.reached != "" {
		c.topic()
	}
	return c.findings
}

type checking struct {
	ctx      context.Context
	cfg      Config
	dialer   *dialer
	seen     map[string]bool
	reached  string // a broker that has answered
	findings []Finding
}

func (c *checking) add(f Finding) { c.findings = append(c.findings, f) }

func (c *checking) client(addr string) (client *kafka.Client, end func()) {
	t := c.dialer.transport(c.ctx)
	return &kafka.Client{Addr: kafka.TCP(addr), Timeout: requestTimeout, Transport: t}, t.CloseIdleConnections
}

// broker asks one broker what it speaks, which takes the whole way there: name, connection, TLS, SASL.
func (c *checking) broker(addr, from string) {
	if c.seen[addr] {
		return
	}
	c.seen[addr] = true
	what := fmt.Sprintf("broker %s (%s)", addr, from)
	client, end := c.client(addr)
	defer end()
	answer, err := client.ApiVersions(c.ctx, &kafka.ApiVersionsRequest{})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		c.add(Finding{What: what, Err: fmt.Errorf("%w: look at INGESTGW_KAFKA_BROKERS, INGESTGW_KAFKA_TLS_* and INGESTGW_KAFKA_SASL_*", err)})
		return
	}
	c.add(Finding{What: what, Text: "answers"})
	c.reached = addr
}

// topic looks at the topic of the main lane, and at the brokers that the cluster names.
func (c *checking) topic() {
	name := c.cfg.TopicPrefix + "-" + string(buffer.Main)
	what := "topic " + name
	client, end := c.client(c.reached)
	defer end()
	meta, err := client.Metadata(c.ctx, &kafka.MetadataRequest{Topics: []string{name}})
	if err != nil {
		c.add(Finding{What: what, Err: err})
		return
	}
	for _, b := range meta.Brokers {
		c.broker(net.JoinHostPort(b.Host, strconv.Itoa(b.Port)), "named by the cluster")
	}
	t := meta.Topics[0]
	switch {
	case errors.Is(t.Error, kafka.UnknownTopicOrPartition) && c.cfg.CreateTopics:
		c.add(Finding{What: what, Text: fmt.Sprintf("does not exist; it is created with %d partitions on %d brokers",
			c.cfg.Partitions, min(c.cfg.Replication, len(meta.Brokers)))})
		return
	case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
		c.add(Finding{What: what, Err: errors.New("it does not exist: create it, or set INGESTGW_KAFKA_CREATE_TOPICS=true")})
		return
	case t.Error != nil:
		c.add(Finding{What: what, Err: t.Error})
		return
	}
	c.add(Finding{What: what, Text: fmt.Sprintf("%d partitions on %d brokers", len(t.Partitions), len(meta.Brokers))})
	l := &lane{topic: name, client: client}
	config, err := l.config(c.ctx)
	if err != nil {
		c.add(Finding{What: what, Unsafe: true, Err: fmt.Errorf("its settings cannot be read, allow DescribeConfigs to this user: %w", err)})
		return
	}
	faults := faultsOf(t.Partitions, config)
	for _, setting := range slices.Sorted(maps.Keys(faults)) {
		c.add(Finding{What: what, Unsafe: !c.cfg.Strict, Err: fmt.Errorf("%s: %s", setting, faults[setting])})
	}
	if len(faults) == 0 {
		c.add(Finding{What: what, Text: "its settings are safe"})
	}
}
