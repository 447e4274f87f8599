package forward

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/remotewrite"
	"github.com/ingestgw/ingestgw/tenant"
)

// Small records of many tenants are packed into one request. What a request costs vminsert does not depend on how little is in
// it: CPU-seconds per million samples were 5.5 to 6.5 with 10 in a request, 2.0 with 100, 1.05 with 500 and 1.0 with 2,000, all of
// one tenant, and 0.8 to 1.0 with 10,000 of many tenants, sorted by tenant (1.3 to 1.6 unsorted); newest vminsert of 2026-11.
const (
	// packBelow is how many samples a record has at most that is packed, less one. From there on, its own request costs about
	// what packing saves, and its bytes can stay as they are.
	packBelow = 500
	// packRows is the most samples in one request, and those of one record more. vmagent sends 10,000
	// (-remoteWrite.maxRowsPerBlock), but a vminsert keeps what it decodes one request into for the next one only until its garbage
	// collector has come twice: from some thousand rows on, two requests bring it twice, and each decodes into new memory. Of 5,000
	// tenants with 10 samples in a request at 50,000/s, v1.100 took 1.2 to 1.5 CPU-seconds per million in requests of 2,000, 2.3 to
	// 2.8 in such of 3,700, and 3.7 to 4.4 in such of 9,000 (loadtest compare).
	packRows = 2_500
	// packBytes is the most bytes of one request before it is compressed, which is what vmagent sends too
	// (-remoteWrite.maxBlockSize). vminsert refuses 32 MiB (-maxInsertRequestSize).
	packBytes = 8 << 20
	// recordBytes is the most of a record that is packed, decompressed. Few samples may be long ones, or none but much metadata.
	recordBytes = 1 << 20
	// packWindow is how far back the compression looks: far enough for a few hundred tenants, and it stays in a CPU's cache.
	packWindow = 1 << 20
)

// small says whether a record is to be packed with others.
func small(r *buffer.Record) bool { return r.Samples < packBelow && r.Decoded <= recordBytes }

// unpackedSize is about how many bytes a record takes in a packed request: each series gets labels for the tenant and the tags.
func unpackedSize(r *buffer.Record) int { return r.Decoded + r.Series*(tenantLabelsSize+2*len(r.Tags)) }

// tenantLabelsSize is about what the two labels take that name the tenant.
const tenantLabelsSize = 50

// emptyZstd is the message without anything in it, as it is sent to see whether a node takes packed requests.
var emptyZstd = newEncoder().EncodeAll(nil, nil)

// sortByTenant brings the records of each tenant together: whose series vminsert looks up next to each other, it finds faster.
func sortByTenant(items []item) {
	slices.SortStableFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(a.Tenant.Account, b.Tenant.Account), cmp.Compare(a.Tenant.Project, b.Tenant.Project))
	})
}

// A pack is the body of a packed request.
type pack struct {
	body                        []byte
	records, samples            int
	before, unpacked, accounted int // bytes: of the records as they came; of the message; of memory
}

// packers bounds how many requests are packed at one time. The work is pure CPU, so one packer per CPU is as fast as one per
// request, and unpacked messages, the largest things in memory, are few. Bodies are as many as there are permits at most.
type packers struct {
	free      chan *packer
	packs     sync.Pool // of *pack
	maxLabels int
	metrics   *metrics
}

func newPackers(maxLabels int, m *metrics) *packers {
	n := runtime.GOMAXPROCS(0)
	p := &packers{free: make(chan *packer, n), maxLabels: maxLabels, metrics: m}
	p.packs.New = func() any { return new(pack) }
	for range n {
		p.free <- new(packer)
	}
	return p
}

// pack packs the first of the pending records of p: n of them, or fewer when they become too large. Those that cannot be packed it
// makes the parcel send alone. With fewer than two there is nothing in the pack. Whoever has sent it releases it.
func (ps *packers) pack(ctx context.Context, p *parcel, n int) (*pack, error) {
	var pk *packer
	select {
	case pk = <-ps.free:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	out := ps.packs.Get().(*pack)
	*out = pack{body: out.body[:0]}
	held := pk.held()
	pk.fill(out, p, n, ps.maxLabels)
	if out.records > 1 {
		out.unpacked = len(pk.message)
		out.body = pk.encoder().EncodeAll(pk.message, out.body)
	}
	out.accounted = cap(out.body)
	ps.metrics.packing.Add(float64(pk.held() - held + out.accounted))
	ps.free <- pk
	return out, nil
}

func (ps *packers) release(p *pack) {
	ps.metrics.packing.Sub(float64(p.accounted))
	ps.packs.Put(p)
}

// A packer is the scratch space for one request being packed.
type packer struct {
	enc     *zstd.Encoder
	message []byte // of all records
	record  []byte // one, decompressed
	tags    []remotewrite.Label
}

// held is the bytes that pk keeps.
func (pk *packer) held() int { return cap(pk.message) + cap(pk.record) }

// encoder makes pk's on first use: without small records there is none.
func (pk *packer) encoder() *zstd.Encoder {
	if pk.enc == nil {
		pk.enc = newEncoder()
	}
	return pk.enc
}

func newEncoder() *zstd.Encoder {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(packWindow), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return enc
}

// fill makes pk.message of the first n pending records of p.
func (pk *packer) fill(out *pack, p *parcel, n, maxLabels int) {
	pk.message = pk.message[:0]
	m := p.part.lane.metrics
	for i := 0; i < min(n, p.packable); {
		r := p.pending[i].Record
		before := len(pk.message)
		labels, err := pk.add(r)
		switch {
		case err != nil:
			m.unreadable.Inc()
			p.part.log.Warn("a record cannot be packed, and goes as it came", "tenant", r.Tenant, "offset", p.pending[i].of.offset, "err", err)
			p.leaveOut(i)
		case labels > maxLabels:
			m.tooManyLabels.Inc()
			pk.message = pk.message[:before]
			p.leaveOut(i)
		case len(pk.message) > packBytes && out.records > 0:
			pk.message = pk.message[:before]
			return
		default:
			out.records++
			out.samples += r.Samples
			out.before += len(r.Payload)
			i++
		}
	}
}

// add appends a record to pk.message and says how many labels one of its series has now, at most.
func (pk *packer) add(r *buffer.Record) (labels int, err error) {
	size, err := snappy.DecodedLen(r.Payload)
	if err != nil {
		return 0, err
	}
	if size > recordBytes {
		return 0, snappy.ErrTooLarge
	}
	if cap(pk.record) < size {
		pk.record = make([]byte, max(size, 2*cap(pk.record)))
	}
	record, err := snappy.Decode(pk.record[:cap(pk.record)], r.Payload)
	if err != nil {
		return 0, err
	}
	pk.label(r.Tags)
	pk.message, labels, err = remotewrite.AppendPacked(pk.message, record, r.Tenant.Account, r.Tenant.Project, pk.tags)
	return labels, err
}

// label brings tags into the form that remotewrite wants.
func (pk *packer) label(tags tenant.Tags) {
	pk.tags = pk.tags[:0]
	for name, value := range tags.All() {
		pk.tags = append(pk.tags, remotewrite.Label{Name: name, Value: value})
	}
}
