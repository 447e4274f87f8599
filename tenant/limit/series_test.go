package limit

import (
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/ingestgw/ingestgw/tenant"
)

// hashOf is the hash of a series.
func hashOf(i int) uint64 { return mix(tenant.ID{Account: uint32(i)}) }

func seriesPlan(n int) *tenant.Plan { return &tenant.Plan{Name: "small", ActiveSeries: n} }

func TestExistingSeriesGoOnWhenTheLimitIsMet(t *testing.T) {
	te, c := scene(onPlan(seriesPlan(1000)))
	for round := range 30 { // over two and a half hours
		refused := 0
		for i := range 1500 {
			ok := te.Series(hashOf(i), c.now)
			if i < 1000 && !ok {
				t.Fatalf("round %d: series %d is refused, and is known", round, i)
			}
			if !ok {
				refused++
			}
		}
		if refused != 500 {
			t.Fatalf("round %d: %d series are refused, want 500", round, refused)
		}
		c.pass(5 * time.Minute)
	}
}

func TestSeriesThatAreNotSentMakeRoomAfterAnHour(t *testing.T) {
	te, c := scene(onPlan(seriesPlan(100)))
	for i := range 100 {
		te.Series(hashOf(i), c.now)
	}
	var freed time.Duration
	for ; freed < 2*time.Hour; freed += time.Minute {
		for i := range 50 {
			if !te.Series(hashOf(i), c.now.Add(freed)) {
				t.Fatalf("after %v: series %d is refused, and is known", freed, i)
			}
		}
		if te.Series(hashOf(1000), c.now.Add(freed)) {
			break
		}
	}
	if freed < window || freed > window+epoch+time.Minute {
		t.Errorf("there was room after %v, want 1h to 1h5m", freed)
	}
	if te.table.count != 51 {
		t.Errorf("%d are active, want 51", te.table.count)
	}
}

// A model of the table is a map.
func TestTheTableIsASetWhoseMembersExpire(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var table table
		last := map[uint32]int32{}
		secret := rnd.Uint64()
		for now := int32(0); now < 60; now += rnd.Int32N(4) * rnd.Int32N(8) % 20 {
			table.sweep(now)
			for p, at := range last {
				if now-at > int32(lifetime) {
					delete(last, p)
				}
			}
			for range rnd.IntN(5000) {
				p := permute(fingerprint(rnd.Uint32N(20_000)*13421), secret)
				slot, known := table.find(p)
				if _, want := last[p]; known != want {
					t.Fatalf("seed %d, epoch %d: %d is known: %v, want %v", seed, now, p, known, want)
				}
				if known {
					table.touch(slot)
				} else {
					table.insert(p, slot)
				}
				last[p] = now
			}
			check(t, &table, last)
			if now == 0 {
				now++
			}
		}
	}
}

func check(t *testing.T, table *table, last map[uint32]int32) {
	t.Helper()
	if int(table.count) != len(last) {
		t.Fatalf("%d are counted, want %d", table.count, len(last))
	}
	before, entries := uint32(0), 0
	for i, e := range table.slots {
		if e == 0 {
			continue
		}
		entries++
		if p := e >> epochBits; p <= before || i < table.home(p) || e&epochMask != uint32(last[p])&epochMask {
			t.Fatalf("slot %d: %d of epoch %d after %d, home %d", i, p, e&epochMask, before, table.home(p))
		} else {
			before = p
		}
	}
	if entries != len(last) {
		t.Fatalf("%d entries, want %d", entries, len(last))
	}
}

func TestSeriesThatCrowdCostRoomAndNothingElse(t *testing.T) {
	var table table
	for i := range uint32(10_000) { // all have nearly the same home, at the very end
		p := uint32(1<<printBits-1) - i
		slot, known := table.find(p)
		if known {
			t.Fatalf("%d is known", p)
		}
		table.insert(p, slot)
	}
	for i := range uint32(10_000) {
		if _, known := table.find(uint32(1<<printBits-1) - i); !known {
			t.Fatalf("%d is not known", i)
		}
	}
}

func TestPermutingMixesNothingUp(t *testing.T) {
	from := map[uint32]fingerprint{}
	secret := rand.Uint64()
	for i := range fingerprint(1 << 20) {
		p := i * 251 % (1 << printBits)
		x := permute(p, secret)
		if before, there := from[x]; there && x != 1 { // 1 stands for 0 too
			t.Fatalf("%d and %d become %d", before, p, x)
		}
		if x == 0 || x>>printBits != 0 {
			t.Fatalf("%d becomes %d", p, x)
		}
		from[x] = p
	}
}

// bytesOf is the memory of a tenant's state, as the allocator rounds it up, its place in the map included.
func bytesOf(te *Tenant) int {
	const mapEntry = (8 + 8 + 1) * 8 / 7 * 2 // ID, pointer, control byte; full to 7/8 before it doubles
	n := rounded(int(unsafe.Sizeof(*te))) + mapEntry + 4*cap(te.table.slots) + rounded(4*cap(te.news))
	if te.others != nil {
		n += rounded(int(unsafe.Sizeof(*te.others)))
	}
	return n
}

// rounded is what the allocator makes of a size.
func rounded(n int) int { return cap(append([]byte(nil), make([]byte, n)...)) }

func TestATenantTakesAKiBUpToAHundredSeriesAndFiveBytesForEachMore(t *testing.T) {
	for _, n := range []int{0, 10, 100, 1000, 10_000, 100_000, 1_000_000} {
		plan := samples(t, 100, 1000, 200)
		plan.Bytes, plan.Requests, plan.ActiveSeries = rate(t, 100, 0, 0), rate(t, 100, 0, 0), n
		r, c := newRegistry()
		te := r.Tenant(onPlan(plan))
		te.Admit(c.now, Usage{Samples: 1}, false)
		for i := 0; te.table.count < int32(n); i++ {
			te.Series(hashOf(i), c.now)
		}
		alone := bytesOf(te)
		te.hear(te.at, use{main: [kinds]uint32{1}}, func(func(fingerprint) bool) {})
		shared := bytesOf(te)
		t.Logf("%7d series: %d bytes, %d when other processes have told of the tenant", n, alone, shared)
		if most := 1024 + 5*max(0, n-100); shared > most {
			t.Errorf("%d series: %d bytes, want at most %d", n, shared, most)
		}
	}
}
