package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
	"github.com/ingestgw/ingestgw/loadtest/verify"
)

var kafkaStep = flag.Duration("kafka-step", 6*time.Second, "how long TestKafkaThroughCrashes lets samples flow between two crashes")

// A crowd is gateways around one Kafka and one cluster.
type crowd struct {
	t        *testing.T
	kafka    *stack.Kafka
	cluster  *stack.Cluster
	gateways []*stack.Process
}

// startCrowd starts n gateways, whose settings (KEY=VALUE) win over the usual ones of tests.
func startCrowd(t *testing.T, k *stack.Kafka, cluster *stack.Cluster, n int, settings ...string) *crowd {
	t.Helper()
	c := &crowd{t: t, kafka: k, cluster: cluster}
	for i := range n {
		c.gateways = append(c.gateways, stack.Start(t, stack.IngestgwSpec(fmt.Sprintf("ingestgw-%d", i), binary(t), append([]string{
			"INGESTGW_BUFFER=kafka",
			"INGESTGW_KAFKA_BROKERS=" + k.Bootstrap(),
			"INGESTGW_KAFKA_CREATE_TOPICS=true",
			"INGESTGW_FORWARD_URLS=" + strings.Join(cluster.InsertURLs(), ","),
			"INGESTGW_FORWARD_STORAGE_URLS=" + strings.Join(cluster.StorageURLs(), ","),
			"INGESTGW_FORWARD_SETTLE=12s",
			"INGESTGW_FORWARD_LOST_AFTER=10s",
		}, settings...)...)))
	}
	return c
}

// client asks the brokers what the test has to know.
func (c *crowd) client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(c.kafka.Addrs()...), Timeout: 10 * time.Second}
}

// leader is the broker that leads a partition of the topic.
func (c *crowd) leader(topic string, partition int) *stack.Process {
	c.t.Helper()
	meta, err := c.client().Metadata(c.t.Context(), &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range meta.Topics[0].Partitions {
		if p.ID == partition {
			return c.kafka.Brokers[p.Leader.ID]
		}
	}
	c.t.Fatalf("topic %s has no partition %d", topic, partition)
	return nil
}

// coordinator is the broker that coordinates the group: the leader of the only partition of the offsets topic.
func (c *crowd) coordinator() *stack.Process { return c.leader("__consumer_offsets", 0) }

// flow lets samples flow for a while. It is not a wait for anything: what is there after it is what a crash hits.
func (c *crowd) flow(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.t.Context().Done():
	}
}

func (c *crowd) restart(p *stack.Process) {
	c.t.Helper()
	if err := p.Restart(c.t.Context(), nil); err != nil {
		c.t.Fatal(err)
	}
}

func (c *crowd) crash(what string, p *stack.Process) {
	c.t.Helper()
	c.t.Logf("%s %s is killed", what, p.Name())
	p.Kill()
	c.flow(*kafkaStep)
	c.restart(p)
	c.flow(*kafkaStep)
}

// A sender offers load to one gateway until it is stopped.
type sender struct {
	stop   context.CancelFunc
	done   chan struct{}
	ledger *offer.Ledger
	report offer.Report
}

// offer starts a sender for each gateway, with tenants of its own.
func (c *crowd) offer(rate float64) []*sender {
	var all []*sender
	for i, g := range c.gateways {
		ctx, stop := context.WithCancel(context.WithoutCancel(c.t.Context()))
		s := &sender{stop: stop, done: make(chan struct{})}
		go func() { // ends with ctx
			defer close(s.done)
			var err error
			s.ledger, s.report, err = offer.Run(ctx, offer.Config{
				URL: g.URL(), Metric: fmt.Sprintf("crowd_%d", i), Tenants: 5, FirstAccount: 100 * (i + 1), Series: 100, PerRequest: 50,
				Labels: 8, Rate: rate, Duration: 10 * time.Minute, Senders: 8, PerConnection: 100, Patience: time.Minute,
			})
			if err != nil {
				c.t.Error(err)
			}
		}()
		c.t.Cleanup(func() { stop(); <-s.done })
		all = append(all, s)
	}
	return all
}

// A watcher measures how old the freshest sample is that can be read from the cluster.
type watcher struct {
	mu     sync.Mutex
	oldest time.Duration
}

