package ingest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/bits"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/memory"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// shelf is a Store that keeps what it is given in a slice and answers what a test wants to hear.
type shelf struct {
	buffer.Store // the methods that ingest does not use

	maxBlock int           // 64 MiB when 0
	keeps    bool          // whether blocks are stored although answer is an error
	answer   func() error  // what Append returns instead of nil; nil answers nil
	entered  chan struct{} // when not nil, gets a value for every Append that has begun
	leave    chan struct{} // when not nil, Append waits for a value

	mu     sync.Mutex
	blocks [][]byte
	lanes  map[buffer.Lane]int // samples
}

func (s *shelf) MaxBlock() int { return cmp.Or(s.maxBlock, 64<<20) }

func (s *shelf) Append(_ context.Context, lane buffer.Lane, b *buffer.Block) error {
	defer b.Release()
	if s.entered != nil {
		s.entered <- struct{}{}
	}
	if s.leave != nil {
		<-s.leave
	}
	var err error
	if s.answer != nil {
		err = s.answer()
	}
	if err == nil || s.keeps {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.blocks = append(s.blocks, bytes.Clone(b.Data))
		if s.lanes == nil {
			s.lanes = map[buffer.Lane]int{}
		}
		s.lanes[lane] += b.Samples
	}
	return err
}

// samples are how many there are in each lane.
func (s *shelf) samples() map[buffer.Lane]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.lanes)
}

func (s *shelf) records(t testing.TB) []buffer.Record {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []buffer.Record
	for _, b := range s.blocks {
		var err error
		if all, err = buffer.DecodeBlock(b, all); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// A gateway is a Server that runs, usually over a shelf.
type gateway struct {
	*Server
	shelf  *shelf
	url    string
	reg    *prometheus.Registry
	budget *memory.Budget
	limits *limit.Registry
}

func defaults() Config {
	return Config{
		Listen: "127.0.0.1:0", MaxBody: 16 << 20, MaxDecoded: 32 << 20, MaxSeries: 100_000, MaxExpanded: 256 << 20,
		ReadTimeout: 30 * time.Second, ConnMaxAge: 2 * time.Minute, LabelNames: namesUTF8,
		MaxLabels: 40, MaxLabelName: 256, MaxLabelValue: 64 << 10, Reserved: reservedStrip,
	}
}

// start runs a Server that believes what requests say of their tenant.
func start(t testing.TB, cfg Config, budget int64, store buffer.Store) *gateway {
	t.Helper()
	believing, err := access.New(access.Config{Mode: access.ModePath, Default: tenant.ID{Account: 7}}, nil, nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, cfg, believing, budget, store)
}

func startWith(t testing.TB, cfg Config, who Access, budget int64, store buffer.Store) *gateway {
	t.Helper()
	return startLogging(t, cfg, who, budget, store, slog.New(slog.DiscardHandler))
}

func startLogging(t testing.TB, cfg Config, who Access, budget int64, store buffer.Store, log *slog.Logger) *gateway {
	t.Helper()
	g := &gateway{reg: prometheus.NewRegistry(), budget: memory.NewBudget(budget)}
	g.shelf, _ = store.(*shelf)
	gather := buffer.NewGatherer(store, buffer.Config{Linger: 5 * time.Millisecond, AppendTimeout: time.Hour}, g.reg)
	var err error
	g.limits = limit.New(limit.Config{Idle: 2 * time.Hour, Top: 5, ShareEvery: time.Second}, log, g.reg)
	if g.Server, err = New(cfg, who, g.limits, gather, g.budget, log, g.reg); err != nil {
		t.Fatal(err)
	}
	if err := g.Listen(); err != nil {
		t.Fatal(err)
	}
	g.url = "http://" + g.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.Serve() }()
	t.Cleanup(func() {
		if err := g.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := gather.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if used := g.budget.Used(); used != 0 {
			t.Errorf("%d bytes of the budget were never given back", used)
		}
	})
	return g
}

func (g *gateway) post(t testing.TB, path string, body io.Reader, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, g.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func (g *gateway) requests(t testing.TB, answer string) int {
	t.Helper()
	return int(testutil.ToFloat64(g.metrics.requests[answer]))
}

// message is a write request of n series with one sample each, every series with the further labels, given as name, value, ….
func message(n int, labels ...string) []byte {
	var wr prompb.WriteRequest
	for i := range n {
		ls := []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "i", Value: strconv.Itoa(i)}}
		for j := 0; j < len(labels); j += 2 {
			ls = append(ls, prompb.Label{Name: labels[j], Value: labels[j+1]})
		}
		wr.Timeseries = append(wr.Timeseries, prompb.TimeSeries{
			Labels: ls, Samples: []prompb.Sample{{Value: float64(i), Timestamp: 1_700_000_000_000}},
		})
	}
	return wr.MarshalProtobuf(nil)
}

