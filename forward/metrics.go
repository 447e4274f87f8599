package forward

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/ingestgw/ingestgw/buffer"
)

// Answers as the label code shows them.
const (
	codeTimeout     = "timeout"
	codeUnreachable = "unreachable"
)

type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	samples   *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	state     *prometheus.Desc
	inFlight  *prometheus.Desc
	parked    *prometheus.Desc
	resent    prometheus.Counter
	retries   prometheus.Counter
	malformed prometheus.Counter
	store     prometheus.Counter
	lost      *prometheus.CounterVec

	onHold  *prometheus.GaugeVec
	backlog backlogGauges

	load      *prometheus.Desc
	waiting   *prometheus.Desc
	packing   prometheus.Gauge
	fallbacks *prometheus.CounterVec
	lanes     [lanes]*laneMetrics
}

// laneMetrics are those of one lane, looked up once.
type laneMetrics struct {
	permits, contended, beyond, waited prometheus.Counter

	packedRequests, packedSamples, unpackedSamples, takenApart prometheus.Counter
	packedRows                                                 prometheus.Observer
	bytesBefore, bytesUnpacked, bytesAfter                     prometheus.Counter
	tooManyLabels, unreadable                                  prometheus.Counter
}

// backlogGauges tell of each partition what is still to be done.
type backlogGauges struct {
	uncommitted, unsent, oldest, samples, bytes, arriving, sent, drain *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	name := func(name string) string { return prometheus.BuildFQName("ingestgw", "forward", name) }
	counter := func(n, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
	}
	counters := func(n, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name(n), Help: help}, labels)
	}
	gauges := func(n, help string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: name(n), Help: help}, []string{"lane", "partition"})
	}
	desc := func(n, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name(n), help, labels, nil)
	}
	m := &metrics{
		requests: counters("requests_total", "Requests sent to a node, by the class of its answer; timeout: no answer within "+
			"INGESTGW_FORWARD_TIMEOUT; unreachable: no connection, or one that broke.", "node", "code"),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("request_duration_seconds"), Help: "Time from sending a request to a node until its answer, time-outs included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 17),
		}, []string{"node"}),
		samples: counters("samples_total", "Samples that a node has answered with 2xx, repetitions included.", "node"),
		bytes:   counters("bytes_total", "Compressed bytes that a node has answered with 2xx, repetitions included.", "node"),
		state: desc("node_state", "1 for the state that a node is in: ready; starting (one request at a time until it has answered); "+
			"paused (left alone because it failed or refused); unknown (its metrics could not be read yet, and nothing is sent before).",
			"node", "state"),
		inFlight: desc("blocks_in_flight", "Blocks, or parts of one or of several, on their way to a node; each has one request at a time.",
			"node"),
		parked: desc("parked_blocks", "Blocks held in memory because nodes refuse (3xx, 4xx) some of their records. "+
			"At "+strconv.Itoa(maxParked)+" no further blocks of the lane are read.", "lane"),
		load: desc("node_recent_samples", "Samples given to a node lately: those of the last 10 s or so. A tenant stays with its node "+
			"while that has no more than 1.25 times the mean.", "node"),
		waiting: desc("waiting_for_permit", "Blocks, or parts of one or of several, that wait until a node has room.", "lane"),
		packing: f.NewGauge(prometheus.GaugeOpts{Name: name("packing_bytes"), Help: "Memory for packing small records: two buffers for each CPU, " +
			"and the packed requests that are on their way."}),
		fallbacks: counters("pack_fallbacks_total", "Times that a node refused packed requests as such, so that for a while each small "+
			"record goes to it in a request of its own: see INGESTGW_FORWARD_PACK.", "node"),
		resent: counter("resent_samples_total", "Samples sent once more because a server died that may have lost them."),
		retries: counter("retries_total",
			"Times that a block was taken to a further node, or to the same one again, because a node failed or refused."),
		malformed: counter("malformed_blocks_total", "Blocks passed over because they could not be decoded. Their samples are not sent."),
		store:     counter("buffer_errors_total", "Failures of the buffer to give blocks or to keep progress; each is tried again."),
		lost: counters("lost_blocks_total", "Blocks that were accepted and can never be sent, by reason: damaged, or removed to make room.",
			"reason"),
		onHold:  gauges("on_hold", "1 while nothing of the partition is sent because a newer version has written its next block, or its progress."),
		backlog: newBacklogGauges(gauges),
	}
	m.addLanes(f, counters, name)
	return m
}

