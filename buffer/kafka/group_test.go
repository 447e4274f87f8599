package kafka

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/clock"
)

// wantKept says whether the runs for partitions have gone on, and which of them have not.
func wantKept(t *testing.T, before map[int]*owned) {
	t.Helper()
	for n, o := range before {
		if o.ctx.Err() != nil {
			t.Errorf("partition %d was given up", n)
		}
	}
}

func TestForwardingGoesOnWhenTheCoordinatorMoves(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	s := mustOpen(t, testConfig(c.ListenAddrs()), nil)
	put(t, s, 9)
	group := consume(t, s, "g")
	parts := group.owns(3)
	for n, p := range parts {
		save(t, p, buffer.Offset(n))
	}
	for range 3 {
		c.RehashCoordinators()
		for n, p := range parts {
			save(t, p, buffer.Offset(n), buffer.Span{From: 10, To: 11})
			wantDone(t, load(t, p), buffer.Offset(n), buffer.Span{From: 10, To: 11})
		}
	}
	wantKept(t, parts)
	if group.begun() != 3 {
		t.Errorf("partitions were handed out %d times", group.begun())
	}
}

// Between two generations nothing is saved, and nothing is given up.
func TestForwardingGoesOnWhileThereIsNoCoordinator(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	s := mustOpen(t, testConfig(c.ListenAddrs()), nil)
	all := put(t, s, 9)
	group := consume(t, s, "g")
	parts := group.owns(3)
	gone := c.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup, kmsg.Heartbeat, kmsg.SyncGroup, kmsg.OffsetCommit, kmsg.OffsetFetch, kmsg.LeaveGroup}, Group: "g",
			Err: kerr.CoordinatorNotAvailable, Count: -1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup, kmsg.Heartbeat, kmsg.SyncGroup, kmsg.OffsetFetch, kmsg.LeaveGroup}, Group: "g", TopLevel: true,
			Err: kerr.CoordinatorNotAvailable, Count: -1},
	)
	eventually(t, "the generation is over", func() bool {
		err := parts[0].Save(soon(t), progressOf(parts[0], 1))
		return errors.Is(err, buffer.ErrUnavailable) && !errors.Is(err, buffer.ErrFenced) && between(err)
	})
	if read := readAll(t, parts); read != len(all) {
		t.Errorf("%d of %d blocks were read", read, len(all))
	}
	gone.Remove()
	for n, p := range parts {
		save(t, p, buffer.Offset(n), buffer.Span{From: 10, To: 12})
	}
	wantKept(t, parts)
	if group.begun() != 3 {
		t.Errorf("partitions were handed out %d times", group.begun())
	}
}

func between(err error) bool {
	return errors.Is(err, buffer.ErrUnavailable) && !errors.As(err, new(kafka.Error))
}

func TestEverythingIsGivenUpWhenTheGroupIsNotHeardOf(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.RebalanceTimeout = 2 * time.Second
	s := mustOpen(t, cfg, nil)
	put(t, s, 3)
	group := consume(t, s, "g")
	parts := group.owns(3)
	began := time.Now()
	gone := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Group: "g", Err: kerr.CoordinatorNotAvailable, Count: -1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", TopLevel: true, Err: kerr.CoordinatorNotAvailable, Count: -1})
	group.owns(0)
	if took := time.Since(began); took < cfg.RebalanceTimeout {
		t.Errorf("they were given up after %v", took)
	}
	if err := parts[0].Save(soon(t), progressOf(parts[0], 1)); !errors.Is(err, buffer.ErrFenced) {
		t.Errorf("save: %v", err)
	}
	if _, err := parts[0].Read(soon(t), 0, 1); !errors.Is(err, buffer.ErrFenced) {
		t.Errorf("read: %v", err)
	}
	gone.Remove()
	group.owns(3)
	if group.begun() != 6 {
		t.Errorf("partitions were handed out %d times", group.begun())
	}
}

