package forward

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/tenant"
)

// homes are the nodes of the first n tenants, each with so many samples.
func homes(f *fleet, n, samples int) []string {
	var p placement
	f.place(&p)
	all := make([]string, n)
	for i := range all {
		all[i] = p.node(p.home(tenant.ID{Account: uint32(i)}, samples)).name
	}
	return all
}

func counted(names []string) map[string]int {
	n := map[string]int{}
	for _, name := range names {
		n[name]++
	}
	return n
}

func fleetOf(n int) *fleet {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("vminsert-%d:8480", i))
	}
	return newFleet(&fakeSettling{}, 4, names...)
}

func TestTenantsAreSharedOutEvenlyAndTheSameByEveryProcess(t *testing.T) {
	const tenants = 30_000
	for _, n := range []int{1, 2, 3, 10, 40} {
		f := fleetOf(n)
		got := homes(f, tenants, 0)
		if again := homes(fleetOf(n), tenants, 0); !slices.Equal(got, again) {
			t.Errorf("with %d nodes two processes disagree", n)
		}
		for name, share := range counted(got) {
			if mean := tenants / n; math.Abs(float64(share-mean)) > 0.15*float64(mean) {
				t.Errorf("with %d nodes %s has %d tenants, the mean is %d", n, name, share, mean)
			}
		}
	}
}

func TestWhenANodeGoesOnlyItsOwnTenantsMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleetOf(5)
		before := homes(f, 10_000, 0)
		gone := f.nodes[2]
		gone.fail(time.Now(), time.Minute)
		for i, home := range homes(f, 10_000, 0) {
			if home == gone.name || before[i] != gone.name && home != before[i] {
				t.Fatalf("tenant %d went from %s to %s though %s is gone", i, before[i], home, gone.name)
			}
		}
		time.Sleep(time.Minute)
		if after := homes(f, 10_000, 0); !slices.Equal(before, after) {
			t.Error("they are not where they were when it is back")
		}
	})
}

// One tenant has as much as all others together.
func TestNoNodeGetsMuchMoreThanTheMean(t *testing.T) {
	f := fleetOf(4)
	var p placement
	f.place(&p)
	got := map[string]int{}
	for i := range 20_000 {
		id, samples := tenant.ID{Account: 1 << 30}, 200
		if i%2 == 0 {
			id = tenant.ID{Account: uint32(i)}
		}
		got[p.node(p.home(id, samples)).name] += samples
	}
	for name, samples := range got {
		if most := 20_000*200/4*loadBound + loadSlack + 200; float64(samples) > most {
			t.Errorf("%s got %d samples, want at most %v", name, samples, most)
		}
	}
	if len(got) != 4 {
		t.Errorf("only %d nodes got something", len(got))
	}
}

func TestANodeThatIsNewOrComesBackIsNotHeapedUpon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleetOf(3)
		f.warm(t)
		send := func() map[string]int {
			var p placement
			f.place(&p)
			got := map[string]int{}
			for i := range 3000 {
				home := p.node(p.home(tenant.ID{Account: uint32(i)}, 100))
				got[home.name]++
				f.done(mustAcquire(t, f, want{home: home, samples: 100}), nil)
			}
			return got
		}
		for range 20 {
			send()
			time.Sleep(time.Second)
		}
		back := f.nodes[0]
		back.fail(time.Now(), 30*time.Second)
		for range 30 {
			send()
			time.Sleep(time.Second)
		}
		f.answered(permit{node: back, episode: back.episode})
		if got := send()[back.name]; got < 500 || got > 1500 {
			t.Errorf("the node that came back got %d of 3000 at once", got)
		}
		f.set(append(endpointsOf(f), endpoint("http://vminsert-9:8480")))
		f.warm(t)
		if got := send()["vminsert-9:8480"]; got < 400 || got > 1200 {
			t.Errorf("the new node got %d of 3000 at once", got)
		}
	})
}

