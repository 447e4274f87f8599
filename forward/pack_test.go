package forward

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/tenant"
)

// A sender makes records of a tenant, as one that is allowed to sends them.
type sender struct {
	id   tenant.ID
	tags map[string]string
}

// record has one series per name, each with so many samples and labels.
func (s sender) record(samples, labels int, names ...string) buffer.Record {
	wr := &prompb.WriteRequest{}
	for _, name := range names {
		ts := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: name}}}
		for i := 1; i < labels; i++ {
			ts.Labels = append(ts.Labels, prompb.Label{Name: fmt.Sprintf("label_%02d", i), Value: fmt.Sprintf("value of %d in %s", i, name)})
		}
		for i := range samples {
			ts.Samples = append(ts.Samples, prompb.Sample{Value: float64(i) + 0.5, Timestamp: 1_700_000_000_000 + int64(i)*15_000})
		}
		wr.Timeseries = append(wr.Timeseries, ts)
	}
	return s.recordOf(wr)
}

func (s sender) recordOf(wr *prompb.WriteRequest) buffer.Record {
	message := wr.MarshalProtobuf(nil)
	r := buffer.Record{
		Tenant: s.id, Received: time.Now(), Encoding: buffer.Snappy, Series: len(wr.Timeseries), Decoded: len(message),
		Payload: snappy.Encode(nil, message),
	}
	for _, ts := range wr.Timeseries {
		r.Samples += len(ts.Samples)
	}
	tags, err := tenant.NewTags(s.tags)
	if err != nil {
		panic(err)
	}
	r.Tags = tags
	return r
}

// seriesIn is what vminsert makes of a request: each series with its tenant and labels, and all its samples.
func seriesIn(req *http.Request, body string) ([]string, error) {
	message, err := decompress(req, body)
	if err != nil {
		return nil, err
	}
	wru := prompb.GetWriteRequestUnmarshaler()
	defer prompb.PutWriteRequestUnmarshaler(wru)
	wr, err := wru.UnmarshalProtobuf(message)
	if err != nil {
		return nil, err
	}
	inPath := strings.Split(req.URL.Path, "/")[2]
	var all []string
	for _, ts := range wr.Timeseries {
		labels := map[string]string{}
		account, project := "0", "0"
		for _, l := range ts.Labels {
			switch {
			case inPath == "multitenant" && l.Name == "vm_account_id":
				account = l.Value
			case inPath == "multitenant" && l.Name == "vm_project_id":
				project = l.Value
			default:
				labels[l.Name] = l.Value
			}
		}
		id := account + ":" + project
		if inPath != "multitenant" {
			id = inPath
		}
		for _, extra := range req.URL.Query()["extra_label"] {
			name, value, _ := strings.Cut(extra, "=")
			labels[name] = value
		}
		all = append(all, fmt.Sprint(id, " ", labels, " ", ts.Samples))
	}
	for _, m := range wr.Metadata {
		id := inPath
		if inPath == "multitenant" {
			id = strconv.Itoa(int(m.AccountID)) + ":" + strconv.Itoa(int(m.ProjectID))
		}
		all = append(all, fmt.Sprint(id, " metadata ", m.MetricFamilyName, m.Type, m.Help, m.Unit))
	}
	return all, nil
}

func decompress(req *http.Request, body string) ([]byte, error) {
	if req.Header.Get("Content-Encoding") == "zstd" {
		dec, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer dec.Close()
		return dec.DecodeAll([]byte(body), nil)
	}
	return snappy.Decode(nil, []byte(body))
}

// A vminsert is a fakeNode that reads what it is sent, and takes it unless refuse says another status.
type vminsert struct {
	*fakeNode
	requests []insertion
}

type insertion struct {
	at     time.Time
	packed bool
	status int
	series []string
	query  string
}

