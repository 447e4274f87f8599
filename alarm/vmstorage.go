package alarm

import (
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const slowStorage = "vmstorage_slow"

const (
	// busyWay is the part of its time that a vminsert spends on sending to a vmstorage from which on that one holds it up; VictoriaMetrics' own
	// alert takes as much.
	busyWay = 0.9
	// churning is the part of a vmstorage's rows whose series is not in its cache from which on that makes it slow (VictoriaMetrics' own alert: 5 %).
	churning = 0.05
	// waitsForDisk and stalledByDisk are parts of the time.
	waitsForDisk  = 0.4
	stalledByDisk = 0.1
	// rerouted is the part of the rows that may be stored elsewhere than meant without anybody noticing.
	rerouted = 0.02
)

func storageCauses() []Rule {
	follows := []string{"vminsert_swallows", "vminsert_hanging", "vminsert_slow", "vminsert_queue_full", "vminsert_allocates", "vmstorage_slow", "rerouting_cascade", network, "vmstorage_network", "read_path"}
	return []Rule{
		{Name: "vmstorage_unreachable", Severity: Ticket, After: 20 * time.Second, AllAfter: 5 * time.Second, Until: 20 * time.Second,
			Means: "There is no connection to a vmstorage, from here or from any vminsert.",
			All:   Page, Explains: heldUp,
			Covers: append([]string{"vmstorage_frozen"}, follows...), Find: eachStorage(storageGone)},
		{Name: "vmstorage_frozen", Severity: Ticket, After: 10 * time.Second, Until: 20 * time.Second,
			Means: "A vmstorage takes connections and does not answer.",
			All:   Page, Explains: heldUp,
			Covers: follows, Find: eachStorage(storageFrozen)},
		{Name: "vmstorage_read_only", Severity: Ticket, After: 10 * time.Second, Until: 30 * time.Second,
			Means: "A vmstorage takes no rows because its disk is full.",
			All:   Page, Explains: heldUp,
			Covers: follows, Find: eachStorage(readOnly)},
		{Name: "vmstorage_crash_loop", Severity: Ticket, After: 0, Until: time.Minute,
			Means:    "A vmstorage restarts again and again.",
			Explains: heldUp,
			Covers:   append([]string{"vmstorage_unreachable", "vmstorage_frozen"}, follows...), Find: eachStorage(storageCrashLoop)},
		{Name: slowStorage, Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "A vmstorage holds vminserts up: for churn, disk, CPU or garbage collection, as the alarm says.",
			Explains: heldUp,
			Covers:   []string{"vminsert_swallows", "vminsert_slow", "vminsert_queue_full", "rerouting_cascade"}, Find: eachStorage(storageSlow)},
		{Name: "rerouting_cascade", Severity: Ticket, After: time.Minute, Until: 2 * time.Minute,
			Means:    "vminserts store rows elsewhere than meant because vmstorages are slow, which makes all of them slower.",
			Explains: heldUp, Find: one(cascade)},
		{Name: "vmstorage_desynchronised", Severity: Page, After: 15 * time.Second, Until: 5 * time.Minute,
			Means:  "One vmstorage throws rows away for timestamps that nobody has sent: a connection is out of step.",
			Covers: []string{droppedByCluster}, Find: desynchronised},
	}
}

// nameOf is a storage's name for people, with the one that it has in the list of servers.
func nameOf(s *downstream.StorageView) string {
	if s.Server == "" || s.Server == s.Storage {
		return s.Storage
	}
	return s.Storage + " (" + s.Server + ")"
}

// failing says whether the storage's own metrics have not been readable for long enough, and in that way. Where they never were, the address may
// be a wrong guess (INGESTGW_FORWARD_STORAGE_URLS), and what vminserts say has to do.
func failing(r *Readings, s *downstream.StorageView, health downstream.Health) bool {
	return s.Own != nil && !s.Own.Read.IsZero() && s.Own.Health == health && !s.Own.FailingSince.IsZero() && r.At.Sub(s.Own.FailingSince) >= gone
}

func storageGone(r *Readings, s *downstream.StorageView) *Finding {
	bySelf := failing(r, s, downstream.HealthUnreachable)
	byAll := s.Seen > 0 && s.Unreachable == s.Seen && !failing(r, s, downstream.HealthMute)
	if !bySelf && !byAll {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vmstorage %s cannot be connected to: it is not running, or not reachable.", nameOf(s)),
		Next: "Start it, or see why it ended (its log; OOMKilled?); if it runs, look at the network. Other storages take its rows meanwhile, as far as they " +
			"can; when none is left, everything stays in ingestgw's buffer.",
		Evidence: storageTroubles(s),
	}
}

func storageFrozen(r *Readings, s *downstream.StorageView) *Finding {
	unseen := s.Own == nil && s.Unreachable < s.Seen && s.Sum.PendingRows > 0 && s.Sum.Rows == 0
	if !failing(r, s, downstream.HealthMute) && !unseen {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vmstorage %s takes connections and does not answer: it hangs or is stopped.", s.Storage),
		Next: "Look at its process and its disk (stopped? a disk that does not answer?), and restart it. Until it is gone or back, vminserts wait for it with " +
			"each batch.",
		Evidence: storageTroubles(s),
	}
}

func readOnly(_ *Readings, s *downstream.StorageView) *Finding {
	own := s.Own != nil && s.Own.Storage != nil && s.Own.Storage.ReadOnly
	if !own && s.ReadOnly == 0 {
		return nil
	}
	f := &Finding{
		Summary:  fmt.Sprintf("vmstorage %s takes no rows because its disk has too little free space (read-only).", s.Storage),
		Next:     "Enlarge its disk, or remove old partitions or snapshots; it takes rows again by itself when -storage.minFreeDiskSpaceBytes are free.",
		Evidence: storageTroubles(s),
	}
	if own {
		f.Evidence = append(f.Evidence, known(evidence("free_disk", s.Own.Storage.FreeDisk, size, "%s of its disk are free"),
			evidence("free_disk_limit", s.Own.Storage.FreeDiskLimit, size, "it wants %s free (-storage.minFreeDiskSpaceBytes)"))...)
	}
	return f
}

func storageCrashLoop(r *Readings, s *downstream.StorageView) *Finding {
	v := s.Own
	if !loops(v, r.At) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vmstorage %s has restarted %d times in a quarter of an hour.", nameOf(s), v.Restarts),
		Next:    "Look at why it ended: its log before the last start, and `kubectl describe pod` (or dmesg) for OOMKilled.",
		Evidence: known(evidence("restarts", downstream.Figure(v.Restarts), plain, "%s restarts in the last 15 minutes"),
			evidence("rss", v.Memory.RSS, size, "it had %s of memory when it was last read"),
			evidence("process_limit", v.Memory.ProcessLimit, size, "it may have %s"), versionOf(v)),
	}
}

