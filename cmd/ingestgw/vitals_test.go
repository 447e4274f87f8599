package main

import (
	"math"
	"slices"
	"testing"

	"github.com/ingestgw/ingestgw/downstream"
)

func TestServersAreShownWithWhatIsWrong(t *testing.T) {
	all := []downstream.Vitals{
		{Server: "a:8480", Kind: downstream.VMInsert, Health: downstream.HealthGood, Insert: &downstream.InsertVitals{
			Rows: 5, Ways: []downstream.Way{{Reachable: true, PendingBytes: 1}, {PendingBytes: 2}, {Reachable: true, ReadOnly: true}, {Reachable: true, SendShare: 0.95}},
		}},
		{Server: "b:8482", Kind: downstream.VMStorage, Health: downstream.HealthMute, CPU: downstream.CPU{Short: true}, Storage: &downstream.StorageVitals{Rows: 7, ReadOnly: true}},
		{Server: "c:8480", Kind: downstream.VMInsert, Health: downstream.HealthUnpolled},
	}
	got := vitalsOf(all)
	if got[0].Name != "a:8480" || !got[0].Up || got[0].RowsPerSecond != 5 || got[0].PendingBytes != 3 ||
		!slices.Equal(got[0].Notes, []string{"cannot reach 1 of its storages", "1 of its storages are read-only", "1 of its storages hold it up"}) {
		t.Errorf("%+v", got[0])
	}
	if got[1].Up || got[1].RowsPerSecond != 7 || !math.IsNaN(float64(got[1].PendingBytes)) ||
		!slices.Equal(got[1].Notes, []string{"its metrics cannot be read: mute", "short of CPU", "read-only: its disk is full"}) {
		t.Errorf("%+v", got[1])
	}
	if got[2].Up || len(got[2].Notes) > 0 {
		t.Errorf("%+v", got[2])
	}
}
