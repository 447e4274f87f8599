package disk

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/buffer"
)

// segmentNames are the segments that lie in the main lane.
func segmentNames(t *testing.T, fsys fileSystem, dir string) (list []string) {
	t.Helper()
	entries, err := fsys.ReadDir(filepath.Join(dir, lanePrefix+"main"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.name, segmentEnding); ok {
			list = append(list, strings.TrimLeft(name, "0"))
		}
	}
	return list
}

// mostOf is what Stats says that the lane may take.
func mostOf(t *testing.T, s *Store, lane buffer.Lane) int64 {
	t.Helper()
	stats, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range stats {
		if st.ID.Lane == lane {
			return st.MaxBytes
		}
	}
	t.Fatalf("Stats says nothing of lane %s", lane)
	return 0
}

func TestDropOldestDropsAndTells(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	cfg := testConfig(testDir)
	cfg.WhenFull, cfg.MaxBytes = whenFullDropOldest, quotaSegments*minSegmentBytes
	s, err := openOn(newSimFS(), cfg, slog.New(slog.DiscardHandler), reg)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	p := partitionOf(t, s, buffer.Main, testGroup)
	progress := p.progress(p.group)
	progress.Add(buffer.Span{To: 2})
	if err := p.Save(t.Context(), progress); err != nil {
		t.Fatal(err)
	}
	blocks := distinct(60, 20_000)
	for _, b := range blocks {
		mustAppend(t, s, buffer.Main, b)
		if st := p.stats(); st.Bytes > int64(cfg.MaxBytes)+framesStart+4096 {
			t.Fatalf("%d bytes are held, the bound is %d", st.Bytes, cfg.MaxBytes)
		}
	}
	first, _ := p.bounds()
	got := readAll(t, p, 0)
	for o := first; o < 60; o++ {
		if got.blocks[o] != string(blocks[o]) {
			t.Errorf("block %d is lost, the first one kept is %d", o, first)
		}
	}
	want := []buffer.Loss{{Span: buffer.Span{From: 2, To: first}, Reason: reasonDropped}}
	if first < 30 || !slices.Equal(got.lost, want) {
		t.Errorf("lost %v, want %v", got.lost, want)
	}
	if n := testutil.ToFloat64(s.metrics.droppedTotal.WithLabelValues("main")); n != float64(first-2) {
		t.Errorf("%v blocks are counted as dropped, %d were", n, first-2)
	}
	if n := testutil.ToFloat64(s.metrics.droppedData.WithLabelValues("main")); n < 2*float64(first-2)-2 || n > 2*float64(first-2)+2 {
		t.Errorf("%v samples are counted as dropped, %d were", n, 2*(first-2))
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func TestRefusedUntilBlocksAreDone(t *testing.T) {
	t.Parallel()
	cfg := testConfig(testDir)
	cfg.MaxBytes = quotaSegments * minSegmentBytes
	s := mustOpen(t, newSimFS(), cfg)
	p := partitionOf(t, s, buffer.Main, testGroup)
	n := buffer.Offset(0)
	var full error
	for ; full == nil; n++ {
		full = appendTo(s, buffer.Main, make([]byte, 20_000))
	}
	n--
	if !errors.Is(full, buffer.ErrFull) || !strings.Contains(full.Error(), "INGESTGW_BUFFER_MAX_BYTES=512KiB") {
		t.Errorf("full: %v", full)
	}
	if used := int64(n) * 20_000; used < int64(cfg.MaxBytes)*8/10 {
		t.Errorf("full with %d bytes of %d", used, cfg.MaxBytes)
	}
	progress := p.progress(p.group)
	for done := range n {
		progress.Add(buffer.Span{To: done + 1})
		if err := p.Save(t.Context(), progress); err != nil {
			t.Fatal(err)
		}
	}
	for range n - 1 { // nearly as much again, although the newest segment was full of done blocks
		mustAppend(t, s, buffer.Main, make([]byte, 20_000))
	}
}

// Without BUFFER_MAX_BYTES, what others do on the disk moves the bound within seconds, both ways.
func TestQuotaFollowsTheDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		sim.capacity = 10 << 20
		s := mustOpen(t, sim, testConfig(testDir))
		bound := func() int64 {
			return mostOf(t, s, buffer.Main)
		}
		if got := bound(); got < 9<<20-4096 || got > 9<<20 {
			t.Errorf("of a disk of 10 MiB, %d bytes may be used; a tenth is to stay free", got)
		}
		f, err := sim.Create("others")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.WriteAll([][]byte{make([]byte, 9<<20)}, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(spaceAge)
		if err := appendTo(s, buffer.Main, make([]byte, 1000)); !errors.Is(err, buffer.ErrFull) || !strings.Contains(err.Error(), "reserve") {
			t.Errorf("others took what was free: %v", err)
		}
		if err := f.Truncate(5 << 20); err != nil {
			t.Fatal(err)
		}
		time.Sleep(refusedAge)
		mustAppend(t, s, buffer.Main, make([]byte, 1000))
		if got := bound(); got < 4<<20-8192 || got > 4<<20 {
			t.Errorf("with 5 MiB of 10 taken by others, %d bytes may be used", got)
		}
		mustClose(t, s)
	})
}

