package remotewrite

import (
	"encoding/binary"
	"math"
)

// A timeRange is the earliest and the latest of timestamps, in Unix milliseconds.
type timeRange struct{ oldest, newest int64 }

// A usualTimeRange is the same of timestamps as they are usually written.
type usualTimeRange struct{ oldest, newest usualTime }

// The ranges of no timestamps.
var (
	noTimes      = timeRange{math.MaxInt64, math.MinInt64}
	noUsualTimes = usualTimeRange{oldest: math.MaxUint64}
)

func (r *timeRange) add(t int64) { r.oldest, r.newest = min(r.oldest, t), max(r.newest, t) }

func (r *usualTimeRange) add(o usualTimeRange) {
	r.oldest, r.newest = min(r.oldest, o.oldest), max(r.newest, o.newest)
}

// with is the range of both.
func (r timeRange) with(usual usualTimeRange) timeRange {
	if usual != noUsualTimes {
		r.add(usual.oldest.milliseconds())
		r.add(usual.newest.milliseconds())
	}
	return r
}

// milliseconds is the timestamp, in Unix milliseconds.
func (t usualTime) milliseconds() int64 {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(t))
	v, _ := binary.Uvarint(b[:])
	return int64(v)
}

func (c *Counts) setTimes(r timeRange) { c.Oldest, c.Newest = r.oldest, r.newest }
