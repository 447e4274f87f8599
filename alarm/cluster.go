package alarm

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	network          = "vminsert_network"
	droppedByCluster = "dropped_by_cluster"
)

const (
	// theirPart is how much of our latency a vminsert's own must explain for the way to it not to be the reason.
	theirPart = 0.25
)

// clusterCauses are about the ways between servers, and about the cluster as a whole.
func clusterCauses() []Rule {
	return []Rule{
		{Name: network, Severity: Ticket, After: 20 * time.Second, Until: time.Minute,
			Means:    "Requests to a vminsert fail or take long on the way: network, proxy, firewall.",
			Explains: heldUp, Covers: []string{"vminsert_slow"}, Find: each(wayTo)},
		{Name: "vmstorage_network", Severity: Ticket, After: 20 * time.Second, Until: time.Minute,
			Means:    "Some vminserts cannot reach a vmstorage that others reach.",
			Explains: heldUp, Covers: []string{"vminsert_slow"}, Find: eachStorage(waysDiffer)},
		{Name: "dns", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "Names of vminserts or vmstorages cannot be looked up.",
			Explains: heldUp,
			Covers:   []string{"vminsert_unreachable", network, "settled_by_clock"}, Find: one(names)},
		{Name: "upgrade_half_done", Severity: Ticket, After: 20 * time.Second, Until: 2 * time.Minute,
			Means:    "vminserts and vmstorages do not understand each other.",
			Explains: heldUp,
			Covers:   []string{"vmstorage_unreachable", "vminsert_hanging", network}, Find: one(halfDone)},
		{Name: "mixed_versions", Severity: Ticket, After: 3 * time.Hour, Until: 5 * time.Minute,
			Means: "Servers of one kind run different versions for hours.",
			Find:  one(mixed)},
		{Name: droppedByCluster, Severity: Page, After: 15 * time.Second, Until: 5 * time.Minute,
			Means: "A vminsert or vmstorage throws rows away after it has answered 2xx.",
			Find:  dropped},
		{Name: "clock_skew", Severity: Ticket, After: time.Minute, Until: 5 * time.Minute,
			Means:  "The clock of a server, or of this machine, is wrong by more than 10 s.",
			Covers: []string{"vmstorage_desynchronised"}, Find: skew},
		{Name: "read_path", Severity: Ticket, After: 20 * time.Second, Until: time.Minute,
			Means:    "vmselects do not answer (page: none does). Ingestion may be well.",
			Explains: []string{canaryNotSeen, notReadable}, Find: readPath},
	}
}

// waysDiffer finds that some vminserts reach a vmstorage and others do not.
func waysDiffer(_ *Readings, s *downstream.StorageView) *Finding {
	if s.Unreachable == 0 || s.Unreachable == s.Seen {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%d of %d vminserts cannot reach vmstorage %s, the others can: the network between them is broken.", s.Unreachable, s.Seen, s.Storage),
		Next:     "Look at the network (policies, routes, DNS) between " + firstFew(s.UnreachableFrom) + " and this vmstorage.",
		Evidence: storageTroubles(s),
	}
}

// wayTo finds that our requests take long, or fail, while the vminsert at the other end says otherwise.
func wayTo(i *insert) *Finding {
	if i.node == nil || i.own == nil || i.own.Health != downstream.HealthGood || i.own.Insert == nil {
		return nil
	}
	theirs := i.own.Insert.RequestSeconds
	switch {
	case i.node.failing() && i.node.Unreachable > 0:
		return &Finding{Summary: fmt.Sprintf("Connections to vminsert %s break or fail, though it runs and answers for its metrics.", i.name),
			Next: "Look at what stands between: a proxy, a firewall, a service mesh, connection limits.", Evidence: i.troubles()}
	case i.node.Stuck:
		return &Finding{Summary: fmt.Sprintf("Requests to vminsert %s are not answered, though it runs and answers for its metrics.", i.name),
			Next: "Look at what stands between (a proxy that hangs?), and at its own log and its vm_concurrent_insert_current.", Evidence: i.troubles()}
	case i.node.Seconds > slowAnswer && theirs < theirPart*i.node.Seconds && !i.own.CPU.Short:
		return &Finding{Summary: fmt.Sprintf("Requests to vminsert %s take %s, of which it spends only %s: the rest is lost on the way.", i.name, said(i.node.Seconds, seconds), said(theirs, seconds)),
			Next: "Look at the network and at proxies between ingestgw and this vminsert: packet loss, bandwidth, a proxy that buffers.",
			Evidence: append([]Evidence{evidence("our_seconds", i.node.Seconds, seconds, "a request takes %s for us"),
				evidence("their_seconds", theirs, seconds, "it takes %s for vminsert")}, i.troubles()...)}
	}
	return nil
}