// Segments go as soon as every group has done them, wherever they are, and not before.
func TestDoneSegmentsGoAtOnce(t *testing.T) {
	t.Parallel()
	sim := newSimFS()
	s := mustOpen(t, sim, testConfig(testDir))
	fast, slow := partitionOf(t, s, buffer.Main, "fast"), partitionOf(t, s, buffer.Main, "slow")
	for range 20 { // five segments of three blocks, and one of two
		mustAppend(t, s, buffer.Main, make([]byte, 17_000))
	}
	want := func(what string, names ...string) {
		t.Helper()
		if got := segmentNames(t, sim, testDir); !slices.Equal(got, names) {
			t.Errorf("%s: the segments are %q, want %q", what, got, names)
		}
	}
	want("at first", "", "3", "6", "9", "12", "15", "18")
	save := func(p *partition, spans ...buffer.Span) {
		t.Helper()
		progress := p.progress(p.group)
		for _, span := range spans {
			progress.Add(span)
		}
		if err := p.Save(t.Context(), progress); err != nil {
			t.Fatal(err)
		}
	}
	save(fast, buffer.Span{From: 5, To: 20})
	want("one group has done them", "", "3", "6", "9", "12", "15", "18")
	save(slow, buffer.Span{From: 7, To: 15})
	want("in the middle", "", "3", "6", "15", "18")
	save(slow, buffer.Span{From: 6, To: 7}, buffer.Span{From: 15, To: 20})
	want("up to the newest", "", "3", "18")
	save(fast, buffer.Span{To: 4})
	save(slow, buffer.Span{To: 5})
	want("at the start", "3", "18")
	if got := readAll(t, fast, 0); len(got.blocks) != 5 || len(got.lost) != 0 {
		t.Errorf("%d blocks are read, lost: %v", len(got.blocks), got.lost)
	}
	before := s.quota.sum
	mustClose(t, s)
	r := mustOpen(t, sim, s.cfg)
	if s.quota.sum != r.quota.sum {
		t.Errorf("%d bytes were counted, %d after opening again (%d before sealing)", s.quota.sum, r.quota.sum, before)
	}
}

// A segment whose first offset says where the one before ends stays until that one is gone for good.
func TestABoundOutlivesWhatItBounds(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"remove", "syncdir"} {
		sim := newSimFS()
		s := mustOpen(t, sim, testConfig(testDir))
		p := partitionOf(t, s, buffer.Main, testGroup)
		mustAppend(t, s, buffer.Main, []byte("kept"))
		sim.obey(once("sync", fault{err: syscall.EIO, sync: kept}))
		if err := appendTo(s, buffer.Main, []byte("refused, but on the disk as block 1")); !errors.Is(err, buffer.ErrUnavailable) {
			t.Fatal(err)
		}
		mustAppend(t, s, buffer.Main, []byte("really block 1"))
		mustAppend(t, s, buffer.Main, make([]byte, minSegmentBytes))

		sim.obey(always(op, mainDir, fault{err: syscall.EIO}))
		progress := p.progress(p.group)
		progress.Add(buffer.Span{To: 3})
		if err := p.Save(t.Context(), progress); err != nil {
			t.Fatal(err)
		}
		if names := segmentNames(t, sim, testDir); !slices.Contains(names, "1") {
			t.Errorf("%s fails: the segments are %q, though the first one may be there again after a power cut", op, names)
		}
		sim.obey(nil)
		if err := p.Save(t.Context(), progress); err != nil {
			t.Fatal(err)
		}
		if names := segmentNames(t, sim, testDir); !slices.Equal(names, []string{"2"}) {
			t.Errorf("the disk is well again: the segments are %q", names)
		}
	}
}

