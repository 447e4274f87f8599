package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// always is a rule for the same fault in all such operations on paths of that kind.
func always(ops, kind string, bad fault) func(op, path string) *fault {
	return func(op, path string) *fault {
		if slices.Contains(strings.Fields(ops), op) && strings.Contains(path, kind) {
			return &bad
		}
		return nil
	}
}

// distinct are n blocks of that size, no two alike.
func distinct(n, size int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = fmt.Appendf(make([]byte, 0, size), "block %d ", i)
		for len(all[i]) < size {
			all[i] = append(all[i], byte(i), byte(len(all[i])))
		}
	}
	return all
}

// wantBlocks checks that the blocks from offset 0 on are these, and nothing else.
func wantBlocks(t *testing.T, when string, got contents, want ...[]byte) {
	t.Helper()
	for i, b := range want {
		if got.blocks[buffer.Offset(i)] != string(b) {
			t.Errorf("%s: block %d is not what was acknowledged (%d bytes)", when, i, len(got.blocks[buffer.Offset(i)]))
		}
	}
	if len(got.blocks) != len(want) || len(got.lost) > 0 {
		t.Errorf("%s: %d blocks are read, %d were acknowledged, lost %v", when, len(got.blocks), len(want), got.lost)
	}
}

// A disk that takes nothing refuses blocks, loses none, and is used again when it is well.
func TestServiceResumesWhenAFaultGoesAway(t *testing.T) {
	t.Parallel()
	const all = "create write sync rename remove syncdir truncate openwrite mkdir"
	for name, c := range map[string]struct {
		rule func(op, path string) *fault
		want error
		may  bool // a refused block may be stored all the same
	}{
		"read-only":            {always(all, "", fault{err: syscall.EROFS}), buffer.ErrUnavailable, false},
		"I/O error":            {always(all+" read open", "", fault{err: syscall.EIO}), buffer.ErrUnavailable, false},
		"write fails":          {always("write", "segment", fault{err: syscall.EIO}), buffer.ErrUnavailable, false},
		"write is torn":        {always("write", "segment", fault{err: syscall.EIO, bytes: 500}), buffer.ErrUnavailable, false},
		"no space":             {always("write create", "", fault{err: syscall.ENOSPC}), buffer.ErrFull, false},
		"space for a part":     {always("write", "", fault{err: syscall.ENOSPC, bytes: 700}), buffer.ErrFull, false},
		"over quota":           {always("write", "", fault{err: syscall.EDQUOT, bytes: 3000}), buffer.ErrFull, true},
		"nor can it be cut":    {ruleOf(always("write", "", fault{err: syscall.ENOSPC, bytes: 900}), always("truncate", "", fault{err: syscall.EIO})), nil, false},
		"sync fails, left":     {always("sync", "segment", fault{err: syscall.EIO, sync: left}), buffer.ErrUnavailable, true},
		"sync fails, kept":     {always("sync", "segment", fault{err: syscall.EIO, sync: kept}), buffer.ErrUnavailable, true},
		"sync fails, dropped":  {always("sync", "segment", fault{err: syscall.EIO, sync: dropped}), buffer.ErrUnavailable, true},
		"sync says no space":   {always("sync", "segment", fault{err: syscall.ENOSPC, sync: dropped}), buffer.ErrFull, true},
		"no segment is made":   {ruleOf(always("write", "", fault{err: syscall.EIO}), always("create", "", fault{err: syscall.EMFILE})), buffer.ErrUnavailable, false},
		"nothing is renamed":   {ruleOf(always("sync", "", fault{err: syscall.EIO, sync: left}), always("rename", "", fault{err: syscall.EIO})), buffer.ErrUnavailable, true},
		"directory is not":     {ruleOf(always("sync", "", fault{err: syscall.EIO, sync: left}), always("syncdir", "", fault{err: syscall.EIO})), buffer.ErrUnavailable, true},
		"directory says it is": {ruleOf(once("sync", fault{err: syscall.EIO, sync: kept}), always("syncdir", "", fault{err: syscall.EIO, sync: kept})), buffer.ErrUnavailable, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { faultComesAndGoes(t, c.rule, c.want, c.may) })
		})
	}
}

// ruleOf is several rules, of which the first that fits counts.
func ruleOf(rules ...func(op, path string) *fault) func(op, path string) *fault {
	return func(op, path string) *fault {
		for _, rule := range rules {
			if bad := rule(op, path); bad != nil {
				return bad
			}
		}
		return nil
	}
}

