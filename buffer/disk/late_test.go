package disk

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// unreadables are ways in which a disk does not give one segment.
func unreadables(first buffer.Offset) map[string]func(op, path string) *fault {
	name := segmentName(first)
	ways := map[string]func(op, path string) *fault{"no size": always("size", name, fault{err: syscall.EIO})}
	for _, err := range damageErrors() {
		ways[fmt.Sprintf("nothing is read: %v", err)] = always("read", name, fault{err: err})
		ways[fmt.Sprintf("not opened: %v", err)] = always("open openwrite", name, fault{err: err})
	}
	return ways
}

// A segment that the disk does not give when the log is opened stays as it is, and is read when the disk is well.
func TestASegmentUnreadableAtTheStartIsReadLater(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	crashed, blocks := l.crashed(t) // segments 0, 5 and, not sealed, 8
	for _, first := range []buffer.Offset{0, 5, 8} {
		for how, rule := range unreadables(first) {
			when := fmt.Sprintf("segment %d, %s", first, how)
			disk := crashed.cut(everythingSurvives)
			was := segmentOf(disk, first).durable
			disk.obey(rule)
			s := mustOpen(t, disk, l.cfg)
			if f := segmentOf(disk, first); f == nil || !slices.Equal(f.now, was) || len(held(disk)) != 3 {
				t.Errorf("%s: the files are %q", when, slices.Sorted(maps.Keys(held(disk))))
			}
			p := partitionOf(t, s, buffer.Main, testGroup)
			if batch, err := p.Read(t.Context(), first, 1); !errors.Is(err, buffer.ErrUnavailable) {
				t.Errorf("%s: lost %v, %v", when, batch.Lost, err)
			}
			_, next := p.bounds()
			if next < buffer.Offset(len(blocks)) {
				t.Errorf("%s: the next block gets %d", when, next)
			}
			mustAppend(t, s, buffer.Main, []byte("next"))
			if got := readAll(t, p, next); got.blocks[next] != "next" {
				t.Errorf("%s: the next block is not read", when)
			}
			disk.obey(nil)
			check := func(when string, s *Store) {
				t.Helper()
				got := readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0)
				for o, b := range blocks {
					if got.blocks[buffer.Offset(o)] != string(b) {
						t.Errorf("%s: block %d is lost", when, o)
					}
				}
				if len(got.blocks) != len(blocks)+1 || got.blocks[next] != "next" {
					t.Errorf("%s: %d blocks are read", when, len(got.blocks))
				}
				for _, loss := range got.lost {
					if loss.From < buffer.Offset(len(blocks)) {
						t.Errorf("%s: lost %v", when, loss)
					}
				}
			}
			check(when, s)
			mustClose(t, s)
			check(when+", opened again", mustOpen(t, disk, l.cfg))
		}
	}
}

// What stands in the place of a segment that could not be read may turn out to be damaged or none of ours: it is set aside then.
func TestASegmentReadLateMayBeDamaged(t *testing.T) {
	t.Parallel()
	for ending, change := range map[string]func(disk *simFS){
		damagedEnding: func(disk *simFS) {
			flip(segmentOf(disk, 5), 20)
			flip(segmentOf(disk, 5), headerCopy+20)
		},
		foreignEnding: func(disk *simFS) {
			f, other := segmentOf(disk, 5), segmentOf(disk, 0)
			f.now, f.durable = other.now, other.durable
		},
	} {
		l := newSmallLog(t)
		change(l.disk)
		l.disk.obey(always("read", segmentName(5), fault{err: syscall.EIO}))
		s := mustOpen(t, l.disk, l.cfg)
		l.disk.obey(nil)
		got := readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0)
		if len(got.blocks) != 5 || len(got.lost) != 1 || got.lost[0].From != 5 || got.lost[0].Reason != reasonAside {
			t.Errorf("%s: %d blocks are read, lost %v", ending, len(got.blocks), got.lost)
		}
		if files := held(l.disk); files[segmentName(5)+ending] == nil {
			t.Errorf("%s: the files are %q", ending, slices.Sorted(maps.Keys(files)))
		}
		mustClose(t, s)
	}
}

