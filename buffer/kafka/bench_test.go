package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/ingestgw/ingestgw/buffer"
)

// blockSizes are a block of few records, and a full one.
var blockSizes = []int{16 << 10, 1 << 20}

// The brokers are part of the process, and drop what they get: see what else there is.
func BenchmarkAppend(b *testing.B) {
	for _, size := range blockSizes {
		b.Run(fmt.Sprintf("block=%dKiB", size>>10), func(b *testing.B) {
			s := mustOpen(b, testConfig(fakeKafka(b, kfake.BlackholeProduce()).ListenAddrs()), nil)
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.SetParallelism(2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Append(b.Context(), buffer.Main, buffer.NewBlock(time.UnixMilli(1), 1, 1, data, nil)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// An operation is a block.
func BenchmarkRead(b *testing.B) {
	for _, size := range blockSizes {
		b.Run(fmt.Sprintf("block=%dKiB", size>>10), func(b *testing.B) {
			cfg := testConfig(fakeKafka(b).ListenAddrs())
			cfg.Partitions = 1
			s := mustOpen(b, cfg, nil)
			const blocks = 64
			var under sync.WaitGroup
			for range blocks {
				under.Go(func() {
					if err := s.Append(context.Background(), buffer.Main, buffer.NewBlock(time.UnixMilli(1), 1, 1, make([]byte, size), nil)); err != nil {
						b.Error(err)
					}
				})
			}
			under.Wait()
			p := &partition{lane: s.lane(buffer.Main), member: &member{s: s}}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			for at, n := buffer.Offset(0), 0; n < b.N; {
				batch, err := p.Read(b.Context(), at, 4<<20)
				if err != nil || len(batch.Blocks) == 0 || len(batch.Lost) > 0 {
					b.Fatal(errors.Join(err, fmt.Errorf("%d blocks, lost %v", len(batch.Blocks), batch.Lost)))
				}
				n += len(batch.Blocks)
				at = batch.Next % blocks
				batch.Release()
			}
		})
	}
}
