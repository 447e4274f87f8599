package alarm

import (
	"fmt"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/memory"
)

const (
	// revertShown is for how long it is told that a change of memory settings was taken back.
	revertShown = 10 * time.Minute
	// fullOfLive is the part of what the memory limit leaves for the heap that is alive when it is too low, and guarded how long the guard has
	// to take back what was changed live.
	fullOfLive = 0.6
	guarded    = time.Minute
	// busyCores is the part of the processors that this process may use.
	busyCores = 0.9
	// slowSync is how long an fsync may take, in seconds. A disk of a machine needs some ms, network disks tens of them.
	slowSync = 0.25
	// littleRoom is the part of the disk, without the reserve, that is left when it is nearly full, and ourPart the part of it from which on it
	// is the backlog that fills it.
	littleRoom = 0.1
	ourPart    = 0.5
	// soonFull is in how many seconds a disk that is filled by others makes somebody get up.
	soonFull = 3600
	// throttledShare is the part of the time that Kafka may make us wait.
	throttledShare = 0.05
	// retentionShare is the part of a topic's retention that the backlog may be old.
	retentionShare = 0.5
	// kafkaGone is for how many seconds no broker has to have answered.
	kafkaGone = 8
	// certificateSoon and certificateNow are how long a certificate is still valid.
	certificateSoon = 14 * 24 * time.Hour
	certificateNow  = 24 * time.Hour
)

// ownCauses are about this process, its disk and its Kafka.
func ownCauses() []Rule {

	return []Rule{
		{Name: "kafka_unavailable", Severity: Page, After: 8 * time.Second, Until: 20 * time.Second,
			Means:    "No Kafka broker answers, or none acknowledges what is to be stored. Senders get 503.",
			Explains: heldUp,
			Covers:   []string{"kafka_*", "partition_without_owner", "too_few_partitions", "senders_gone"}, Find: one(kafkaGoneFor)},
		{Name: "kafka_under_replicated", Severity: Ticket, After: time.Minute, Until: time.Minute,
			Means:    "Partitions of ingestgw's topics have fewer replicas in sync than they should, or no leader (page).",
			Explains: heldUp, Find: one(underReplicated)},
		{Name: "kafka_throttles", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "A quota of Kafka makes ingestgw wait.",
			Explains: heldUp, Find: one(kafkaThrottles)},
		{Name: "kafka_retention_too_short", Severity: Page, After: 15 * time.Second, Until: time.Minute,
			Means: "The backlog is older than half of what Kafka keeps: it will be deleted before it is sent.",
			Find:  one(retentionTooShort)},
		{Name: "kafka_topic_unsafe", Severity: Ticket, After: 30 * time.Second, Until: 10 * time.Minute,
			Means: "A topic has settings with which acknowledged samples may be lost.",
			Find:  one(topicUnsafe)},
		{Name: "partition_without_owner", Severity: Page, After: time.Minute, Until: time.Minute,
			Means:    "Partitions have no process that forwards them.",
			Explains: heldUp, Find: one(withoutOwner)},
		{Name: "too_few_partitions", Severity: Ticket, After: 5 * time.Minute, Until: 5 * time.Minute,
			Means: "More processes forward than the main lane has partitions.",
			Find:  one(tooFewPartitions)},
		{Name: "disk_nearly_full", Severity: Ticket, After: 10 * time.Second, Until: 30 * time.Second,
			Means:    "The file system of the buffer is nearly full, and not with the buffer; a page when it is full within an hour.",
			Explains: heldUp,
			Covers:   []string{"disk_broken"}, Find: one(diskNearlyFull)},
		{Name: "disk_broken", Severity: Page, After: 0, Until: 2 * time.Minute,
			Means:    "The disk of the buffer fails to write or to make durable.",
			Explains: heldUp, Covers: []string{"disk_slow"}, Find: one(diskBroken)},
		{Name: "disk_slow", Severity: Ticket, After: 30 * time.Second, Until: time.Minute,
			Means:    "The disk of the buffer takes long to make something durable.",
			Explains: heldUp, Find: one(diskSlow)},
		{Name: "own_memory_change_reverted", Severity: Ticket, After: 0, Until: 10 * time.Second,
			Means:    "A live change of GOGC or of the memory limit cost too much garbage collection and was taken back.",
			Explains: []string{sendersRefused},
			Covers:   []string{"own_memory_limit_too_low", "own_gc", "own_cpu"}, Find: one(changeReverted)},
		{Name: "own_memory_limit_too_low", Severity: Ticket, After: 10 * time.Second, Until: 30 * time.Second,
			Means:    "The memory limit of ingestgw leaves so little room that it collects garbage again and again.",
			Explains: heldUp,
			Covers:   []string{"own_gc", "own_cpu", network}, Find: one(ownLimitTooLow)},
		{Name: "own_gc", Severity: Ticket, After: 20 * time.Second, Until: time.Minute,
			Means:    "ingestgw itself spends too much CPU on garbage collection.",
			Explains: heldUp,
			Covers:   []string{"own_cpu", network}, Find: one(ownGC)},
		{Name: "own_cpu", Severity: Ticket, After: time.Minute, Until: time.Minute,
			Means:    "ingestgw itself uses all of its CPU.",
			Explains: heldUp, Last: true,
			Covers: []string{network, "offered_load_up", "capacity_down"}, Find: one(ownCPU)},
		{Name: "samples_lost", Severity: Page, After: 0, Until: 10 * time.Minute,
			Means: "Blocks with accepted samples are damaged, or were removed before they were sent.",
			Find:  one(samplesLost)},
		{Name: "partition_on_hold", Severity: Page, After: 10 * time.Second, Until: 30 * time.Second,
			Means:    "A newer version of ingestgw has written blocks that this one cannot read.",
			Explains: heldUp, Find: one(onHold)},
		{Name: "settled_by_clock", Severity: Ticket, After: 2 * time.Minute, Until: time.Minute,
			Means:    "It cannot be proved when samples are safe on vmstorage's disk, so that time has to do.",
			Explains: []string{notSettling}, Find: one(byClock)},
		{Name: "certificate_expires", Severity: Ticket, After: 0, Until: 0,
			Means: "The certificate for senders expires within 14 days (page: one day).",
			Find:  one(certificateExpires)},
	}
}

