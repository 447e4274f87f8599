package status

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// What stands where there is no figure.
const nothing = "–"

// lasting says a time in seconds as people do.
func lasting(n Number) string {
	switch s := float64(n); {
	case !n.Known():
		return nothing
	case isInf(n):
		return "never"
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

// size says bytes.
func size(n Number) string {
	if !n.finite() {
		return nothing
	}
	const units = "KMGTP"
	v, unit := float64(n), ""
	for i := 0; v >= 1024 && i < len(units); i++ {
		v, unit = v/1024, units[i:i+1]
	}
	if unit == "" {
		return fmt.Sprintf("%.0f B", v)
	}
	return threeDigits(v) + " " + unit + "iB"
}

// count says how many, in short.
func count(n Number) string {
	if !n.finite() {
		return nothing
	}
	v := float64(n)
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

// percent says a share from 0 to 1.
func percent(n Number) string {
	if !n.finite() {
		return nothing
	}
	return threeDigits(math.Round(float64(n)*1000)/10) + " %"
}

// clockTime says when, to the second.
func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