func TestPartitionsMoveWithTheMembers(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions = 6
	stores := []*Store{mustOpen(t, cfg, nil), mustOpen(t, cfg, nil), mustOpen(t, cfg, nil)}
	put(t, stores[0], 120)
	first := consume(t, stores[0], "g")
	parts := first.owns(6)
	saved := saving(t, parts)
	began := time.Now()
	second := consume(t, stores[1], "g")
	theirs, ours := second.owns(3), first.owns(3)
	saved.stop()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("partitions moved after %v", took)
	}
	wantKept(t, ours)
	for n, p := range theirs {
		if ours[n] != nil {
			t.Errorf("partition %d has two owners", n)
		}
		if done, last := load(t, p), buffer.Offset(saved.last[n].Load()); done[0].To < last || last == 0 {
			t.Errorf("partition %d: %d was saved, %d is loaded by who has it now", n, last, done[0].To)
		}
	}
	for n, o := range parts {
		if ours[n] != nil {
			save(t, o, buffer.Offset(saved.last[n].Load()))
		} else if err := o.Save(soon(t), progressOf(o, 0)); !errors.Is(err, buffer.ErrFenced) {
			t.Errorf("partition %d is another's now: save answers %v", n, err)
		}
	}
	third := consume(t, stores[2], "g")
	third.owns(2)
	kept := map[int]*owned{}
	maps.Copy(kept, first.owns(2))
	maps.Copy(kept, second.owns(2))
	began = time.Now()
	third.stop()
	eventually(t, "the others have everything", func() bool { return len(first.owned())+len(second.owned()) == 6 })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("partitions moved after %v", took)
	}
	wantKept(t, kept)
}

// A savings saves more and more for some partitions until stop.
type savings struct {
	last map[int]*atomic.Int64 // the last offset that was saved, by partition
	stop func()
}

func saving(t *testing.T, parts map[int]*owned) *savings {
	s := &savings{last: map[int]*atomic.Int64{}}
	next := map[int]buffer.Offset{}
	for n, p := range parts {
		s.last[n] = new(atomic.Int64)
		var err error
		if _, next[n], err = p.Bounds(soon(t)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(soon(t))
	done := make(chan struct{})
	go func() { // ends with stop
		defer close(done)
		for o := buffer.Offset(1); clock.Sleep(ctx, 20*time.Millisecond); o++ {
			for n, p := range parts {
				to := min(o, next[n])
				err := p.Save(soon(t), progressOf(p, to))
				switch {
				case err == nil:
					s.last[n].Store(int64(to))
				case errors.Is(err, buffer.ErrUnavailable), errors.Is(err, buffer.ErrFenced):
				default:
					t.Errorf("save: %v", err)
				}
			}
		}
	}()
	s.stop = func() {
		cancel()
		<-done
	}
	return s
}

// A process that slept for longer than its session finds that others have had its partitions.
func TestMemberWhoseSessionHasExpiredStartsItsPartitionsAnew(t *testing.T) {
	t.Parallel()
	for name, commits := range map[string]bool{"others have committed": true, "nobody has": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire()
			c := fakeKafka(t, kfake.GroupMinSessionTimeout(time.Second), kfake.ListenFn(w.listen()))
			cfg := testConfig(c.ListenAddrs())
			cfg.Partitions, cfg.SessionTimeout = 1, time.Second
			s, other := mustOpen(t, cfg, nil), mustOpen(t, cfg, nil)
			put(t, s, 9)
			group := consume(t, s, "g")
			p := group.one()
			save(t, p, 2)
			// Its heartbeats arrive no more, and nothing else of the group's.
			member := c.GroupInfo("g").Members[0].MemberID
			asleep := sleeping(c, member)
			rival := consume(t, other, "g")
			theirs := rival.one()
			if commits {
				save(t, theirs, 5)
				if err := p.Save(soon(t), progressOf(p, 3)); err == nil {
					t.Error("who was put out of the group can save")
				}
			}
			rival.stop()
			asleep.Store(false)
			if commits {
				eventually(t, "it is started anew", func() bool { return group.begun() > 1 })
				<-p.ctx.Done()
				p = group.one()
				wantDone(t, load(t, p), 5)
				return
			}
			eventually(t, "it is in the group again", func() bool { return testutil.ToFloat64(s.metrics.generations) == 2 })
			save(t, p, 4)
			if group.begun() != 1 {
				t.Errorf("partitions were handed out %d times, though nobody has committed", group.begun())
			}
		})
	}
}