func body(n int, labels ...string) *bytes.Reader {
	return bytes.NewReader(snappy.Encode(nil, message(n, labels...)))
}

// incompressible is a body of a little more than n bytes with labels that snappy cannot make smaller: a series for every 10,000.
func incompressible(n int, labels ...string) []byte {
	return snappy.Encode(nil, noise(n, labels...))
}

func noise(n int, labels ...string) (msg []byte) {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for len(msg) < n {
		msg = append(msg, message(1, append([]string{"noise", randomText(random, 10_000)}, labels...)...)...)
	}
	return msg
}

func randomText(random *rand.Rand, n int) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	text := make([]byte, n)
	for i := range text {
		text[i] = letters[random.IntN(len(letters))]
	}
	return string(text)
}

func TestPathNamesTheTenant(t *testing.T) {
	g := start(t, defaults(), 1<<20, &shelf{})
	for path, want := range map[string]tenant.ID{
		"/api/v1/write":                                {Account: 7},
		"/api/v1/push":                                 {Account: 7},
		"//api/v1/write":                               {Account: 7},
		"/insert/1/prometheus/api/v1/write":            {Account: 1},
		"/insert/1:2/prometheus/api/v1/write":          {Account: 1, Project: 2},
		"/insert/1:2/prometheus":                       {Account: 1, Project: 2},
		"/insert/1:2/prometheus/":                      {Account: 1, Project: 2},
		"/insert/1:2/prometheus/api/v1/push":           {Account: 1, Project: 2},
		"/insert/4294967295:4294967295/prometheus/":    {Account: 4294967295, Project: 4294967295},
		"/insert/0:0/prometheus/api/v1/write":          {},
		"/insert/3/prometheus/api/v1/write?extra=1":    {Account: 3},
		"/insert//3//prometheus/api/v1/write":          {Account: 3},
		"/insert/3%3A4/prometheus/api/v1/write":        {Account: 3, Project: 4},
		"///insert/5:6///prometheus///api///v1///push": {Account: 5, Project: 6},
	} {
		g.shelf.blocks = nil
		if resp, text := g.post(t, path, body(1)); resp.StatusCode != http.StatusNoContent || text != "" {
			t.Errorf("%s: got %s %q, want 204 without text", path, resp.Status, text)
			continue
		}
		if got := g.shelf.records(t)[0].Tenant; got != want {
			t.Errorf("%s: stored for tenant %v, want %v", path, got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	cfg := defaults()
	cfg.MaxBody, cfg.MaxDecoded, cfg.MaxSeries = 1<<20, 2<<20, 1000
	huge := snappy.Encode(nil, bytes.Repeat([]byte{0}, 3<<20))
	for name, c := range map[string]struct {
		path    string
		body    []byte
		headers []string
		status  int
		answer  string
		says    string
		change  func(*Config)
	}{
		"unknown path":          {path: "/metrics", status: 404, answer: "unknown_path", says: "/api/v1/write"},
		"path below vminsert's": {path: "/insert/1/influx/write", status: 404, answer: "unknown_path"},
		"tenant is no number":   {path: "/insert/abc/prometheus", status: 400, answer: "bad_tenant", says: `"abc"`},
		"tenant is too large":   {path: "/insert/4294967296/prometheus", status: 400, answer: "bad_tenant", says: "4294967295"},
		"tenant is negative":    {path: "/insert/-1/prometheus", status: 400, answer: "bad_tenant"},
		"tenant has a plus":     {path: "/insert/+1/prometheus", status: 400, answer: "bad_tenant"},
		"multitenant":           {path: "/insert/multitenant/prometheus", status: 400, answer: "bad_tenant"},
		"remote-write 2.0": {
			headers: []string{"Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"},
			status:  415, answer: "unsupported_type", says: "1.0",
		},
		"2.0, quoted and in capitals": {
			headers: []string{"Content-Type", `Application/X-Protobuf; Proto="io.prometheus.write.v2.Request"`},
			status:  415, answer: "unsupported_type",
		},
		"1.0 by name":        {headers: []string{"Content-Type", "application/x-protobuf; proto=prometheus.WriteRequest"}, status: 204, answer: accepted},
		"JSON":               {headers: []string{"Content-Type", "application/json"}, status: 415, answer: "unsupported_type"},
		"zstd":               {headers: []string{"Content-Encoding", "zstd"}, status: 415, answer: "unsupported_encoding", says: "snappy"},
		"gzip":               {headers: []string{"Content-Encoding", "gzip"}, status: 415, answer: "unsupported_encoding"},
		"Snappy in capitals": {headers: []string{"Content-Encoding", " SNAPPY "}, status: 204, answer: accepted},
		"no encoding given":  {headers: []string{"Content-Encoding", ""}, status: 204, answer: accepted},
		"empty message":      {body: snappy.Encode(nil, nil), status: 204, answer: accepted},
		"no body at all":     {body: []byte{}, status: 400, answer: "malformed", says: "snappy"},
		"framed snappy":      {body: framed(message(1)), status: 400, answer: "malformed"},
		"garbage":            {body: []byte("hello, world"), status: 400, answer: "malformed"},
		"garbage inside":     {body: snappy.Encode(nil, []byte("hello, world")), status: 400, answer: "malformed"},
		"claims too much":    {body: []byte{0x80, 0x80, 0x40, 0x00}, status: 400, answer: "malformed", says: "claim"},
		"body too large":     {body: bytes.Repeat([]byte{1}, 1<<20+1), status: 400, answer: "too_large", says: "INGESTGW_INGEST_MAX_BODY"},
		"decoded too large":  {body: huge, status: 400, answer: "too_large", says: "INGESTGW_INGEST_MAX_DECODED"},
		"too many series":    {body: snappy.Encode(nil, message(1001)), status: 400, answer: "too_large", says: "INGESTGW_INGEST_MAX_SERIES"},
		"expands too much": {
			body: snappy.Encode(nil, message(1000)), status: 400, answer: "too_large", says: "INGESTGW_INGEST_MAX_EXPANDED",
			change: func(c *Config) { c.MaxExpanded = 10_000 },
		},
		"a series with no name": {
			body:   snappy.Encode(nil, (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: []prompb.Label{{Name: "a", Value: "b"}}, Samples: []prompb.Sample{{}}}}}).MarshalProtobuf(nil)),
			status: 400, answer: "series_refused", says: "the only series of the request breaks a rule: invalid series: series 0, byte 2: no __name__",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			if c.change != nil {
				c.change(&cfg)
			}
			g := start(t, cfg, 64<<20, &shelf{})
			path, b := c.path, c.body
			if path == "" {
				path = "/api/v1/write"
			}
			if b == nil {
				b = snappy.Encode(nil, message(1))
			}
			resp, text := g.post(t, path, bytes.NewReader(b), c.headers...)
			if resp.StatusCode != c.status || !strings.Contains(text, c.says) {
				t.Errorf("got %d %q, want %d with %q", resp.StatusCode, text, c.status, c.says)
			}
			if g.requests(t, c.answer) != 1 {
				t.Errorf("not counted as %s", c.answer)
			}
			if stored := len(g.shelf.records(t)); c.status != 204 && stored != 0 {
				t.Errorf("%d records stored of a request that was refused", stored)
			}
			if resp.Header.Get("Retry-After") != "" {
				t.Error("Retry-After on what can never succeed")
			}
		})
	}
}

