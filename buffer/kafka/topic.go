package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/clock"
)

const (
	// topicMaxBytes is max.message.bytes of a topic that we create: room for requests that are much larger than usual.
	topicMaxBytes = 8 << 20
	// leastMaxBytes is what a full block takes. With less, blocks are smaller and cost more.
	leastMaxBytes = 1<<20 + overhead
	// safeReplication is on how many brokers a block has to be so that one can be down and another die.
	safeReplication = 3
	// safeInsync is how many of them have to have it before it is acknowledged.
	safeInsync = 2
	// safeRetention is the least that bridges a night and the morning after it.
	safeRetention = 24 * time.Hour
	// leastSegmentBytes and mostSegmentBytes bound segment.bytes of a topic that keeps a number of bytes. Kafka removes whole segments,
	// so they are a bounded part of that; the most is Kafka's default.
	leastSegmentBytes = 64 << 20
	mostSegmentBytes  = 1 << 30
	// checkEvery is how often the topic's configuration is looked at again.
	checkEvery = 3 * time.Minute
	// checkAnew is how soon when it could not be looked at, or is refused.
	checkAnew = 5 * time.Second
)

// create creates the topic, if it may, and returns the metadata that has it.
func (l *lane) create(ctx context.Context, meta *kafka.MetadataResponse) (*kafka.MetadataResponse, error) {
	if !l.s.cfg.CreateTopics {
		return nil, fmt.Errorf("topic %s: %w: it does not exist: create it, or set INGESTGW_KAFKA_CREATE_TOPICS=true",
			l.topic, buffer.ErrUnavailable)
	}
	replication := min(l.s.cfg.Replication, len(meta.Brokers))
	if replication < l.s.cfg.Replication {
		l.log.Warn("the topic is created on fewer brokers than INGESTGW_KAFKA_REPLICATION, as there are not so many",
			"replication", replication, "wanted", l.s.cfg.Replication)
	}
	config := map[string]string{
		"cleanup.policy":                 "delete",
		"max.message.bytes":              strconv.Itoa(topicMaxBytes),
		"message.timestamp.type":         "LogAppendTime", // with CreateTime a slow clock of ours deletes early
		"min.insync.replicas":            strconv.Itoa(min(safeInsync, replication)),
		"retention.bytes":                "-1",
		"retention.ms":                   strconv.FormatInt(l.s.cfg.Retention.Milliseconds(), 10),
		"unclean.leader.election.enable": "false",
	}
	if bytes := l.s.cfg.keeps(l.name, l.s.cfg.Partitions); bytes >= 0 {
		config["retention.bytes"] = strconv.FormatInt(bytes, 10)
		config["segment.bytes"] = strconv.FormatInt(min(max(bytes/8, leastSegmentBytes), mostSegmentBytes), 10)
	}
	created, err := createTopic(ctx, l.client, l.topic, l.s.cfg.Partitions, replication, config)
	if err != nil {
		return nil, fmt.Errorf("create topic %s: %w: %w", l.topic, buffer.ErrUnavailable, err)
	}
	if created {
		l.log.Info("topic created", "partitions", l.s.cfg.Partitions, "replication", replication, "config", config)
	}
	return l.awaitTopic(ctx)
}

// awaitTopic returns the metadata as soon as it has the topic and all leaders answer for it.
func (l *lane) awaitTopic(ctx context.Context) (meta *kafka.MetadataResponse, err error) {
	err = await(ctx, func(ctx context.Context) (bool, error) {
		if meta, err = l.metadata(ctx); err != nil || meta.Topics[0].Error != nil || len(meta.Topics[0].Partitions) == 0 {
			return false, err
		}
		_, err = l.bounds(ctx, len(meta.Topics[0].Partitions))
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w: %w", l.topic, buffer.ErrUnavailable, err)
	}
	return meta, nil
}

// createTopic creates a topic. Neither created nor an error: another process was quicker.
func createTopic(ctx context.Context, client *kafka.Client, topic string, partitions, replication int, config map[string]string) (created bool, err error) {
	var entries []kafka.ConfigEntry
	for _, name := range slices.Sorted(maps.Keys(config)) {
		entries = append(entries, kafka.ConfigEntry{ConfigName: name, ConfigValue: config[name]})
	}
	answer, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: topic, NumPartitions: partitions, ReplicationFactor: replication, ConfigEntries: entries,
	}}})
	if err == nil {
		err = answer.Errors[topic]
	}
	if errors.Is(err, kafka.TopicAlreadyExists) {
		return false, nil
	}
	return err == nil, err
}

