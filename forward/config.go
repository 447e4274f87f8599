package forward

import (
	"errors"
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of forwarding, read with prefix FORWARD.
type Config struct {
	URLs settings.URLs `desc:"Where to send, separated by commas: base URLs of vminsert such as http://vminsert-0:8480. Every address that a name resolves to is a node of its own; dns+srv:http://name asks for SRV records. A URL with a path is used with that path as it is, and then tenants are not told apart. Required, unless ROLE=receive."` //nolint:lll // what the operator reads

	ResolveInterval time.Duration `default:"10s" split_words:"true" desc:"How often the names in FORWARD_URLS are resolved again."`

	Concurrency int `default:"8" unit:"requests" desc:"Most requests on their way to one node at one time. A node that has just appeared or failed gets one until it has answered."` //nolint:lll // what the operator reads

	Timeout time.Duration `default:"30s" desc:"How long a node may take to answer one request. A vminsert whose vmstorages are all away does not fail, it hangs; then the record goes to another node."` //nolint:lll // what the operator reads

	ReadAhead settings.Bytes `default:"0" unit:"bytes" split_words:"true" desc:"Most bytes of blocks held in memory between reading and sending. 0 takes a share of the memory limit."`

	Pack bool `default:"true" desc:"Whether records of fewer than 500 samples are sent together, many tenants in one request to /insert/multitenant/, which costs vminsert a fraction of the CPU. false, for clusters where that URL is closed, sends each with its tenant in the URL. Where the URL has a path of its own nothing is packed."` //nolint:lll // what the operator reads

	MaxLabels int `default:"30" unit:"labels" split_words:"true" desc:"The least -maxLabelsPerTimeseries among the vminserts. A record is not packed if a series in it would have more labels together with its tags and the two that name the tenant: vminsert 1.100 leaves the rest of the labels out without a word, newer ones, which allow 40, the series."` //nolint:lll // what the operator reads

	RetryMin time.Duration `default:"100ms" split_words:"true" desc:"How long a node that failed is left alone at first; doubled with each further failure, and jittered."`

	RetryMax time.Duration `default:"30s" split_words:"true" desc:"The longest that a node that fails, or a record that is refused everywhere, is left alone before it is tried again, also when the node's Retry-After asks for longer."` //nolint:lll // what the operator reads

	downstream.ClientConfig
	SettleConfig
}

// Validate returns all that is wrong, each error naming the setting.
func (c Config) Validate() error {
	var errs []error
	bad := func(setting string, value any, want string) {
		errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_%s=%v: want %s", setting, value, want))
	}
	for _, u := range c.URLs {
		if err := downstream.CheckURL(u.URL); err != nil {
			errs = append(errs, fmt.Errorf("INGESTGW_FORWARD_URLS: %w", err))
		}
	}
	if c.ResolveInterval <= 0 {
		bad("RESOLVE_INTERVAL", c.ResolveInterval, "more than 0s")
	}
	if c.Concurrency <= 0 {
		bad("CONCURRENCY", c.Concurrency, "at least 1 request")
	}
	if c.Timeout <= 0 {
		bad("TIMEOUT", c.Timeout, "more than 0s")
	}
	if c.ReadAhead < 0 {
		bad("READ_AHEAD", c.ReadAhead, "0 or more bytes")
	}
	if c.MaxLabels <= 0 {
		bad("MAX_LABELS", c.MaxLabels, "at least 1 label")
	}
	if c.RetryMin <= 0 {
		bad("RETRY_MIN", c.RetryMin, "more than 0s")
	}
	if c.RetryMax < c.RetryMin {
		bad("RETRY_MAX", c.RetryMax, fmt.Sprintf("at least INGESTGW_FORWARD_RETRY_MIN (%v)", c.RetryMin))
	}
	return errors.Join(append(errs, c.ClientConfig.Validate(), c.SettleConfig.Validate())...)
}
