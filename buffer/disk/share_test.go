package disk

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	sharedBytes = 4 << 20 // of a log that both lanes share
	sharedBlock = 20_000
	// besideBlocks is the most that headers and an index take of a lane's share.
	besideBlocks = 3 * framesStart
)

func sharedConfig(whenFull string) Config {
	cfg := testConfig(testDir)
	cfg.MaxBytes, cfg.SegmentBytes, cfg.WhenFull = sharedBytes, 1<<20, whenFull
	return cfg
}

// fillLane appends blocks until the lane is full, and returns how many were taken and what the next one was answered.
func fillLane(t *testing.T, s *Store, lane buffer.Lane) (n int64, full error) {
	t.Helper()
	for ; ; n++ {
		if full = appendTo(s, lane, make([]byte, sharedBlock)); full != nil {
			break
		}
	}
	if !errors.Is(full, buffer.ErrFull) {
		t.Fatalf("after %d blocks, lane %s: %v", n, lane, full)
	}
	return n, full
}

func heldBy(t *testing.T, s *Store, lane buffer.Lane) int64 {
	t.Helper()
	l, err := s.lane(lane)
	if err != nil {
		t.Fatal(err)
	}
	return l.stats().Bytes
}

// done marks all blocks of a lane as done.
func done(t *testing.T, s *Store, lane buffer.Lane) {
	t.Helper()
	p := partitionOf(t, s, lane, testGroup)
	progress := p.progress(p.group)
	_, next := p.bounds()
	progress.Add(buffer.Span{To: next})
	if err := p.Save(t.Context(), progress); err != nil {
		t.Fatalf("save progress in lane %s: %v", lane, err)
	}
}

func TestFullBulkLeavesTheRestToMain(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newSimFS(), sharedConfig(whenFullRefuse))
	const share = sharedBytes / 4
	n, full := fillLane(t, s, buffer.Bulk)
	if !strings.Contains(full.Error(), "INGESTGW_BUFFER_BULK_SHARE=25") {
		t.Errorf("bulk is full: %v", full)
	}
	if held := heldBy(t, s, buffer.Bulk); held > share+besideBlocks || n*sharedBlock < share*8/10 {
		t.Errorf("bulk holds %d blocks in %d bytes, its share is %d", n, held, share)
	}
	for name, want := range map[buffer.Lane]int64{buffer.Bulk: share, buffer.Main: sharedBytes - heldBy(t, s, buffer.Bulk)} {
		if most := mostOf(t, s, name); most != want {
			t.Errorf("lane %s may take %d bytes, want %d", name, most, want)
		}
	}
	n, full = fillLane(t, s, buffer.Main)
	if !strings.Contains(full.Error(), "INGESTGW_BUFFER_MAX_BYTES=4MiB") || strings.Contains(full.Error(), "BULK_SHARE") {
		t.Errorf("main is full: %v", full)
	}
	if n*sharedBlock < (sharedBytes-share)*9/10 {
		t.Errorf("main takes %d bytes beside a full bulk lane, the rest is %d", n*sharedBlock, sharedBytes-share)
	}
}

func TestMainHasWhatBulkDoesNotHoldAndBulkComesBackWhenMainIsDone(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newSimFS(), sharedConfig(whenFullRefuse))
	if n, _ := fillLane(t, s, buffer.Main); n*sharedBlock < sharedBytes*9/10 {
		t.Errorf("main takes %d bytes of %d while bulk holds nothing", n*sharedBlock, sharedBytes)
	}
	if err := appendTo(s, buffer.Bulk, make([]byte, sharedBlock)); !errors.Is(err, buffer.ErrFull) {
		t.Errorf("bulk, while main holds everything: %v", err)
	}
	done(t, s, buffer.Main)
	if n, _ := fillLane(t, s, buffer.Bulk); n*sharedBlock < sharedBytes/4*8/10 {
		t.Errorf("bulk takes %d bytes once main is done, its share is %d", n*sharedBlock, sharedBytes/4)
	}
}

