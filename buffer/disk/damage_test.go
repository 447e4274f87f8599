package disk

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/buffer"
)

const mainDir = testDir + "/" + lanePrefix + "main"

// A smallLog is a log of a few small blocks in sealed segments of the main lane.
type smallLog struct {
	disk   *simFS
	cfg    Config
	blocks [][]byte
}

// newSmallLog makes two segments.
func newSmallLog(t *testing.T) smallLog {
	t.Helper()
	l := smallLog{disk: newSimFS(), cfg: testConfig(testDir)}
	for _, sizes := range [][]int{{3, 40, 1, 200, 17}, {90, 0, 60}} {
		s := mustOpen(t, l.disk, l.cfg)
		partitionOf(t, s, buffer.Main, testGroup) // begins at block 0
		for _, size := range sizes {
			b := bytes.Repeat([]byte{byte(len(l.blocks) + 1)}, size)
			mustAppend(t, s, buffer.Main, b)
			l.blocks = append(l.blocks, b)
		}
		mustClose(t, s)
	}
	return l
}

// segmentOf returns the segment file that begins with that block.
func segmentOf(disk *simFS, first buffer.Offset) *simFile {
	return disk.file(mainDir + "/" + segmentName(first))
}

// held is the bytes of all files but the lock, progress and identity, as a set of names and contents.
func held(disk *simFS) map[string][]byte {
	all := make(map[string][]byte)
	for name, node := range disk.dir(mainDir).now {
		if f, ok := node.(*simFile); ok && strings.Contains(name, segmentEnding) {
			all[name] = bytes.Clone(f.now)
		}
	}
	return all
}

// flip changes one byte of a file that nobody has open.
func flip(f *simFile, at int) {
	b := bytes.Clone(f.durable)
	b[at] ^= 0x41
	f.now, f.durable = b, b
}

// A flipped byte costs exactly the block that it hits, wherever it is, and opening works and deletes nothing.
func TestAFlippedByteCostsTheBlockItHits(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	for i, first := range []buffer.Offset{0, 5} {
		blocks := l.blocks[first:]
		if i == 0 {
			blocks = l.blocks[:5]
		}
		size := len(segmentOf(l.disk, first).durable)
		for at := range size {
			hit := buffer.Offset(-1) // the block at whose bytes the flipped one is
			pos := framesStart
			for n, b := range blocks {
				if at >= pos && at < pos+frameHeadSize+len(b) {
					hit = first + buffer.Offset(n)
				}
				pos += frameHeadSize + len(b)
			}
			if at > 2*headerSize && at%97 > 0 && at < framesStart && (at < headerCopy || at > headerCopy+headerSize) && testing.Short() {
				continue // nothing but zeros
			}
			disk := l.disk.cut(everythingSurvives)
			flip(segmentOf(disk, first), at)
			l.checkDamaged(t, fmt.Sprintf("byte %d of segment %d", at, first), disk, hit)
			if t.Failed() {
				return
			}
		}
	}
}

// checkDamaged checks that exactly one block is lost, or none.
func (l smallLog) checkDamaged(t *testing.T, when string, disk *simFS, hit buffer.Offset) {
	t.Helper()
	s := mustOpen(t, disk, l.cfg)
	defer mustClose(t, s)
	p := partitionOf(t, s, buffer.Main, testGroup)
	got := readAll(t, p, 0)
	if got.next != buffer.Offset(len(l.blocks)) {
		t.Errorf("%s: %d blocks were stored, the next is %d", when, len(l.blocks), got.next)
	}
	for i, b := range l.blocks {
		o := buffer.Offset(i)
		if was, ok := got.blocks[o]; ok == (o == hit) || ok && was != string(b) {
			t.Errorf("%s, in block %d: block %d is read: %v", when, hit, o, ok)
		}
	}
	var lost []buffer.Span
	for _, loss := range got.lost {
		lost = append(lost, loss.Span)
	}
	if want := (buffer.Span{From: hit, To: hit + 1}); hit >= 0 && !slices.Equal(lost, []buffer.Span{want}) || hit < 0 && len(lost) > 0 {
		t.Errorf("%s, in block %d: told as lost: %v", when, hit, got.lost)
	}
	mustAppend(t, s, buffer.Main, []byte("next"))
	if now := readAll(t, p, got.next); now.blocks[got.next] != "next" {
		t.Errorf("%s: the next block is not read back", when)
	}
}

