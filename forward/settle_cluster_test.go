package forward

import (
	"context"
	"flag"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/verify"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
)

var havoc = flag.Duration("havoc", time.Minute, "how long TestCluster/Havoc kills and freezes servers")

const (
	// rowsPerBlock is the series of each block, which vminsert spreads over its storages.
	rowsPerBlock = 8
	// patience bounds waits that are over within seconds when all is well and the machine has nothing else to do.
	patience = 2 * time.Minute
)

// TestCluster settles against real servers. Its tests wait most of the time, and so all of them run at the same time.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	var all sync.WaitGroup
	for name, test := range map[string]func(*testing.T){
		"IdleVMInsertAndRestartedStorage":        clusterIdleVMInsertAndRestartedStorage,
		"Replicas":                               clusterReplicas,
		"StorageAwayAllTheTime":                  clusterStorageAwayAllTheTime,
		"VMInsertGoneForGood":                    clusterVMInsertGoneForGood,
		"RollingRestartOfStoragesSendsAgainOnce": clusterRollingRestartOfStoragesSendsAgainOnce,
		"HangingStorage":                         clusterHangingStorage,
		"Havoc":                                  clusterHavoc,
	} {
		all.Go(func() { t.Run(name, test) })
	}
	all.Wait()
}

// A field is a real cluster and a Forwarder that sends numbered blocks to it. Its vmstorages bring rows to disk within a few
// seconds, so that tests are shorter: what FORWARD_SETTLE comes to is 12 s.
type field struct {
	t       *testing.T
	cluster *stack.Cluster
	cfg     Config
	store   *fakeStore
	reg     *prometheus.Registry
	logs    *lockedText
	poll    *downstream.Client // asks the first vminsert

	mu     sync.Mutex
	base   int64
	bodies [][]byte
}

func newField(t *testing.T, spec stack.ClusterSpec) *field {
	t.Helper()
	spec.StorageArgs = append(spec.StorageArgs, "-inmemoryDataFlushInterval=1s")
	f := &field{
		t: t, cluster: stack.StartCluster(t, spec), store: newFakeStore(), logs: &lockedText{},
		base: time.Now().Add(-time.Hour).UnixMilli(),
	}
	f.store.benign = true
	f.cfg = Config{
		URLs:            urls(t, strings.Join(f.cluster.InsertURLs(), ",")),
		ResolveInterval: 10 * time.Second,
		Concurrency:     4,
		Timeout:         10 * time.Second,
		RetryMin:        100 * time.Millisecond,
		RetryMax:        2 * time.Second,
		Pack:            true,
		MaxLabels:       30,
		SettleConfig: SettleConfig{
			Settle: 10 * time.Second, SettleMode: settleWatch, LostAfter: minLostAfter, Pollers: 1,
			StorageURLs: urls(t, strings.Join(f.cluster.StorageURLs(), ",")),
		},
	}
	credentials, err := downstream.LoadCredentials(f.cfg.ClientConfig, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.poll = downstream.NewClient(f.firstInsert(), credentials, 1)
	t.Cleanup(f.poll.Close)
	return f
}

func (f *field) firstInsert() downstream.Endpoint {
	return downstream.Endpoint{Base: f.cfg.URLs[0].URL, Addr: f.cfg.URLs[0].Host}
}

// forward starts the Forwarder.
func (f *field) forward() {
	f.t.Helper()
	f.reg = prometheus.NewPedanticRegistry()
	forwarder, err := New(f.cfg, f.store, memory.NewBudget(8<<20), slog.New(slog.NewTextHandler(f.logs, nil)), f.reg)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- forwarder.Run(ctx, "forward") }()
	f.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			f.t.Errorf("Run: %v", err)
		}
		if f.t.Failed() {
			f.t.Logf("the Forwarder said:\n%s", f.logs.tail(60))
		}
	})
}

