package forward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

// A stage is a cluster whose metrics the test writes, with a real Watch and a real settler looking at it. It runs in a synctest
// bubble.
type stage struct {
	t    *testing.T
	s    *settler
	part *settleLog
	reg  *prometheus.Registry
	logs *lockedText

	mu      sync.Mutex
	servers map[string]*actor
	next    buffer.Offset
}

// An actor is one vminsert or vmstorage.
type actor struct {
	start   int // its start time; 0 when it is down
	frozen  bool
	answers error // instead of a page
	flags   map[string]string
	paths   map[string]*downstream.Passage
	jumps   []int // start times that take turns
	size    int64 // bytes of the page
}

// newStage starts nodes n0, n1… and storages s0, s1…, all up and all connected, and a settler that has seen them.
func newStage(t *testing.T, nodes, storages int, change func(*SettleConfig)) *stage {
	t.Helper()
	st := &stage{
		t:       t,
		part:    &settleLog{begun: time.Now(), settledAt: map[buffer.Offset]time.Duration{}, dirtyAt: map[buffer.Offset][]time.Duration{}},
		reg:     prometheus.NewRegistry(),
		logs:    &lockedText{},
		servers: map[string]*actor{},
	}
	cfg := SettleConfig{Settle: 30 * time.Second, SettleMode: settleAuto, LostAfter: time.Minute, Pollers: 1}
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(st.logs, nil))
	watchCfg := cfg.watchConfig()
	watchCfg.Read = st.read
	for i := range storages {
		st.servers["s"+strconv.Itoa(i)] = newActor(1000 + i)
		watchCfg.StorageURLs = append(watchCfg.StorageURLs, &url.URL{Scheme: "http", Host: stageAddr("s" + strconv.Itoa(i))})
	}
	for i := range nodes {
		n := newActor(2000 + i)
		for j := range storages {
			n.paths["s"+strconv.Itoa(j)] = &downstream.Passage{}
		}
		st.servers["n"+strconv.Itoa(i)] = n
	}
	resolver := downstream.NewResolver(nil, log, st.reg)
	st.s = newSettler(cfg, downstream.NewWatch(watchCfg, resolver, nil, log, st.reg), log, st.reg)
	st.list(stageNames("n", nodes)...)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- st.s.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return st
}

func newActor(start int) *actor {
	return &actor{start: start, flags: map[string]string{"inmemoryDataFlushInterval": "5s"}, paths: map[string]*downstream.Passage{}}
}

func stageNames(kind string, n int) []string {
	var names []string
	for i := range n {
		names = append(names, kind+strconv.Itoa(i))
	}
	return names
}

// stageAddr is the address of "n3" or "s12".
func stageAddr(name string) string {
	i, _ := strconv.Atoi(name[1:])
	if name[0] == 'n' {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 8480).String()
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}), 8482).String()
}

func stageEndpoint(name string) downstream.Endpoint {
	addr := stageAddr(name)
	return downstream.Endpoint{Base: &url.URL{Scheme: "http", Host: addr}, Addr: addr}
}

// list says which nodes there are.
func (st *stage) list(names ...string) {
	var eps []downstream.Endpoint
	for _, name := range names {
		eps = append(eps, stageEndpoint(name))
	}
	st.s.setNodes(eps)
}

// with changes a server.
func (st *stage) with(name string, change func(*actor)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	change(st.servers[name])
}

func (st *stage) down(name string) { st.with(name, func(a *actor) { a.start = 0 }) }

func (st *stage) restart(name string) {
	st.with(name, func(a *actor) {
		a.start = int(time.Now().Unix())
		for storage := range a.paths {
			a.paths[storage] = &downstream.Passage{}
		}
	})
}

func (st *stage) freeze(name string) { st.with(name, func(a *actor) { a.frozen = true }) }
func (st *stage) thaw(name string)   { st.with(name, func(a *actor) { a.frozen = false }) }

// path changes what a node shows of its way to a storage.
func (st *stage) path(node, storage string, change func(*downstream.Passage)) {
	st.with(node, func(a *actor) { change(a.paths[storage]) })
}

// pages sets how large the pages of all nodes are, in bytes.
func (st *stage) pages(size int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for name, a := range st.servers {
		if name[0] == 'n' {
			a.size = size
		}
	}
}