// await asks until a topic that was created is there, which takes brokers a moment.
func await(ctx context.Context, isThere func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		there, err := isThere(ctx)
		if there {
			return nil
		}
		if !clock.Sleep(ctx, metadataTTL/10) {
			return fmt.Errorf("created, and does not appear: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// examine says what the topic is like, tells what is unsafe about it, and with KAFKA_STRICT refuses it then.
func (l *lane) examine(ctx context.Context, meta *kafka.MetadataResponse) *topic {
	t := &topic{
		log:      logName(meta.ClusterID, l.topic),
		leaders:  leadersOf(meta.Topics[0].Partitions),
		maxBlock: maxBlockUnknown,
		at:       time.Now(),
	}
	config, err := l.config(ctx)
	if err != nil {
		l.log.Warn("cannot check whether acknowledged samples are safe in the topic: allow DescribeConfigs to this user", "err", err)
		l.s.metrics.unsafe(l.topic, map[string]string{"unknown": ""})
		if before := l.known.Load(); before != nil {
			t.maxBlock = before.maxBlock
		}
		t.unread = true
		if l.s.cfg.Strict {
			t.refused = fmt.Errorf("topic %s: %w: cannot check whether it is safe, and INGESTGW_KAFKA_STRICT=true: %w", l.topic, buffer.ErrUnavailable, err)
		}
		return t
	}
	if n, err := strconv.Atoi(config["max.message.bytes"]); err == nil {
		t.maxBlock = max(1, n-overhead)
	}
	faults := faultsOf(meta.Topics[0].Partitions, config, l.s.cfg.keeps(l.name, len(t.leaders)))
	l.s.metrics.unsafe(l.topic, faults)
	l.s.metrics.retention(l.topic, config)
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		l.log.Warn("acknowledged samples are not safe in the topic", "setting", name, "why", faults[name])
	}
	if len(faults) > 0 && l.s.cfg.Strict {
		t.refused = fmt.Errorf("topic %s: %w: not safe, and INGESTGW_KAFKA_STRICT=true: %s", l.topic, buffer.ErrUnavailable, list(faults))
	}
	return t
}

func list(faults map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		all = append(all, name+": "+faults[name])
	}
	return strings.Join(all, "; ")
}

// checked are the settings of a topic that are looked at (https://kafka.apache.org/documentation/#topicconfigs).
var checked = []string{
	"cleanup.policy", "max.message.bytes", "message.timestamp.type", "min.insync.replicas", "retention.bytes", "retention.ms",
	"unclean.leader.election.enable",
}

func (l *lane) config(ctx context.Context) (map[string]string, error) {
	answer, err := l.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: l.topic, ConfigNames: checked,
	}}})
	if err != nil {
		return nil, err
	}
	config := map[string]string{}
	for _, r := range answer.Resources {
		if r.Error != nil {
			return nil, r.Error
		}
		for _, e := range r.ConfigEntries {
			config[e.ConfigName] = e.ConfigValue
		}
	}
	return config, nil
}

// faultsOf says by setting what is unsafe about a topic. keeps is the least that retention.bytes may be, -1 when that is to bound nothing.
func faultsOf(partitions []kafka.Partition, config map[string]string, keeps int64) map[string]string {
	faults := map[string]string{}
	replication := replication(partitions)
	insync := number(config["min.insync.replicas"])
	switch {
	case replication < safeReplication:
		faults["replication"] = fmt.Sprintf("%d, want %d: with fewer, blocks are lost with a broker, or none is taken while one is down",
			replication, safeReplication)
	case insync >= int64(replication):
		faults["replication"] = fmt.Sprintf("%d, not more than min.insync.replicas=%d: nothing is taken while one broker is down", replication, insync)
	}
	if insync < safeInsync {
		faults["min.insync.replicas"] = fmt.Sprintf("%d, want %d: an acknowledged block may be on one broker only", insync, safeInsync)
	}
	if config["unclean.leader.election.enable"] == "true" {
		faults["unclean.leader.election.enable"] = "true, want false: a broker that lacks acknowledged blocks may become the leader"
	}
	if n := number(config["max.message.bytes"]); n < leastMaxBytes {
		faults["max.message.bytes"] = fmt.Sprintf("%d, want %d or more: blocks have to be smaller, and cost more", n, leastMaxBytes)
	}
	if strings.Contains(config["cleanup.policy"], "compact") {
		faults["cleanup.policy"] = config["cleanup.policy"] + ", want delete: blocks have no key and are not taken"
	}
	if t := config["message.timestamp.type"]; t != "LogAppendTime" {
		faults["message.timestamp.type"] = t + ", want LogAppendTime: else a wrong clock of a receiver makes Kafka remove blocks early, or refuse them"
	}
	if ms := number(config["retention.ms"]); ms >= 0 && ms < safeRetention.Milliseconds() {
		faults["retention.ms"] = fmt.Sprintf("%d, want %d or more: a longer outage of the cluster loses blocks", ms, safeRetention.Milliseconds())
	}
	switch n := number(config["retention.bytes"]); {
	case n >= 0 && keeps < 0:
		faults["retention.bytes"] = fmt.Sprintf("%d, want -1: blocks are removed before they are forwarded when there are more bytes", n)
	case n >= 0 && n < keeps:
		faults["retention.bytes"] = fmt.Sprintf("%d, want %d or more, as INGESTGW_KAFKA_BULK_MAX_BYTES says: blocks are removed before they are "+
			"forwarded when there are more bytes", n, keeps)
	}
	return faults
}

// replication is on how many brokers the least of the partitions is.
func replication(partitions []kafka.Partition) int {
	least := len(partitions[0].Replicas)
	for _, p := range partitions {
		least = min(least, len(p.Replicas))
	}
	return least
}

// number is what a setting says; -1, which is "unlimited" to Kafka, when it says nothing.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}
