package verify

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ingestgw/ingestgw/loadtest/offer"
)

// Offered expects what a ledger says was acknowledged.
func Offered(l *offer.Ledger) Expectation {
	o := &offered{ledger: l, seen: make([][]uint64, l.Config.Tenants*l.Config.Series)}
	o.tenants = make(map[string]int, l.Config.Tenants)
	for i := range l.Config.Tenants {
		o.tenants[l.Tenant(i)] = i
	}
	return o
}

type offered struct {
	ledger  *offer.Ledger
	tenants map[string]int
	seen    [][]uint64 // a bit per round, for each series
}

func (o *offered) Match() string { return fmt.Sprintf("{__name__=%q}", o.ledger.Config.Metric) }

func (o *offered) Range() (from, to int64) {
	return o.ledger.Start, o.ledger.Timestamp(o.ledger.Rounds)
}

func (o *offered) Tenants() []string {
	list := make([]string, o.ledger.Config.Tenants)
	for i := range list {
		list[i] = o.ledger.Tenant(i)
	}
	return list
}

func (o *offered) See(s Sample) Verdict {
	tenant, known := o.tenants[s.Tenant]
	account, _, _ := strings.Cut(s.Tenant, ":")
	number, err := strconv.Atoi(s.Labels["series"])
	round, inRounds := o.ledger.Round(s.Timestamp)
	if !known || err != nil || number < 0 || number >= o.ledger.Config.Series || s.Labels["account"] != account ||
		len(s.Labels) != o.ledger.Config.Labels || !inRounds || !o.ledger.WasSent(tenant, number, round) {
		return Foreign
	}
	if s.NaN || !equal(offer.Value(number, round), s.Value) {
		return Changed
	}
	bits := &o.seen[tenant*o.ledger.Config.Series+number]
	for len(*bits) <= round/64 {
		*bits = append(*bits, 0)
	}
	mask := uint64(1) << (round % 64)
	if (*bits)[round/64]&mask != 0 {
		return Again
	}
	(*bits)[round/64] |= mask
	return Right
}

func (o *offered) Missing(each func(tenant, what string)) {
	for tenant := range o.ledger.Config.Tenants {
		for number := range o.ledger.Config.Series {
			bits := o.seen[tenant*o.ledger.Config.Series+number]
			for round := range o.ledger.Rounds {
				seen := round/64 < len(bits) && bits[round/64]&(1<<(round%64)) != 0
				if !seen && o.ledger.IsAcknowledged(tenant, number, round) {
					each(o.ledger.Tenant(tenant), fmt.Sprintf("series %d, round %d at %d", number, round, o.ledger.Timestamp(round)))
				}
			}
		}
	}
}
