// Package gatheredtest lets tests say what the process's own metrics are.
package gatheredtest

import (
	"maps"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/ingestgw/ingestgw/internal/gathered"
)

// A Board is metrics by their lines in /metrics, name{label="value",…}. All of them are gauges, a histogram its _sum and its _count.
type Board map[string]float64

// Gather implements prometheus.Gatherer.
func (b Board) Gather() ([]*dto.MetricFamily, error) { return b.families(), nil }

// Moment is the metrics read at the time at.
func (b Board) Moment(at time.Time) *gathered.Moment { return gathered.New(at, b.families()) }

// With is a copy with more lines, which win.
func (b Board) With(more Board) Board {
	all := maps.Clone(b)
	maps.Copy(all, more)
	return all
}

// families are in the order of their names, as those of a registry.
func (b Board) families() []*dto.MetricFamily {
	byName := map[string]*dto.MetricFamily{}
	var all []*dto.MetricFamily
	for _, line := range slices.Sorted(maps.Keys(b)) {
		name, labels := parse(line)
		if byName[name] == nil {
			byName[name] = &dto.MetricFamily{Name: proto.String(name), Type: dto.MetricType_GAUGE.Enum()}
			all = append(all, byName[name])
		}
		byName[name].Metric = append(byName[name].Metric, &dto.Metric{Label: labels, Gauge: &dto.Gauge{Value: proto.Float64(b[line])}})
	}
	return all
}

// parse reads name{a="b",c="d"}. A value has no comma in it.
func parse(line string) (name string, labels []*dto.LabelPair) {
	name, rest, _ := strings.Cut(strings.TrimSuffix(line, "}"), "{")
	for pair := range strings.SplitSeq(rest, ",") {
		if label, value, ok := strings.Cut(pair, "="); ok {
			labels = append(labels, &dto.LabelPair{Name: proto.String(label), Value: proto.String(strings.Trim(value, `"`))})
		}
	}
	return name, labels
}
