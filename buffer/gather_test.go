package buffer

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// slowStore takes as long for a block as a test says, and answers what it says.
type slowStore struct {
	Store    // the methods that a Gatherer does not use
	takes    time.Duration
	maxBlock int
	answer   error // what every Append returns
	keeps    bool  // whether blocks are stored although answer is an error

	mu     sync.Mutex
	blocks [][]Record
	alive  atomic.Int32 // Appends under way
	most   atomic.Int32
}

func (s *slowStore) MaxBlock() int {
	if s.maxBlock > 0 {
		return s.maxBlock
	}
	return 64 << 20
}

func (s *slowStore) Append(ctx context.Context, _ Lane, b *Block) error {
	defer b.Release()
	s.most.Store(max(s.most.Load(), s.alive.Add(1)))
	defer s.alive.Add(-1)
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.answer != nil && !s.keeps {
		return s.answer
	}
	records, err := DecodeBlock(b.Data, nil)
	if err != nil {
		return err
	}
	for i := range records {
		records[i].Payload = bytes.Clone(records[i].Payload)
		records[i].Tags = bytes.Clone(records[i].Tags)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks = append(s.blocks, records)
	return s.answer
}

func (s *slowStore) stored() [][]Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocks
}

func record(size int) Record {
	return Record{Tenant: tenant.ID{Account: 1}, Received: time.Now(), Encoding: Snappy, Series: 1, Samples: 1, Payload: make([]byte, size)}
}

const (
	linger = 5 * time.Millisecond
	fsync  = 3 * time.Millisecond
)

// gathering runs a scene in simulated time with a Gatherer over store.
func gatheringOver(t *testing.T, store *slowStore, scene func(t *testing.T, g *Gatherer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := NewGatherer(store, Config{Linger: linger, AppendTimeout: time.Hour}, nil)
		scene(t, g)
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLoneRecordWaitsForTheStoreAlone(t *testing.T) {
	gatheringOver(t, &slowStore{takes: fsync}, func(t *testing.T, g *Gatherer) {
		for range 3 {
			began := time.Now()
			if err := g.Append(t.Context(), Main, record(100), nil); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took != fsync {
				t.Errorf("took %v, the store takes %v", took, fsync)
			}
		}
	})
}

// appendAll appends n records at the same moment and returns when each was answered, and how.
func appendAll(t *testing.T, g *Gatherer, n, size int) (errs []error) {
	t.Helper()
	errs = make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = g.Append(t.Context(), Main, record(size), nil) })
	}
	all.Wait()
	return errs
}

func TestRecordsThatComeWhileABlockIsOnItsWayLeaveTogether(t *testing.T) {
	store := &slowStore{takes: fsync}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		if err := errors.Join(appendAll(t, g, 50, 100)...); err != nil {
			t.Fatal(err)
		}
	})
	if got := store.stored(); len(got) != 2 || len(got[0]) != 1 || len(got[1]) != 49 {
		t.Errorf("%d blocks", len(got))
	}
}

func TestBlockLeavesAfterLingeringThoughOthersAreOnTheirWay(t *testing.T) {
	store := &slowStore{takes: time.Second}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		began := time.Now()
		if err := errors.Join(appendAll(t, g, 2, 100)...); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Second+linger {
			t.Errorf("took %v", took)
		}
	})
}

// What waits together leaves together, and the block says what is in it.
func TestRecordsWithAndWithoutTagsShareABlock(t *testing.T) {
	store := &slowStore{takes: fsync}
	tags := tagsOf(map[string]string{"org": "a"})
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		var all sync.WaitGroup
		for i := range 21 {
			all.Go(func() {
				r := record(100)
				if i%2 == 1 {
					r.Tags = tags
				}
				if err := g.Append(t.Context(), Main, r, nil); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if err := g.Append(t.Context(), Main, record(100), nil); err != nil {
			t.Error(err)
		}
	})
	blocks := store.stored()
	if len(blocks) != 3 || len(blocks[1]) != 20 {
		t.Fatalf("%d blocks", len(blocks))
	}
	with := 0
	for _, r := range slices.Concat(blocks...) {
		if bytes.Equal(r.Tags, tags) {
			with++
		} else if len(r.Tags) > 0 {
			t.Errorf("a record has tags %v", r.Tags)
		}
	}
	if with != 10 {
		t.Errorf("%d records have tags, want 10", with)
	}
}

func TestFullBlockDoesNotLinger(t *testing.T) {
	store := &slowStore{takes: time.Second}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		if err := errors.Join(appendAll(t, g, 1+3*4, 300<<10)...); err != nil {
			t.Fatal(err)
		}
	})
	for i, b := range store.stored() {
		if len(b) > 3 {
			t.Errorf("block %d holds %d records of 300 KiB", i, len(b))
		}
	}
	if store.most.Load() < 3 {
		t.Errorf("at most %d blocks were on their way", store.most.Load())
	}
}

