package canary

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// A scene is a Canary between a gateway, nodes and vmselects that are played by the test, in simulated time.
type scene struct {
	t   *testing.T
	cfg Config
	reg *prometheus.Registry
	log bytes.Buffer

	mu      sync.Mutex
	leads   bool
	jammed  bool // what is in the buffer is not forwarded
	queue   []sample
	refused error // of the buffer
	stored  []sample
	nodes   []*fakeNode
	selects []*fakeSelect

	canary *Canary
	cancel context.CancelFunc
	ended  chan error
}

type sample struct {
	metric map[string]string
	value  float64
	at     int64
	lag    time.Duration // until it can be read
	came   time.Time
}

// A fakeNode is a vminsert.
type fakeNode struct {
	s        *scene
	ep       downstream.Endpoint
	frozen   bool
	keeps    bool // answers 204 and passes nothing on
	status   int  // instead of 204
	posts    int
	inFlight int
	most     int                                         // of inFlight
	real     func(*http.Request) (*http.Response, error) // does it instead
}

var errRefused = errors.New("refused")

// A fakeSelect is a vmselect.
type fakeSelect struct {
	s      *scene
	ep     downstream.Endpoint
	frozen bool
	status int    // instead of 200
	text   string // instead of what can be read
	partly bool   // queries are answered all the same
	asked  int
	bytes  int // of its last answer
}

func at(name string) downstream.Endpoint {
	base, err := url.Parse("http://" + name)
	if err != nil {
		panic(err)
	}
	return downstream.Endpoint{Base: base, Addr: base.Host}
}

func newScene(t *testing.T, nodes, selects int) *scene {
	s := &scene{t: t, leads: true, cfg: Config{Every: 10 * time.Second, Timeout: 10 * time.Second}, reg: prometheus.NewPedanticRegistry()}
	for i := range nodes {
		s.nodes = append(s.nodes, &fakeNode{s: s, ep: at(fmt.Sprintf("10.0.0.%d:8480", i))})
	}
	for i := range selects {
		s.selects = append(s.selects, &fakeSelect{s: s, ep: at(fmt.Sprintf("10.0.1.%d:8481", i))})
	}
	return s
}

func (s *scene) start() {
	s.canary = newCanary(s.cfg, "g", nil, s, s, s.dial, slog.New(slog.NewTextHandler(&s.log, nil)), s.reg)
	ctx, cancel := context.WithCancel(s.t.Context())
	s.cancel, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- s.canary.Run(ctx) }() // ends with stop
}

func (s *scene) stop() {
	s.t.Helper()
	s.cancel()
	if err := <-s.ended; !errors.Is(err, context.Canceled) {
		s.t.Errorf("Run returned %v", err)
	}
}

// after lets time pass and returns what is seen then.
func (s *scene) after(d time.Duration) View {
	time.Sleep(d)
	synctest.Wait()
	return s.canary.View()
}

func (s *scene) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *scene) Leads() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads
}

func (s *scene) Nodes() []Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Node
	for _, n := range s.nodes {
		do := n.Do
		if n.real != nil {
			do = n.real
		}
		list = append(list, Node{Endpoint: n.ep, Do: do})
	}
	return list
}

func (s *scene) Resolve(context.Context, []*url.URL) ([]downstream.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []downstream.Endpoint
	for _, v := range s.selects {
		list = append(list, v.ep)
	}
	if len(list) == 0 {
		return nil, errors.New("look up addresses of vmselect: no such host")
	}
	return list, nil
}

func (s *scene) dial(ep downstream.Endpoint) client {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.selects {
		if v.ep.String() == ep.String() {
			return v
		}
	}
	panic("no such vmselect")
}

func (s *scene) Append(_ context.Context, lane buffer.Lane, r buffer.Record, _ func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != nil {
		return s.refused
	}
	if lane != buffer.Main || r.Tenant != s.cfg.Tenant || r.Samples != 1 || r.Series != 1 {
		s.t.Errorf("the record is %+v, in lane %s", r, lane)
	}
	s.queue = append(s.queue, s.decode(r.Payload))
	s.forward()
	return nil
}

// forward empties the buffer unless it is jammed. s.mu is held.
func (s *scene) forward() {
	if !s.jammed {
		s.stored = append(s.stored, s.queue...)
		s.queue = nil
	}
}

// decode reads a request as ingest would, which accepts it only if it is well-formed.
func (s *scene) decode(body []byte) sample {
	message, err := snappy.Decode(nil, body)
	if err != nil {
		s.t.Error(err)
	}
	var scanner remotewrite.Scanner
	counts, err := scanner.Scan(message, remotewrite.Limits{})
	if err != nil || counts.Samples != 1 || counts.Series != 1 {
		s.t.Errorf("the message is not one sample of one series: %+v, %v", counts, err)
	}
	return parse(message, counts.Newest)
}

