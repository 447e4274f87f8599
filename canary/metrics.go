package canary

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	canary        *Canary
	writeFailures *prometheus.CounterVec
	readFailures  *prometheus.CounterVec

	leads, age, up, selectAge *prometheus.Desc
}

func newMetrics(c *Canary, reg prometheus.Registerer) *metrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ingestgw_canary_" + name, Help: help}, labels)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ingestgw_canary_"+name, help, labels, nil)
	}
	m := &metrics{
		canary: c,
		writeFailures: counters("write_failures_total", "Samples of the canary that the buffer or this vminsert has not taken within "+
			"INGESTGW_CANARY_TIMEOUT.", "path", "node"),
		readFailures: counters("read_failures_total", "Times that this vmselect could not be asked which samples of the canary can be read: "+
			"the read path is at fault.", "vmselect"),
		leads: desc("leads", "1 in the process of the group that sends the canary, 0 in the others."),
		age: desc("age_seconds", "Age of the freshest sample that can be read, of those sent through the buffer (path=\"buffer\") or to "+
			"this vminsert (path=\"vminsert\"), at the best vmselect when it was last asked. If none could ever be read, the time since the first was sent. None while no vmselect "+
			"answers.", "path", "node"),
		up: desc("vmselect_up", "Whether this vmselect has answered the last time (1) or not (0).", "vmselect"),
		selectAge: desc("vmselect_age_seconds", "Age of the freshest sample of the canary that can be read at this vmselect, of all paths.",
			"vmselect"),
	}
	reg.MustRegister(m.writeFailures, m.readFailures, m)
	return m
}

func (m *metrics) forgetPath(k key) { m.writeFailures.DeleteLabelValues(k.path, k.node) }

// Describe is for a prometheus.Registry.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.leads
	ch <- m.age
	ch <- m.up
	ch <- m.selectAge
}

// Collect is for a prometheus.Registry. What is not known is left out: a 0 would say that all is well.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	v := m.canary.View()
	gauge(m.leads, oneIf(v.Leads))
	for _, p := range v.Paths {
		if p.Age.Known() {
			gauge(m.age, float64(p.Age), p.Path, p.Node)
		}
	}
	for _, s := range v.Selects {
		if s.Answers || s.Error != "" {
			gauge(m.up, oneIf(s.Answers), s.Name)
		}
		if s.Age.Known() {
			gauge(m.selectAge, float64(s.Age), s.Name)
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
