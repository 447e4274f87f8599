package buffer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/tenant"
)

const (
	// blockSize is where a block is full, in bytes. Larger ones gain nothing: a disk and a broker are at full speed at 1 MiB.
	blockSize = 1 << 20
	// maxBlocks bounds the blocks of a lane that have not been answered, the one that gathers included. It is the memory that a
	// slow Store costs: so many MiB, or so many records when they are larger than a block.
	maxBlocks = 8
	// maxHeld bounds the blocks of a lane whose bytes are held, those of maxBlocks included. The others have been answered and the
	// Store has not released them: they are stored, or given up, and a broker that has stopped may still read them. Few of them must
	// not keep others from being stored. A Store releases what it holds in the end, so that this much is held for a while only.
	maxHeld = 4 * maxBlocks
)

// A Gatherer puts records that arrive together into one block, so that they cost one write. It is safe for concurrent use.
//
// A block leaves for the Store when no other of its lane is on its way; otherwise when it is full or has lingered. So a record
// that comes alone is stored at once, and the more there are the larger the blocks become. While 8 blocks of a lane have not been
// answered, or the bytes of 32 are held, further records wait outside, in the order in which they came. Lanes do not wait for each
// other.
type Gatherer struct {
	store   Store
	linger  time.Duration
	timeout time.Duration // for a record to be stored
	metrics *metrics
	pool    sync.Pool // of *blockBytes with room for as many bytes as target says, or said

	ctx     context.Context // of what is on its way: ends when Close gives up waiting
	cancel  context.CancelFunc
	closing chan struct{} // closed when no further records are taken
	sending sync.WaitGroup

	mu    sync.Mutex
	lanes map[Lane]*lane
}

// NewGatherer returns a Gatherer that stores blocks in store and registers its metrics with reg, which may be nil.
func NewGatherer(store Store, cfg Config, reg prometheus.Registerer) *Gatherer {
	g := &Gatherer{
		store:   store,
		linger:  cfg.Linger,
		timeout: cfg.AppendTimeout,
		metrics: newMetrics(reg),
		closing: make(chan struct{}),
		lanes:   make(map[Lane]*lane),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// MaxPayload is the most bytes of payload that the Store takes in a record with these tags, whatever else is in that. It changes
// with Store.MaxBlock; below 0 there is not even room for the tags.
func (g *Gatherer) MaxPayload(tags tenant.Tags) int {
	return g.store.MaxBlock() - headerSize - maxEnvelope - tagsSize(tags)
}

// Append stores r in the lane and returns when it is durable (nil) or refused. It copies what it needs of r before it returns.
//
// The error wraps what Store.Append may answer, or ctx.Err(). When ctx ends while r's block is on its way, r may be stored all
// the same; so it may when BUFFER_APPEND_TIMEOUT is over, which is ErrUnavailable.
//
// release, which may be nil, is called once when the copy of r's bytes is not held any more: before Append returns, or after
// it when ctx ended first. It must not block.
func (g *Gatherer) Append(ctx context.Context, lane Lane, r Record, release func()) error {
	start := time.Now()
	l := g.lane(lane)
	b, late, err := l.gather(ctx, &r, release)
	if err == nil {
		err = l.wait(ctx, b, late)
	} else if release != nil {
		release()
	}
	l.metrics.latency.Observe(time.Since(start).Seconds())
	return err
}

// Close refuses further records with ErrClosed, sends what has gathered, and returns when everything on its way has been
// answered. When ctx ends first, what is on its way is given up: it may be stored or not, its records get an error, and so
// does Close's caller. The Store stays open. Closing twice is fine.
func (g *Gatherer) Close(ctx context.Context) error {
	defer g.cancel()
	g.refuse()
	done := make(chan struct{})
	go func() { // ends when the last block has been answered; Close waits for it
		g.sending.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	g.cancel()
	<-done
	return fmt.Errorf("close the gathering of blocks: gave up on those under way: %w", ctx.Err())
}

func (g *Gatherer) refuse() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.closing:
		return
	default:
		close(g.closing)
	}
	for _, l := range g.lanes {
		l.close()
	}
}

func (g *Gatherer) lane(name Lane) *lane {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.lanes[name]
	if l == nil {
		l = newLane(g, name)
		g.lanes[name] = l
	}
	return l
}

// target is the bytes at which a block is full now.
func (g *Gatherer) target() int { return min(blockSize, g.store.MaxBlock()) }

// bytes takes room for a block of size bytes from the pool, or makes just as much when the usual room is too small.
func (g *Gatherer) bytes(size int) *blockBytes {
	target := g.target()
	if size > target {
		return newBlockBytes(size)
	}
	if b, ok := g.pool.Get().(*blockBytes); ok && cap(b.data) == target {
		return b
	}
	return newBlockBytes(target)
}

// recycle takes bytes back. Those of an unusual size are left to the garbage collector, and so is the pool itself: it keeps
// what is in use between two collections and no more.
func (g *Gatherer) recycle(b *blockBytes) {
	if cap(b.data) == g.target() && cap(b.releases) <= maxReleases {
		b.reset()
		g.pool.Put(b)
	}
}
