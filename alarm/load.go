package alarm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// muchMore and muchLess are against what is usual.
	muchMore = 1.3
	muchLess = 0.7
	// goneShare is what is left of what senders sent before when half of them are gone, and littleLoad the samples a second below which nothing is
	// said, as a few senders may come and go.
	goneShare  = 0.5
	littleLoad = 50
	// leastFlood is the samples a second above its limits from which on a tenant floods, if they are more than floodShare of what is within them:
	// somebody is a little above them all the time.
	leastFlood = 10
	floodShare = 0.5
	// topTenants is how many of them are named.
	topTenants = 5
	// Refused credentials are told from leastRefused different ones on if manyRefused of all requests are refused, and from manyCredentials on
	// whatever part that is. From allRefused on it is a page.
	leastRefused    = 3
	manyCredentials = 20
	manyRefused     = 0.2
	allRefused      = 0.5
)

// loadCauses are about those who send.
func loadCauses() []Rule {
	return []Rule{
		{Name: "tenant_flood", Severity: Ticket, After: 15 * time.Second, Until: 2 * time.Minute,
			Means: "Tenants send more than their limits allow. Nobody else is touched.",
			Find:  one(flood)},
		{Name: "offered_load_up", Severity: Ticket, After: 30 * time.Second, Until: 2 * time.Minute,
			Means:    "More is offered than usual, and more than vminserts take.",
			Explains: heldUp, Last: true, Find: one(loadUp)},
		{Name: "capacity_down", Severity: Ticket, After: 30 * time.Second, Until: 2 * time.Minute,
			Means:    "As much is offered as usual, vminserts take less, and nothing says why.",
			Explains: heldUp, Last: true, Find: one(capacityDown)},
		{Name: "senders_gone", Severity: Ticket, After: 3 * time.Minute, Until: 5 * time.Minute,
			Means: "Less than half as many samples come in as in the hour before, and as yesterday at this time.",
			Find:  one(sendersGone)},
		{Name: "credentials_refused", Severity: Ticket, After: 30 * time.Second, Until: 2 * time.Minute,
			Means: "Credentials of many senders are refused (page: in half of all requests).",
			Find:  one(credentialsRefused)},
		{Name: "directory_stale", Severity: Ticket, After: 20 * time.Second, Until: time.Minute,
			Means:    "The directory of tenants does not answer.",
			Explains: []string{sendersRefused}, Find: one(directoryStale)},
		{Name: "jwks_stale", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "The key set for tokens cannot be read.",
			Explains: []string{sendersRefused}, Find: one(keysStale)},
		{Name: "reload_refused", Severity: Ticket, After: 0, Until: 0,
			Means: "The file of tenants was not well when it was last read.",
			Find:  one(reloadRefused)},
	}
}

// flood finds tenants that send more than their limits let in: however many they are, one alarm.
func flood(r *Readings) *Finding {
	var floods []Tenant
	for _, t := range r.Tenants {
		if t.floods() {
			floods = append(floods, t)
		}
	}
	if len(floods) == 0 {
		return nil
	}
	slices.SortFunc(floods, func(a, b Tenant) int {
		return cmp.Or(-cmp.Compare(a.over(), b.over()), strings.Compare(a.Name, b.Name))
	})
	f := &Finding{
		Summary: fmt.Sprintf("%s above the limits: tenant %s sends %s samples a second more than it may. Others are not touched by it.", tenantsSend(len(floods)), floods[0].Name,
			said(floods[0].over(), plain)),
		Next: "Ask the tenant what it has started, or raise its plan's limits if the cluster has room; nothing has to be done for the others.",
	}
	for _, t := range floods[:min(topTenants, len(floods))] {
		f.Evidence = append(f.Evidence, Evidence{Name: "above_limits", Value: t.over(), Unit: perSec, Text: fmt.Sprintf(
			"tenant %s: %s samples a second refused, %s put off to the bulk lane, %s accepted", t.Name, said(t.Refused, plain), said(t.Above, plain), said(t.Accepted, plain))})
	}
	f.Evidence = append(f.Evidence, evidence("flooding_tenants", downstream.Figure(len(floods)), plain, "tenants seen above their limits: %s"))
	return f
}

func tenantsSend(n int) string {
	if n == 1 {
		return "A tenant sends"
	}
	return fmt.Sprintf("%d tenants send", n)
}

// over is what a tenant sends above its limits.
func (t *Tenant) over() downstream.Figure { return downstream.Figure(t.Refused.Or(0) + t.Above.Or(0)) }

func (t *Tenant) floods() bool {
	within := t.Accepted.Or(0) - t.Above.Or(0)
	return t.over() > leastFlood && float64(t.over()) > floodShare*within
}