func TestLargeRecordIsABlockOfItsOwn(t *testing.T) {
	store := &slowStore{takes: fsync}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		if err := errors.Join(appendAll(t, g, 3, 2<<20)...); err != nil {
			t.Fatal(err)
		}
	})
	if got := store.stored(); len(got) != 3 {
		t.Errorf("%d blocks", len(got))
	}
}

func TestRecordAboveMaxBlockIsRefused(t *testing.T) {
	gatheringOver(t, &slowStore{maxBlock: 1000}, func(t *testing.T, g *Gatherer) {
		if err := g.Append(t.Context(), Main, record(1000), nil); !errors.Is(err, ErrTooLarge) {
			t.Error(err)
		}
		if err := g.Append(t.Context(), Main, record(900), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestPayloadUpToMaxPayloadIsTakenWhateverTheEnvelope(t *testing.T) {
	store := &slowStore{maxBlock: 1000}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		largest := func(payload int) Record {
			return Record{
				Tenant: tenant.ID{Account: math.MaxUint32, Project: math.MaxUint32}, Received: time.UnixMilli(math.MinInt64), Encoding: Snappy,
				Series: maxCount, Samples: maxCount, Decoded: maxCount, Payload: make([]byte, payload),
			}
		}
		for _, r := range []Record{largest(g.MaxPayload(nil)), record(g.MaxPayload(nil))} {
			if err := g.Append(t.Context(), Main, r, nil); err != nil {
				t.Error(err)
			}
		}
		if err := g.Append(t.Context(), Main, largest(g.MaxPayload(nil)+4), nil); !errors.Is(err, ErrTooLarge) { // the length takes 3 bytes less
			t.Errorf("more than MaxPayload: %v", err)
		}
		tags := tagsOf(map[string]string{"org": strings.Repeat("o", 200)})
		tagged := largest(g.MaxPayload(tags))
		tagged.Tags = tags
		if err := g.Append(t.Context(), Main, tagged, nil); err != nil {
			t.Errorf("with tags: %v", err)
		}
		if got, want := g.MaxPayload(nil)-g.MaxPayload(tags), 2+len(tags); got != want {
			t.Errorf("%d bytes of tags take %d bytes of payload, want %d", len(tags), got, want)
		}
		before := g.MaxPayload(nil)
		store.maxBlock -= 100
		if got := g.MaxPayload(nil); got != before-100 {
			t.Errorf("with a smaller MaxBlock it is %d, before it was %d", got, before)
		}
	})
}

// A Store may learn only after it was opened that it takes less than usual.
func TestBlocksAreSmallerOnceTheStoreTakesLess(t *testing.T) {
	const later = 300 << 10
	store := &slowStore{takes: fsync}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		for _, store.maxBlock = range []int{0, later} {
			if err := errors.Join(appendAll(t, g, 50, 50<<10)...); err != nil {
				t.Fatal(err)
			}
			if store.maxBlock == 0 {
				store.blocks = nil
			}
		}
	})
	for _, records := range store.stored() {
		if size := headerSize + len(records)*(50<<10); size > later {
			t.Errorf("a block of at least %d bytes, the store takes %d", size, later)
		}
	}
}

func TestBlocksUnderWayAreBounded(t *testing.T) {
	store := &slowStore{takes: time.Second}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		if err := errors.Join(appendAll(t, g, 40, 1<<20)...); err != nil {
			t.Fatal(err)
		}
	})
	if most := store.most.Load(); most != maxBlocks {
		t.Errorf("%d blocks were under way at one time, want %d", most, maxBlocks)
	}
}

