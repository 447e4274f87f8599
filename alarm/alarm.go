// Package alarm decides from what the stages report what is wrong and why, and tells people.
package alarm

import (
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// Severity says who has to look, and when.
type Severity string

// Severities.
const (
	// Page: data is refused or lost, or fresh samples cannot be read. Somebody has to get up.
	Page Severity = "page"
	// Ticket: samples flow and are kept; somebody should look at it by day.
	Ticket Severity = "ticket"
)

// State says how far an alarm is.
type State string

// States.
const (
	// Pending: what is wrong has been seen, and not for long enough yet to tell anybody.
	Pending State = "pending"
	// Firing: it is told.
	Firing State = "firing"
	// Resolved: it has not been seen for a while. Alarms are shown like that for ShowResolved, and then no more.
	Resolved State = "resolved"
)

// ShowResolved is how long an alarm that has resolved is still in the list.
const ShowResolved = 15 * time.Minute

// An Alarm is one thing that is wrong, with its cause. Name and Node tell alarms apart, and are the same in every process that sees the
// same thing; numbers are in Evidence.
type Alarm struct {
	// Name is the cause, such as vminsert_gogc_too_low; CauseUnknown when none was found.
	Name     string   `json:"name"`
	Severity Severity `json:"severity"`
	// Node is the server that it is about; empty for the whole, or when most servers of a kind have it.
	Node string `json:"node"`
	// Server is what Node is called in the list of servers: a vmstorage is named by vminserts by another port. Empty without a Node.
	Server string `json:"server"`
	State  State  `json:"state"`
	// Since is when it was first seen; of one that has resolved, when it was last seen.
	Since time.Time `json:"since"`
	// Summary says in one sentence what is wrong and why, Next what to do.
	Summary string `json:"summary"`
	Next    string `json:"next"`
	// Evidence is what it was concluded from; of what it explains, too.
	Evidence []Evidence `json:"evidence"`
	// Symptoms are the names of the symptoms that it explains, sorted.
	Symptoms []string `json:"symptoms"`
}

// Evidence is one figure that an alarm rests on.
type Evidence struct {
	Name  string            `json:"name"`
	Value downstream.Figure `json:"value"`
	Unit  string            `json:"unit"`
	// Text is the whole as a person would say it, such as "47 % of its CPU goes into garbage collection".
	Text string `json:"text"`
}

// Key is what tells an alarm from others.
type Key struct{ Name, Node string }

// Key is the alarm's.
func (a *Alarm) Key() Key { return Key{a.Name, a.Node} }
