package status

import (
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/downstream"
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
		"only receiving":       {Status{Ready: true, Backlog: Backlog{Seconds: downstream.Unknown()}}, false, true, "well", "", "All is well"},
	} {
		v := judge(&c.status, c.forwards, c.receives)
		if v.State != c.state || !strings.Contains(v.Why, c.why) || !strings.Contains(v.Text, c.text) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
