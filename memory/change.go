package memory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// ErrChange is the kind of error for a Change that asks for something that cannot be. Nothing has been changed then, and the same
// Change fails again.
var ErrChange = errors.New("memory settings not changed")

// A Change says what is to be in force from now on, until the next one or the end of the process.
type Change struct {
	// GOGC is as INGESTGW_MEMORY_GOGC is; nil leaves it as it is.
	GOGC *GOGC
	// Limit is as INGESTGW_MEMORY_LIMIT is; nil leaves it as it is.
	Limit *Limit
	// By says who wants it, such as the remote address, for the log and View.Changed.
	By string
}

// ParseChange reads a Change from JSON: {"gogc": 100, "limit": "512MiB"}. gogc is a number from 1 up, "off" or "auto"; limit is
// bytes of 16MiB or more, per cent of the container's limit, 0 for none, or "auto". At least one of the two is there, and nothing
// else. The error is ErrChange.
func ParseChange(text []byte) (Change, error) {
	var raw struct {
		GOGC  json.RawMessage `json:"gogc"`
		Limit json.RawMessage `json:"limit"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&raw); err != nil {
		return Change{}, fmt.Errorf(`%w: want JSON such as {"gogc": 100, "limit": "512MiB"}: %w`, ErrChange, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Change{}, fmt.Errorf("%w: something follows the JSON object", ErrChange)
	}
	if raw.GOGC == nil && raw.Limit == nil {
		return Change{}, fmt.Errorf("%w: neither gogc nor limit is given", ErrChange)
	}
	var c Change
	var errs []error
	if raw.GOGC != nil {
		c.GOGC = new(GOGC)
		errs = append(errs, field("gogc", raw.GOGC, c.GOGC))
	}
	if raw.Limit != nil {
		c.Limit = new(Limit)
		errs = append(errs, field("limit", raw.Limit, c.Limit))
	}
	if err := errors.Join(append(errs, c.check())...); err != nil {
		return Change{}, fmt.Errorf("%w: %w", ErrChange, err)
	}
	return c, nil
}

// field reads a JSON string or number as a setting is read.
func field(name string, raw json.RawMessage, into interface{ UnmarshalText([]byte) error }) error {
	text := []byte(raw)
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		text = []byte(s)
	} else if raw[0] != '-' && (raw[0] < '0' || raw[0] > '9') {
		return fmt.Errorf("%s %.40s: want a number or a text", name, raw)
	}
	if err := into.UnmarshalText(text); err != nil {
		return fmt.Errorf("%s %w", name, err)
	}
	return nil
}

// check says what is wrong with the values, whatever they are resolved to.
func (c Change) check() error {
	var errs []error
	if c.GOGC != nil && *c.GOGC < gogcOff {
		errs = append(errs, fmt.Errorf("gogc %d: want a number of per cent from 1 up, off, or auto", int(*c.GOGC)))
	}
	if c.Limit != nil {
		if err := c.Limit.check(); err != nil {
			errs = append(errs, fmt.Errorf("limit %s %w", c.Limit, err))
		}
	}
	return errors.Join(errs...)
}

// apply says what s becomes by the change. An error that is not ErrChange is about a container limit that cannot be read.
func (c Change) apply(s State, a around) (State, error) {
	if err := c.check(); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrChange, err)
	}
	if c.GOGC != nil {
		if s.GOGC, s.GOGCFrom = decideGOGC(*c.GOGC); *c.GOGC != 0 {
			s.GOGCFrom = live
		}
	}
	if c.Limit == nil {
		return s, s.bounded()
	}
	var err error
	if s.Limit, s.LimitFrom, err = a.decideLimit(*c.Limit); err != nil {
		return State{}, err
	}
	switch {
	case c.Limit.Percent > 0 && s.Limit == 0:
		return State{}, fmt.Errorf("%w: limit %s is a share of the container's limit, and none was found: want bytes", ErrChange, c.Limit)
	case s.Limit > 0 && s.Limit < leastLimit:
		return State{}, fmt.Errorf("%w: limit %s is %d bytes (%s): want %s or more", ErrChange, c.Limit, s.Limit, s.LimitFrom,
			settings.Bytes(leastLimit))
	case c.Limit.Percent == 0 && !c.Limit.Auto:
		s.LimitFrom = live
	}
	return s, s.bounded()
}

// bounded says whether there is anything that makes Go collect garbage.
func (s State) bounded() error {
	if s.GOGC >= 0 || s.Limit > 0 {
		return nil
	}
	return fmt.Errorf("%w: gogc off without a memory limit would never collect garbage: give a limit too", ErrChange)
}

// live is who decided on what was changed while running.
const live = "changed live"

// containerLimit is 0 when there is none or it cannot be read.
func (a around) containerLimit() int64 {
	whole, err := a.container()
	if err != nil || whole > math.MaxInt64 {
		return 0
	}
	return orZero(int64(whole))
}
