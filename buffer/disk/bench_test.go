package disk

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// benchConfig has segments of the default size, and keeps a benchmark from filling the disk.
func benchConfig(b *testing.B) Config {
	return Config{Dir: b.TempDir(), WhenFull: whenFullDropOldest, MaxBytes: 1 << 30, SegmentBytes: 64 << 20, BulkShare: 25}
}

// BenchmarkAppend stores blocks from several goroutines, durably: bytes per second of a real disk.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := mustOpen(b, osFS{}, benchConfig(b))
			data := make([]byte, size)
			_, _ = rand.Read(data) // it never fails
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					mustAppend(b, s, buffer.Main, data)
				}
			})
		})
	}
}

// BenchmarkAppendLone stores one small block at a time: what a sender that is alone waits for.
func BenchmarkAppendLone(b *testing.B) {
	s := mustOpen(b, osFS{}, benchConfig(b))
	data := make([]byte, 2<<10)
	b.ReportAllocs()
	for b.Loop() {
		mustAppend(b, s, buffer.Main, data)
	}
}

// BenchmarkAppendCPU stores blocks on a disk that takes no time: what the code itself costs.
func BenchmarkAppendCPU(b *testing.B) {
	s := mustOpen(b, nullFS{osFS{}}, benchConfig(b))
	data := make([]byte, 64<<10)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		mustAppend(b, s, buffer.Main, data)
	}
}

// nullFS is the real file system without writing to segments.
type nullFS struct{ fileSystem }

func (n nullFS) Create(path string) (file, error) {
	f, err := n.fileSystem.Create(path)
	return nullFile{f}, err
}

type nullFile struct{ file }

func (nullFile) WriteAll([][]byte, int64) error { return nil }
func (nullFile) Sync() error                    { return nil }

// BenchmarkRead reads blocks in order, as forwarding does, from the page cache.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{2 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := mustOpen(b, osFS{}, benchConfig(b))
			const total = 128 << 20
			fill(b, s, total/size, size)
			p := partitionOf(b, s, buffer.Main, testGroup)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			from, left := buffer.Offset(0), 0
			var batch buffer.Batch
			for range b.N { // one block at a time, in batches of up to 1 MiB
				if left == 0 {
					batch.Release()
					if from == buffer.Offset(total/size) {
						from = 0
					}
					var err error
					if batch, err = p.Read(context.Background(), from, 1<<20); err != nil {
						b.Fatal(err)
					}
					from, left = batch.Next, len(batch.Blocks)
				}
				left--
			}
			batch.Release()
		})
	}
}

// fill appends n blocks of that size, several at a time.
func fill(b *testing.B, s *Store, n, size int) {
	b.Helper()
	data := make([]byte, size)
	answers := make(chan error, n)
	for range n {
		go func() { answers <- appendTo(s, buffer.Main, data) }()
	}
	for range n {
		if err := <-answers; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a log of 1,600 segments: at the default size of segments that is 100 GiB, since sealed ones are opened by
// header and index. The blocks are small here; the indices are as those of full segments.
func BenchmarkOpen(b *testing.B) {
	cfg := Config{Dir: b.TempDir(), WhenFull: whenFullRefuse, SegmentBytes: 64 << 20, BulkShare: 25}
	s := mustOpen(b, osFS{}, cfg)
	l := s.lanes[buffer.Main]
	mustClose(b, s)
	const segments = 1600
	for i := range segments {
		writeSegment(b, l, buffer.Offset(i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s, err := Open(cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			b.Fatal(err)
		}
		if n := s.lanes[buffer.Main].segmentCount(); n != segments {
			b.Fatalf("%d segments", n)
		}
		b.StopTimer()
		mustClose(b, s)
		b.StartTimer()
	}
}

// writeSegment makes a sealed segment of 64 blocks, of which the first offset is 64 times i.
func writeSegment(b *testing.B, l *lane, i buffer.Offset) {
	b.Helper()
	h := segmentHeader{log: l.id, lane: l.name, first: 64 * i, key: key{byte(i), byte(i >> 8)}, created: time.Now()}
	bytes := h.encode()
	s := &segment{first: h.first, sums: h.key.checksums(), end: h.first, size: framesStart}
	for range 64 {
		head := make([]byte, frameHeadSize)
		blockHead(s.end, testBlock(nil)).put(head, s.sums, nil)
		s.index = append(s.index, indexEntry{s.end, s.size})
		s.end, s.size = s.end+1, s.size+frameHeadSize
		bytes = append(bytes, head...)
	}
	bytes = append(bytes, encodeIndex(s.sums, s.end, totals{blocks: 64, records: 64, samples: 128}, s.index)...)
	f, err := l.fs.Create(l.dir + "/" + segmentName(h.first))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := f.WriteAll([][]byte{bytes}, 0); err != nil {
		b.Fatal(err)
	}
}
