package limit

import (
	"cmp"
	"slices"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

const (
	// rankEvery is how often the tenants are compared at most.
	rankEvery = 15 * time.Second
	// rankPace is how many tenants a second are looked at for that, at about 0.1 µs each: 0.2 % of a core, however many there are and
	// however often somebody asks. 300,000 are compared within rankEvery, 500,000 within 25 s.
	rankPace = 20_000
	// mostCredit is how many may be looked at at one time, when nobody has asked for long.
	mostCredit = rankPace * float64(rankEvery/time.Second)
	// notably is by how much a tenant has to be above the last of those that are in to come in.
	notably = 1.25
)

// A contender is a tenant as it stands in the ranking.
type contender struct {
	id   tenant.ID
	rate float32 // of samples: those that were taken, or those above its limits
}

// A podium is the best of the contenders, the first one first.
type podium struct {
	places int
	best   []contender
}

func (p *podium) add(c contender) {
	if len(p.best) == p.places && (p.places == 0 || c.rate <= p.best[p.places-1].rate) {
		return
	}
	i, _ := slices.BinarySearchFunc(p.best, c, func(a, b contender) int { return cmp.Compare(b.rate, a.rate) })
	if len(p.best) == p.places {
		p.best = p.best[:p.places-1]
	}
	p.best = slices.Insert(p.best, i, c)
}

func (p *podium) has(id tenant.ID) bool {
	return slices.ContainsFunc(p.best, func(c contender) bool { return c.id == id })
}

// A ranking compares all tenants in rounds, each time as many shards as its pace allows.
type ranking struct {
	credit float64 // tenants that may be looked at; below 0 when it was one shard too many
	at     int64   // when that was brought up to date
	round  *round  // the one that goes on, nil between them
	last   *round  // that ended, nil before the first
}

// A round is one comparison of all tenants.
type round struct {
	began int64
	next  int    // shard
	all   podium // the busiest of all, of members that stay, and the furthest above their limits of those that are no members
	in    podium
	worst podium
	rest  int     // active series of those that are no members
	rate  float64 // of samples, in the measure of Tenant.recent, of all tenants together
}

// rank goes on comparing, and returns the round when it ends one. The first one is done at once, as without it nothing is known.
func (m *top) rank(at int64) *round {
	k := &m.ranking
	k.credit = min(mostCredit, k.credit+rankPace*time.Duration(max(0, at-k.at)).Seconds())
	k.at = max(k.at, at)
	if k.round == nil {
		if k.last != nil && at-k.last.began < int64(rankEvery) {
			return nil
		}
		k.round = newRound(at, m.registry.cfg.Top)
	}
	for ; k.round.next < shards; k.round.next++ {
		if k.credit <= 0 && k.last != nil {
			return nil
		}
		k.credit -= float64(m.look(&m.registry.shards[k.round.next], at))
	}
	k.last, k.round = k.round, nil
	return k.last
}

func newRound(at int64, wanted int) *round {
	return &round{began: at, all: podium{places: wanted}, in: podium{places: wanted}, worst: podium{places: guestFactor * wanted}}
}

// together is how many tenants are looked at together.
const together = 32

// A named tenant is a tenant whose id need not be fetched.
type named struct {
	id tenant.ID
	*Tenant
}

// look takes the tenants of a shard into the round, and returns how many they are. Meanwhile none of them is made or forgotten.
func (m *top) look(s *shard, at int64) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	batch := make([]named, 0, together)
	for id, t := range s.tenants {
		if batch = append(batch, named{id, t}); len(batch) == together {
			m.lookAt(batch, s, at)
			batch = batch[:0]
		}
	}
	m.lookAt(batch, s, at)
	return len(s.tenants)
}

// lookAt has all tenants fetched from memory at the same time, the two cache lines that stands reads, before it locks one after the
// other: locks wait for memory, which else is most of what ranking costs.
func (m *top) lookAt(tenants []named, s *shard, at int64) {
	for _, t := range tenants {
		t.inFlight.Load()
		t.profile.Load()
	}
	for _, t := range tenants {
		standing := t.stands(at, s)
		m.ranking.round.add(t.id, standing, standing.shown && m.guests[t.id])
	}
}

func (r *round) add(id tenant.ID, s standing, guest bool) {
	r.rate += float64(s.rate)
	r.all.add(contender{id, s.rate})
	if s.shown && !guest {
		r.in.add(contender{id, s.rate})
	}
	if s.shown {
		return
	}
	r.rest += s.series
	if s.over >= leastOver {
		r.worst.add(contender{id, s.over})
	}
}

// share is which part of what all tenants send has this rate.
func (m *top) share(rate float64, at int64) float64 {
	m.collecting.Lock()
	defer m.collecting.Unlock()
	m.refresh(at)
	if rate == 0 {
		return 0
	}
	return rate / max(rate, m.ranking.last.rate) // a tenant may be busier now than all were then
}