func (m *metrics) addLanes(f promauto.Factory, counters func(name, help string, labels ...string) *prometheus.CounterVec,
	name func(string) string,
) {
	permits := counters("permits_total", "Permits to visit a node, by the lane that got them.", "lane")
	contended := counters("permits_contended_total", "Permits given to a lane while the other one waited too. Of these main gets 95 of 100 "+
		"and bulk 5.", "lane")
	beyond := counters("permits_beyond_share_total", "Permits given to a lane beyond its share while the other one waited. For bulk it is "+
		"always 0: main never waits behind it.", "lane")
	waited := counters("permit_wait_seconds_total", "Time spent waiting for permits, by all who got one.", "lane")
	requests := counters("packed_requests_total", "Requests with records of many tenants that nodes have taken.", "lane")
	packed := counters("packed_samples_total", "Samples that nodes have taken in packed requests.", "lane")
	unpacked := counters("unpacked_samples_total", "Samples that nodes have taken as they came, with their tenant in the URL.", "lane")
	rows := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: name("packed_rows"), Help: "Samples in one packed request. Few of them cost vminsert more.", Buckets: prometheus.ExponentialBuckets(10, 2, 11),
	}, []string{"lane"})
	bytes := counters("packed_bytes_total", "Bytes of the records in packed requests: as they came, unpacked, and as they were sent.", "lane", "form")
	apart := counters("packs_taken_apart_total", "Packed requests that were refused for some record in them, and sent in parts.", "lane")
	unpackable := counters("unpackable_records_total", "Small records that went alone: with the labels that packing adds they might have "+
		"more than INGESTGW_FORWARD_MAX_LABELS (labels), or they cannot be read (unreadable).", "lane", "reason")
	for i, lane := range laneNames {
		l := string(lane)
		m.lanes[i] = &laneMetrics{
			permits:         permits.WithLabelValues(l),
			contended:       contended.WithLabelValues(l),
			beyond:          beyond.WithLabelValues(l),
			waited:          waited.WithLabelValues(l),
			packedRequests:  requests.WithLabelValues(l),
			packedSamples:   packed.WithLabelValues(l),
			unpackedSamples: unpacked.WithLabelValues(l),
			takenApart:      apart.WithLabelValues(l),
			packedRows:      rows.WithLabelValues(l),
			bytesBefore:     bytes.WithLabelValues(l, "came"),
			bytesUnpacked:   bytes.WithLabelValues(l, "unpacked"),
			bytesAfter:      bytes.WithLabelValues(l, "sent"),
			tooManyLabels:   unpackable.WithLabelValues(l, "labels"),
			unreadable:      unpackable.WithLabelValues(l, "unreadable"),
		}
	}
}

// packed counts a packed request that a node has taken.
func (m *laneMetrics) packed(p *pack) {
	m.packedRequests.Inc()
	m.packedSamples.Add(float64(p.samples))
	m.packedRows.Observe(float64(p.samples))
	m.bytesBefore.Add(float64(p.before))
	m.bytesUnpacked.Add(float64(p.unpacked))
	m.bytesAfter.Add(float64(len(p.body)))
}

func newBacklogGauges(gauges func(name, help string) *prometheus.GaugeVec) backlogGauges {
	return backlogGauges{
		uncommitted: gauges("uncommitted_blocks", "Blocks from the committed offset, as it was saved last, to the end of the partition: "+
			"what Kafka's tools report as the group's lag. Blocks that were sent and wait to be settled are among them, and so is "+
			"everything behind one that is not settled."),
		unsent: gauges("unsent_blocks", "Blocks that have not been sent yet, or are to be sent again. Those that only wait to be "+
			"settled, and those that were sent ahead of others, are not among them."),
		oldest: gauges("oldest_unsent_age_seconds", "Time since the oldest unsent block was received, as the block itself says. "+
			"0 when all are sent."),
		samples: gauges("unsent_samples_estimate", "Samples in the unsent blocks, estimated: their number times the moving mean of "+
			"about the last 100 blocks read."),
		bytes: gauges("unsent_bytes_estimate", "Bytes of the unsent blocks, compressed as they are, estimated: their number times the "+
			"moving mean of about the last 100 blocks read."),
		arriving: gauges("arriving_blocks_per_second", "Blocks that arrived in the partition, per second of the last minute."),
		sent:     gauges("sent_blocks_per_second", "Blocks that were sent, repetitions included, per second of the same minute."),
		drain: gauges("time_to_drain_seconds", "Time until no block is unsent if blocks arrive and are sent as in the last minute: "+
			"unsent_blocks by the difference of the two rates. +Inf when no more are sent than arrive; 0 when all are sent but blocks "+
			"that arrived within the last 5 s."),
	}
}