// sleeping makes a coordinator not hear of a member any more, until it is false.
func sleeping(c *kfake.Cluster, member string) *atomic.Bool {
	var asleep atomic.Bool
	asleep.Store(true)
	c.ControlKey(int16(kmsg.Heartbeat), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if !asleep.Load() || r.(*kmsg.HeartbeatRequest).MemberID != member {
			return nil, nil, false
		}
		c.KeepControl()
		answer := r.ResponseKind().(*kmsg.HeartbeatResponse) // as if all was well
		return answer, nil, true
	})
	return &asleep
}

func TestStaleGenerationIsFenced(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{kerr.IllegalGeneration, kerr.UnknownMemberID} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			c := fakeKafka(t)
			cfg := testConfig(c.ListenAddrs())
			cfg.Partitions = 1
			s := mustOpen(t, cfg, nil)
			put(t, s, 1)
			group := consume(t, s, "g")
			p := group.one()
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: s.lane(buffer.Main).topic, Err: code})
			if err := p.Save(soon(t), progressOf(p, 1)); !errors.Is(err, buffer.ErrFenced) {
				t.Errorf("save: %v", err)
			}
			<-p.ctx.Done()
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", TopLevel: true, Err: kerr.UnknownMemberID})
			eventually(t, "the next generation hands it out again", func() bool { return group.begun() == 2 })
			save(t, group.one(), 1)
		})
	}
}

// What a member saves after a rebalance, before it knows what others have committed, would undo that.
func TestNothingIsSavedBeforeOthersCommitsAreKnown(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions = 1
	s := mustOpen(t, cfg, nil)
	put(t, s, 9)
	group := consume(t, s, "g")
	p := group.one()
	save(t, p, 2)
	was := c.GroupInfo("g").Commits[s.lane(buffer.Main).topic][0]

	// The next generation begins, and cannot ask.
	deaf := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Group: "g", TopLevel: true, Err: kerr.CoordinatorLoadInProgress, Count: -1,
		When: func(r kmsg.Request) bool { return r.(*kmsg.OffsetFetchRequest).Version > 1 }}) // kafka-go's own are of version 1
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", TopLevel: true, Err: kerr.RebalanceInProgress})
	if err := deaf.Wait(soon(t), 1); err != nil {
		t.Fatal(err)
	}
	if err := p.Save(soon(t), progressOf(p, 3)); !errors.Is(err, buffer.ErrUnavailable) {
		t.Errorf("save: %v", err)
	}
	if now := c.GroupInfo("g").Commits[s.lane(buffer.Main).topic][0]; now.Offset != was.Offset {
		t.Errorf("%d is committed", now.Offset)
	}
	deaf.Remove()
	save(t, p, 3)
	if group.begun() != 1 {
		t.Errorf("partitions were handed out %d times, though it was only asked late", group.begun())
	}
}

func TestPartitionsThatAreAddedAreConsumed(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	s := mustOpen(t, testConfig(c.ListenAddrs()), nil)
	group := consume(t, s, "g")
	before := group.owns(3)
	l := s.lane(buffer.Main)
	answer, err := l.client.CreatePartitions(soon(t), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: l.topic, Count: 5}}})
	if err != nil || answer.Errors[l.topic] != nil {
		t.Fatal(err, answer)
	}
	var all []*paper
	eventually(t, "blocks go there too", func() bool {
		all = append(all, put(t, s, 5)...)
		now := stored(t, s)
		return len(now[3]) > 0 && len(now[4]) > 0
	})
	now := group.owns(5)
	wantKept(t, before)
	if read := readAll(t, now); read < len(all) {
		t.Errorf("%d of %d blocks were read", read, len(all))
	}
}

