package alarm

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// crowded is the part of the room for requests from which on they wait.
	crowded = 0.8
	// justStarted is in seconds.
	justStarted = 60
	// gone is for how long polls have to have failed. Two polls are at least a second apart.
	gone = 8 * time.Second
	// slowAnswer is from how long on an answer is slow, in seconds.
	slowAnswer = 1
	// slowerThanPeers is how many times slower than the median of the others.
	slowerThanPeers = 3
	// manyRestarts within downstream.RestartMemory are a crash loop while lives are short.
	manyRestarts = 3
	shortLife    = 2 * time.Minute
	// fullMemory is the part of its memory limit from which on the kernel may have killed a process.
	fullMemory = 0.85
)

// heldUp are the symptoms of samples that do not get on, wherever they are held up after they have been taken in.
var heldUp = []string{backlogGrowing, backlogOld, neverDrains, bufferNearlyFull, sendersRefused, notSettling, canaryNotSeen, notReadable}

func insertCauses() []Rule {
	return []Rule{
		{Name: "vminsert_gogc_too_low", Severity: Ticket, After: 15 * time.Second, Until: 45 * time.Second,
			Means:    "A vminsert lacks CPU because it collects garbage too often: GOGC is too low.",
			Explains: heldUp,
			Covers:   insertFollows, Find: each(gogcTooLow)},
		{Name: "vminsert_memory_limit_too_low", Severity: Ticket, After: 15 * time.Second, Until: 45 * time.Second,
			Means:    "A vminsert lacks CPU because it collects garbage too often: GOMEMLIMIT is too low.",
			Explains: heldUp,
			Covers:   insertFollows, Find: each(memoryLimitTooLow)},
		{Name: "vminsert_registers_tenants", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "A vminsert before v1.107 meets many tenants for the first time, which is dear there.",
			Explains: heldUp,
			Covers:   insertFollows, Find: each(registersTenants)},
		{Name: "vminsert_old_version", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "A vminsert before v1.107 has more tenants than it is made for.",
			Explains: heldUp,
			Covers:   insertFollows, Find: each(oldVersion)},
		{Name: "vminsert_allocates", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "A vminsert lacks CPU because of the garbage that it makes, although GOGC and limit leave room.",
			Explains: heldUp,
			Covers:   insertFollows, Find: each(allocates)},
		{Name: "vminsert_throttled", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "The CPU limit of a vminsert's container, or its machine, keeps it from running.",
			Explains: heldUp,
			Covers:   insertFollows, Find: each(throttled)},
		{Name: "vminsert_out_of_cpu", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "A vminsert uses all of its CPU, and requests wait for it.",
			Explains: heldUp,
			Covers:   insertFollows, Find: each(outOfCPU)},
		{Name: "vminsert_crash_loop", Severity: Ticket, After: 0, Until: time.Minute,
			Means:    "A vminsert restarts again and again, perhaps for want of memory.",
			Explains: heldUp,
			Covers:   []string{"vminsert_*", network, "dns"}, Find: each(crashLoop)},
		{Name: "vminsert_unreachable", Severity: Ticket, After: 10 * time.Second, Until: 20 * time.Second,
			Means: "There is no connection to a vminsert.",
			All:   Page, Explains: heldUp,
			Covers: []string{"vminsert_slow", "vminsert_hanging", network}, Find: each(unreachable)},
		{Name: "vminsert_frozen", Severity: Ticket, After: 10 * time.Second, Until: 20 * time.Second,
			Means: "A vminsert takes connections and does not answer.",
			All:   Page, Explains: heldUp,
			Covers: []string{"vminsert_slow", "vminsert_hanging", network}, Find: each(frozen)},
		{Name: "vminsert_refuses", Severity: Ticket, After: 10 * time.Second, Until: 30 * time.Second,
			Means: "A vminsert answers 3xx or 4xx to everything: a wrong address, or wrong credentials.",
			All:   Page, Explains: heldUp,
			Covers: []string{"vminsert_slow"}, Find: each(refuses)},
		{Name: "vminsert_hanging", Severity: Ticket, After: 15 * time.Second, Until: 30 * time.Second,
			Means: "A vminsert reaches none of its vmstorages.",
			All:   Page, Explains: heldUp,
			Covers: []string{"vminsert_slow", "vminsert_queue_full", network, "vmstorage_network"}, Find: hanging},
		{Name: "vminsert_queue_full", Severity: Ticket, After: time.Minute, Until: time.Minute,
			Means:    "A vminsert turns requests away though it has CPU left.",
			Explains: heldUp,
			Covers:   []string{"vminsert_slow"}, Find: each(queueFull)},
		{Name: "vminsert_swallows", Severity: Page, After: 20 * time.Second, Until: 30 * time.Second,
			Means:    "A vminsert takes samples, and none of them can be read: the canary that goes through it alone is not seen.",
			Explains: []string{canaryNotSeen, notSettling}, Find: swallows},
		{Name: "vminsert_slow", Severity: Ticket, After: time.Minute, Until: time.Minute,
			Means:    "A vminsert takes much longer than its peers, and nothing says why.",
			Explains: heldUp, Find: slowAmongPeers},
	}
}