func framed(b []byte) []byte {
	var out bytes.Buffer
	w := snappy.NewBufferedWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func TestOtherMethodsAreToldWhichOneIsAllowed(t *testing.T) {
	g := start(t, defaults(), 1<<20, &shelf{})
	resp, err := http.Get(g.url + "/api/v1/write")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != http.MethodPost {
		t.Errorf("got %s, Allow %q", resp.Status, resp.Header.Get("Allow"))
	}
}

func TestRecordIsTheSendersOwnBytes(t *testing.T) {
	g := start(t, defaults(), 1<<20, &shelf{})
	sent := snappy.Encode(nil, message(3))
	before := time.Now().Truncate(time.Millisecond)
	if resp, text := g.post(t, "/insert/1:2/prometheus", bytes.NewReader(sent)); resp.StatusCode != 204 {
		t.Fatal(resp.Status, text)
	}
	r := g.shelf.records(t)[0]
	if !bytes.Equal(r.Payload, sent) || r.Series != 3 || r.Samples != 3 || r.Decoded != len(message(3)) || r.Encoding != buffer.Snappy {
		t.Errorf("stored %+v", r)
	}
	if r.Received.Before(before) || r.Received.After(time.Now()) {
		t.Errorf("received %v, now is %v", r.Received, time.Now())
	}
}

func TestLabelsThatNameATenantAreTakenOut(t *testing.T) {
	g := start(t, defaults(), 1<<20, &shelf{})
	forged := body(2, "vm_account_id", "66", "VictoriaMetrics_ProjectID", "5", "z", "kept")
	if resp, text := g.post(t, "/insert/1:2/prometheus", forged); resp.StatusCode != 204 {
		t.Fatal(resp.Status, text)
	}
	r := g.shelf.records(t)[0]
	got, err := snappy.Decode(nil, r.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if want := message(2, "z", "kept"); !bytes.Equal(got, want) || r.Decoded != len(want) {
		t.Errorf("stored %q, want %q", got, want)
	}
	if n := testutil.ToFloat64(g.metrics.reserved); n != 4 {
		t.Errorf("%v labels counted, want 4", n)
	}
}

func TestOnlyWhatIsDurableIsAcknowledged(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		answer string
	}{
		"full":        {fmt.Errorf("append: %w", buffer.ErrFull), 503, "buffer_full"},
		"unavailable": {fmt.Errorf("append: %w", buffer.ErrUnavailable), 503, "buffer_unavailable"},
		"closed":      {fmt.Errorf("append: %w", buffer.ErrClosed), 503, "stopping"},
		"shrunk":      {fmt.Errorf("append: %w", buffer.ErrTooLarge), 503, "buffer_unavailable"},
		"unexpected":  {io.ErrNoProgress, 503, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, defaults(), 1<<20, &shelf{answer: func() error { return c.err }})
			resp, _ := g.post(t, "/api/v1/write", body(1))
			if resp.StatusCode != c.status || g.requests(t, c.answer) != 1 {
				t.Errorf("got %s", resp.Status)
			}
			after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
			if err != nil || after < 1 || after > 30 {
				t.Errorf("Retry-After %q", resp.Header.Get("Retry-After"))
			}
		})
	}
}