// A hoard is a Store that answers and does not release what it has stored before it is told to.
type hoard struct {
	slowStore
	kept []*Block // guarded by mu
}

func (s *hoard) Append(ctx context.Context, lane Lane, b *Block) error {
	s.mu.Lock()
	s.kept = append(s.kept, b)
	s.mu.Unlock()
	return s.slowStore.Append(ctx, lane, NewBlock(b.Received, b.Records, b.Samples, b.Data, nil))
}

// release releases the n blocks that it has held longest, and returns how many it then holds.
func (s *hoard) release(n int) (held int) {
	s.mu.Lock()
	released := s.kept[:n]
	s.kept = s.kept[n:]
	held = len(s.kept)
	s.mu.Unlock()
	for _, b := range released {
		b.Release()
	}
	return held
}

// hoarding appends records of the size of a block to a hoard that takes a second for each. It returns how many have been stored, and
// the end: what the hoard then still holds is released.
func hoarding(t *testing.T, records int) (store *hoard, stored *atomic.Int32, end func()) {
	t.Helper()
	store = &hoard{slowStore: slowStore{takes: time.Second}}
	g := NewGatherer(store, Config{Linger: linger, AppendTimeout: time.Hour}, nil)
	stored = new(atomic.Int32)
	var all sync.WaitGroup
	for range records {
		all.Go(func() {
			if err := g.Append(t.Context(), Main, record(blockSize), nil); err != nil {
				t.Error(err)
			}
			stored.Add(1)
		})
	}
	return store, stored, func() {
		all.Wait()
		store.release(store.release(0))
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestBlocksThatAreAnsweredMakeRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		store, _, end := hoarding(t, 3*maxBlocks)
		end() // none was released before
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("took %v, want 3 times the second that the store takes for %d blocks", took, maxBlocks)
		}
		if most := store.most.Load(); most != maxBlocks {
			t.Errorf("%d blocks were under way at one time, want %d", most, maxBlocks)
		}
	})
}

func TestBlocksHeldAfterTheirAnswerAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, stored, end := hoarding(t, maxHeld+5)
		want := func(when string, blocks int) {
			t.Helper()
			time.Sleep(time.Minute) // simulated
			if n := int(stored.Load()); n != blocks {
				t.Errorf("%s: %d blocks have been stored, want %d", when, n, blocks)
			}
		}
		want("nothing is released", maxHeld)
		if held := store.release(2); held != maxHeld-2 {
			t.Errorf("the store holds %d blocks, want %d", held, maxHeld-2)
		}
		want("two are released", maxHeld+2)
		store.release(3)
		want("three more are released", maxHeld+5)
		end()
	})
}

// fillLane appends a record every two lingers until the lane holds all blocks that it may, each of one record.
func fillLane(t *testing.T, g *Gatherer, answers chan<- error) {
	t.Helper()
	for range maxBlocks {
		go func() { answers <- g.Append(t.Context(), Main, record(1), nil) }()
		time.Sleep(2 * linger) // simulated
	}
}

func TestThoseWhoWaitForRoomShareTheNextBlock(t *testing.T) {
	store := &slowStore{takes: time.Second}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		answers := make(chan error, maxBlocks)
		fillLane(t, g, answers)
		if err := errors.Join(appendAll(t, g, 100, 100)...); err != nil {
			t.Error(err)
		}
		for range maxBlocks {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
	})
	blocks := store.stored()
	if len(blocks) != maxBlocks+1 || len(blocks[maxBlocks]) != 100 {
		t.Errorf("%d blocks, want %d and one of those who waited", len(blocks), maxBlocks)
	}
}