func faultComesAndGoes(t *testing.T, rule func(op, path string) *fault, want error, may bool) {
	sim := newSimFS()
	s := mustOpen(t, sim, testConfig(testDir))
	p := partitionOf(t, s, buffer.Main, testGroup)
	blocks := distinct(12, 2000)
	good, bad, later := blocks[:4], blocks[4:8], blocks[8:]
	for _, b := range good {
		mustAppend(t, s, buffer.Main, b)
	}
	progress := p.progress(p.group)
	progress.Add(buffer.Span{To: 1})
	if err := p.Save(t.Context(), progress); err != nil {
		t.Fatal(err)
	}

	sim.obey(rule)
	for _, b := range bad {
		err := appendTo(s, buffer.Main, b)
		if err == nil || want != nil && !errors.Is(err, want) || !errors.Is(err, buffer.ErrFull) && !errors.Is(err, buffer.ErrUnavailable) {
			t.Errorf("append: %v, want %v", err, want)
		}
	}
	atThatTime := sim.cut(nothingSurvives)
	sim.obey(nil)
	wantBlocks(t, "after the fault", readAll(t, p, 0), good...)

	time.Sleep(retryMost)
	for _, b := range later {
		mustAppend(t, s, buffer.Main, b)
	}
	progress.Add(buffer.Span{To: 2})
	if err := p.Save(t.Context(), progress); err != nil {
		t.Errorf("save after the fault: %v", err)
	}
	acked := append(append([][]byte(nil), good...), later...)
	wantBlocks(t, "in service again", readAll(t, p, 0), acked...)

	for _, how := range []survival{nothingSurvives, everythingSurvives, killed, someSurvives(1, 512)} {
		r := mustOpen(t, sim.cut(how), s.cfg)
		p := partitionOf(t, r, buffer.Main, testGroup)
		wantBlocks(t, "opened again, surviving: "+how.name, readAll(t, p, 0), acked...)
		if got := p.progress(p.group).Committed(); got != 2 {
			t.Errorf("opened again, surviving: %s: progress %d, 2 was saved", how.name, got)
		}
		mustClose(t, r)
	}
	r := mustOpen(t, atThatTime, s.cfg)
	got := readAll(t, partitionOf(t, r, buffer.Main, testGroup), 0)
	maps.DeleteFunc(got.blocks, func(o buffer.Offset, _ string) bool { return may && o >= buffer.Offset(len(good)) })
	wantBlocks(t, "power cut during the fault", got, good...)
	mustClose(t, r)
	mustClose(t, s)
}

// On a full disk progress can be saved, which gives space back; what could not be written leaves nothing behind.
func TestFullDiskRefusesAndRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		sim.capacity = 700 << 10
		cfg := testConfig(testDir)
		cfg.MaxBytes = 100 << 20 // more than there is, so that the disk itself says no
		s := mustOpen(t, sim, cfg)
		p := partitionOf(t, s, buffer.Main, testGroup)
		var acked [][]byte
		for _, b := range distinct(100, 10_000) {
			err := appendTo(s, buffer.Main, b)
			if errors.Is(err, buffer.ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			acked = append(acked, b)
		}
		if n := len(acked); n < 50 || n == 100 {
			t.Fatalf("%d blocks of 10 kB fit into 700 KiB", n)
		}
		wantBlocks(t, "full", readAll(t, p, 0), acked...)
		newest := p.newest()
		if f := sim.file(newest.path); int64(len(f.now)) != newest.size && newest.sealed == false {
			t.Errorf("the newest segment has %d bytes, %d are durable", len(f.now), newest.size)
		}

		progress := p.progress(p.group)
		progress.Add(buffer.Span{To: buffer.Offset(len(acked)) / 2})
		if err := p.Save(t.Context(), progress); err != nil {
			t.Fatalf("save on a full disk: %v", err)
		}
		time.Sleep(retryMost)
		mustAppend(t, s, buffer.Main, acked[0])
		mustClose(t, s)

		sim.capacity = sim.root.size() // not a byte is free
		s = mustOpen(t, sim, cfg)
		p = partitionOf(t, s, buffer.Main, testGroup)
		if got := p.progress(p.group).Committed(); got != progress.Committed() {
			t.Errorf("opened on a full disk: progress %d, saved %d", got, progress.Committed())
		}
		if err := appendTo(s, buffer.Main, acked[0]); !errors.Is(err, buffer.ErrFull) {
			t.Errorf("append on a full disk: %v", err)
		}
		sim.capacity += 1 << 20
		time.Sleep(retryMost)
		mustAppend(t, s, buffer.Main, acked[0])
		mustClose(t, s)
	})
}