func kafkaGoneFor(r *Readings) *Finding {
	k := r.Kafka
	if k == nil || !(k.UnreachableFor > kafkaGone) && !(k.Failed > 0 && k.Acknowledged == 0) && !(k.Unstored > 0) {
		return nil
	}
	return &Finding{
		Summary: "Kafka does not store: no broker answers, or none acknowledges. Senders get 503 and come again; nothing acknowledged is lost.",
		Next:    "Look at the brokers (are they up? min.insync.replicas? disks full?) and at the network to INGESTGW_KAFKA_BROKERS.",
		Evidence: evident(evidence("unreachable", k.UnreachableFor, seconds, "the last answer of a broker was %s ago"),
			evidence("failed", k.Failed, perSec, "%s tries a second to store a block fail"),
			evidence("unstored", k.Unstored, perSec, "%s blocks a second are given up"),
			evidence("acknowledged", k.Acknowledged, perSec, "%s a second are acknowledged"),
			evidence("leaderless", k.Leaderless, plain, "%s partitions have no leader")),
	}
}

func underReplicated(r *Readings) *Finding {
	k := r.Kafka
	if k == nil || !(k.UnderReplicated > 0) && !(k.Leaderless > 0) {
		return nil
	}
	f := &Finding{
		Summary:  fmt.Sprintf("%s partitions of our topics have fewer replicas in sync than they should: a further broker that fails may stop them.", said(k.UnderReplicated, plain)),
		Next:     "Look for the broker that is down or behind.",
		Evidence: known(evidence("under_replicated", k.UnderReplicated, plain, "%s partitions are under-replicated"), evidence("leaderless", k.Leaderless, plain, "%s have no leader")),
	}
	if k.Leaderless > 0 {
		f.Severity = Page
		f.Summary = fmt.Sprintf("%s partitions of our topics have no leader: what they hold is not forwarded.", said(k.Leaderless, plain))
	}
	return f
}

func kafkaThrottles(r *Readings) *Finding {
	if r.Kafka == nil || !(r.Kafka.Throttled > throttledShare) {
		return nil
	}
	return &Finding{
		Summary:  "Kafka makes ingestgw wait: a quota of this client or user is used up.",
		Next:     "Raise the producer and consumer byte rates of ingestgw's user or client id (kafka-configs.sh), or remove the quota.",
		Evidence: []Evidence{evidence("throttled", r.Kafka.Throttled, share, "it is made to wait for %s of the time")},
	}
}