// insertFollows is what follows from a vminsert that lacks CPU, for whatever reason: it answers late, or not at all.
var insertFollows = []string{"vminsert_swallows", "vminsert_queue_full", "vminsert_slow", "vminsert_frozen", "vminsert_hanging", network, slowStorage}

func cpuEvidence(v *downstream.Vitals) []Evidence {
	return known(
		evidence("cpu_used", v.CPU.Used, cores, "it uses %s cores"),
		evidence("cpu_available", v.CPU.Available, cores, "of %s that it has"),
	)
}

func versionOf(v *downstream.Vitals) Evidence {
	if v.Version.Text == "" {
		return fact("version", "its version is not known")
	}
	return fact("version", "its version is %s", v.Version.Text)
}

func throttled(i *insert) *Finding {
	v := i.own
	if v == nil || boundByGC(v) || !v.CPU.Short || v.CPU.ShortBecause != "stalled" {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("vminsert %s is kept from running for %s of the time by its container's CPU limit, or by its machine.", i.name, said(v.Pressure.CPUStalled, share)),
		Next:     "Raise or remove the CPU limit of this vminsert's container, or move it to a machine with free CPU.",
		Evidence: append(cpuEvidence(v), evidence("cpu_stalled", v.Pressure.CPUStalled, share, "all of it waited for a processor %s of the time")),
	}
}

// outOfCPU is told when somebody waits for it: a process may use all of its CPU and be well. One that has just started may need a lot for
// a moment.
func outOfCPU(i *insert) *Finding {
	v := i.own
	busy := v != nil && v.CPU.Short && (v.CPU.ShortBecause == "used" || v.CPU.ShortBecause == "waiting")
	if !busy || boundByGC(v) || v.Uptime < justStarted || !waitedFor(i) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s has no CPU left: it uses %s of %s cores, and requests wait for it.", i.name, said(v.CPU.Used, cores), said(v.CPU.Available, cores)),
		Next:    "Give this vminsert more CPU, or add vminserts; see whether it was given more work than its peers.",
		Evidence: append(cpuEvidence(v), known(
			evidence("gc_share", v.CPU.GCShare, share, "%s of it goes into garbage collection"),
			evidence("rows", v.Insert.Rows, perSec, "it takes %s rows a second"),
			evidence("request_seconds", v.Insert.RequestSeconds, seconds, "a request takes it %s"))...),
	}
}

// waitedFor says whether requests wait for a vminsert.
func waitedFor(i *insert) bool {
	in := i.own.Inserts
	return in.Current >= crowded*in.Capacity || in.LimitReached > 0 || in.QueueTimeouts > 0 || i.node != nil && (i.node.Busy > 0 || i.node.Seconds > slowAnswer)
}

// loops says whether a server has restarted again and again and has not lived for long since. Somebody who tries settings restarts it too.
func loops(v *downstream.Vitals, now time.Time) bool {
	return v != nil && !v.Jumping && v.Restarts >= manyRestarts && now.Sub(v.LastRestart) < shortLife
}

