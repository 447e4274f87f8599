package status

import (
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

func sortedKeys(b board) []string { return slices.Sorted(maps.Keys(b)) }

// parseLine reads name{a="b",c="d"}.
func parseLine(line string) (name string, labels []*dto.LabelPair) {
	name, rest, _ := strings.Cut(strings.TrimSuffix(line, "}"), "{")
	for pair := range strings.SplitSeq(rest, ",") {
		if label, value, ok := strings.Cut(pair, "="); ok {
			labels = append(labels, &dto.LabelPair{Name: proto.String(label), Value: proto.String(strings.Trim(value, `"`))})
		}
	}
	return name, labels
}
