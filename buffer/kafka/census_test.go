package kafka

import (
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
)

// counter is a member that forwards these lanes and only counts.
func counter(s *Store, group string, lanes ...buffer.Lane) *member {
	m := &member{s: s, group: group, lanes: map[string]*lane{}}
	for _, name := range lanes {
		l := s.lane(name)
		m.lanes[l.topic] = l
	}
	return m
}

// counted is what is shown of the group after one look.
func counted(t *testing.T, m *member) map[string]float64 {
	t.Helper()
	m.census(soon(t))
	return shown(t, m.s, "unowned_partitions", "group_members")
}

func members(n, unowned float64) map[string]float64 {
	return map[string]float64{"group_members": n, "unowned_partitions": unowned}
}

func TestPartitionsThatNoMemberHasAreShown(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	s, other := mustOpen(t, cfg, nil), mustOpen(t, cfg, nil)
	all := counter(s, "g", buffer.Main, buffer.Bulk)
	if got := counted(t, all); !maps.Equal(got, members(0, 6)) {
		t.Errorf("without members: %v", got)
	}
	consume(t, s, "g").owns(3)
	if got := counted(t, all); !maps.Equal(got, members(1, 3)) {
		t.Errorf("with a member that forwards main: %v", got)
	}
	if got := counted(t, counter(s, "g", buffer.Main)); !maps.Equal(got, members(1, 0)) {
		t.Errorf("with a member that forwards all: %v", got)
	}
	second := consumeLanes(t, other, "g", buffer.Bulk)
	second.ownsOf(buffer.Bulk, 3)
	eventually(t, "all partitions have an owner again", func() bool { return maps.Equal(counted(t, all), members(2, 0)) })
	all.s.metrics.forgetGroup()
	if got := shown(t, s, "unowned_partitions", "group_members"); len(got) > 0 {
		t.Errorf("shown are %v after forwarding has ended", got)
	}
}

func TestNothingIsSaidOfOwnersWhileTheyAreNotKnown(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	s := mustOpen(t, testConfig(c.ListenAddrs()), nil)
	m := counter(s, "g", buffer.Main)
	if got := counted(t, m); !maps.Equal(got, members(0, 3)) {
		t.Errorf("without members: %v", got)
	}
	c.ControlKey(int16(kmsg.DescribeGroups), func(req kmsg.Request) (kmsg.Response, error, bool) {
		answer := req.ResponseKind().(*kmsg.DescribeGroupsResponse)
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.State, g.ProtocolType = "g", "PreparingRebalance", "consumer"
		g.Members = []kmsg.DescribeGroupsResponseGroupMember{kmsg.NewDescribeGroupsResponseGroupMember()}
		answer.Groups = append(answer.Groups, g)
		return answer, nil, true
	})
	if got := counted(t, m); !maps.Equal(got, map[string]float64{"group_members": 1}) {
		t.Errorf("while partitions are shared out: %v", got)
	}
	denied := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeGroups}, Err: kerr.GroupAuthorizationFailed, Count: -1})
	if got := counted(t, m); len(got) > 0 || denied.Hits() == 0 {
		t.Errorf("when it cannot be known: %v", got)
	}
}
