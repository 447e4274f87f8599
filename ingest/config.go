package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// Config is the settings of the listener that senders talk to, read with prefix INGEST.
type Config struct {
	Listen settings.Address `default:":8480" desc:"Address to accept remote-write on, as host:port; port 0 lets the system choose."`

	MaxBody settings.Bytes `default:"16MiB" unit:"bytes" split_words:"true" desc:"Largest request body as sent. Larger ones are refused with 400."`

	MaxDecoded settings.Bytes `default:"32MiB" unit:"bytes" split_words:"true" desc:"Largest request once decompressed. Above vminsert's -maxInsertRequestSize (32 MiB by default) vminsert would refuse it later. Larger ones are refused with 400."`

	MaxSeries int `default:"100000" unit:"series" split_words:"true" desc:"Most series in one request. Larger ones are refused with 400."`

	MaxExpanded settings.Bytes `default:"256MiB" unit:"bytes" split_words:"true" desc:"Most memory that VictoriaMetrics may need to decode one request: native histograms become a series per bucket there, so that 20 KB can ask for 638 MB. Larger ones are refused with 400."`

	ReadTimeout time.Duration `default:"30s" split_words:"true" desc:"How long a sender may take for the headers of a request, and as long again for its body. One whose body takes longer gets 503; one whose headers do is disconnected."`

	ConnMaxAge time.Duration `default:"2m" split_words:"true" desc:"Age at which a connection is closed after its next answer, give or take 10 %, so that keep-alive senders spread over processes. 0 keeps connections."`

	MaxLabels int `default:"40" unit:"labels" split_words:"true" desc:"Most labels of a series, the metric name and the tenant's tags included. vminsert drops series with more than its -maxLabelsPerTimeseries (40, in older versions 30), or cuts them, and answers 2xx: set both alike. Here such series are refused with 400, and the others of the request are stored."`

	MaxLabelName int `default:"256" unit:"bytes" split_words:"true" desc:"Longest name of a label; vminsert's -maxLabelNameLen. Series with longer ones are refused as those with too many labels are."`

	MaxLabelValue int `default:"4096" unit:"bytes" split_words:"true" desc:"Longest value of a label; vminsert's -maxLabelValueLen. Series with longer ones are refused as those with too many labels are."`

	Reserved string `default:"strip" desc:"What becomes of the labels by which vminsert would take a series for another tenant's (vm_account_id, vm_project_id, VictoriaMetrics_AccountID, VictoriaMetrics_ProjectID), where a sender may not name tenants: strip takes them out of the series, refuse refuses the series with 400 and stores the others of the request. Out of metadata they are taken in both cases."`

	TLS credentials.ListenerConfig

	Discarded bool `default:"true" desc:"Whether each tenant finds in its own account how many of its samples were refused or dropped, and why: ingest_discarded_samples_total{reason, gateway}, every 30 s, in totals since the process started or the tenant was idle for LIMIT_IDLE. Tenants of whose samples none were have no such series."`

	Gateway string `desc:"Value of the label gateway of those series; each process needs another one. Empty: the name of the host."`

	LabelNames string `default:"utf8" split_words:"true" desc:"Which label names are valid: utf8 (any, as Prometheus 3 sends them) or legacy ([a-zA-Z_][a-zA-Z0-9_]*, and : in metric names)."`
}

// Largest is the most bytes of the budget that one request can take, rounded up to whole MiB: its body and the copy in its
// block, the message, and the space to compress that anew.
func (c Config) Largest() int64 {
	body := room(int(c.MaxBody) + 1) // the byte by which a chunked one is seen to end
	n := heldTwice*int64(body) + int64(c.MaxDecoded) + int64(snappy.MaxEncodedLen(int(c.MaxDecoded)))
	return (n + 1<<20 - 1) &^ (1<<20 - 1)
}

// TLSPrefix is what the names of the variables in Config.TLS begin with.
const TLSPrefix = "INGESTGW_INGEST_TLS"

// Values of Config.LabelNames.
const (
	namesUTF8   = "utf8"
	namesLegacy = "legacy"
)

// Values of Config.Reserved.
const (
	reservedStrip  = "strip"
	reservedRefuse = "refuse"
)

// Validate returns all that is wrong, each error naming the setting.
func (c Config) Validate() error {
	var errs []error
	bad := func(setting string, value any, want string) {
		errs = append(errs, fmt.Errorf("INGESTGW_INGEST_%s=%v: want %s", setting, value, want))
	}
	if c.MaxBody <= 0 {
		bad("MAX_BODY", c.MaxBody, "more than 0 bytes")
	}
	if c.MaxDecoded <= 0 {
		bad("MAX_DECODED", c.MaxDecoded, "more than 0 bytes")
	}
	if c.MaxSeries <= 0 {
		bad("MAX_SERIES", c.MaxSeries, "more than 0 series")
	}
	if c.MaxExpanded <= 0 {
		bad("MAX_EXPANDED", c.MaxExpanded, "more than 0 bytes")
	}
	if c.MaxLabels <= 0 {
		bad("MAX_LABELS", c.MaxLabels, "more than 0 labels")
	}
	if c.MaxLabelName <= 0 {
		bad("MAX_LABEL_NAME", c.MaxLabelName, "more than 0 bytes")
	}
	if c.MaxLabelValue <= 0 {
		bad("MAX_LABEL_VALUE", c.MaxLabelValue, "more than 0 bytes")
	}
	if c.ReadTimeout <= 0 {
		bad("READ_TIMEOUT", c.ReadTimeout, "more than 0s")
	}
	if c.ConnMaxAge < 0 {
		bad("CONN_MAX_AGE", c.ConnMaxAge, "0s or more")
	}
	if c.LabelNames != namesUTF8 && c.LabelNames != namesLegacy {
		bad("LABEL_NAMES", c.LabelNames, "utf8 or legacy")
	}
	if c.Reserved != reservedStrip && c.Reserved != reservedRefuse {
		bad("RESERVED", c.Reserved, "strip or refuse")
	}
	return errors.Join(append(errs, c.TLS.Validate(TLSPrefix))...)
}
