package offer

import (
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
)

func config(url string) Config {
	return Config{
		URL: url, Metric: "m", Tenants: 2, FirstAccount: 5, Series: 7, PerRequest: 3, Labels: 12, Rounds: 4, Senders: 3,
	}
}

func TestEverySampleIsSentOnceAndNumbered(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]map[int64]float64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		message, err := snappy.Decode(nil, body)
		if err != nil {
			t.Error(err)
		}
		var u prompb.WriteRequestUnmarshaler
		wr, err := u.UnmarshalProtobuf(message)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, ts := range wr.Timeseries {
			name := r.URL.Path + " " + prompb.LabelsToString(ts.Labels)
			if len(ts.Labels) != 12 || len(ts.Samples) != 1 {
				t.Errorf("%s has %d labels and %d samples", name, len(ts.Labels), len(ts.Samples))
			}
			if seen[name] == nil {
				seen[name] = map[int64]float64{}
			}
			if _, again := seen[name][ts.Samples[0].Timestamp]; again {
				t.Errorf("%s came twice", name)
			}
			seen[name][ts.Samples[0].Timestamp] = ts.Samples[0].Value
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	ledger, report, err := Run(t.Context(), config(server.URL))
	if err != nil || report.Acknowledged != 2*7*4 || report.Refused != 0 || report.Answers["204"] != 2*3*4 {
		t.Fatalf("%v, %v", report, err)
	}
	if len(seen) != 2*7 {
		t.Errorf("%d series", len(seen))
	}
	for name, samples := range seen {
		if !strings.HasPrefix(name, "/insert/5:0/prometheus/api/v1/write") && !strings.HasPrefix(name, "/insert/6:0/") {
			t.Error(name)
		}
		for round := range 4 {
			v, ok := samples[ledger.Timestamp(round)]
			if !ok || math.Mod(v, 1e7) != float64(round) {
				t.Errorf("%s round %d: %v", name, round, v)
			}
		}
	}
}

func TestOnlyWhatWasAcknowledgedIsInTheLedger(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/insert/6:") {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	ledger, report, err := Run(t.Context(), config(server.URL))
	if err != nil || report.Acknowledged != 7*4 || report.Refused != 7*4 {
		t.Fatalf("%v, %v", report, err)
	}
	for series := range 7 {
		for round := range 4 {
			if !ledger.IsAcknowledged(0, series, round) || ledger.IsAcknowledged(1, series, round) || !ledger.WasSent(1, series, round) {
				t.Errorf("series %d, round %d", series, round)
			}
		}
	}
}

func TestRefusedRequestComesAgainUntilPatienceEnds(t *testing.T) {
	var mu sync.Mutex
	tries := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if tries++; tries <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	cfg := config(server.URL)
	cfg.Tenants, cfg.Series, cfg.Rounds, cfg.Patience = 1, 1, 1, time.Minute
	if _, report, err := Run(t.Context(), cfg); err != nil || report.Acknowledged != 1 || report.Answers["503"] != 2 {
		t.Errorf("%v, %v", report, err)
	}
	tries, cfg.Patience = 0, 0
	if _, report, err := Run(t.Context(), cfg); err != nil || report.Refused != 1 || report.Answers["503"] != 1 {
		t.Errorf("without patience: %v, %v", report, err)
	}
}

func TestSamplesAreSentWhenTheyAreDue(t *testing.T) {
	var mu sync.Mutex
	came := map[string]time.Time{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		came[r.URL.Path] = time.Now() // the last time
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	cfg := config(server.URL)
	cfg.Tenants, cfg.Series, cfg.PerRequest, cfg.Rounds, cfg.Rate = 2, 3, 3, 4, 100 // a request every 30 ms
	ledger, report, err := Run(t.Context(), cfg)
	if err != nil || report.Refused != 0 {
		t.Fatal(report, err)
	}
	for tenant, path := range []string{"/insert/5:0/prometheus/api/v1/write", "/insert/6:0/prometheus/api/v1/write"} {
		if early := ledger.Due(tenant, 2, 3).Sub(came[path]); early > 5*time.Millisecond { // Due is rounded to milliseconds
			t.Errorf("tenant %d has sent its last sample %v before it was due", tenant, early)
		}
	}
	if between := ledger.Due(1, 0, 3).Sub(ledger.Due(0, 0, 0)); between.Round(time.Millisecond) != 7*30*time.Millisecond {
		t.Errorf("%v between the first request and the last", between)
	}
}

func TestDurationEndsTheRun(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	defer server.Close()
	cfg := config(server.URL)
	cfg.Rounds, cfg.Duration, cfg.Rate = 0, 200*time.Millisecond, 10_000
	_, report, err := Run(t.Context(), cfg)
	if err != nil || report.Acknowledged == 0 || report.Acknowledged > 3000 {
		t.Errorf("%v, %v", report, err)
	}
	cfg.Duration = 0
	if _, _, err := Run(t.Context(), cfg); err == nil {
		t.Error("a run without any bound was begun")
	}
}

func TestAnyRequestCanBeMade(t *testing.T) {
	for _, labels := range []int{3, 12, 30} {
		for _, series := range []int{1, 127, 128, 2000} {
			cfg := config("")
			cfg.Series, cfg.PerRequest, cfg.Labels = series, series, labels
			for account := range 5 {
				NewBody(&cfg, 1000+account, 0, series) // panics when the samples cannot be found in it
			}
		}
	}
}

func BenchmarkBody(b *testing.B) {
	cfg := config("")
	cfg.Series, cfg.PerRequest = 2000, 2000
	t := NewBody(&cfg, 5, 0, 2000)
	b.ReportAllocs()
	for round := 0; b.Loop(); round++ {
		t.Fill(round, 1_700_000_000_000)
	}
	b.ReportMetric(2000*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(float64(len(t.bytes)), "bytes/request")
}
