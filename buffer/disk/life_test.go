package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// lockedDir names the directory that a process started by TestASecondProcessIsRefused is to hold until its input ends.
const lockedDir = "DISK_TEST_HOLDS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockedDir); dir != "" {
		s, err := Open(testConfig(dir), slog.New(slog.DiscardHandler), nil)
		fmt.Println("open:", err)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		if err == nil {
			err = s.Close(context.Background())
		}
		if err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), lockedDir+"="+dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "open: <nil>" {
		t.Fatalf("the first process: %q, %v", line, err)
	}
	_, err = Open(testConfig(dir), slog.New(slog.DiscardHandler), nil)
	if pid := strconv.Itoa(other.Process.Pid); err == nil || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "pid "+pid) {
		t.Errorf("the second process: %v, want the directory %s and pid %s", err, dir, pid)
	}
	in.Close()
	if err := other.Wait(); err != nil {
		t.Errorf("the first process: %v", err)
	}
	mustOpen(t, osFS{}, testConfig(dir))
}

func TestASecondStoreIsRefusedUntilTheFirstIsClosed(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	first := mustOpen(t, osFS{}, cfg)
	_, err := Open(cfg, slog.New(slog.DiscardHandler), nil)
	if err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("the second store: %v", err)
	}
	mustClose(t, first)
	mustOpen(t, osFS{}, cfg)
}

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
			stats, err := s.Stats(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return stats[0].MaxBytes
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
	before := s.quota.used
	mustClose(t, s)
	r := mustOpen(t, sim, s.cfg)
	if s.quota.used != r.quota.used {
		t.Errorf("%d bytes were counted, %d after opening again (%d before sealing)", s.quota.used, r.quota.used, before)
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

// What a newer version wrote is neither read nor touched.
func TestANewerVersionIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	newer := map[string]func(b []byte){
		mainDir + "/" + segmentName(5): func(b []byte) {
			for _, c := range [][]byte{b[:headerSize], b[headerCopy : headerCopy+headerSize]} {
				le.PutUint32(c[8:], formatVersion+1)
				le.PutUint32(c[12:], headerChecksum(c))
			}
		},
		mainDir + "/" + testGroup + progressEnding: func(b []byte) {
			for i := range progressSlots {
				c := b[i*slotSize : (i+1)*slotSize]
				le.PutUint32(c[8:], formatVersion+1)
				le.PutUint32(c[12:], slotChecksum(c[:slotHeaderSize+le.Uint32(c[32:])]))
			}
		},
		testDir + "/" + identityName: func(b []byte) {
			var id logID
			text := bytes.Replace(encodeIdentity(id), []byte("ingestgw-log 1 "), []byte("ingestgw-log 2 "), 1)
			copy(b, text[:len(text)-9])
			copy(b[len(text)-9:], fmt.Sprintf("%08x", crcOf(text[:len(text)-9])))
		},
	}
	for name, change := range newer {
		l := newSmallLog(t)
		f := l.disk.file(name)
		b := bytes.Clone(f.durable)
		change(b)
		f.now, f.durable = b, b
		before := l.disk.root.size()
		_, err := openOn(l.disk, l.cfg, slog.New(slog.DiscardHandler), nil)
		if !errors.Is(err, buffer.ErrNewerVersion) || !strings.Contains(err.Error(), filepath.Base(testDir)) {
			t.Errorf("%s of a newer version: %v", name, err)
		}
		if after := l.disk.file(name); after == nil || !bytes.Equal(after.now, b) || l.disk.root.size() != before {
			t.Errorf("%s of a newer version was changed, or something else was: %d bytes, then %d", name, before, l.disk.root.size())
		}
	}
}

// What others put into the directory stays there, and is in nobody's way.
func TestForeignFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	names := []string{
		testDir + "/README", testDir + "/lost+found/x", testDir + "/lane-UPPER/x", testDir + "/log.old",
		mainDir + "/notes.txt", mainDir + "/5.segment", mainDir + "/00000000000000000005.segment.bak",
		mainDir + "/99999999999999999999.segment", mainDir + "/.progress", mainDir + "/dir.segment/x",
	}
	for _, name := range names {
		if err := l.disk.Mkdir(filepath.Dir(name)); err != nil {
			t.Fatal(err)
		}
		f, err := l.disk.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.WriteAll([][]byte{[]byte(name)}, 0), f.Sync()); err != nil {
			t.Fatal(err)
		}
	}
	s := mustOpen(t, l.disk, l.cfg)
	wantBlocks(t, "among foreign files", readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0), l.blocks...)
	mustAppend(t, s, buffer.Main, []byte("next"))
	mustClose(t, s)
	for _, name := range names {
		if f := l.disk.file(name); f == nil || string(f.now) != name {
			t.Errorf("%s is not there any more as it was", name)
		}
	}
}

