package forward

import (
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// A node is one process that records are sent to. Its fleet's mutex guards what changes.
type node struct {
	name    string // endpoint.String()
	ep      downstream.Endpoint
	hash    uint64 // of its name
	base    *url.URL
	hasPath bool     // base has a path, to be used as it is
	packURL *url.URL // for packed requests
	client  poster
	metrics *nodeMetrics
	hurry   func(downstream.Endpoint) // reads its metrics sooner; nil when they are not read

	circle    circle     // tenants that it knows
	visitors  [lanes]int // parcels that visit it
	strangers [lanes]int // those of tenants that it does not know, one at most, see stranger.go
	limit     int        // most of them
	failures  int        // in a row
	until     time.Time  // it is left alone before
	contended [lanes]int // permits given out that the other lane waited for too
	credit    int        // of bulk, see permit.go

	load  float64   // samples sent to it lately, see affinity.go
	given time.Time // when it last gave a permit
	idle  bool      // for fleet.spare

	unpackedUntil time.Time // it has refused packed requests, and gets none before
	// episode counts its failures. When a node dies, all requests that were on their way to it fail; only the first one tells
	// something new, and so only results of the current episode count.
	episode int
}

// States of a node, as its metric shows them.
const (
	stateReady    = "ready"    // takes requests
	stateStarting = "starting" // gets one request at a time until it has answered
	statePaused   = "paused"   // left alone because it failed or refused
	stateUnknown  = "unknown"  // its metrics have not been read yet, without which nothing is sent there
)

// unpackedFor is for how long a node that refuses packed requests as such gets none. Then it is asked again: a proxy may have been
// put right.
const unpackedFor = 10 * time.Minute

var states = [...]string{stateReady, stateStarting, statePaused, stateUnknown}

func newNode(ep downstream.Endpoint, client poster, m *nodeMetrics) *node {
	packURL := *ep.Base
	packURL.Path = multitenantPath
	return &node{
		name:    ep.String(),
		ep:      ep,
		hash:    hashOf(ep.String()),
		base:    ep.Base,
		hasPath: ep.Base.Path != "" && ep.Base.Path != "/",
		packURL: &packURL,
		client:  client,
		metrics: m,
		limit:   1,
	}
}

// open says whether another parcel may visit.
func (n *node) open(now time.Time) bool { return n.inFlight() < n.limit && !now.Before(n.until) }

// inFlight is how many parcels visit it.
func (n *node) inFlight() int { return n.visitors[mainLane] + n.visitors[bulkLane] }

// packs says whether packed requests may be sent to it. A URL with a path knows nothing of tenants, so none are to be named there.
func (n *node) packs(now time.Time) bool { return !n.hasPath && !now.Before(n.unpackedUntil) }

// fail leaves the node alone for d, and starts it slowly after that.
func (n *node) fail(now time.Time, d time.Duration) {
	n.episode++
	n.failures++
	n.limit = 1
	n.until = now.Add(d)
	n.circle.forget()
}

// looksUnwell is called when a request has failed, or takes long.
func (n *node) looksUnwell() {
	if n.hurry != nil {
		n.hurry(n.ep)
	}
}

// A backoff says how long to wait before trying again.
type backoff struct{ min, max time.Duration }

// after is the wait after so many failures in a row: min, doubled with each further one up to max, of which a random quarter is
// taken off so that not everybody comes back at once.
func (b backoff) after(failures int) time.Duration {
	d := b.max
	if shift := max(0, failures-1); shift < 62 && b.min<<shift>>shift == b.min {
		d = min(b.max, b.min<<shift)
	}
	return d - rand.N(d/4+1)
}

// asked is the wait that a node asked for, if that is longer, within max.
func (b backoff) asked(failures int, retryAfter time.Duration) time.Duration {
	return max(b.after(failures), min(retryAfter, b.max))
}