// loadUp is told when the backlog is there and more comes in than is usual.
func loadUp(r *Readings) *Finding {
	l := &r.Load
	if !(r.Main.Age > lateAge) || r.Main.Shrinking() || !(l.Offered > muchMore*l.Usual) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("Senders offer %s samples a second, %s usual: more than vminserts take.", said(l.Offered, plain), times(l.Offered/l.Usual)),
		Next:     "See which tenants send more (top tenants on the page) and limit them, or add vminserts and vmstorages.",
		Evidence: l.evidence(),
	}
}

// capacityDown is told when the backlog is there, as much comes in as ever, and less is taken.
func capacityDown(r *Readings) *Finding {
	l := &r.Load
	if !(r.Main.Age > lateAge) || r.Main.Shrinking() || !(l.Sent < muchLess*min(l.Usual, l.Offered)) || l.Offered > muchMore*l.Usual {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminserts take %s samples a second, of %s that are offered as usual: the cluster has become slower, and its metrics do not say why.",
			said(l.Sent, plain), said(l.Offered, plain)),
		Next:     "Look at what was changed last in the cluster: versions, flags, machines, who reads from it; then at the network between.",
		Evidence: l.evidence(),
	}
}

func times(f downstream.Figure) string { return fmt.Sprintf("%.1f times what is", float64(f)) }

func (l *Load) evidence() []Evidence {
	return known(
		evidence("offered", l.Offered, perSec, "senders offer %s samples a second"),
		evidence("sent", l.Sent, perSec, "vminserts take %s"),
		evidence("usual", l.Usual, perSec, "usual is %s, the median of the last hour while nothing waited"),
		evidence("yesterday", l.Yesterday, perSec, "at this time yesterday it was %s"))
}

func sendersGone(r *Readings) *Finding {
	l := &r.Load
	if !(l.Before > littleLoad) || !(l.Recent < goneShare*l.Before) || l.Recent >= goneShare*l.Yesterday {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("Senders send %s samples a second to this process, %s of what they sent within the last hour.", said(l.Recent, plain),
			said(l.Recent/l.Before, share)),
		Next: "See whether another ingestgw takes what is missing; if none does, look at the senders, their network and load balancer, and at refused " +
			"requests here.",
		Evidence: append(l.evidence(), evidence("recent", l.Recent, perSec, "in the last two minutes it was %s"),
			evidence("before", l.Before, perSec, "in the last hour it was %s")),
	}
}

func credentialsRefused(r *Readings) *Finding {
	a := &r.Access
	part := a.Refused / (a.Known + a.Refused)
	many := a.Credentials >= manyCredentials || a.Credentials >= leastRefused && part > manyRefused
	if !many || !(a.Refused > 0) {
		return nil
	}
	f := &Finding{
		Summary: fmt.Sprintf("%s credentials are refused, in %s of the requests of senders; Prometheus drops what is refused like that.", said(a.Credentials, plain),
			said(part, share)),
		Next: "See in ingestgw's log why, and what was changed last: the file or directory of tenants, keys of tokens, or a roll-out of credentials to " +
			"senders.",
		Evidence: known(evidence("credentials", a.Credentials, plain, "%s different credentials were refused in the last minute or two"),
			evidence("refused", a.Refused, perSec, "%s requests a second are refused"), evidence("known", a.Known, perSec, "%s a second are known")),
	}
	if part > allRefused {
		f.Severity = Page
	}
	return f
}

func directoryStale(r *Readings) *Finding {
	a := &r.Access
	if !a.DirectoryDown && !(a.StaleFor > 0) {
		return nil
	}
	return &Finding{
		Summary: "The directory of tenants does not answer. Who was known before stays known; new senders and changes wait.",
		Next:    "Look at the service at INGESTGW_TENANT_DIRECTORY_URL; see in ingestgw's log what it answers.",
		Evidence: known(evidence("stale", a.StaleFor, seconds, "answers are used for %s past their time"),
			evidence("unknown", r.Senders.Unknown, perSec, "%s requests a second are refused (503) because their tenant cannot be found out")),
	}
}

func keysStale(r *Readings) *Finding {
	a := &r.Access
	if !a.KeysFailing {
		return nil
	}
	return &Finding{
		Summary:  "The key set for tokens (JWKS) cannot be read. Tokens signed with keys known before stay valid; those of new keys are refused.",
		Next:     "Look at the service at INGESTGW_TENANT_JWT_JWKS_URL; see in ingestgw's log what it answers.",
		Evidence: known(evidence("keys_age", a.KeysAge, seconds, "it was read %s ago")),
	}
}

func reloadRefused(r *Readings) *Finding {
	if !r.Access.ReloadRefused {
		return nil
	}
	return &Finding{
		Summary:  "INGESTGW_TENANT_FILE was not well when it was last read; what it held before is in use.",
		Next:     "See in ingestgw's log which line is wrong, mend it, and reload (SIGHUP or POST /-/reload); `ingestgw check` reads it too.",
		Evidence: []Evidence{fact("reload", "the last reading of the file failed")},
	}
}