// sharedOutAs has the next partitions shared out as if the topic had n of them: it is made anew a moment later.
func sharedOutAs(c *kfake.Cluster, topic string, n int) {
	told := false
	c.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) { // one at a time
		c.KeepControl()
		req := r.(*kmsg.MetadataRequest)
		if told || req.Version > 6 || len(req.Topics) != 1 || *req.Topics[0].Topic != topic { // kafka-go's groups ask with 6
			return nil, nil, false
		}
		told = true
		answer := req.ResponseKind().(*kmsg.MetadataResponse)
		of := kmsg.NewMetadataResponseTopic()
		of.Topic = &topic
		for p := range n {
			part := kmsg.NewMetadataResponseTopicPartition()
			part.Partition = int32(p)
			of.Partitions = append(of.Partitions, part)
		}
		answer.Topics = append(answer.Topics, of)
		return answer, nil, true
	})
}

// kafka-go looks for other partitions too, but counts from when it begins to look.
func TestPartitionsAreSharedOutAnewWhenTheyAreNotThoseThatWere(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"there are more": 1, "there are fewer": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fakeKafka(t)
			cfg := testConfig(c.ListenAddrs())
			s := mustOpen(t, cfg, nil)
			sharedOutAs(c, s.lane(buffer.Main).topic, n)
			left := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.LeaveGroup}, Group: "g", Observe: true, Count: -1})
			group := consume(t, s, "g")
			before := group.owns(n)
			for p := range before {
				if p >= cfg.Partitions {
					delete(before, p)
				}
			}
			group.owns(3)
			wantKept(t, before)
			if left.Hits() > 0 {
				t.Error("the group was left for that")
			}
		})
	}
}

// A census taker answers what partitions a topic has: so many of them; below 0 it does not answer.
type censusTaker func() int

func (c censusTaker) RoundTrip(context.Context, net.Addr, kafka.Request) (kafka.Response, error) {
	n := c()
	if n < 0 {
		return nil, errors.New("no broker answers")
	}
	return &metadata.Response{
		Brokers: []metadata.ResponseBroker{{}},
		Topics:  []metadata.ResponseTopic{{Name: "t", Partitions: make([]metadata.ResponsePartition, n)}},
	}, nil
}

// comparing is a member that has shared out three partitions of a topic, of which there are so many now.
func comparing(there func() int) *member {
	client := &kafka.Client{Addr: kafka.TCP("nowhere:1"), Transport: censusTaker(there)}
	return &member{
		log: slog.New(slog.DiscardHandler), lanes: map[string]*lane{"t": {s: new(Store), topic: "t", client: client}},
		balancer: &sticky{members: 2, shared: map[string]int{"t": 3}},
	}
}

// generation is how long one lasts, an hour at most.
func generation(t *testing.T, m *member) time.Duration {
	began := time.Now()
	over, end := context.WithTimeout(t.Context(), time.Hour)
	defer end()
	m.compareUntil(over, []string{"t"})
	return time.Since(began)
}

func TestGenerationsGoOnWhileNobodyKnowsOfOtherPartitions(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]func(looks int) int{
		"they are those that were shared out":   func(int) int { return 3 },
		"nobody answers":                        func(int) int { return -1 },
		"the topic is not known at the moment":  func(int) int { return 0 },
		"a broker has not heard of a change":    func(looks int) int { return 3 + looks%2 },
		"a broker is behind, and another hangs": func(looks int) int { return []int{2, -1}[looks%2] },
	} {
		synctest.Test(t, func(t *testing.T) {
			looks := 0
			m := comparing(func() int { looks++; return there(looks) })
			if lasted := generation(t, m); lasted != time.Hour || looks < 1000 {
				t.Errorf("%s: the generation has ended after %v, and %d looks", name, lasted, looks)
			}
		})
	}
}

