package status

import (
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/spoken"
)

// What stands where there is no figure.
const nothing = spoken.Nothing

// lasting says a time in seconds.
func lasting(n downstream.Figure) string { return spoken.Lasting(float64(n)) }

// roughly says a time in steps of minutes.
func roughly(d time.Duration) string {
	if d < time.Minute {
		return "less than a minute"
	}
	return lasting(downstream.Figure(d.Truncate(time.Minute).Seconds()))
}

// size says bytes.
func size(n downstream.Figure) string { return spoken.Size(float64(n)) }

// count says how many, in short.
func count(n downstream.Figure) string { return spoken.Count(float64(n)) }

// percent says a share from 0 to 1.
func percent(n downstream.Figure) string { return spoken.Percent(float64(n)) }

// clockTime says when, to the second.
func clockTime(t time.Time) string { return spoken.ClockTime(t) }