// crashed is the small log as a process leaves it that dies with three blocks in its last segment, which is not sealed.
func (l smallLog) crashed(t *testing.T) (disk *simFS, blocks [][]byte) {
	t.Helper()
	disk = l.disk.cut(everythingSurvives)
	s := mustOpen(t, disk, l.cfg)
	blocks = slices.Clone(l.blocks)
	for _, size := range []int{30, 8, 70} {
		b := bytes.Repeat([]byte{byte(len(blocks) + 1)}, size)
		mustAppend(t, s, buffer.Main, b)
		blocks = append(blocks, b)
	}
	return disk.cut(nothingSurvives), blocks
}

// A tail of any length costs nothing that is before it, and is kept aside unless it is empty.
func TestATornTailCostsNothingAcknowledged(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	disk, blocks := l.crashed(t)
	last := buffer.Offset(len(l.blocks))
	whole := segmentOf(disk, last).durable
	for n := framesStart; n <= len(whole); n++ {
		kept, end := len(l.blocks), framesStart // the blocks that are whole in the first n bytes, and where they end
		for ; kept < len(blocks) && end+frameHeadSize+len(blocks[kept]) <= n; kept++ {
			end += frameHeadSize + len(blocks[kept])
		}
		for name, tail := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 900), "rubbish": bytes.Repeat([]byte("?"), 900)} {
			when := fmt.Sprintf("cut to %d bytes, then %s", n, name)
			torn := disk.cut(everythingSurvives)
			f := segmentOf(torn, last)
			was := slices.Concat(whole[:n], tail)
			f.now, f.durable = was, was
			s := mustOpen(t, torn, l.cfg)
			got := readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0)
			if kept < len(blocks) && end+frameHeadSize+len(blocks[kept]) <= len(was) &&
				bytes.HasPrefix(was[end:], whole[end:end+frameHeadSize]) {
				// The offset of a block that is there but for its data is not used again, and is told.
				want := buffer.Loss{Span: buffer.Span{From: buffer.Offset(kept), To: buffer.Offset(kept) + 1}, Reason: reasonNoBlock}
				if !slices.Equal(got.lost, []buffer.Loss{want}) {
					t.Errorf("%s: lost %v, want %v", when, got.lost, want)
				}
				got.lost = nil
			}
			wantBlocks(t, when, got, blocks[:kept]...)
			mustAppend(t, s, buffer.Main, []byte("next"))
			mustClose(t, s)
			aside := held(torn)[fmt.Sprintf("%s%s%d", segmentName(last), tailEnding, end)]
			if want := slices.Concat(whole[end:n], tail); !bytes.Equal(aside, want) && len(bytes.Trim(want, "\x00")) > 0 {
				t.Errorf("%s: %d bytes are kept aside, %d were behind the last block", when, len(aside), len(want))
			} else if len(bytes.Trim(want, "\x00")) == 0 && aside != nil {
				t.Errorf("%s: zeros are kept aside", when)
			}
		}
		if t.Failed() {
			return
		}
	}
}

// A flipped byte in a segment that a crash left costs the block it hits. It is told, and its offset is not used again, unless it is in the
// head of the last one: nothing shows then that there was one.
func TestAFlippedByteAfterACrashCostsTheBlockItHits(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	crashed, blocks := l.crashed(t)
	first := buffer.Offset(len(l.blocks))
	pos := framesStart
	for n, b := range blocks[first:] {
		hit := first + buffer.Offset(n)
		for at := pos; at < pos+frameHeadSize+len(b); at++ {
			disk := crashed.cut(everythingSurvives)
			flip(segmentOf(disk, first), at)
			if int(hit) == len(blocks)-1 && at < pos+frameHeadSize {
				s := mustOpen(t, disk, l.cfg)
				wantBlocks(t, fmt.Sprintf("byte %d", at), readAll(t, partitionOf(t, s, buffer.Main, testGroup), 0), blocks[:hit]...)
				mustClose(t, s)
				continue
			}
			smallLog{cfg: l.cfg, blocks: blocks}.checkDamaged(t, fmt.Sprintf("byte %d", at), disk, hit)
		}
		pos += frameHeadSize + len(b)
	}
}