// storageTroubles is what there is to say about how a vmstorage fails.
func storageTroubles(s *downstream.StorageView) []Evidence {
	var e []Evidence
	if s.Seen > 0 {
		e = append(e, Evidence{Name: "unreachable_from", Value: downstream.Figure(s.Unreachable),
			Text: fmt.Sprintf("%d of %d vminserts say that it is unreachable", s.Unreachable, s.Seen)})
	}
	e = append(e, evident(evidence("pending", s.Sum.PendingBytes, size, "%s wait for it in vminserts"))...)
	if s.Own != nil && s.Own.Error != "" {
		e = append(e, fact("metrics", "its metrics cannot be read: %s", s.Own.Error))
	}
	return known(e...)
}

func storageSlow(_ *Readings, s *downstream.StorageView) *Finding {
	if !(s.Sum.SendShare > busyWay) {
		return nil
	}
	why, next, e := slowBecause(s)
	return &Finding{
		Summary: fmt.Sprintf("vmstorage %s holds vminserts up: %s.", nameOf(s), why),
		Next:    next,
		Evidence: append(known(
			evidence("send_share", s.Sum.SendShare, share, "vminsert "+s.WorstFrom+" spends %s of its time on sending to it"),
			evidence("pending", s.Sum.PendingBytes, size, "%s wait for it in vminserts"),
			evidence("rows", s.Sum.Rows, perSec, "it takes %s rows a second")), e...),
	}
}