func TestWhoDoesNotLeadEndsNoGeneration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := comparing(func() int { t.Error("it looks for partitions"); return 4 })
		m.balancer.held = m.held
		if _, err := m.balancer.UserData(); err != nil { // as it is joined
			t.Fatal(err)
		}
		if lasted := generation(t, m); lasted != time.Hour {
			t.Errorf("the generation has ended after %v", lasted)
		}
	})
}

// The group's coordinator may know of other partitions than the other brokers for long.
func TestWhatDoesNotHelpIsTriedLessAndLessOften(t *testing.T) {
	t.Parallel()
	for _, there := range []int{2, 4} {
		synctest.Test(t, func(t *testing.T) {
			m := comparing(func() int { return there })
			for _, seconds := range []int{4, 8, 16, 32, 64, 128, 256, 256, 256} {
				if lasted := generation(t, m); lasted != time.Duration(seconds)*time.Second {
					t.Errorf("%d partitions: a generation has lasted %v, want %d s", there, lasted, seconds)
				}
			}
			m.balancer.shared = map[string]int{"t": there}
			generation(t, m)
			m.balancer.shared = map[string]int{"t": 3}
			if lasted := generation(t, m); lasted != 4*time.Second {
				t.Errorf("%d partitions: after a generation that was well, one has lasted %v", there, lasted)
			}
		})
	}
}

func TestALaneGoesOnWhenTheTopicOfAnotherIsGone(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	groups := make([]*consuming, 3)
	for i := range groups {
		s := mustOpen(t, cfg, nil)
		s.cfg.CreateTopics = false
		groups[i] = consumeLanes(t, s, "g", buffer.Main, buffer.Bulk)
	}
	each := func(lane buffer.Lane, n int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(groups, func(g *consuming) bool { return len(g.ownedOf(lane)) != n })
		}
	}
	eventually(t, "main is shared out", each(buffer.Main, 1))
	eventually(t, "bulk is shared out", each(buffer.Bulk, 1))
	bulk := cfg.topic(buffer.Bulk)
	if err := c.DeleteTopic(bulk); err != nil {
		t.Fatal(err)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", TopLevel: true, Err: kerr.RebalanceInProgress}) // sooner than the next look
	eventually(t, "nothing of bulk is forwarded", each(buffer.Bulk, 0))
	eventually(t, "main is forwarded", each(buffer.Main, 1))
	epoch := c.GroupInfo("g").Epoch
	time.Sleep(seenTwice*retryTopics + time.Second) // for what must not happen
	if now := c.GroupInfo("g").Epoch; now != epoch {
		t.Errorf("%d generations have begun while bulk is not there", now-epoch)
	}
	if err := c.CreateTopic(bulk, 6, safe); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bulk is forwarded again", each(buffer.Bulk, 2))
	eventually(t, "main still is", each(buffer.Main, 1))
}

func TestMemberThatIsStuckLeavesAndComesBack(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions, cfg.StuckAfter = 2, 3*time.Second
	s, other := mustOpen(t, cfg, nil), mustOpen(t, cfg, nil)
	put(t, s, 8)
	stuck := consume(t, s, "g")
	stuck.owns(2)
	diligent := consume(t, other, "g")
	diligent.owns(1)
	p := slices.Collect(maps.Values(stuck.owns(1)))[0]
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	var reading sync.WaitGroup
	reading.Go(func() { // ends with ctx
		for clock.Sleep(ctx, 50*time.Millisecond) {
			for _, p := range diligent.owned() {
				if batch, err := p.Read(ctx, 0, 1<<20); err == nil {
					_ = p.Save(ctx, progressOf(p, batch.Next)) // between generations it fails
					batch.Release()
				}
			}
		}
	})
	defer reading.Wait()
	defer cancel()
	left, err := c.WaitGroupInfo(soon(t), "g", func(g *kfake.GroupInfo) bool { return len(g.Members) == 1 })
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < cfg.StuckAfter/2 {
		t.Errorf("it has left after %v", took)
	}
	<-p.ctx.Done()
	if _, err := c.WaitGroupStable(soon(t), "g", 2); err != nil {
		t.Fatal(err)
	}
	if back := stuck.owns(1); back[p.ID().Number] == p {
		t.Error("the run that was stuck goes on")
	}
	if now := c.GroupInfo("g"); !slices.ContainsFunc(now.Members, func(m kfake.GroupMember) bool { return m.MemberID == left.Members[0].MemberID }) {
		t.Error("the other has left as well")
	}
}

