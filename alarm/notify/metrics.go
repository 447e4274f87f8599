package notify

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	notifications *prometheus.CounterVec
	failing       *prometheus.GaugeVec
}

// targetMetrics are those of one target.
type targetMetrics struct {
	ok, failed, refused prometheus.Counter
	failing             prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		notifications: f.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestgw_alarm_notifications_total",
			Help: "Requests that told an Alertmanager or the webhook of alarms. ok: answered 2xx; failed: no answer, or one after which " +
				"it is tried again; refused: an answer after which it is not, until something changes or INGESTGW_ALARM_RESEND is over.",
		}, []string{"target", "result"}),
		failing: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingestgw_alarm_notify_failing",
			Help: "1 when the last request to this Alertmanager or webhook was not answered 2xx, so that alarms may not be told; else 0.",
		}, []string{"target"}),
	}
}

func (m *metrics) of(target string) targetMetrics {
	result := func(name string) prometheus.Counter { return m.notifications.WithLabelValues(target, name) }
	return targetMetrics{result("ok"), result("failed"), result("refused"), m.failing.WithLabelValues(target)}
}
