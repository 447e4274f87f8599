package kafka

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/buffer/buffertest"
)

// TestMain has more tests run at a time than there are processors, since most of them wait.
func TestMain(m *testing.M) {
	flag.Parse()
	if parallel := flag.Lookup("test.parallel"); parallel.Value.String() == parallel.DefValue {
		_ = parallel.Value.Set("6") // it is a number
	}
	os.Exit(m.Run())
}

// fakeKafka starts a Kafka of three brokers within the process.
func fakeKafka(t testing.TB, options ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(3)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var prefixes atomic.Int32

// testConfig is for a topic prefix of its own.
func testConfig(brokers []string) Config {
	return Config{
		Brokers: brokers, TopicPrefix: fmt.Sprintf("test-%d", prefixes.Add(1)), CreateTopics: true, Partitions: 3, Replication: 3,
		Retention: 72 * time.Hour, Group: "unused", SessionTimeout: 6 * time.Second, HedgeAfter: 2 * time.Second, AppendTimeout: 2 * time.Second,
	}
}

// mustOpen opens a Store and closes it when the test ends.
func mustOpen(t testing.TB, cfg Config, around func(kafka.RoundTripper) kafka.RoundTripper) *Store {
	t.Helper()
	s, err := open(context.Background(), cfg, slog.New(slog.DiscardHandler), nil, around)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A faulty stands between a Store and the brokers and makes requests fail by order.
type faulty struct {
	mu     sync.Mutex
	killed bool
	blocks []buffertest.Fault // of the blocks to come
	saves  []buffertest.Fault // of the commits to come
	cursed map[string]bool    // blocks whose further tries are refused
}

func (f *faulty) around(inner kafka.RoundTripper) kafka.RoundTripper { return &faultyTrips{inner, f} }

type faultyTrips struct {
	inner kafka.RoundTripper
	*faulty
}

var (
	errKilled   = errors.New("the process was killed")
	errInjected = errors.New("injected")
)

func (f *faultyTrips) RoundTrip(ctx context.Context, addr net.Addr, req kafka.Request) (kafka.Response, error) {
	var fault buffertest.Fault
	switch r := req.(type) {
	case *produce.Request:
		var err error
		if fault, err = f.ofBlock(r); err != nil {
			return nil, err
		}
	case *offsetcommit.Request:
		fault = f.take(&f.saves)
	}
	f.mu.Lock()
	killed := f.killed
	f.mu.Unlock()
	switch {
	case killed:
		return nil, errKilled
	case fault == buffertest.Refused:
		return nil, errInjected
	}
	answer, err := f.inner.RoundTrip(ctx, addr, req)
	if err == nil && fault == buffertest.AnswerLost {
		return nil, errInjected
	}
	return answer, err
}

func (f *faulty) take(faults *[]buffertest.Fault) buffertest.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(*faults) == 0 {
		return 0
	}
	fault := (*faults)[0]
	*faults = (*faults)[1:]
	return fault
}

// ofBlock is what happens to a request that stores a block. The further tries of a block that has met a fault are refused.
func (f *faulty) ofBlock(r *produce.Request) (buffertest.Fault, error) {
	f.mu.Lock()
	quiet := len(f.blocks) == 0 && len(f.cursed) == 0
	f.mu.Unlock()
	if quiet {
		return 0, nil
	}
	set := &r.Topics[0].Partitions[0].RecordSet
	record, err := set.Records.ReadRecord()
	if err != nil {
		return 0, err
	}
	data, err := io.ReadAll(record.Value)
	if err != nil {
		return 0, err
	}
	set.Records = kafka.NewRecordReader(kafka.Record{Value: protocol.NewBytes(data), Headers: record.Headers})
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cursed[string(data)] {
		return buffertest.Refused, nil
	}
	if len(f.blocks) == 0 {
		return 0, nil
	}
	fault := f.blocks[0]
	f.blocks = f.blocks[1:]
	if f.cursed == nil {
		f.cursed = map[string]bool{}
	}
	f.cursed[string(data)] = true
	return fault, nil
}

// suite is the promises of a Store on these brokers.
func suite(brokers []string) buffertest.Harness {
	var mu sync.Mutex
	opened := map[*Store]*faulty{}
	start := func(t *testing.T, cfg Config) buffer.Store {
		f := new(faulty)
		s := mustOpen(t, cfg, f.around)
		mu.Lock()
		defer mu.Unlock()
		opened[s] = f
		return s
	}
	faults := func(s buffer.Store) *faulty {
		mu.Lock()
		defer mu.Unlock()
		return opened[s.(*Store)]
	}
	return buffertest.Harness{
		Open: func(t *testing.T, _ int64) buffer.Store { return start(t, testConfig(brokers)) },
		Reopen: func(t *testing.T, s buffer.Store, crash bool) buffer.Store {
			if crash {
				f := faults(s)
				f.mu.Lock()
				f.killed = true
				f.mu.Unlock()
			}
			return start(t, s.(*Store).cfg)
		},
		Fail: func(_ *testing.T, s buffer.Store, fault buffertest.Fault) {
			f := faults(s)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.blocks = append(f.blocks, fault)
		},
		FailSave: func(_ *testing.T, s buffer.Store, fault buffertest.Fault) {
			f := faults(s)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.saves = append(f.saves, fault)
		},
		Lose:     func(t *testing.T, s buffer.Store) { takeAll(t, s.(*Store), "readers") },
		Patience: 20 * time.Second,
		Without: map[string]string{
			"FullIsErrFullAndRecovers": "how much a topic may hold is Kafka's affair: it removes by time and never refuses",
			"FullBulkLeavesRoomInMain": "no lane is ever full",
		},
	}
}

func TestStoreKeepsItsPromises(t *testing.T) {
	t.Parallel()
	buffertest.Run(t, suite(fakeKafka(t).ListenAddrs()))
}

// greedy is a balancer that gives everything to one member.
type greedy struct {
	sticky
	all func(members []kafka.GroupMember) string
}

func (g *greedy) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	a := kafka.GroupMemberAssignments{}
	for _, m := range members {
		a[m.ID] = map[string][]int{}
	}
	taker := g.all(members)
	for _, p := range partitions {
		a[taker][p.Topic] = append(a[taker][p.Topic], p.ID)
	}
	return a
}

