package forward

import (
	"context"
	"time"
)

// packPause is how long a partition waits for more small records when it has read all that there were. The first one after a silence
// does not wait. vmagent waits for 1 s (-remoteWrite.flushInterval).
const packPause = 200 * time.Millisecond

// A sorting makes parcels of the records of blocks that were read together. It is for one goroutine.
type sorting struct {
	part  *partition
	place placement
	loose []*parcel // by node: what goes as it came, of one block; nil where there is none
	small []*parcel // by node: what is packed, of all blocks
	other []*parcel // the same, of tenants that the node does not know
	full  []*parcel // the same, cut into requests

	records, packed int
	// sparse: most records were small, and no more were there. More of them at a time would cost less.
	sparse bool
}

// begin starts with the nodes that there are now.
func (s *sorting) begin(p *partition) {
	s.part, s.sparse = p, false
	s.records, s.packed = 0, 0
	p.f.fleet.place(&s.place)
	n := max(1, len(s.place.nodes))
	s.loose, s.small, s.other = cleared(s.loose, n), cleared(s.small, n), cleared(s.other, n)
}

func cleared(list []*parcel, n int) []*parcel {
	if cap(list) < n {
		return make([]*parcel, n)
	}
	list = list[:n]
	clear(list)
	return list
}

// block takes in one block, which may be nil, and ships what goes as it came. After an error, which is ctx's, it has given up some.
func (s *sorting) block(ctx context.Context, b *shipment) error {
	if b == nil {
		return nil
	}
	pack := s.part.f.cfg.Pack
	for i := range b.records {
		r := &b.records[i]
		home := s.place.home(r.Tenant, r.Samples)
		list, strange := s.loose, false
		if pack && small(r) && s.place.takesPacks(home) {
			list = s.small
			if strange = !s.place.knows(home, r.Tenant); strange {
				list = s.other
			}
			s.packed++
		}
		if list[home] == nil {
			list[home] = s.part.f.parcel(s.part, s.place.node(home))
			list[home].strange = strange
		}
		list[home].add(item{Record: r, of: b})
	}
	s.records += len(b.records)
	return s.ship(ctx, s.loose)
}

// ship ships the parcels of the list. After an error the rest is given up.
func (s *sorting) ship(ctx context.Context, list []*parcel) error {
	var err error
	for i, c := range list {
		if c == nil {
			continue
		}
		list[i] = nil
		if err == nil {
			err = s.part.ship(ctx, c)
			continue
		}
		c.pending = c.items
		c.abandon()
	}
	return err
}

// end ships the small records of all blocks.
func (s *sorting) end(ctx context.Context, l *load) error {
	s.sparse = l.last && s.packed > 0 && 2*s.packed >= s.records
	for _, list := range [...][]*parcel{s.small, s.other} {
		for i, c := range list {
			if c != nil {
				sortByTenant(c.items)
				list[i] = nil
				s.full = s.cut(s.full, c)
			}
		}
	}
	err := s.ship(ctx, s.full)
	s.full = s.full[:0]
	return err
}

// cut appends c to list, as parcels of what one request may have, all of about the same size.
func (s *sorting) cut(list []*parcel, c *parcel) []*parcel {
	each := max(1, c.samples/(1+c.samples/packRows))
	rest := c.items
	c.items, c.samples = c.items[:0], 0
	for {
		n := together(rest, each, c.strange)
		for _, it := range rest[:n] {
			c.add(it)
		}
		c.packable = n
		list, rest = append(list, c), rest[n:]
		if len(rest) == 0 {
			return list
		}
		next := s.part.f.parcel(c.part, c.home)
		next.strange = c.strange
		c = next
	}
}

// together is how many of the items, which are sorted by tenant, one request may have.
func together(items []item, samples int, strange bool) (n int) {
	rows, size, tenants := 0, 0, 0
	for n < len(items) && rows < samples {
		r := items[n].Record
		rows, size = rows+r.Samples, size+unpackedSize(r)
		if n == 0 || r.Tenant != items[n-1].Tenant {
			tenants++
		}
		if n > 0 && (size > packBytes || strange && tenants > strangersInPack) {
			break
		}
		n++
	}
	return n
}