// A segment without a valid header is set aside as it is; all others are read, and its offsets are not given again.
func TestASegmentWithoutHeaderIsSetAside(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	for _, first := range []buffer.Offset{0, 5} {
		disk := l.disk.cut(everythingSurvives)
		f := segmentOf(disk, first)
		flip(f, 20)
		flip(f, headerCopy+20)
		was := f.durable
		s := mustOpen(t, disk, l.cfg)
		p := partitionOf(t, s, buffer.Main, testGroup)
		got := readAll(t, p, 0)
		for i, b := range l.blocks {
			o := buffer.Offset(i)
			inIt := (o >= 5) == (first == 5)
			if was, ok := got.blocks[o]; ok == inIt || ok && was != string(b) {
				t.Errorf("segment %d is set aside, block %d is read: %v", first, o, ok)
			}
		}
		if len(got.lost) != 1 || got.lost[0].Reason != reasonAside {
			t.Errorf("segment %d: told as lost: %v", first, got.lost)
		}
		if got.next < 8 {
			t.Errorf("segment %d: the next block gets %d, blocks up to 7 could be read", first, got.next)
		}
		mustAppend(t, s, buffer.Main, []byte("next"))
		mustClose(t, s)
		if aside := held(disk)[segmentName(first)+damagedEnding]; !bytes.Equal(aside, was) {
			t.Errorf("segment %d: %d bytes are set aside, it had %d", first, len(aside), len(was))
		}
		again := mustOpen(t, disk, l.cfg)
		if now := readAll(t, partitionOf(t, again, buffer.Main, testGroup), 0); now.blocks[got.next] != "next" {
			t.Errorf("segment %d: opened once more, the block behind it is lost", first)
		}
	}
}

// A payload may hold the bytes of blocks, of whole segments, or what looks like the next frame. They are never read as blocks.
func TestAPayloadIsNeverReadAsABlock(t *testing.T) {
	t.Parallel()
	donor := newSmallLog(t)
	older := segmentOf(donor.disk, 0).durable
	newer := segmentOf(donor.disk, 5).durable
	foreign := newSmallLog(t) // another log
	payloads := map[string][]byte{
		"segment of another log": segmentOf(foreign.disk, 0).durable,
		"segment of this log":    newer,
		"frames of this log":     older[framesStart:],
		"frames for here":        framesFor(key{}.checksums(), 8, 40),
		"frames with wrong key":  framesFor(key{1, 2, 3}.checksums(), 8, 40),
		"frames without key":     framesFor(checksums{}, 8, 40),
	}
	for name, payload := range payloads {
		for damaged := range 4 { // none, or the frame before: its head, its data, its length
			when := fmt.Sprintf("%s, damage %d", name, damaged)
			disk := donor.disk.cut(everythingSurvives)
			s := mustOpen(t, disk, donor.cfg)
			mustAppend(t, s, buffer.Main, []byte("before"))
			mustAppend(t, s, buffer.Main, payload)
			mustAppend(t, s, buffer.Main, slices.Concat(payload, payload))
			mustAppend(t, s, buffer.Main, []byte("after"))
			all := append(slices.Clone(donor.blocks), []byte("before"), payload, slices.Concat(payload, payload), []byte("after"))
			path, pos, _ := frameOf(t, s, buffer.Main, 9)
			crashed := disk.cut(nothingSurvives)
			mustClose(t, s)
			for how, disk := range map[string]*simFS{"sealed": disk, "crashed": crashed} {
				hit := buffer.Offset(-1)
				if damaged > 0 {
					hit = 9
					flip(disk.file(path), int(pos)+[]int{0, 8, frameHeadSize + 5, 24}[damaged])
				}
				smallLog{cfg: donor.cfg, blocks: all}.checkDamaged(t, when+", "+how, disk, hit)
			}
		}
	}
}

