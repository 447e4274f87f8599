package kafka

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/clock"
)

const (
	// defaultRebalanceTimeout and defaultStuckAfter are for Config fields that are 0.
	defaultRebalanceTimeout = 30 * time.Second
	defaultStuckAfter       = 5 * time.Minute
	// heartbeat is how often we tell the group that we are there. A rebalance is heard of with its answer.
	heartbeat = time.Second
	// joinBackoff is the wait after a failure to join.
	joinBackoff = 500 * time.Millisecond
	// groupTimeout bounds one request to the group's coordinator.
	groupTimeout = 3 * time.Second
	// watchPartitions is how often it is asked whether there are more partitions.
	watchPartitions = 10 * time.Second
	// compareShared is how often it is looked whether the partitions are those that were shared out. After each generation that has ended
	// since they are not, it is half as often, mostDoublings times at most: what does not help is not done again and again.
	compareShared = 2 * time.Second
	mostDoublings = 6
	// seenTwice is how often in a row something has to be seen before a generation or a membership ends for it. What is known of topics
	// is a second old, and brokers do not learn of changes at the same moment.
	seenTwice = 2
	// complainAgain is how often it is said that one is not there.
	complainAgain = time.Minute
	// retryTopics is how often it is asked whether a topic that was not there has come, or one is not there any more.
	retryTopics = 2 * time.Second
	// leaveWithin bounds how long Consume waits for its leaving of the group.
	leaveWithin = 3 * time.Second
	// shortest is for how long a generation lasts at least unless others come and go. Shorter ones follow one another no faster.
	shortest = 500 * time.Millisecond
	// compareFor is how long it is tried to learn what others have committed before it is taken that they have.
	compareFor = 5 * time.Second
	// compareAgain is the pause between two tries.
	compareAgain = 250 * time.Millisecond
)

// Consume is as buffer.Store says. group is the consumer group's name.
//
// One rule covers whatever ends a generation of the group, since kafka-go does not tell a rebalance from a coordinator that is
// gone: everything goes on as it was, but nothing is committed, until the next generation begins or the rebalance time-out has
// passed. Then partitions that are still ours go on, unless another process has committed to them in between.
func (s *Store) Consume(ctx context.Context, group string, lanes []buffer.Lane, fn func(context.Context, buffer.Partition) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := &member{
		s: s, group: group, fn: fn, running: ctx, fail: cancel,
		rebalance:  cmp.Or(s.cfg.RebalanceTimeout, defaultRebalanceTimeout),
		stuckAfter: cmp.Or(s.cfg.StuckAfter, defaultStuckAfter),
		log:        s.log.With("group", group),
		writer:     rand.Text()[:8],
		holding:    map[place]*holding{},
		last:       map[place]<-chan struct{}{},
		lanes:      map[string]*lane{},
		logs:       map[string]string{},
		told:       map[string]time.Time{},
	}
	m.balancer = &sticky{held: m.held}
	for _, name := range lanes {
		l := s.lane(name)
		m.lanes[l.topic] = l
	}
	var counting sync.WaitGroup
	counted, stop := context.WithCancel(ctx)
	counting.Go(func() { m.countMembers(counted) }) // ends with stop
	m.run(ctx)
	stop()
	counting.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// A member is one Consume: our membership in a group.
type member struct {
	s        *Store
	group    string
	fn       func(context.Context, buffer.Partition) error
	running  context.Context         // of Consume; the contexts of fn come of it
	fail     context.CancelCauseFunc // ends running, with an error
	log      *slog.Logger
	writer   string // tells our commits from those of others
	lanes    map[string]*lane
	balancer *sticky
	runs     sync.WaitGroup // of fn

	reshared   atomic.Int32  // generations in a row that we have ended to have partitions shared out anew
	rebalance  time.Duration // Config.RebalanceTimeout
	stuckAfter time.Duration // Config.StuckAfter

	mu         sync.Mutex
	logs       map[string]string    // by topic, the name of its log: of those that were found
	told       map[string]time.Time // by topic, when it was last said that it is not there
	generation *kafka.Generation    // nil between two of them
	compared   bool                 // it is known which partitions others have committed to before it: we may commit
	number     int32                // of the last one
	holding    map[place]*holding
	last       map[place]<-chan struct{} // closed when what ran for a partition has returned
	ended      bool                      // no partitions are handed out any more
}

// A place names a partition within a cluster.
type place struct {
	topic  string
	number int
}

// A holding is a partition that is ours, and the run of fn for it.
type holding struct {
	*partition
	cancel context.CancelFunc
}

// run takes part in the group until ctx ends, and returns when everything has ended.
func (m *member) run(ctx context.Context) {
	for ctx.Err() == nil {
		topics := m.topics(ctx)
		if len(topics) == 0 {
			clock.Sleep(ctx, retryTopics)
			continue
		}
		pause := m.join(ctx, topics)
		if pause > 0 {
			clock.Sleep(ctx, pause)
		}
	}
	m.end()
}

// topics are those that exist, or could be created.
func (m *member) topics(ctx context.Context) []string {
	var topics []string
	for name, l := range m.lanes {
		known, err := l.find(ctx)
		if err != nil {
			if ctx.Err() == nil {
				m.complain(name, err)
			}
			continue
		}
		m.mu.Lock()
		m.logs[name] = known.log
		m.mu.Unlock()
		topics = append(topics, name)
	}
	slices.Sort(topics)
	return topics
}

// complain says that a topic is not there, now and then: the others are forwarded, perhaps for ever.
func (m *member) complain(topic string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.told[topic]) < complainAgain {
		return
	}
	m.told[topic] = time.Now()
	m.log.Error("a topic cannot be forwarded yet", "topic", topic, "err", err)
}

