package directory

import (
	"errors"
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of the directory, read with prefix TENANT_DIRECTORY.
type Config struct {
	URL             settings.URL `desc:"Where the directory of tenants is asked whose a credential is, by POST, such as https://tenants.internal/v1/lookup. Required with TENANT_MODE=directory."`
	BearerTokenFile string       `split_words:"true" desc:"File that holds the bearer token by which we authenticate at the directory; read again when it changes. Empty: none."`
	TLS             credentials.TLSConfig
	Timeout         time.Duration `default:"2s" desc:"Longest time in which the directory has to answer, and the longest time that a request with an unknown credential waits for that."`
	Concurrency     int           `default:"32" unit:"questions" desc:"Most questions to the directory at one time. At most half of them, if there are two or more, bring answers up to date that are known already."`
	TTL             time.Duration `default:"5m" desc:"How long an answer is used before the directory is asked again, when the answer itself does not say; up to a tenth less, at random. A sender is never kept waiting for that, the old answer is used meanwhile."`
	MissTTL         time.Duration `split_words:"true" default:"30s" desc:"How long it is remembered that the directory does not know a credential."`
	Stale           time.Duration `default:"24h" desc:"How long an answer is used when the directory cannot be asked again, counted from when it was heard; at most 24h."`
	CacheFile       string        `split_words:"true" desc:"File in which the last good answers survive a restart. It holds hashes of credentials and what the directory said of them, no secrets. Its directory has to exist. Empty: they do not survive."`
	MaxEntries      int           `split_words:"true" default:"200000" unit:"answers" desc:"Most answers that are remembered, about 1 KiB each; the one not used for longest makes room. Have more than credentials are in use."`
}

const (
	prefix    = "INGESTGW_TENANT_DIRECTORY"
	tlsPrefix = prefix + "_TLS"
	// maxStale is the longest time for which an answer may be used after it was heard.
	maxStale = 24 * time.Hour
)

// Validate says everything that is wrong, naming the variables. An empty URL is not wrong: New says that there is none.
func (c Config) Validate() error {
	var errs []error
	bad := func(setting string, value any, want string) {
		errs = append(errs, fmt.Errorf("%s_%s=%v: want %s", prefix, setting, value, want))
	}
	if c.URL.URL != nil && c.URL.Scheme != "http" && c.URL.Scheme != "https" {
		bad("URL", c.URL, "http:// or https://")
	}
	if c.Timeout <= 0 {
		bad("TIMEOUT", c.Timeout, "more than 0")
	}
	if c.Concurrency < 1 {
		bad("CONCURRENCY", c.Concurrency, "at least 1")
	}
	if c.TTL <= 0 {
		bad("TTL", c.TTL, "more than 0")
	}
	if c.MissTTL <= 0 {
		bad("MISS_TTL", c.MissTTL, "more than 0")
	}
	if c.Stale < 0 || c.Stale > maxStale {
		bad("STALE", c.Stale, "0 to 24h")
	}
	if c.MaxEntries < 1 {
		bad("MAX_ENTRIES", c.MaxEntries, "at least 1")
	}
	return errors.Join(append(errs, c.TLS.Validate(tlsPrefix))...)
}
