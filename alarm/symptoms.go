package alarm

import (
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// Names of symptoms: what is noticed of something that is wrong, whatever it is.
const (
	backlogGrowing   = "backlog_growing"
	backlogOld       = "backlog_old"
	neverDrains      = "never_drains"
	bufferNearlyFull = "buffer_nearly_full"
	sendersRefused   = "senders_refused"
	notSettling      = "not_settling"
	canaryNotSeen    = "canary_not_seen"
	notReadable      = "not_readable"
)

const (
	// lateAge is the age of the oldest unsent sample of the main lane, in seconds, from which on it is late: then the newest ones go first, and
	// what waits is a backlog.
	lateAge = 20
	// oldAge is that from which on it is old.
	oldAge = 120
	// fullShare is the part of its quota from which on a lane is nearly full.
	fullShare = 0.75
	// refusedShare is the part of all requests of senders that may be refused without anybody noticing.
	refusedShare = 0.01
	// unsettledAge is how long a block may be unsettled, in seconds: restarts of servers put it off by 5 min at most.
	unsettledAge = 600
	// unseenAge is the age of the newest readable sample, in seconds, from which on fresh data is not there; and how many samples of the canary
	// have to have been missed.
	unseenAge   = 45
	unseenCount = 3
)

// symptoms are all of them. That something is late is said of the main lane only: bulk is for what may be.
func symptoms() []Rule {
	page := func(name, means string, after time.Duration, find func(*Readings) *Finding) Rule {
		return Rule{Name: name, Means: means, Severity: Page, After: after, Until: time.Minute, Find: func(r *Readings) []Finding {
			if f := find(r); f != nil {
				return []Finding{*f}
			}
			return nil
		}}
	}
	return []Rule{
		page(backlogGrowing, "The oldest unsent sample of the main lane is older than 20 s, and more comes in than is sent.", 15*time.Second, growing),
		page(backlogOld, "The oldest unsent sample of the main lane is older than 2 min, and the backlog does not shrink.", 0, old),
		page(neverDrains, "The time until the backlog is gone is infinite.", 15*time.Second, never),
		page(bufferNearlyFull, "The main lane takes more than three quarters of its part of the disk.", 0, nearlyFull),
		page(sendersRefused, "More than 1 % of the requests of senders get 503 through no fault of theirs.", 10*time.Second, refused),
		page(notSettling, "What was sent 10 min ago is still not known to be on a vmstorage's disk.", 0, unsettled),
		page(notReadable, "No vmselect answers, so that nothing can be read.", 0, unreadable),
		page(canaryNotSeen, "The freshest sample of the canary that can be read is older than 45 s.", 0, unseen),
	}
}

func growing(r *Readings) *Finding {
	b := &r.Main
	if !(b.Age > lateAge) || !b.Growing() {
		return nil
	}
	return &Finding{Summary: "The backlog grows: more comes in than vminserts take.", Evidence: known(
		evidence("backlog_age", b.Age, seconds, "the oldest unsent sample was received %s ago"),
		evidence("backlog_bytes", b.Bytes, size, "about %s wait"),
		evidence("arriving", b.Arriving, perSec, "%s blocks a second come in"),
		evidence("sent", b.Sent, perSec, "%s blocks a second are sent"))}
}

func old(r *Readings) *Finding {
	b := &r.Main
	if !(b.Age > oldAge) || b.Shrinking() {
		return nil
	}
	return &Finding{Summary: fmt.Sprintf("The oldest unsent sample was received %s ago, and the backlog does not get less.", said(b.Age, seconds)),
		Evidence: known(evidence("backlog_age", b.Age, seconds, "the oldest unsent sample was received %s ago"))}
}

func never(r *Readings) *Finding {
	b := &r.Main
	if !(b.Age > lateAge) || !(b.Drain > 1e12) { // infinite, or as good as
		return nil
	}
	return &Finding{Summary: "The backlog will never be gone as it is now: no more is sent than comes in.",
		Evidence: known(evidence("time_to_drain", b.Drain, seconds, "at the rates of the last minute the backlog is gone: %s"))}
}

func nearlyFull(r *Readings) *Finding {
	d := r.Disk
	if d == nil || !(d.Main > fullShare*d.MainQuota) {
		return nil
	}
	left := d.MainQuota - d.Main
	f := &Finding{Summary: fmt.Sprintf("The buffer is nearly full: %s of %s are taken. When it is full, senders get 503.", said(d.Main, size), said(d.MainQuota, size)),
		Evidence: known(evidence("buffer_taken", d.Main, size, "the main lane takes %s"), evidence("buffer_quota", d.MainQuota, size, "of the %s that it may take"))}
	if d.Fills > 0 && left > 0 {
		f.Evidence = append(f.Evidence, evidence("buffer_full_in", left/d.Fills, seconds, "at the present rate it is full in %s"))
	}
	return f
}

func refused(r *Readings) *Finding {
	s := &r.Senders
	if !(s.refused() > refusedShare*s.All) {
		return nil
	}
	return &Finding{Summary: fmt.Sprintf("%s of the requests of senders are refused (503) through no fault of theirs.", said(s.refused()/s.All, share)),
		Evidence: evident(
			evidence("refused_full", s.Full, perSec, "%s a second because the buffer is full"),
			evidence("refused_unavailable", s.Unavailable, perSec, "%s a second because the buffer does not store"),
			evidence("refused_memory", s.Spent, perSec, "%s a second because the memory for requests is spent"),
			evidence("refused_unknown", s.Unknown, perSec, "%s a second because it cannot be found out whose they are"),
			evidence("refused_internal", s.Broken, perSec, "%s a second for internal errors"))}
}

// evident leaves out what is 0 or not known.
func evident(all ...Evidence) []Evidence {
	var kept []Evidence
	for _, e := range all {
		if e.Value > 0 {
			kept = append(kept, e)
		}
	}
	return kept
}

func unsettled(r *Readings) *Finding {
	if !(r.Unsettled > unsettledAge) {
		return nil
	}
	return &Finding{Summary: fmt.Sprintf("What was sent %s ago is still not known to be on a vmstorage's disk: it is kept, and takes room in the buffer.", said(r.Unsettled, seconds)),
		Evidence: []Evidence{evidence("unsettled", r.Unsettled, seconds, "the oldest block that is not known to be safe was sent %s ago")}}
}

func unseen(r *Readings) *Finding {
	c := r.Canary
	if c == nil || !(c.Age > unseenAge) || !(c.Age > unseenCount*c.Every) {
		return nil
	}
	f := &Finding{Summary: fmt.Sprintf("The freshest sample that can be read is %s old.", said(c.Age, seconds)),
		Evidence: []Evidence{evidence("canary_age", c.Age, seconds, "the canary's newest sample that can be read is %s old")}}
	if c.WriteError != "" {
		f.Evidence = append(f.Evidence, fact("canary_write", "the buffer does not take the canary's samples: %s", c.WriteError))
	}
	return f
}

func unreadable(r *Readings) *Finding {
	if r.Canary == nil || len(r.Canary.Selects) == 0 {
		return nil
	}
	for _, failure := range r.Canary.Selects {
		if failure == "" {
			return nil
		}
	}
	return &Finding{Summary: "No vmselect answers: nothing can be read.",
		Evidence: []Evidence{evidence("vmselects", downstream.Figure(len(r.Canary.Selects)), plain, "none of %s vmselects answers")}}
}

// nothingFound is what is said of symptoms that no cause explains: what was looked at, so that nobody has to look there again.
func (r *Readings) nothingFound(signs []*state) Finding {
	worst := signs[0]
	for _, s := range signs {
		if s.severity == Page && worst.severity != Page {
			worst = s
		}
	}
	f := Finding{Summary: worst.finding.Summary + " None of the known causes is seen.",
		Next: "Look at the vminserts and vmstorages on ingestgw's page: which one is slower than before, and what was changed last? Then at the network " +
			"between."}
	well, unread := 0, 0
	for i := range r.Servers {
		if r.Servers[i].Health == downstream.HealthGood {
			well++
			continue
		}
		unread++
	}
	f.Evidence = []Evidence{fact("looked_at", "looked at: the metrics of %d vminserts and vmstorages, %d of which can be read; none of those is short of CPU, "+
		"bound by garbage collection, or held up by a storage", well+unread, well)}
	if len(r.Servers) == 0 {
		f.Evidence = []Evidence{fact("looked_at", "the metrics of vminserts and vmstorages are not watched (INGESTGW_FORWARD_WATCH, INGESTGW_FORWARD_URLS), so "+
			"that their trouble cannot be seen")}
	}
	return f
}
