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
	"strings"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// A Finding is what Check has found out about one thing.
type Finding struct {
	What    string // such as "broker kafka-0:9092"
	Verdict Verdict
	Text    string // what is so and, unless all is well, what to change
}

// A Verdict says how bad it is.
type Verdict int

// Verdicts.
const (
	Good     Verdict = iota
	Doubtful         // it works, but samples may be lost or late
	Bad              // it does not work
)

// Forwarding says what Check may expect of the consumer group.
type Forwarding int

// Values of Forwarding.
const (
	Elsewhere Forwarding = iota // others forward: the group is not looked at
	Possible                    // whether anybody forwards now is not known
	UnderWay                    // a process that forwards runs
)

// Check reaches every broker once, says whether the topics of the main and the bulk lane are there and safe, and how the consumer
// group does. It changes nothing.
func Check(ctx context.Context, cfg Config, forwarding Forwarding, log *slog.Logger) []Finding {
	d, err := newDialer(cfg, log)
	if err != nil {
		return []Finding{{What: "credentials for Kafka", Verdict: Bad, Text: err.Error()}}
	}
	c := &checking{ctx: ctx, cfg: cfg, dialer: d, seen: map[string]bool{}}
	for _, addr := range cfg.Brokers {
		c.broker(addr, named)
	}
	if c.reached == "" {
		return c.findings
	}
	client, end := c.client(c.reached)
	defer end()
	var found []*checkedTopic
	for _, name := range needed {
		if t := c.topic(&lane{name: name, topic: cfg.topic(name), client: client}); t != nil {
			found = append(found, t)
		}
	}
	if len(found) > 0 && forwarding != Elsewhere {
		c.group(client, found, forwarding == UnderWay)
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

func (c *checking) add(v Verdict, what, format string, args ...any) {
	c.findings = append(c.findings, Finding{What: what, Verdict: v, Text: fmt.Sprintf(format, args...)})
}

func (c *checking) client(addr string) (client *kafka.Client, end func()) {
	t := c.dialer.transport(c.ctx, c.cfg.topic(buffer.Main), c.cfg.topic(buffer.Bulk))
	return &kafka.Client{Addr: kafka.TCP(addr), Timeout: requestTimeout, Transport: t}, t.CloseIdleConnections
}

// broker asks one broker of what cluster it is, which takes the whole way there: name, connection, TLS, SASL.
func (c *checking) broker(addr, from string) {
	if c.seen[addr] {
		return
	}
	c.seen[addr] = true
	what := fmt.Sprintf("broker %s (%s)", addr, from)
	client, end := c.client(addr)
	defer end()
	if _, err := client.Metadata(c.ctx, &kafka.MetadataRequest{}); err != nil {
		c.add(Bad, what, "%s%s", inOneLine(err), advice(err, from))
		return
	}
	c.add(Good, what, "answers")
	c.reached = addr
}

func inOneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// A checkedTopic is a topic that is there.
type checkedTopic struct {
	*lane
	partitions int
	config     map[string]string // nil when it cannot be read
}

// topic looks at the brokers that the cluster names, and at the topic of a lane. It returns nil when there is none yet.
func (c *checking) topic(l *lane) *checkedTopic {
	what := "topic " + l.topic
	meta, err := l.client.Metadata(c.ctx, &kafka.MetadataRequest{Topics: []string{l.topic}})
	if err != nil {
		c.add(Bad, what, "%s%s", inOneLine(err), advice(err, namedByCluster))
		return nil
	}
	for _, b := range meta.Brokers {
		c.broker(net.JoinHostPort(b.Host, strconv.Itoa(b.Port)), namedByCluster)
	}
	t := meta.Topics[0]
	switch {
	case errors.Is(t.Error, kafka.UnknownTopicOrPartition) && c.cfg.CreateTopics:
		c.future(what, len(meta.Brokers))
		return nil
	case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
		c.add(Bad, what, "does not exist, or this user may not see it: create it, or set INGESTGW_KAFKA_CREATE_TOPICS=true")
		return nil
	case errors.Is(t.Error, kafka.TopicAuthorizationFailed):
		c.add(Bad, what, "%v: allow Describe, Read and Write to this user", t.Error)
		return nil
	case t.Error != nil:
		c.add(Bad, what, "%v", t.Error)
		return nil
	case len(t.Partitions) == 0:
		c.add(Bad, what, "Kafka names no partitions of it yet")
		return nil
	}
	c.add(Good, what, "%d partitions on %d of %d brokers each", len(t.Partitions), replication(t.Partitions), len(meta.Brokers))
	found := &checkedTopic{lane: l, partitions: len(t.Partitions)}
	c.settings(what, found, t.Partitions)
	c.replicas(what, t.Partitions, number(found.config["min.insync.replicas"]))
	return found
}

// future says what a topic that is created will be like.
func (c *checking) future(what string, brokers int) {
	replication := min(c.cfg.Replication, brokers)
	c.add(Good, what, "does not exist; it will be created with %d partitions on %d brokers each", c.cfg.Partitions, replication)
	if replication < safeReplication {
		c.add(c.unsafe(), what, "replication: it would be %d, want %d: with fewer, blocks are lost with a broker, or none is taken while one is "+
			"down; look at INGESTGW_KAFKA_REPLICATION, there are %d brokers", replication, safeReplication, brokers)
	}
	if c.cfg.Retention < safeRetention {
		c.add(c.unsafe(), what, "retention.ms: INGESTGW_KAFKA_RETENTION=%v, want %v or more: a longer outage of the cluster loses blocks",
			c.cfg.Retention, safeRetention)
	}
}

// unsafe is the verdict on what is not safe.
func (c *checking) unsafe() Verdict {
	if c.cfg.Strict {
		return Bad
	}
	return Doubtful
}

// settings looks at the topic's settings as a Store does, and notes them.
func (c *checking) settings(what string, t *checkedTopic, partitions []kafka.Partition) {
	config, err := t.lane.config(c.ctx)
	if err != nil {
		c.add(c.unsafe(), what, "whether acknowledged samples are safe in it cannot be checked: allow DescribeConfigs to this user: %v", err)
		return
	}
	t.config = config
	faults := faultsOf(partitions, config, c.cfg.keeps(t.name, len(partitions)))
	for _, setting := range slices.Sorted(maps.Keys(faults)) {
		c.add(c.unsafe(), what, "acknowledged samples are not safe: %s: %s", setting, faults[setting])
	}
	if len(faults) == 0 {
		c.add(Good, what, "its settings are safe")
	}
}

// replicas looks at what the brokers have of the partitions at the moment. insync is min.insync.replicas, -1 when it is not known.
func (c *checking) replicas(what string, partitions []kafka.Partition, insync int64) {
	var leaderless, refusing, behind []int
	for _, p := range partitions {
		switch {
		case p.Leader.Host == "":
			leaderless = append(leaderless, p.ID)
		case int64(len(p.Isr)) < insync:
			refusing = append(refusing, p.ID)
		case len(p.Isr) < len(p.Replicas):
			behind = append(behind, p.ID)
		}
	}
	if len(leaderless) > 0 {
		c.add(Bad, what, "%s no leader, so nothing can be stored there or read: start the brokers that have them", theyHave(leaderless))
	}
	if len(refusing) > 0 {
		c.add(Bad, what, "%s fewer replicas in sync than min.insync.replicas=%d, so nothing is stored there: start the brokers that have them",
			theyHave(refusing), insync)
	}
	if len(behind) > 0 {
		c.add(Doubtful, what, "%s replicas that are not in sync: a broker is away or slow", theyHave(behind))
	}
}

// theyHave is "partition 3 has" or "partitions 1, 2 have".
func theyHave(partitions []int) string {
	if len(partitions) == 1 {
		return listed(partitions) + " has"
	}
	return listed(partitions) + " have"
}

// listed is "partition 3" or "partitions 1, 2".
func listed(partitions []int) string {
	slices.Sort(partitions)
	texts := make([]string, len(partitions))
	for i, p := range partitions {
		texts[i] = strconv.Itoa(p)
	}
	if len(texts) == 1 {
		return "partition " + texts[0]
	}
	return "partitions " + strings.Join(texts, ", ")
}