func TestRetryAfterIsJittered(t *testing.T) {
	seen := map[int]bool{}
	for range 1000 {
		n := retryAfter(30 * time.Second)
		if n < 1 || n > 30 {
			t.Fatalf("Retry-After: %d", n)
		}
		seen[n] = true
	}
	if len(seen) < 20 {
		t.Errorf("only %d different values in 1000", len(seen))
	}
}

func TestSpentBudgetIsRefusedAtOnceAndComesBack(t *testing.T) {
	store := &shelf{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	one := body(100)
	g := start(t, defaults(), int64(room(one.Len())+one.Len()+len(message(100))), store)
	first := make(chan int)
	go func() {
		resp, _ := g.post(t, "/api/v1/write", body(100))
		first <- resp.StatusCode
	}()
	<-store.entered
	resp, text := g.post(t, "/api/v1/write", one)
	if resp.StatusCode != 503 || g.requests(t, "memory_spent") != 1 || !strings.Contains(text, "INGESTGW_MEMORY_LIMIT") {
		t.Errorf("got %s %q, want 503", resp.Status, text)
	}
	close(store.leave)
	if status := <-first; status != 204 {
		t.Errorf("the request that held the budget: got %d", status)
	}
	if resp, text := g.post(t, "/api/v1/write", body(100)); resp.StatusCode != 204 {
		t.Errorf("with the budget free again: got %s %q", resp.Status, text)
	}
	<-store.entered
}

func TestChunkedBodyIsReadWithinTheLimit(t *testing.T) {
	cfg := defaults()
	cfg.MaxBody = 300_000
	g := start(t, cfg, 64<<20, &shelf{})
	if resp, text := g.post(t, "/api/v1/write", chunked(body(20_000))); resp.StatusCode != 204 {
		t.Errorf("got %s %q", resp.Status, text)
	}
	if r := g.shelf.records(t); len(r) != 1 || r[0].Series != 20_000 {
		t.Errorf("stored %d records", len(r))
	}
	if resp, text := g.post(t, "/api/v1/write", chunked(bytes.NewReader(make([]byte, 300_001)))); resp.StatusCode != 400 || !strings.Contains(text, "MAX_BODY") {
		t.Errorf("body above the limit: got %s %q", resp.Status, text)
	}
}

func TestChunkedBodyStopsWhenTheBudgetIsSpent(t *testing.T) {
	cfg := defaults()
	cfg.MaxBody = 5 * step // which is not reached
	g := start(t, cfg, 3*heldTwice*step, &shelf{})
	if resp, _ := g.post(t, "/api/v1/write", chunked(bytes.NewReader(make([]byte, 5*step+1)))); resp.StatusCode != 503 || g.requests(t, "memory_spent") != 1 {
		t.Errorf("got %s", resp.Status)
	}
}

// Once a chunked body has been read, what was taken for reading on is there for decoding it.
func TestChunkedBodyTakesNoMoreThanItsBufferAndACopy(t *testing.T) {
	msg := message(2000)
	sent := snappy.Encode(nil, msg)
	g := start(t, defaults(), int64(step+len(sent)+len(msg)), &shelf{})
	if resp, text := g.post(t, "/api/v1/write", chunked(bytes.NewReader(sent))); resp.StatusCode != 204 {
		t.Errorf("%d bytes, %d decoded: got %s %q", len(sent), len(msg), resp.Status, text)
	}
}

// chunked hides the length of b.
func chunked(b io.Reader) io.Reader { return io.MultiReader(b) }

// postHeld sends a request to a gateway whose shelf waits, and returns what is held of the budget while it is being stored.
func (g *gateway) postHeld(t *testing.T, b io.Reader) (held int) {
	t.Helper()
	status := make(chan int)
	go func() {
		resp, _ := g.post(t, "/api/v1/write", b)
		status <- resp.StatusCode
	}()
	<-g.shelf.entered
	held = int(g.budget.Used())
	g.shelf.leave <- struct{}{}
	if got := <-status; got != 204 {
		t.Errorf("got %d", got)
	}
	return held
}

// waiting is a shelf for postHeld.
func waiting() *shelf { return &shelf{entered: make(chan struct{}, 1), leave: make(chan struct{}, 1)} }

// What is held of a request that waits for the store is the buffer with its body and the copy in its block, whatever buffers
// earlier requests have left behind.
func TestBudgetCountsTheBuffersThatBodiesLieIn(t *testing.T) {
	g := start(t, defaults(), 64<<20, waiting())
	small, medium, large := snappy.Encode(nil, message(1)), incompressible(300_000), incompressible(2<<20)
	for range 3 {
		for _, c := range []struct {
			what   string
			body   io.Reader
			buffer int
			size   int
		}{
			{"small", bytes.NewReader(small), 4 << 10, len(small)},
			{"small, chunked", chunked(bytes.NewReader(small)), 64 << 10, len(small)},
			{"medium", bytes.NewReader(medium), 512 << 10, len(medium)},
			{"medium, chunked", chunked(bytes.NewReader(medium)), 512 << 10, len(medium)},
			{"large", bytes.NewReader(large), len(large), len(large)},
			{"large, chunked", chunked(bytes.NewReader(large)), 4 << 20, len(large)},
		} {
			if got := g.postHeld(t, c.body); got != c.buffer+c.size {
				t.Errorf("%s: %d bytes held, want a buffer of %d and a copy of %d", c.what, got, c.buffer, c.size)
			}
		}
	}
}

// Taking out what is reserved needs space for the message compressed anew, and leaves no more behind than the result.
func TestBudgetCountsWhatTakingOutLabelsNeeds(t *testing.T) {
	forged, clean := noise(500_000, "vm_account_id", "1"), noise(500_000)
	for name, c := range map[string]struct {
		message, want, body []byte
	}{
		"as we compress":    {forged, clean, snappy.Encode(nil, forged)},
		"better than we do": {bytes.Repeat(forged, 4), bytes.Repeat(clean, 4), compressPeriodic(forged, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			ours := snappy.Encode(nil, c.want)
			peak := room(len(c.body)) + len(c.body) + len(c.message) + snappy.MaxEncodedLen(len(c.want))
			g := start(t, defaults(), int64(peak), waiting())
			held, want := g.postHeld(t, bytes.NewReader(c.body)), max(room(len(c.body)), len(ours))+len(ours)
			if held != want {
				t.Errorf("%d bytes held while it is stored, want %d", held, want)
			}
			if r := g.shelf.records(t); len(r) != 1 || !bytes.Equal(r[0].Payload, ours) {
				t.Errorf("%d records stored, not what was sent without the label", len(r))
			}
			g = start(t, defaults(), int64(peak)-1, &shelf{})
			if resp, text := g.post(t, "/api/v1/write", bytes.NewReader(c.body)); resp.StatusCode != 503 || g.requests(t, "memory_spent") != 1 {
				t.Errorf("with a byte less: got %s %q, want 503", resp.Status, text)
			}
		})
	}
}

// A budget of Largest is what a request of the largest size needs, and hardly more than that.
func TestLargestRequestFitsIntoTheBudgetThatItAsksFor(t *testing.T) {
	message := noise(2<<20, "vm_account_id", "1")
	sent := snappy.Encode(nil, message)
	cfg := defaults()
	cfg.MaxBody, cfg.MaxDecoded = settings.Bytes(len(sent)), settings.Bytes(len(message))
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"with its length": func(b io.Reader) io.Reader { return b },
		"chunked":         chunked,
	} {
		for _, maxBlock := range []int{0, 30_000} {
			g := start(t, cfg, cfg.Largest(), &shelf{maxBlock: maxBlock})
			if resp, text := g.post(t, "/api/v1/write", wrap(bytes.NewReader(sent))); resp.StatusCode != 204 {
				t.Errorf("%s, in blocks of %d: got %s %q", name, maxBlock, resp.Status, text)
			}
		}
		g := start(t, cfg, cfg.Largest()-1<<20-10_000, &shelf{}) // it is rounded up, and what was taken out needs no space
		if resp, text := g.post(t, "/api/v1/write", wrap(bytes.NewReader(sent))); resp.StatusCode != 503 {
			t.Errorf("%s, with less: got %s %q", name, resp.Status, text)
		}
	}
}