// What a torn write leaves is cut off at once when the disk is full: it is not there after the next start either.
func TestRefusedForWantOfSpaceIsNotStored(t *testing.T) {
	t.Parallel()
	sim := newSimFS()
	s := mustOpen(t, sim, testConfig(testDir))
	mustAppend(t, s, buffer.Main, []byte("one"))
	sim.obey(once("write", fault{err: syscall.ENOSPC, bytes: 1 << 20}))
	if err := appendTo(s, buffer.Main, []byte("two")); !errors.Is(err, buffer.ErrFull) {
		t.Errorf("append: %v", err)
	}
	sim.obey(nil)
	r := mustOpen(t, sim.cut(everythingSurvives), s.cfg)
	wantBlocks(t, "after a crash", readAll(t, partitionOf(t, r, buffer.Main, testGroup), 0), []byte("one"))
}

// A disk that lies about syncs can lose what it said was durable, but nothing from before the first lie.
func TestLyingDiskLosesNothingFromBeforeItsFirstLie(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]func(op, path string) *fault{
		"files":       always("sync", "/", fault{sync: left}),
		"segments":    always("sync", "segment", fault{sync: dropped}),
		"progress":    always("sync", "progress", fault{sync: dropped}),
		"directories": always("syncdir", "", fault{sync: left}),
		"everything":  ruleOf(always("sync", "", fault{sync: left}), always("syncdir", "", fault{sync: left})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for truth := range 12 {
				lie(t, rule, truth)
			}
		})
	}
}

// lie lets so many blocks be stored before the first lie, and further ones after it.
func lie(t *testing.T, rule func(op, path string) *fault, truth int) {
	t.Helper()
	sim := newSimFS()
	s := mustOpen(t, sim, testConfig(testDir))
	blocks := distinct(20, 15_000)
	for i, b := range blocks {
		if i == truth {
			sim.obey(rule)
		}
		mustAppend(t, s, buffer.Main, b)
		p := partitionOf(t, s, buffer.Main, testGroup)
		progress := p.progress(p.group)
		progress.Add(buffer.Span{From: buffer.Offset(i), To: buffer.Offset(i + i%2)})
		if err := p.Save(t.Context(), progress); err != nil {
			t.Fatal(err)
		}
	}
	before := mustOpen(t, sim.cut(nothingSurvives), s.cfg)
	for seed := range uint64(4) {
		how := []survival{nothingSurvives, everythingSurvives, someSurvives(seed, 512), someSurvives(seed, 4096)}[seed]
		disk := sim.cut(how)
		r := mustOpen(t, disk, s.cfg)
		p := partitionOf(t, r, buffer.Main, testGroup)
		got := readAll(t, p, 0)
		for i, b := range blocks[:truth] {
			if o := buffer.Offset(i); got.blocks[o] != string(b) && !p.progress(p.group).Contains(o) {
				t.Errorf("%d true blocks, surviving: %s: block %d is lost", truth, how.name, i)
			}
		}
		for o, b := range got.blocks {
			if b != string(blocks[o]) {
				t.Errorf("%d true blocks, surviving: %s: block %d is not what was written there", truth, how.name, o)
			}
		}
		mustAppend(t, r, buffer.Main, []byte("later"))
		if now := readAll(t, p, got.next); now.blocks[got.next] != "later" {
			t.Errorf("%d true blocks, surviving: %s: the next block is not read back", truth, how.name)
		}
		mustClose(t, r)
		mustClose(t, mustOpen(t, disk.cut(nothingSurvives), s.cfg))
	}
	mustClose(t, before)
	mustClose(t, s)
}

