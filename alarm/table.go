package alarm

import (
	"fmt"
	"strings"
)

const tableHead = `# Alarms

What ingestgw tells of what is wrong, and why. This page is made by ` + "`ingestgw alarms -markdown`" + `.

A *cause* is told when it has been seen for as long as the column After says, and is over when it has not been seen for as long as
Until says, both multiplied by INGESTGW_ALARM_PATIENCE. One incident gives one alarm: what follows from another cause is not told,
and symptoms are told with the cause that explains them. A symptom that no cause explains for 40 s is the alarm ` + "`cause_unknown`" + `.

A *page* means that samples are refused or lost, or that fresh ones cannot be read; a *ticket* that somebody should look by day. A
ticket becomes a page while it explains a symptom, all of which are pages, or, where the table says so, when all servers of its kind have
it. What most servers of a kind have is one alarm without a node.

Each alarm has a sentence that says what is wrong, the figures that it was concluded from, and the next step. They are on the page
of the admin listener, at /api/v1/alarms, in the log, and in what Alertmanagers and the webhook get; ` + "`ingestgw_alarm`" + ` has their names.

`

// Markdown is the reference of all alarms.
func Markdown() string {
	var b strings.Builder
	b.WriteString(tableHead)
	b.WriteString("## Causes\n\n| alarm | what is wrong | severity | after | until |\n|---|---|---|---|---|\n")
	for _, r := range causes() {
		severity, after := string(r.Severity), r.After.String()
		if r.All != "" && r.All != r.Severity {
			severity += ", " + string(r.All) + " for all"
		}
		if r.AllAfter > 0 {
			after += ", " + r.AllAfter.String() + " for all"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", r.Name, r.Means, severity, after, r.Until)
	}
	fmt.Fprintf(&b, "| `%s` | A symptom has no cause that is known. | page | %s | %s |\n", CauseUnknown, unknownAfter, unknownUntil)
	b.WriteString("\n## Symptoms\n\n| symptom | what is seen |\n|---|---|\n")
	for _, r := range symptoms() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", r.Name, r.Means)
	}
	return b.String()
}
