package ingest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509/pkix"
	"net/http"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/credentials/credentialstest"
)

// metric is what the gateway shows under a name without labels.
func (g *gateway) metric(t *testing.T, name string) (value float64, there bool) {
	t.Helper()
	families, err := g.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue(), true
		}
	}
	return 0, false
}

func TestExpiryOfTheListenersCertificateIsShown(t *testing.T) {
	const name = "ingestgw_ingest_certificate_expiry_timestamp_seconds"
	cert, key := credentialstest.NewAuthority(t, "ours").Issue(t, pkix.Name{CommonName: "gateway"})
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := defaults()
	cfg.TLS = credentials.ListenerConfig{CertFile: cert, KeyFile: key}
	if got, there := start(t, cfg, 1<<20, &shelf{}).metric(t, name); !there || got != float64(pair.Leaf.NotAfter.Unix()) {
		t.Errorf("it is %v, shown: %v; want %v", got, there, pair.Leaf.NotAfter.Unix())
	}
	if got, there := start(t, defaults(), 1<<20, &shelf{}).metric(t, name); there {
		t.Errorf("without TLS it is %v", got)
	}
}

func TestSamplesFromThePastAndTheFutureAreCounted(t *testing.T) {
	g := start(t, defaults(), 1<<20, &shelf{})
	for name, c := range map[string]struct {
		message     []byte
		old, future float64
	}{
		"now":               {message: many(3, 0)},
		"a while ago":       {message: many(3, 4*time.Minute)},
		"long ago":          {message: many(3, 6*time.Minute), old: 3},
		"one of them fresh": {message: append(many(3, time.Hour), many(1, 0)...)},
		"soon":              {message: many(3, -59*time.Minute)},
		"in the future":     {message: many(3, -61*time.Minute), future: 1},
		"one in the future": {message: append(many(3, time.Hour), many(1, -2*time.Hour)...), future: 1},
	} {
		oldBefore, futureBefore := testutil.ToFloat64(g.metrics.old), testutil.ToFloat64(g.metrics.future)
		if resp, text := g.post(t, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, c.message))); resp.StatusCode != http.StatusNoContent {
			t.Fatalf("%s: got %s %q", name, resp.Status, text)
		}
		old, future := testutil.ToFloat64(g.metrics.old)-oldBefore, testutil.ToFloat64(g.metrics.future)-futureBefore
		if old != c.old || future != c.future {
			t.Errorf("%s: %v old samples and %v requests from the future, want %v and %v", name, old, future, c.old, c.future)
		}
	}
}