// join is in the group with these topics until ctx ends, topics have come or gone, or we get stuck; then it returns for how long
// to stay away. What is held stays held when it returns.
func (m *member) join(ctx context.Context, topics []string) (pause time.Duration) {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: m.group, Brokers: []string{anyBroker}, Dialer: m.s.dialer.group(m.s.cfg.Brokers), Topics: topics,
		GroupBalancers:         []kafka.GroupBalancer{m.balancer},
		HeartbeatInterval:      min(heartbeat, m.s.cfg.SessionTimeout/3),
		SessionTimeout:         m.s.cfg.SessionTimeout,
		RebalanceTimeout:       m.rebalance,
		JoinGroupBackoff:       joinBackoff,
		Timeout:                groupTimeout,
		PartitionWatchInterval: watchPartitions,
		// KNOWN GAP: with auto.create.topics.enable, which is Kafka's default, this creates a topic that was deleted under us, with the
		// brokers' defaults. kafka-go always allows it (conn.go, ReadPartitions), here and when it shares partitions out.
		WatchPartitionChanges: true,
		StartOffset:           kafka.FirstOffset,
	})
	if err != nil { // a bug: our settings have been validated
		m.fail(fmt.Errorf("join consumer group %s: %w", m.group, err))
		return 0
	}
	stay, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	var watching sync.WaitGroup
	watching.Go(func() { m.watch(stay, leave, topics) })
	m.generations(stay, group, topics)
	leave(nil)
	watching.Wait()
	if ctx.Err() != nil {
		m.drain() // while we are still a member, so that what they save at the end counts
	}
	stuck := errors.Is(context.Cause(stay), errStuck)
	if stuck {
		m.mu.Lock()
		m.loseAll("no block was read for minutes")
		m.mu.Unlock()
		pause = m.stuckAfter / 10
	}
	m.leave(group)
	return pause
}

var (
	errStuck  = errors.New("no block was read for minutes, though there are some")
	errTopics = errors.New("a topic has come or gone")
)

