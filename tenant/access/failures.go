package access

import (
	"net/netip"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

const (
	// maxAddresses bounds the addresses whose failures are remembered, about 300 bytes each. Those that failed longest ago make room.
	maxAddresses = 10_000
	// subnet is how much of an IPv6 address counts: whoever has one address of a /64 has all of them.
	subnet = 64
)

// failures counts wrong credentials by the address that they come from, and says which addresses have had too many.
type failures struct {
	perMinute int // 0: any number is well
	addresses *lru.Cache[netip.Prefix, *rate.Limiter]
}

func newFailures(perMinute int) *failures {
	addresses, err := lru.New[netip.Prefix, *rate.Limiter](maxAddresses)
	if err != nil {
		panic(err) // it says that the size is not positive
	}
	return &failures{perMinute: perMinute, addresses: addresses}
}

// tooMany says whether nothing that is new from the address is looked at now.
func (f *failures) tooMany(remote string) bool {
	l, ok := f.addresses.Get(addressOf(remote))
	return ok && l.Tokens() < 1
}

func (f *failures) count(remote string) {
	if f.perMinute == 0 {
		return
	}
	fresh := rate.NewLimiter(rate.Limit(float64(f.perMinute)/60), f.perMinute)
	l, ok, _ := f.addresses.PeekOrAdd(addressOf(remote), fresh)
	if !ok {
		l = fresh
	}
	l.Allow()
}

// addressOf is the client's part of http.Request.RemoteAddr. What is no IP address is all the same address.
func addressOf(remote string) netip.Prefix {
	port, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr := port.Addr().Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = subnet
	}
	prefix, _ := addr.Prefix(bits) // it fails for more bits than there are
	return prefix
}

// maxProven bounds the digests in each half of proven, at some 20 bytes each.
const maxProven = 1 << 16

// proven remembers which credentials were right not long ago: the last 65,536 at least.
type proven struct {
	mu          sync.RWMutex
	now, before map[uint64]struct{}
}

func (p *proven) has(d *digest) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if _, ok := p.now[d.index()]; ok {
		return true
	}
	_, ok := p.before[d.index()]
	return ok
}

func (p *proven) add(d *digest) {
	p.mu.RLock()
	_, ok := p.now[d.index()]
	p.mu.RUnlock()
	if ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil || len(p.now) >= maxProven {
		p.now, p.before = make(map[uint64]struct{}), p.now
	}
	p.now[d.index()] = struct{}{}
}
