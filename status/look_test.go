package status

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

func TestAlarmsThatFireComeFirst(t *testing.T) {
	s, _ := listen(t)
	s.SetAlarms(func() []Alarm {
		return []Alarm{{Name: "1", State: "resolved", Severity: "page"}, {Name: "2", State: "pending", Severity: "ticket"}, {Name: "3", State: "firing", Severity: "ticket"},
			{Name: "4", State: "pending", Severity: "page"}, {Name: "5", State: "firing", Severity: "page"}}
	})
	var order string
	for _, a := range s.listAlarms() {
		order += a.Name
		if a.Evidence == nil || a.Symptoms == nil {
			t.Errorf("%s has null in place of lists", a.Name)
		}
	}
	if order != "53421" {
		t.Errorf("order %s", order)
	}
}

func TestCountersThatStartAnewGiveNoNegativeRate(t *testing.T) {
	f := scene{then: board{"ingestgw_ingest_samples_total": 500}, now: board{"ingestgw_ingest_samples_total": 5}}.span()
	if r := f.rate(gathered.IngestSamples); r != 0 {
		t.Errorf("rate %v", r)
	}
	if r := f.rate("ingestgw_no_such_total"); r.Known() {
		t.Errorf("rate of nothing: %v", r)
	}
}

func TestNumbersThatAreNoneAreNull(t *testing.T) {
	for n, want := range map[downstream.Figure]string{5: "5", 0.25: "0.25", downstream.Figure(math.Inf(1)): "null", downstream.Figure(math.Inf(-1)): "null", 1e21: "1e+21"} {
		text, err := json.Marshal(n)
		if err != nil || string(text) != want {
			t.Errorf("%v: %s, %v", float64(n), text, err)
		}
	}
	text, err := json.Marshal([]downstream.Figure{downstream.Unknown()})
	if err != nil || string(text) != "[null]" {
		t.Errorf("unknown: %s, %v", text, err)
	}
	var back []downstream.Figure
	if err := json.Unmarshal([]byte("[null, 7]"), &back); err != nil || back[0].Known() || back[1] != 7 {
		t.Errorf("read back: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`["x"]`), &back); err == nil {
		t.Error("a text is taken for a number")
	}
}
