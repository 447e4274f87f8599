package alarm

import (
	"fmt"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// throttledShare is the part of the time that Kafka may make us wait.
	throttledShare = 0.05
	// retentionShare is the part of a topic's retention that the backlog may be old.
	retentionShare = 0.5
	// kafkaGone is for how many seconds no broker has to have answered.
	kafkaGone = 8
)

// kafkaCauses are about the buffer in Kafka.
func kafkaCauses() []Rule {
	return []Rule{
		{Name: "kafka_unavailable", Severity: Page, After: 8 * time.Second, Until: 20 * time.Second,
			Means:    "No Kafka broker answers, or none acknowledges what is to be stored. Senders get 503.",
			Explains: heldUp,
			Covers:   []string{"kafka_*", "partition_without_owner", "too_few_partitions", "senders_gone"}, Find: one(kafkaGoneFor)},
		{Name: "kafka_under_replicated", Severity: Ticket, After: time.Minute, Until: time.Minute,
			Means:    "Partitions of ingestgw's topics have fewer replicas in sync than they should, or no leader (page).",
			Explains: heldUp, Find: one(underReplicated)},
		{Name: "kafka_throttles", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "A quota of Kafka makes ingestgw wait.",
			Explains: heldUp, Find: one(kafkaThrottles)},
		{Name: "kafka_retention_too_short", Severity: Page, After: 15 * time.Second, Until: time.Minute,
			Means: "The backlog is older than half of what Kafka keeps: it will be deleted before it is sent.",
			Find:  one(retentionTooShort)},
		{Name: "kafka_topic_unsafe", Severity: Ticket, After: 30 * time.Second, Until: 10 * time.Minute,
			Means: "A topic has settings with which acknowledged samples may be lost.",
			Find:  one(topicUnsafe)},
		{Name: "partition_without_owner", Severity: Page, After: time.Minute, Until: time.Minute,
			Means:    "Partitions have no process that forwards them.",
			Explains: heldUp, Find: one(withoutOwner)},
		{Name: "too_few_partitions", Severity: Ticket, After: 5 * time.Minute, Until: 5 * time.Minute,
			Means: "More processes forward than the main lane has partitions.",
			Find:  one(tooFewPartitions)},
	}
}

func kafkaGoneFor(r *Readings) *Finding {
	k := r.Kafka
	if k == nil || !(k.UnreachableFor > kafkaGone) && !(k.Failed > 0 && k.Acknowledged == 0) && !(k.Unstored > 0) {
		return nil
	}
	return &Finding{
		Summary: "Kafka does not store: no broker answers, or none acknowledges. Senders get 503 and come again; nothing acknowledged is lost.",
		Next:    "Look at the brokers (are they up? min.insync.replicas? disks full?) and at the network to INGESTGW_KAFKA_BROKERS.",
		Evidence: evident(evidence("unreachable", k.UnreachableFor, seconds, "the last answer of a broker was %s ago"),
			evidence("failed", k.Failed, perSec, "%s tries a second to store a block fail"),
			evidence("unstored", k.Unstored, perSec, "%s blocks a second are given up"),
			evidence("acknowledged", k.Acknowledged, perSec, "%s a second are acknowledged"),
			evidence("leaderless", k.Leaderless, plain, "%s partitions have no leader")),
	}
}

func underReplicated(r *Readings) *Finding {
	k := r.Kafka
	if k == nil || !(k.UnderReplicated > 0) && !(k.Leaderless > 0) {
		return nil
	}
	f := &Finding{
		Summary:  fmt.Sprintf("%s partitions of our topics have fewer replicas in sync than they should: a further broker that fails may stop them.", said(k.UnderReplicated, plain)),
		Next:     "Look for the broker that is down or behind.",
		Evidence: known(evidence("under_replicated", k.UnderReplicated, plain, "%s partitions are under-replicated"), evidence("leaderless", k.Leaderless, plain, "%s have no leader")),
	}
	if k.Leaderless > 0 {
		f.Severity = Page
		f.Summary = fmt.Sprintf("%s partitions of our topics have no leader: what they hold is not forwarded.", said(k.Leaderless, plain))
	}
	return f
}

func kafkaThrottles(r *Readings) *Finding {
	if r.Kafka == nil || !(r.Kafka.Throttled > throttledShare) {
		return nil
	}
	return &Finding{
		Summary:  "Kafka makes ingestgw wait: a quota of this client or user is used up.",
		Next:     "Raise the producer and consumer byte rates of ingestgw's user or client id (kafka-configs.sh), or remove the quota.",
		Evidence: []Evidence{evidence("throttled", r.Kafka.Throttled, share, "it is made to wait for %s of the time")},
	}
}

func retentionTooShort(r *Readings) *Finding {
	k := r.Kafka
	if k == nil {
		return nil
	}
	if f := outlived("main", r.Main.Age, k.MainRetention); f != nil {
		return f
	}
	return outlived("bulk", r.Bulk.Age, k.BulkRetention)
}

// outlived finds that a lane's backlog may be deleted before it is sent.
func outlived(lane string, age, retention downstream.Figure) *Finding {
	if !(age > retentionShare*retention) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("The backlog of lane %s is %s old, and Kafka deletes what is older than %s: samples will be lost.", lane, said(age, seconds), said(retention, seconds)),
		Next:     "Raise retention.ms of the topic of this lane now (kafka-configs.sh --alter), then mend what holds the backlog up.",
		Evidence: []Evidence{evidence("backlog_age", age, seconds, "the oldest unsent sample was received %s ago"), evidence("retention", retention, seconds, "Kafka keeps %s")},
	}
}

func topicUnsafe(r *Readings) *Finding {
	if r.Kafka == nil || len(r.Kafka.Unsafe) == 0 {
		return nil
	}
	return &Finding{
		Summary:  "Acknowledged samples are not safe with the settings of these topics: " + firstFew(r.Kafka.Unsafe) + ".",
		Next:     "Change the settings as ingestgw's log and `ingestgw check` say.",
		Evidence: []Evidence{fact("unsafe", "unsafe: %s", strings.Join(r.Kafka.Unsafe, ", "))},
	}
}

func withoutOwner(r *Readings) *Finding {
	if r.Kafka == nil || !(r.Kafka.Unowned > 0) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s partitions are forwarded by nobody: what is in them waits.", said(r.Kafka.Unowned, plain)),
		Next:     "See whether enough processes with INGESTGW_ROLE=forward or all run, and whether they can join the consumer group (their logs).",
		Evidence: []Evidence{evidence("unowned", r.Kafka.Unowned, plain, "%s partitions have no owner"), evidence("members", r.Kafka.Members, plain, "%s processes are in the group")},
	}
}

func tooFewPartitions(r *Readings) *Finding {
	k := r.Kafka
	if k == nil || !(k.Members > k.Partitions) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s processes forward, and the main lane has %s partitions only: some have nothing to do.", said(k.Members, plain), said(k.Partitions, plain)),
		Next:     "Add partitions to ingestgw's topics (kafka-topics.sh --alter), or run fewer forwarders.",
		Evidence: []Evidence{evidence("members", k.Members, plain, "%s processes are in the group"), evidence("partitions", k.Partitions, plain, "the main lane has %s partitions")},
	}
}