func retentionTooShort(r *Readings) *Finding {
	k := r.Kafka
	if k == nil {
		return nil
	}
	if f := outlived("main", r.Main.Age, k.MainRetention); f != nil {
		return f
	}
	return outlived("bulk", r.Bulk.Age, k.BulkRetention)
}

// outlived finds that a lane's backlog may be deleted before it is sent.
func outlived(lane string, age, retention downstream.Figure) *Finding {
	if !(age > retentionShare*retention) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("The backlog of lane %s is %s old, and Kafka deletes what is older than %s: samples will be lost.", lane, said(age, seconds), said(retention, seconds)),
		Next:     "Raise retention.ms of the topic of this lane now (kafka-configs.sh --alter), then mend what holds the backlog up.",
		Evidence: []Evidence{evidence("backlog_age", age, seconds, "the oldest unsent sample was received %s ago"), evidence("retention", retention, seconds, "Kafka keeps %s")},
	}
}

func topicUnsafe(r *Readings) *Finding {
	if r.Kafka == nil || len(r.Kafka.Unsafe) == 0 {
		return nil
	}
	return &Finding{
		Summary:  "Acknowledged samples are not safe with the settings of these topics: " + firstFew(r.Kafka.Unsafe) + ".",
		Next:     "Change the settings as ingestgw's log and `ingestgw check` say.",
		Evidence: []Evidence{fact("unsafe", "unsafe: %s", strings.Join(r.Kafka.Unsafe, ", "))},
	}
}

func withoutOwner(r *Readings) *Finding {
	if r.Kafka == nil || !(r.Kafka.Unowned > 0) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s partitions are forwarded by nobody: what is in them waits.", said(r.Kafka.Unowned, plain)),
		Next:     "See whether enough processes with INGESTGW_ROLE=forward or all run, and whether they can join the consumer group (their logs).",
		Evidence: []Evidence{evidence("unowned", r.Kafka.Unowned, plain, "%s partitions have no owner"), evidence("members", r.Kafka.Members, plain, "%s processes are in the group")},
	}
}

func tooFewPartitions(r *Readings) *Finding {
	k := r.Kafka
	if k == nil || !(k.Members > k.Partitions) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s processes forward, and the main lane has %s partitions only: some have nothing to do.", said(k.Members, plain), said(k.Partitions, plain)),
		Next:     "Add partitions to ingestgw's topics (kafka-topics.sh --alter), or run fewer forwarders.",
		Evidence: []Evidence{evidence("members", k.Members, plain, "%s processes are in the group"), evidence("partitions", k.Partitions, plain, "the main lane has %s partitions")},
	}
}

// diskNearlyFull is told when others fill the disk; when the backlog does, that is a symptom of something else.
func diskNearlyFull(r *Readings) *Finding {
	d := r.Disk
	if d == nil {
		return nil
	}
	room, whole, ours := d.Free-d.Reserve, d.Capacity-d.Reserve, d.Main+d.Bulk
	if !(room < littleRoom*whole) || !(ours < ourPart*whole) {
		return nil
	}
	f := &Finding{
		Summary: fmt.Sprintf("The disk of the buffer is nearly full, and not with samples: %s are free, of which %s are kept in reserve, and the buffer takes %s of %s.",
			said(d.Free, size), said(d.Reserve, size), said(ours, size), said(d.Capacity, size)),
		Next: "Find what fills the file system of INGESTGW_BUFFER_DIR and remove it, or give the buffer a disk of its own. When there is no room left, senders get 503.",
		Evidence: known(evidence("disk_free", d.Free, size, "%s are free"), evidence("disk_reserve", d.Reserve, size, "%s of them are reserve"),
			evidence("buffer_bytes", ours, size, "the buffer takes %s"), evidence("disk_capacity", d.Capacity, size, "the file system has %s")),
	}
	if d.Growth > 0 && room > 0 {
		f.Evidence = append(f.Evidence, evidence("disk_full_in", room/d.Growth, seconds, "at the present rate it is full in %s"))
	}
	if room <= 0 || d.Growth > 0 && room/d.Growth < soonFull {
		f.Severity = Page
	}
	return f
}

