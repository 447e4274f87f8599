package alarm

import (
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/spoken"
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
	// certificateSoon and certificateNow are how long a certificate is still valid.
	certificateSoon = 14 * 24 * time.Hour
	certificateNow  = 24 * time.Hour
)

// ownCauses are about this process.
func ownCauses() []Rule {
	return []Rule{
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
	const which = "The certificate for senders (INGESTGW_INGEST_TLS_CERT_FILE)"
	left := r.CertificateEnds.Sub(r.At)
	f := &Finding{
		Summary:  fmt.Sprintf("%s expires in %s.", which, said(downstream.Figure(left.Seconds()), seconds)),
		Next:     "Renew it; the file is read anew by itself.",
		Evidence: []Evidence{fact("certificate_ends", "it is valid until %s", spoken.ClockTime(r.CertificateEnds))},
	}
	if left <= 0 {
		f.Summary = which + " has expired: senders that check it cannot send."
	}
	if left < certificateNow {
		f.Severity = Page
	}
	return f
}
