package limit

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ingestgw/ingestgw/tenant"
)

func TestManyTenantsAndSeriesAreToldInMessagesThatKafkaTakes(t *testing.T) {
	r, c := newRegistry()
	r.sharing.Store(true)
	const many, series = 30_000, 60_000
	plan := samples(t, 1000, 15_000, 2000)
	for i := range many {
		te := r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i), Project: 7}, Plan: plan})
		te.Admit(c.now, Usage{Samples: 150 + i}, i%2 == 0)
	}
	large := []tenant.ID{{Account: 1 << 31}, {Account: 1<<32 - 1, Project: 1<<32 - 1}}
	for _, id := range large {
		te := r.Tenant(&tenant.Profile{ID: id, Plan: &tenant.Plan{ActiveSeries: series}})
		for i := range series {
			te.Series(hashOf(i), c.now)
		}
	}
	messages := newSpeaker("a name").tell(r.takeBusy())
	told, prints := map[tenant.ID]use{}, map[tenant.ID][]fingerprint{}
	for n, value := range messages {
		m, err := parse(value)
		if err != nil || string(m.self) != "a name" || m.seq != uint64(n+1) {
			t.Fatalf("message %d of %d bytes: %v, %+v", n, len(value), err, m)
		}
		for e := range m.entries() {
			if e.use != (use{}) {
				told[e.id] = e.use
			}
			prints[e.id] = slices.AppendSeq(prints[e.id], e.prints())
		}
	}
	for i := range many {
		want := use{main: [kinds]uint32{uint32(150 + i)}}
		if i%2 == 0 || 150+i > 15_000 { // what is old, or does not fit into the burst
			want.main, want.bulk = want.bulk, want.main
		}
		if got := told[tenant.ID{Account: uint32(i), Project: 7}]; got != want {
			t.Fatalf("tenant %d: %+v, want %+v", i, got, want)
		}
	}
	for _, id := range large {
		if n := len(prints[id]); n < series/2 || prints[id][n-1] != fingerprintOf(hashOf(series-1)) {
			t.Errorf("tenant %v: %d series are told", id, n)
		}
	}
	if messages := newSpeaker("").tell(r.takeBusy()); messages != nil {
		t.Errorf("%d messages are told with nothing new", len(messages))
	}
}

func TestLittleUseIsToldOnceItIsEnough(t *testing.T) {
	r, c := newRegistry()
	r.sharing.Store(true)
	te := r.Tenant(onPlan(samples(t, 1000, 15_000, 2000)))
	for i := range 150 {
		if len(r.busy) > 0 {
			t.Fatalf("after %d samples the others are told", i)
		}
		te.Admit(c.now, Usage{Samples: 1}, false)
	}
	if len(r.busy) != 1 {
		t.Error("after 150 samples of a burst of 15000 the others are not told")
	}
}

func TestWhatIsToldWaitsItsTurn(t *testing.T) {
	r, c := newRegistry()
	r.sharing.Store(true)
	plan := samples(t, 1000, 15_000, 2000)
	for i := range mostTold + 10 {
		r.Tenant(&tenant.Profile{ID: tenant.ID{Account: uint32(i)}, Plan: plan}).Admit(c.now, Usage{Samples: 1000}, false)
	}
	if first, second := r.takeBusy(), r.takeBusy(); len(first) != mostTold || len(second) != 10 {
		t.Errorf("%d and then %d are told", len(first), len(second))
	}
}

func FuzzParse(f *testing.F) {
	s := newSpeaker("receiver")
	f.Add(s.greet())
	whole := appendEntry(s.greet(), acme, use{main: [kinds]uint32{1, 2, 3}, refused: [kinds]uint32{1<<32 - 1}}, []fingerprint{1, 1<<28 - 1})
	f.Add(whole)
	f.Add(appendEntry(whole, tenant.ID{}, use{}, nil))
	f.Add(whole[:len(whole)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		s := speaker{self: string(m.self), incarnation: m.incarnation, seq: m.seq - 1}
		again := s.greet()
		for e := range m.entries() {
			again = appendEntry(again, e.id, e.use, slices.Collect(e.prints()))
		}
		if m2, err := parse(again); err != nil || !slices.EqualFunc(slices.Collect(m.entries()), slices.Collect(m2.entries()), equal) {
			t.Errorf("%x is read as something else once written: %x, %v", b, again, err)
		}
	})
}

func equal(a, b entry) bool { return a.id == b.id && a.use == b.use && bytes.Equal(a.series, b.series) }