func (st *stage) read(ctx context.Context, ep downstream.Endpoint, _ downstream.Kind) (*downstream.Reading, error) {
	begun := time.Now()
	if err := sleepFor(ctx, 5*time.Millisecond); err != nil {
		return nil, err
	}
	for {
		r, frozen, err := st.page(ep.Addr)
		if !frozen {
			if r != nil {
				r.Begun, r.Ended = begun, time.Now()
			}
			return r, err
		}
		if err := sleepFor(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (st *stage) page(addr string) (r *downstream.Reading, frozen bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for name, a := range st.servers {
		switch {
		case stageAddr(name) != addr:
			continue
		case a.frozen:
			return nil, true, nil
		case a.start == 0:
			return nil, false, errors.New("connection refused")
		case a.answers != nil:
			return nil, false, a.answers
		}
		if len(a.jumps) > 0 {
			a.start = a.jumps[0]
			a.jumps = append(a.jumps[1:], a.start)
		}
		r = &downstream.Reading{Start: strconv.Itoa(a.start), Size: a.size, Flags: a.flags, Paths: map[downstream.Path]downstream.Passage{}}
		for storage, p := range a.paths {
			r.Paths[downstream.Path{Addr: storage}] = *p
		}
		return r, false, nil
	}
	return nil, false, errors.New("no route to host")
}

// begin takes a ticket, and fails the test when there is none.
func (st *stage) begin(node string) ticket {
	st.t.Helper()
	t, ok := st.s.begin(stageEndpoint(node))
	if !ok {
		st.t.Fatalf("nothing may be posted to %s", node)
	}
	return t
}

func (st *stage) mayPost(node string) bool {
	_, ok := st.s.begin(stageEndpoint(node))
	return ok
}

// post sends a block with rows for the storages to a node.
func (st *stage) post(node string, storages ...string) buffer.Offset {
	st.t.Helper()
	before := st.begin(node)
	for _, storage := range storages {
		st.path(node, storage, func(p *downstream.Passage) { p.Received++ })
	}
	off := st.next
	st.next++
	st.s.sent(st.part, off, []ticket{before})
	return off
}

// deliver lets a node complete a batch to each of the storages.
func (st *stage) deliver(node string, storages ...string) {
	for _, storage := range storages {
		st.path(node, storage, func(p *downstream.Passage) { p.Sent++; p.PendingRows = 0 })
	}
}

// flow is traffic of others: until the test ends, the node completes a batch to each of the storages that it reaches all the time.
func (st *stage) flow(node string, storages ...string) {
	ctx := st.t.Context()
	go func() {
		for sleepFor(ctx, 300*time.Millisecond) == nil {
			for _, storage := range storages {
				st.path(node, storage, func(p *downstream.Passage) {
					if !p.Unreachable {
						p.Received++
						p.Sent++
					}
				})
			}
		}
	}()
}

func (st *stage) wantSettled(off buffer.Offset, from, to time.Duration) {
	st.t.Helper()
	at, ok := st.part.settledTime(off)
	if !ok || at < from || at > to {
		st.t.Errorf("block %d: settled %v after %s, want between %s and %s", off, ok, at, from, to)
	}
}

func (st *stage) wantUnsettled(off buffer.Offset) {
	st.t.Helper()
	if at, ok := st.part.settledTime(off); ok {
		st.t.Errorf("block %d was called settled after %s", off, at)
	}
	if times := st.part.dirtyTimes(off); len(times) > 0 {
		st.t.Errorf("block %d was called dirty after %v", off, times)
	}
}

// wantDirty wants the block to have been handed out once to be sent again, between the two times.
func (st *stage) wantDirty(off buffer.Offset, from, to time.Duration) {
	st.t.Helper()
	if at, ok := st.part.settledTime(off); ok {
		st.t.Errorf("block %d was called settled after %s", off, at)
	}
	times := st.part.dirtyTimes(off)
	if len(times) != 1 || times[0] < from || times[0] > to {
		st.t.Errorf("block %d was called dirty after %v, want once between %s and %s", off, times, from, to)
	}
}

// metric is the sum of a metric's series with the given label value, or all.
func (st *stage) metric(name, value string) float64 {
	st.t.Helper()
	families, err := st.reg.Gather()
	if err != nil {
		st.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if value == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == value }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// A settleLog is a partition that notes what it is told, and when.
type settleLog struct {
	mu        sync.Mutex
	begun     time.Time
	settledAt map[buffer.Offset]time.Duration
	dirtyAt   map[buffer.Offset][]time.Duration
}

func (l *settleLog) settled(list []buffer.Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, span := range list {
		for off := span.From; off < span.To; off++ {
			if at, again := l.settledAt[off]; again {
				panic(fmt.Sprintf("block %d settled twice, first after %s", off, at))
			}
			l.settledAt[off] = time.Since(l.begun)
		}
	}
}

func (l *settleLog) dirty(list []buffer.Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, span := range list {
		for off := span.From; off < span.To; off++ {
			l.dirtyAt[off] = append(l.dirtyAt[off], time.Since(l.begun))
		}
	}
}

func (l *settleLog) settledTime(off buffer.Offset) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at, ok := l.settledAt[off]
	return at, ok
}

func (l *settleLog) dirtyTimes(off buffer.Offset) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.dirtyAt[off])
}

// lockedText is a log that can be looked at while it is written.
type lockedText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}