func names(r *Readings) *Finding {
	if len(r.Lookups) == 0 {
		return nil
	}
	one := r.Lookups[0] // one of which nothing is known, if there is
	for _, l := range r.Lookups {
		if !l.Known {
			one = l
			break
		}
	}
	f := &Finding{Summary: fmt.Sprintf("The name %s cannot be looked up (%s); the addresses known before stay in use.", one.Name, one.Error),
		Next: "Look at DNS, and at the names in INGESTGW_FORWARD_URLS, INGESTGW_FORWARD_STORAGE_URLS and INGESTGW_VMSELECT_URLS."}
	if !one.Known {
		f.Summary = fmt.Sprintf("The name %s cannot be looked up (%s), and no address of it is known: nothing that has this name can be reached.", one.Name, one.Error)
	}
	for _, l := range r.Lookups[:min(named, len(r.Lookups))] {
		f.Evidence = append(f.Evidence, fact("lookup", "%s: %s", l.Name, l.Error))
	}
	return f
}

// halfDone finds vminserts and vmstorages that do not understand each other. That handshakes fail is not enough: they do with a storage
// that hangs, too.
func halfDone(r *Readings) *Finding {
	var handshakes, unsupported float64
	var between []string
	for i := range r.Storages {
		w := &r.Storages[i].Sum
		h, u := w.HandshakeErrors.Or(0), w.DroppedOnUnsupported.Or(0)
		if own := r.Storages[i].Own; own != nil && own.Health != downstream.HealthGood {
			h = 0
		}
		if h+u > 0 {
			handshakes, unsupported = handshakes+h, unsupported+u
			between = append(between, r.Storages[i].Storage)
		}
	}
	if len(between) == 0 || unsupported == 0 && !differ(r) {
		return nil
	}
	f := &Finding{Summary: "vminserts and vmstorages do not understand each other: an upgrade is half done (handshakes fail).",
		Next: "Finish the upgrade: vmstorages first, then vminserts; or take the newer ones back. Storages concerned: " + firstFew(between) + ".",
		Evidence: append(evident(evidence("handshake_errors", downstream.Figure(handshakes), perSec, "%s handshakes a second fail"),
			evidence("dropped_unsupported", downstream.Figure(unsupported), perSec, "%s rows a second are thrown away because a vmstorage does not know the call")),
			fact("versions", "versions: %s", versions(r)))}
	if unsupported > 0 {
		f.Severity = Page
		f.Summary = "vminserts throw rows away because vmstorages are older than they are: an upgrade is half done."
	}
	return f
}

func mixed(r *Readings) *Finding {
	for _, kind := range []downstream.Kind{downstream.VMInsert, downstream.VMStorage} {
		if len(versionsOf(r, kind)) > 1 {
			return &Finding{Summary: "Servers of one kind have been running different versions for hours: an upgrade was not finished.",
				Next:     "Finish the upgrade, or take it back.",
				Evidence: []Evidence{fact("versions", "versions: %s", versions(r))}}
		}
	}
	return nil
}

// differ says whether the servers are known to be of more than one version.
func differ(r *Readings) bool {
	all := append(versionsOf(r, downstream.VMInsert), versionsOf(r, downstream.VMStorage)...)
	slices.Sort(all)
	return len(slices.Compact(all)) > 1
}

// versionsOf are the versions of the servers of a kind, sorted.
func versionsOf(r *Readings, kind downstream.Kind) []string {
	var all []string
	for i := range r.Servers {
		if v := &r.Servers[i]; v.Kind == kind && v.Version.Text != "" && !slices.Contains(all, v.Version.Text) {
			all = append(all, v.Version.Text)
		}
	}
	slices.Sort(all)
	return all
}

func versions(r *Readings) string {
	said := func(kind downstream.Kind) string {
		if all := versionsOf(r, kind); len(all) > 0 {
			return strings.Join(all, ", ")
		}
		return "not known"
	}
	return fmt.Sprintf("vminsert %s; vmstorage %s", said(downstream.VMInsert), said(downstream.VMStorage))
}

// A loss is a way in which the cluster throws rows away after its 2xx.
type loss struct {
	reason   string
	severity Severity
	what     string // "%s rows a second …"
	next     string
}

