// Package limit says how much a tenant may send.
//
// Each process keeps, for every tenant that sends to it, buckets that stand for those of all processes together: they fill at the
// full rate of the plan; what is sent to this process is taken out at once, what is sent to others when they tell (share.go). A
// tenant that keeps to its plan is therefore never refused, wherever its requests go, and nobody divides by the number of processes.
//
// For each rate of a plan there are two buckets. sustained holds Burst and fills with PerSecond: what finds something in it goes to
// the main lane. hard holds as many seconds of Hard: what finds nothing in it is refused. What lies between, and what is old, goes to
// the bulk lane. Bulk takes from hard only: if it took from sustained too, a tenant that always sends more than PerSecond would
// always be in debt there and its main lane would starve; as it is, PerSecond of its samples go to main however much it sends, and
// nothing that goes to bulk ever makes room in main.
//
// A request finds something when the bucket is not empty, and may leave a debt behind, so that a large one does not starve among small
// ones. What does not fit into sustained at all, being more than Burst, goes to bulk however much there is in it: it would hold up
// everybody in main. So what goes to main within t seconds is at most 2 × Burst + t × PerSecond, and a debt in sustained is less than
// one Burst. What is larger than the hard bucket is taken too when there is something in that, as nothing could ever be sent again else;
// a debt in hard is paid in full.
package limit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// Why a request is not taken. Errors of this package wrap one of them.
var (
	// ErrLimit: fresh samples above the hard limit. 429.
	ErrLimit = errors.New("above the tenant's limit")
	// ErrLimitOld: above the hard limit, with old samples, which their sender must keep: 503, as Prometheus drops what gets 429.
	ErrLimitOld = errors.New("above the tenant's limit for now")
	// ErrConcurrent: too many requests of the tenant at one time. 503, as it is not known yet whether their samples are old.
	ErrConcurrent = errors.New("too many requests of the tenant at one time")
)

// A Reason says in counters why samples were refused.
type Reason uint8

// The reasons. Those from Series on are told by whoever refuses, with Tenant.Refused.
const (
	Samples     Reason = iota // above samples per second
	Bytes                     // above bytes per second
	Requests                  // above requests per second
	Concurrent                // too many requests at one time
	Series                    // new series above Plan.ActiveSeries
	Invalid                   // what cannot be stored
	Rule                      // fits a rule of Profile.Drop
	Reserved                  // names a tenant in the data
	Unavailable               // the buffer did not take it; the sender will send it again
	reasons
)

var reasonNames = [reasons]string{
	"samples", "bytes", "requests", "concurrent_requests", "active_series", "invalid", "drop_rule", "reserved_labels", "unavailable",
}

// String is how metrics name r.
func (r Reason) String() string {
	if r >= reasons {
		return "reason" + strconv.Itoa(int(r))
	}
	return reasonNames[r]
}

// Usage is what a request would take.
type Usage struct {
	Samples, Bytes, Requests int
	// HoldsOld: some of the samples were old when they came, and have to be kept by their sender when they are refused.
	HoldsOld bool
}

// A Verdict says what becomes of a request.
type Verdict struct {
	// Bulk: it goes to the bulk lane instead of main.
	Bulk bool
	// Err is nil when it is taken; otherwise it wraps ErrLimit or ErrLimitOld.
	Err error
	// RetryAfter is when the next try may succeed: 1 to 30 s, and whole seconds; 0 without Err.
	RetryAfter time.Duration
}

const (
	leastRetry = time.Second
	mostRetry  = 30 * time.Second // senders sleep what they are told, however long
)

// retryAfter rounds the seconds that a bucket takes to fill to what senders are told.
func retryAfter(seconds float64) time.Duration {
	if !(seconds < mostRetry.Seconds()) {
		return mostRetry
	}
	return max(leastRetry, time.Duration(seconds+1)*time.Second)
}

// A refusal is the error of a request above a limit. Its text is made when somebody reads it.
type refusal struct {
	kind    error
	profile *tenant.Profile
	reason  Reason
	value   int // what the request would take
	wait    time.Duration
}

// Unwrap is the kind.
func (r *refusal) Unwrap() error { return r.kind }

// Error names the tenant, the limit, the value, and what to change.
func (r *refusal) Error() string {
	plan := r.profile.Plan
	if r.reason == Concurrent {
		return fmt.Sprintf("tenant %s: %v: plan %q allows %d (%s)", nameOf(r.profile), r.kind, plan.Name, plan.Concurrent, r.reason)
	}
	rate, of := rateOf(plan, int(r.reason)), r.reason.String()
	return fmt.Sprintf("tenant %s: %v: %s: plan %q has none left: %s_hard %s/s, and %s at once (%s_burst %s, for as many seconds of %s_hard): "+
		"try again in %v",
		nameOf(r.profile), r.kind, counted(r.value, of), plan.Name, of, number(rate.Hard), number(hard(rate).burst), of, number(rate.Burst), of,
		r.wait)
}

// counted is n things, whose name ends in s.
func counted(n int, things string) string {
	if n == 1 {
		things = strings.TrimSuffix(things, "s")
	}
	return fmt.Sprintf("%d %s", n, things)
}

func nameOf(p *tenant.Profile) string {
	if p.Name == "" {
		return p.ID.String()
	}
	return fmt.Sprintf("%s (%q)", p.ID, p.Name)
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
