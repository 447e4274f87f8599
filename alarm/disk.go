package alarm

import (
	"fmt"
	"time"
)

const (
	// slowSync is how long an fsync may take, in seconds. A disk of a machine needs some ms, network disks tens of them.
	slowSync = 0.25
	// littleRoom is the part of the disk, without the reserve, that is left when it is nearly full, and ourPart the part of it from which on it
	// is the backlog that fills it.
	littleRoom = 0.1
	ourPart    = 0.5
	// soonFull is in how many seconds a disk that is filled by others makes somebody get up.
	soonFull = 3600
)

// diskCauses are about the buffer on disk.
func diskCauses() []Rule {
	return []Rule{
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
