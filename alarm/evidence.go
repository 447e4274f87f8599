package alarm

import (
	"fmt"
	"strings"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/spoken"
)

// Units of evidence.
const (
	share    = "share" // 0 to 1
	seconds  = "seconds"
	size     = "bytes"
	plain    = "" // a number of something
	perSec   = "per second"
	cores    = "cores"
	ratioOne = "ratio"
)

// evidence is a figure and, by format, the sentence that it is said in.
func evidence(name string, v downstream.Figure, unit, format string) Evidence {
	return Evidence{Name: name, Value: v, Unit: unit, Text: fmt.Sprintf(format, said(v, unit))}
}

// fact is evidence that is no number.
func fact(name, format string, args ...any) Evidence {
	return Evidence{Name: name, Value: downstream.Unknown(), Text: fmt.Sprintf(format, args...)}
}

// said is a figure as people say it.
func said(f downstream.Figure, unit string) string {
	v := float64(f)
	switch unit {
	case share:
		return spoken.Percent(v)
	case seconds:
		return spoken.Lasting(v)
	case size:
		return spoken.Size(v)
	}
	return spoken.Count(v)
}

// known leaves out figures that are not known.
func known(all ...Evidence) []Evidence {
	var kept []Evidence
	for _, e := range all {
		if e.Value.Known() || !strings.Contains(e.Text, spoken.Nothing) {
			kept = append(kept, e)
		}
	}
	return kept
}

// maxMerged is of how many servers an alarm about most of them tells the evidence.
const maxMerged = 5

// merge makes one finding of those about most of the servers of a kind.
func merge(kind string, found []Finding, all int) Finding {
	one := Finding{Severity: found[0].Severity, all: found[0].all, Next: found[0].Next,
		Summary: fmt.Sprintf("%d of %d %ss have the same trouble. One of them: %s", len(found), all, kind, found[0].Summary)}
	for i := range found {
		if found[i].Severity == Page {
			one.Severity = Page
		}
		if i < maxMerged {
			for _, e := range found[i].Evidence {
				e.Text = found[i].Node + ": " + e.Text
				one.Evidence = append(one.Evidence, e)
			}
		}
	}
	return one
}

// named is how many of several things are named.
const named = 5

// firstFew names some of them.
func firstFew(all []string) string {
	if len(all) <= named {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:named], ", "), len(all)-named)
}