// Segments of another log, lane or place are set aside; a file that is no segment but has a segment's name is, too, and does not
// shorten the segment whose offsets its name is among.
func TestForeignSegmentsAreSetAside(t *testing.T) {
	t.Parallel()
	l, other := newSmallLog(t), newSmallLog(t)
	copyTo := func(name string, b []byte) {
		l.disk.dir(mainDir).change(entryChange{in: name, node: &simFile{now: b, durable: b}})
	}
	copyTo(segmentName(20), segmentOf(other.disk, 0).durable) // of another log
	copyTo(segmentName(3), segmentOf(l.disk, 5).durable)      // of another place
	copyTo(segmentName(2), []byte("rubbish"))
	s := mustOpen(t, l.disk, l.cfg)
	p := partitionOf(t, s, buffer.Main, testGroup)
	wantBlocks(t, "with foreign segments", readAll(t, p, 0), l.blocks...)
	files := held(l.disk)
	for _, name := range []string{segmentName(20) + foreignEnding, segmentName(3) + foreignEnding, segmentName(2) + damagedEnding} {
		if files[name] == nil {
			t.Errorf("%s is not there", name)
		}
	}
	if len(files) != 5 {
		t.Errorf("%d files are there, want the two segments and three set aside", len(files))
	}
}

// A log without segments goes on at the highest offset that was ever handed out.
func TestOffsetsGoOnWithoutSegments(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	s := mustOpen(t, l.disk, l.cfg) // saves progress once more, with all blocks handed out
	mustClose(t, s)
	for _, first := range []buffer.Offset{0, 5} {
		if err := l.disk.Remove(mainDir + "/" + segmentName(first)); err != nil {
			t.Fatal(err)
		}
	}
	s = mustOpen(t, l.disk, l.cfg)
	p := partitionOf(t, s, buffer.Main, testGroup)
	first, next := p.bounds()
	if first != 8 || next != 8 {
		t.Errorf("without segments the bounds are %d to %d, want 8 to 8", first, next)
	}
	batch, err := p.Read(t.Context(), 0, 1)
	if want := (buffer.Span{From: 0, To: 8}); err != nil || len(batch.Lost) != 1 || batch.Lost[0].Span != want || batch.Next != 8 {
		t.Errorf("read: lost %v, next %d, %v", batch.Lost, batch.Next, err)
	}
	mustAppend(t, s, buffer.Main, []byte("next"))
	if got := readAll(t, p, 8); got.blocks[8] != "next" {
		t.Errorf("the next block is not at 8: %v", got.blocks)
	}
}

// A segment's file that somebody deletes is told as lost, and what comes back under its name is not deleted by this process.
func TestADeletedSegmentIsToldAsLost(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	s := mustOpen(t, l.disk, l.cfg)
	mustAppend(t, s, buffer.Main, []byte("next"))
	p := partitionOf(t, s, buffer.Main, testGroup)
	name := mainDir + "/" + segmentName(0)
	if err := l.disk.Rename(name, mainDir+"/elsewhere"); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, p, 0)
	want := []buffer.Loss{{Span: buffer.Span{From: 0, To: 5}, Reason: reasonVanished}}
	if len(got.blocks) != 4 || !slices.Equal(got.lost, want) {
		t.Errorf("%d blocks are read, lost %v, want %v", len(got.blocks), got.lost, want)
	}
	if err := l.disk.Rename(mainDir+"/elsewhere", name); err != nil {
		t.Fatal(err)
	}
	if err := p.Save(t.Context(), p.progress(p.group)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, l.disk, l.cfg)
	if got := readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0); len(got.blocks) != 9 || len(got.lost) > 0 {
		t.Errorf("the file is back: %d blocks are read, lost %v", len(got.blocks), got.lost)
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
	s = mustOpen(t, sim, s.cfg)
	if got := partitionOf(t, s, buffer.Main, testGroup); got.progress(got.group).Committed() != 9 {
		t.Fatal("the process that was killed has left no progress to be seen")
	}
	after := sim.cut(nothingSurvives)
	r := mustOpen(t, after, s.cfg)
	if got := readAll(t, partitionOf(t, r, buffer.Main, testGroup), 0); len(got.blocks) != 9 {
		t.Errorf("after a power cut %d blocks are read, 9 are not done", len(got.blocks))
	}
}

