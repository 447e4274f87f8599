package access

import (
	"errors"
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// Config is the settings that say who sends, read with prefix TENANT.
type Config struct {
	Mode string `default:"path" desc:"How it is known whose samples a request brings: path believes the URL or the headers AccountID and ProjectID, as vminsert does, which is for trusted networks; file and directory ask for a credential, which the table in TENANT_FILE knows, or an HTTP endpoint at TENANT_DIRECTORY_URL. With directory there may be a TENANT_FILE too, which is looked at first."`

	Default tenant.ID `default:"0:0" desc:"Tenant of requests that name none when TENANT_MODE=path, as <account>:<project>."`

	File string `desc:"YAML file with the tenants, their plans and their credentials. Required with TENANT_MODE=file. It is read again on change, on SIGHUP, and on POST /-/reload; a file with a fault changes nothing. Of many tenants each should stand on one line, as - {\"id\": \"12:3\", …} in JSON: that is read ten times as fast as other YAML."`

	FileInterval time.Duration `default:"5s" split_words:"true" desc:"How often TENANT_FILE is looked at for changes. It is read when it has changed and then has been left alone for as long. 0: only when asked to."`

	FailuresPerMinute int `default:"60" unit:"requests" split_words:"true" desc:"Wrong credentials that a client address (of IPv6, its /64) may send in a minute. From one that sends more, only credentials that have been right before are looked at; others get 503 until it stops. Behind a proxy all senders have one address. 0: any number."`
}

// Values of Config.Mode.
const (
	ModePath      = "path"
	ModeFile      = "file"
	ModeDirectory = "directory"
)

// Validate returns all that is wrong, each error naming the setting.
func (c Config) Validate() error {
	var errs []error
	switch {
	case c.Mode != ModePath && c.Mode != ModeFile && c.Mode != ModeDirectory:
		errs = append(errs, fmt.Errorf("INGESTGW_TENANT_MODE=%s: want %s, %s or %s", c.Mode, ModePath, ModeFile, ModeDirectory))
	case c.Mode == ModeFile && c.File == "":
		errs = append(errs, errors.New("INGESTGW_TENANT_FILE is empty, and INGESTGW_TENANT_MODE=file: want the name of a file with tenants"))
	case c.Mode == ModePath && c.File != "":
		errs = append(errs, fmt.Errorf("INGESTGW_TENANT_FILE=%s is not looked at with INGESTGW_TENANT_MODE=path, which believes everybody: "+
			"set INGESTGW_TENANT_MODE=file", c.File))
	}
	if c.FileInterval < 0 {
		errs = append(errs, fmt.Errorf("INGESTGW_TENANT_FILE_INTERVAL=%v: want 0s or more", c.FileInterval))
	}
	if c.FailuresPerMinute < 0 {
		errs = append(errs, fmt.Errorf("INGESTGW_TENANT_FAILURES_PER_MINUTE=%d: want 0 or more", c.FailuresPerMinute))
	}
	return errors.Join(errs...)
}