func (l *lockedText) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(l.text.String(), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// put stores n more blocks to forward.
func (f *field) put(n int) {
	for range n {
		f.mu.Lock()
		at := f.base + int64(len(f.bodies))
		var wr prompb.WriteRequest
		for row := range rowsPerBlock {
			wr.Timeseries = append(wr.Timeseries, prompb.TimeSeries{
				Labels:  []prompb.Label{{Name: "__name__", Value: "settle_row"}, {Name: "row", Value: strconv.Itoa(row)}},
				Samples: []prompb.Sample{{Value: float64(at), Timestamp: at}},
			})
		}
		body := snappy.Encode(nil, wr.MarshalProtobuf(nil))
		f.bodies = append(f.bodies, body)
		f.store.put(encode(record(tenant.ID{}, string(body))))
		f.mu.Unlock()
	}
}

// traffic puts twenty blocks a second until calm is called or the test ends.
func (f *field) traffic() (calm func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for sleepFor(ctx, 50*time.Millisecond) == nil {
			f.put(1)
		}
	})
	calm = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	f.t.Cleanup(calm)
	return calm
}

func (f *field) blocks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.bodies)
}

// settledFrom is how many blocks from the offset on are called safe.
func (f *field) settledFrom(from buffer.Offset) int {
	n := 0
	for _, span := range f.store.progress().Done {
		n += max(0, int(span.To-max(span.From, from)))
	}
	return n
}

// settled is how many blocks are called safe.
func (f *field) settled() int { return f.settledFrom(0) }

// await polls until cond holds.
func (f *field) await(what string, within time.Duration, cond func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(within); !cond(); {
		if time.Now().After(deadline) {
			f.t.Fatalf("not within %s: %s; %d of %d blocks are settled", within, what, f.settled(), f.blocks())
		}
		if err := sleepFor(f.t.Context(), 50*time.Millisecond); err != nil {
			f.t.Fatal(err)
		}
	}
}

// awaitTaken waits until vminsert has taken so many blocks, however often each.
func (f *field) awaitTaken(blocks int) {
	f.t.Helper()
	f.await(strconv.Itoa(blocks)+" blocks taken", patience, func() bool {
		return f.metric("ingestgw_forward_unsettled_blocks")+float64(f.settled()) >= float64(blocks)
	})
}

// awaitSettled waits until what was put so far is settled. There has to be traffic: a queue that is idle takes four minutes.
func (f *field) awaitSettled() {
	f.t.Helper()
	blocks := buffer.Offset(f.blocks())
	f.await("blocks settled up to "+strconv.Itoa(int(blocks)), patience, func() bool { return f.store.progress().Committed() >= blocks })
}

// awaitProgress waits until a hundred of the blocks that are put from now on are settled.
func (f *field) awaitProgress() {
	f.t.Helper()
	from := buffer.Offset(f.blocks())
	f.await("a hundred blocks settled from "+strconv.Itoa(int(from))+" on", patience, func() bool {
		return f.settledFrom(from) >= 100
	})
}

// awaitPage waits until the first vminsert shows what is wanted.
func (f *field) awaitPage(what string, want func(*downstream.Reading) bool) {
	f.t.Helper()
	f.await(what, patience, func() bool {
		ctx, cancel := context.WithTimeout(f.t.Context(), 5*time.Second)
		defer cancel()
		r, err := f.poll.Read(ctx, f.firstInsert(), downstream.VMInsert)
		return err == nil && want(r)
	})
}