// A disk that cannot be read for a while loses nothing; one place that it can never read again costs the blocks that are there.
func TestUnreadableBlocksAreWaitedForAndThenPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		cfg := testConfig(testDir)
		cfg.SegmentBytes = 1 << 20
		s := mustOpen(t, sim, cfg)
		blocks := distinct(6, 20_000)
		for _, b := range blocks {
			mustAppend(t, s, buffer.Main, b)
		}
		p := partitionOf(t, s, buffer.Main, testGroup)
		_, pos, _ := frameOf(t, s, buffer.Main, 2)
		read := func() error {
			for from := buffer.Offset(0); from < 6; {
				batch, err := p.Read(t.Context(), from, 1)
				if err != nil {
					return err
				}
				if len(batch.Lost) > 0 {
					return fmt.Errorf("lost %v", batch.Lost)
				}
				from = batch.Next
				batch.Release()
			}
			return nil
		}
		bad := badSector{fileSystem: sim, at: pos + 9000}
		p.fs = &bad
		if err := read(); !errors.Is(err, buffer.ErrUnavailable) || !errors.Is(err, syscall.EIO) {
			t.Errorf("read of a bad sector: %v", err)
		}
		time.Sleep(patience - time.Second)
		bad.well = true
		if err := read(); err != nil {
			t.Errorf("the sector is well again: %v", err)
		}
		bad.well = false
		time.Sleep(patience)
		if err := read(); !errors.Is(err, buffer.ErrUnavailable) {
			t.Errorf("a minute after it was well, it fails anew, and is given up at once: %v", err)
		}
		time.Sleep(patience)
		got := readAll(t, p, 0)
		if len(got.lost) != 1 || got.lost[0].Span != (buffer.Span{From: 2, To: 3}) || len(got.blocks) != 5 {
			t.Errorf("after a minute %d of 6 blocks are read, lost %v", len(got.blocks), got.lost)
		}
		mustClose(t, s)
	})
}

// A disk that is away, also for an hour, costs nothing when it comes back: what cannot be read is not taken for damaged while nothing
// can be written either.
func TestADiskThatIsAwayLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		s := mustOpen(t, sim, testConfig(testDir))
		blocks := distinct(12, 20_000)
		for _, b := range blocks {
			mustAppend(t, s, buffer.Main, b)
		}
		p := partitionOf(t, s, buffer.Main, testGroup)
		away := always("read write sync truncate create syncdir", "", fault{err: syscall.EIO})
		for n := range 3600 {
			sim.obey(away)
			if n%100 == 1 { // it shows itself for a moment
				sim.obey(nil)
				if err := p.saveAgain(p.group); err != nil {
					t.Fatal(err)
				}
				sim.obey(away)
			}
			if batch, err := p.Read(t.Context(), 2, 1); !errors.Is(err, buffer.ErrUnavailable) {
				t.Fatalf("read after %d s: lost %v, %v", n, batch.Lost, err)
			}
			time.Sleep(time.Second)
		}
		sim.obey(nil)
		wantBlocks(t, "the disk is back", readAll(t, p, 0), blocks...)
		mustClose(t, s)
	})
}

// When much of a segment cannot be read on a disk that takes writes, a minute of patience is for what lies between two entries of its
// index, and not for all of the rest: that may be read again by then.
func TestOfAnUnreadableSegmentLittleIsGivenUpAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		cfg := testConfig(testDir)
		cfg.SegmentBytes = 8 << 20
		s := mustOpen(t, sim, cfg)
		blocks := distinct(32, 250_000)
		for _, b := range blocks {
			mustAppend(t, s, buffer.Main, b)
		}
		p := partitionOf(t, s, buffer.Main, testGroup)
		sim.obey(always("read", segmentEnding, fault{err: syscall.EIO, bytes: 600_000}))
		var lost []buffer.Loss
		for from := buffer.Offset(0); from < 10; {
			batch, err := p.Read(t.Context(), from, 1)
			if err != nil {
				time.Sleep(time.Second)
				continue
			}
			lost, from = append(lost, batch.Lost...), batch.Next
			batch.Release()
		}
		sim.obey(nil)
		got := readAll(t, p, 10)
		if n := len(got.blocks); n < len(blocks)-15 || len(got.lost) > 0 {
			t.Errorf("what lies behind the next MiB is lost as well: %d blocks are read of 22, lost %v", n, got.lost)
		}
		if len(lost) < 2 || lost[0].From != 2 || lost[0].To > 6 {
			t.Errorf("in two minutes were given up: %v", lost)
		}
		mustClose(t, s)
	})
}

// badSector is a file system that cannot read the page around one byte of one segment.
type badSector struct {
	fileSystem
	at   int64
	well bool
}

func (b *badSector) Open(path string) (file, error) {
	f, err := b.fileSystem.Open(path)
	return &badSectorFile{file: f, on: b}, err
}

type badSectorFile struct {
	file
	on *badSector
}

func (f *badSectorFile) ReadAt(b []byte, off int64) (int, error) {
	const page = 4096
	if begin := f.on.at / page * page; !f.on.well && off < begin+page && off+int64(len(b)) > begin {
		return 0, syscall.EIO
	}
	return f.file.ReadAt(b, off)
}

