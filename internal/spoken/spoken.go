// Package spoken says figures as people do. What is not known (NaN) is said as Nothing.
package spoken

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Nothing stands where there is no figure.
const Nothing = "–"

// Lasting says a time in seconds: "350 ms", "12 s", "3 min 20 s", "2 d 5 h"; "never" for what is infinite. One that is negative, as
// after a clock was set back, has a minus.
func Lasting(s float64) string {
	switch {
	case math.IsNaN(s):
		return Nothing
	case math.IsInf(s, 0):
		return "never"
	case s < 0:
		return "-" + Lasting(-s)
	case s == 0:
		return "0 s"
	case s < 0.001:
		return fmt.Sprintf("%.0f µs", s*1e6)
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1e3)
	case s < 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", s), ".0") + " s"
	case s < 60:
		return fmt.Sprintf("%.0f s", s)
	case s < 3600:
		return twoUnits(s, 60, "min", "s")
	case s < 48*3600:
		return twoUnits(s/60, 60, "h", "min")
	default:
		return twoUnits(s/3600, 24, "d", "h")
	}
}

// twoUnits says n small units, of which each make a large one.
func twoUnits(n, each float64, large, small string) string {
	whole := math.Floor(n / each)
	if rest := math.Floor(n - whole*each); rest > 0 {
		return fmt.Sprintf("%.0f %s %.0f %s", whole, large, rest, small)
	}
	return fmt.Sprintf("%.0f %s", whole, large)
}

// Size says bytes: "812 B", "4.2 MiB".
func Size(v float64) string {
	if !finite(v) {
		return Nothing
	}
	const units = "KMGTP"
	unit := ""
	for i := 0; v >= 1024 && i < len(units); i++ {
		v, unit = v/1024, units[i:i+1]
	}
	if unit == "" {
		return fmt.Sprintf("%.0f B", v)
	}
	return threeDigits(v) + " " + unit + "iB"
}

// Count says how many, in short: "950", "12.5 k", "3.1 M".
func Count(v float64) string {
	if !finite(v) {
		return Nothing
	}
	switch {
	case v >= 1e9:
		return threeDigits(v/1e9) + " G"
	case v >= 1e6:
		return threeDigits(v/1e6) + " M"
	case v >= 1e4:
		return threeDigits(v/1e3) + " k"
	}
	return threeDigits(v)
}

// threeDigits writes a number with as many decimals as make about three digits.
func threeDigits(v float64) string {
	decimals := 0
	switch {
	case v == math.Trunc(v) || v >= 100:
	case v >= 10:
		decimals = 1
	case v >= 0.01:
		decimals = 2
	default:
		return strconv.FormatFloat(v, 'g', 1, 64)
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if decimals > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}

// Percent says a share from 0 to 1: "47 %".
func Percent(v float64) string {
	if !finite(v) {
		return Nothing
	}
	return threeDigits(math.Round(v*1000)/10) + " %"
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// ClockTime says when, to the second.
func ClockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
