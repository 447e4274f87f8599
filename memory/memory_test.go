package memory

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/settings"
)

func none() (uint64, error) { return 0, memlimit.ErrNoLimit }

func auto(t *testing.T) Config {
	t.Helper()
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	return Config{Limit: Limit{Auto: true}, GCMaxShare: 25, GCMaxTime: 30 * time.Second}
}

func TestAutoTakesNinetyPercentOfTheContainer(t *testing.T) {
	s, err := decide(auto(t), memlimit.Limit(2<<30))
	if err != nil {
		t.Fatal(err)
	}
	want := "GOGC 100 (Go's default), memory limit 1932735283 (90% of the container's limit of 2GiB)"
	if s.String() != want {
		t.Errorf("state %s, want %s", s, want)
	}
	if s.RequestBudget() != 773094080 || s.ReadAheadBudget() != 193273520 {
		t.Errorf("budgets %d and %d", s.RequestBudget(), s.ReadAheadBudget())
	}
}

func TestNoContainerMeansNoLimit(t *testing.T) {
	for _, err := range []error{memlimit.ErrNoLimit, memlimit.ErrNoCgroup, memlimit.ErrCgroupsNotSupported} {
		for _, limit := range []Limit{{Auto: true}, {Size: settings.Size{Percent: 50}}} {
			cfg := auto(t)
			cfg.Limit = limit
			s, derr := decide(cfg, func() (uint64, error) { return 0, err })
			if derr != nil || s.Limit != 0 || s.RequestBudget() != 256<<20 || s.ReadAheadBudget() != 64<<20 {
				t.Errorf("%v with %v: %+v, %v", limit, err, s, derr)
			}
		}
	}
}

func TestAShareOfNoLimitIsDoubted(t *testing.T) {
	for _, c := range []struct {
		limit     Limit
		container memlimit.Provider
		doubted   bool
	}{
		{Limit{Size: settings.Size{Percent: 50}}, none, true},
		{Limit{Size: settings.Size{Percent: 50}}, memlimit.Limit(2 << 30), false},
		{Limit{Size: settings.Size{Bytes: 1 << 30}}, none, false},
		{Limit{Auto: true}, none, false},
		{Limit{}, none, false},
	} {
		cfg := auto(t)
		cfg.Limit = c.limit
		s, err := decide(cfg, c.container)
		if why := s.Doubt(cfg); err != nil || (why != "") != c.doubted || c.doubted && !strings.Contains(why, "INGESTGW_MEMORY_LIMIT=50%") {
			t.Errorf("%s: in force %v, %v; doubt %q", c.limit, s, err, why)
		}
	}
}

func TestALimitWithoutItsUnitIsRefused(t *testing.T) {
	for text, ok := range map[string]bool{"1": false, "512": false, "16777215": false, "16MiB": true, "512MiB": true, "0": true, "auto": true, "1%": true} {
		var cfg Config
		if err := cfg.Limit.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		cfg.GCMaxShare, cfg.GCMaxTime = 25, 30*time.Second
		err := cfg.Validate()
		if (err == nil) != ok {
			t.Errorf("INGESTGW_MEMORY_LIMIT=%s: %v", text, err)
		}
		if !ok && !strings.Contains(err.Error(), "INGESTGW_MEMORY_LIMIT="+(settings.Size{Bytes: cfg.Limit.Bytes}).String()) {
			t.Errorf("INGESTGW_MEMORY_LIMIT=%s: %v", text, err)
		}
	}
}

func TestAContainerThatCannotBeReadIsAnError(t *testing.T) {
	broken := errors.New("input/output error")
	_, err := decide(auto(t), func() (uint64, error) { return 0, broken })
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "INGESTGW_MEMORY_LIMIT") {
		t.Errorf("error %v", err)
	}
}

