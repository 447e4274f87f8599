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

func TestBigRecordsGoAsTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a")
		a := s.vminsert("a", nil)
		one := sender{id: tenant.ID{Account: 1}, tags: map[string]string{"org": "o"}}
		big := []buffer.Record{one.record(packBelow, 3, "big"), one.record(1, 3, slices.Repeat([]string{"many"}, packBelow)...)}
		little := []buffer.Record{one.record(packBelow-1, 3, "little"), one.record(1, 3, "least")}
		s.store.put(encode(big[0], little[0], big[1], little[1]))
		s.start()
		time.Sleep(2 * time.Second)
		s.wantCommitted(1)
		s.stop()
		packed, loose := a.took()
		if !slices.Equal(packed, wantSeries(t, little...)) || !slices.Equal(loose, wantSeries(t, big...)) {
			t.Errorf("%d series came packed and %d loose, want 2 and %d", len(packed), len(loose), 1+packBelow)
		}
		if n := s.metric("unpacked_samples_total", "lane", "main"); n != 2*packBelow {
			t.Errorf("unpacked_samples_total is %v", n)
		}
	})
}

func TestWithoutPackingEveryRecordHasItsRequest(t *testing.T) {
	for name, change := range map[string]func(*scene){
		"FORWARD_PACK=false": func(s *scene) { s.cfg.Pack = false },
		"a path of its own":  func(s *scene) { s.resolver.set("http://a:8480/insert/5:6/prometheus/api/v1/write?authKey=k") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPackScene(t, "a")
				change(s)
				a := s.vminsert("a", nil)
				s.store.put(encode(sender{id: tenant.ID{Account: 1}, tags: map[string]string{"org": "o"}}.record(1, 2, "x"),
					sender{id: tenant.ID{Account: 2}}.record(1, 2, "y"), sender{id: tenant.ID{Account: 3}}.record(1, 2, "z")))
				s.start()
				time.Sleep(2 * time.Second)
				s.wantCommitted(1)
				s.stop()
				packed, loose := a.took()
				if len(a.inserted()) != 3 || len(packed) != 0 || len(loose) != 3 || !strings.Contains(loose[0], "org:o") {
					t.Errorf("%d requests brought packed %v, loose %v", len(a.inserted()), packed, loose)
				}
				if query := a.inserted()[0].query; !strings.HasSuffix(query, "extra_label=org=o") {
					t.Errorf("the query is %q", query)
				}
			})
		})
	}
}

// vminsert counts the labels that packing adds, and cuts what is above its limit without a word.
func TestASeriesNearTheLabelLimitGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a")
		a := s.vminsert("a", nil)
		plain := sender{id: tenant.ID{Account: 1}}
		tagged := sender{tenant.ID{Account: 2}, map[string]string{"label_03": "wins", "region": "eu"}}
		fits := []buffer.Record{plain.record(1, 28, "fits"), tagged.record(1, 27, "fits"), plain.record(1, 3, "few")}
		alone := []buffer.Record{plain.record(1, 29, "many"), tagged.record(1, 28, "many"), plain.record(1, 40, "most")}
		s.store.put(encode(alone[0], fits[0], alone[1], fits[1], fits[2], alone[2]))
		s.start()
		time.Sleep(2 * time.Second)
		s.wantCommitted(1)
		s.stop()
		packed, loose := a.took()
		if !slices.Equal(packed, wantSeries(t, fits...)) || !slices.Equal(loose, wantSeries(t, alone...)) {
			t.Errorf("packed came\n%s\nand loose\n%s", strings.Join(packed, "\n"), strings.Join(loose, "\n"))
		}
		if n := s.metric("unpackable_records_total", "reason", "labels"); n != 3 {
			t.Errorf("%v records were counted as having too many labels", n)
		}
	})
}

func TestARecordThatCannotBeReadGoesAsItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a")
		good := sender{id: tenant.ID{Account: 1}}.record(1, 2, "x")
		cut := good
		cut.Payload = snappy.Encode(nil, []byte("\x0a\xff\xff"))
		s.store.put(encode(record(tenantOne, "no snappy"), good, cut, good))
		s.start()
		time.Sleep(2 * time.Second)
		s.wantCommitted(1)
		s.stop()
		if got := s.delivered(); len(s.node("a").arrivals()) != 3 || got["no snappy"] != 1 || got[string(cut.Payload)] != 1 {
			t.Errorf("delivered %v", got)
		}
		if n := s.metric("unpackable_records_total", "reason", "unreadable"); n != 2 {
			t.Errorf("%v records were counted as unreadable", n)
		}
	})
}

