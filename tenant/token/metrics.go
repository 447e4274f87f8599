package token

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ingestgw/ingestgw/tenant"
)

type metrics struct {
	cached, valid, invalid, forbidden, unavailable prometheus.Counter // tokens, by what they came to
	fetches, failures                              prometheus.Counter // readings of the key set
}

const ns, sub = "ingestgw", "tenant_jwt"

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	vec := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, []string{label})
	}
	tokens := vec("verifications_total", "JSON Web Tokens, by what they came to: cached (valid, and known already), valid, invalid, "+
		"forbidden (valid, but it names no tenant to write for), unavailable (its key may be in a key set that cannot be read).", "result")
	sets := vec("key_set_reads_total", "Readings of the JSON Web Key Set, by result: good or failed.", "result")
	return &metrics{
		cached:      tokens.WithLabelValues("cached"),
		valid:       tokens.WithLabelValues("valid"),
		invalid:     tokens.WithLabelValues("invalid"),
		forbidden:   tokens.WithLabelValues("forbidden"),
		unavailable: tokens.WithLabelValues("unavailable"),
		fetches:     sets.WithLabelValues("good"),
		failures:    sets.WithLabelValues("failed"),
	}
}

func registerGauges(reg prometheus.Registerer, v *Verifier) {
	f := promauto.With(reg)
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, value)
	}
	gauge("cached_tokens", "Verified tokens that are remembered.", func() float64 { return float64(v.cached()) })
	gauge("keys", "Keys by which tokens are verified, of the files and of the JSON Web Key Set.", func() float64 {
		s := v.keys()
		return float64(len(s.files) + len(s.remote))
	})
	gauge("key_set_age_seconds", "Time since the JSON Web Key Set was read; 0 when there is none, or it never was.", func() float64 {
		if v.remote == nil {
			return 0
		}
		return v.remote.age().Seconds()
	})
}

func (m *metrics) fetched(err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	m.fetches.Inc()
}

func (m *metrics) verified(err error) {
	switch {
	case err == nil:
		m.valid.Inc()
	case errors.Is(err, tenant.ErrForbidden):
		m.forbidden.Inc()
	case errors.Is(err, tenant.ErrUnavailable):
		m.unavailable.Inc()
	default:
		m.invalid.Inc()
	}
}