// A file that the disk will not give any more holds readers up for a minute each time the log is opened, and costs what is in it;
// neither the start nor anything else waits for it.
func TestOneUnreadableFileStopsNothing(t *testing.T) {
	t.Parallel()
	for how, rule := range unreadables(5) {
		if how == "no size" {
			continue // nobody asks in service
		}
		for _, atStart := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				l := newSmallLog(t)
				var s *Store
				if atStart {
					l.disk.obey(rule)
					s = mustOpen(t, l.disk, l.cfg)
				} else {
					s = mustOpen(t, l.disk, l.cfg)
					l.disk.obey(rule)
				}
				p := partitionOf(t, s, buffer.Main, testGroup)
				mustAppend(t, s, buffer.Main, []byte("next"))
				_, next := p.bounds()
				begin, lost, read := time.Now(), buffer.Span{From: -1}, 0
				for from := buffer.Offset(0); from < next; {
					batch, err := p.Read(t.Context(), from, 1)
					if err != nil {
						time.Sleep(time.Second)
						continue
					}
					for _, loss := range batch.Lost {
						lost = buffer.Span{From: max(lost.From, loss.From), To: loss.To}
					}
					read, from = read+len(batch.Blocks), batch.Next
					batch.Release()
				}
				if took := time.Since(begin); took < patience || took > patience+10*time.Second {
					t.Errorf("%s, at the start: %v: readers were held up for %v", how, atStart, took)
				}
				if read != 6 || lost.From != 5 || lost.To != next-1 || !atStart && lost.To != 8 {
					t.Errorf("%s, at the start: %v: %d blocks were read of 6 that could be, lost %v", how, atStart, read, lost)
				}
				progress := p.progress(p.group)
				progress.Add(buffer.Span{To: next})
				if err := p.Save(t.Context(), progress); err != nil {
					t.Error(err)
				}
				if strings.Join(segmentNames(t, l.disk, testDir), ",") == "" || segmentOf(l.disk, 0) != nil {
					t.Errorf("%s: what is done is still there", how)
				}
				mustClose(t, s)
			})
		}
	}
}

// leftInCache is a log as a process leaves it that was killed after a sync had failed: everybody sees its last block, which is not on the
// disk.
func leftInCache(t *testing.T) (*simFS, Config) {
	t.Helper()
	sim := newSimFS()
	m := &mortal{fileSystem: sim}
	s := mustOpen(t, m, testConfig(testDir))
	mustAppend(t, s, buffer.Main, []byte("one"))
	sim.obey(always("sync", segmentName(0), fault{err: syscall.EIO, sync: left}))
	if err := appendTo(s, buffer.Main, []byte("two")); !errors.Is(err, buffer.ErrUnavailable) {
		t.Fatal(err)
	}
	sim.obey(nil)
	m.kill(t, s)
	return sim.cut(killed), s.cfg
}

// What an earlier process left in the page cache alone is read only when it is durable, so that its offset is not used again.
func TestOnlyDurableBlocksOfAnEarlierProcessAreRead(t *testing.T) {
	t.Parallel()
	// afterACut is what a power cut leaves, of which somebody deletes the progress too.
	afterACut := func(t *testing.T, sim *simFS, cfg Config) (contents, buffer.Offset) {
		t.Helper()
		sim = sim.cut(nothingSurvives)
		sim.Remove(mainDir + "/" + testGroup + progressEnding) // it may not be there
		p := partitionOf(t, mustOpen(t, sim, cfg), buffer.Main, testGroup)
		_, next := p.bounds()
		return readAll(t, p, 0), next
	}
	t.Run("full disk", func(t *testing.T) {
		sim, cfg := leftInCache(t)
		sim.capacity = sim.root.size() // the index cannot be written
		s := mustOpen(t, sim, cfg)
		wantBlocks(t, "read", readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0), []byte("one"), []byte("two"))
		got, _ := afterACut(t, sim, cfg)
		wantBlocks(t, "after a power cut", got, []byte("one"), []byte("two"))
	})
	t.Run("sync fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sim, cfg := leftInCache(t)
			sim.obey(always("sync", "", fault{err: syscall.EIO, sync: left}))
			s := mustOpen(t, sim, cfg)
			p := partitionOf(t, s, buffer.Main, testGroup)
			for range 300 {
				if batch, err := p.Read(t.Context(), 0, 1); !errors.Is(err, buffer.ErrUnavailable) {
					t.Fatalf("%d blocks are read, lost %v, %v", len(batch.Blocks), batch.Lost, err)
				}
				time.Sleep(time.Second)
			}
			sim.obey(nil)
			wantBlocks(t, "the disk is well", readAll(t, p, 0), []byte("one"), []byte("two"))
			got, _ := afterACut(t, sim, cfg)
			wantBlocks(t, "after a power cut", got, []byte("one"), []byte("two"))
			mustClose(t, s)
		})
	})
	t.Run("never durable", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sim, cfg := leftInCache(t)
			sim.obey(always("sync", segmentName(0), fault{err: syscall.EIO, sync: left}))
			s := mustOpen(t, sim, cfg)
			p := partitionOf(t, s, buffer.Main, testGroup)
			begin := time.Now()
			for {
				if batch, err := p.Read(t.Context(), 0, 1); err == nil && len(batch.Blocks) > 0 {
					break
				}
				time.Sleep(time.Second)
			}
			if took := time.Since(begin); took < patience || took > 2*patience {
				t.Errorf("blocks that may be durable are read after %v", took)
			}
			wantBlocks(t, "out of patience", readAll(t, p, 0), []byte("one"), []byte("two"))
			r := mustOpen(t, sim.cut(nothingSurvives), cfg)
			if _, next := partitionOf(t, r, buffer.Main, testGroup).bounds(); next != 2 {
				t.Errorf("after a power cut the next block gets %d, block 1 was read", next)
			}
			mustClose(t, s)
			mustClose(t, r)
		})
	})
}
