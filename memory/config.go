package memory

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of garbage collection, read with prefix MEMORY.
type Config struct {
	GOGC  GOGC  `default:"auto" desc:"How much the heap may grow before garbage is collected, in per cent of what was live after the last collection, or off (only the memory limit starts a collection). Small values cost much CPU. auto takes Go's own variable GOGC, or 100."`
	Limit Limit `default:"auto" desc:"Memory that Go tries to stay below by collecting garbage harder: bytes, at least 16MiB, or per cent of the container's limit; 0 is no limit. auto takes Go's own variable GOMEMLIMIT, or 90% of the container's limit, or no limit outside containers. Requests in flight may take 40% of it, 256MiB without a limit."`

	GCMaxShare int           `default:"25" unit:"%" split_words:"true" desc:"Most of the CPU used that garbage collection may cost after GOGC or the limit was changed live. A change that makes it cost more for INGESTGW_MEMORY_GC_MAX_TIME is taken back. 100 takes nothing back."`
	GCMaxTime  time.Duration `default:"30s" split_words:"true" desc:"How long garbage collection may cost more than INGESTGW_MEMORY_GC_MAX_SHARE, and how long under load it has to cost less until a change counts as good. At least 1s."`
}

// leastLimit is what the process takes to do anything at all. Less is a mistake, such as 512 for 512MiB.
const leastLimit = 16 << 20

const leastTime = time.Second

// Validate says everything that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	if err := c.Limit.check(); err != nil {
		errs = append(errs, fmt.Errorf("INGESTGW_MEMORY_LIMIT=%s %w", c.Limit, err))
	}
	if c.GCMaxShare < 1 || c.GCMaxShare > 100 {
		errs = append(errs, fmt.Errorf("INGESTGW_MEMORY_GC_MAX_SHARE=%d: want 1 to 100 per cent", c.GCMaxShare))
	}
	if c.GCMaxTime < leastTime {
		errs = append(errs, fmt.Errorf("INGESTGW_MEMORY_GC_MAX_TIME=%s: want %s or more", c.GCMaxTime, leastTime))
	}
	return errors.Join(errs...)
}

// check says what is wrong with a limit, to be put after its name and value.
func (l Limit) check() error {
	if l.Bytes > 0 && l.Bytes < leastLimit {
		return fmt.Errorf("is %d bytes: want %s or more, written with its unit such as 512MiB; 0 is no limit",
			int64(l.Bytes), settings.Bytes(leastLimit))
	}
	return nil
}

// GOGC is a garbage collection target in per cent; 0 is auto, -1 is off.
type GOGC int

const gogcOff GOGC = -1

// UnmarshalText reads "auto", "off" or a number of per cent from 1 up.
func (g *GOGC) UnmarshalText(text []byte) error {
	switch s := string(text); s {
	case "auto":
		*g = 0
	case "off":
		*g = gogcOff
	default:
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil || n == 0 {
			return fmt.Errorf("%q: want a number of per cent such as 100, off, or auto", s)
		}
		*g = GOGC(n)
	}
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (g GOGC) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// String is "auto", "off" or the number.
func (g GOGC) String() string {
	switch g {
	case 0:
		return "auto"
	case gogcOff:
		return "off"
	default:
		return strconv.Itoa(int(g))
	}
}

// Limit is a memory limit as it is configured. The zero Limit is none; Auto leaves the choice to Go's own variable and the
// container.
type Limit struct {
	Auto bool
	settings.Size
}

// UnmarshalText reads "auto", bytes or per cent.
func (l *Limit) UnmarshalText(text []byte) error {
	if string(text) == "auto" {
		*l = Limit{Auto: true}
		return nil
	}
	l.Auto = false
	return l.Size.UnmarshalText(text)
}

// MarshalText is the inverse of UnmarshalText.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// String is "auto", or the size as settings prints it.
func (l Limit) String() string {
	if l.Auto {
		return "auto"
	}
	return l.Size.String()
}
