package buffer

import (
	"errors"
	"fmt"
	"time"
)

// maxLinger keeps a slip of the unit from holding back every answer to senders.
const maxLinger = time.Second

// minAppendTimeout is more than a healthy disk or broker needs.
const minAppendTimeout = time.Second

// Config is the settings of gathering, read with prefix BUFFER.
type Config struct {
	// Linger is how long a block may gather further records while others are on their way. 0 sends it at once.
	Linger time.Duration `default:"5ms" desc:"Longest time that records gather into one block while other blocks are being stored. 0 means each leaves at once, which costs a write per request. A request that comes alone never waits for it."`

	// AppendTimeout is how long a record may take until it is stored, the wait for room included.
	AppendTimeout time.Duration `split_words:"true" default:"15s" desc:"Longest time that a request may wait until it is stored; then it is answered 503. Kafka needs up to broker.session.timeout.ms (9 s by default) to go on without a broker that has died, so keep it longer than that."`
}

// Validate says everything that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	if c.Linger < 0 || c.Linger > maxLinger {
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER_LINGER is %v, want 0 to %v", c.Linger, maxLinger))
	}
	if c.AppendTimeout < minAppendTimeout {
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER_APPEND_TIMEOUT is %v, want %v or more", c.AppendTimeout, minAppendTimeout))
	}
	return errors.Join(errs...)
}
