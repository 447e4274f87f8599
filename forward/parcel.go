package forward

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ingestgw/ingestgw/buffer"
)

// maxRecycled is the most records whose memory is kept for the next block: a block of tiny records has thousands.
const maxRecycled = 4096

// errYielded is why a visit of bulk ends while main waits.
var errYielded = errors.New("makes room for the main lane")

// An item is a record in a parcel, and the block that it is of.
type item struct {
	*buffer.Record
	of *shipment
}

// A parcel is records on their way to the same node, under one permit: those of a block that go there as they came, or small ones
// of several blocks that go there packed. It belongs to one goroutine at a time.
type parcel struct {
	part    *partition
	items   []item // the memory of pending
	pending []item // those that no node has taken yet; see below for their order
	samples int    // at first
	home    *node  // where its tenants belong; nil for any
	strange bool   // they are not known there

	// pending is first those that may be packed, then others, then those that have been refused before.
	packable int
	suspects int

	most   int  // of records that are packed together, since a pack was refused; 0 is no limit
	apart  bool // since then
	rounds int  // how often nothing but suspects was left
}

func (f *Forwarder) parcel(p *partition, home *node) *parcel {
	c := f.parcels.Get().(*parcel)
	c.part, c.home = p, home
	return c
}

// add puts one more record in, before the parcel is on its way.
func (p *parcel) add(it item) {
	p.items = append(p.items, it)
	p.samples += it.Samples
}

// recycle keeps the memory of p for another parcel.
func (p *parcel) recycle() {
	f := p.part.f
	if cap(p.items) > maxRecycled {
		return
	}
	clear(p.items)
	*p = parcel{items: p.items[:0]}
	f.parcels.Put(p)
}

func (p *parcel) want() *want {
	return &want{lane: p.part.lane.index, home: p.home, strange: p.strange, samples: p.samples}
}

// run takes the parcel to one node after the other until all its records are taken or ctx ends. All records go to the same node as
// long as that takes them. w has been queued.
func (p *parcel) run(ctx context.Context, w *want, permitted func()) {
	fleet := p.part.f.fleet
	permit, err := fleet.await(ctx, w)
	permitted()
	for err == nil {
		fail := p.visit(permit)
		fleet.done(permit, fail)
		if fail == nil {
			p.recycle()
			return
		}
		if fail.kind == cut || !p.rest(ctx, fail) {
			break
		}
		permit, err = fleet.acquire(ctx, p.wantAgain(permit.node, fail))
	}
	p.abandon()
}

// wantAgain asks for the next node. Who has only made room goes on where it was.
func (p *parcel) wantAgain(last *node, fail *failure) *want {
	w := &want{lane: p.part.lane.index, strange: p.strange}
	if fail.kind == yielded {
		w.home = last
		return w
	}
	w.avoid = last
	p.part.metrics.retries.Inc()
	for _, it := range p.pending {
		w.samples += it.Samples
	}
	return w
}

// visit sends what is pending to one node. The failure is why something still is.
func (p *parcel) visit(permit permit) *failure {
	f := p.part.f
	v := newVisit(p.part.sending, permit.node, f.cfg.Timeout)
	defer v.close()
	var last *failure
	took := false
	for left := len(p.pending); left > 0; { // a record that is refused again comes to stand behind these
		if took && p.mustYield() {
			return &failure{kind: yielded, err: errYielded}
		}
		n, fail := p.sendNext(v)
		switch {
		case fail == nil:
			if !took {
				f.fleet.answered(permit)
				took = true
			}
			if p.strange || v.node != p.home {
				v.node.circle.add(p.pending[:n])
			}
			p.taken(n, permit.ticket)
			left -= n
		case fail.kind == refused && n > 1:
			if fail = p.takeApart(v, n, fail); fail != nil {
				return fail
			}
		case fail.kind == refused && (v.proven || p.onlySuspects()):
			p.refuse(v, fail)
			fail.kind = refusedAgain
			last = fail
			left--
		case fail.kind == refused:
			p.refuse(v, fail)
			return fail
		default:
			return fail
		}
	}
	return last
}

// mustYield says whether the parcel has to make room.
func (p *parcel) mustYield() bool {
	return p.part.lane.index == bulkLane && p.part.f.fleet.waits(mainLane)
}

// sendNext sends the next request, with the first n records that are pending.
func (p *parcel) sendNext(v *visit) (n int, fail *failure) {
	if n := p.packLen(); n > 1 && p.part.f.fleet.takesPacks(v.node) {
		n, fail = p.sendPack(v, n)
		if n > 0 {
			return n, fail
		}
	}
	r := p.pending[0].Record
	fail = v.post(r)
	if fail == nil {
		p.part.lane.metrics.unpackedSamples.Add(float64(r.Samples))
	}
	return 1, fail
}

