package forge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ingestgw/ingestgw/loadtest/verify"
)

// A Book is what was sent and what was answered, a verify.Expectation once all is answered. It is safe for concurrent use, also
// while its World makes requests.
type Book struct {
	world *World

	mu       sync.Mutex
	samples  []*sample // by number
	from, to int64
	taken    map[Kind]int // requests
}

// A sample is one that was sent.
type sample struct {
	kind      Kind
	owner     int    // or nobody
	series    string // as it is to be stored; empty: it is not
	timestamp int64
	large     bool // in a request that leaves as it came

	acknowledged bool
	seen         bool
}

func newBook() *Book { return &Book{taken: map[Kind]int{}} }

// largeSamples is how many samples a request surely has that is not packed with others.
const largeSamples = 500

func (b *Book) expect(number int, r *Request, s *series, at int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if number != len(b.samples) {
		panic("forge: samples are numbered one by one")
	}
	if number == 0 {
		b.from, b.to = at, at
	}
	b.from, b.to = min(b.from, at), max(b.to, at)
	b.samples = append(b.samples, &sample{kind: r.Kind, owner: s.owner, series: s.stored, timestamp: at})
}

// Answered takes note of an answer. The error is not nil when the request must not be answered so.
func (b *Book) Answered(r *Request, status int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken, refused := status/100 == 2, status/100 == 4 && status != 429
	if taken && (r.Want == Refused || r.Want == Partly) || refused && r.Want == Taken {
		return fmt.Errorf("a request of kind %q was answered %d", r.Kind, status)
	}
	if r.Want == Partly {
		taken = status == 400
	}
	if taken {
		b.taken[r.Kind]++
	}
	for _, number := range r.samples {
		s := b.samples[number]
		s.acknowledged = s.acknowledged || taken
		s.large = len(r.samples) >= largeSamples
	}
	return nil
}

// Taken is how many requests of each kind were, as far as they are to be.
func (b *Book) Taken() map[Kind]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.taken)
}

// Acknowledged is how many samples have to be there.
func (b *Book) Acknowledged() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.samples {
		if s.mustBeThere() {
			n++
		}
	}
	return n
}

// Match selects everything.
func (b *Book) Match() string { return `{__name__!=""}` }

// Range is the time from the first sample to the last, in milliseconds.
func (b *Book) Range() (from, to int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.from, b.to
}

// Tenants are all. Whoever else has data in the cluster is looked at too, see verify.Cluster.
func (b *Book) Tenants() []string {
	ids := make([]string, len(b.world.Tenants))
	for i, t := range b.world.Tenants {
		ids[i] = t.ID()
	}
	return ids
}

// Again forgets what was seen, so that everything can be read another time.
func (b *Book) Again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.samples {
		s.seen = false
	}
}

// See judges a sample that was read.
func (b *Book) See(got verify.Sample) verify.Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	number := int(got.Value) - 1
	if got.NaN || number < 0 || number >= len(b.samples) || value(number) != got.Value {
		return verify.Changed
	}
	s := b.samples[number]
	switch {
	case s.owner == nobody || s.series == "" || got.Tenant != b.world.Tenants[s.owner].ID():
		return verify.Foreign
	case got.Series != s.series || got.Timestamp != s.timestamp:
		return verify.Changed
	case s.seen:
		return verify.Again
	}
	s.seen = true
	return verify.Right
}

func (s *sample) mustBeThere() bool { return s.acknowledged && s.owner != nobody && s.series != "" }

// Missing calls each for what was acknowledged and not seen.
func (b *Book) Missing(each func(tenant, what string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for number, s := range b.samples {
		if s.mustBeThere() && !s.seen {
			each(b.world.Tenants[s.owner].ID(), fmt.Sprintf("sample %d, sent as %q: %s at %d", number, s.kind, s.series, s.timestamp))
		}
	}
}

// SeenBothWays is how many series have been read of which samples came packed with others, and others as they were sent.
func (b *Book) SeenBothWays() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	small, large := map[string]bool{}, map[string]bool{}
	for _, s := range b.samples {
		if !s.seen {
			continue
		}
		name := b.world.Tenants[s.owner].ID() + s.series
		if s.large {
			large[name] = true
		} else {
			small[name] = true
		}
	}
	n := 0
	for name := range small {
		if large[name] {
			n++
		}
	}
	return n
}

// String says how many requests of each kind were taken.
func (b *Book) String() string {
	taken := b.Taken()
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(taken)) {
		all = append(all, fmt.Sprintf("%d %s", taken[kind], kind))
	}
	return strings.Join(all, ", ")
}