// A batch may be held while its segment goes; its bytes stay, and it may be released twice.
func TestBatchesOutliveTheirSegment(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, osFS{}, testConfig(t.TempDir()))
	p := partitionOf(t, s, buffer.Main, testGroup)
	blocks := distinct(12, 20_000)
	for _, b := range blocks {
		mustAppend(t, s, buffer.Main, b)
	}
	var held []buffer.Batch
	for from := buffer.Offset(0); from < 9; {
		b, err := p.Read(t.Context(), from, 40_000)
		if err != nil {
			t.Fatal(err)
		}
		held, from = append(held, b), b.Next
	}
	progress := p.progress(p.group)
	progress.Add(buffer.Span{To: 12})
	if err := p.Save(t.Context(), progress); err != nil {
		t.Fatal(err)
	}
	if names := segmentNames(t, osFS{}, s.cfg.Dir); len(names) != 1 {
		t.Fatalf("segments %q are still there", names)
	}
	for range 4 {
		mustAppend(t, s, buffer.Main, bytes.Repeat([]byte("x"), 40_000))
	}
	readAll(t, p, 9)
	for _, batch := range held {
		for _, b := range batch.Blocks {
			if !bytes.Equal(b.Data, blocks[b.Offset]) {
				t.Errorf("block %d changed while its batch was held", b.Offset)
			}
		}
		batch.Release()
		batch.Release()
	}
}

// Progress that is in the page cache only removes nothing.
func TestNothingIsRemovedForProgressThatIsNotDurable(t *testing.T) {
	t.Parallel()
	sim := newSimFS()
	m := &mortal{fileSystem: sim}
	s := mustOpen(t, m, testConfig(testDir))
	p := partitionOf(t, s, buffer.Main, testGroup)
	for range 9 {
		mustAppend(t, s, buffer.Main, make([]byte, 20_000))
	}
	broken := always("sync", progressEnding, fault{err: errors.New("the disk is away"), sync: left})
	sim.obey(broken)
	progress := p.progress(p.group)
	progress.Add(buffer.Span{To: 9})
	if err := p.Save(t.Context(), progress); !errors.Is(err, buffer.ErrUnavailable) {
		t.Errorf("save: %v", err)
	}
	if got := p.progress(p.group).Committed(); got != 0 {
		t.Errorf("progress that could not be saved counts: %d", got)
	}
	m.kill(t, s)
	if r := mustOpen(t, sim.cut(killed), s.cfg); len(segmentNames(t, r.fs, testDir)) != 1 {
		t.Errorf("what is done is still there: %q", segmentNames(t, r.fs, testDir))
	}
	sim.obey(broken)
	s = mustOpen(t, sim, s.cfg)
	mustAppend(t, s, buffer.Main, make([]byte, 20_000)) // in a new segment, for which others may go
	if names := segmentNames(t, sim, testDir); len(names) != 6 {
		t.Errorf("for progress that cannot be saved again, segments have gone: %q are left", names)
	}
	if got := partitionOf(t, s, buffer.Main, testGroup); got.progress(got.group).Committed() != 9 {
		t.Fatal("the process that was killed has left no progress to be seen")
	}
	after := sim.cut(nothingSurvives)
	r := mustOpen(t, after, s.cfg)
	if got := readAll(t, partitionOf(t, r, buffer.Main, testGroup), 0); len(got.blocks) != 10 {
		t.Errorf("after a power cut %d blocks are read, 10 are not done", len(got.blocks))
	}
}