// Without anything more to pass on, a vminsert shows for minutes nothing that proves what it has passed on.
func TestANodeThatWasSentSomethingIsSentMoreUntilThatHasSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, watches := range []bool{true, false} {
			f := newFleet(&fakeSettling{}, 4, "a:1", "b:1", "c:1")
			f.watches = watches
			f.warm(t)
			var p placement
			f.place(&p)
			home := p.home(tenantOne, 10)
			stray := f.nodes[(home+1)%3]
			f.done(mustAcquire(t, f, want{home: stray}), nil)
			got := map[string]int{}
			for range 100 {
				time.Sleep(time.Second / 2)
				f.place(&p)
				for range 10 {
					n := p.node(p.home(tenantOne, 10))
					got[n.name]++
					f.done(mustAcquire(t, f, want{home: n}), nil)
				}
			}
			want := map[string]int{f.nodes[home].name: 1000}
			if watches {
				want = map[string]int{f.nodes[home].name: 1000 - 25, stray.name: 25} // one in 2 s; none where nothing was sent
			}
			if !maps.Equal(got, want) {
				t.Errorf("watches=%v: nodes got %v, want %v", watches, got, want)
			}
		}
	})
}

// Retries and other nodes' parcels count where they went.
func TestWhatWentElsewhereCountsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(&fakeSettling{}, 1, "a:1", "b:1")
		f.warm(t)
		first := mustAcquire(t, f, want{home: f.nodes[0], samples: 100})
		mustAcquire(t, f, want{home: f.nodes[0], samples: 50}) // goes to b after homeWait
		if a, b := f.nodes[0].load, f.nodes[1].load; first.node != f.nodes[0] || a != 100 || b != 50 {
			t.Errorf("loads are %v and %v, want 100 and 50", a, b)
		}
		time.Sleep(loadFades)
		if list := f.list(); math.Abs(list[0].load-100/math.E) > 1 {
			t.Errorf("after %v it counts %v", loadFades, list[0].load)
		}
	})
}

func TestATenantsSamplesStayAtItsNodeWhetherPackedOrNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a", "b", "c")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		nodes := map[string]*vminsert{"a": s.vminsert("a", nil), "b": s.vminsert("b", nil), "c": s.vminsert("c", nil)}
		s.start()
		time.Sleep(time.Second)
		for range 20 {
			var records []buffer.Record
			for i := range 60 {
				id := tenant.ID{Account: uint32(i)}
				records = append(records, sender{id: id}.record(1, 2, "small"), sender{id: id}.record(packBelow, 2, "big"))
			}
			s.store.put(encode(records...))
			time.Sleep(time.Second)
		}
		at := map[string]string{}
		for name, n := range nodes {
			packed, loose := n.took()
			if len(packed) == 0 || len(loose) == 0 {
				t.Errorf("%s got %d packed series and %d others", name, len(packed), len(loose))
			}
			for _, series := range slices.Concat(packed, loose) {
				var account int
				if _, err := fmt.Sscanf(series, "%d:", &account); err != nil {
					t.Fatal(err)
				}
				id := fmt.Sprint(account)
				if at[id] != "" && at[id] != name {
					t.Errorf("tenant %s is at %s and at %s", id, at[id], name)
				}
				at[id] = name
			}
		}
		if len(at) != 60 {
			t.Errorf("%d tenants have come, want 60", len(at))
		}
		if offs := settle.offsets(); len(offs) != 20 {
			t.Errorf("blocks %v were sent, want each once", offs)
		}
		for i, names := range settle.nodes {
			if names != "a:8480,b:8480,c:8480" {
				t.Errorf("settling was told %q of block %d, want all three nodes", names, i)
			}
		}
		s.stop()
	})
}

// Two of a block's nodes answer, one does not: the block is not sent.
func TestABlockIsSentWhenAllItsNodesHaveTakenTheirPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newPackScene(t, "a", "b", "c")
		settle := &fakeSettling{}
		s.cfg.Settle, s.settle = time.Minute, settle
		s.vminsert("a", nil)
		s.vminsert("b", nil)
		s.node("c").behave(hangs)
		s.start()
		time.Sleep(time.Second)
		var records []buffer.Record
		for i := range 60 {
			records = append(records, sender{id: tenant.ID{Account: uint32(i)}}.record(1, 2, "small"))
		}
		s.store.put(encode(records...))
		time.Sleep(s.cfg.Timeout - time.Second)
		if offs := settle.offsets(); len(offs) != 0 {
			t.Errorf("blocks %v count as sent", offs)
		}
		time.Sleep(2 * time.Second)
		if offs := settle.offsets(); !slices.Equal(offs, []buffer.Offset{0}) {
			t.Errorf("blocks %v were sent", offs)
		}
		s.stop()
	})
}

func BenchmarkHome(b *testing.B) {
	for _, n := range []int{1, 3, 24} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var p placement
			fleetOf(n).place(&p)
			b.ReportAllocs()
			i := uint32(0)
			for b.Loop() {
				i++
				p.home(tenant.ID{Account: i}, 10)
			}
		})
	}
}
