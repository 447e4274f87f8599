package disk

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
)

// metrics are what the log shows of itself. Gauges are read when somebody asks.
type metrics struct {
	store *Store
	reg   prometheus.Registerer

	appends      *prometheus.CounterVec
	syncSeconds  prometheus.Histogram
	syncErrors   prometheus.Counter
	writeErrors  prometheus.Counter
	damagedTotal *prometheus.CounterVec
	setAside     prometheus.Counter
	droppedTotal *prometheus.CounterVec
	droppedData  *prometheus.CounterVec

	bytes, segments, aside, quota, free, capacity, reserve, most *prometheus.Desc
}

func newMetrics(s *Store) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestgw_disk_" + name, Help: help})
	}
	byLane := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ingestgw_disk_" + name, Help: help},
			append([]string{"lane"}, labels...))
	}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("ingestgw_disk_"+name, help, labels, nil)
	}
	return &metrics{
		store: s,
		appends: byLane("blocks_total", "Blocks that were to be stored, by result: stored, full (no room: senders get 503), "+
			"unavailable (the disk fails: senders get 503).", "result"),
		syncSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ingestgw_disk_fsync_seconds",
			Help:    "How long the disk takes to make what was written durable. Senders wait for it.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)}),
		syncErrors: counter("fsync_errors_total", "Times that the disk failed to make something durable. The segment is closed; "+
			"nothing acknowledged is lost, but the disk is to be looked at."),
		writeErrors: counter("write_errors_total", "Writes that the disk refused: it is full, read-only or broken."),
		damagedTotal: byLane("damaged_blocks_total", "Blocks found damaged on the disk, and lost: samples in them were "+
			"acknowledged and will not be forwarded."),
		setAside: counter("set_aside_total", "Files and unfinished writes that could not be used and were kept under another "+
			"name; see the log of events."),
		droppedTotal: byLane("dropped_blocks_total", "Blocks deleted before they were forwarded, since the log was full and "+
			"INGESTGW_BUFFER_WHEN_FULL is drop-oldest."),
		droppedData: byLane("dropped_samples_total", "Samples in the blocks of ingestgw_disk_dropped_blocks_total; estimated when "+
			"part of a segment had been forwarded."),
		bytes:    gauge("bytes", "Bytes that the lane's segments take on disk.", "lane"),
		segments: gauge("segments", "Segment files of the lane.", "lane"),
		aside: gauge("set_aside_bytes", "Bytes of files that were set aside. They count in no quota and are never removed; counted at "+
			"the start and with each new segment.", "lane"),
		quota: gauge("quota_bytes", "Bytes that the lane may take on disk now, while the others take what they do. With ingestgw_disk_bytes "+
			"of the lane as much, senders get 503 for what belongs into it.", "lane"),
		free:     gauge("free_bytes", "Free bytes of the file system that the log is on."),
		capacity: gauge("capacity_bytes", "Size of the file system that the log is on, in bytes. Absent while it cannot be read."),
		reserve: gauge("reserve_bytes", "Bytes of the file system that the log leaves free: with less free, it is full (INGESTGW_BUFFER_WHEN_FULL). 0 with "+
			"INGESTGW_BUFFER_MAX_BYTES. Absent while the size of the file system cannot be read."),
		most: gauge("max_bytes", "Most bytes that all of the log may take (INGESTGW_BUFFER_MAX_BYTES). 0: what the disk allows, less the reserve."),
	}
}

// register makes the metrics known. It tells when they are already, by another log.
func (m *metrics) register(reg prometheus.Registerer) error {
	if reg == nil {
		return nil
	}
	if err := reg.Register(m); err != nil {
		return err
	}
	m.reg = reg
	return nil
}

func (m *metrics) unregister() {
	if m.reg != nil {
		m.reg.Unregister(m)
	}
}

func (m *metrics) parts() []prometheus.Collector {
	return []prometheus.Collector{m.appends, m.syncSeconds, m.syncErrors, m.writeErrors, m.damagedTotal, m.setAside,
		m.droppedTotal, m.droppedData}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.parts() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{m.bytes, m.segments, m.aside, m.quota, m.free, m.capacity, m.reserve, m.most} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.parts() {
		c.Collect(ch)
	}
	show := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	for _, l := range m.store.all() {
		st, n := l.stats(), l.segmentCount()
		show(m.bytes, st.Bytes, l.name)
		show(m.quota, l.account.most(), l.name)
		show(m.segments, int64(n), l.name)
		show(m.aside, l.aside.Load(), l.name)
	}
	space := m.store.quota.diskSpace()
	show(m.free, space.free)
	show(m.most, int64(m.store.cfg.MaxBytes))
	if space.total > 0 {
		show(m.capacity, space.total)
		show(m.reserve, space.reserve)
	}
}

func (m *metrics) appended(lane string, blocks int, err error) {
	result := "stored"
	switch {
	case errors.Is(err, buffer.ErrFull):
		result = "full"
	case err != nil:
		result = "unavailable"
	}
	m.appends.WithLabelValues(lane, result).Add(float64(blocks))
}

func (m *metrics) synced(took time.Duration, err error) {
	m.syncSeconds.Observe(took.Seconds())
	if err != nil {
		m.syncErrors.Inc()
	}
}

func (m *metrics) damaged(lane string, blocks int) {
	m.damagedTotal.WithLabelValues(lane).Add(float64(blocks))
}

func (m *metrics) dropped(lane string, blocks, samples int64) {
	m.droppedTotal.WithLabelValues(lane).Add(float64(blocks))
	m.droppedData.WithLabelValues(lane).Add(float64(samples))
}