// watch looks twice a second until ctx ends. A cluster that cannot be read at a moment says nothing then.
func (w *watcher) watch(ctx context.Context, vmselect string) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		newest, err := freshest(ctx, vmselect)
		if err != nil || newest == 0 {
			continue
		}
		age := time.Since(time.UnixMilli(newest))
		w.mu.Lock()
		w.oldest = max(w.oldest, age)
		w.mu.Unlock()
	}
}

func (w *watcher) most() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.oldest
}

// freshest is the newest timestamp of the last minute and a half in one tenant of each sender, by export: queries hide the last
// half minute.
func freshest(ctx context.Context, vmselect string) (newest int64, err error) {
	for _, account := range []int{100, 200, 300} {
		q := url.Values{"match[]": {`{__name__=~"crowd_.+"}`}, "start": {fmt.Sprint(time.Now().Add(-90 * time.Second).Unix())}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet,
			fmt.Sprintf("%s/select/%d:0/prometheus/api/v1/export?%s", vmselect, account, q.Encode()), nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var series struct{ Timestamps []int64 }
			if json.Unmarshal(lines.Bytes(), &series) == nil && len(series.Timestamps) > 0 {
				newest = max(newest, slices.Max(series.Timestamps))
			}
		}
		resp.Body.Close()
	}
	return newest, nil
}

// TestKafkaThroughCrashes is three gateways around three brokers, while everything is killed or frozen in turn, under steady load:
// every acknowledged sample is in the cluster, under its tenant, once after deduplication.
func TestKafkaThroughCrashes(t *testing.T) {
	whole(t)
	t.Parallel()
	k := stack.StartKafka(t, stack.KafkaSpec{Brokers: 3})
	cluster := stack.StartCluster(t, stack.ClusterSpec{Storages: 2, Inserts: 2, StorageArgs: []string{"-inmemoryDataFlushInterval=1s"}})
	// The time-out is not what is tested: on a busy machine Kafka may need longer than usual to go on without a broker.
	c := startCrowd(t, k, cluster, 3, "INGESTGW_BUFFER_APPEND_TIMEOUT=60s")
	senders := c.offer(1500)
	watching, stopWatching := context.WithCancel(t.Context())
	defer stopWatching()
	w := new(watcher)
	var watch sync.WaitGroup
	c.flow(*kafkaStep)
	watch.Go(func() { w.watch(watching, cluster.Raw.URL()) })

	c.crash("the leader of a partition,", c.leader("ingestgw-main", 0))
	c.crash("the coordinator of the group,", c.coordinator())
	c.crash("a gateway,", c.gateways[0])
	c.crash("a vminsert,", cluster.Inserts[0])
	c.crash("a vmstorage,", cluster.Storages[0])
	frozen := c.leader("ingestgw-main", 1)
	t.Logf("%s is frozen for 20 s", frozen.Name())
	if err := frozen.Freeze(); err != nil {
		t.Fatal(err)
	}
	c.flow(20 * time.Second)
	if err := frozen.Thaw(); err != nil {
		t.Fatal(err)
	}
	c.flow(*kafkaStep)
	for _, g := range c.gateways {
		t.Logf("%s is stopped and started again", g.Name())
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if err := g.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		c.restart(g)
	}
	c.flow(*kafkaStep)
	stopWatching()
	watch.Wait()
	for _, s := range senders {
		s.stop()
		<-s.done
		t.Logf("%v", s.report)
		for what, n := range s.report.Answers {
			if what != "204" && what != "no answer" { // a gateway that is not there cannot answer
				t.Errorf("%d requests were answered %s, though memory was left", n, what)
			}
		}
	}
	t.Logf("the freshest sample at the cluster was never older than %v", w.most())
	if w.most() > time.Minute {
		t.Errorf("for %v nothing fresh came to the cluster", w.most())
	}
	c.verify(senders)
}

