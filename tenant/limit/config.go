package limit

import (
	"errors"
	"fmt"
	"time"
)

// Config is the settings of limits, read with prefix LIMIT.
type Config struct {
	Idle       time.Duration `default:"2h" desc:"How long a tenant that sends nothing is remembered. Its active series of the last hour are part of that."`
	Top        int           `default:"20" unit:"tenants" desc:"How many of the busiest tenants have metrics of their own; the others are counted together as tenant=\"other\". Who has come in stays until the process ends, so that no counter runs backwards: at most eight times as many. Those furthest above their limits have metrics too, at most twice as many: they leave when others are notably worse, and their counters begin at 0 when they come back."`
	ShareEvery time.Duration `default:"2s" split_words:"true" desc:"How often a process tells the others, over Kafka, what its busier tenants use, so that limits hold for all processes together. What is sent to several processes at the same time can exceed a limit for about as long."`
}

// Validate returns all that is wrong, each error naming the setting.
func (c Config) Validate() error {
	var errs []error
	bad := func(setting string, value any, want string) {
		errs = append(errs, fmt.Errorf("INGESTGW_LIMIT_%s=%v: want %s", setting, value, want))
	}
	if least := window + 2*epoch; c.Idle < least {
		bad("IDLE", c.Idle, fmt.Sprintf("at least %v, as active series are those of an hour", least))
	}
	if c.Top < 0 || c.Top > 1000 {
		bad("TOP", c.Top, "0 to 1000")
	}
	if c.ShareEvery < 100*time.Millisecond || c.ShareEvery > time.Minute {
		bad("SHARE_EVERY", c.ShareEvery, "100ms to 1m")
	}
	return errors.Join(errs...)
}