// losses says of each reason how bad it is and what to do. What is not in it is told as a page.
var losses = []loss{
	{"overload", Page, "rows because a vmstorage is slow (-dropSamplesOnOverload)", "Start vminserts without -dropSamplesOnOverload: ingestgw buffers, so nothing has to be thrown away."},
	{"hourly_series_limit", Page, "rows above -storage.maxHourlySeries", "Raise -storage.maxHourlySeries of vmstorage, or find out who makes so many series."},
	{"daily_series_limit", Page, "rows above -storage.maxDailySeries", "Raise -storage.maxDailySeries of vmstorage, or find out who makes so many series."},
	{"too_many_labels", Page, "rows of series with too many labels", "Raise -maxLabelsPerTimeseries of vminsert, and INGESTGW_FORWARD_MAX_LABELS with it."},
	{"too_long_label_name", Page, "rows of series with too long a label name", "Raise -maxLabelNameLen of vminsert, or have the sender shorten it."},
	{"too_long_label_value", Page, "rows of series with too long a label value", "Raise -maxLabelValueLen of vminsert, or have the sender shorten it."},
	{"labels_cut", Page, "series without some of their labels, or with labels that it cut", "Raise -maxLabelsPerTimeseries and -maxLabelValueLen of vminsert: series get mixed up."},
	{"big_timestamp", Ticket, "rows with timestamps too far in the future", "Find the sender whose clock is ahead (ingestgw_ingest_future_requests_total counts what comes in). If there is none and " +
		"one vmstorage alone does it, a connection to it is out of step: restart the vminserts one after the other."},
	{"small_timestamp", Ticket, "rows older than the retention", "Find the sender of old samples, or raise -retentionPeriod."},
	{"nan_value", "", "", ""}, // senders' business: Prometheus sends NaN for what is not there
	{"incompletely_replicated", Ticket, "rows with fewer copies than -replicationFactor", "See which vmstorages are away or read-only."},
}

// dropped finds what the cluster throws away although it has said 2xx. Each server is told once, with all reasons.
func dropped(r *Readings) []Finding {
	var all []Finding
	for i := range r.Servers {
		v := &r.Servers[i]
		if f := lossesOf(v); f != nil {
			f.Node = v.Server
			all = append(all, *f)
		}
	}
	return all
}

func lossesOf(v *downstream.Vitals) *Finding {
	var f *Finding
	for reason, rows := range thrownAway(v) {
		if !(rows > 0) {
			continue
		}
		l := lossFor(reason)
		if l.severity == "" {
			continue
		}
		if f == nil {
			f = &Finding{Severity: l.severity}
		}
		if l.severity == Page {
			f.Severity = Page
		}
		f.Evidence = append(f.Evidence, Evidence{Name: "dropped_" + reason, Value: rows, Unit: perSec, Text: fmt.Sprintf("it throws away %s a second: %s", said(rows, plain), l.what)})
	}
	if f == nil {
		return nil
	}
	slices.SortFunc(f.Evidence, func(a, b Evidence) int { return strings.Compare(a.Name, b.Name) })
	worst := slices.MaxFunc(f.Evidence, func(a, b Evidence) int { return int(1000*a.Value) - int(1000*b.Value) })
	l := lossFor(strings.TrimPrefix(worst.Name, "dropped_"))
	f.Summary = fmt.Sprintf("%s %s answers 2xx and throws away %s a second: %s.", v.Kind, v.Server, said(worst.Value, plain), l.what)
	f.Next = l.next
	return f
}

// thrownAway is rows per second by reason.
func thrownAway(v *downstream.Vitals) map[string]downstream.Figure {
	rows := map[string]downstream.Figure{}
	for _, i := range v.Ignored {
		rows[i.Reason] = i.Rows
	}
	if in := v.Insert; in != nil {
		rows["labels_cut"], rows["incompletely_replicated"] = in.LabelsCut, in.IncompletelyReplicated
		overload := 0.0
		for w := range in.Ways {
			overload += in.Ways[w].DroppedOnOverload.Or(0)
		}
		rows["overload"] = downstream.Figure(overload)
	}
	if st := v.Storage; st != nil {
		rows["hourly_series_limit"], rows["daily_series_limit"] = st.HourlyLimit, st.DailyLimit
	}
	return rows
}

func lossFor(reason string) loss {
	for _, l := range losses {
		if l.reason == reason {
			return l
		}
	}
	return loss{reason, Page, "rows (" + reason + ")", "Look into the server's log, which says what it ignores."}
}

// readPath finds vmselects that do not answer the canary's queries: what is written may be well.
func readPath(r *Readings) []Finding {
	if r.Canary == nil {
		return nil
	}
	var failing []string
	for name, failure := range r.Canary.Selects {
		if failure != "" {
			failing = append(failing, name)
		}
	}
	if len(failing) == 0 {
		return nil
	}
	slices.Sort(failing)
	f := Finding{Summary: fmt.Sprintf("%d of %d vmselects do not answer: reading is broken, not ingestion.", len(failing), len(r.Canary.Selects)),
		Next: "Look at vmselect " + firstFew(failing) + " and at the vmstorages that it reads from; if it answers 4xx, at INGESTGW_VMSELECT_URLS."}
	if len(failing) == len(r.Canary.Selects) {
		f.Severity = Page
	}
	for _, name := range failing[:min(named, len(failing))] {
		f.Evidence = append(f.Evidence, fact("vmselect", "vmselect %s: %s", name, r.Canary.Selects[name]))
	}
	return []Finding{f}
}
