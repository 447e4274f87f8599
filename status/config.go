package status

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of the listener for operators, read with prefix ADMIN.
type Config struct {
	Listen settings.Address `default:":8482" desc:"Address that serves the page, metrics, health and the API, as host:port; port 0 lets the system choose. Keep it away from senders."`
	Token  struct {
		File string `desc:"File with the token that whoever changes something (memory, reload, invalidate) or asks for profiles has to send, as Authorization: Bearer: one line of at least 16 characters. It is read again when it changes. Empty: such requests are answered on ADMIN_SOCKET only."`
	}
	Socket  string        `desc:"Absolute path of a unix socket that serves the same as ADMIN_LISTEN, and needs no token for anything: only the user that ingestgw runs as (and root) can connect. A socket that a process has left behind is replaced. Empty: there is none."`
	History time.Duration `default:"6h" desc:"How far back the page draws, 10m to 48h, in steps of 10 s. It is kept in memory, about 35 KiB per hour, and begins anew with the process."`
}

const (
	leastHistory = 10 * time.Minute
	mostHistory  = 48 * time.Hour
)

// Validate says everything that is wrong with the settings.
func (c Config) Validate() error {
	var errs []error
	if c.Socket != "" && !filepath.IsAbs(c.Socket) {
		errs = append(errs, fmt.Errorf("INGESTGW_ADMIN_SOCKET=%s: want an absolute path", c.Socket))
	}
	if c.History < leastHistory || c.History > mostHistory {
		errs = append(errs, fmt.Errorf("INGESTGW_ADMIN_HISTORY=%s: want %s to %s", c.History, leastHistory, mostHistory))
	}
	return errors.Join(errs...)
}