func TestRecordsThatWaitForRoomAreServedInOrder(t *testing.T) {
	store := &slowStore{takes: time.Second}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		answers := make(chan error, maxBlocks)
		fillLane(t, g, answers)
		var all sync.WaitGroup
		for i := range 20 { // large ones alternate with small ones that would fit beside them
			all.Go(func() {
				r := record(100 + (i%2)*700<<10)
				r.Series = 100 + i
				if err := g.Append(t.Context(), Main, r, nil); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		all.Wait()
	})
	last := 0
	for _, block := range store.stored() {
		for _, r := range block {
			if r.Series < last {
				t.Errorf("record %d came behind %d", r.Series, last)
			}
			last = r.Series
		}
	}
}

func TestWaitForRoomEndsWithItsContextAndWithClose(t *testing.T) {
	store := &slowStore{takes: time.Second}
	synctest.Test(t, func(t *testing.T) {
		g := NewGatherer(store, Config{Linger: linger, AppendTimeout: time.Hour}, nil)
		fillLane(t, g, make(chan error, maxBlocks))
		var released atomic.Int32
		release := func() { released.Add(1) }

		ctx, cancel := context.WithTimeout(t.Context(), linger)
		defer cancel()
		if err := g.Append(ctx, Main, record(1), release); !errors.Is(err, context.DeadlineExceeded) || released.Load() != 1 {
			t.Errorf("context ended: %v, released %d times", err, released.Load())
		}

		refused := make(chan error, 3)
		for range cap(refused) {
			go func() { refused <- g.Append(t.Context(), Main, record(1), release) }()
		}
		synctest.Wait()
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for range cap(refused) {
			if err := <-refused; !errors.Is(err, ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		}
		if released.Load() != 4 {
			t.Errorf("released %d times, want 4", released.Load())
		}
	})
	if got := len(store.stored()); got != maxBlocks {
		t.Errorf("%d blocks stored, want the %d that were under way", got, maxBlocks)
	}
}

func TestLanesDoNotWaitForEachOther(t *testing.T) {
	store := &slowStore{takes: time.Second}
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		answers := make(chan error, maxBlocks)
		fillLane(t, g, answers)
		began := time.Now()
		if err := g.Append(t.Context(), "bulk", record(1), nil); err != nil || time.Since(began) != time.Second {
			t.Errorf("another lane: %v after %v", err, time.Since(began))
		}
	})
}

func TestRefusalReachesEveryRecordOfTheBlock(t *testing.T) {
	for name, keeps := range map[string]bool{"did not happen": false, "happened, answer lost": true} {
		t.Run(name, func(t *testing.T) {
			store := &slowStore{takes: fsync, answer: ErrUnavailable, keeps: keeps}
			gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
				for _, err := range appendAll(t, g, 20, 100) {
					if !errors.Is(err, ErrUnavailable) {
						t.Errorf("got %v", err)
					}
				}
				store.answer = nil
				if err := g.Append(t.Context(), Main, record(1), nil); err != nil {
					t.Errorf("after the store is well again: %v", err)
				}
			})
		})
	}
}

func TestReleaseIsCalledOnceWhateverHappens(t *testing.T) {
	store := &slowStore{takes: time.Second}
	var released atomic.Int32
	release := func() { released.Add(1) }
	gatheringOver(t, store, func(t *testing.T, g *Gatherer) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := g.Append(ctx, Main, record(1), release); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if n := released.Load(); n != 0 {
			t.Error("released while the store still holds the block")
		}
		if err := g.Append(t.Context(), Main, record(1), release); err != nil {
			t.Error(err)
		}
		if n := released.Load(); n != 2 {
			t.Errorf("%d released, want 2", n)
		}
		if err := g.Append(t.Context(), Main, Record{Series: -1}, release); err == nil || released.Load() != 3 {
			t.Errorf("record that cannot be encoded: %v, %d released", err, released.Load())
		}
	})
	if got := store.stored(); len(got) != 2 {
		t.Errorf("%d blocks stored: what a sender gave up on is stored all the same", len(got))
	}
}