func TestPacksAreNoLargerThanVminsertLikesThem(t *testing.T) {
	for name, test := range map[string]struct {
		records int
		make    func(i int) buffer.Record
		want    []int // requests with so many series
	}{
		"rows": {250, func(i int) buffer.Record {
			return sender{id: tenant.ID{Account: uint32(i % 50)}}.record(100, 2, fmt.Sprint("m", i))
		}, []int{23, 23, 23, 23, 23, 23, 23, 23, 23, 23, 20}},
		"bytes": {12, func(i int) buffer.Record {
			r := sender{id: tenant.ID{Account: uint32(i)}}.recordOf(&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
				Labels:  []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "long", Value: strings.Repeat("x", 999_000)}},
				Samples: []prompb.Sample{{Value: 1, Timestamp: 1}},
			}}})
			return r
		}, []int{8, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPackScene(t, "a")
				a := s.vminsert("a", nil)
				var records []buffer.Record
				for i := range test.records {
					records = append(records, test.make(i))
				}
				s.store.put(encode(records...))
				s.start()
				time.Sleep(2 * time.Second)
				s.wantCommitted(1)
				s.stop()
				var got []int
				for _, r := range a.inserted() {
					got = append(got, len(r.series))
				}
				slices.Sort(got)
				slices.Reverse(got)
				if !slices.Equal(got, test.want) {
					t.Errorf("requests with %v series, want %v", got, test.want)
				}
				if packed, _ := a.took(); !slices.Equal(packed, wantSeries(t, records...)) {
					t.Errorf("%d series came, not those that were sent", len(packed))
				}
			})
		})
	}
}

func TestFewSmallRecordsWaitForMoreAndOthersDoNot(t *testing.T) {
	for name, test := range map[string]struct {
		samples     int
		least, most int
	}{
		"small": {10, 10, 12}, // one at once, then one each packPause
		"big":   {packBelow, 200, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPackScene(t, "a")
				a := s.vminsert("a", nil)
				s.start()
				time.Sleep(time.Second)
				for i := range 200 { // in 2 s
					s.store.put(encode(sender{id: tenant.ID{Account: uint32(i)}}.record(test.samples, 2, "x")))
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(packPause)
				if n := len(a.inserted()); n < test.least || n > test.most {
					t.Errorf("%d requests in 2 s, want %d to %d", n, test.least, test.most)
				}
				packed, loose := a.took()
				if n := len(packed) + len(loose); n != 200 {
					t.Errorf("%d series have come, want all 200", n)
				}
				s.stop()
			})
		})
	}
}

// Each fault twice: the request did not arrive; it arrived and its answer was lost.
func TestAPackThatIsNotAnsweredStaysWhole(t *testing.T) {
	for _, arrived := range []bool{false, true} {
		for name, fault := range map[string]reply{
			"broken": {err: errBroken, arrived: arrived}, "503": {status: 503, arrived: arrived}, "429": {status: 429, arrived: arrived},
		} {
			t.Run(fmt.Sprintf("%s arrived=%v", name, arrived), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newPackScene(t, "a", "b")
					b := s.vminsert("b", nil)
					s.node("a").behave(func(*http.Request, string) reply { return fault })
					var records []buffer.Record
					for i := range 100 {
						records = append(records, sender{id: tenant.ID{Account: uint32(i)}}.record(1, 2, "x"))
					}
					s.start()
					synctest.Wait()
					s.store.put(encode(records...))
					time.Sleep(2 * time.Second)
					s.wantCommitted(1)
					s.stop()
					packed, loose := b.took()
					if !slices.Equal(packed, wantSeries(t, records...)) || len(loose) != 0 || len(b.inserted()) != 2 {
						t.Errorf("%d packed and %d loose series came in %d requests, want 100 in b's own and a's", len(packed), len(loose), len(b.inserted()))
					}
					if n := s.metric("packs_taken_apart_total"); n != 0 {
						t.Errorf("%v packs were taken apart", n)
					}
				})
			})
		}
	}
}

func TestOneBadRecordInAPackCostsItsNeighboursNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a")
		var good, all []buffer.Record
		for i := range 500 {
			r := sender{id: tenant.ID{Account: uint32(i)}}.record(1, 2, "x")
			if i == 123 || i == 124 || i == 400 {
				r = sender{id: tenant.ID{Account: uint32(i)}}.record(1, 2, "bad")
			} else {
				good = append(good, r)
			}
			all = append(all, r)
		}
		a := s.vminsert("a", func(r insertion) int {
			if slices.ContainsFunc(r.series, func(s string) bool { return strings.Contains(s, "__name__:bad") }) {
				return http.StatusBadRequest
			}
			return 0
		})
		s.store.put(encode(all[:300]...))
		s.store.put(encode(all[300:350]...))
		s.store.put(encode(all[350:]...))
		s.start()
		synctest.Wait()
		began := time.Now()
		packed, loose := a.took()
		if got := slices.Sorted(slices.Values(slices.Concat(packed, loose))); !slices.Equal(got, wantSeries(t, good...)) {
			t.Errorf("%d series came at once, want all %d good ones, each once", len(got), len(good))
		}
		if n := len(a.inserted()); n > 100 {
			t.Errorf("that took %d requests", n)
		}
		if s.metric("node_state", "node", "a:8480", "state", "ready") != 1 {
			t.Error("the node was blamed")
		}
		if apart := s.metric("packs_taken_apart_total", "lane", "main"); s.metric("parked_blocks", "lane", "main") != 2 || apart < 1 || apart > 2 {
			t.Errorf("%v blocks are parked, %v packs were taken apart", s.metric("parked_blocks", "lane", "main"), apart)
		}
		if logs := s.logs.String(); !strings.Contains(logs, "tenant=123:0") || !strings.Contains(logs, "tenant=400:0") {
			t.Error("it was not logged whose the bad ones are")
		}
		time.Sleep(2 * time.Second)
		if got := s.store.progress(); !got.Contains(1) || got.Contains(0) || got.Contains(2) {
			t.Errorf("progress is %v, want the block in which all are good", got.Done)
		}
		time.Sleep(time.Minute)
		tried := 0
		for _, r := range a.inserted() {
			if r.at.After(began) {
				tried++
			}
		}
		if tried == 0 || tried > 60 {
			t.Errorf("the bad ones were tried %d times within a minute", tried)
		}
		s.vminsert("a", nil) // cured
		time.Sleep(time.Minute)
		s.wantCommitted(3)
		s.stop()
	})
}

