package downstream

import (
	"bytes"
	"encoding/json"
	"math"
)

// A Figure is a number read from a server or worked out from what was read; NaN while it is not known: because the page has no such metric,
// because there is too little yet to make a rate of, or because the last good page is too old. Every comparison with an unknown
// Figure is false, so "f > 0.9" needs no other check; "!(f > 0.9)" and arithmetic do. In JSON it is a number, or null.
type Figure float64

// Unknown is the Figure of what is not known.
func Unknown() Figure { return Figure(math.NaN()) }

// Known is whether the Figure is a number.
func (f Figure) Known() bool { return !math.IsNaN(float64(f)) }

// Or is the Figure, or instead when it is not known.
func (f Figure) Or(instead float64) float64 {
	if f.Known() {
		return float64(f)
	}
	return instead
}

// Finite is whether it is a number to calculate with.
func (f Figure) Finite() bool { return f.Known() && !math.IsInf(float64(f), 0) }

// OrZero is the Figure, or 0 when it is not known.
func (f Figure) OrZero() Figure { return Figure(f.Or(0)) }

// Per is the Figure by another one; unknown when either is, or that is 0.
func (f Figure) Per(other Figure) Figure {
	if other == 0 {
		return Unknown()
	}
	return f / other
}

// MarshalJSON is null for what is not known, or infinite.
func (f Figure) MarshalJSON() ([]byte, error) {
	if !f.Finite() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON is the reverse of MarshalJSON.
func (f *Figure) UnmarshalJSON(text []byte) error {
	if bytes.Equal(text, []byte("null")) {
		*f = Unknown()
		return nil
	}
	return json.Unmarshal(text, (*float64)(f))
}

// clean is f, or unknown when it is no finite number.
func clean(f float64) Figure {
	if math.IsInf(f, 0) {
		return Unknown()
	}
	return Figure(f)
}
