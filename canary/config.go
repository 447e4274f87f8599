package canary

import (
	"errors"
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// minEvery and maxEvery keep a slip of the unit from flooding vmselect, or from measuring nothing.
const (
	minEvery = time.Second
	maxEvery = 10 * time.Minute
)

// Config is the settings of the canary, read with prefix CANARY.
type Config struct {
	// Every is the time between two samples. Half of it later they are read back.
	Every time.Duration `default:"10s" desc:"How often a sample of ingestgw's own is written through the buffer, and one to each vminsert. All are looked for at each vmselect half of that time later, so an age of half of it is as good as it gets. There is no canary unless VMSELECT_URLS is set."` //nolint:lll // what the operator reads

	// Tenant is whose series ingestgw_canary is.
	Tenant tenant.ID `default:"0:0" desc:"Tenant of the series ingestgw_canary, as <account>:<project>."`

	// Timeout is how long a write or a read may take. Meanwhile no other one is begun at the same place.
	Timeout time.Duration `default:"10s" desc:"How long a vminsert may take to answer a sample of the canary, the buffer to store one, and a vmselect to answer what can be read."`
}

// Validate says everything that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	if c.Every < minEvery || c.Every > maxEvery {
		errs = append(errs, fmt.Errorf("INGESTGW_CANARY_EVERY=%v: want %v to %v", c.Every, minEvery, maxEvery))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("INGESTGW_CANARY_TIMEOUT=%v: want more than 0s", c.Timeout))
	}
	return errors.Join(errs...)
}