// compressPeriodic is b n times as a snappy block that refers back further than our encoder looks.
func compressPeriodic(b []byte, n int) []byte {
	block := binary.AppendUvarint(nil, uint64(n*len(b)))
	block = binary.LittleEndian.AppendUint32(append(block, 63<<2), uint32(len(b)-1)) // a literal, its length in 4 bytes
	block = append(block, b...)
	for left := (n - 1) * len(b); left > 0; left -= 64 { // copies, their offset in 4 bytes
		block = binary.LittleEndian.AppendUint32(append(block, byte(min(left, 64)-1)<<2|3), uint32(len(b)))
	}
	return block
}

func TestBuffersOfBodiesAreNotMuchLargerThanTheBody(t *testing.T) {
	var p bodies
	for n := range 4 << 20 {
		if n%997 > 1 && bits.OnesCount(uint(n)) > 1 && bits.OnesCount(uint(n+1)) > 1 {
			continue // all around powers of two, and some in between
		}
		buf := p.get(n)
		if got := cap(buf.b); len(buf.b) != 0 || got < n || got != room(n) || got > 4<<10 && got >= 2*n {
			t.Fatalf("for %d bytes: a buffer of %d with %d in it", n, got, len(buf.b))
		}
		buf.b = append(buf.b, 1)
		p.put(buf)
	}
}