// Consume hands a lane to one at a time.
func TestConsumersOfAGroupTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, newSimFS(), testConfig(testDir))
		var running, most int
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		for range 3 {
			go func() {
				done <- s.Consume(ctx, testGroup, testLanes()[:1], func(context.Context, buffer.Partition) error {
					running++
					most = max(most, running)
					time.Sleep(time.Second)
					running--
					return errors.New("enough")
				})
			}()
		}
		for range 3 {
			if err := <-done; err == nil || err.Error() != "enough" {
				t.Error(err)
			}
		}
		cancel()
		if most != 1 {
			t.Errorf("%d ran at once", most)
		}
		mustClose(t, s)
	})
}

// Close ends with its context while the disk does not answer, and blocks then end with theirs.
func TestCloseDoesNotWaitForADiskThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		s := mustOpen(t, hanging{sim, make(chan struct{})}, testConfig(testDir))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Append(ctx, buffer.Main, testBlock([]byte("x"))); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("append: %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		if err := appendTo(s, buffer.Main, []byte("y")); !errors.Is(err, buffer.ErrClosed) {
			t.Errorf("append to a store that closes: %v", err)
		}
		close(s.fs.(hanging).until)
		mustClose(t, s)
		if _, err := sim.Lock(testDir + "/lock"); err != nil {
			t.Errorf("closed, but still locked: %v", err)
		}
	})
}

// hanging is a file system that makes no file of a segment for a while.
type hanging struct {
	fileSystem
	until chan struct{}
}

func (h hanging) Create(path string) (file, error) {
	if strings.Contains(path, segmentEnding) {
		<-h.until
	}
	return h.fileSystem.Create(path)
}

// What is kept in memory of a backlog is 16 bytes for each MiB of it.
func TestMemoryHardlyGrowsWithTheBacklog(t *testing.T) {
	t.Parallel()
	cfg := testConfig(testDir)
	cfg.SegmentBytes = 4 << 20
	s := mustOpen(t, newSimFS(), cfg)
	for range 160 {
		mustAppend(t, s, buffer.Main, make([]byte, 50<<10))
	}
	check := func(s *Store) {
		t.Helper()
		l := s.lanes[buffer.Main]
		entries := 0
		for _, seg := range l.segments {
			entries += len(seg.index)
		}
		if n := l.segmentCount(); n != 2 || entries > 8+n {
			t.Errorf("8 MiB of blocks in %d segments have %d index entries", n, entries)
		}
	}
	check(s)
	mustClose(t, s)
	check(mustOpen(t, s.fs, cfg))
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config{
		"INGESTGW_BUFFER_DIR":           {WhenFull: "refuse", SegmentBytes: 1 << 20},
		"INGESTGW_BUFFER_MAX_BYTES":     {Dir: "x", MaxBytes: 5000, WhenFull: "refuse", SegmentBytes: 1 << 20},
		"INGESTGW_BUFFER_WHEN_FULL":     {Dir: "x", WhenFull: "wait", SegmentBytes: 1 << 20},
		"INGESTGW_BUFFER_SEGMENT_BYTES": {Dir: "x", WhenFull: "drop-oldest", SegmentBytes: 100},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "INGESTGW") != 1 {
			t.Errorf("%+v: %v, want %s alone", c, err, want)
		}
	}
	if got := (Config{MaxBytes: 80 << 20, SegmentBytes: 64 << 20}).segmentBytes(); got != 10<<20 {
		t.Errorf("segments of a log of 80 MiB have %v", settings.Bytes(got))
	}
}
