package disk

import (
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	// reserveShare and reserveMost: without BUFFER_MAX_BYTES, a tenth of the file system stays free, 5 GiB at most.
	reserveShare = 10
	reserveMost  = 5 << 30

	// spaceAge is how long the free space that was read is believed; refusedAge is how long a refusal rests on it.
	spaceAge   = 2 * time.Second
	refusedAge = 100 * time.Millisecond
)

// quota bounds what the log takes of the disk. It is safe for concurrent use.
type quota struct {
	space func() (free, total int64, err error)
	max   int64 // 0: what the disk allows

	mu      sync.Mutex
	spare   int64 // bytes of spare files: part of what stays free
	used    int64
	limit   int64
	free    int64
	checked time.Time // zero: never
}

// take takes n bytes when they are within the bound, and says whether they were.
func (q *quota) take(n int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.look(spaceAge)
	if q.used+n > q.limit {
		q.look(refusedAge)
	}
	if q.used+n > q.limit {
		return false
	}
	q.used += n
	return true
}

// add counts n bytes that were written or, when negative, removed, whatever the bound.
func (q *quota) add(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.used += n
}

// keep counts n bytes of spare files.
func (q *quota) keep(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare += n
}

// look reads the free space anew when what is known is older than age. Other processes use the same disk.
func (q *quota) look(age time.Duration) {
	if !q.checked.IsZero() && time.Since(q.checked) < age {
		return
	}
	free, total, err := q.space()
	if err != nil && !q.checked.IsZero() {
		return // what is known stays; a write will show what is wrong
	}
	q.checked = time.Now()
	q.free = free
	switch {
	case q.max > 0:
		q.limit = q.max
	case err != nil:
		q.limit = math.MaxInt64 // a full disk shows itself by refusing writes
	default:
		q.limit = q.used + free + q.spare - min(total/reserveShare, reserveMost)
	}
}

// segment is the size at which a segment is sealed: most, or an eighth of the bound when that is less, so that space comes back in
// small pieces.
func (q *quota) segment(most int64) int64 {
	_, limit, _ := q.figures()
	return min(most, max(limit/quotaSegments, minSegmentBytes))
}

// figures are what metrics and Stats show.
func (q *quota) figures() (used, limit, free int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.look(spaceAge)
	return q.used, max(q.limit, 0), q.free
}

// explain says why there is no room, and what to change.
func (q *quota) explain(n int64) string {
	used, limit, free := q.figures()
	if q.max > 0 {
		return fmt.Sprintf("%v used, %v more do not fit into INGESTGW_BUFFER_MAX_BYTES=%v",
			settings.Bytes(used), settings.Bytes(n), settings.Bytes(q.max))
	}
	return fmt.Sprintf("%v used, %v more would leave less free on the disk than the reserve (%v free, %v allowed in all): "+
		"enlarge the disk or set INGESTGW_BUFFER_MAX_BYTES", settings.Bytes(used), settings.Bytes(n), settings.Bytes(free),
		settings.Bytes(limit))
}
