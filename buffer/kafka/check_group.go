package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/clock"
)

const (
	// settleDown is how long a check waits for a group that shares its partitions out anew, and for a coordinator.
	settleDown = 5 * time.Second
	// stable is the state of a group that does neither, and has members (https://kafka.apache.org/documentation/#consumerconfigs).
	stable = "Stable"
)

// group looks at who forwards the topics, and at what is left to forward. underWay says that somebody should.
func (c *checking) group(client *kafka.Client, topics []*checkedTopic, underWay bool) {
	what := "group " + c.cfg.Group
	g, err := c.describe(client)
	switch {
	case errors.Is(err, kafka.GroupAuthorizationFailed):
		c.add(Bad, what, "%v: allow Read to this user, or look at INGESTGW_KAFKA_GROUP", err)
		return
	case err != nil && !errors.Is(err, kafka.GroupIdNotFound):
		c.add(Bad, what, "%s", inOneLine(err))
		return
	}
	sharing := c.members(what, g, underWay)
	for _, t := range topics {
		what := what + ", topic " + t.topic
		if sharing {
			c.shares(what, t, g)
		}
		commits, err := commitsOf(c.ctx, client, c.cfg.Group, map[string][]int{t.topic: upTo(t.partitions)})
		if err != nil && !errors.Is(err, kafka.GroupIdNotFound) { // which is as good as no commits
			c.add(Bad, what, "%s", inOneLine(err))
			return
		}
		c.backlog(what, t, commits)
	}
}

// describe asks for the group, again while that may help.
func (c *checking) describe(client *kafka.Client) (g kafka.DescribeGroupsResponseGroup, err error) {
	for end := time.Now().Add(settleDown); ; {
		g, err = c.describeOnce(client)
		var code kafka.Error
		passing := errors.As(err, &code) && code.Temporary() || err == nil && len(g.Members) > 0 && g.GroupState != stable
		if !passing || time.Now().After(end) || !clock.Sleep(c.ctx, settleDown/25) {
			return g, err
		}
	}
}

func (c *checking) describeOnce(client *kafka.Client) (kafka.DescribeGroupsResponseGroup, error) {
	answer, err := client.DescribeGroups(c.ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{c.cfg.Group}})
	if err != nil {
		return kafka.DescribeGroupsResponseGroup{}, err
	}
	if len(answer.Groups) != 1 {
		return kafka.DescribeGroupsResponseGroup{}, errors.New("the coordinator's answer says nothing of it")
	}
	return answer.Groups[0], answer.Groups[0].Error
}

// members says whether there are members that have shared the partitions out, and what else is so.
func (c *checking) members(what string, g kafka.DescribeGroupsResponseGroup, underWay bool) (sharing bool) {
	switch {
	case len(g.Members) == 0 && underWay:
		c.add(Doubtful, what, "has no members, though an ingestgw runs that forwards: see what it logs, and whether it was started with the same "+
			"INGESTGW_KAFKA_GROUP and INGESTGW_KAFKA_BROKERS")
		return false
	case len(g.Members) == 0:
		c.add(Good, what, "has no members: nobody forwards now")
		return false
	case g.GroupState != stable:
		c.add(Doubtful, what, "has %d members and has not finished sharing out the partitions within %v (%s): if that stays so, see what they log",
			len(g.Members), settleDown, g.GroupState)
		return false
	}
	return true
}

// shares says who forwards which partitions of a topic.
func (c *checking) shares(what string, t *checkedTopic, g kafka.DescribeGroupsResponseGroup) {
	orphans := map[int]bool{}
	for _, p := range upTo(t.partitions) {
		orphans[p] = true
	}
	var shares []string
	for _, m := range g.Members {
		n := 0
		for _, topic := range m.MemberAssignments.Topics {
			if topic.Topic != t.topic {
				continue
			}
			n += len(topic.Partitions)
			for _, p := range topic.Partitions {
				delete(orphans, p)
			}
		}
		shares = append(shares, fmt.Sprintf("%d at %s", n, strings.TrimPrefix(m.ClientHost, "/")))
	}
	slices.Sort(shares)
	c.add(Good, what, "members: %d; partitions that they forward: %s", len(g.Members), strings.Join(shares, ", "))
	if len(orphans) > 0 {
		var list []int
		for p := range orphans {
			list = append(list, p)
		}
		c.add(Doubtful, what, "%s no owner, so nothing there is forwarded: members look for new partitions every %v; if it stays so, see what "+
			"they log", theyHave(list), watchPartitions)
	}
}

