package status

import (
	"regexp"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// registerProcess adds what the Go runtime, the process and the build say of themselves.
func registerProcess(reg prometheus.Registerer, version string) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "ingestgw_build_info",
		Help:        "Always 1; the labels say which build runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	reg.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.MetricsGC,
			collectors.MetricsScheduler,
			// What garbage collection costs, to be set against all CPU.
			collectors.GoRuntimeMetricsRule{Matcher: regexp.MustCompile(`^/cpu/classes/(gc/.*|total:.*)`)},
		)),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		build,
	)
}
