package forward

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
)

// tenantOne is whose the records of most tests are.
var tenantOne = tenant.ID{Account: 1, Project: 2}

// A scene is a Forwarder between a store and nodes that are played by the test.
type scene struct {
	t        *testing.T
	cfg      Config
	store    *fakeStore
	instead  buffer.Store // of store, if set
	budget   *memory.Budget
	settle   settling // nil: a real one, by cfg
	resolver *fakeResolver
	reg      *prometheus.Registry
	logs     *lockedBuffer

	mu    sync.Mutex
	nodes map[string]*fakeNode

	forwarder *Forwarder
	cancel    context.CancelFunc
	ended     chan error
}

func newScene(t *testing.T, nodes ...string) *scene {
	s := &scene{
		t: t,
		cfg: Config{
			ResolveInterval: 10 * time.Second,
			Concurrency:     4,
			Timeout:         30 * time.Second,
			MaxLabels:       30,
			RetryMin:        100 * time.Millisecond,
			RetryMax:        30 * time.Second,
			SettleConfig:    SettleConfig{Settle: 0, SettleMode: settleAuto, LostAfter: time.Minute, Pollers: 1},
		},
		store:    newFakeStore(),
		budget:   memory.NewBudget(8 << 20),
		resolver: &fakeResolver{},
		logs:     &lockedBuffer{},
		nodes:    map[string]*fakeNode{},
	}
	s.resolver.set(nodes...)
	return s
}

// node returns the node that answers at http://name:8480.
func (s *scene) node(name string) *fakeNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	addr := name
	if !strings.Contains(name, ":") {
		addr = name + ":8480"
	}
	if s.nodes[addr] == nil {
		s.nodes[addr] = &fakeNode{name: name}
	}
	return s.nodes[addr]
}

func (s *scene) dial(ep downstream.Endpoint) poster {
	return s.node(ep.Addr)
}

// start runs a new Forwarder over the same store.
func (s *scene) start() *Forwarder {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(s.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.reg = prometheus.NewPedanticRegistry()
	settle := s.settle
	if settle == nil {
		settle = newSettler(s.cfg.SettleConfig, nil, log, s.reg)
	}
	var store buffer.Store = s.store
	if s.instead != nil {
		store = s.instead
	}
	f := newForwarder(s.cfg, store, s.budget, s.resolver, settle, s.dial, log, s.reg)
	ctx, cancel := context.WithCancel(context.Background())
	s.forwarder, s.cancel, s.ended = f, cancel, make(chan error, 1)
	go func() { s.ended <- f.Run(ctx, "forward") }() // ends with stop
	return f
}

func (s *scene) stop() {
	s.t.Helper()
	s.cancel()
	if err := <-s.ended; err != nil {
		s.t.Errorf("Run: %v", err)
	}
	for i, l := range s.forwarder.lanes {
		if used := l.budget.Used(); used != 0 {
			s.t.Errorf("%d bytes of the budget of %s are still taken", used, laneNames[i])
		}
		if parked := l.parked.count(); parked != 0 {
			s.t.Errorf("%d blocks of %s are still parked", parked, laneNames[i])
		}
	}
	if waiting := s.forwarder.fleet.waiting(); waiting != [lanes]int{} {
		s.t.Errorf("%v still wait for permits", waiting)
	}
	for _, n := range s.forwarder.fleet.list() {
		if n.inFlight != 0 {
			s.t.Errorf("%d permits of %s are still held", n.inFlight, n.name)
		}
	}
	if n := s.store.unreleased(); n != 0 {
		s.t.Errorf("%d batches were not released", n)
	}
}

// put stores one block per argument, with the payloads that it names, separated by spaces, all of tenant 1:2.
func (s *scene) put(blocks ...string) {
	for _, b := range blocks {
		var records []buffer.Record
		for payload := range strings.FieldsSeq(b) {
			records = append(records, record(tenantOne, payload))
		}
		s.store.put(encode(records...))
	}
}

// putMany stores n blocks of one record each, r0, r1 and so on.
func (s *scene) putMany(n int) {
	for i := range n {
		s.put(fmt.Sprintf("r%d", i))
	}
}

// wantDelivered checks that r0 to r(n-1) have arrived somewhere.
func (s *scene) wantDelivered(n int) {
	s.t.Helper()
	got := s.delivered()
	missing := 0
	for i := range n {
		if got[fmt.Sprintf("r%d", i)] == 0 {
			missing++
		}
	}
	if missing > 0 {
		s.t.Errorf("%d of %d records have not arrived", missing, n)
	}
}

// delivered counts how often each payload was taken.
func (s *scene) delivered() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]int{}
	for _, n := range s.nodes {
		for _, p := range n.taken() {
			all[p]++
		}
	}
	return all
}

func (s *scene) wantCommitted(want buffer.Offset) {
	s.t.Helper()
	if got := s.store.progress().Committed(); got != want {
		s.t.Errorf("committed is %d, want %d", got, want)
	}
}

// metric sums the series of that name whose labels include the pairs given.
func (s *scene) metric(name string, labels ...string) float64 {
	s.t.Helper()
	sum, _ := s.series(name, labels...)
	return sum
}

func (s *scene) series(name string, labels ...string) (sum float64, n int) {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "ingestgw_forward_"+name && hasLabels(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
				n++
			}
		}
	}
	return sum, n
}

