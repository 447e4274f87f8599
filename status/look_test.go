package status

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

func TestTheVerdictPutsWhatIsWorstFirst(t *testing.T) {
	page := Alarm{Name: "a", Severity: "page", State: "firing", Summary: "A.", Next: "Do A."}
	reading := Alarm{Name: "read_path", Severity: "page", State: "firing", Summary: "R.", Next: "Do R."}
	ticket := Alarm{Name: "b", Severity: "ticket", State: "firing", Summary: "B.", Next: "Do B."}
	pending := Alarm{Name: "c", Severity: "page", State: "pending", Summary: "C.", Next: "Do C."}
	behind := func(trend string) Backlog { return Backlog{Seconds: 600, Bytes: 5, DrainSeconds: 60, Trend: trend} }
	for name, c := range map[string]struct {
		status             Status
		forwards, receives bool
		state, why, text   string
	}{
		"a page":               {Status{Ready: true, Alarms: []Alarm{page, ticket}}, true, true, "trouble", "A.", "1 more"},
		"only reading":         {Status{Ready: true, Alarms: []Alarm{reading}}, true, true, "trouble", "R.", "cannot be read"},
		"a page at the start":  {Status{Alarms: []Alarm{page}}, false, false, "trouble", "A.", "refused, lost or late"},
		"a ticket":             {Status{Ready: true, Alarms: []Alarm{ticket}}, true, true, "look", "B.", "by day"},
		"pending":              {Status{Ready: true, Alarms: []Alarm{pending}}, true, true, "well", "", "All is well"},
		"nothing":              {Status{}, false, false, "unknown", "just started", "Nothing is known"},
		"not ready":            {Status{}, true, true, "unknown", "not ready", "starting or stopping"},
		"behind, growing":      {Status{Ready: true, Backlog: behind(trendGrowing)}, true, true, "look", "No alarm names a cause", "10 min ago, and it grows"},
		"behind, with a cause": {Status{Ready: true, Backlog: behind(trendSteady), Alarms: []Alarm{ticket}}, true, true, "look", "B.", "does not get less"},
		"catching up":          {Status{Ready: true, Backlog: behind(trendShrinking)}, true, false, "look", "outage", "gone in 1 min"},
		"only bulk waits":      {Status{Ready: true, Backlog: behind(trendGrowing), Lanes: []Lane{{Name: "main", Backlog: Backlog{Trend: trendEmpty}}, {Name: "bulk", Backlog: behind(trendGrowing)}}}, true, true, "well", "", "All is well"},
		"only receiving":       {Status{Ready: true, Backlog: Backlog{Seconds: unknown}}, false, true, "well", "", "All is well"},
	} {
		v := judge(&c.status, c.forwards, c.receives)
		if v.State != c.state || !strings.Contains(v.Why, c.why) || !strings.Contains(v.Text, c.text) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestWhatWaitsIsSaidInShort(t *testing.T) {
	behind := func(trend string) Backlog {
		return Backlog{Seconds: 125, Bytes: 3 << 20, Blocks: 9, DrainSeconds: 60, Trend: trend}
	}
	for name, c := range map[string]struct {
		main, bulk Backlog
		want       string
	}{
		"nothing":       {Backlog{Trend: trendEmpty}, Backlog{Trend: trendEmpty}, "nothing waits"},
		"growing":       {behind(trendGrowing), Backlog{Trend: trendEmpty}, "2 min 5 s and growing, 3 MiB"},
		"shrinking":     {behind(trendShrinking), Backlog{Trend: trendUnknown}, "2 min 5 s and gone in 1 min, 3 MiB"},
		"standing":      {behind(trendSteady), Backlog{Trend: trendEmpty}, "2 min 5 s and not getting less, 3 MiB"},
		"bulk alone":    {Backlog{Trend: trendEmpty}, behind(trendGrowing), "nothing waits; in bulk 2 min 5 s and growing, 3 MiB"},
		"nothing known": {Backlog{Trend: trendUnknown}, Backlog{Trend: trendUnknown}, "not known yet"},
	} {
		st := Status{Lanes: []Lane{{Name: "main", Backlog: c.main}, {Name: "bulk", Backlog: c.bulk}}}
		if got := st.waiting(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestTrendsOfABacklog(t *testing.T) {
	for name, c := range map[string]struct {
		b    gathered.Backlog
		want string
	}{
		"unknown":          {gathered.Backlog{Blocks: downstream.Unknown()}, trendUnknown},
		"empty":            {gathered.Backlog{Blocks: 0, Age: 0}, trendEmpty},
		"on its way":       {gathered.Backlog{Blocks: 3, Age: 1, Arriving: 9, Sent: 1}, trendEmpty},
		"growing":          {gathered.Backlog{Blocks: 3, Age: 9, Arriving: 9, Sent: 1}, trendGrowing},
		"shrinking":        {gathered.Backlog{Blocks: 3, Age: 9, Arriving: 1, Sent: 9}, trendShrinking},
		"the same":         {gathered.Backlog{Blocks: 3, Age: 9, Arriving: 100, Sent: 101}, trendSteady},
		"nothing moves":    {gathered.Backlog{Blocks: 3, Age: 9}, trendSteady},
		"rates not known":  {gathered.Backlog{Blocks: 3, Age: 9, Arriving: downstream.Unknown(), Sent: 1}, trendUnknown},
		"age is not known": {gathered.Backlog{Blocks: 3, Age: downstream.Unknown(), Arriving: 9, Sent: 1}, trendEmpty},
	} {
		if got := trendOf(&c.b); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

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
	now, _ := board{"ingestgw_ingest_samples_total": 5}.Gather()
	then, _ := board{"ingestgw_ingest_samples_total": 500}.Gather()
	f := span{now: newFigures(morning, now), then: newFigures(morning.Add(-time.Second), then)}
	if r := f.rate(gathered.IngestSamples); r != 0 {
		t.Errorf("rate %v", r)
	}
	if r := f.rate("ingestgw_no_such_total"); r.Known() {
		t.Errorf("rate of nothing: %v", r)
	}
}

func TestNumbersThatAreNoneAreNull(t *testing.T) {
	for n, want := range map[Number]string{5: "5", 0.25: "0.25", Number(math.Inf(1)): "null", Number(math.Inf(-1)): "null", 1e21: "1e+21"} {
		text, err := json.Marshal(n)
		if err != nil || string(text) != want {
			t.Errorf("%v: %s, %v", float64(n), text, err)
		}
	}
	text, err := json.Marshal([]Number{unknown})
	if err != nil || string(text) != "[null]" {
		t.Errorf("unknown: %s, %v", text, err)
	}
	var back []Number
	if err := json.Unmarshal([]byte("[null, 7]"), &back); err != nil || back[0].Known() || back[1] != 7 {
		t.Errorf("read back: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`["x"]`), &back); err == nil {
		t.Error("a text is taken for a number")
	}
}