// parse reads the labels of a message with one series of short labels.
func parse(message []byte, timestamp int64) sample {
	p := sample{metric: map[string]string{}, at: timestamp, lag: 2 * time.Second, came: time.Now()}
	for i := 2; i < len(message) && message[i] == 0x0a; {
		nameLen := int(message[i+3])
		name := string(message[i+4 : i+4+nameLen])
		v := i + 4 + nameLen
		valueLen := int(message[v+1])
		p.metric[name] = string(message[v+2 : v+2+valueLen])
		i = v + 2 + valueLen
	}
	return p
}

func answer(status int, text string) *http.Response {
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(text))}
}

func (n *fakeNode) Do(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	n.s.mu.Lock()
	n.posts++
	n.inFlight++
	n.most = max(n.most, n.inFlight)
	frozen, status, keeps := n.frozen, n.status, n.keeps
	if r.URL.Path != "/insert/0:0/prometheus/api/v1/write" || r.Host != n.ep.Addr {
		n.s.t.Errorf("posted to %s at %s", r.URL, r.Host)
	}
	n.s.mu.Unlock()
	defer n.s.do(func() { n.inFlight-- })
	if frozen {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if status != 0 {
		return answer(status, "no"), nil
	}
	p := n.s.decode(body)
	if p.metric["node"] != n.ep.String() || p.metric["path"] != "vminsert" {
		n.s.t.Errorf("%s is sent %v", n.ep, p.metric)
	}
	if !keeps {
		n.s.do(func() { n.s.stored = append(n.s.stored, p) })
	}
	return answer(http.StatusNoContent, ""), nil
}

func (v *fakeSelect) Close() {}

func (v *fakeSelect) Do(r *http.Request) (*http.Response, error) {
	v.s.mu.Lock()
	v.asked++
	frozen, status, text := v.frozen, v.status, v.text
	partly := v.partly && r.URL.Path == "/select/0:0/prometheus/api/v1/query"
	v.s.mu.Unlock()
	switch {
	case partly:
		return answer(http.StatusOK, v.s.newest(r.URL)), nil
	case frozen:
		<-r.Context().Done()
		return nil, r.Context().Err()
	case status != 0:
		return answer(status, text), nil
	case text != "":
		return answer(http.StatusOK, text), nil
	}
	text = v.s.export(r.URL)
	v.s.do(func() { v.bytes = len(text) })
	return answer(http.StatusOK, text), nil
}

// export is what a vmselect answers.
func (s *scene) export(u *url.URL) string {
	q := u.Query()
	if u.Path != "/select/0:0/prometheus/api/v1/export" || q.Get("match[]") != `ingestgw_canary{group="g"}` {
		s.t.Errorf("asked for %s", u)
	}
	from, errFrom := strconv.ParseFloat(q.Get("start"), 64)
	to, errTo := strconv.ParseFloat(q.Get("end"), 64)
	if errFrom != nil || errTo != nil {
		s.t.Errorf("asked for %s", u)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out strings.Builder
	for _, p := range s.stored {
		if float64(p.at) < from*1000-0.5 || float64(p.at) > to*1000+0.5 || time.Since(p.came) < p.lag {
			continue
		}
		metric, _ := json.Marshal(p.metric)
		fmt.Fprintf(&out, `{"metric":%s,"values":[%v],"timestamps":[%d]}`+"\n", metric, p.value, p.at)
	}
	return out.String()
}

// newest is what a vmselect answers to a query for the newest timestamps.
func (s *scene) newest(u *url.URL) string {
	q := u.Query()
	if !strings.HasPrefix(q.Get("query"), `tlast_over_time(ingestgw_canary{group="g"}[`) || q.Get("latency_offset") != "1ms" || q.Get("nocache") != "1" {
		s.t.Errorf("asked for %s", u)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := map[string]int64{}
	for _, p := range s.stored {
		if time.Since(p.came) >= p.lag {
			metric, _ := json.Marshal(map[string]string{"path": p.metric["path"], "node": p.metric["node"]})
			newest[string(metric)] = max(newest[string(metric)], p.at)
		}
	}
	var all []string
	for metric, at := range newest {
		all = append(all, fmt.Sprintf(`{"metric":%s,"value":[%d,"%s"]}`, metric, time.Now().Unix(), seconds(at)))
	}
	return `{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[` + strings.Join(all, ",") + `]}}`
}

// ages are those of all paths in seconds, by "buffer" or the node; -1 for unknown.
func ages(v View) map[string]float64 {
	all := map[string]float64{}
	for _, p := range v.Paths {
		name := p.Path
		if p.Node != "" {
			name = p.Node
		}
		all[name] = p.Age.Or(-1)
	}
	return all
}

// series are all of the Canary's metrics, as name{label value, …}.
func (s *scene) series() map[string]float64 {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "ingestgw_canary_")
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			all[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}
