package alarm

import (
	"fmt"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// dearGC is the share of a process's CPU that garbage collection may take while it is short of CPU. Go aims at 25 % while it collects.
	dearGC = 0.3
	// tightHeap is the ratio of the heap's goal to what is alive below which GOGC, or a memory limit, leaves too little: GOGC=100 gives
	// 1.5 and more, GOGC=10 1.1 (measured with v1.100).
	tightHeap = 1.25
	// tightLimit is the same where there is a memory limit, and other figures say that it is the reason.
	tightLimit = 1.35
	// limitedHeap is the part of the memory limit that the heap's goal takes when the limit is what makes it small, and limitedMemory the
	// part that the memory in use takes. Stacks, Go's own tables and gaps count against the limit too, 8 to 10 MB in a small v1.100.
	limitedHeap   = 0.55
	limitedMemory = 0.85
	// manyTenants is from where on what v1.106 and before do for each new tenant is noticed.
	manyTenants = 1000
	// tenantsMajor.tenantsMinor is the first version that does not copy its table for each new tenant (VictoriaMetrics #7482).
	tenantsMajor, tenantsMinor = 1, 107
)

// boundByGC says whether garbage collection is what a process lacks CPU for. A high share alone says nothing: idle processors collect too.
func boundByGC(v *downstream.Vitals) bool { return v != nil && v.CPU.Short && v.CPU.GCShare > dearGC }

// tight says whether the heap may hardly grow between two collections.
func tight(v *downstream.Vitals) bool {
	return v.Memory.Ratio <= tightHeap || v.Memory.Ratio <= tightLimit && limited(v)
}

// limited says whether the memory limit is why.
func limited(v *downstream.Vitals) bool {
	m := &v.Memory
	return m.NextGC >= limitedHeap*m.Limit || m.Anon >= limitedMemory*m.Limit || m.RSS >= limitedMemory*m.Limit
}

func gogcTooLow(i *insert) *Finding {
	v := i.own
	if !boundByGC(v) || !tight(v) || limited(v) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s spends %s of its CPU on garbage collection because its GOGC is too low.", i.name, partOf(v.CPU.GCShare)),
		Next: "GOGC too low: start this vminsert with the environment variable GOGC=100 (without it, some versions take 30). Until then more CPU " +
			"helps, more memory does not.",
		Evidence: gcEvidence(v),
	}
}

func memoryLimitTooLow(i *insert) *Finding {
	v := i.own
	if !boundByGC(v) || !tight(v) || !limited(v) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s spends %s of its CPU on garbage collection because its memory limit of %s is too low for what it holds.",
			i.name, partOf(v.CPU.GCShare), said(v.Memory.Limit, size)),
		Next: "Memory limit too low: raise GOMEMLIMIT of this vminsert (and its container's limit, if that is below), or remove it; raising GOGC " +
			"does not help.",
		Evidence: gcEvidence(v),
	}
}

// allocating says whether garbage collection is dear because of how much garbage there is.
func allocating(v *downstream.Vitals) bool { return boundByGC(v) && !tight(v) }

// beforeTenants says whether its version is one that pays for each new tenant.
func beforeTenants(v *downstream.Vitals) bool { return v.Version.Before(tenantsMajor, tenantsMinor) }

func registersTenants(i *insert) *Finding {
	v := i.own
	if !allocating(v) || !beforeTenants(v) || !(v.Insert.NewTenants > 1) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s meets %s tenants a second for the first time, which its version %s does by copying a table of all tenants: %s of "+
			"its CPU goes into garbage collection.", i.name, said(v.Insert.NewTenants, plain), v.Version.Text, partOf(v.CPU.GCShare)),
		Next: "It ends by itself when all tenants are known; vminsert v1.107 and newer does not have this. Avoid restarting several vminserts " +
			"at a time until it is upgraded.",
		Evidence: gcEvidence(v),
	}
}

func oldVersion(i *insert) *Finding {
	v := i.own
	if !allocating(v) || !beforeTenants(v) || v.Insert.NewTenants > 1 || !(v.Insert.TenantSeries > manyTenants) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s, version %s, spends %s of its CPU on garbage collection; it has %s tenants, for which that version is not made.",
			i.name, v.Version.Text, partOf(v.CPU.GCShare), said(v.Insert.TenantSeries, plain)),
		Next:     "Upgrade vminsert to v1.107 or newer; until then give it more CPU, or add vminserts.",
		Evidence: gcEvidence(v),
	}
}

func allocates(i *insert) *Finding {
	v := i.own
	if !allocating(v) || v.Uptime < justStarted || beforeTenants(v) && (v.Insert.NewTenants > 1 || v.Insert.TenantSeries > manyTenants) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("vminsert %s spends %s of its CPU on garbage collection because of how much it allocates: GOGC and memory limit leave it room.",
			i.name, partOf(v.CPU.GCShare)),
		Next: "Give this vminsert more CPU or add vminserts; raise its GOGC if it has memory to spare. Compare the bytes that it allocates per row " +
			"with the other vminserts', and see whether somebody sends many tiny requests to it directly.",
		Evidence: gcEvidence(v),
	}
}

// partOf says a share that is measured a little too high: Go counts what idle processors do for it as well.
func partOf(f downstream.Figure) string {
	if f > 0.9 {
		return "nearly all"
	}
	return said(f, share)
}

func gcEvidence(v *downstream.Vitals) []Evidence {
	e := []Evidence{
		evidence("gc_share", v.CPU.GCShare, share, "garbage collection takes %s of the CPU that it uses, as Go counts it (idle processors that help included)"),
		evidence("gc_assist_share", v.CPU.AssistShare, share, "%s of its CPU is taken from those who insert, to help collecting"),
		evidence("heap_ratio", v.Memory.Ratio, ratioOne, "its heap may grow to %s times what is alive before it is collected (about 2 at GOGC=100)"),
		evidence("live_heap", v.Memory.LiveHeap, size, "about %s of its heap is alive"),
		evidence("next_gc", v.Memory.NextGC, size, "the next collection is at %s"),
		evidence("memory_limit", v.Memory.Limit, size, "its memory limit (GOMEMLIMIT) is %s"),
		evidence("alloc_per_row", v.Memory.AllocPerRow, size, "it allocates %s per row"),
	}
	e = append(e, cpuEvidence(v)...)
	if v.Insert != nil {
		e = append(e, evidence("tenants", v.Insert.TenantSeries, plain, "it has met %s tenants"),
			evidence("new_tenants", v.Insert.NewTenants, perSec, "it meets %s new tenants a second"))
	}
	return known(append(e, versionOf(v))...)
}