// packLen is how many records the next pack may have.
func (p *parcel) packLen() int {
	if p.most > 0 {
		return min(p.most, p.packable)
	}
	return p.packable
}

// sendPack packs up to n records and sends them. Without at least two that can be packed it does nothing, and returns 0 and nil.
func (p *parcel) sendPack(v *visit, n int) (int, *failure) {
	f := p.part.f
	pack, err := f.packers.pack(v.ctx, p, n)
	if err != nil {
		return n, v.unanswered(err)
	}
	defer f.packers.release(pack)
	if pack.records < 2 {
		return 0, nil
	}
	fail := v.postPacked(pack.body, pack.samples)
	if fail == nil {
		p.part.lane.metrics.packed(pack)
	}
	return pack.records, fail
}

// takeApart decides what becomes of a pack of n records that was refused. If the node refuses packed requests as such, it gets none
// for a while. If not, some record is at fault: fewer are packed together, and in the end each goes alone. The failure is the node's,
// which then has not told which it is.
func (p *parcel) takeApart(v *visit, n int, why *failure) *failure {
	f := p.part.f
	if !v.proven {
		switch fail := v.probe(); {
		case fail == nil:
		case fail.kind == refused:
			f.fallBack(v.node, fail)
			return nil
		default:
			return fail
		}
	}
	p.most = n / 2
	if !p.apart {
		p.apart = true
		p.part.lane.metrics.takenApart.Inc()
		p.part.log.Warn("a node has refused a packed request, though it takes empty ones: some record is at fault, and they are sent in "+
			"smaller parts until it is found", "node", v.node.name, "url", masked(v.node.packURL), "err", why, "records", n)
	}
	return nil
}

// fallBack leaves a node without packed requests.
func (f *Forwarder) fallBack(n *node, why *failure) {
	if !f.fleet.unpack(n) {
		return
	}
	n.metrics.fallbacks.Inc()
	f.log.Error("the node refuses packed requests as such: for a while small records go to it one by one, which costs it several "+
		"times the CPU. If it is to stay so, set INGESTGW_FORWARD_PACK=false; else open this URL", "node", n.name, "url", masked(n.packURL),
		"err", why, "for", unpackedFor)
}

// onlySuspects says whether all that is pending has been refused before.
func (p *parcel) onlySuspects() bool { return p.suspects == len(p.pending) }

// taken is called when a node has taken the first n records that are pending.
func (p *parcel) taken(n int, t ticket) {
	if p.onlySuspects() {
		p.suspects -= n
	}
	p.packable = max(0, p.packable-n)
	if p.most > 0 {
		p.most *= 2
	}
	for _, it := range p.pending[:n] {
		it.of.taken(t)
	}
	p.pending = p.pending[n:]
}

// leaveOut makes the record at i one that is not packed.
func (p *parcel) leaveOut(i int) {
	p.packable--
	it := p.pending[i]
	copy(p.pending[i:p.packable], p.pending[i+1:])
	p.pending[p.packable] = it
}

// refuse puts the record that was refused behind the others, so that it does not keep them.
func (p *parcel) refuse(v *visit, fail *failure) {
	it, again := p.pending[0], p.onlySuspects()
	copy(p.pending, p.pending[1:])
	p.pending[len(p.pending)-1] = it
	p.packable = max(0, p.packable-1)
	if !again {
		p.suspects++
	}
	it.of.park()
	level, what := slog.LevelError, "a node has refused a record; the node is left alone for a while, and the record is kept and sent to another one"
	switch {
	case again:
		level, what = slog.LevelWarn, "a record was refused again; it is kept and will be tried again"
	case v.proven:
		what = "a node has refused a record, though it takes others; the record is kept and will be tried again"
	}
	p.part.log.Log(context.Background(), level, what,
		"node", v.node.name, "url", masked(v.node.url(it.Tenant, it.Tags)), "err", fail, "advice", advice(fail.status),
		"tenant", it.Tenant, "offset", it.of.offset, "bytes", len(it.Payload), "samples", it.Samples)
}

// rest waits before the next visit, if all that is pending has been refused, and says whether there is to be one.
func (p *parcel) rest(ctx context.Context, fail *failure) bool {
	if fail.kind == failed || fail.kind == yielded || !p.onlySuspects() {
		return ctx.Err() == nil
	}
	p.rounds++
	if p.rounds == 1 { // another node may take it at once
		return ctx.Err() == nil
	}
	return sleep(ctx, p.part.f.backoff.after(p.rounds-1))
}

// abandon gives up what is pending. It stays unsent.
func (p *parcel) abandon() {
	for _, it := range p.pending {
		it.of.abandoned()
	}
	p.recycle()
}