// watch ends a membership that is stuck, or for these topics when there are more now, or some are gone.
func (m *member) watch(ctx context.Context, leave context.CancelCauseFunc, joined []string) {
	stuck := time.NewTicker(m.stuckAfter / 20)
	defer stuck.Stop()
	topics := time.NewTicker(retryTopics)
	defer topics.Stop()
	gone := 0
	var others rivals
	for {
		select {
		case <-ctx.Done():
			return
		case <-stuck.C:
			if !m.stuck(ctx) {
				others = rivals{}
			} else if others.getOn(ctx, m) {
				m.log.Error("leaving the group for a moment, so that others can try: nothing was read for long, though there are blocks, and others get on",
					"after", m.stuckAfter, "away", m.stuckAfter/10)
				leave(errStuck)
				return
			}
		case <-topics.C:
			if gone++; !m.gone(ctx, joined) {
				gone = 0
			}
			if gone >= seenTwice || len(joined) < len(m.lanes) && len(m.topics(ctx)) > len(joined) {
				leave(errTopics)
				return
			}
		}
	}
}

// gone says whether some of the topics are not there any more, and others are: as long as a member wants one that is not there, kafka-go
// shares out no partition of any. Without a topic there is nothing to join with.
func (m *member) gone(ctx context.Context, topics []string) bool {
	gone := 0
	for _, topic := range topics {
		meta, err := m.lanes[topic].metadata(ctx)
		if err == nil && errors.Is(meta.Topics[0].Error, kafka.UnknownTopicOrPartition) {
			gone++
		}
	}
	return 0 < gone && gone < len(topics)
}

// stuck says whether there is something to read, others could do so, and nothing was read for long.
func (m *member) stuck(ctx context.Context) bool {
	if m.balancer.alone() {
		return false
	}
	var all []*partition
	m.mu.Lock()
	for _, h := range m.holding {
		all = append(all, h.partition)
	}
	m.mu.Unlock()
	for _, p := range all {
		if read, _ := p.reading(); time.Since(read) < m.stuckAfter {
			return false
		}
	}
	return slices.ContainsFunc(all, func(p *partition) bool { // nobody may have asked for as long
		_, position := p.reading()
		_, next, err := p.Bounds(ctx)
		return err == nil && position < next
	})
}

// rivals is how far the other members of the group were when they were last looked at.
type rivals struct {
	committed map[place]buffer.Offset
	told      bool
}

// getOn says whether others would do better with our partitions: they have come further since the last look, or have done all that is
// theirs. When nobody gets on, nothing is gained by passing partitions around, and what is sent and not settled would be forgotten.
func (r *rivals) getOn(ctx context.Context, m *member) bool {
	committed, idle, err := m.elsewhere(ctx)
	if err != nil {
		m.log.Warn("cannot ask how far the other members of the group are", "err", err)
		return false
	}
	before := r.committed
	r.committed = committed
	for at, offset := range committed {
		if was, ok := before[at]; ok && offset > was {
			return true
		}
	}
	if !idle && before != nil && !r.told {
		r.told = true
		m.log.Error("nothing was read for long, though there are blocks, and no other member of the group gets on either: "+
			"look at what is downstream (INGESTGW_FORWARD_URLS), and at the messages about it", "after", m.stuckAfter)
	}
	return idle
}

// elsewhere is what is committed for the partitions that are not ours, and whether that is all there is.
func (m *member) elsewhere(ctx context.Context) (committed map[place]buffer.Offset, idle bool, err error) {
	committed, idle = map[place]buffer.Offset{}, true
	for topic, l := range m.lanes {
		known := l.known.Load()
		if known == nil {
			continue
		}
		commits, err := commitsOf(ctx, l.client, m.group, map[string][]int{topic: upTo(len(known.leaders))})
		if err != nil {
			return nil, false, err
		}
		ends, err := l.bounds(ctx, len(known.leaders))
		if err != nil {
			return nil, false, err
		}
		m.mu.Lock()
		for at, c := range commits {
			if m.holding[at] == nil {
				committed[at] = c.offset
				idle = idle && max(c.offset, ends[at.number].From) == ends[at.number].To
			}
		}
		m.mu.Unlock()
	}
	return committed, idle, nil
}

// reading says when something was last read, and how far.
func (p *partition) reading() (read time.Time, position buffer.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read, p.position
}