// watch registers what is asked for at each scrape.
func (m *metrics) watch(reg prometheus.Registerer, f *fleet, all [lanes]*lane) {
	reg.MustRegister(&collector{metrics: m, fleet: f, lanes: all})
}

type collector struct {
	metrics *metrics
	fleet   *fleet
	lanes   [lanes]*lane
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.metrics.state
	ch <- c.metrics.inFlight
	ch <- c.metrics.parked
	ch <- c.metrics.load
	ch <- c.metrics.waiting
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	waiting := c.fleet.waiting()
	for i, l := range c.lanes {
		gauge(c.metrics.parked, float64(l.parked.count()), string(laneNames[i]))
		gauge(c.metrics.waiting, float64(waiting[i]), string(laneNames[i]))
	}
	for _, n := range c.fleet.list() {
		gauge(c.metrics.inFlight, float64(n.inFlight), n.name)
		gauge(c.metrics.load, n.load, n.name)
		for _, s := range states {
			value := 0.0
			if s == n.state {
				value = 1
			}
			gauge(c.metrics.state, value, n.name, s)
		}
	}
}

// nodeMetrics are those of one node, looked up once.
type nodeMetrics struct {
	classes     [6]prometheus.Counter // by the first digit of the status
	timeout     prometheus.Counter
	unreachable prometheus.Counter
	duration    prometheus.Observer
	samples     prometheus.Counter
	bytes       prometheus.Counter
	fallbacks   prometheus.Counter
}

func (m *metrics) node(name string) *nodeMetrics {
	n := &nodeMetrics{
		timeout:     m.requests.WithLabelValues(name, codeTimeout),
		unreachable: m.requests.WithLabelValues(name, codeUnreachable),
		duration:    m.duration.WithLabelValues(name),
		samples:     m.samples.WithLabelValues(name),
		bytes:       m.bytes.WithLabelValues(name),
		fallbacks:   m.fallbacks.WithLabelValues(name),
	}
	for class := 2; class <= 5; class++ {
		n.classes[class] = m.requests.WithLabelValues(name, strconv.Itoa(class)+"xx")
	}
	return n
}

// forget removes the series of a node that is gone.
func (m *metrics) forget(node string) {
	labels := prometheus.Labels{"node": node}
	m.requests.DeletePartialMatch(labels)
	m.duration.DeletePartialMatch(labels)
	m.samples.DeletePartialMatch(labels)
	m.bytes.DeletePartialMatch(labels)
	m.fallbacks.DeletePartialMatch(labels)
}

// answered counts a request that ended as f says, nil for taken.
func (n *nodeMetrics) answered(f *failure, status int, took time.Duration) {
	switch {
	case f != nil && f.kind == cut:
		return
	case 200 <= status && status < 600:
		n.classes[status/100].Inc()
	case f != nil && errors.Is(f.err, errTimeout):
		n.timeout.Inc()
	default:
		n.unreachable.Inc()
	}
	n.duration.Observe(took.Seconds())
}

func (n *nodeMetrics) sent(samples, bytes int) {
	n.samples.Add(float64(samples))
	n.bytes.Add(float64(bytes))
}

// partitionMetrics are those of one partition, looked up once.
type partitionMetrics struct {
	all    *metrics
	labels prometheus.Labels

	resent, retries, malformed, storeErrors prometheus.Counter
	onHold                                  prometheus.Gauge
}

func (m *metrics) partition(id buffer.PartitionID) *partitionMetrics {
	labels := prometheus.Labels{"lane": string(id.Lane), "partition": strconv.Itoa(id.Number)}
	return &partitionMetrics{
		all:         m,
		labels:      labels,
		resent:      m.resent,
		retries:     m.retries,
		malformed:   m.malformed,
		storeErrors: m.store,
		onHold:      m.onHold.With(labels),
	}
}

// show sets one of the backlogGauges. What is not known is not shown: a 0 would say that all is done.
func (m *partitionMetrics) show(g *prometheus.GaugeVec, value float64, known bool) {
	if !known {
		g.Delete(m.labels)
		return
	}
	g.With(m.labels).Set(value)
}

func (m *partitionMetrics) lost(reason string) prometheus.Counter {
	return m.all.lost.WithLabelValues(reason)
}

// forget removes the series of a partition that is ours no more.
func (m *partitionMetrics) forget() {
	g := m.all.backlog
	for _, g := range []*prometheus.GaugeVec{
		g.uncommitted, g.unsent, g.oldest, g.samples, g.bytes, g.arriving, g.sent, g.drain, m.all.onHold,
	} {
		g.Delete(m.labels)
	}
}