func crashLoop(i *insert) *Finding {
	v := i.own
	if !loops(v, i.at) {
		return nil
	}
	f := Finding{
		Summary: fmt.Sprintf("vminsert %s has restarted %d times in a quarter of an hour.", i.name, v.Restarts),
		Next:    "Look at why it ended: its log before the last start, and `kubectl describe pod` (or dmesg) for OOMKilled.",
		Evidence: known(evidence("restarts", downstream.Figure(v.Restarts), plain, "%s restarts in the last 15 minutes"),
			evidence("rss", v.Memory.RSS, size, "it had %s of memory when it was last read"),
			evidence("process_limit", v.Memory.ProcessLimit, size, "it may have %s"), versionOf(v)),
	}
	if v.Memory.RSS > fullMemory*v.Memory.ProcessLimit {
		f.Summary += " It was near its memory limit: out of memory, most likely."
		f.Next = "Give it more memory, or set GOMEMLIMIT to 90 % of its container's limit; see whether it holds rows that a slow vmstorage does not take."
	}
	return &f
}

func unreachable(i *insert) *Finding {
	switch v := i.own; {
	case v != nil && v.Health == downstream.HealthUnreachable && i.failsFor(gone):
	case v == nil && i.node.failing() && i.node.Unreachable > 0:
	default:
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("vminsert %s cannot be connected to: it is not running, or not reachable from here.", i.name),
		Next:     "See whether it runs and listens; if it does, look at the network, at its address in INGESTGW_FORWARD_URLS and at DNS.",
		Evidence: i.troubles(),
	}
}

func frozen(i *insert) *Finding {
	switch v := i.own; {
	case v != nil && v.Health == downstream.HealthMute && i.failsFor(gone):
	case v != nil && i.silent(): // no poll has timed out yet
	case v == nil && i.node.failing() && i.node.TimedOut > 0:
	default:
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("vminsert %s takes connections and does not answer, not even for its metrics: it hangs or is stopped.", i.name),
		Next:     "Look at its process (stopped? swapping? its machine overloaded?) and restart it. Other vminserts, where there are any, get its samples.",
		Evidence: i.troubles(),
	}
}

func refuses(i *insert) *Finding {
	if i.node == nil || !i.node.failing() || !(i.node.Refused > 0) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s refuses what is sent to it (3xx or 4xx), an empty request too: its address or the credentials are wrong.", i.name),
		Next: "Look into ingestgw's log for the answer, and correct INGESTGW_FORWARD_URLS or the credentials; `ingestgw check` tries them. Nothing was " +
			"set aside: all of it is sent as soon as it is taken.",
		Evidence: i.troubles(),
	}
}

// hanging finds vminserts that reach no vmstorage while others do. When nobody reaches any, it is those.
func hanging(r *Readings) []Finding {
	var all []Finding
	for _, i := range r.inserts() {
		if i.own == nil || i.own.Insert == nil || len(i.own.Insert.Ways) == 0 {
			continue
		}
		if slices.ContainsFunc(i.own.Insert.Ways, func(w downstream.Way) bool { return w.Reachable }) {
			continue
		}
		all = append(all, Finding{Node: i.name,
			Summary:  fmt.Sprintf("vminsert %s reaches none of its %d vmstorages, so that it takes nothing.", i.name, len(i.own.Insert.Ways)),
			Next:     "See whether the vmstorages run; if others reach them, look at the network of this vminsert and at its -storageNode.",
			Evidence: i.troubles()})
	}
	return all
}

func queueFull(i *insert) *Finding {
	v := i.own
	if v == nil || v.CPU.Short || !(v.Inserts.QueueTimeouts > 0) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s has all of its %s places for requests taken and turns others away, though it has CPU left.", i.name, said(v.Inserts.Capacity, plain)),
		Next:    "See who else sends to it with many slow connections; raise -maxConcurrentInserts only if its vmstorages are not busy.",
		Evidence: append(cpuEvidence(v), known(
			evidence("inserts", v.Inserts.Current, plain, "%s requests are worked on"),
			evidence("queue_timeouts", v.Inserts.QueueTimeouts, perSec, "%s requests a second were turned away"))...),
	}
}