// backlog compares what the group has committed with what Kafka still has, and for how long Kafka keeps it.
func (c *checking) backlog(what string, t *checkedTopic, commits map[place]commit) {
	kept, err := t.bounds(c.ctx, t.partitions)
	if err != nil {
		c.add(Bad, what, "%s", inOneLine(err))
		return
	}
	var replaced, overtaken, newer []int
	var oldest time.Time
	blocks := int64(0)
	for n, span := range kept {
		at := span.From
		if commit, ok := commits[place{t.topic, n}]; ok && commit.offset >= 0 {
			if commit.unknown != nil {
				newer = append(newer, n)
			}
			switch {
			case commit.offset > span.To:
				replaced = append(replaced, n)
			case commit.offset < span.From:
				overtaken = append(overtaken, n)
			default:
				at = commit.offset
			}
		}
		blocks += int64(span.To - at)
		if at == span.To {
			continue
		}
		stored, err := c.storedAt(t.lane, n, at)
		if err != nil {
			c.add(Doubtful, what, "the oldest block of partition %d that is not settled cannot be read: %s", n, inOneLine(err))
			continue
		}
		if oldest.IsZero() || stored.Before(oldest) {
			oldest = stored
		}
	}
	if len(replaced) > 0 {
		c.add(Doubtful, what, "has committed more of %s than there is: the topic was made anew, and is forwarded from its first block on", listed(replaced))
	}
	if len(newer) > 0 {
		c.add(Doubtful, what, "the progress of %s was saved by a newer version of ingestgw: this one does not forward it; run that version", listed(newer))
	}
	if len(overtaken) > 0 {
		c.add(Doubtful, what, "had not forwarded all of %s when Kafka removed it: what is missing is lost; raise retention.ms of topic %s",
			listed(overtaken), t.topic)
	}
	c.retention(what, t, blocks, oldest)
}

// retention says for how long the oldest block will still be there.
func (c *checking) retention(what string, t *checkedTopic, blocks int64, oldest time.Time) {
	if oldest.IsZero() {
		c.add(Good, what, "blocks that are not settled: %d", blocks)
		return
	}
	age := max(0, time.Since(oldest)).Round(time.Second)
	text := fmt.Sprintf("blocks that are not settled: %d; the oldest is %v old", blocks, age)
	ms := number(t.config["retention.ms"])
	keeps := time.Duration(ms) * time.Millisecond
	switch {
	case ms < 0:
		c.add(Good, what, "%s", text)
	case age > keeps/2:
		c.add(Doubtful, what, "%s, and Kafka removes blocks after %v, forwarded or not: raise retention.ms of topic %s, and see why forwarding is behind",
			text, keeps, t.topic)
	default:
		c.add(Good, what, "%s, and Kafka keeps blocks for %v", text, keeps)
	}
}

// storedAt is when the first block at an offset or behind it was stored, by the time that Kafka's retention goes by.
func (c *checking) storedAt(l *lane, partition int, from buffer.Offset) (time.Time, error) {
	answer, err := l.fetch(c.ctx, partition, from, 1)
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return time.Time{}, err
	}
	for {
		r, err := answer.Records.ReadRecord()
		if err != nil {
			return time.Time{}, err
		}
		if r.Value != nil {
			_ = r.Value.Close() // never fails
		}
		if buffer.Offset(r.Offset) >= from {
			return r.Time, nil
		}
	}
}
