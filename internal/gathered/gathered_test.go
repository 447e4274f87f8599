package gathered

import (
	"maps"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scene is a registry with a counter per node and code, a histogram, and a gauge per lane and partition.
type scene struct {
	reg   *prometheus.Registry
	posts *prometheus.CounterVec
	took  prometheus.Histogram
	each  *prometheus.HistogramVec
	depth *prometheus.GaugeVec
}

func newScene() *scene {
	s := &scene{
		reg:   prometheus.NewRegistry(),
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ingestgw_posts_total"}, []string{"node", "code"}),
		took:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "ingestgw_seconds"}),
		each:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "ingestgw_node_seconds"}, []string{"node"}),
		depth: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "ingestgw_depth"}, []string{"lane", "partition"}),
	}
	s.reg.MustRegister(s.posts, s.took, s.each, s.depth, prometheus.NewGauge(prometheus.GaugeOpts{Name: "others"}))
	return s
}

func (s *scene) at(t *testing.T, seconds int) *Moment {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return New(time.Unix(int64(seconds), 0), families)
}

func TestRatesAreOverTheSpan(t *testing.T) {
	s := newScene()
	s.posts.WithLabelValues("a", "2xx").Add(100)
	s.took.Observe(1)
	then := s.at(t, 0)
	s.posts.WithLabelValues("a", "2xx").Add(50)
	s.posts.WithLabelValues("a", "5xx").Add(20) // not there before
	s.posts.WithLabelValues("b", "2xx").Add(10)
	s.took.Observe(2)
	s.took.Observe(4)
	span := Span{then, s.at(t, 10)}

	for name, c := range map[string]struct{ got, want float64 }{
		"all":            {span.Rate("ingestgw_posts_total"), 8},
		"one node":       {span.Rate("ingestgw_posts_total", "node", "a"), 7},
		"new series":     {span.Rate("ingestgw_posts_total", "node", "a", "code", "5xx"), 2},
		"per node":       {span.Rates("ingestgw_posts_total", "node")["b"], 1},
		"mean":           {span.Mean("ingestgw_seconds"), 3},
		"no such metric": {span.Rate("ingestgw_none"), math.NaN()},
		"no such series": {span.Rate("ingestgw_posts_total", "node", "c"), math.NaN()},
		"nothing then":   {Span{nil, span.Now}.Rate("ingestgw_posts_total"), math.NaN()},
		"nothing seen":   {Span{span.Now, s.at(t, 20)}.Mean("ingestgw_seconds"), math.NaN()},
	} {
		if c.got != c.want && !(math.IsNaN(c.got) && math.IsNaN(c.want)) {
			t.Errorf("%s: got %v, want %v", name, c.got, c.want)
		}
	}
}

func TestMeansAreThoseOfWhatWasSeenInTheSpan(t *testing.T) {
	s := newScene()
	s.each.WithLabelValues("before alone").Observe(9)
	s.each.WithLabelValues("before too").Observe(9)
	then := s.at(t, 0)
	s.each.WithLabelValues("before too").Observe(1)
	s.each.WithLabelValues("new").Observe(2)
	s.each.WithLabelValues("new").Observe(4)
	now := s.at(t, 10)

	if got, want := (Span{then, now}).Means("ingestgw_node_seconds", "node"), map[string]float64{"before too": 1, "new": 3}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := (Span{nil, now}).Means("ingestgw_node_seconds", "node"); len(got) != 0 {
		t.Errorf("without an earlier moment: %v", got)
	}
}

func TestLevelsAreFoldedOverSeriesThatMatch(t *testing.T) {
	s := newScene()
	s.depth.WithLabelValues("main", "0").Set(3)
	s.depth.WithLabelValues("main", "1").Set(7)
	s.depth.WithLabelValues("bulk", "0").Set(20)
	m := s.at(t, 0)

	if got := []float64{m.Sum("ingestgw_depth"), m.Sum("ingestgw_depth", "lane", "main"), m.Greatest("ingestgw_depth", "lane", "main")}; got[0] != 30 ||
		got[1] != 10 || got[2] != 7 {
		t.Errorf("got %v, want 30, 10 and 7", got)
	}
	if parts := m.Split("lane", "partition", "ingestgw_depth"); len(parts) != 3 || parts[[2]string{"main", "1"}].Sum("ingestgw_depth") != 7 {
		t.Errorf("got %v, want three parts, one of them with 7", parts)
	}
	if got := m.Values("ingestgw_depth", "lane"); len(got) != 2 {
		t.Errorf("got lanes %v, want two", got)
	}
	if m.Has("others") {
		t.Error("a metric is kept that is none of ours")
	}
}
