package status

import (
	"math"
	"strconv"
)

// A Number is a figure that may be unknown. In JSON, which has neither, what is unknown (NaN) and what is infinite is null.
type Number float64

// unknown is a Number of which nothing is known.
var unknown = Number(math.NaN())

// Known says whether there is a figure, which may be infinite.
func (n Number) Known() bool { return !math.IsNaN(float64(n)) }

// finite says whether there is a figure to calculate with.
func (n Number) finite() bool { return n.Known() && !math.IsInf(float64(n), 0) }

// orZero returns n, or 0 if n is unknown.
func (n Number) orZero() Number {
	if n.Known() {
		return n
	}
	return 0
}

// per returns n by other; unknown if either is, or other is 0.
func (n Number) per(other Number) Number {
	if other == 0 {
		return unknown
	}
	return n / other
}

// MarshalJSON writes the number, or null.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.finite() {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, float64(n), 'g', 12, 64), nil
}

// UnmarshalJSON reads a number, or null as unknown.
func (n *Number) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*n = unknown
		return nil
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return err
	}
	*n = Number(f)
	return nil
}