func TestCloseSendsWhatHasGatheredAndRefusesMore(t *testing.T) {
	store := &slowStore{takes: time.Second}
	synctest.Test(t, func(t *testing.T) {
		g := NewGatherer(store, Config{Linger: time.Hour, AppendTimeout: time.Hour}, nil)
		answers := make(chan error, 2)
		for range 2 {
			go func() { answers <- g.Append(t.Context(), Main, record(1), nil) }()
			synctest.Wait()
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := errors.Join(<-answers, <-answers); err != nil {
			t.Error(err)
		}
		for _, lane := range []Lane{Main, "never used before"} {
			if err := g.Append(t.Context(), lane, record(1), nil); !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		if err := g.Close(t.Context()); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	store := &slowStore{takes: time.Hour}
	synctest.Test(t, func(t *testing.T) {
		g := NewGatherer(store, Config{Linger: linger, AppendTimeout: time.Hour}, nil)
		answer := make(chan error, 1)
		go func() { answer <- g.Append(t.Context(), Main, record(1), nil) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := g.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		// The caller's own context has not ended, and the block may have been stored.
		if err := <-answer; !errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) {
			t.Errorf("Append: %v", err)
		}
	})
}

func TestWhatIsStoredIsWhatWasAppended(t *testing.T) {
	store := &slowStore{takes: 0}
	g := NewGatherer(store, Config{Linger: time.Millisecond, AppendTimeout: time.Hour}, nil)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			payload := make([]byte, 400<<10)
			for i := range 50 {
				n := 1 + rand.IntN(len(payload)-1)
				for j := range payload[:n] {
					payload[j] = byte(w)
				}
				r := Record{Tenant: tenant.ID{Account: uint32(w)}, Encoding: Snappy, Series: i, Samples: n, Payload: payload[:n]}
				if err := g.Append(t.Context(), Main, r, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := g.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen := map[[2]int]bool{}
	for _, block := range store.stored() {
		for _, r := range block {
			seen[[2]int{int(r.Tenant.Account), r.Series}] = true
			if len(r.Payload) != r.Samples {
				t.Fatalf("%d bytes became %d", r.Samples, len(r.Payload))
			}
			for _, b := range r.Payload {
				if uint32(b) != r.Tenant.Account {
					t.Fatal("payload changed after it was appended")
				}
			}
		}
	}
	if len(seen) != 8*50 {
		t.Errorf("%d records stored, want %d", len(seen), 8*50)
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, size := range map[string]int{"500B": 500, "60KB": 60_000} {
		b.Run(name, func(b *testing.B) {
			g := NewGatherer(&nullStore{}, Config{Linger: linger, AppendTimeout: time.Hour}, nil)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				r := record(size)
				for pb.Next() {
					if err := g.Append(b.Context(), Main, r, nil); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// nullStore is an infinitely fast Store.
type nullStore struct{ Store }

func (*nullStore) MaxBlock() int { return 64 << 20 }

func (*nullStore) Append(_ context.Context, _ Lane, b *Block) error {
	b.Release()
	return nil
}

// A Store that does not answer keeps neither who is in a block nor who waits for room longer than the time-out.
func TestNobodyWaitsLongerThanTheTimeout(t *testing.T) {
	const timeout = 15 * time.Second
	synctest.Test(t, func(t *testing.T) {
		g := NewGatherer(&slowStore{takes: time.Hour}, Config{Linger: linger, AppendTimeout: timeout}, nil)
		var all sync.WaitGroup
		for i := range 4 * maxBlocks {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / 4) // so that some come to blocks that are given up later
				began := time.Now()
				err := g.Append(t.Context(), Main, record(blockSize/2), nil)
				if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "INGESTGW_BUFFER_APPEND_TIMEOUT") {
					t.Errorf("answered %v", err)
				}
				if took := time.Since(began); took > timeout+linger {
					t.Errorf("waited %v", took)
				}
			})
		}
		all.Wait()
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A lateStore answers at once and releases blocks a second later, when others have been on their way.
type lateStore struct{ slowStore }

func (s *lateStore) Append(ctx context.Context, lane Lane, b *Block) error {
	kept := NewBlock(b.Received, b.Records, b.Samples, b.Data, nil)
	time.AfterFunc(time.Second, b.Release)
	return s.slowStore.Append(ctx, lane, kept)
}

func TestBlocksMayBeReleasedAfterTheirAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &lateStore{slowStore{takes: fsync}}
		g := NewGatherer(store, Config{Linger: linger, AppendTimeout: time.Hour}, nil)
		var released atomic.Int32
		var all sync.WaitGroup
		const n = 100
		for range n {
			all.Go(func() {
				if err := g.Append(t.Context(), Main, record(blockSize/3), func() { released.Add(1) }); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		time.Sleep(2 * time.Second)
		if released.Load() != n {
			t.Errorf("%d of %d records were released", released.Load(), n)
		}
		records := 0
		for _, b := range store.stored() {
			records += len(b)
		}
		if records != n {
			t.Errorf("%d of %d records were stored", records, n)
		}
		if err := g.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
