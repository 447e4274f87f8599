package limit

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are those on sharing limits. What is counted of tenants is in top.
type metrics struct {
	posts, heard *prometheus.CounterVec // by result
	peers        prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	return &metrics{
		posts: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestgw_limit_posts_total",
			Help: "Messages to the other processes on what tenants use, by result. While they fail, limits hold for each process alone.",
		}, []string{"result"}),
		heard: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestgw_limit_messages_total",
			Help: "Messages on what tenants use that were read, by what became of them. Only those that are taken change anything.",
		}, []string{"result"}),
		peers: auto.NewGauge(prometheus.GaugeOpts{
			Name: "ingestgw_limit_peers",
			Help: "Other processes that tell what tenants use.",
		}),
	}
}
