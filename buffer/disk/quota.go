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

// quota bounds what the log takes of the disk, and what each lane takes of that. It is safe for concurrent use.
type quota struct {
	space func() (free, total int64, err error)
	max   int64 // 0: what the disk allows
	bulk  int   // per cent of the bound that a lane other than main may take

	mu      sync.Mutex
	spare   int64 // bytes of spare files: part of what stays free
	sum     int64 // bytes that all lanes hold
	limit   int64
	free    int64
	total   int64     // of the file system; 0: not known
	checked time.Time // zero: never
}

// An account is what one lane has of the quota. Main may have all that the others do not hold; they cannot hold more than their shares,
// so that the rest is always left to main. It is safe for concurrent use.
type account struct {
	*quota
	main bool

	used int64 // guarded by quota.mu
}

// account returns an account for a lane that holds nothing.
func (q *quota) account(main bool) *account { return &account{quota: q, main: main} }

// take takes n bytes when they are within the bounds, and says whether they were.
func (a *account) take(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look(spaceAge)
	if !a.fits(n) {
		a.look(refusedAge)
	}
	if !a.fits(n) {
		return false
	}
	a.count(n)
	return true
}

// fits says whether n bytes more are within the bounds. quota.mu is held.
func (a *account) fits(n int64) bool { return a.sum+n <= a.limit && a.used+n <= a.share() }

// count counts n bytes more. quota.mu is held.
func (a *account) count(n int64) {
	a.used += n
	a.sum += n
}

// add counts n bytes that were written or, when negative, removed, whatever the bounds.
func (a *account) add(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(n)
}

// share is the most bytes that the lane may hold when the others hold none. quota.mu is held.
func (a *account) share() int64 {
	if a.main {
		return a.limit
	}
	return part(a.limit, a.bulk)
}

// own is what the lane may hold whatever the others hold: what main holds beyond it, it has borrowed. quota.mu is held.
func (a *account) own() int64 {
	if a.main {
		return a.limit - part(a.limit, a.bulk)
	}
	return a.share()
}

// part is so many per cent of n, without going beyond an int64.
func part(n int64, percent int) int64 { return n/100*int64(percent) + n%100*int64(percent)/100 }

// owns says whether the lane may hold n bytes more whatever the others hold.
func (a *account) owns(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used+n <= a.own()
}

// keep counts n bytes of spare files.
func (q *quota) keep(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare += n
}

// look reads the free space anew when what is known is older than age. Other processes use the same disk. q.mu is held.
func (q *quota) look(age time.Duration) {
	if !q.checked.IsZero() && time.Since(q.checked) < age {
		return
	}
	free, total, err := q.space()
	if err != nil && !q.checked.IsZero() {
		return // what is known stays; a write will show what is wrong
	}
	q.checked = time.Now()
	q.free, q.total = free, total
	switch {
	case q.max > 0:
		q.limit = q.max
	case err != nil:
		q.limit = math.MaxInt64 // a full disk shows itself by refusing writes
	default:
		q.limit = max(0, q.sum+free+q.spare-q.reserve())
	}
}

// reserve is what is left free on the disk. quota.mu is held.
func (q *quota) reserve() int64 {
	if q.max > 0 {
		return 0
	}
	return min(q.total/reserveShare, reserveMost)
}

// segment is the size at which a segment is sealed: most, or an eighth of the lane's share when that is less, so that space comes back in
// small pieces.
func (a *account) segment(most int64) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look(spaceAge)
	return min(most, max(a.share()/quotaSegments, minSegmentBytes))
}

// most is the most bytes that the lane may hold while the others hold what they do.
func (a *account) most() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look(spaceAge)
	return max(0, min(a.share(), a.limit-(a.sum-a.used)))
}

// A diskSpace is what the log's file system is like; total is 0 while that is not known.
type diskSpace struct{ free, total, reserve int64 }

// diskSpace is what is free on the disk, how large it is, and what stays free.
func (q *quota) diskSpace() diskSpace {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.look(spaceAge)
	return diskSpace{q.free, q.total, q.reserve()}
}

// explain says why there is no room for n bytes, and what to change.
func (a *account) explain(n int64) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.look(spaceAge)
	what := fmt.Sprintf("%v used, and %v by other lanes; %v more", settings.Bytes(a.used), settings.Bytes(a.sum-a.used), settings.Bytes(n))
	switch {
	case !a.main && a.used+n > a.share():
		return fmt.Sprintf("%s are beyond the lane's share of %v: INGESTGW_BUFFER_BULK_SHARE=%d, per cent of %v", what,
			settings.Bytes(a.share()), a.bulk, settings.Bytes(a.limit))
	case a.max > 0:
		return fmt.Sprintf("%s do not fit into INGESTGW_BUFFER_MAX_BYTES=%v", what, settings.Bytes(a.max))
	}
	return fmt.Sprintf("%s would leave less free on the disk than the reserve (%v free, %v allowed in all): "+
		"enlarge the disk or set INGESTGW_BUFFER_MAX_BYTES", what, settings.Bytes(a.free), settings.Bytes(a.limit))
}
