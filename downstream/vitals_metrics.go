package downstream

import (
	"github.com/prometheus/client_golang/prometheus"
)

// A gauge is one of the vitals as a metric. There is none of a server for which it is unknown.
type gauge struct {
	desc  *prometheus.Desc
	value func(*Vitals) Figure
}

func newGauge(name, help string, value func(*Vitals) Figure) gauge {
	return gauge{prometheus.NewDesc("ingestgw_downstream_"+name, help, []string{"server", "kind"}, nil), value}
}

func ofInsert(value func(*InsertVitals) Figure) func(*Vitals) Figure {
	return func(v *Vitals) Figure {
		if v.Insert == nil {
			return Unknown()
		}
		return value(v.Insert)
	}
}

func ofStorage(value func(*StorageVitals) Figure) func(*Vitals) Figure {
	return func(v *Vitals) Figure {
		if v.Storage == nil {
			return Unknown()
		}
		return value(v.Storage)
	}
}

// vitalGauges are few for each server, and none for each vmstorage of each vminsert, of which there can be thousands.
func vitalGauges() []gauge {
	return []gauge{
		newGauge("read_age_seconds", "How long ago the metrics of this server were last read. All other figures of it are as old.",
			func(v *Vitals) Figure { return v.Age }),
		newGauge("clock_ahead_seconds", "By how many seconds the clock of this server is ahead of ours, below 0 when it is behind. Less than 1.5 s counts as 0.",
			func(v *Vitals) Figure { return v.ClockAhead }),
		newGauge("cpu_cores_used", "Cores that this server uses.", func(v *Vitals) Figure { return v.CPU.Used }),
		newGauge("cpu_cores_available", "Cores that this server may use.", func(v *Vitals) Figure { return v.CPU.Available }),
		newGauge("cpu_short", "Whether this server is short of CPU (1) or not (0).", shortness),
		newGauge("gc_cpu_share", "Part of the CPU used by this server that garbage collection takes. Says nothing unless the server is short of CPU.",
			func(v *Vitals) Figure { return v.CPU.GCShare }),
		newGauge("gc_assist_share", "Part of the CPU used by this server that those who allocate spend on helping garbage collection.",
			func(v *Vitals) Figure { return v.CPU.AssistShare }),
		newGauge("heap_ratio", "Size at which the heap of this server is collected against what is alive in it: 2 at GOGC=100, 1.1 at GOGC=10.",
			func(v *Vitals) Figure { return v.Memory.Ratio }),
		newGauge("next_gc_bytes", "Size of the heap at which this server collects garbage.", func(v *Vitals) Figure { return v.Memory.NextGC }),
		newGauge("memory_limit_bytes", "GOMEMLIMIT of this server. Missing when it has none.", func(v *Vitals) Figure { return v.Memory.Limit }),
		newGauge("resident_memory_bytes", "Memory of this server.", func(v *Vitals) Figure { return v.Memory.RSS }),
		newGauge("alloc_bytes_per_row", "Bytes that this server allocates for each row it takes in.", func(v *Vitals) Figure { return v.Memory.AllocPerRow }),
		newGauge("rows_per_second", "Rows that this server takes in, from everybody.", rowsOf),
		newGauge("dropped_rows_per_second", "Rows that this server throws away after a 2xx: ignored, over a limit of series, or dropped on overload.", droppedOf),
		newGauge("inserts_current", "Requests that this server works on.", func(v *Vitals) Figure { return v.Inserts.Current }),
		newGauge("inserts_capacity", "Requests that this server works on at one time at most.", func(v *Vitals) Figure { return v.Inserts.Capacity }),
		newGauge("insert_queue_timeouts_per_second", "Requests that waited in vain for room at this server.",
			func(v *Vitals) Figure { return v.Inserts.QueueTimeouts }),
		newGauge("insert_requests_per_second", "Requests to insert that this vminsert gets, from everybody.",
			ofInsert(func(i *InsertVitals) Figure { return i.Requests })),
		newGauge("insert_errors_per_second", "Requests to insert that this vminsert refuses.", ofInsert(func(i *InsertVitals) Figure { return i.Errors })),
		newGauge("new_tenants_per_second", "Tenants that this vminsert meets for the first time since its start.",
			ofInsert(func(i *InsertVitals) Figure { return i.NewTenants })),
		newGauge("send_share_max", "Part of the time that this vminsert spends on sending to the vmstorage that keeps it busiest. Near 1 that one limits.",
			ofInsert(worstSendShare)),
		newGauge("pending_bytes", "Bytes that wait in this vminsert for vmstorages.", ofInsert(pendingBytes)),
		newGauge("storages_unreachable", "vmstorages that this vminsert takes for disconnected.",
			ofInsert(func(i *InsertVitals) Figure { return count(i, func(w Way) bool { return !w.Reachable }) })),
		newGauge("storages_read_only", "vmstorages that this vminsert takes for read-only.",
			ofInsert(func(i *InsertVitals) Figure { return count(i, func(w Way) bool { return w.ReadOnly }) })),
		newGauge("slow_insert_share", "Part of the rows of this vmstorage whose series was not in its cache.",
			ofStorage(func(s *StorageVitals) Figure { return s.SlowShare })),
		newGauge("free_disk_bytes", "Bytes free where this vmstorage keeps its data.", ofStorage(func(s *StorageVitals) Figure { return s.FreeDisk })),
		newGauge("io_waiting_share", "Part of the time in which something in the cgroup of this server waits for the disk.",
			func(v *Vitals) Figure { return v.Pressure.IOWaiting }),
	}
}

func shortness(v *Vitals) Figure {
	if !v.CPU.Used.Known() {
		return Unknown()
	}
	return Figure(oneIf(v.CPU.Short))
}

func rowsOf(v *Vitals) Figure {
	if v.Insert != nil {
		return v.Insert.Rows
	}
	return v.Storage.Rows
}

func droppedOf(v *Vitals) Figure {
	if v.Insert != nil {
		return v.Insert.Dropped
	}
	return v.Storage.Dropped
}

func worstSendShare(i *InsertVitals) Figure {
	worst := Unknown()
	for _, w := range i.Ways {
		if w.SendShare.Known() {
			worst = max(w.SendShare, Figure(worst.Or(0)))
		}
	}
	return worst
}

func pendingBytes(i *InsertVitals) Figure {
	total := Unknown()
	for _, w := range i.Ways {
		total = sum(total, w.PendingBytes)
	}
	return total
}

func count(i *InsertVitals, is func(Way) bool) Figure {
	if len(i.Ways) == 0 {
		return Unknown()
	}
	n := 0
	for _, w := range i.Ways {
		if is(w) {
			n++
		}
	}
	return Figure(n)
}

// vitalsCollector shows vitals as metrics.
type vitalsCollector struct {
	vitals func() []Vitals
	gauges []gauge
}

func (c *vitalsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, g := range c.gauges {
		ch <- g.desc
	}
}

func (c *vitalsCollector) Collect(ch chan<- prometheus.Metric) {
	for _, v := range c.vitals() {
		for _, g := range c.gauges {
			if f := g.value(&v); f.Known() {
				ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, float64(f), v.Server, string(v.Kind))
			}
		}
	}
}
