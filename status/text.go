package status

import (
	"time"

	"github.com/ingestgw/ingestgw/internal/spoken"
)

// What stands where there is no figure.
const nothing = spoken.Nothing

// lasting says a time in seconds.
func lasting(n Number) string { return spoken.Lasting(float64(n)) }

// roughly says a time in steps of minutes.
func roughly(d time.Duration) string {
	if d < time.Minute {
		return "less than a minute"
	}
	return lasting(Number(d.Truncate(time.Minute).Seconds()))
}

// size says bytes.
func size(n Number) string { return spoken.Size(float64(n)) }

// count says how many, in short.
func count(n Number) string { return spoken.Count(float64(n)) }

// percent says a share from 0 to 1.
func percent(n Number) string { return spoken.Percent(float64(n)) }

// clockTime says when, to the second.
func clockTime(t time.Time) string { return spoken.ClockTime(t) }