// swallows finds vminserts that take the canary, and through which it cannot be read, while through another one it can.
func swallows(r *Readings) []Finding {
	c := r.Canary
	if c == nil {
		return nil
	}
	freshest := downstream.Figure(math.Inf(1))
	for _, age := range c.Nodes {
		freshest = min(freshest, downstream.Figure(age.Or(math.Inf(1))))
	}
	if !(freshest < unseenAge) {
		return nil
	}
	var all []Finding
	for _, i := range r.inserts() {
		age, ok := c.Nodes[i.name]
		if !ok || !(age > unseenAge) || !(age > unseenCount*c.Every) || i.node == nil || !(i.node.Taken > 0) {
			continue
		}
		all = append(all, Finding{Node: i.name,
			Summary: fmt.Sprintf("vminsert %s answers 2xx, and what it takes cannot be read: the freshest sample that went through it is %s old, through others %s.", i.name,
				said(age, seconds), said(freshest, seconds)),
			Next: "Look at its ways to the vmstorages (vm_rpc_rows_pending, its log), and restart it when it has nothing pending; what is not known to be safe is " +
				"sent again.",
			Evidence: []Evidence{evidence("canary_age", age, seconds, "the canary through it is %s old"),
				evidence("canary_age_of_others", freshest, seconds, "through another vminsert it is %s old")}})
	}
	return all
}

// slowAmongPeers finds vminserts that take much longer than the others.
func slowAmongPeers(r *Readings) []Finding {
	if len(r.Nodes) < 2 {
		return nil
	}
	var all []Finding
	for k := range r.Nodes {
		n := &r.Nodes[k]
		others := medianSeconds(r.Nodes, k)
		if n.Seconds < slowAnswer || !(n.Seconds > slowerThanPeers*others) {
			continue
		}
		all = append(all, Finding{Node: n.Name,
			Summary: fmt.Sprintf("vminsert %s takes %s to answer, the others %s; its own metrics do not say why.", n.Name, said(n.Seconds, seconds), said(others, seconds)),
			Next:    "Compare its machine with the others': CPU frequency, steal time, other processes, network.",
			Evidence: []Evidence{evidence("answer_seconds", n.Seconds, seconds, "it answers after %s"),
				evidence("answer_seconds_of_others", others, seconds, "the others answer after %s")}})
	}
	return all
}

// medianSeconds is the median of how long the others than the one at without take.
func medianSeconds(nodes []Node, without int) downstream.Figure {
	var all []downstream.Figure
	for k := range nodes {
		if k != without && nodes[k].Seconds.Known() {
			all = append(all, nodes[k].Seconds)
		}
	}
	return median(all)
}

// failsFor says whether polls of its metrics have failed for that long.
func (i *insert) failsFor(d time.Duration) bool {
	return !i.own.FailingSince.IsZero() && i.at.Sub(i.own.FailingSince) >= d
}

// silent says whether neither its metrics nor requests that are on their way have been answered for a while.
func (i *insert) silent() bool {
	n := i.node
	return i.own.Health == downstream.HealthGood && i.own.Age > i.own.Interval+downstream.Figure(gone.Seconds()) &&
		n != nil && n.InFlight > 0 && n.Taken == 0 && n.Busy == 0 && n.Refused == 0 && n.Unreachable == 0
}

// troubles is what there is to say about how a vminsert fails.
func (i *insert) troubles() []Evidence {
	var e []Evidence
	if v := i.own; v != nil && v.Error != "" {
		e = append(e, fact("metrics", "its metrics cannot be read: %s", v.Error))
	} else if v != nil && v.Age > 2*v.Interval {
		e = append(e, evidence("metrics_age", v.Age, seconds, "its metrics were read %s ago for the last time"))
	}
	if n := i.node; n != nil {
		e = append(e, evidence("taken", n.Taken, perSec, "it took %s of our requests a second"))
		e = append(e, evident(
			evidence("timeouts", n.TimedOut, perSec, "%s a second were not answered in time"),
			evidence("unreachable", n.Unreachable, perSec, "%s a second found no connection"),
			evidence("refused", n.Refused, perSec, "%s a second were refused with 3xx or 4xx"),
			evidence("busy", n.Busy, perSec, "%s a second were answered with 5xx"),
			evidence("in_flight", n.InFlight, plain, "%s are on their way to it"))...)
	}
	return known(e...)
}
