package forward

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// settleMetrics tell an operator what is sent and not yet safe.
type settleMetrics struct {
	unsettledSeconds prometheus.Gauge
	unsettledBlocks  prometheus.Gauge
	dirtyBlocks      prometheus.Gauge
	settled          prometheus.Counter
	dirty            *prometheus.CounterVec
	resent           prometheus.Counter
	mode             *prometheus.GaugeVec
}

func newSettleMetrics(reg prometheus.Registerer) *settleMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "ingestgw_forward_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestgw_forward_" + name, Help: help})
	}
	m := &settleMetrics{
		unsettledSeconds: gauge("unsettled_seconds", "Age of the oldest block that vminsert has taken and that is not known to be on vmstorage's "+
			"disk. Around FORWARD_SETTLE plus a few seconds when all is well."),
		unsettledBlocks: gauge("unsettled_blocks", "Blocks that vminsert has taken and that are not known to be on vmstorage's disk."),
		dirtyBlocks: gauge("dirty_blocks", "Blocks that may have been lost with a vminsert or vmstorage and wait to be sent again until "+
			"restarts have ended."),
		settled: counter("settled_blocks_total", "Blocks found to be safe on vmstorage's disk."),
		dirty: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestgw_forward_dirtied_blocks_total",
			Help: "Blocks that may have been lost after vminsert took them, by what happened to the process that may have held them.",
		}, []string{"cause"}),
		resent: counter("resent_blocks_total", "Blocks handed over to be sent again because they may have been lost after vminsert took them."),
		mode: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "ingestgw_forward_settle_mode",
			Help: "How blocks are found to be safe at the moment (1): watch (by the metrics of vminsert and vmstorage), time (at least some of them " +
				"by the clock, without proof: look into the log), off (vminsert's word is taken).",
		}, []string{"mode"}),
	}
	reg.MustRegister(m.unsettledSeconds, m.unsettledBlocks, m.dirtyBlocks, m.settled, m.dirty, m.resent, m.mode)
	return m
}

func (m *settleMetrics) note(settled map[settlePartition]spans, bk *books, dirty map[settlePartition]*dirtied, e *evidence, now time.Time) {
	for _, list := range settled {
		m.settled.Add(float64(list.blocks()))
	}
	oldest, blocks, waiting := now, 0, 0
	for _, b := range bk.buckets {
		blocks += b.blocks()
		if b.opened.Before(oldest) {
			oldest = b.opened
		}
	}
	for _, d := range dirty {
		waiting += d.spans.blocks()
	}
	m.unsettledSeconds.Set(now.Sub(oldest).Seconds())
	m.unsettledBlocks.Set(float64(blocks))
	m.dirtyBlocks.Set(float64(waiting))
	for mode, on := range map[string]bool{
		"off":   e.cfg.Settle == 0,
		"time":  e.cfg.Settle > 0 && (!e.cfg.watches() || e.byTime()),
		"watch": e.cfg.watches() && !e.byTime(),
	} {
		m.mode.WithLabelValues(mode).Set(map[bool]float64{true: 1}[on])
	}
}