// When what is downstream takes nothing, it does so from nobody.
func TestNobodyLeavesWhenNobodyGetsOn(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions, cfg.StuckAfter = 2, time.Second
	var logs [2]safeBuffer
	parts := map[int]*owned{}
	for n := range logs {
		s, err := open(t.Context(), cfg, slog.New(slog.NewTextHandler(&logs[n], nil)), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close(soon(t)) })
		if n == 0 {
			put(t, s, 8)
		}
		group := consume(t, s, "g")
		if n > 0 {
			if _, err := c.WaitGroupStable(soon(t), "g", 2); err != nil {
				t.Fatal(err)
			}
			maps.Copy(parts, group.owns(1))
		}
	}
	epoch := c.GroupInfo("g").Epoch
	for n := range logs {
		eventually(t, "it is told where to look", func() bool { return strings.Contains(logs[n].String(), "INGESTGW_FORWARD_URLS") })
	}
	time.Sleep(cfg.StuckAfter) // for what must not happen
	wantKept(t, parts)
	if now := c.GroupInfo("g").Epoch; now != epoch {
		t.Errorf("%d generations have begun", now-epoch)
	}
	for n := range logs {
		if times := strings.Count(logs[n].String(), "no other member"); times != 1 {
			t.Errorf("it is told %d times", times)
		}
	}
}

func TestMemberThatIsAloneOrHasNothingToReadIsNotStuck(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions, cfg.StuckAfter = 2, time.Second
	s := mustOpen(t, cfg, nil)
	put(t, s, 8)
	alone := consume(t, s, "alone")
	idle := []*consuming{consume(t, s, "idle"), consume(t, s, "idle")}
	parts := alone.owns(2)
	for _, group := range idle {
		for _, p := range group.owns(1) {
			_, next, err := p.Bounds(soon(t))
			if err != nil {
				t.Fatal(err)
			}
			readUpTo(t, p, 0, int(next))
			parts[len(parts)+10] = p
		}
	}
	generations := c.GroupInfo("alone").Epoch + c.GroupInfo("idle").Epoch
	time.Sleep(3 * cfg.StuckAfter) // for what must not happen
	wantKept(t, parts)
	if now := c.GroupInfo("alone").Epoch + c.GroupInfo("idle").Epoch; now != generations {
		t.Errorf("%d generations have begun", now-generations)
	}
}

// kafka-go begins with the first broker each time it looks for the coordinator.
func TestGroupIsJoinedThoughTheFirstBrokerIsFrozen(t *testing.T) {
	t.Parallel()
	w := newWire()
	c := fakeKafka(t, kfake.ListenFn(w.listen()))
	for c.CoordinatorFor("g") == 0 {
		c.RehashCoordinators()
	}
	cfg := testConfig(c.ListenAddrs())
	s := placed(t, c, cfg)
	w.freeze(0)
	defer w.thaw(0)
	consume(t, s, "g").owns(3)
}