// What was set aside is shown with its bytes until somebody deletes it.
func TestWhatIsSetAsideIsCounted(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	flip(segmentOf(l.disk, 0), 20)
	flip(segmentOf(l.disk, 0), headerCopy+20)
	size := allocated(int64(len(segmentOf(l.disk, 0).now)))
	s := mustOpen(t, l.disk, l.cfg)
	shown := func() int64 { return s.lanes[buffer.Main].aside.Load() }
	if shown() != size {
		t.Errorf("%d bytes are shown, %d were set aside", shown(), size)
	}
	f := segmentOf(l.disk, 5)
	f.now = append(bytes.Clone(f.now[:framesStart+10]), bytes.Repeat([]byte("?"), 9000)...) // a torn tail
	f.durable = f.now
	mustClose(t, s)
	s = mustOpen(t, l.disk, l.cfg)
	if shown() <= size {
		t.Errorf("%d bytes are shown, an unfinished write was cut off as well", shown())
	}
	for name := range held(l.disk) {
		if !strings.HasSuffix(name, segmentEnding) {
			if err := l.disk.Remove(mainDir + "/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustAppend(t, s, buffer.Main, []byte("next"))
	if shown() != 0 {
		t.Errorf("%d bytes are shown, all was deleted", shown())
	}
}

// fullDisk is a log whose only segment fills its disk to the last byte, and its blocks. The disk has less room than the quota.
func fullDisk(t *testing.T, whenFull string) (*simFS, *Store, [][]byte) {
	t.Helper()
	sim := newSimFS()
	cfg := testConfig(testDir)
	cfg.WhenFull, cfg.MaxBytes, cfg.SegmentBytes = whenFull, 100<<20, 8<<20
	s := mustOpen(t, sim, cfg)
	blocks := distinct(20, 10_000)
	for _, b := range blocks {
		mustAppend(t, s, buffer.Main, b)
	}
	sim.capacity = sim.root.size()
	if err := appendTo(s, buffer.Main, blocks[0]); whenFull == whenFullRefuse && !errors.Is(err, buffer.ErrFull) {
		t.Errorf("append to a full disk: %v", err)
	}
	return sim, s, blocks
}

// A disk that is full of nothing but done blocks, all in one segment, takes new ones, although the quota allows more than it has.
func TestADiskFullOfDoneBlocksTakesNewOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim, s, blocks := fullDisk(t, whenFullRefuse)
		p := partitionOf(t, s, buffer.Main, testGroup) // its file has to be made, too
		for round := range 4 {
			_, next := p.bounds()
			progress := p.progress(p.group)
			progress.Add(buffer.Span{To: next})
			if err := p.Save(t.Context(), progress); err != nil {
				t.Fatalf("save: %v", err)
			}
			if round == 2 { // an earlier process may have filled it as well
				mustClose(t, s)
				s = mustOpen(t, sim, s.cfg)
				p = partitionOf(t, s, buffer.Main, testGroup)
			}
			_ = appendTo(s, buffer.Main, blocks[0]) // may be refused, but makes room
			time.Sleep(retryMost)
			for appendTo(s, buffer.Main, blocks[1]) == nil {
			}
			if got := readAll(t, p, next); len(got.blocks) < 18 {
				t.Errorf("round %d: the disk takes %d new blocks where there had been 20", round, len(got.blocks))
			}
		}
		mustClose(t, s)
	})
}

// With drop-oldest, a disk that has less room than the quota takes new blocks, even when all old ones are in one segment.
func TestDropOldestMakesRoomOnAFullDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, s, blocks := fullDisk(t, whenFullDropOldest)
		time.Sleep(retryMost)
		for _, b := range blocks[:15] {
			mustAppend(t, s, buffer.Main, b)
		}
		mustClose(t, s)
	})
}

// A group that comes when the disk is full can save its progress, and what it has done goes.
func TestAGroupBeginsOnAFullDisk(t *testing.T) {
	t.Parallel()
	sim := newSimFS()
	s := mustOpen(t, sim, testConfig(testDir))
	for range 9 {
		mustAppend(t, s, buffer.Main, make([]byte, 20_000))
	}
	sim.capacity = sim.root.size()
	p := partitionOf(t, s, buffer.Main, testGroup)
	progress := p.progress(p.group)
	progress.Add(buffer.Span{To: 6})
	if err := p.Save(t.Context(), progress); err != nil {
		t.Errorf("save: %v", err)
	}
	if names := segmentNames(t, sim, testDir); !slices.Equal(names, []string{"6", "8"}) {
		t.Errorf("the segments are %q", names)
	}
	r := mustOpen(t, sim.cut(nothingSurvives), s.cfg)
	p = partitionOf(t, r, buffer.Main, testGroup)
	if got := p.progress(p.group).Committed(); got != 6 {
		t.Errorf("after a power cut progress is %d, 6 was saved", got)
	}
}
