// Package memory sets GOGC and the memory limit, and hands out the budgets of bytes that the process may hold.
package memory

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"

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

// State is what is in force, and why.
type State struct {
	// Limit is the memory limit in bytes; 0 is none.
	Limit int64
	// LimitFrom says who decided on it, such as "90% of the container's limit of 2GiB".
	LimitFrom string
	// GOGC is in per cent; -1 is off.
	GOGC int
	// GOGCFrom says who decided on it, such as "the variable GOGC".
	GOGCFrom string
}

// Apply decides as Decide does, sets what it decided on, and logs it.
func Apply(cfg Config, log *slog.Logger) (State, error) {
	s, err := Decide(cfg)
	if err != nil {
		return State{}, err
	}
	debug.SetGCPercent(s.GOGC)
	debug.SetMemoryLimit(orMax(s.Limit))
	log.Info("memory settings in force", "gogc", s.gogc(), "gogc_from", s.GOGCFrom, "limit", s.limit(), "limit_from", s.LimitFrom)
	if why := s.Doubt(cfg); why != "" {
		log.Warn(why)
	}
	return s, nil
}

// Doubt says why what is in force is not what cfg asked for; it is empty when it is.
func (s State) Doubt(cfg Config) string {
	if cfg.Limit.Percent == 0 || s.Limit > 0 {
		return ""
	}
	return fmt.Sprintf("INGESTGW_MEMORY_LIMIT=%s has no effect: it is a share of the container's limit, and none was found; set it to bytes",
		cfg.Limit)
}

// Decide says what Apply would set. The error is about a container limit that is asked for and cannot be read.
func Decide(cfg Config) (State, error) { return decide(cfg, memlimit.FromCgroup) }

func decide(cfg Config, container memlimit.Provider) (State, error) {
	var s State
	s.GOGC, s.GOGCFrom = decideGOGC(cfg.GOGC)
	var err error
	s.Limit, s.LimitFrom, err = decideLimit(cfg.Limit, container)
	return s, err
}

func decideGOGC(g GOGC) (int, string) {
	if g != 0 {
		return int(g), "INGESTGW_MEMORY_GOGC"
	}
	value := os.Getenv("GOGC")
	if value == "off" {
		return -1, "the variable GOGC"
	}
	if n, err := strconv.ParseInt(value, 10, 32); err == nil {
		return int(n), "the variable GOGC"
	}
	return 100, "Go's default"
}

func decideLimit(l Limit, container memlimit.Provider) (limit int64, from string, err error) {
	if l.Auto {
		if os.Getenv("GOMEMLIMIT") != "" {
			// Go has read it; asking with -1 changes nothing.
			return orZero(debug.SetMemoryLimit(-1)), "the variable GOMEMLIMIT", nil
		}
		return shareOfContainer(autoPercent, container)
	}
	if l.Percent > 0 {
		return shareOfContainer(l.Percent, container)
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
	return strconv.Itoa(s.GOGC)
}

func (s State) limit() string {
	if s.Limit == 0 {
		return "none"
	}
	return settings.Bytes(s.Limit).String()
}

// String says in one line what is in force and why.
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

// Register shows the state as metrics.
func (s State) Register(reg prometheus.Registerer) {
	gauge := func(name, help string, value float64) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		g.Set(value)
		reg.MustRegister(g)
	}
	gauge("ingestgw_memory_limit_bytes", "Memory that Go tries to stay below (INGESTGW_MEMORY_LIMIT); 0 is no limit.", float64(s.Limit))
	gauge("ingestgw_memory_gogc_percent",
		"Garbage collection target (INGESTGW_MEMORY_GOGC); -1 is off. Small values cost much CPU.", float64(s.GOGC))
}
