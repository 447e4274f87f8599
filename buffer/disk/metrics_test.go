package disk

import (
	"errors"
	"log/slog"
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// blind is a file system whose free space cannot be read.
type blind struct{ fileSystem }

func (blind) Space(string) (free, total int64, err error) { return 0, 0, errors.New("no such call") }

func TestSizeOfTheDiskAndWhatBoundsTheLogAreShown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		capacity int64 // 0: it cannot be read
		max      settings.Bytes
		want     map[string]float64
	}{
		"a small disk":          {capacity: 10 << 20, want: map[string]float64{"capacity": 10 << 20, "reserve": 1 << 20, "max": 0}},
		"a large disk":          {capacity: 1 << 40, want: map[string]float64{"capacity": 1 << 40, "reserve": 5 << 30, "max": 0}},
		"a bound":               {capacity: 10 << 20, max: 1 << 20, want: map[string]float64{"capacity": 10 << 20, "reserve": 0, "max": 1 << 20}},
		"a disk tells nothing":  {want: map[string]float64{"max": 0}},
		"nothing, with a bound": {max: 1 << 20, want: map[string]float64{"max": 1 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(testDir)
			cfg.MaxBytes = c.max
			sim := newSimFS()
			sim.capacity = c.capacity
			var fsys fileSystem = sim
			if c.capacity == 0 {
				fsys = blind{newSimFS()}
			}
			reg := prometheus.NewPedanticRegistry()
			s, err := openOn(fsys, cfg, slog.New(slog.DiscardHandler), reg)
			if err != nil {
				t.Fatal(err)
			}
			defer mustClose(t, s)
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, f := range families {
				for _, n := range []string{"capacity", "reserve", "max"} {
					if f.GetName() == "ingestgw_disk_"+n+"_bytes" {
						got[n] = f.Metric[0].GetGauge().GetValue()
					}
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
