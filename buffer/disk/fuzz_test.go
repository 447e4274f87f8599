package disk

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// FuzzOpenSegment opens a log whose only segment holds any bytes. Opening never fails, what is read is what a frame with the
// segment's key says, everything that is found is kept, and service goes on.
func FuzzOpenSegment(f *testing.F) {
	header := segmentHeader{log: logID{1}, lane: "main", key: key{2}, created: time.UnixMilli(3)}
	for _, seed := range segmentSeeds(header) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, segment []byte) {
		disk := newSimFS()
		if err := disk.Mkdir(mainDir); err != nil {
			t.Fatal(err)
		}
		put := func(name string, b []byte) {
			file, err := disk.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := file.WriteAll([][]byte{b}, 0); err != nil {
				t.Fatal(err)
			}
		}
		put(testDir+"/"+identityName, encodeIdentity(header.log))
		put(mainDir+"/"+segmentName(0), segment)
		if _, err := decodeSegmentHeader(segment); err != nil && !errors.Is(err, errHeader) {
			return // a newer version
		}

		s := mustOpen(t, disk, testConfig(testDir))
		p := partitionOf(t, s, buffer.Main, testGroup)
		got := readFrames(t, p, header.key)
		for o, frame := range got {
			if !bytes.Contains(segment, frame) {
				t.Errorf("block %d was read, but there is no such frame", o)
			}
		}
		checkKept(t, disk, segment)
		_, next := p.bounds()
		mustAppend(t, s, buffer.Main, []byte("next"))
		if now := readAll(t, p, next); now.blocks[next] != "next" {
			t.Errorf("the next block is not at %d", next)
		}
		mustClose(t, s)

		again := mustOpen(t, disk, testConfig(testDir))
		now := readFrames(t, partitionOf(t, again, buffer.Main, testGroup), header.key)
		for o, frame := range got {
			if !bytes.Equal(now[o], frame) {
				t.Errorf("block %d is another one when the log is opened again", o)
			}
		}
		mustClose(t, again)
	})
}

// readFrames reads all blocks, and returns the frames that they have in a segment of that key.
func readFrames(t *testing.T, p *partition, k key) map[buffer.Offset][]byte {
	t.Helper()
	frames := make(map[buffer.Offset][]byte)
	for from, c := buffer.Offset(0), readAll(t, p, 0); from < c.next && len(c.blocks) > 0; {
		batch, err := p.Read(context.Background(), from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batch.Blocks {
			head := make([]byte, frameHeadSize)
			blockHead(b.Offset, &b).put(head, k.checksums(), b.Data)
			frames[b.Offset] = append(head, b.Data...)
			delete(c.blocks, b.Offset)
		}
		from = batch.Next
		batch.Release()
	}
	return frames
}

// checkKept checks that all of a segment's bytes are still somewhere, but for zeros and an index.
func checkKept(t *testing.T, disk *simFS, segment []byte) {
	t.Helper()
	files := held(disk)
	for name, b := range files {
		if bytes.Equal(b, segment) && name != segmentName(0) {
			return // set aside as it was
		}
	}
	kept := files[segmentName(0)]
	same := 0
	for same < min(len(kept), len(segment)) && kept[same] == segment[same] {
		same++
	}
	for name, b := range files {
		if name != segmentName(0) && bytes.HasSuffix(segment, b) && len(segment)-len(b) <= same {
			return // what is missing was kept aside
		}
	}
	if empty := len(bytes.Trim(segment[same:], "\x00")) == 0; !empty && !isIndexTail(kept, segment) {
		t.Errorf("%d bytes of %d are kept, of the others nothing is: %q", same, len(segment), slices.Sorted(maps.Keys(files)))
	}
}

// isIndexTail says whether the segment had an index where the one that is kept has its own.
func isIndexTail(kept, segment []byte) bool {
	if len(kept) < footerSize {
		return false
	}
	pos := len(kept) - footerSize - int(le.Uint32(kept[len(kept)-8:]))
	return pos >= framesStart && pos+frameHeadSize <= len(segment) && le.Uint32(segment[pos+36:]) == kindIndex
}

// segmentSeeds are segments that are well, torn, flipped, and with foreign blocks inside.
func segmentSeeds(h segmentHeader) [][]byte {
	sums := h.key.checksums()
	frame := func(o buffer.Offset, data string, sums checksums) []byte {
		b := make([]byte, frameHeadSize)
		frameHead{offset: o, received: 1, records: 2, samples: 3}.put(b, sums, []byte(data))
		return append(b, data...)
	}
	one, two, three := frame(0, "one", sums), frame(1, "two two", sums), frame(2, "three", sums)
	open := slices.Concat(h.encode(), one, two, three)
	sealed := slices.Concat(open, encodeIndex(sums, 3, totals{3, 6, 9}, []indexEntry{{0, framesStart}}))
	foreign := frame(2, "foreign", key{9}.checksums())
	planted := slices.Concat(h.encode(), one, frame(1, string(foreign), sums), foreign, three)
	otherLog, otherPlace, newer := h, h, h.encode()
	otherLog.log, otherPlace.first = logID{7}, 100
	for _, at := range []int{0, headerCopy} {
		le.PutUint32(newer[at+8:], formatVersion+1)
		le.PutUint32(newer[at+12:], headerChecksum(newer[at:at+headerSize]))
	}
	seeds := [][]byte{
		nil, {0}, []byte(segmentMagic), h.encode(), open, sealed, planted, newer,
		otherLog.encode(), otherPlace.encode(),
		slices.Concat(open, make([]byte, 5000)),
		slices.Concat(h.encode(), one, three),
		slices.Concat(h.encode(), three, two, one),
		slices.Concat(sealed, sealed),
	}
	for _, n := range []int{1, headerCopy, framesStart - 1, framesStart + 39, framesStart + 43, len(open) - 1} {
		seeds = append(seeds, open[:n])
	}
	for _, at := range []int{5, 20, headerCopy + 20, framesStart, framesStart + 41, framesStart + 50, framesStart + 70, len(sealed) - 1, len(sealed) - 40} {
		b := bytes.Clone(sealed)
		b[at] ^= 1
		seeds = append(seeds, b)
	}
	return seeds
}
