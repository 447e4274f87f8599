package crowd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
)

// A receiver keeps who sent what.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string]int // by tenant: its path, or its token
	series   map[string]bool
	conns    map[string]bool
	answer   func(n int, w http.ResponseWriter)
}

func receive(t *testing.T, answer func(n int, w http.ResponseWriter)) *receiver {
	t.Helper()
	r := &receiver{requests: map[string]int{}, series: map[string]bool{}, conns: map[string]bool{}, answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		message, err := snappy.Decode(nil, body)
		if err != nil {
			t.Error(err)
		}
		var u prompb.WriteRequestUnmarshaler
		wr, err := u.UnmarshalProtobuf(message)
		if err != nil || len(wr.Timeseries) != 10 {
			t.Error(err, len(wr.Timeseries))
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests[req.URL.Path+req.Header.Get("Authorization")]++
		r.conns[req.RemoteAddr] = true
		for _, ts := range wr.Timeseries {
			r.series[prompb.LabelsToString(ts.Labels)] = true
		}
		n := 0
		for _, times := range r.requests {
			n += times
		}
		r.answer(n, w)
	}))
	t.Cleanup(r.Close)
	return r
}

func accept(_ int, w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }

func gather(t *testing.T, change func(*Config)) *Crowd {
	t.Helper()
	cfg := Config{Tenants: 50, FirstAccount: 100, Series: 10, Labels: 12, Metric: "m", Connections: 3}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestTenantsTakeTurnsOverKeptConnections(t *testing.T) {
	r := receive(t, accept)
	c := gather(t, nil)
	for range 3 { // passes of all
		report, err := c.Send(t.Context(), r.URL, 50)
		if err != nil || report.AllAccepted() != nil || report.Requests != 50 || report.Samples != 500 || report.Wait(0.5) <= 0 {
			t.Fatalf("%+v, %v", report, err)
		}
	}
	for i := range 50 {
		path := "/insert/" + strconv.Itoa(100+i) + ":0/prometheus/api/v1/write"
		if r.requests[path] != 3 {
			t.Errorf("%s has sent %d times", path, r.requests[path])
		}
	}
	if len(r.requests) != 50 || len(r.series) != 500 || len(r.conns) != 3 {
		t.Errorf("%d tenants, %d series, %d connections", len(r.requests), len(r.series), len(r.conns))
	}
}

func TestTokensSharedBodiesAndOneTenantForComparison(t *testing.T) {
	r := receive(t, accept)
	token := func(i int) string { return "t" + strconv.Itoa(i) }
	if _, err := gather(t, func(c *Config) { c.Token, c.Bodies = token, 6 }).Send(t.Context(), r.URL, 50); err != nil {
		t.Fatal(err)
	}
	if len(r.requests) != 50 || r.requests["/api/v1/writeBearer t49"] != 1 || len(r.series) != 60 {
		t.Errorf("%v, %d series", r.requests, len(r.series))
	}
	clear(r.requests)
	if _, err := gather(t, func(c *Config) { c.Token, c.Alone = token, true }).Send(t.Context(), r.URL, 50); err != nil {
		t.Fatal(err)
	}
	if len(r.requests) != 1 || r.requests["/api/v1/writeBearer t0"] != 50 {
		t.Error(r.requests)
	}
}

func TestRefusalsAndClosedConnectionsAreTold(t *testing.T) {
	r := receive(t, func(n int, w http.ResponseWriter) {
		switch n % 10 {
		case 0:
			http.Error(w, "full", http.StatusServiceUnavailable)
		case 5:
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusNoContent)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	report, err := gather(t, nil).Send(t.Context(), r.URL, 50)
	if err != nil || report.Answers[204] != 45 || report.Answers[503] != 5 || report.Samples != 450 || report.AllAccepted() == nil {
		t.Errorf("%+v, %v", report, err)
	}
	r.Close()
	if _, err := gather(t, nil).Send(t.Context(), r.URL, 1); err == nil {
		t.Error("nobody is there, and that is no error")
	}
}

func TestAReceiverThatNeverAnswersIsLeftWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	leave := make(chan struct{})
	r := receive(t, func(int, http.ResponseWriter) {
		cancel()
		<-leave
	})
	report, err := gather(t, func(c *Config) { c.Connections = 1 }).Send(ctx, r.URL, 50)
	close(leave)
	if !errors.Is(err, context.Canceled) || report.Requests != 1 || report.Answers[0] != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestARateIsKept(t *testing.T) {
	r := receive(t, accept)
	report, err := gather(t, func(c *Config) { c.Rate = 2000 }).Send(t.Context(), r.URL, 40) // the last is due after 195 ms
	if err != nil || report.Took < 190*time.Millisecond {
		t.Errorf("%v, %v", report.Took, err)
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("nothing was set, and that is no error")
	}
}

func BenchmarkSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	c, err := New(Config{Tenants: 1000, Series: 10, Labels: 12, Metric: "m", Connections: 4})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Send(b.Context(), server.URL, 1000); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "requests/s")
}