// generations takes part in one generation after the other until stay ends.
func (m *member) generations(stay context.Context, group *kafka.ConsumerGroup, topics []string) {
	for {
		began := time.Now()
		g, err := group.Next(stay)
		switch {
		case stay.Err() != nil:
			return
		case err != nil:
			m.s.metrics.groupErrors.Inc()
			m.log.Warn("cannot join the consumer group, trying again", "err", fmt.Sprint(err, advice(err, named)))
			continue
		}
		had := m.begin(g)
		g.Start(func(over context.Context) { // the generation ends with it
			m.compareUntil(over, topics)
			m.over(g)
		})
		m.adopt(g, had)
		// A topic that is gone ends every generation at once.
		clock.Sleep(stay, shortest-time.Since(began))
	}
}

// compareUntil returns when the generation is over, or has to end since the partitions of a topic are not those that we have shared out
// in it. kafka-go looks for that too, but counts from when it begins to look: what comes between sharing and that, as with a topic that
// is made anew just then, nobody would ever get, and what goes somebody would read in vain. Only who leads the group compares, as ending
// a generation makes no other one begin when somebody else does.
func (m *member) compareUntil(over context.Context, topics []string) {
	shared, lead := m.balancer.sharedOut()
	if !lead {
		<-over.Done()
		return
	}
	after := compareShared << min(m.reshared.Load(), mostDoublings)
	for seen := 0; clock.Sleep(over, after); {
		topic, there := m.unlike(over, topics, shared)
		if topic == "" {
			seen = 0
			m.reshared.Store(0)
			continue
		}
		if seen++; seen >= seenTwice {
			m.reshared.Add(1)
			m.log.Info("a topic does not have the partitions that were shared out in the group: sharing them out anew",
				"topic", topic, "shared", shared[topic], "there", there)
			return
		}
	}
}

// unlike is a topic with more or fewer partitions than were shared out, and how many there are. Of one of which none is known nothing
// is said.
func (m *member) unlike(ctx context.Context, topics []string, shared map[string]int) (topic string, there int) {
	for _, topic := range topics {
		if there := len(m.lanes[topic].partitions(ctx)); there > 0 && there != shared[topic] {
			return topic, there
		}
	}
	return "", 0
}

// begin makes a generation the current one, ends what is not ours any more, and returns what still is.
func (m *member) begin(g *kafka.Generation) (had []*partition) {
	assigned := assignedIn(g)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.generation, m.number, m.compared = g, g.ID, false
	m.s.metrics.generations.Inc()
	for at, h := range m.holding {
		if assigned[at] {
			had = append(had, h.partition)
		} else {
			m.lose(at, h)
		}
	}
	return had
}

func assignedIn(g *kafka.Generation) map[place]bool {
	assigned := map[place]bool{}
	for topic, list := range g.Assignments {
		for _, a := range list {
			assigned[place{topic, a.ID}] = true
		}
	}
	return assigned
}

