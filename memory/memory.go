// Package memory sets GOGC and the memory limit, hands out the budgets of bytes that the process may hold, and watches what
// garbage collection costs.
package memory

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	// autoPercent is the share of the container's limit that auto takes; the rest is for what Go does not count, and for the
	// moments in which the collector is behind.
	autoPercent = 90

	requestPercent   = 40
	readAheadPercent = 10
	// The budgets of a process without a limit.
	requestBytes   = 256 << 20
	readAheadBytes = 64 << 20
)

// State is a garbage collection target and a memory limit, and why it is these.
type State struct {
	// Limit is the memory limit in bytes; 0 is none.
	Limit int64 `json:"limit"`
	// LimitFrom says who decided on it, such as "90% of the container's limit of 2GiB".
	LimitFrom string `json:"limit_from"`
	// GOGC is the garbage collection target.
	GOGC Percent `json:"gogc"`
	// GOGCFrom says who decided on it, such as "the variable GOGC".
	GOGCFrom string `json:"gogc_from"`
}

// Percent is a GOGC that Go was told: per cent from 0 up; -1 is off. As JSON it is a number or "off".
type Percent int

// MarshalJSON writes a number or "off".
func (p Percent) MarshalJSON() ([]byte, error) {
	if p < 0 {
		return []byte(`"off"`), nil
	}
	return strconv.AppendInt(nil, int64(p), 10), nil
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (p *Percent) UnmarshalJSON(text []byte) error {
	if string(text) == `"off"` {
		*p = -1
		return nil
	}
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil {
		return fmt.Errorf("%s: want a number of per cent, or \"off\"", text)
	}
	*p = Percent(n)
	return nil
}

// same says whether two states ask the same of Go, for whatever reason.
func (s State) same(t State) bool { return s.Limit == t.Limit && s.GOGC == t.GOGC }

// put sets Go's own figures.
func put(s State) {
	debug.SetGCPercent(int(s.GOGC))
	debug.SetMemoryLimit(orMax(s.Limit))
}

// Doubt says why what is in force is not what cfg asked for; it is empty when it is.
func (s State) Doubt(cfg Config) string {
	if cfg.Limit.Percent == 0 || s.Limit > 0 {
		return ""
	}
	return fmt.Sprintf("INGESTGW_MEMORY_LIMIT=%s has no effect: it is a share of the container's limit, and none was found; set it to bytes",
		cfg.Limit)
}

// Decide says what New would set. The error is about a container limit that is asked for and cannot be read.
func Decide(cfg Config) (State, error) { return decide(cfg, memlimit.FromCgroup) }

func decide(cfg Config, container memlimit.Provider) (State, error) {
	return around{container: container, goLimit: debug.SetMemoryLimit(-1)}.decide(cfg.GOGC, cfg.Limit)
}

// around is what decides where settings are auto.
type around struct {
	container memlimit.Provider
	// goLimit is what Go has read from GOMEMLIMIT. It can be asked for only until something else is set.
	goLimit int64
}

func (a around) decide(g GOGC, l Limit) (State, error) {
	var s State
	s.GOGC, s.GOGCFrom = decideGOGC(g)
	var err error
	s.Limit, s.LimitFrom, err = a.decideLimit(l)
	return s, err
}

func decideGOGC(g GOGC) (Percent, string) {
	if g != 0 {
		return Percent(g), "INGESTGW_MEMORY_GOGC"
	}
	value := os.Getenv("GOGC")
	if value == "off" {
		return -1, "the variable GOGC"
	}
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		return Percent(max(-1, n)), "the variable GOGC"
	}
	return 100, "Go's default"
}

func (a around) decideLimit(l Limit) (limit int64, from string, err error) {
	if l.Auto {
		if os.Getenv("GOMEMLIMIT") != "" {
			return orZero(a.goLimit), "the variable GOMEMLIMIT", nil
		}
		return shareOfContainer(autoPercent, a.container)
	}
	if l.Percent > 0 {
		return shareOfContainer(l.Percent, a.container)
	}
	return int64(l.Bytes), "INGESTGW_MEMORY_LIMIT", nil
}

func shareOfContainer(percent int, container memlimit.Provider) (limit int64, from string, err error) {
	whole, err := container()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
		return 0, "no limit of the container was found", nil
	case err != nil:
		return 0, "", fmt.Errorf("read the container's memory limit (set INGESTGW_MEMORY_LIMIT to bytes, or to 0 for none): %w", err)
	}
	share, err := memlimit.ApplyRatio(memlimit.Limit(whole), float64(percent)/100)()
	if err != nil {
		return 0, "", fmt.Errorf("take %d%% of the container's memory limit: %w", percent, err)
	}
	from = fmt.Sprintf("%d%% of the container's limit of %s", percent, settings.Bytes(min(whole, math.MaxInt64)))
	return orZero(int64(min(share, math.MaxInt64))), from, nil
}

// Go says "no limit" by math.MaxInt64, State by 0.
func orZero(limit int64) int64 {
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}

func orMax(limit int64) int64 {
	if limit == 0 {
		return math.MaxInt64
	}
	return limit
}

func (s State) gogc() string {
	if s.GOGC < 0 {
		return "off"
	}
	return strconv.Itoa(int(s.GOGC))
}

func (s State) limit() string {
	if s.Limit == 0 {
		return "none"
	}
	return settings.Bytes(s.Limit).String()
}

// String says in one line what it is and why.
func (s State) String() string {
	return fmt.Sprintf("GOGC %s (%s), memory limit %s (%s)", s.gogc(), s.GOGCFrom, s.limit(), s.LimitFrom)
}

// RequestBudget is the most bytes that requests in flight may hold: 40 % of the limit, 256 MiB without one.
func (s State) RequestBudget() int64 { return s.share(requestPercent, requestBytes) }

// ReadAheadBudget is the most bytes that may be read from the buffer ahead of forwarding: 10 % of the limit, 64 MiB without
// one. With the requests' share that leaves half of the limit for everything else.
func (s State) ReadAheadBudget() int64 { return s.share(readAheadPercent, readAheadBytes) }

func (s State) share(percent, without int64) int64 {
	if s.Limit == 0 {
		return without
	}
	return s.Limit / 100 * percent
}