func TestGoVariablesHoldWhenOursAreAuto(t *testing.T) {
	cfg := auto(t)
	before := debug.SetMemoryLimit(123 << 20) // as Go does at start for GOMEMLIMIT
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	t.Setenv("GOGC", "37")
	t.Setenv("GOMEMLIMIT", "123MiB")
	s, err := decide(cfg, memlimit.Limit(2<<30))
	if err != nil {
		t.Fatal(err)
	}
	if want := "GOGC 37 (the variable GOGC), memory limit 123MiB (the variable GOMEMLIMIT)"; s.String() != want {
		t.Errorf("state %s, want %s", s, want)
	}
	t.Setenv("GOGC", "off")
	if s, _ := decide(cfg, none); s.GOGC != -1 {
		t.Errorf("GOGC=off is taken for %d", s.GOGC)
	}
}

func TestOurSettingsWinOverGoVariables(t *testing.T) {
	cfg := auto(t)
	t.Setenv("GOGC", "37")
	t.Setenv("GOMEMLIMIT", "123MiB")
	cfg.GOGC = 50
	cfg.Limit = Limit{Size: settings.Size{Bytes: 1 << 30}}
	s, err := decide(cfg, memlimit.Limit(2<<30))
	if err != nil {
		t.Fatal(err)
	}
	if want := "GOGC 50 (INGESTGW_MEMORY_GOGC), memory limit 1GiB (INGESTGW_MEMORY_LIMIT)"; s.String() != want {
		t.Errorf("state %s, want %s", s, want)
	}
	cfg.Limit = Limit{Size: settings.Size{Percent: 50}}
	if s, _ := decide(cfg, memlimit.Limit(2<<30)); s.Limit != 1<<30 {
		t.Errorf("half of 2GiB is taken for %d", s.Limit)
	}
}

func TestNewSetsWhatItSays(t *testing.T) {
	gogc, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetGCPercent(gogc); debug.SetMemoryLimit(limit) })
	cfg := auto(t)
	cfg.GOGC, cfg.Limit = 73, Limit{Size: settings.Size{Bytes: 3 << 30}}
	var logged bytes.Buffer
	if _, err := New(cfg, slog.New(slog.NewTextHandler(&logged, nil)), prometheus.NewPedanticRegistry()); err != nil {
		t.Fatal(err)
	}
	if got := debug.SetMemoryLimit(-1); got != 3<<30 {
		t.Errorf("memory limit %d in force", got)
	}
	if got := debug.SetGCPercent(73); got != 73 {
		t.Errorf("GOGC %d in force", got)
	}
	for _, want := range []string{"gogc=73", "gogc_from=INGESTGW_MEMORY_GOGC", "limit=3GiB", "limit_from=INGESTGW_MEMORY_LIMIT"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("%q is not logged: %s", want, logged.String())
		}
	}

	cfg.GOGC, cfg.Limit = gogcOff, Limit{}
	if _, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewPedanticRegistry()); err != nil {
		t.Fatal(err)
	}
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("memory limit %d in force, want none", got)
	}
	if got := debug.SetGCPercent(100); got != -1 {
		t.Errorf("GOGC %d in force, want off", got)
	}
}

func TestSettingsAreReadAndPrinted(t *testing.T) {
	for text, want := range map[string]GOGC{"auto": 0, "off": -1, "100": 100, "1": 1} {
		var g GOGC
		if err := g.UnmarshalText([]byte(text)); err != nil || g != want || g.String() != text {
			t.Errorf("GOGC %q is read as %d and printed %s, %v", text, int(g), g, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "on", "50%"} {
		var g GOGC
		if err := g.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("GOGC %q is read as %d", text, int(g))
		}
	}
	for text, want := range map[string]Limit{
		"auto": {Auto: true}, "0": {}, "2GiB": {Size: settings.Size{Bytes: 2 << 30}}, "80%": {Size: settings.Size{Percent: 80}},
	} {
		l := Limit{Auto: true}
		if err := l.UnmarshalText([]byte(text)); err != nil || l != want || l.String() != text {
			t.Errorf("limit %q is read as %+v and printed %s, %v", text, l, l, err)
		}
	}
}
