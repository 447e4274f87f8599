package alarm

import (
	"errors"
	"fmt"
	"time"
)

// Config is the settings of alarms, read with prefix ALARM.
type Config struct {
	Every    time.Duration `default:"5s" desc:"How often it is looked at what may be wrong. 1s to 30s."`
	Patience float64       `default:"1" desc:"What the times are multiplied by for which something has to be seen before it is told, and not seen before it is over: 10 s to a minute for most causes. Less is quicker, and may tell what passes by itself; more is quieter. 0.1 to 10."`
}

const (
	leastEvery, mostEvery       = time.Second, 30 * time.Second
	leastPatience, mostPatience = 0.1, 10
)

// Validate says everything that is wrong, naming the variables.
func (c Config) Validate() error {
	var errs []error
	if c.Every < leastEvery || c.Every > mostEvery {
		errs = append(errs, fmt.Errorf("INGESTGW_ALARM_EVERY=%s: want %s to %s", c.Every, leastEvery, mostEvery))
	}
	if !(c.Patience >= leastPatience && c.Patience <= mostPatience) {
		errs = append(errs, fmt.Errorf("INGESTGW_ALARM_PATIENCE=%v: want %v to %v", c.Patience, leastPatience, mostPatience))
	}
	return errors.Join(errs...)
}
