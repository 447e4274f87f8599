package memory

import "github.com/prometheus/client_golang/prometheus"

// A figure is a metric made of a View.
type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*View) float64
}

func gauge(name, help string, value func(*View) float64) figure {
	return figure{prometheus.NewDesc("ingestgw_memory_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

var figures = []figure{
	gauge("limit_bytes", "Memory that Go tries to stay below (INGESTGW_MEMORY_LIMIT, or as changed live); 0 is no limit.",
		func(v *View) float64 { return float64(v.InForce.Limit) }),
	gauge("gogc_percent",
		"Garbage collection target (INGESTGW_MEMORY_GOGC, or as changed live); -1 is off. Small values cost much CPU.",
		func(v *View) float64 { return float64(v.InForce.GOGC) }),
	gauge("differs", "1 if GOGC or the memory limit in force were changed live and are not what is configured.",
		func(v *View) float64 { return oneIf(v.Differs) }),
	gauge("gc_share", "Share of the CPU used that collecting garbage took in the last seconds, 0 to 1, without what was collected on "+
		"idle cores. It means little while ingestgw_memory_gc_cores is below 0.1.",
		func(v *View) float64 { return v.Now.GCShare }),
	gauge("gc_assist_share", "Share of the CPU used for which real work was held up to collect garbage, in the last seconds, 0 to 1.",
		func(v *View) float64 { return v.Now.AssistShare }),
	gauge("gc_cores", "CPU that collecting garbage took in the last seconds, in cores.",
		func(v *View) float64 { return v.Now.GCCores }),
	gauge("gc_limited", "1 if Go has had to keep garbage collection below half of all CPU in the last seconds, letting memory grow "+
		"above its limit.",
		func(v *View) float64 { return oneIf(v.Now.Limiter) }),
	gauge("gc_costly", "1 if garbage collection has cost more than INGESTGW_MEMORY_GC_MAX_SHARE for INGESTGW_MEMORY_GC_MAX_TIME and "+
		"there are no good settings to go back to.",
		func(v *View) float64 { return oneIf(v.Standing == Costly) }),
	gauge("counted_bytes", "Memory that counts against the limit.",
		func(v *View) float64 { return float64(v.Now.Counted) }),
	gauge("pressed", "How often the budgets of bytes held are halved now because the memory limit is too low for what is live; 0 is not.",
		func(v *View) float64 {
			if v.Pressed == nil {
				return 0
			}
			return float64(v.Pressed.Halved)
		}),
	{
		prometheus.NewDesc("ingestgw_memory_reverts_total", "Changes of GOGC or the memory limit that were taken back because garbage "+
			"collection cost too much.", nil, nil),
		prometheus.CounterValue, func(v *View) float64 { return float64(v.Reverts) },
	},
}

// Describe implements prometheus.Collector.
func (c *Control) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range figures {
		descs <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *Control) Collect(metrics chan<- prometheus.Metric) {
	v := c.View()
	for _, f := range figures {
		metrics <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&v))
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
