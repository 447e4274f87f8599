package ingest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/limit"
)

// errRefusedSeries: some series of a request were refused, and the others were stored. They are not to be sent again.
var errRefusedSeries = errors.New("series refused")

// Refusals are series that are left out, by reason.
type refusals struct {
	total   int // series in the request, whatever became of them
	rule    tally
	active  tally
	full    *tenant.Profile // one of those that have active series refused
	labels  tally
	long    tally
	forged  tally // they name a tenant
	invalid invalids
	unnamed tally
	example error // of an unnamed one
	above   tally // of tenants of which nothing is stored, while of others it is
	flood   error // why of one of those
}

type tally struct{ series, samples int }

func (t *tally) add(v remotewrite.View) {
	samples, histograms := v.Samples()
	t.series++
	t.samples += samples + histograms
}

func (t *tally) plus(o tally) {
	t.series += o.series
	t.samples += o.samples
}

// Invalids are series that break a rule of remote-write.
type invalids struct {
	tally
	first error // why the first of them does
}

func (i *invalids) note(v remotewrite.View, why func() *remotewrite.Error) {
	i.add(v)
	if i.first == nil {
		i.first = why()
	}
}

// add counts what was refused elsewhere in the same request.
func (r *refusals) add(o *refusals) {
	r.rule.plus(o.rule)
	r.active.plus(o.active)
	r.labels.plus(o.labels)
	r.long.plus(o.long)
	r.forged.plus(o.forged)
	r.invalid.plus(o.invalid.tally)
	r.unnamed.plus(o.unnamed)
	if r.full == nil {
		r.full = o.full
	}
	if r.invalid.first == nil {
		r.invalid.first = o.invalid.first
	}
}

// series is how many are left out.
func (r *refusals) series() int {
	return r.rule.series + r.active.series + r.labels.series + r.long.series + r.forged.series + r.invalid.series + r.unnamed.series + r.above.series
}

// A refusal is what is refused for one reason.
type refusal struct {
	tally
	reason limit.Reason
	text   string // what the series are or have
}

// own lists what is refused because of the series themselves. What fits a rule was not refused, only dropped.
func (r *refusals) own(cfg Config) (list []refusal) {
	say := func(t tally, reason limit.Reason, one, more, format string, args ...any) {
		verb := one
		if t.series > 1 {
			verb = more
		}
		if t.series > 0 {
			list = append(list, refusal{t, reason, verb + fmt.Sprintf(format, args...)})
		}
	}
	if r.active.series > 0 {
		say(r.active, limit.Series, "would be", "would be", " new, and tenant %s has no room for more within the hour: plan %q allows %d (active_series)",
			nameOf(r.full), r.full.Plan.Name, r.full.Plan.ActiveSeries)
	}
	say(r.labels, limit.Invalid, "has", "have", " more than %d labels, tags included (INGESTGW_INGEST_MAX_LABELS)", cfg.MaxLabels)
	say(r.long, limit.Invalid, "has", "have", " a label whose name is longer than %d bytes (INGESTGW_INGEST_MAX_LABEL_NAME) or whose value is longer "+
		"than %d (INGESTGW_INGEST_MAX_LABEL_VALUE)", cfg.MaxLabelName, cfg.MaxLabelValue)
	say(r.forged, limit.Reserved, "has", "have", " labels that name a tenant (one of %s), which this credential may not do (INGESTGW_INGEST_RESERVED)",
		strings.Join(tenant.Reserved[:], ", "))
	say(r.invalid.tally, limit.Invalid, "breaks a rule", "break rules, the first of them", ": %v", r.invalid.first)
	return list
}

// tell counts what was refused of the series of t, and says why.
func (r *refusals) tell(t *limit.Tenant, received time.Time, cfg Config) {
	if r.series() == 0 {
		return
	}
	if r.rule.series > 0 {
		t.Refused(received, limit.Rule, r.rule.samples, nil)
	}
	for _, one := range r.own(cfg) {
		t.Refused(received, one.reason, one.samples, r.errorOf([]refusal{one}))
	}
}

// err says what was refused, nil when nothing was.
func (r *refusals) err(cfg Config) error {
	if r.series() == r.rule.series {
		return nil
	}
	list := r.own(cfg)
	if r.above.series > 0 {
		list = append(list, refusal{tally: r.above, text: fmt.Sprintf("of tenants that send too much, such as: %v", r.flood)})
	}
	if r.unnamed.series > 0 {
		list = append(list, refusal{tally: r.unnamed, text: fmt.Sprintf("of no tenant that this credential may write for, such as: %v", r.example)})
	}
	return r.errorOf(list)
}

func (r *refusals) errorOf(list []refusal) error {
	if r.total == 1 {
		return fmt.Errorf("%w: the only series of the request %s", errRefusedSeries, list[0].text)
	}
	var texts []string
	for _, one := range list {
		texts = append(texts, fmt.Sprintf("%d %s", one.series, one.text))
	}
	rest := "the others are stored"
	if r.series() == r.total {
		rest = "none is stored"
	}
	return fmt.Errorf("%w: of %d series %s; %s", errRefusedSeries, r.total, strings.Join(texts, ", "), rest)
}

func nameOf(p *tenant.Profile) string {
	if p.Name == "" {
		return p.ID.String()
	}
	return fmt.Sprintf("%s (%q)", p.ID, p.Name)
}
