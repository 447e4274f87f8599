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
	base    *url.URL
	hasPath bool // base has a path, to be used as it is
	client  poster
	metrics *nodeMetrics

	inFlight int       // blocks that visit it
	limit    int       // most of them
	failures int       // in a row
	until    time.Time // it is left alone before
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

var states = [...]string{stateReady, stateStarting, statePaused, stateUnknown}

func newNode(ep downstream.Endpoint, client poster, m *nodeMetrics) *node {
	return &node{
		name:    ep.String(),
		ep:      ep,
		base:    ep.Base,
		hasPath: ep.Base.Path != "" && ep.Base.Path != "/",
		client:  client,
		metrics: m,
		limit:   1,
	}
}

// open says whether another block may visit.
func (n *node) open(now time.Time) bool { return n.inFlight < n.limit && !now.Before(n.until) }

// fail leaves the node alone for d, and starts it slowly after that.
func (n *node) fail(now time.Time, d time.Duration) {
	n.episode++
	n.failures++
	n.limit = 1
	n.until = now.Add(d)
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
