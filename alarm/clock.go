package alarm

import (
	"fmt"

	"github.com/ingestgw/ingestgw/downstream"
)

// skewed is by how many seconds clocks may differ. Dates of HTTP tell seconds.
const skewed = 10

// skew finds clocks that differ: a server's when it alone does, ours when most do.
func skew(r *Readings) []Finding {
	var ahead []downstream.Figure
	var all []Finding
	for i := range r.Servers {
		v := &r.Servers[i]
		if !v.ClockAhead.Known() {
			continue
		}
		ahead = append(ahead, v.ClockAhead)
		if v.ClockAhead > skewed || v.ClockAhead < -skewed {
			all = append(all, Finding{Node: v.Server, Summary: fmt.Sprintf("The clock of %s %s is %s.", v.Kind, v.Server, aheadOrBehind(v.ClockAhead)),
				Next: "Look at time synchronisation (NTP) on that machine.", Evidence: []Evidence{evidence("clock_ahead", v.ClockAhead, seconds, "it differs from ours by %s")}})
		}
	}
	if middle := median(ahead); len(ahead) > 1 && (middle > skewed || middle < -skewed) {
		return []Finding{{Summary: fmt.Sprintf("The clock of this machine is %s, compared with most vminserts and vmstorages.", aheadOrBehind(-middle)),
			Next:     "Look at time synchronisation (NTP) on the machine of ingestgw: receive times, and which samples are old, are judged by its clock.",
			Evidence: []Evidence{evidence("clock_ahead", -middle, seconds, "most servers' clocks differ from ours by %s")}}}
	}
	return all
}

func aheadOrBehind(f downstream.Figure) string {
	if f < 0 {
		return said(-f, seconds) + " behind"
	}
	return said(f, seconds) + " ahead"
}