func TestWhereTheMultitenantURLIsClosedRecordsGoAlone(t *testing.T) {
	for _, code := range []int{400, 401, 403, 404} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newPackScene(t, "a")
				closed := func(r insertion) int {
					if r.packed {
						return code
					}
					return 0
				}
				a := s.vminsert("a", closed)
				var records []buffer.Record
				for i := range 100 {
					records = append(records, sender{id: tenant.ID{Account: uint32(i)}}.record(1, 2, "x"))
				}
				s.store.put(encode(records[:50]...))
				s.start()
				time.Sleep(time.Second)
				s.store.put(encode(records[50:]...))
				time.Sleep(2 * time.Second)
				s.wantCommitted(2)
				packed, loose := a.took()
				if !slices.Equal(loose, wantSeries(t, records...)) || len(packed) != 0 {
					t.Errorf("%d series came loose, want all", len(loose))
				}
				if n := len(a.inserted()); n != 102 {
					t.Errorf("%d requests, want a pack, an empty one, and each of the 100", n)
				}
				if s.metric("pack_fallbacks_total", "node", "a:8480") != 1 || s.metric("parked_blocks") != 0 || s.metric("packs_taken_apart_total") != 0 {
					t.Error("it was not counted as a fallback")
				}
				if logs := s.logs.String(); strings.Count(logs, "INGESTGW_FORWARD_PACK=false") != 1 || !strings.Contains(logs, "level=ERROR") {
					t.Error("what to do was not said once")
				}
				s.vminsert("a", nil) // opened
				time.Sleep(unpackedFor)
				s.store.put(encode(records...))
				time.Sleep(time.Second)
				if n := s.metric("packed_samples_total"); n != 100 {
					t.Errorf("%v samples were packed after the URL was opened", n)
				}
				s.stop()
			})
		})
	}
}

// A pack is refused, and before it is clear why the node fails.
func TestANodeThatFailsWhileItIsAskedWhyIsNotMistaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a", "b")
		s.node("a").behave(func(_ *http.Request, body string) reply {
			if body == string(emptyZstd) {
				return reply{status: 503}
			}
			return reply{status: 400}
		})
		b := s.vminsert("b", nil)
		var records []buffer.Record
		for i := range 100 {
			records = append(records, sender{id: tenant.ID{Account: uint32(i)}}.record(1, 2, "x"))
		}
		s.store.put(encode(records...))
		s.start()
		time.Sleep(2 * time.Second)
		s.wantCommitted(1)
		s.stop()
		if packed, _ := b.took(); len(packed) != 100 {
			t.Errorf("%d series came packed to the other node, want all", len(packed))
		}
		if s.metric("pack_fallbacks_total") != 0 || s.metric("packs_taken_apart_total") != 0 {
			t.Error("something was concluded from what nobody has said")
		}
	})
}

// Whatever was packed, on its way or in line for a node, nothing of it is held afterwards, and all of it is sent by the next Run.
func TestStoppingGivesUpWhatWaitsAndTheNextRunSendsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a", "b", "c")
		s.start()
		synctest.Wait()
		for _, name := range []string{"a", "b", "c"} {
			s.node(name).behave(hangs)
		}
		var all []buffer.Record
		for i := range 300 {
			id := sender{id: tenant.ID{Account: uint32(i)}}
			records := []buffer.Record{id.record(1, 2, "small"), id.record(packBelow, 2, "big"), id.record(2, 2, "small too")}
			all = append(all, records...)
			s.store.put(encode(records...))
		}
		time.Sleep(time.Second)
		s.stop()
		s.wantCommitted(0)

		nodes := []*vminsert{s.vminsert("a", nil), s.vminsert("b", nil), s.vminsert("c", nil)}
		s.start()
		time.Sleep(time.Minute)
		s.wantCommitted(300)
		s.stop()
		var got []string
		for _, n := range nodes {
			packed, loose := n.took()
			got = slices.Concat(got, packed, loose)
		}
		slices.Sort(got)
		if !slices.Equal(got, wantSeries(t, all...)) {
			t.Errorf("%d series have come, want %d", len(got), len(all))
		}
	})
}