// over is called when a generation has ended. If there is no other one when the rebalance time-out has passed, others have got what
// was ours.
func (m *member) over(g *kafka.Generation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.generation != g || m.ended {
		return
	}
	m.generation = nil
	m.runs.Go(func() { // ends with the time-out, or with running
		if !clock.Sleep(m.running, m.rebalance) {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.generation == nil && m.number == g.ID {
			m.loseAll("the group has not been heard of for longer than a rebalance may take")
		}
	})
}

// adopt goes on with what we have had, unless others have committed to it, and starts what else a generation has given us. What was
// held may be saved again from then on: before, it would undo what others have saved.
func (m *member) adopt(g *kafka.Generation, had []*partition) {
	assigned := assignedIn(g)
	taken := m.taken(had)
	for _, p := range taken {
		m.log.Info("another process has committed to a partition of ours: starting it anew", "partition", p.id.String())
		m.loseOne(p)
	}
	m.mu.Lock()
	m.compared = true
	m.mu.Unlock()
	m.log.Info("generation of the consumer group", "generation", g.ID, "partitions", len(assigned), "kept", len(had)-len(taken))
	for at := range assigned {
		m.hold(at)
	}
}

// taken are those of our partitions to which another process has committed since we have last loaded or saved. When it cannot be
// known for long, all are.
func (m *member) taken(had []*partition) []*partition {
	asked := map[string][]int{}
	for _, p := range had {
		asked[p.lane.topic] = append(asked[p.lane.topic], p.number)
	}
	if len(asked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.running, compareFor)
	defer cancel()
	commits, err := m.commits(ctx, asked)
	for err != nil && clock.Sleep(ctx, compareAgain) { // a coordinator that is new takes a moment
		commits, err = m.commits(ctx, asked)
	}
	if err != nil {
		m.log.Warn("cannot ask what was committed meanwhile: starting all partitions anew", "err", err)
		return had
	}
	return slices.DeleteFunc(slices.Clone(had), func(p *partition) bool {
		c, ok := commits[place{p.lane.topic, p.number}]
		return ok && !p.committedBySomebodyElse(c)
	})
}

// hold runs fn for a partition, unless that is so already. It asks nobody: whether the partition can be read is found by fn, which
// tries again.
func (m *member) hold(at place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ended && m.holding[at] == nil {
		m.start(at)
	}
}

// start runs fn for a partition once what ran for it before has returned. m.mu is held.
func (m *member) start(at place) {
	ctx, cancel := context.WithCancel(m.running)
	l := m.lanes[at.topic]
	h := &holding{
		partition: &partition{
			id:   buffer.PartitionID{Log: m.logs[at.topic], Lane: l.name, Number: at.number},
			lane: l, number: at.number, member: m, read: time.Now(), commit: commit{offset: -1},
		},
		cancel: cancel,
	}
	before, done := m.last[at], make(chan struct{})
	m.holding[at], m.last[at] = h, done
	m.s.metrics.assigned.Set(float64(len(m.holding)))
	m.runs.Go(func() { // ends when the partition is lost, or with running
		defer close(done)
		if before != nil {
			<-before
		}
		if ctx.Err() != nil {
			return
		}
		if err := m.fn(ctx, h.partition); err != nil {
			m.fail(err)
		}
	})
}

// lose ends fn for a partition that is ours no more. m.mu is held.
func (m *member) lose(at place, h *holding) {
	h.fenced.Store(true)
	h.cancel()
	delete(m.holding, at)
	m.s.metrics.assigned.Set(float64(len(m.holding)))
}

// loseAll gives up everything. m.mu is held.
func (m *member) loseAll(why string) {
	m.log.Warn("giving up all partitions", "why", why, "partitions", len(m.holding))
	for at, h := range m.holding {
		m.lose(at, h)
	}
}

// loseOne gives up a partition, if p still is what runs for it.
func (m *member) loseOne(p *partition) (at place, lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at = place{p.lane.topic, p.number}
	h := m.holding[at]
	if h == nil || h.partition != p {
		return at, false
	}
	m.lose(at, h)
	return at, true
}

// handOutAnew ends fn for a partition and runs it again from the beginning.
func (m *member) handOutAnew(p *partition) {
	if at, lost := m.loseOne(p); lost {
		m.hold(at)
	}
}

// held is what the group is told that we hold.
func (m *member) held() ownership {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := ownership{Generation: m.number, Partitions: map[string][]int{}}
	for at := range m.holding {
		o.Partitions[at.topic] = append(o.Partitions[at.topic], at.number)
	}
	return o
}

// drain ends all functions and waits for them. Their contexts have ended.
func (m *member) drain() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.runs.Wait()
}

// end gives up everything once nothing runs any more.
func (m *member) end() {
	m.drain()
	m.mu.Lock()
	defer m.mu.Unlock()
	for at, h := range m.holding {
		m.lose(at, h)
	}
}

// leave leaves the group. It is waited for in vain when Kafka is away.
func (m *member) leave(group *kafka.ConsumerGroup) {
	left := make(chan struct{})
	go func() { // ends after a few time-outs of requests at the latest
		defer close(left)
		_ = group.Close() // never fails
	}()
	timer := time.NewTimer(leaveWithin)
	defer timer.Stop()
	select {
	case <-left:
	case <-timer.C:
		m.log.Warn("leaving the consumer group takes long; Kafka gives our partitions to others after INGESTGW_KAFKA_SESSION_TIMEOUT",
			slog.Duration("timeout", m.s.cfg.SessionTimeout))
	}
}
