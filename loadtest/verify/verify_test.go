package verify

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
)

func body(samples ...float64) []byte {
	var wr prompb.WriteRequest
	for i, v := range samples {
		wr.Timeseries = append(wr.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "extra"}, {Name: "i", Value: string(rune('a' + i))}},
			Samples: []prompb.Sample{{Value: v, Timestamp: time.Now().UnixMilli()}},
		})
	}
	return snappy.Encode(nil, wr.MarshalProtobuf(nil))
}

func small(url string) offer.Config {
	return offer.Config{
		URL: url, Metric: "offered", Tenants: 3, FirstAccount: 10, Series: 25, PerRequest: 10, Labels: 12, Rounds: 20, Senders: 4,
		Patience: 10 * time.Second,
	}
}

// eventuallyRight waits until all rows are visible, which takes vminsert and vmstorage a moment.
func eventuallyRight(t *testing.T, c *stack.Cluster, from *stack.Process, want func() Expectation, right int) Report {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		if err := c.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, err := (&Cluster{URL: from.URL()}).Check(t.Context(), want())
		if err != nil {
			t.Fatal(err)
		}
		if r.Right >= right || time.Now().After(deadline) {
			return r
		}
	}
}

func TestRealClusterHoldsWhatWasOffered(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers; left out with -short")
	}
	c := stack.StartCluster(t, stack.ClusterSpec{})
	cfg := small(c.InsertURLs()[0])
	ledger, report, err := offer.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Acknowledged != 3*25*20 || report.Refused != 0 {
		t.Fatal(report)
	}
	path := t.TempDir() + "/ledger"
	if err := ledger.Save(path); err != nil {
		t.Fatal(err)
	}
	if ledger, err = offer.Load(path); err != nil {
		t.Fatal(err)
	}
	r := eventuallyRight(t, c, c.Select, func() Expectation { return Offered(ledger) }, 1500)
	if !r.OK() || r.Right != 1500 || r.Doubled != 0 {
		t.Fatal(r)
	}

	// All that can be wrong: a sample of which nobody knows, one under another tenant, one changed, one twice, one that never came.
	again := cfg
	again.URL, again.Rounds = c.InsertURLs()[0], 1
	if _, _, err := offer.Run(t.Context(), again); err != nil { // other timestamps: nobody sent these
		t.Fatal(err)
	}
	ledger.Rounds++
	for i := range ledger.Acknowledged {
		ledger.Acknowledged[i][0] |= 1 << 20
		ledger.Attempted[i][0] |= 1 << 20
	}
	r = eventuallyRight(t, c, c.Raw, func() Expectation { return Offered(ledger) }, 1500)
	if r.OK() || r.Missing != 75 || len(r.Examples) == 0 || !strings.Contains(r.String(), "missing: tenant 10:0, series 0, round 20") {
		t.Error(r)
	}
}

func TestEveryKindOfFaultIsFound(t *testing.T) {
	ledger := &offer.Ledger{Config: small("http://x"), Start: 1000, Step: 10, Rounds: 2}
	for range 9 {
		ledger.Acknowledged = append(ledger.Acknowledged, []uint64{1})
		ledger.Attempted = append(ledger.Attempted, []uint64{1})
	}
	labels := map[string]string{"__name__": "offered", "account": "10", "series": "7"}
	for i := 3; i < 12; i++ {
		labels[string(rune('a'+i))] = "x"
	}
	good := Sample{Tenant: "10:0", Labels: labels, Timestamp: 1000, Value: offer.Value(7, 0)}
	o := Offered(ledger)
	change := func(f func(*Sample)) Sample { s := good; f(&s); return s }
	for i, step := range []struct {
		sample Sample
		want   Verdict
	}{
		{good, Right},
		{good, Again},
		{change(func(s *Sample) { s.Value++ }), Changed},
		{change(func(s *Sample) { s.NaN = true }), Changed},
		{change(func(s *Sample) { s.Tenant = "11:0" }), Foreign},
		{change(func(s *Sample) { s.Tenant = "0:0" }), Foreign},
		{change(func(s *Sample) { s.Timestamp = 1001 }), Foreign},
		{change(func(s *Sample) { s.Timestamp = 1010 }), Foreign},
		{change(func(s *Sample) { s.Labels = map[string]string{"series": "7", "account": "10"} }), Foreign},
	} {
		if got := o.See(step.sample); got != step.want {
			t.Errorf("%d: got %v, want %v", i, got, step.want)
		}
	}
	missing := 0
	o.Missing(func(string, string) { missing++ })
	if missing != 3*25-1 {
		t.Errorf("%d missing", missing)
	}
}

func TestRecordedBodiesAreWhatIsExpected(t *testing.T) {
	var r Recorded
	if err := r.Add("1:0", body(1, 2), true); err != nil {
		t.Fatal(err)
	}
	at := r.from
	if err := r.Add("1:0", body(0, 0, 3), false); err != nil {
		t.Fatal(err)
	}
	see := func(tenant, series string, v float64) Verdict {
		return r.See(Sample{Tenant: tenant, Series: series, Timestamp: at, Value: v})
	}
	if got := see("1:0", `{__name__="extra",i="a"}`, 1); got != Right {
		t.Error(got)
	}
	if got := see("2:0", `{__name__="extra",i="b"}`, 2); got != Foreign {
		t.Error(got)
	}
	var missing []string
	r.Missing(func(tenant, what string) { missing = append(missing, tenant+" "+what) })
	if len(missing) != 1 || !strings.HasPrefix(missing[0], `1:0 {__name__="extra",i="b"} at `) || r.Acknowledged() != 2 {
		t.Errorf("%q, %d acknowledged", missing, r.Acknowledged())
	}
	if err := r.Add("1:0", []byte("garbage"), true); err == nil {
		t.Error("garbage was recorded")
	}
}

// vmstorage drops NaNs, and stale markers of series that it does not know.
func TestNaNsNeedNotComeBack(t *testing.T) {
	stale := math.Float64frombits(0x7ff0000000000002)
	var r Recorded
	if err := r.Add("1:0", body(1, math.NaN(), stale), true); err != nil {
		t.Fatal(err)
	}
	var missing []string
	r.Missing(func(_, what string) { missing = append(missing, what) })
	if len(missing) != 1 || !strings.Contains(missing[0], `i="a"`) {
		t.Errorf("missing: %q, want the one that is a number", missing)
	}
}
