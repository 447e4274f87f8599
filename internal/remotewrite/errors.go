package remotewrite

import (
	"errors"
	"fmt"
	"strings"
)

// Why Scan refuses a message. The error that it returns is an *Error that wraps one of them.
var (
	// ErrMalformed: the bytes are not a remote-write 1.0 message.
	ErrMalformed = errors.New("malformed remote-write message")
	// ErrInvalidSeries: the message can be read, but one of its series breaks a rule. The others may be valid, see Sift.
	ErrInvalidSeries = errors.New("invalid series")
	// ErrTooManySeries: the message holds more series than Limits.Series.
	ErrTooManySeries = errors.New("too many series")
	// ErrTooLarge: decoding the message would take more memory than Limits.Expanded.
	ErrTooLarge = errors.New("message expands to too much memory")
)

// An Error says what is wrong with a message, and where.
type Error struct {
	// Kind is one of the errors above.
	Kind error
	// Series is the number of the series in the message, from 0; -1 when the fault is not inside a series.
	Series int
	// Metric and Label are the series' metric name and the name of the label that is at fault, cut to 64 bytes; empty when
	// they were not read yet, or when no single label is at fault.
	Metric, Label string
	// Offset is where the fault was seen, in bytes from the beginning of the message.
	Offset int
	// Reason is what is wrong there.
	Reason string
}

// Error gives all of it in one line. Names are quoted: they are whatever the sender chose.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", e.Kind)
	if e.Series >= 0 {
		fmt.Fprintf(&b, "series %d", e.Series)
		if e.Metric != "" {
			fmt.Fprintf(&b, " (%q)", e.Metric)
		}
		b.WriteString(", ")
	}
	if e.Label != "" {
		fmt.Fprintf(&b, "label %q, ", e.Label)
	}
	fmt.Fprintf(&b, "byte %d: %s", e.Offset, e.Reason)
	return b.String()
}

// Unwrap returns Kind.
func (e *Error) Unwrap() error { return e.Kind }

// maxQuoted is how much of a name an Error repeats.
const maxQuoted = 64

func cut(name []byte) string { return string(name[:min(len(name), maxQuoted)]) }

func (s *Scanner) fault(kind error, offset int, format string, args ...any) *Error {
	e := &Error{Kind: kind, Series: -1, Offset: offset, Reason: fmt.Sprintf(format, args...)}
	if s.inSeries {
		e.Series = s.counts.Series - 1
		e.Metric = cut(s.metric.of(s.msg))
	}
	return e
}

func (s *Scanner) malformed(offset int, format string, args ...any) error {
	return s.fault(ErrMalformed, offset, format, args...)
}

// A flaw is the first rule that a series breaks.
type flaw struct {
	offset int
	label  span // its name; 0 when no single label is at fault
	reason string
}

// invalid notes what is wrong with the series that s is in. It is walked to its end all the same: what follows may be malformed.
func (s *Scanner) invalid(label span, offset int, reason string) {
	if !s.flawed {
		s.flawed, s.flaw = true, flaw{offset, label, reason}
	}
}

// flawError is the flaw of the series that s is in, once that has been walked.
func (s *Scanner) flawError() *Error {
	e := s.fault(ErrInvalidSeries, s.flaw.offset, "%s", s.flaw.reason)
	e.Label = cut(s.flaw.label.of(s.msg))
	return e
}