// vminsert lets the node of that name read what it is sent. refuse may be nil.
func (s *scene) vminsert(name string, refuse func(r insertion) int) *vminsert {
	n := &vminsert{fakeNode: s.node(name)}
	n.behave(func(req *http.Request, body string) reply {
		series, err := seriesIn(req, body)
		r := insertion{
			at: time.Now(), packed: strings.Contains(req.URL.Path, "/multitenant/"), series: series, status: http.StatusNoContent, query: req.URL.RawQuery,
		}
		if err != nil {
			r.status = http.StatusBadRequest
		} else if refuse != nil {
			if status := refuse(r); status != 0 {
				r.status = status
			}
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.requests = append(n.requests, r)
		return reply{status: r.status}
	})
	return n
}

// took is what was taken, sorted, by packed requests and others.
func (n *vminsert) took() (packed, loose []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.requests {
		switch {
		case r.status >= 300:
		case r.packed:
			packed = append(packed, r.series...)
		default:
			loose = append(loose, r.series...)
		}
	}
	slices.Sort(packed)
	slices.Sort(loose)
	return packed, loose
}

func (n *vminsert) inserted() []insertion {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.requests)
}

// wantSeries are the series of the records as they are when each goes by URL.
func wantSeries(t *testing.T, records ...buffer.Record) []string {
	t.Helper()
	n := newNode(endpoint("http://x"), nil, nil)
	var all []string
	for _, r := range records {
		req := &http.Request{URL: n.url(r.Tenant, r.Tags), Header: http.Header{}}
		series, err := seriesIn(req, string(r.Payload))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, series...)
	}
	slices.Sort(all)
	return all
}

func newPackScene(t *testing.T, nodes ...string) *scene {
	s := newScene(t, nodes...)
	s.cfg.Pack = true
	return s
}

func TestSmallRecordsLeaveTogetherAndAreTheSameAsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a")
		a := s.vminsert("a", nil)
		tagged := sender{tenant.ID{Account: 7, Project: 9}, map[string]string{"org": "acme = & % ü", "label_02": "ours"}}
		metadata := sender{id: tenant.ID{Account: 5}}.recordOf(&prompb.WriteRequest{Metadata: []prompb.MetricMetadata{
			{Type: prompb.MetricTypeCounter, MetricFamilyName: "m", Help: "helps", Unit: "s"},
		}})
		records := []buffer.Record{
			sender{id: tenant.ID{Account: 8, Project: math.MaxUint32}}.record(2, 4, "x", "y"),
			tagged.record(3, 12, "x"),
			metadata,
			sender{id: tenant.ID{}}.record(1, 1, "z"),
			tagged.record(1, 12, "y"),
		}
		s.store.put(encode(records[:3]...))
		s.store.put(encode(records[3:]...))
		s.start()
		time.Sleep(2 * time.Second)
		s.wantCommitted(2)
		s.stop()

		packed, loose := a.took()
		if want := wantSeries(t, records...); !slices.Equal(packed, want) || len(loose) != 0 {
			t.Errorf("packed came\n%s\nand loose\n%s\nwant packed\n%s", strings.Join(packed, "\n"), strings.Join(loose, "\n"), strings.Join(want, "\n"))
		}
		got := a.inserted()
		if len(got) != 1 {
			t.Fatalf("%d requests, want one for both blocks", len(got))
		}
		var order []string
		for _, series := range got[0].series[:5] { // metadata comes behind them
			order = append(order, strings.Fields(series)[0])
		}
		if want := "0:0 7:9 7:9 8:4294967295 8:4294967295"; strings.Join(order, " ") != want {
			t.Errorf("the series are those of %v, want them by tenant", order)
		}
		if s.metric("packed_requests_total", "lane", "main") != 1 || s.metric("packed_samples_total") != 9 || s.metric("unpacked_samples_total") != 0 ||
			s.metric("samples_total", "node", "a:8480") != 9 {
			t.Error("the samples were not counted")
		}
		if sent, came := s.metric("packed_bytes_total", "form", "sent"), s.metric("packed_bytes_total", "form", "came"); sent == 0 || came == 0 {
			t.Errorf("%v bytes sent of %v", sent, came)
		}
	})
}
