package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// What a newer version wrote is neither read nor touched.
func TestANewerVersionIsLeftAsItIs(t *testing.T) {
	t.Parallel()
	newer := map[string]func(b []byte){
		mainDir + "/" + segmentName(5): makeNewer,
		mainDir + "/" + testGroup + progressEnding: func(b []byte) {
			for i := range progressSlots {
				c := b[i*slotSize : (i+1)*slotSize]
				le.PutUint32(c[8:], formatVersion+1)
				le.PutUint32(c[12:], slotChecksum(c[:slotHeaderSize+le.Uint32(c[32:])]))
			}
		},
		mainDir + "/" + segmentName(9) + newEnding: makeNewer,
		testDir + "/" + identityName: func(b []byte) {
			var id logID
			text := bytes.Replace(encodeIdentity(id), []byte("ingestgw-log 1 "), []byte("ingestgw-log 2 "), 1)
			copy(b, text[:len(text)-9])
			copy(b[len(text)-9:], fmt.Sprintf("%08x", crcOf(text[:len(text)-9])))
		},
	}
	for name, change := range newer {
		l := newSmallLog(t)
		if l.disk.file(name) == nil {
			b := segmentHeader{lane: "main", first: 9}.encode()
			l.disk.dir(mainDir).change(entryChange{in: filepath.Base(name), node: &simFile{now: b, durable: b}})
		}
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

// makeNewer changes the header of a segment to that of a newer version.
func makeNewer(b []byte) {
	for _, c := range [][]byte{b[:headerSize], b[headerCopy : headerCopy+headerSize]} {
		le.PutUint32(c[8:], formatVersion+1)
		le.PutUint32(c[12:], headerChecksum(c))
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
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	batch, err := p.Read(ctx, 0, 1)
	if want := (buffer.Span{From: 0, To: 8}); err != nil || len(batch.Lost) != 1 || batch.Lost[0].Span != want || batch.Next != 8 {
		t.Errorf("read: lost %v, next %d, %v", batch.Lost, batch.Next, err)
	}
	mustAppend(t, s, buffer.Main, []byte("next"))
	if got := readAll(t, p, 8); got.blocks[8] != "next" {
		t.Errorf("the next block is not at 8: %v", got.blocks)
	}
}

// A segment that has lost its name on a disk that lied about it gets it back with all its blocks, or is set aside; only what was never
// finished is removed.
func TestASegmentThatHasLostItsNameIsKept(t *testing.T) {
	t.Parallel()
	unfinished := segmentHeader{lane: "main", first: 8}.encode()
	for name, c := range map[string]struct {
		content func(whole []byte) []byte
		taken   bool
		want    int    // blocks read
		aside   string // under which name it is kept; "": it is gone
	}{
		"whole":          {func(b []byte) []byte { return b }, false, 11, segmentName(8)},
		"its place used": {func(b []byte) []byte { return b }, true, 8, segmentName(8) + damagedEnding},
		"no header":      {func(b []byte) []byte { return append(make([]byte, framesStart), b[framesStart:]...) }, false, 8, segmentName(8) + damagedEnding},
		"of another log": {func(b []byte) []byte { return append(bytes.Clone(unfinished), b[framesStart:]...) }, false, 8, segmentName(8) + foreignEnding},
		"header alone":   {func(b []byte) []byte { return b[:framesStart] }, false, 8, ""},
		"nothing":        {func([]byte) []byte { return nil }, false, 8, ""},
	} {
		l := newSmallLog(t)
		disk, blocks := l.crashed(t)
		path := mainDir + "/" + segmentName(8)
		f := disk.file(path)
		f.now = c.content(f.now)
		f.durable = f.now
		if err := disk.Rename(path, path+newEnding); err != nil {
			t.Fatal(err)
		}
		if c.taken {
			disk.dir(mainDir).change(entryChange{in: segmentName(8), node: &simFile{now: unfinished, durable: unfinished}})
		}
		s := mustOpen(t, disk, l.cfg)
		p := partitionOf(t, s, buffer.Main, testGroup)
		got := readAll(t, p, 0)
		for o, b := range got.blocks {
			if b != string(blocks[o]) {
				t.Errorf("%s: block %d is another one", name, o)
			}
		}
		if len(got.blocks) != c.want || c.want > 8 && len(got.lost) > 0 || c.aside == segmentName(8)+damagedEnding && got.next < 11 {
			t.Errorf("%s: %d blocks are read, lost %v, the next one gets %d", name, len(got.blocks), got.lost, got.next)
		}
		files := held(disk)
		if c.aside != "" && len(files[c.aside]) < len(f.durable) || files[segmentName(8)+newEnding] != nil {
			t.Errorf("%s: the files are %q", name, slices.Sorted(maps.Keys(files)))
		}
		mustAppend(t, s, buffer.Main, []byte("next"))
		mustClose(t, s)
	}
}

// When the file that is being written to is deleted and a reader notices, what is acknowledged from then on is in another one.
func TestNothingIsAcknowledgedIntoADeletedFile(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before the write", "during the write"} {
		l := newSmallLog(t)
		s := mustOpen(t, l.disk, l.cfg)
		mustAppend(t, s, buffer.Main, []byte("lost with its file"))
		p := partitionOf(t, s, buffer.Main, testGroup)
		if err := l.disk.Remove(mainDir + "/" + segmentName(8)); err != nil {
			t.Fatal(err)
		}
		notice := func() {
			ext, err := p.find(8)
			if err != nil {
				t.Error(err)
			}
			p.vanished(ext.segment)
		}
		if when == "before the write" {
			if got := readAll(t, p, 8); len(got.lost) != 1 || got.lost[0].Reason != reasonVanished {
				t.Errorf("lost %v", got.lost)
			}
		} else {
			l.disk.obey(func(op, _ string) *fault {
				if op == "sync" {
					notice()
				}
				return nil
			})
			if err := appendTo(s, buffer.Main, []byte("refused")); !errors.Is(err, buffer.ErrUnavailable) {
				t.Errorf("%s: append: %v", when, err)
			}
			l.disk.obey(nil)
		}
		mustAppend(t, s, buffer.Main, []byte("next"))
		mustAppend(t, s, buffer.Main, []byte("and one more"))
		for how, s := range map[string]*Store{"": s, ", after a power cut": mustOpen(t, l.disk.cut(nothingSurvives), l.cfg)} {
			got := readAll(t, partitionOf(t, s, buffer.Main, testGroup), 9)
			if got.blocks[9] != "next" || got.blocks[10] != "and one more" || len(got.lost) > 0 {
				t.Errorf("deleted %s%s: %d blocks are read, lost %v", when, how, len(got.blocks), got.lost)
			}
		}
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