func (f *field) metric(name string) float64 {
	f.t.Helper()
	families, err := f.reg.Gather()
	if err != nil {
		f.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// check reads all samples back. Those of the blocks that done has must be there.
func (f *field) check(done buffer.Progress) {
	f.t.Helper()
	if err := f.cluster.Flush(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var want verify.Recorded
	for off, body := range f.bodies {
		if err := want.Add("0:0", body, done.Contains(buffer.Offset(off))); err != nil {
			f.t.Fatal(err)
		}
	}
	raw := &verify.Cluster{URL: f.cluster.Raw.URL()}
	report, err := raw.Check(f.t.Context(), &want)
	if err != nil {
		f.t.Fatal(err)
	}
	if !report.OK() {
		f.t.Errorf("of %d blocks, with done %v: %s", len(f.bodies), done.Done, report)
	}
}

func (f *field) restart(p *stack.Process) {
	f.t.Helper()
	if err := p.Restart(f.t.Context(), nil); err != nil {
		f.t.Fatal(err)
	}
}

// killAll kills all servers that keep rows at once, and starts them again. What was called settled before must be there.
func (f *field) killAll() {
	f.t.Helper()
	done := f.store.progress()
	var killed sync.WaitGroup
	for _, p := range slices.Concat(f.cluster.Inserts, f.cluster.Storages) {
		killed.Go(p.Kill)
	}
	killed.Wait()
	for _, p := range slices.Concat(f.cluster.Storages, f.cluster.Inserts) {
		f.restart(p)
	}
	f.check(done)
}

// Not a single number of an idle vminsert moves when its vmstorage dies with the rows that it has confirmed.
func clusterIdleVMInsertAndRestartedStorage(t *testing.T) {
	f := newField(t, stack.ClusterSpec{})
	f.forward()
	f.put(50)
	f.awaitTaken(50)
	f.awaitPage("rows passed on", func(r *downstream.Reading) bool {
		var sent float64
		for _, p := range r.Paths {
			sent += p.Sent
		}
		return sent >= 50*rowsPerBlock
	})
	f.cluster.Storages[0].Kill()
	f.restart(f.cluster.Storages[0])
	f.await("blocks sent again", patience, func() bool { return f.metric("ingestgw_forward_resent_blocks_total") >= 50 })
	f.traffic()
	f.awaitSettled()
	f.killAll()
}

// With replicas, vminsert's numbers of what it received and what it sent have little to do with each other.
func clusterReplicas(t *testing.T) {
	f := newField(t, stack.ClusterSpec{Storages: 2, ReplicationFactor: 2})
	f.forward()
	f.traffic()
	f.put(100)
	f.awaitSettled()
	f.cluster.Storages[0].Kill()
	f.restart(f.cluster.Storages[0])
	f.awaitSettled()
	f.killAll()
}

func clusterStorageAwayAllTheTime(t *testing.T) {
	f := newField(t, stack.ClusterSpec{Storages: 3})
	f.cfg.LostAfter = time.Minute // a loaded machine is no restart
	f.cluster.Storages[2].Kill()
	f.restart(f.cluster.Inserts[0]) // so that it never knew it
	f.awaitPage("two storages reached", func(r *downstream.Reading) bool { return r.Reached() == 2 })
	f.forward()
	f.traffic()
	for range 3 {
		f.put(100)
		f.awaitSettled()
	}
	if n := f.metric("ingestgw_forward_resent_blocks_total"); n != 0 {
		t.Errorf("%v blocks were sent again although nothing restarted", n)
	}
	f.killAll()
}

// The only copy of some rows is in the memory of a vminsert that is killed while its vmstorages are frozen, and stays away.
func clusterVMInsertGoneForGood(t *testing.T) {
	f := newField(t, stack.ClusterSpec{Storages: 2, Inserts: 2})
	f.cfg.LostAfter = 20 * time.Second // the storages do not count as lost in the meantime
	f.forward()
	f.traffic()
	f.awaitTaken(20)
	for _, p := range f.cluster.Storages {
		f.freeze(p)
	}
	f.awaitPage("rows that are nowhere else", func(r *downstream.Reading) bool {
		var pending float64
		for _, p := range r.Paths {
			pending += p.PendingRows
		}
		return pending >= 10*rowsPerBlock
	})
	f.cluster.Inserts[0].Kill()
	for _, p := range f.cluster.Storages {
		f.thaw(p)
	}
	f.awaitSettled()
	if n := f.metric("ingestgw_forward_dirtied_blocks_total"); n == 0 {
		t.Error("nothing was taken for lost with the vminsert")
	}
	f.killAll()
}

func clusterRollingRestartOfStoragesSendsAgainOnce(t *testing.T) {
	f := newField(t, stack.ClusterSpec{Storages: 4})
	f.cfg.LostAfter = time.Minute // a loaded machine is no restart
	f.forward()
	calm := f.traffic()
	f.awaitTaken(20)
	before := f.blocks()
	for _, p := range f.cluster.Storages {
		f.restart(p) // in good order, as a rolling restart does it
	}
	calm()
	sent := f.blocks()
	f.await("blocks sent again", patience, func() bool { return f.metric("ingestgw_forward_resent_blocks_total") > 0 })
	f.traffic()
	f.awaitSettled()
	if n := f.metric("ingestgw_forward_resent_blocks_total"); n < float64(before) || n > float64(sent) {
		t.Errorf("%v blocks were sent again, want all %d of before the first restart, and none of %d twice", n, before, sent)
	}
	f.killAll()
}

// A vmstorage that hangs confirms nothing and refuses nothing, until vminsert gives it up after a minute or two. What vminsert had
// in the queue for it takes four minutes more to be sure of; nothing else waits for that.
func clusterHangingStorage(t *testing.T) {
	f := newField(t, stack.ClusterSpec{Storages: 3})
	f.forward()
	f.traffic()
	f.awaitTaken(20)
	f.freeze(f.cluster.Storages[1])
	f.await("storage taken for lost", patience, func() bool { return f.metric("ingestgw_forward_dirtied_blocks_total") > 0 })
	f.awaitPage("storage given up by vminsert", func(r *downstream.Reading) bool { return r.Reached() == 2 })
	f.awaitProgress()
	f.killAll()
}

// Servers are killed and frozen at random under load, and in the end all of them at once.
func clusterHavoc(t *testing.T) {
	f := newField(t, stack.ClusterSpec{Storages: 2, Inserts: 2})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	f.forward()
	f.traffic()
	f.put(50)
	f.awaitSettled()
	for end := time.Now().Add(*havoc); time.Now().Before(end); {
		f.pass(between(rnd, 2*time.Second, 25*time.Second))
		f.harm(rnd)
	}
	f.pass(between(rnd, 0, 20*time.Second))
	t.Logf("%d of %d blocks are settled when all is killed, %v were sent again",
		f.settled(), f.blocks(), f.metric("ingestgw_forward_resent_blocks_total"))
	f.killAll()
	f.awaitSettled()
	f.killAll()
}

// harm kills some server, or freezes it and kills half of those soon after they thaw.
func (f *field) harm(rnd *rand.Rand) {
	f.t.Helper()
	victims := f.cluster.Storages
	if rnd.IntN(3) == 0 {
		victims = f.cluster.Inserts
	}
	p := victims[rnd.IntN(len(victims))]
	if rnd.IntN(2) == 0 {
		f.freeze(p)
		f.pass(between(rnd, time.Second, 9*time.Second))
		f.thaw(p)
		if rnd.IntN(2) == 0 {
			return
		}
		f.pass(between(rnd, 0, 3*time.Second))
	}
	p.Kill()
	f.pass(between(rnd, 0, 4*time.Second))
	f.restart(p)
}

// pass lets time pass with traffic.
func (f *field) pass(d time.Duration) {
	f.t.Helper()
	if err := sleepFor(f.t.Context(), d); err != nil {
		f.t.Fatal(err)
	}
}

func (f *field) freeze(p *stack.Process) {
	f.t.Helper()
	if err := p.Freeze(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *field) thaw(p *stack.Process) {
	f.t.Helper()
	if err := p.Thaw(); err != nil {
		f.t.Fatal(err)
	}
}