// verify reads everything back, with and without deduplication.
func (c *crowd) verify(senders []*sender) {
	c.t.Helper()
	var right, doubled int
	for _, s := range senders {
		if s.report.Acknowledged < 10_000 {
			c.t.Errorf("only %d samples were acknowledged, so hardly anything was tested", s.report.Acknowledged)
		}
		eventually(c.t, 2*time.Minute, func() error {
			if err := c.cluster.Flush(c.t.Context()); err != nil {
				return err
			}
			report, err := (&verify.Cluster{URL: c.cluster.Select.URL()}).Check(c.t.Context(), verify.Offered(s.ledger))
			if err == nil && !report.OK() {
				err = fmt.Errorf("%v", report)
			}
			return err
		})
		want := s.report.Acknowledged + s.report.Refused // which may have been stored all the same
		eventually(c.t, time.Minute, func() error {
			n, err := c.deduplicated(s.ledger)
			if err == nil && (n < s.report.Acknowledged || n > want) {
				err = fmt.Errorf("after deduplication there are %d samples, want %d to %d", n, s.report.Acknowledged, want)
			}
			return err
		})
		raw, err := (&verify.Cluster{URL: c.cluster.Raw.URL()}).Check(c.t.Context(), verify.Offered(s.ledger))
		if err != nil {
			c.t.Fatal(err)
		}
		right, doubled = right+raw.Right, doubled+raw.Doubled
	}
	c.t.Logf("%d samples arrived, and %d copies of them: %.1f %% were sent more than once", right, doubled, 100*float64(doubled)/float64(right))
}