// raw sends bytes as they are and returns all that comes back until the server closes.
func (g *gateway) raw(t *testing.T, request string, halfClose bool) string {
	t.Helper()
	c, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if halfClose {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestSlowSenderIsToldToComeBack(t *testing.T) {
	cfg := defaults()
	cfg.ReadTimeout = 50 * time.Millisecond
	g := start(t, cfg, 1<<20, &shelf{})
	got := g.raw(t, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", false)
	if !strings.HasPrefix(got, "HTTP/1.1 503") || !strings.Contains(got, "Retry-After") || !strings.Contains(got, "READ_TIMEOUT") {
		t.Errorf("got %q", got)
	}
}

func TestBodyThatEndsEarlyMayComeAgain(t *testing.T) {
	g := start(t, defaults(), 1<<20, &shelf{})
	got := g.raw(t, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", true)
	if !strings.HasPrefix(got, "HTTP/1.1 503") || g.requests(t, "aborted") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestMalformedChunksAreRefusedForGood(t *testing.T) {
	g := start(t, defaults(), 1<<20, &shelf{})
	got := g.raw(t, "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", true)
	if !strings.HasPrefix(got, "HTTP/1.1 400") || g.requests(t, "malformed") != 1 {
		t.Errorf("got %q", got)
	}
}

func TestOldConnectionIsClosedAfterItsAnswer(t *testing.T) {
	cfg := defaults()
	cfg.ConnMaxAge = time.Nanosecond
	g := start(t, cfg, 1<<20, &shelf{})
	if resp, _ := g.post(t, "/api/v1/write", body(1)); resp.StatusCode != 204 || !resp.Close {
		t.Errorf("got %s, close %v", resp.Status, resp.Close)
	}
	cfg.ConnMaxAge = 0
	g = start(t, cfg, 1<<20, &shelf{})
	if resp, _ := g.post(t, "/api/v1/write", body(1)); resp.StatusCode != 204 || resp.Close {
		t.Errorf("without an age: got %s, close %v", resp.Status, resp.Close)
	}
}

func TestShutdownFinishesRequestsInFlight(t *testing.T) {
	store := &shelf{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	g := start(t, defaults(), 1<<20, store)
	answered := make(chan int)
	go func() {
		resp, _ := g.post(t, "/api/v1/write", body(1))
		answered <- resp.StatusCode
	}()
	<-store.entered
	stopped := make(chan error)
	go func() { stopped <- g.Shutdown(context.Background()) }()
	for { // until the listener is closed
		c, err := net.Dial("tcp", g.Addr().String())
		if err != nil {
			break
		}
		c.Close()
	}
	close(store.leave)
	if status := <-answered; status != 204 {
		t.Errorf("request in flight got %d", status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestValidateNamesEverySettingThatIsWrong(t *testing.T) {
	err := Config{ConnMaxAge: -1, LabelNames: "ascii"}.Validate()
	for _, name := range []string{"MAX_BODY", "MAX_DECODED", "MAX_SERIES", "MAX_EXPANDED", "READ_TIMEOUT", "CONN_MAX_AGE", "LABEL_NAMES", "RESERVED"} {
		if err == nil || !strings.Contains(err.Error(), "INGESTGW_INGEST_"+name) {
			t.Errorf("%s is not named in %v", name, err)
		}
	}
	if err := defaults().Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzGarbageIsNeverAccepted(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("hello"))
	f.Add(snappy.Encode(nil, message(2)))
	f.Add(snappy.Encode(nil, message(1))[:20])
	g := start(f, defaults(), 64<<20, &shelf{})
	f.Fuzz(func(t *testing.T, b []byte) {
		resp, text := g.post(t, "/api/v1/write", bytes.NewReader(b))
		if resp.StatusCode != 204 && resp.StatusCode != 400 {
			t.Fatalf("got %s %q", resp.Status, text)
		}
		decoded, err := snappy.Decode(nil, b)
		if resp.StatusCode == 204 && err != nil {
			t.Fatalf("accepted what is no snappy: %v", err)
		}
		var u prompb.WriteRequestUnmarshaler
		if _, err := u.UnmarshalProtobuf(decoded); resp.StatusCode == 204 && err != nil {
			t.Fatalf("accepted what vminsert cannot parse: %v", err)
		}
	})
}
