package status

import (
	"fmt"
	"slices"

	"github.com/ingestgw/ingestgw/alarm"
)

// late is the age of the oldest sample not sent from which on it is said, whether or not there is an alarm.
const late = 60

// judge says it in a few words. Alarms come first; without any, what can be seen without them.
func judge(st *Status, forwards, receives bool) Verdict {
	var pages, tickets []Alarm
	for _, a := range st.Alarms {
		switch {
		case a.State != alarm.Firing:
		case a.Severity == alarm.Page:
			pages = append(pages, a)
		default:
			tickets = append(tickets, a)
		}
	}
	backlog := mainOf(st)
	behind := backlog.Seconds.OrZero() >= late
	switch {
	case len(pages) > 0:
		return verdictOf(stateTrouble, trouble(pages), pages, len(tickets))
	case !forwards && !receives:
		return Verdict{State: stateUnknown, Text: "Nothing is known yet", Why: "This process has just started, or is stopping.",
			Next: "Wait for some seconds; if this stays, look into its log."}
	case behind && backlog.Trend != trendShrinking:
		v := verdictOf(stateLook, "The newest samples may be late: "+backlog.sentence(), tickets, 0)
		if v.Why == "" {
			v.Why = "No alarm names a cause so far."
			v.Next = "Look at the vminserts below: which one is slow, paused, or short of CPU or memory?"
		}
		return v
	case len(tickets) > 0:
		return verdictOf(stateLook, "Samples flow and are kept; something should be looked at by day", tickets, 0)
	case behind:
		return Verdict{State: stateLook, Text: "It catches up: " + backlog.sentence(), Why: "There was an outage, or more load than the cluster could take."}
	case !st.Ready:
		return Verdict{State: stateUnknown, Text: "This process is starting or stopping", Why: "It is not ready: load balancers keep requests from it."}
	}
	return Verdict{State: stateWell, Text: "All is well"}
}

// readPath is the alarm of those who read, not of those who send (package alarm).
const readPath = "read_path"

// trouble says what pages mean.
func trouble(pages []Alarm) string {
	if !slices.ContainsFunc(pages, func(a Alarm) bool { return a.Name != readPath }) {
		return "Samples are taken and kept, and cannot be read"
	}
	return "Data is refused, lost or late"
}

// verdictOf names the first alarm's cause and next step, and says how many more there are.
func verdictOf(state, text string, alarms []Alarm, others int) Verdict {
	v := Verdict{State: state, Text: text}
	if len(alarms) == 0 {
		return v
	}
	v.Why, v.Next = alarms[0].Summary, alarms[0].Next
	if more := len(alarms) - 1 + others; more > 0 {
		v.Text += fmt.Sprintf(" (%d more below)", more)
	}
	return v
}
