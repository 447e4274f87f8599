package main

import (
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/status"
)

// vitalsOf is what the page shows of servers.
func vitalsOf(all []downstream.Vitals) []status.NodeVitals {
	list := make([]status.NodeVitals, len(all))
	for i := range all {
		v := &all[i]
		n := &list[i]
		n.Name, n.Kind, n.Up = v.Server, string(v.Kind), v.Health == downstream.HealthGood
		n.Vitals = status.Vitals{
			Version:        v.Version.Text,
			UptimeSeconds:  v.Uptime,
			GCShare:        ofBusy(v, v.CPU.GCShare),
			AssistShare:    ofBusy(v, v.CPU.AssistShare),
			CPUCores:       v.CPU.Used,
			AvailableCores: v.CPU.Available,
			MemoryBytes:    v.Memory.RSS,
			LimitBytes:     v.Memory.ProcessLimit,
			Inserts:        v.Inserts.Current,
			InsertCapacity: v.Inserts.Capacity,
			PendingBytes:   pendingBytes(v),
			RowsPerSecond:  rowsPerSecond(v),
			Notes:          notesOn(v),
		}
	}
	return list
}

// idleCores is the CPU of a process below which its shares mean nothing: what little an idle one does may well be collecting garbage.
const idleCores = 0.1

// ofBusy is the share, unknown of a server that does hardly anything.
func ofBusy(v *downstream.Vitals, share downstream.Figure) downstream.Figure {
	if !(v.CPU.Used >= idleCores) {
		return downstream.Unknown()
	}
	return share
}

// pendingBytes is what a vminsert holds for storages. A vmstorage tells of rows only.
func pendingBytes(v *downstream.Vitals) downstream.Figure {
	if v.Insert == nil {
		return downstream.Unknown()
	}
	sum := downstream.Figure(0)
	for i := range v.Insert.Ways {
		sum += v.Insert.Ways[i].PendingBytes
	}
	return sum
}

func rowsPerSecond(v *downstream.Vitals) downstream.Figure {
	switch {
	case v.Insert != nil:
		return v.Insert.Rows
	case v.Storage != nil:
		return v.Storage.Rows
	}
	return downstream.Unknown()
}

// busySend is the part of the time that a vminsert spends on sending to one storage from which on that holds it up
// (VictoriaMetrics' own alert takes 0.9 too).
const busySend = 0.9

// notesOn is what is not as it should be.
func notesOn(v *downstream.Vitals) []string {
	var notes []string
	note := func(wrong bool, format string, args ...any) {
		if wrong {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	note(v.Health != downstream.HealthGood && v.Health != downstream.HealthUnpolled, "its metrics cannot be read: %s", v.Health)
	note(v.CPU.Short, "short of CPU")
	note(v.Restarts > 0 && !v.Jumping, "%d restarts, the last %s ago", v.Restarts, time.Since(v.LastRestart).Round(time.Second))
	note(v.Jumping, "several processes answer at this address")
	if s := v.Storage; s != nil {
		note(s.ReadOnly, "read-only: its disk is full")
		note(s.Dropped > 0, "drops %.0f rows/s", s.Dropped)
	}
	if v.Insert != nil {
		noteWays(v.Insert, note)
	}
	return notes
}

func noteWays(v *downstream.InsertVitals, note func(wrong bool, format string, args ...any)) {
	unreachable, readOnly, busy := 0, 0, 0
	for i := range v.Ways {
		w := &v.Ways[i]
		switch {
		case !w.Reachable:
			unreachable++
		case w.ReadOnly:
			readOnly++
		case w.SendShare > busySend:
			busy++
		}
	}
	note(unreachable > 0, "cannot reach %d of its storages", unreachable)
	note(readOnly > 0, "%d of its storages are read-only", readOnly)
	note(busy > 0, "%d of its storages hold it up", busy)
	note(v.Dropped > 0, "drops %.0f rows/s", v.Dropped)
}