// A disk that cannot be read at all when the log is opened is not taken for damage.
func TestNothingIsSetAsideWhenTheDiskCannotBeRead(t *testing.T) {
	t.Parallel()
	sim := newSimFS()
	s := mustOpen(t, sim, testConfig(testDir))
	blocks := distinct(10, 20_000)
	for _, b := range blocks {
		mustAppend(t, s, buffer.Main, b)
	}
	mustClose(t, s)
	for _, kind := range []string{"", "log", ".segment"} {
		sim.obey(always("read", kind, fault{err: syscall.EIO}))
		s, err := openOn(sim, s.cfg, slog.New(slog.DiscardHandler), nil)
		if err == nil {
			mustClose(t, s)
		}
		if fails := kind != "log"; (err != nil) != fails || fails && !errors.Is(err, syscall.EIO) {
			t.Errorf("open, EIO for %q: %v", kind, err)
		}
	}
	sim.obey(nil)
	s = mustOpen(t, sim, s.cfg)
	wantBlocks(t, "the disk can be read again", readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0), blocks...)
}

// A segment that cannot be read to its end when the log is opened is left as it is, and read when it can be.
func TestAnUnreadableTailIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	disk, blocks := l.crashed(t)
	first := buffer.Offset(len(l.blocks))
	whole := segmentOf(disk, first).durable
	disk.obey(func(op, path string) *fault {
		if op == "read" && strings.Contains(path, segmentName(first)) {
			return &fault{err: syscall.EIO, bytes: framesStart}
		}
		return nil
	})
	s := mustOpen(t, disk, l.cfg)
	p := partitionOf(t, s, buffer.Main, testGroup)
	_, next := p.bounds()
	if next < buffer.Offset(len(blocks)) {
		t.Errorf("the next block gets %d, %d were stored", next, len(blocks))
	}
	mustAppend(t, s, buffer.Main, []byte("next"))
	mustAppend(t, s, buffer.Main, make([]byte, minSegmentBytes)) // in another segment
	if _, err := p.Read(t.Context(), first, 1); !errors.Is(err, buffer.ErrUnavailable) {
		t.Errorf("read: %v", err)
	}
	disk.obey(nil)
	check := func(when string, got contents) {
		t.Helper()
		for i, b := range blocks {
			if o := buffer.Offset(i); got.blocks[o] != string(b) {
				t.Errorf("%s: block %d is lost although the disk can be read again", when, o)
			}
		}
		if got.blocks[next] != "next" || len(got.blocks) != len(blocks)+2 {
			t.Errorf("%s: %d blocks are read, %d were stored", when, len(got.blocks), len(blocks)+2)
		}
	}
	check("at once", readAll(t, p, 0))
	if got := segmentOf(disk, first); got == nil || !slices.Equal(got.now, whole) {
		t.Error("the segment was changed though it could not be read")
	}
	mustClose(t, s)
	r := mustOpen(t, disk, l.cfg)
	check("opened again", readAll(t, partitionOf(t, r, buffer.Main, testGroup), 0))
}

// Trouble that lasts is not told for every block.
func TestLastingTroubleIsToldNowAndThen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sim := newSimFS()
		var lines lineCount
		s, err := openOn(sim, testConfig(testDir), slog.New(&lines), nil)
		if err != nil {
			t.Fatal(err)
		}
		sim.obey(always("write create", "", fault{err: syscall.EROFS}))
		before := lines.n
		for range 600 {
			if err := appendTo(s, buffer.Main, []byte("x")); !errors.Is(err, buffer.ErrUnavailable) {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := lines.n - before; n < 5 || n > 8 {
			t.Errorf("a minute of trouble is told in %d lines, want one in 10 s", n)
		}
		sim.obey(nil)
		time.Sleep(retryMost)
		mustAppend(t, s, buffer.Main, []byte("x"))
		mustClose(t, s)
	})
}

// lineCount counts lines of log. It is used by one goroutine at a time.
type lineCount struct{ n int }

func (c *lineCount) Enabled(context.Context, slog.Level) bool      { return true }
func (c *lineCount) Handle(_ context.Context, _ slog.Record) error { c.n++; return nil }
func (c *lineCount) WithAttrs([]slog.Attr) slog.Handler            { return c }
func (c *lineCount) WithGroup(string) slog.Handler                 { return c }