func diskBroken(r *Readings) *Finding {
	if r.Disk == nil || !(r.Disk.Errors > 0) {
		return nil
	}
	return &Finding{
		Summary:  "The disk of the buffer fails to write. Senders get 503; nothing acknowledged is lost.",
		Next:     "Look at the disk of INGESTGW_BUFFER_DIR (dmesg; full? read-only? broken?), and at ingestgw's log for the error.",
		Evidence: []Evidence{evidence("disk_errors", r.Disk.Errors, plain, "%s writes failed in the last seconds")},
	}
}

func diskSlow(r *Readings) *Finding {
	if r.Disk == nil || !(r.Disk.Sync > slowSync) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("The disk of the buffer takes %s to make something durable; senders wait for it.", said(r.Disk.Sync, seconds)),
		Next:     "Look at who else writes to the disk of INGESTGW_BUFFER_DIR, at its limits (IOPS of a cloud disk), or give the buffer a faster one.",
		Evidence: []Evidence{evidence("fsync_seconds", r.Disk.Sync, seconds, "an fsync takes %s on average")},
	}
}

func changeReverted(r *Readings) *Finding {
	if r.Memory == nil || r.Memory.Reverted == nil || r.At.Sub(r.Memory.Reverted.At) > revertShown {
		return nil
	}
	v := r.Memory.Reverted
	return &Finding{
		Summary: fmt.Sprintf("The memory settings that %s had changed live were taken back: %s, with which garbage collection took %s of the CPU used.", orSomebody(v.By), settingsOf(v.From),
			said(downstream.Figure(v.GCShare), share)),
		Next: fmt.Sprintf("Nothing has to be done at once: %s are in force again. Choose a higher memory limit or GOGC; INGESTGW_MEMORY_GC_MAX_SHARE says what is too much.", settingsOf(v.To)),
		Evidence: []Evidence{evidence("gc_share", downstream.Figure(v.GCShare), share, "garbage collection took %s of the CPU used"),
			evidence("gc_assist_share", downstream.Figure(v.AssistShare), share, "%s of it held up real work"),
			evidence("gc_max_share", downstream.Figure(v.MaxShare), share, "it may take %s"),
			fact("from", "taken back: %s", settingsOf(v.From)), fact("to", "in force: %s", settingsOf(v.To))},
	}
}

func orSomebody(by string) string {
	if by == "" {
		return "somebody"
	}
	return by
}

func settingsOf(s memory.State) string {
	gogc, limit := "off", "none"
	if s.GOGC >= 0 {
		gogc = fmt.Sprint(int(s.GOGC))
	}
	if s.Limit > 0 {
		limit = said(downstream.Figure(s.Limit), size)
	}
	return "GOGC " + gogc + ", memory limit " + limit
}

// ownLimitTooLow leaves what was changed live to the guard for a while, which takes it back if it costs too much. Budgets stay small
// for a moment when the limit has been raised, so that they alone prove nothing.
func ownLimitTooLow(r *Readings) *Finding {
	m := r.Memory
	if m == nil || m.Pressed == nil || m.InForce.Limit == 0 || float64(m.Now.Live) < fullOfLive*float64(m.Now.Room) {
		return nil
	}
	if m.Standing == memory.OnTrial && r.At.Sub(m.Pressed.Since) < guarded {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("ingestgw's own memory limit of %s is too low for what it holds: it collects garbage all the time, and takes fewer bytes in flight.",
			said(downstream.Figure(m.InForce.Limit), size)),
		Next:     "Raise INGESTGW_MEMORY_LIMIT (and the container's limit), live with PUT /api/v1/memory or on the page.",
		Evidence: ownEvidence(m),
	}
}

func ownGC(r *Readings) *Finding {
	m := r.Memory
	if m == nil || m.Standing == memory.OnTrial || m.Standing != memory.Costly && !(m.Now.Known && m.Now.Noticeable && m.Now.GCShare > m.MaxShare && ownShort(r)) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("ingestgw itself spends %s of its CPU on garbage collection.", said(downstream.Figure(m.Now.GCShare), share)),
		Next:     "Raise GOGC or the memory limit (INGESTGW_MEMORY_GOGC, INGESTGW_MEMORY_LIMIT), live with PUT /api/v1/memory or on the page.",
		Evidence: ownEvidence(m),
	}
}