// Without its topic, every generation is over at once.
func TestGroupWithoutItsTopicDoesNotSpin(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	s := mustOpen(t, cfg, nil)
	put(t, s, 9)
	group := consume(t, s, "g")
	for _, p := range group.owns(3) {
		if _, next, err := p.Bounds(soon(t)); err != nil || next == 0 {
			t.Fatalf("the partition ends at %d, %v", next, err)
		}
	}
	topic := s.lane(buffer.Main).topic
	if err := c.DeleteTopic(topic); err != nil {
		t.Fatal(err)
	}
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", TopLevel: true, Err: kerr.RebalanceInProgress}) // sooner than the next look
	group.owns(0)
	joins := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Group: "g", Observe: true, Count: -1})
	const long = 3 * time.Second
	time.Sleep(long) // for what must not happen
	if n := joins.Hits(); n > 2+int(long/shortest) {
		t.Errorf("joined %d times in %v", n, long)
	}
	if err := c.CreateTopic(topic, 2, nil); err != nil {
		t.Fatal(err)
	}
	for _, p := range group.owns(2) {
		wantDone(t, load(t, p), 0)
		if _, next, err := p.Bounds(soon(t)); err != nil || next != 0 {
			t.Errorf("a partition of the new topic ends at %d, %v", next, err)
		}
	}
}

// A broker that does not know the topic yet, when the group's leader does, leaves no partition alone.
func TestPartitionIsHandedOutThoughItsTopicIsNotKnownAtTheMoment(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions = 1
	s := mustOpen(t, cfg, nil)
	group := consume(t, s, "g")
	p := group.one()
	blind := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.UnknownTopicOrPartition, Count: -1})
	defer blind.Remove()
	s.lane(buffer.Main).known.Store(nil)
	p.Partition.(*partition).member.handOutAnew(p.Partition.(*partition))
	<-p.ctx.Done()
	eventually(t, "there is another run", func() bool { return group.begun() == 2 })
}

// One partition whose progress a newer version has saved is waited for, by itself.
func TestProgressOfANewerVersionHoldsItsPartitionOnly(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Group, cfg.Partitions = cfg.TopicPrefix, 2
	s := mustOpen(t, cfg, nil)
	put(t, s, 4)
	recommit(t, s, cfg.Group, kfake.GroupCommit{Offset: 1, Metadata: "2 what nobody knows"})
	group := consume(t, s, cfg.Group)
	parts := group.owns(2)
	if _, err := parts[0].Load(soon(t)); !errors.Is(err, buffer.ErrNewerVersion) {
		t.Errorf("load: %v", err)
	}
	save(t, parts[1], 1)
	had := []*partition{parts[0].Partition.(*partition), parts[1].Partition.(*partition)}
	if taken := had[0].member.taken(had); len(taken) != 1 || taken[0] != had[0] {
		t.Errorf("%d partitions are taken for others'", len(taken))
	}
	wantSaid(t, said(t, cfg, Possible), "warn group "+cfg.Group+", topic "+cfg.topic(buffer.Main)+": the progress of partition 0 was saved by a newer version")
}

// A partition may be handed out anew while a generation is adopted. What is found out about its former run says nothing of the new one.
func TestPartitionHasOneRunHoweverOftenItIsHandedOut(t *testing.T) {
	t.Parallel()
	c := fakeKafka(t)
	cfg := testConfig(c.ListenAddrs())
	cfg.Partitions = 1
	group := consume(t, mustOpen(t, cfg, nil), "g")
	p := group.one()
	former := p.Partition.(*partition)
	m := former.member
	m.handOutAnew(former)
	<-p.ctx.Done()
	eventually(t, "there is another run", func() bool { return group.begun() == 2 })
	former.mu.Lock()
	former.commit.offset = 99 // as if others had committed since
	former.mu.Unlock()
	m.mu.Lock()
	g := m.generation
	m.mu.Unlock()
	m.adopt(g, []*partition{former})
	if now := group.one(); now.ctx.Err() != nil || group.begun() != 2 {
		t.Errorf("the run has ended: %v; there have been %d", now.ctx.Err(), group.begun())
	}
	m.handOutAnew(group.one().Partition.(*partition))
	eventually(t, "the run has been told", func() bool { return group.begun() == 3 })
}