// takeAll puts s out of the group, has another member own all of its partitions until s has noticed, and leaves.
func takeAll(t *testing.T, s *Store, group string) {
	t.Helper()
	l := s.lane(buffer.Main)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	described, err := l.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		t.Fatal(err)
	}
	var members []kafka.LeaveGroupRequestMember
	for _, m := range described.Groups[0].Members {
		members = append(members, kafka.LeaveGroupRequestMember{ID: m.MemberID})
	}
	if len(members) == 0 {
		t.Fatalf("nobody is in group %s: %+v", group, described.Groups)
	}
	for _, m := range members {
		left, err := l.client.LeaveGroup(ctx, &kafka.LeaveGroupRequest{GroupID: group, Members: []kafka.LeaveGroupRequestMember{m}})
		if err != nil || left.Error != nil {
			t.Fatal(err, left)
		}
	}
	mine := ""
	balancer := &greedy{sticky: sticky{held: func() ownership { return ownership{} }}}
	balancer.all = func(members []kafka.GroupMember) string {
		if i := slices.IndexFunc(members, func(m kafka.GroupMember) bool { return m.ID == mine }); i >= 0 {
			return mine
		}
		return members[0].ID
	}
	rival, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: s.cfg.Brokers, Topics: []string{l.topic}, GroupBalancers: []kafka.GroupBalancer{balancer},
		HeartbeatInterval: 200 * time.Millisecond, SessionTimeout: 6 * time.Second, RebalanceTimeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rival.Close()
	for both := false; !both; {
		g, err := rival.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mine = g.MemberID
		now, err := l.client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
		if err != nil {
			t.Fatal(err)
		}
		both = len(now.Groups[0].Members) > 1
	}
}
