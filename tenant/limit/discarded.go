package limit

import (
	"iter"

	"github.com/ingestgw/ingestgw/tenant"
)

// Discarded is how many samples of a tenant were refused for one reason, since it began to send.
type Discarded struct {
	Reason  Reason
	Samples uint64
}

// Discarded yields the tenants of whose samples some were refused, without those that a sender has kept because the buffer did not
// take them. The slice is valid until the next one.
func (r *Registry) Discarded() iter.Seq2[*tenant.Profile, []Discarded] {
	return func(yield func(*tenant.Profile, []Discarded) bool) {
		var tenants []*Tenant
		var list []Discarded
		for i := range r.shards {
			tenants = r.shards[i].all(tenants[:0])
			for _, t := range tenants {
				if list = t.discarded(list[:0]); len(list) > 0 && !yield(t.profile.Load(), list) {
					return
				}
			}
		}
	}
}

func (s *shard) all(into []*Tenant) []*Tenant {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tenants {
		into = append(into, t)
	}
	return into
}

func (t *Tenant) discarded(into []Discarded) []Discarded {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refusals == nil {
		return into
	}
	for reason, samples := range t.refusals.samples {
		if samples > 0 && Reason(reason) != Unavailable {
			into = append(into, Discarded{Reason(reason), samples})
		}
	}
	return into
}