// One that is empty takes the largest block that there can be.
func TestEitherLaneTakesABlockOfMaxBlock(t *testing.T) {
	t.Parallel()
	for _, max := range []settings.Bytes{quotaSegments * minSegmentBytes, sharedBytes, 1 << 30} {
		cfg := sharedConfig(whenFullRefuse)
		cfg.MaxBytes = max
		s := mustOpen(t, newSimFS(), cfg)
		for _, lane := range testLanes() {
			mustAppend(t, s, lane, make([]byte, s.MaxBlock()))
			done(t, s, lane)
			mustAppend(t, s, lane, make([]byte, s.MaxBlock()))
		}
	}
}

func TestEachLaneDropsItsOwnOldestBlocks(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newSimFS(), sharedConfig(whenFullDropOldest))
	mains := sharedBytes / 2 / sharedBlock // less than what is always main's
	for range mains {
		mustAppend(t, s, buffer.Main, make([]byte, sharedBlock))
	}
	for range 2 * sharedBytes / sharedBlock {
		mustAppend(t, s, buffer.Bulk, make([]byte, sharedBlock))
		if held := heldBy(t, s, buffer.Bulk); held > sharedBytes/4+besideBlocks {
			t.Fatalf("bulk holds %d bytes, its share is %d", held, sharedBytes/4)
		}
	}
	if got := readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0); len(got.blocks) != mains || len(got.lost) != 0 {
		t.Errorf("a flood in bulk has cost main %v", got.lost)
	}
	bulk, _ := partitionOf(t, s, buffer.Bulk, testGroup).bounds()
	for range 2 * sharedBytes / sharedBlock {
		mustAppend(t, s, buffer.Main, make([]byte, sharedBlock))
	}
	if now, _ := partitionOf(t, s, buffer.Bulk, testGroup).bounds(); now != bulk {
		t.Errorf("a flood in main has cost bulk %d blocks", now-bulk)
	}
	for _, lane := range testLanes() {
		first, _ := partitionOf(t, s, lane, testGroup).bounds()
		if n := testutil.ToFloat64(s.metrics.droppedTotal.WithLabelValues(string(lane))); n != float64(first) || n == 0 {
			t.Errorf("lane %s: %v blocks are counted as dropped, it begins at %d", lane, n, first)
		}
	}
}

// Who drops the oldest blocks never refuses any: what main has borrowed of bulk's share, it gives back.
func TestMainGivesBackTheShareOfBulkWhenItDropsOldestBlocks(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, newSimFS(), sharedConfig(whenFullDropOldest))
	for range 2 * sharedBytes / sharedBlock {
		mustAppend(t, s, buffer.Main, make([]byte, sharedBlock))
	}
	n := sharedBytes / 5 / sharedBlock
	for range n {
		mustAppend(t, s, buffer.Bulk, make([]byte, sharedBlock))
	}
	if first, next := partitionOf(t, s, buffer.Bulk, testGroup).bounds(); first != 0 || next != buffer.Offset(n) {
		t.Errorf("bulk holds blocks %d to %d, it got %d", first, next, n)
	}
	if held := heldBy(t, s, buffer.Main); held < sharedBytes*7/10 {
		t.Errorf("main holds %d bytes, 3 MiB are its own", held)
	}
}

func TestBothLanesGoOnAfterARestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, m *mortal, s *Store){
		"close": func(t *testing.T, _ *mortal, s *Store) { mustClose(t, s) },
		"kill":  func(t *testing.T, m *mortal, s *Store) { m.kill(t, s) },
	} {
		t.Run(name, func(t *testing.T) {
			sim := newSimFS()
			m := &mortal{fileSystem: sim}
			s := mustOpen(t, m, sharedConfig(whenFullRefuse))
			n := make(map[buffer.Lane]int64)
			for _, lane := range []buffer.Lane{buffer.Bulk, buffer.Main} { // main takes what bulk leaves
				n[lane], _ = fillLane(t, s, lane)
			}
			done(t, s, buffer.Bulk)
			mustAppend(t, s, buffer.Bulk, []byte("the only one that is not done"))
			end(t, m, s)

			s = mustOpen(t, sim, s.cfg)
			if got := readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0); int64(len(got.blocks)) != n[buffer.Main] || len(got.lost) > 0 {
				t.Errorf("main has %d blocks of %d, lost %v", len(got.blocks), n[buffer.Main], got.lost)
			}
			bulk := partitionOf(t, s, buffer.Bulk, testGroup)
			from := buffer.Offset(n[buffer.Bulk])
			if got := readAll(t, bulk, from); got.blocks[from] != "the only one that is not done" || bulk.progress(bulk.group).Committed() != from {
				t.Errorf("bulk goes on at %d with %d blocks, want 1 from %d", bulk.progress(bulk.group).Committed(), len(got.blocks), from)
			}
			var sum int64
			for _, lane := range testLanes() {
				sum += heldBy(t, s, lane)
			}
			if sum != s.quota.sum {
				t.Errorf("the lanes hold %d bytes, %d are counted", sum, s.quota.sum)
			}
			if more, _ := fillLane(t, s, buffer.Bulk); more*sharedBlock < sharedBytes/4*7/10 {
				t.Errorf("bulk takes %d more blocks, nearly all of it was done", more)
			}
		})
	}
}

// A disk without a free byte, filled by one lane: what is done there becomes room for the other one, though no block comes to the first.
func TestALaneMakesWayForAnotherOnAFullDisk(t *testing.T) {
	t.Parallel()
	for full, empty := range map[buffer.Lane]buffer.Lane{buffer.Bulk: buffer.Main, buffer.Main: buffer.Bulk} {
		t.Run(string(full), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sim := newSimFS()
				cfg := testConfig(testDir)
				cfg.MaxBytes, cfg.SegmentBytes = 100<<20, 8<<20
				s := mustOpen(t, sim, cfg)
				for range 20 { // one segment
					mustAppend(t, s, full, make([]byte, sharedBlock))
				}
				sim.capacity = sim.root.size()
				done(t, s, full)
				if err := appendTo(s, empty, make([]byte, sharedBlock)); !errors.Is(err, buffer.ErrFull) {
					t.Errorf("append to a full disk: %v", err)
				}
				time.Sleep(retryMost)
				for range 15 {
					mustAppend(t, s, empty, make([]byte, sharedBlock))
				}
				done(t, s, empty)
				mustClose(t, s)
			})
		})
	}
}

// An earlier version has left no bulk lane, and the disk has no room for a directory: what is there is forwarded all the same, and
// bulk comes when there is room.
func TestALaneThatTheDiskHasNoRoomForComesLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		cfg := testConfig(testDir)
		mustClose(t, mustOpen(t, sim, cfg))
		delete(sim.root.now[testDir].(*simDir).now, lanePrefix+"bulk")
		sim.obey(always("mkdir", lanePrefix+"bulk", fault{err: syscall.ENOSPC}))
		s := mustOpen(t, sim, cfg)
		handed := make(chan buffer.Lane, 2)
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { // ends when ctx does; the end of the test waits for it
			ended <- s.Consume(ctx, testGroup, testLanes(), func(ctx context.Context, p buffer.Partition) error {
				handed <- p.ID().Lane
				<-ctx.Done()
				return nil
			})
		}()
		synctest.Wait()
		if len(handed) != 1 || <-handed != buffer.Main {
			t.Error("main is not consumed, as bulk cannot be")
		}
		if err := appendTo(s, buffer.Bulk, []byte("early")); !errors.Is(err, buffer.ErrFull) {
			t.Errorf("append to a lane that cannot be made: %v", err)
		}
		sim.obey(nil)
		time.Sleep(2 * retryMost)
		synctest.Wait()
		if len(handed) != 1 || <-handed != buffer.Bulk {
			t.Error("bulk is not consumed, though there is room for it")
		}
		mustAppend(t, s, buffer.Bulk, []byte("late"))
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		mustClose(t, s)
	})
}