// deduplicated is how many of the ledger's samples a query sees that deduplicates, unlike an export.
func (c *crowd) deduplicated(l *offer.Ledger) (total int, err error) {
	from, to := l.Timestamp(0), l.Timestamp(l.Rounds)
	for i := range l.Config.Tenants {
		q := url.Values{
			"query": {fmt.Sprintf(`sum(count_over_time(%s[%dms]))`, l.Config.Metric, to-from+2)},
			"time":  {fmt.Sprintf("%.3f", float64(to+1)/1000)}, "nocache": {"1"},
		}
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet,
			fmt.Sprintf("%s/select/%s/prometheus/api/v1/query?%s", c.cluster.Select.URL(), l.Tenant(i), q.Encode()), nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		var answer struct {
			Data struct {
				Result []struct{ Value [2]any }
			}
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil {
			return 0, err
		}
		for _, r := range answer.Data.Result {
			n, err := strconv.Atoi(fmt.Sprint(r.Value[1]))
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// gaugeByPartition reads a gauge of lane main from a gateway, by partition.
func gaugeByPartition(ctx context.Context, gateway *stack.Process, name string) (map[int]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+gateway.AddrOf("admin")+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	values := map[int]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		var partition int
		var value float64
		if n, _ := fmt.Sscanf(lines.Text(), name+`{lane="main",partition="%d"} %g`, &partition, &value); n == 2 {
			values[partition] = value
		}
	}
	return values, lines.Err()
}

// TestLagIsWhatKafkasToolsReport compares, by partition, while nothing can be forwarded.
func TestLagIsWhatKafkasToolsReport(t *testing.T) {
	whole(t)
	t.Parallel()
	k := stack.StartKafka(t, stack.KafkaSpec{})
	var kept numbers
	node := keeper(t, &kept)
	gateway := stack.Start(t, stack.IngestgwSpec("ingestgw", binary(t),
		"INGESTGW_BUFFER=kafka", "INGESTGW_KAFKA_BROKERS="+k.Bootstrap(), "INGESTGW_KAFKA_CREATE_TOPICS=true", "INGESTGW_KAFKA_PARTITIONS=4",
		"INGESTGW_FORWARD_URLS="+node.URL, "INGESTGW_FORWARD_SETTLE=0"))
	var acknowledged numbers
	send := func(d time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		write(ctx, gateway.URL()+"/api/v1/write", "a", time.Now(), 10, &acknowledged)
	}
	send(time.Second)
	acknowledged.awaitIn(t, &kept) // all partitions are forwarded by now
	wantMetrics(t, "http://"+gateway.AddrOf("admin"), metricsGoneBy(t, true))
	committed(t, gateway, 30*time.Second)
	node.Close()
	send(time.Second)
	eventually(t, 30*time.Second, func() error {
		ours, err := gaugeByPartition(t.Context(), gateway, "ingestgw_forward_uncommitted_blocks")
		if err != nil {
			return err
		}
		theirs, err := k.GroupOffsets(t.Context(), "ingestgw")
		if err != nil {
			return err
		}
		maps.DeleteFunc(theirs, func(at stack.TopicPartition, _ stack.GroupOffset) bool { return at.Topic != "ingestgw-main" })
		total := int64(0)
		for at, offset := range theirs {
			lag := offset.Lag
			if offset.Committed < 0 { // nothing came to it before the node was closed, and the tools tell of no lag
				lag = offset.End
			}
			if got, ok := ours[at.Partition]; !ok || int64(got) != lag {
				return fmt.Errorf("partition %d: Kafka's tools say %+v, we %v", at.Partition, offset, got)
			}
			total += lag
		}
		if total < 10 || len(theirs) != len(ours) || len(ours) != 4 {
			return fmt.Errorf("a lag of %d blocks in %d and %d partitions is too little to tell", total, len(theirs), len(ours))
		}
		return nil
	})
	unsent, err := gaugeByPartition(t.Context(), gateway, "ingestgw_forward_unsent_blocks")
	if err != nil || len(unsent) != 4 {
		t.Errorf("unsent blocks by partition: %v, %v", unsent, err)
	}
}

// assigned is which partitions each gateway forwards.
func (c *crowd) assigned() (sets []map[int]float64, err error) {
	for _, g := range c.gateways {
		set := map[int]float64{}
		if g.Running() {
			if set, err = gaugeByPartition(c.t.Context(), g, "ingestgw_forward_uncommitted_blocks"); err != nil {
				return nil, err
			}
		}
		sets = append(sets, set)
	}
	return sets, nil
}

// awaitShares waits until each partition is forwarded by one gateway that is alive, and all of those have as many as wanted.
func (c *crowd) awaitShares(within time.Duration, partitions int, want ...int) (sets []map[int]float64) {
	c.t.Helper()
	began := time.Now()
	defer func() {
		c.t.Logf("partitions are shared as %v after %v", want, time.Since(began).Round(10*time.Millisecond))
	}()
	eventually(c.t, within, func() (err error) {
		if sets, err = c.assigned(); err != nil {
			return err
		}
		owners := map[int]int{}
		var sizes []int
		for _, set := range sets {
			sizes = append(sizes, len(set))
			for p := range set {
				owners[p]++
			}
		}
		if !slices.Equal(sizes, want) || len(owners) != partitions {
			return fmt.Errorf("%d partitions have owners, the gateways forward %v, want %v", len(owners), sizes, want)
		}
		return nil
	})
	return sets
}

// TestForwardersShareTheWork starts, stops and kills forwarders: each partition has one again soon, in how long is logged (a session
// is 6 s, so less than 10 s on an idle machine), and those that stay keep theirs and go on.
func TestForwardersShareTheWork(t *testing.T) {
	whole(t)
	t.Parallel()
	const moved = 40 * time.Second
	k := stack.StartKafka(t, stack.KafkaSpec{})
	var kept, acknowledged numbers
	node := keeper(t, &kept)
	spec := func(name, role string) stack.Spec {
		return stack.IngestgwSpec(name, binary(t),
			"INGESTGW_BUFFER=kafka", "INGESTGW_KAFKA_BROKERS="+k.Bootstrap(), "INGESTGW_KAFKA_CREATE_TOPICS=true", "INGESTGW_ROLE="+role,
			"INGESTGW_FORWARD_URLS="+node.URL, "INGESTGW_FORWARD_SETTLE=0")
	}
	receiver := stack.Start(t, spec("receiver", "receive"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writer sync.WaitGroup
	writer.Go(func() { write(ctx, receiver.URL()+"/api/v1/write", "a", time.Now(), 10, &acknowledged) })
	arrives := func(when string) {
		t.Helper()
		before := kept.count()
		eventually(t, moved, func() error {
			if kept.count() < before+1000 {
				return fmt.Errorf("%s: only %d samples came", when, kept.count()-before)
			}
			return nil
		})
	}

	c := &crowd{t: t, kafka: k}
	c.gateways = append(c.gateways, stack.Start(t, spec("forwarder-0", "forward")))
	c.awaitShares(moved, 12, 12)
	arrives("one forwarder")
	c.gateways = append(c.gateways, stack.Start(t, spec("forwarder-1", "forward")))
	before := c.awaitShares(moved, 12, 6, 6)
	arrives("two forwarders")
	c.gateways = append(c.gateways, stack.Start(t, spec("forwarder-2", "forward")))
	after := c.awaitShares(moved, 12, 4, 4, 4)
	for i, set := range before {
		for p := range after[i] {
			if _, had := set[p]; !had {
				t.Errorf("forwarder-%d got partition %d, which was another one's, though it had to give some away", i, p)
			}
		}
	}
	arrives("three forwarders")

	stopping, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := c.gateways[2].Stop(stopping); err != nil {
		t.Error(err)
	}
	c.awaitShares(moved, 12, 6, 6, 0)
	arrives("one was stopped")
	c.gateways[1].Kill()
	c.awaitShares(moved, 12, 12, 0, 0)
	arrives("one was killed")

	stop()
	writer.Wait()
	acknowledged.awaitIn(t, &kept)
}

// committed is the offsets that the group has committed for so many partitions of the main topic, 0 where there is none.
func (c *crowd) committed(ctx context.Context, partitions int) (map[int]int64, error) {
	const topic = "ingestgw-main"
	request := kafka.OffsetFetchRequest{GroupID: "ingestgw", Topics: map[string][]int{}}
	for p := range partitions {
		request.Topics[topic] = append(request.Topics[topic], p)
	}
	answer, err := c.client().OffsetFetch(ctx, &request)
	if err != nil {
		return nil, err
	}
	offsets := map[int]int64{}
	for _, p := range answer.Topics[topic] {
		if p.Error != nil {
			return nil, p.Error
		}
		offsets[p.Partition] = max(0, p.CommittedOffset)
	}
	if answer.Error == nil && len(offsets) != partitions {
		return nil, fmt.Errorf("the committed offsets of %d partitions are told, want %d", len(offsets), partitions)
	}
	return offsets, answer.Error
}

// watchCommitted looks all the time at what the group has committed, of which nothing may be taken back, until stop, which returns
// how often it has looked.
func (c *crowd) watchCommitted(partitions int) (stop func() (looks int)) {
	ctx, cancel := context.WithCancel(c.t.Context())
	looks := 0
	var watching sync.WaitGroup
	watching.Go(func() { // ends with stop, or at the first offset that is taken back
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for last := map[int]int64{}; ; looks++ {
			now, err := c.committed(ctx, partitions)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				c.t.Errorf("look at the committed offsets: %v", err)
				return
			}
			for p, offset := range now {
				if offset < last[p] {
					c.t.Errorf("partition %d: committed %d, before it was %d", p, offset, last[p])
					return
				}
			}
			last = now
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() int {
		cancel()
		watching.Wait()
		return looks
	}
}

// TestAFrozenForwarderIsFenced freezes one that has sent what it has not saved, for longer than its session: its partitions go to the
// other one, and what it saves when it wakes up counts for nothing.
func TestAFrozenForwarderIsFenced(t *testing.T) {
	whole(t)
	t.Parallel()
	const partitions, concurrency = 12, 8
	k := stack.StartKafka(t, stack.KafkaSpec{})
	var kept, acknowledged numbers
	node := keeper(t, &kept)
	var sent atomic.Int64 // blocks that the first one has sent: a block is a record here, and a record a request
	var away atomic.Bool
	ofFirst := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		node.Config.Handler.ServeHTTP(w, r)
		if r.Method == http.MethodPost {
			sent.Add(1)
		}
	}))
	t.Cleanup(ofFirst.Close)
	c := &crowd{t: t, kafka: k}
	for i, url := range []string{ofFirst.URL, node.URL} {
		c.gateways = append(c.gateways, stack.Start(t, stack.IngestgwSpec(fmt.Sprintf("ingestgw-%d", i), binary(t),
			"INGESTGW_BUFFER=kafka", "INGESTGW_KAFKA_BROKERS="+k.Bootstrap(), "INGESTGW_KAFKA_CREATE_TOPICS=true",
			"INGESTGW_FORWARD_URLS="+url+"/write", "INGESTGW_FORWARD_SETTLE=0", "INGESTGW_FORWARD_CONCURRENCY="+strconv.Itoa(concurrency))))
	}
	own := c.awaitShares(40*time.Second, partitions, 6, 6)[0]
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writer sync.WaitGroup
	writer.Go(func() { write(ctx, c.gateways[1].URL()+"/api/v1/write", "a", time.Now(), 10, &acknowledged) })
	eventually(t, 20*time.Second, func() error {
		if acknowledged.count() < 1000 {
			return errors.New("hardly anything is acknowledged")
		}
		return nil
	})
	frozen := c.gateways[0]
	eventually(t, time.Minute, func() error { // it saves once a second
		if err := frozen.Freeze(); err != nil {
			t.Fatal(err)
		}
		unsaved := sent.Load()
		saved, err := c.committed(t.Context(), partitions)
		if err != nil {
			t.Fatal(err)
		}
		for p := range own {
			unsaved -= saved[p]
		}
		if unsaved > concurrency { // so many answers it may not have read
			t.Logf("the frozen one has sent %d blocks that it has not saved", unsaved)
			return nil
		}
		if err := frozen.Thaw(); err != nil {
			t.Fatal(err)
		}
		return fmt.Errorf("the frozen one has sent %d blocks that it has not saved, of which it may not know", unsaved)
	})
	only := &crowd{t: t, kafka: k, gateways: c.gateways[1:]}
	only.awaitShares(40*time.Second, partitions, partitions)
	stop()
	writer.Wait()
	acknowledged.awaitIn(t, &kept)
	eventually(t, time.Minute, func() error {
		offsets, err := k.GroupOffsets(t.Context(), "ingestgw")
		if err != nil {
			return err
		}
		for at, now := range offsets {
			if at.Topic == "ingestgw-main" && now.Lag != 0 {
				return fmt.Errorf("partition %d: committed %d of %d", at.Partition, now.Committed, now.End)
			}
		}
		return nil
	})

	asleep, err := os.ReadFile(frozen.LogPath())
	if err != nil {
		t.Fatal(err)
	}
	away.Store(true) // or it would have caught up before it saves
	looked := c.watchCommitted(partitions)
	defer looked()
	if err := frozen.Thaw(); err != nil {
		t.Fatal(err)
	}
	c.awaitShares(40*time.Second, partitions, 6, 6)
	eventually(t, 20*time.Second, func() error {
		awake, err := os.ReadFile(frozen.LogPath())
		if err != nil {
			return err
		}
		awake = awake[len(asleep):]
		for line := range strings.Lines(string(awake)) {
			if strings.Contains(line, "the partition is ours no more") && strings.Contains(line, "save progress") ||
				strings.Contains(line, "cannot save progress") {
				t.Logf("the thawed one says: %s", line)
				return nil
			}
		}
		return fmt.Errorf("the thawed one says of no save that it was refused:\n%s", awake)
	})
	c.flow(3 * time.Second) // it saves once a second, and what it would take back may be of partitions that it has got again
	if n := looked(); n < 50 {
		t.Errorf("the committed offsets were looked at %d times only", n)
	} else {
		t.Logf("the committed offsets were looked at %d times", n)
	}
}

// TestForeignBytesArePassedAndANewerBlockIsWaitedFor puts into the topic what no ingestgw has written, and what one of a later version
// would have.
func TestForeignBytesArePassedAndANewerBlockIsWaitedFor(t *testing.T) {
	whole(t)
	t.Parallel()
	k := stack.StartKafka(t, stack.KafkaSpec{})
	var kept, acknowledged numbers
	gateway := stack.Start(t, stack.IngestgwSpec("ingestgw", binary(t),
		"INGESTGW_BUFFER=kafka", "INGESTGW_KAFKA_BROKERS="+k.Bootstrap(), "INGESTGW_KAFKA_CREATE_TOPICS=true", "INGESTGW_KAFKA_PARTITIONS=3",
		"INGESTGW_FORWARD_URLS="+keeper(t, &kept).URL, "INGESTGW_FORWARD_SETTLE=0"))
	client := (&crowd{kafka: k}).client()
	for partition, value := range []string{"no block", "igb\xff of a later version"} {
		answer, err := client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: "ingestgw-main", Partition: partition, RequiredAcks: kafka.RequireAll,
			Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte(value))}),
		})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	write(ctx, gateway.URL()+"/api/v1/write", "a", time.Now(), 10, &acknowledged)
	eventually(t, 30*time.Second, func() error {
		held, err := gaugeByPartition(t.Context(), gateway, "ingestgw_forward_on_hold")
		if err != nil {
			return err
		}
		waits, err := gaugeByPartition(t.Context(), gateway, "ingestgw_forward_uncommitted_blocks")
		if err != nil {
			return err
		}
		if held[0] != 0 || held[1] != 1 || held[2] != 0 || waits[0] != 0 || waits[1] < 2 || waits[2] != 0 {
			return fmt.Errorf("on hold are %v, and not committed %v", held, waits)
		}
		if page := textOf("http://" + gateway.AddrOf("admin") + "/metrics"); !strings.Contains(page, "\ningestgw_forward_malformed_blocks_total 1\n") {
			return errors.New("the foreign bytes are not counted")
		}
		return nil
	})
	for _, want := range []string{"cannot be decoded and is passed over", "written by a newer version"} {
		if !strings.Contains(gateway.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if kept.count() == 0 {
		t.Error("nothing has passed")
	}
}