func hasLabels(m *dto.Metric, pairs []string) bool {
	for i := 0; i < len(pairs); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == pairs[i] && l.GetValue() == pairs[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

func record(id tenant.ID, payload string) buffer.Record {
	return buffer.Record{Tenant: id, Received: time.Now(), Encoding: buffer.Snappy, Series: 1, Samples: 10, Decoded: 100, Payload: []byte(payload)}
}

// encode makes a block as buffer/FORMAT.md describes it, of version 2 if a record has tags.
func encode(records ...buffer.Record) []byte {
	var samples uint64
	oldest := int64(1<<63 - 1)
	var body []byte
	version := byte(1)
	for _, r := range records {
		samples += uint64(r.Samples)
		oldest = min(oldest, r.Received.UnixMilli())
		body = binary.AppendUvarint(body, uint64(r.Tenant.Account))
		body = binary.AppendUvarint(body, uint64(r.Tenant.Project))
		body = binary.AppendVarint(body, r.Received.UnixMilli())
		if len(r.Tags) > 0 {
			version = 2
			body = append(body, byte(r.Encoding)|0x80)
			body = binary.AppendUvarint(body, uint64(len(r.Tags)))
			body = append(body, r.Tags...)
		} else {
			body = append(body, byte(r.Encoding))
		}
		for _, n := range []int{r.Series, r.Samples, r.Decoded, len(r.Payload)} {
			body = binary.AppendUvarint(body, uint64(n))
		}
		body = append(body, r.Payload...)
	}
	head := append([]byte{'i', 'g', 'b', version}, make([]byte, 20)...)
	binary.LittleEndian.PutUint32(head[4:], uint32(len(records)))
	binary.LittleEndian.PutUint64(head[8:], samples)
	binary.LittleEndian.PutUint64(head[16:], uint64(oldest))
	return append(head, body...)
}

// A fakeNode is a vminsert as far as forwarding sees it. It answers 204 unless told otherwise.
type fakeNode struct {
	name string
	// answer decides about a request; nil takes all. It is called after the body was read and may wait. A reply of an error is
	// a connection that broke.
	answer func(req *http.Request, payload string) reply

	mu       sync.Mutex
	got      []arrival
	inFlight int
	most     int
}

type reply struct {
	status int // 0 with err nil is 204
	header http.Header
	body   string
	err    error
	// arrived says that the node took the record although err is what the sender sees.
	arrived bool
}

type arrival struct {
	at      time.Time
	payload string
	path    string
	taken   bool
}

func (n *fakeNode) Do(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.inFlight++
	n.most = max(n.most, n.inFlight)
	answer := n.answer
	n.mu.Unlock()
	r := reply{}
	at := time.Now()
	if answer != nil {
		r = answer(req, string(body))
	}
	if r.status == 0 {
		r.status = http.StatusNoContent
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inFlight--
	taken := r.err == nil && r.status < 300 || r.arrived
	n.got = append(n.got, arrival{at, string(body), req.URL.Path, taken})
	if r.err != nil {
		return nil, r.err
	}
	if r.header == nil {
		r.header = http.Header{}
	}
	return &http.Response{
		StatusCode:    r.status,
		Status:        fmt.Sprintf("%d %s", r.status, http.StatusText(r.status)),
		Header:        r.header,
		ContentLength: int64(len(r.body)),
		Body:          io.NopCloser(strings.NewReader(r.body)),
	}, nil
}

func (n *fakeNode) Close() {}

// behave changes how the node answers; nil takes all.
func (n *fakeNode) behave(answer func(req *http.Request, payload string) reply) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = answer
}

func (n *fakeNode) arrivals() []arrival {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]arrival(nil), n.got...)
}

func (n *fakeNode) taken() []string {
	var all []string
	for _, a := range n.arrivals() {
		if a.taken {
			all = append(all, a.payload)
		}
	}
	return all
}

func status(code int) func(*http.Request, string) reply {
	return func(*http.Request, string) reply { return reply{status: code} }
}

func fails(err error) func(*http.Request, string) reply {
	return func(*http.Request, string) reply { return reply{err: err} }
}

// hangs answers when the request is given up.
func hangs(req *http.Request, _ string) reply {
	<-req.Context().Done()
	return reply{err: req.Context().Err()}
}

var errBroken = errors.New("connection reset by peer")

type fakeResolver struct {
	mu    sync.Mutex
	names []string // hosts, or whole URLs
	err   error
}

func (r *fakeResolver) set(names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = names
}

func (r *fakeResolver) Resolve(context.Context, []*url.URL) ([]downstream.Endpoint, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []downstream.Endpoint
	for _, name := range r.names {
		if !strings.Contains(name, "://") {
			name = "http://" + name + ":8480"
		}
		list = append(list, endpoint(name))
	}
	return list, r.err
}

func endpoint(raw string) downstream.Endpoint {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return downstream.Endpoint{Base: u, Addr: u.Host}
}

// A fakeSettling is told what was sent, and settles nothing by itself.
type fakeSettling struct {
	mu     sync.Mutex
	part   settlePartition
	offs   []buffer.Offset
	nodes  []string // of the tickets, per offset
	closed bool     // begin says no
	forgot bool
}

func (s *fakeSettling) begin(ep downstream.Endpoint) (ticket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ticket{node: ep.String()}, !s.closed
}

func (s *fakeSettling) sent(p settlePartition, off buffer.Offset, tickets []ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part = p
	s.offs = append(s.offs, off)
	s.nodes = append(s.nodes, nodesOf(tickets))
}

func (s *fakeSettling) forget(settlePartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgot = true
}

func (s *fakeSettling) setNodes([]downstream.Endpoint) {}

func (s *fakeSettling) run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (s *fakeSettling) setClosed(closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = closed
}

// partition is what has sent something.
func (s *fakeSettling) partition() settlePartition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.part
}

func (s *fakeSettling) offsets() []buffer.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]buffer.Offset(nil), s.offs...)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func urls(t *testing.T, text string) settings.URLs {
	t.Helper()
	var u settings.URLs
	if err := u.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return u
}