// framesFor are valid frames for offsets from..to of a segment whose key has those checksums, each a few bytes long.
func framesFor(sums checksums, from, to buffer.Offset) []byte {
	var b []byte
	for o := from; o < to; o++ {
		head := make([]byte, frameHeadSize)
		data := fmt.Appendf(nil, "planted %d", o)
		frameHead{offset: o}.put(head, sums, data)
		b = append(append(b, head...), data...)
	}
	return b
}

// The checks above can fail: with the segment's own key, a planted frame is read behind a damaged one, if its offset fits.
func TestPlantedFramesNeedTheKeyAndAFittingOffset(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	for offset, fits := range map[buffer.Offset]bool{8: false, 9: false, 10: true, 11: false, 900: false} {
		disk := l.disk.cut(everythingSurvives)
		s := mustOpen(t, disk, l.cfg)
		mustAppend(t, s, buffer.Main, []byte("before"))
		path := s.lanes[buffer.Main].newest().path
		h, err := decodeSegmentHeader(disk.file(path).now)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, s, buffer.Main, framesFor(h.key.checksums(), offset, offset+1))
		mustAppend(t, s, buffer.Main, []byte("after"))
		_, pos, _ := frameOf(t, s, buffer.Main, 9)
		crashed := disk.cut(nothingSurvives)
		mustClose(t, s)
		flip(crashed.file(path), int(pos))
		r := mustOpen(t, crashed, l.cfg)
		got := readAll(t, partitionOf(t, r, buffer.Main, testGroup), 0)
		found := slices.Contains(slices.Collect(maps.Values(got.blocks)), fmt.Sprintf("planted %d", offset))
		if found != fits {
			t.Errorf("a frame with the right key for block %d, where 9 is damaged, is read: %v", offset, found)
		}
		if !fits && got.blocks[10] != "after" {
			t.Errorf("behind it, block 10 is %q", got.blocks[10])
		}
	}
}

// Either half of the key changes one checksum of a frame, so that together they are 64 bits that nobody knows.
func TestBothChecksumsOfAFrameAreKeyed(t *testing.T) {
	t.Parallel()
	none, first, second := key{}.checksums(), key{0: 1}.checksums(), key{8: 1}.checksums()
	if none.head == first.head || none.data != first.data || none.head != second.head || none.data == second.data {
		t.Errorf("checksums of keys that differ in one half: %v, %v, %v", none, first, second)
	}
	if none.whole == first.whole || none.whole == second.whole {
		t.Errorf("the footer's checksum does not depend on the whole key: %v, %v, %v", none, first, second)
	}
}

// A flipped byte in the identity or in progress costs at most the last save.
func TestAFlippedByteInOtherFilesCostsNoBlock(t *testing.T) {
	t.Parallel()
	l := newSmallLog(t)
	s := mustOpen(t, l.disk, l.cfg)
	p := partitionOf(t, s, buffer.Main, testGroup)
	id := s.id
	progress := p.progress(p.group)
	for o := range buffer.Offset(3) {
		progress.Add(buffer.Span{To: o + 1})
		if err := p.Save(t.Context(), progress); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, s)
	for _, name := range []string{testDir + "/" + identityName, mainDir + "/" + testGroup + progressEnding} {
		for at := range l.disk.file(name).durable {
			if at%slotSize > 200 {
				continue // zeros
			}
			disk := l.disk.cut(everythingSurvives)
			flip(disk.file(name), at)
			s, err := openOn(disk, l.cfg, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatalf("byte %d of %s: %v", at, name, err)
			}
			p := partitionOf(t, s, buffer.Main, testGroup)
			got := p.progress(p.group).Committed()
			if s.id != id || got < 2 || got > 3 || len(held(disk)) != 2 {
				t.Errorf("byte %d of %s: id %v, progress %d, %d segments", at, name, s.id, got, len(held(disk)))
			}
			if got := readAll(t, p, 0); len(got.blocks) != len(l.blocks) {
				t.Errorf("byte %d of %s: %d blocks are read", at, name, len(got.blocks))
			}
			mustClose(t, s)
		}
	}
}

func crcOf(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
