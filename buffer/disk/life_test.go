package disk

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/settings"
)

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
		"INGESTGW_BUFFER_DIR":           {WhenFull: "refuse", SegmentBytes: 1 << 20, BulkShare: 25},
		"INGESTGW_BUFFER_MAX_BYTES":     {Dir: "x", MaxBytes: 5000, WhenFull: "refuse", SegmentBytes: 1 << 20, BulkShare: 25},
		"INGESTGW_BUFFER_WHEN_FULL":     {Dir: "x", WhenFull: "wait", SegmentBytes: 1 << 20, BulkShare: 25},
		"INGESTGW_BUFFER_SEGMENT_BYTES": {Dir: "x", WhenFull: "drop-oldest", SegmentBytes: 100, BulkShare: 25},
		"INGESTGW_BUFFER_BULK_SHARE is": {Dir: "x", WhenFull: "refuse", SegmentBytes: 1 << 20, BulkShare: 76},
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "INGESTGW") != 1 {
			t.Errorf("%+v: %v, want %s alone", c, err, want)
		}
	}
}

func TestBulkShareIsRefusedWhenItHoldsNoBlocks(t *testing.T) {
	t.Parallel()
	c := Config{Dir: "x", WhenFull: "refuse", SegmentBytes: 1 << 20, MaxBytes: 1 << 20, BulkShare: 12}
	err := c.Validate()
	if err == nil || !strings.Contains(err.Error(), "INGESTGW_BUFFER_BULK_SHARE=12") || !strings.Contains(err.Error(), "INGESTGW_BUFFER_MAX_BYTES=1MiB") {
		t.Errorf("12 %% of 1 MiB: %v", err)
	}
	c.BulkShare = 13
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestSegmentsAreSmallWhereThereIsLittleRoom(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bulk            bool
		max, free, want int64
	}{
		{max: 80 << 20, free: 100 << 30, want: 10 << 20},
		{bulk: true, max: 80 << 20, free: 100 << 30, want: 10 << 20 / 4},
		{free: 100 << 30, want: 64 << 20},
		{bulk: true, free: 100 << 30, want: 64 << 20},
		{free: 64 << 20, want: (64 << 20) * 9 / 10 / 8},
		{free: 1 << 10, want: minSegmentBytes},
		{bulk: true, free: 1 << 10, want: minSegmentBytes},
	} {
		q := &quota{max: c.max, bulk: 25, space: func() (int64, int64, error) { return c.free, c.free, nil }}
		if got := q.account(!c.bulk).segment(64 << 20); got < c.want || got > c.want+8 {
			t.Errorf("a bound of %v and %v free: segments have %v, want %v", settings.Bytes(c.max), settings.Bytes(c.free), settings.Bytes(got), settings.Bytes(c.want))
		}
	}
}
