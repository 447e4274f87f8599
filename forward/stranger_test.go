package forward

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/tenant"
)

// A register is a vminsert that takes its time for each tenant that it does not know.
type register struct {
	each time.Duration

	mu      sync.Mutex
	known   map[string]bool
	now     int // requests with new tenants that it is busy with
	most    int // of them at one time
	largest int // new tenants in one request
}

func (r *register) take(i insertion) int {
	r.mu.Lock()
	strangers := 0
	for _, series := range i.series {
		id, _, _ := strings.Cut(series, " ")
		if !r.known[id] {
			r.known[id] = true
			strangers++
		}
	}
	if strangers == 0 {
		r.mu.Unlock()
		return 0
	}
	r.now++
	r.most, r.largest = max(r.most, r.now), max(r.largest, strangers)
	r.mu.Unlock()
	time.Sleep(time.Duration(strangers) * r.each)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	return 0
}

// newcomers are records of so many tenants, in blocks of 1,000.
func newcomers(first, n int) (blocks [][]byte, all []buffer.Record) {
	for i := range n {
		all = append(all, sender{id: tenant.ID{Account: uint32(first + i)}}.record(1, 2, "m"))
	}
	for some := range slices.Chunk(all, 1000) {
		blocks = append(blocks, encode(some...))
	}
	return blocks, all
}

func TestManyNewTenantsKeepNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a")
		slow := &register{each: 20 * time.Millisecond, known: map[string]bool{}}
		a := s.vminsert("a", slow.take)
		old, all := newcomers(1, 10)
		s.store.put(old[0])
		s.start()
		time.Sleep(5 * time.Second)

		blocks, records := newcomers(1000, 5000)
		all = append(all, records...)
		for _, b := range blocks {
			s.store.put(b)
		}
		put := map[string]time.Time{} // by metric name
		for i := range 100 {
			time.Sleep(100 * time.Millisecond)
			name := fmt.Sprintf("fresh_%03d", i)
			var few []buffer.Record
			for account := range 3 {
				few = append(few, sender{id: tenant.ID{Account: uint32(1 + account)}}.record(1, 2, name))
			}
			s.store.put(encode(few...))
			put[name] = time.Now()
			all = append(all, few...)
		}
		time.Sleep(4 * time.Minute)
		s.stop()

		packed, loose := a.took()
		got := slices.Concat(packed, loose)
		slices.Sort(got)
		if want := wantSeries(t, all...); !slices.Equal(got, want) {
			t.Errorf("%d series came, want each of %d once", len(got), len(want))
		}
		if slow.most != 1 || slow.largest > strangersInPack {
			t.Errorf("%d requests with new tenants at one time, with up to %d", slow.most, slow.largest)
		}
		for _, r := range a.inserted() {
			for _, series := range r.series {
				for name, at := range put {
					if strings.Contains(series, name) && r.at.Sub(at) > time.Second {
						t.Errorf("%s of a known tenant came after %v", name, r.at.Sub(at))
					}
				}
			}
		}
	})
}

func TestANodeThatHasFailedKnowsNobody(t *testing.T) {
	var n node
	n.circle.add([]item{{Record: &buffer.Record{Tenant: tenant.ID{Account: 1}}}})
	if !n.circle.has(tenant.ID{Account: 1}) || n.circle.has(tenant.ID{Account: 2}) {
		t.Error("it knows others than those of which it has taken something")
	}
	n.fail(time.Now(), time.Second)
	if n.circle.has(tenant.ID{Account: 1}) {
		t.Error("it still knows who it knew before it failed")
	}
}

// The node at which new tenants are at home has gone: they are sent to others, if not at once.
func TestNewTenantsFindAnotherNodeWhenTheirsIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a", "b")
		slow := &register{each: 50 * time.Millisecond, known: map[string]bool{}}
		a, b := s.vminsert("a", slow.take), s.vminsert("b", nil)
		blocks, all := newcomers(1, 3000)
		for _, block := range blocks {
			s.store.put(block)
		}
		s.start()
		time.Sleep(2 * time.Second)
		s.node("a").behave(hangs)
		time.Sleep(5 * time.Minute)
		s.stop()
		got := map[string]bool{}
		for _, n := range []*vminsert{a, b} {
			packed, loose := n.took()
			for _, series := range slices.Concat(packed, loose) {
				got[series] = true
			}
		}
		if want := wantSeries(t, all...); len(got) != len(want) {
			t.Errorf("%d different series came, want %d", len(got), len(want))
		}
	})
}