func ownEvidence(m *memory.View) []Evidence {
	return known(evidence("gc_share", downstream.Figure(m.Now.GCShare), share, "garbage collection takes %s of the CPU used"),
		evidence("gc_assist_share", downstream.Figure(m.Now.AssistShare), share, "%s of it holds up real work"),
		evidence("live", downstream.Figure(m.Now.Live), size, "%s are alive"),
		evidence("counted", downstream.Figure(m.Now.Counted), size, "%s count against the limit"),
		evidence("limit", downstream.Figure(m.InForce.Limit), size, "the limit is %s"),
		fact("settings", "in force: %s", settingsOf(m.InForce)))
}

// ownShort says whether this process uses all the CPU that it may.
func ownShort(r *Readings) bool { return r.Cores > busyCores*downstream.Figure(r.CPUs) }

// ownCPU is told when something waits: all CPU may be used while a backlog is worked off.
func ownCPU(r *Readings) *Finding {
	if !ownShort(r) || r.Main.Shrinking() {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("ingestgw itself has no CPU left: it uses %s of %d cores.", said(r.Cores, cores), r.CPUs),
		Next:     "Give this process more CPU, or run more of them (with Kafka).",
		Evidence: []Evidence{evidence("cpu_used", r.Cores, cores, "it uses %s cores"), evidence("cpu_available", downstream.Figure(r.CPUs), cores, "of %s")},
	}
}

func samplesLost(r *Readings) *Finding {
	if !(r.Lost > 0) {
		return nil
	}
	return &Finding{
		Summary:  "Samples that were accepted are lost: blocks in the buffer are damaged, or were removed before they were sent.",
		Next:     "See in ingestgw's log which blocks, and why: a disk that corrupts, a retention of Kafka that is too short, INGESTGW_BUFFER_WHEN_FULL=drop-oldest.",
		Evidence: []Evidence{evidence("lost_blocks", r.Lost, plain, "%s blocks were found lost in the last seconds")},
	}
}

func onHold(r *Readings) *Finding {
	if !(r.OnHold > 0) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s partitions are on hold: a newer version of ingestgw has written what comes next, and this one cannot read it.", said(r.OnHold, plain)),
		Next:     "Upgrade this ingestgw to the version that has written the blocks (see its log). Nothing is lost.",
		Evidence: []Evidence{evidence("on_hold", r.OnHold, plain, "%s partitions are on hold")},
	}
}

func byClock(r *Readings) *Finding {
	if !r.ByClock {
		return nil
	}
	return &Finding{
		Summary: "Whether samples are safe on vmstorage's disk is told by the clock, not by proof: a vminsert or vmstorage that dies may take some with it.",
		Next: "Give each vminsert and vmstorage an address of its own (INGESTGW_FORWARD_URLS, INGESTGW_FORWARD_STORAGE_URLS) whose /metrics can be read; the log says " +
			"what is missing.",
		Evidence: append([]Evidence{fact("settle_mode", "settling goes by time")}, r.unreadable()...),
	}
}

// unreadable names servers whose metrics cannot be read.
func (r *Readings) unreadable() []Evidence {
	var all []Evidence
	for i := range r.Servers {
		if v := &r.Servers[i]; v.Error != "" && len(all) < named {
			all = append(all, fact("unreadable", "%s %s: %s", v.Kind, v.Server, v.Error))
		}
	}
	return all
}

func certificateExpires(r *Readings) *Finding {
	if r.CertificateEnds.IsZero() || r.CertificateEnds.Sub(r.At) > certificateSoon {
		return nil
	}
	left := downstream.Figure(r.CertificateEnds.Sub(r.At).Seconds())
	f := &Finding{
		Summary:  fmt.Sprintf("The certificate for senders (INGESTGW_INGEST_TLS_CERT_FILE) expires in %s.", said(max(0, left), seconds)),
		Next:     "Renew it; the file is read anew by itself.",
		Evidence: []Evidence{evidence("certificate_left", left, seconds, "it is valid for %s")},
	}
	if left <= 0 {
		f.Summary = "The certificate for senders (INGESTGW_INGEST_TLS_CERT_FILE) has expired: senders that check it cannot send."
	}
	if r.CertificateEnds.Sub(r.At) < certificateNow {
		f.Severity = Page
	}
	return f
}
