package ingest

import (
	"time"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
)

// A judge decides which series of a message stay. Its memory is used again for the next one.
type judge struct {
	cfg  Config
	out  []bool // by number of the series: it is left out
	next int    // number of the series that leaves asks for
	edit remotewrite.Edit
	view remotewrite.View // the one that is looked at: of a pointer to it an interface is made without allocating
}

// A judgement is what a judge has found.
type judgement struct {
	leftOut int // series
	// tagged: the tags have to be written into the message, where they take the place of the sender's labels of those names. Put
	// on by vminsert they would stand beside those, and there would be too many.
	tagged bool
	why    refusals
}

// changes says whether the message does not stay as it is.
func (j judgement) changes() bool { return j.leftOut > 0 || j.tagged }

// judge decides on the series of p, whose payload is the message as it was sent. entrusted: its sender may name tenants.
func (j *judge) judge(p *part, entrusted bool, received time.Time) (found judgement) {
	profile := p.profile
	j.useTags(p.tags)
	tags := len(j.edit.Tags)
	crowded := p.counts.Labels+tags > j.cfg.MaxLabels
	long := p.counts.LongestName > j.cfg.MaxLabelName || p.counts.LongestValue > j.cfg.MaxLabelValue
	limited := profile.Plan != nil && profile.Plan.ActiveSeries > 0
	forged := !entrusted && p.counts.Reserved > 0 && j.cfg.Reserved == reservedRefuse
	j.out = j.out[:0]
	if !crowded && !long && !limited && !forged && len(profile.Drop) == 0 {
		return found
	}
	found.why.total = p.counts.Series
	for series := range remotewrite.Series(p.payload) {
		j.view = series
		var reason *tally
		switch {
		case j.fits(profile.Drop):
			reason = &found.why.rule
		case forged && j.namesTenant():
			reason = &found.why.forged
		case crowded && j.edit.Labels(j.view) > j.cfg.MaxLabels:
			reason = &found.why.labels
		case long && j.tooLong():
			reason = &found.why.long
		case limited && !p.of.Series(j.view.Hash(), received):
			reason, found.why.full = &found.why.active, profile
		}
		j.out = append(j.out, reason != nil)
		if reason != nil {
			found.leftOut++
			reason.add(j.view)
			continue
		}
		found.tagged = found.tagged || crowded && tags > 0 && j.view.Labels()+tags > j.cfg.MaxLabels
	}
	j.view = nil
	return found
}

func (j *judge) useTags(tags tenant.Tags) {
	j.edit.Tags = j.edit.Tags[:0]
	for name, value := range tags.All() {
		j.edit.Tags = append(j.edit.Tags, remotewrite.Label{Name: name, Value: value})
	}
}

func (j *judge) fits(rules []tenant.Rule) bool {
	for _, r := range rules {
		if r.Fits(&j.view) {
			return true
		}
	}
	return false
}

func (j *judge) tooLong() bool {
	name, value := j.view.Longest()
	return name > j.cfg.MaxLabelName || value > j.cfg.MaxLabelValue
}

func (j *judge) namesTenant() bool {
	for _, name := range tenant.Reserved {
		if j.view.Get(name) != nil {
			return true
		}
	}
	return false
}

// leaves says in the order of the series which of them are left out.
func (j *judge) leaves(remotewrite.View) bool {
	n := j.next
	j.next++
	return n < len(j.out) && j.out[n]
}

// carryOut does to the message of p what was found, and takes out what is reserved. With tags it is made anew in space, which has room
// for it; else it stays in its place.
func (j *judge) carryOut(p *part, found judgement, space []byte) {
	tags := j.edit.Tags
	if found.tagged {
		p.tags = nil
	} else {
		j.edit.Tags, space = nil, p.payload[:0]
	}
	j.next, j.edit.Drop = 0, j.leaves
	message, done := j.edit.Apply(space, p.payload)
	p.payload, p.decoded, p.counts = message, len(message), done.Kept
	j.edit.Tags, j.edit.Drop = tags, nil
}
