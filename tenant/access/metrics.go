package access

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ingestgw/ingestgw/tenant"
)

// results is what label "result" says of the errors of Identify. The first row that fits counts.
var results = []struct {
	is    error
	label string
}{
	{errNoCredential, "no_credential"},
	{tenant.ErrUnauthorized, "unauthorized"},
	{tenant.ErrForbidden, "forbidden"},
	{tenant.ErrUnnamed, "unnamed"},
	{tenant.ErrTooManyFailures, "too_many_failures"},
	{nil, "unavailable"},
}

// metrics are the counters of this package, resolved beforehand so that a request looks up no labels.
type metrics struct {
	ok       prometheus.Counter
	requests []prometheus.Counter // as results

	// Of the file; nil when there is none.
	reloaded, reloadedAt, reloadTook, tenants, credentials prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, file bool, refused *refused) *metrics {
	f := promauto.With(reg)
	requests := f.NewCounterVec(prometheus.CounterOpts{
		Namespace: "ingestgw", Subsystem: "tenant", Name: "requests_identified_total",
		Help: "Requests by what came of finding out who sends them.",
	}, []string{"result"})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "ingestgw", Subsystem: "tenant", Name: "refused_credentials",
		Help: "Different credentials that were refused, as unknown, in the last minute or two: many are many senders.",
	}, func() float64 { return float64(refused.count(time.Now())) })
	m := &metrics{ok: requests.WithLabelValues("ok")}
	for _, r := range results {
		m.requests = append(m.requests, requests.WithLabelValues(r.label))
	}
	if !file {
		return m
	}
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Namespace: "ingestgw", Subsystem: "tenant", Name: name, Help: help})
	}
	m.reloaded = gauge("file_last_reload_successful", "1 when INGESTGW_TENANT_FILE was well when it was last read, else 0: what it held before is in use.")
	m.reloadedAt = gauge("file_last_reload_success_timestamp_seconds", "Unix time at which INGESTGW_TENANT_FILE was last read and was well.")
	m.reloadTook = gauge("file_last_reload_duration_seconds", "Time that the last reading of INGESTGW_TENANT_FILE took.")
	m.tenants = gauge("file_tenants", "Tenants in INGESTGW_TENANT_FILE.")
	m.credentials = gauge("file_credentials", "Credentials in INGESTGW_TENANT_FILE.")
	return m
}

func (m *metrics) identified(err error) {
	if err == nil {
		m.ok.Inc()
		return
	}
	for i, r := range results {
		if r.is == nil || errors.Is(err, r.is) {
			m.requests[i].Inc()
			return
		}
	}
}

// reload tells of one reading of the file, which led to t or to none.
func (m *metrics) reload(t *table, began time.Time) {
	m.reloadTook.Set(time.Since(began).Seconds())
	if t == nil {
		m.reloaded.Set(0)
		return
	}
	m.reloaded.Set(1)
	m.reloadedAt.SetToCurrentTime()
	m.tenants.Set(float64(len(t.tenants)))
	m.credentials.Set(float64(t.credentialCount()))
}