// slowBecause says what makes a vmstorage slow: the first that fits of what its own metrics show.
func slowBecause(s *downstream.StorageView) (why, next string, e []Evidence) {
	v := s.Own
	if v == nil || v.Storage == nil {
		return "why is not visible without its own metrics",
			"Name the vmstorages in INGESTGW_FORWARD_STORAGE_URLS so that the cause can be seen; meanwhile look at its disk, its CPU, and vm_slow_row_inserts_total.", nil
	}
	st := v.Storage
	switch {
	case boundByGC(v):
		return fmt.Sprintf("%s of its CPU goes into garbage collection", said(v.CPU.GCShare, share)),
			"Set GOGC of this vmstorage to its default of 30 or higher, or give it more memory and CPU.", gcEvidence(v)
	case st.SlowShare > churning:
		return fmt.Sprintf("%s of its rows are of series that are not in its cache (new series, or a cache that is cold or too small)", said(st.SlowShare, share)),
			"After a restart it passes by itself. If it does not, see who sends new series all the time (high churn), or give it more memory.",
			known(evidence("slow_share", st.SlowShare, share, "%s of its rows are slow inserts"), evidence("new_series", st.NewSeries, perSec, "%s series a second are new to it"))
	case v.Pressure.IOStalled > stalledByDisk, v.Pressure.IOWaiting > waitsForDisk, st.AssistedMerges > 0:
		return "its disk does not keep up",
			"Look at the disk of this vmstorage: its throughput limit, other users of it, backups; a faster disk or more vmstorages help.",
			known(evidence("io_waiting", v.Pressure.IOWaiting, share, "it waits for its disk %s of the time"), evidence("write_rate", st.WriteRate, size, "it writes %s a second"),
				evidence("parts", st.Parts, plain, "%s parts wait to be merged"))
	case v.CPU.Short:
		return "it has no CPU left", "Give this vmstorage more CPU, or add vmstorages.", cpuEvidence(v)
	}
	return "its own metrics do not say why", "Look at the network between vminserts and this vmstorage, and at its disk.", cpuEvidence(v)
}

// cascade finds that rows are stored elsewhere than meant because storages are slow, which makes all of them slower: each meets series
// that it has never seen.
func cascade(r *Readings) *Finding {
	var from, rows float64
	var slow []string
	for i := range r.Storages {
		s := &r.Storages[i]
		rows += s.Sum.Rows.Or(0)
		if reroutes := s.Sum.ReroutedFrom.Or(0); reroutes > 0 && s.Unreachable < s.Seen && s.ReadOnly == 0 {
			from += reroutes
			slow = append(slow, s.Storage)
		}
	}
	if from <= rerouted*rows || len(slow) == 0 {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminserts send %s of the rows to other storages than they should, because %d vmstorages are slow; series are made anew there, which "+
			"makes all of them slower.", said(downstream.Figure(from/max(rows, from)), share), len(slow)),
		Next: "Start vminsert with -disableRerouting, and mend what makes the first vmstorage slow.",
		Evidence: []Evidence{evidence("rerouted", downstream.Figure(from), perSec, "%s rows a second are stored elsewhere than meant"),
			fact("slow_storages", "away from: %s", firstFew(slow))},
	}
}

// desynchronised finds one vmstorage that throws rows away because of timestamps far in the future, while what was sent was sane:
// a connection whose bytes are out of step (VictoriaMetrics #11146).
func desynchronised(r *Readings) []Finding {
	var hit []int
	for i := range r.Storages {
		if ignored(r.Storages[i].Own, "big_timestamp") > 0 {
			hit = append(hit, i)
		}
	}
	if len(hit) != 1 || len(r.Storages) < 2 || r.Future != 0 { // unknown where another process receives
		return nil
	}
	s := &r.Storages[hit[0]]
	return []Finding{{Node: s.Storage, Server: s.Server,
		Summary: fmt.Sprintf("vmstorage %s throws %s rows a second away for timestamps in the future, which no other vmstorage does and no sender has sent: a "+
			"connection to it is out of step, and data is lost.", s.Storage, said(ignored(s.Own, "big_timestamp"), plain)),
		Next: "Restart the vminserts one after the other, so that they connect anew, and this vmstorage if that does not help.",
		Evidence: known(evidence("ignored", ignored(s.Own, "big_timestamp"), perSec, "%s rows a second are ignored as big_timestamp"),
			evidence("future", r.Future, perSec, "%s requests a second with timestamps ahead of now came from senders"))}}
}

// ignored is how many rows a second a server throws away for a reason.
func ignored(v *downstream.Vitals, reason string) downstream.Figure {
	if v == nil {
		return downstream.Unknown()
	}
	for _, i := range v.Ignored {
		if i.Reason == reason {
			return i.Rows
		}
	}
	return downstream.Unknown()
}
