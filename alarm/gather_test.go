package alarm

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/ingestgw/ingestgw/internal/gathered"
)

// nothing has no metrics.
type nothing struct{}

func (nothing) Gather() ([]*dto.MetricFamily, error) { return nil, nil }

func moment(t *testing.T, g prometheus.Gatherer, at time.Time) *gathered.Moment {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return gathered.New(at, families)
}
