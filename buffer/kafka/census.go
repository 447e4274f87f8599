package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/internal/clock"
)

// censusEvery is how often the group's coordinator is asked who its members are and what they have.
const censusEvery = 30 * time.Second

// countMembers shows now and then how many members the group has, and which partitions none of them has, until ctx ends.
func (m *member) countMembers(ctx context.Context) {
	defer m.s.metrics.forgetGroup()
	for clock.Sleep(ctx, censusEvery) {
		m.census(ctx)
	}
}

// census asks once. What cannot be known now is not shown.
func (m *member) census(ctx context.Context) {
	g, err := m.describe(ctx)
	if ctx.Err() != nil {
		return
	}
	m.s.metrics.forgetGroup()
	if err != nil {
		return
	}
	m.s.metrics.members.WithLabelValues().Set(float64(len(g.Members)))
	if len(g.Members) == 0 || g.GroupState == stable {
		m.s.metrics.unowned.WithLabelValues().Set(float64(m.unowned(g)))
	}
}

// describe asks for the group. One that has never had members has none.
func (m *member) describe(ctx context.Context) (kafka.DescribeGroupsResponseGroup, error) {
	none := kafka.DescribeGroupsResponseGroup{}
	client := m.s.lane(needed[0]).client
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{m.group}})
	switch {
	case err != nil:
		return none, err
	case len(answer.Groups) != 1:
		return none, errors.New("the coordinator's answer says nothing of the group")
	case errors.Is(answer.Groups[0].Error, kafka.GroupIdNotFound):
		return none, nil
	}
	return answer.Groups[0], answer.Groups[0].Error
}

// unowned is how many partitions of the topics that are known no member has.
func (m *member) unowned(g kafka.DescribeGroupsResponseGroup) (n int) {
	owned := map[place]bool{}
	for _, of := range g.Members {
		for _, t := range of.MemberAssignments.Topics {
			for _, p := range t.Partitions {
				owned[place{t.Topic, p}] = true
			}
		}
	}
	for topic, l := range m.lanes {
		known := l.known.Load()
		if known == nil {
			continue
		}
		for p := range known.leaders {
			if !owned[place{topic, p}] {
				n++
			}
		}
	}
	return n
}
