package kafka

import (
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/settings"
)

func TestBulkTopicKeepsAsManyBytesAsItMay(t *testing.T) {
	t.Parallel()
	cfg := testConfig(fakeKafka(t).ListenAddrs())
	cfg.BulkMaxBytes, cfg.Strict = 3<<30, true
	s := mustOpen(t, cfg, nil)
	for lane, want := range map[buffer.Lane]int64{buffer.Main: -1, buffer.Bulk: 1 << 30} {
		l := s.lane(lane)
		config, err := l.config(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		if config["retention.bytes"] != strconv.FormatInt(want, 10) {
			t.Errorf("lane %s: retention.bytes is %s, want %d", lane, config["retention.bytes"], want)
		}
		if err := s.Append(soon(t), lane, newPaper().Block); err != nil {
			t.Errorf("lane %s: %v", lane, err)
		}
	}
	wantNot(t, said(t, cfg, Elsewhere), "warn", "FAIL")
	cfg.BulkMaxBytes = 6 << 30 // the topic keeps less
	wantSaid(t, said(t, cfg, Elsewhere), "FAIL topic "+cfg.topic(buffer.Bulk)+": acknowledged samples are not safe: retention.bytes: 1073741824, want 2147483648")
	if _, err := open(t.Context(), cfg, slog.New(slog.DiscardHandler), nil, nil); err == nil || !strings.Contains(err.Error(), "INGESTGW_KAFKA_BULK_MAX_BYTES") {
		t.Errorf("a strict process starts with a bulk topic that keeps less than it should: %v", err)
	}
}

// An earlier version has left one topic, and nobody may create another one: what belongs to bulk is refused, and nothing else is.
func TestMainGoesOnWhileTheBulkTopicIsNotThere(t *testing.T) {
	t.Parallel()
	c, cfg := given(t, nil)
	cfg.CreateTopics = false
	var log safeBuffer
	s, err := open(t.Context(), cfg, slog.New(slog.NewTextHandler(&log, nil)), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), cfg.topic(buffer.Bulk)+": buffer is unavailable: it does not exist") {
		t.Errorf("the log does not say what to do:\n%s", log.String())
	}
	if err := s.Close(soon(t)); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, cfg, nil)
	if err := s.Append(soon(t), buffer.Bulk, newPaper().Block); !errors.Is(err, buffer.ErrUnavailable) || !strings.Contains(err.Error(), cfg.topic(buffer.Bulk)) {
		t.Errorf("append to bulk: %v", err)
	}
	group := consumeLanes(t, s, "g", buffer.Main, buffer.Bulk)
	all := put(t, s, 4)
	if read := readAll(t, group.ownsOf(buffer.Main, 3)); read != len(all) {
		t.Errorf("%d of %d blocks are read", read, len(all))
	}
	if stats, err := s.Stats(soon(t)); len(stats) != 3 || !errors.Is(err, buffer.ErrUnavailable) {
		t.Errorf("stats of %d partitions, %v; want those of main, and an error about bulk", len(stats), err)
	}

	if err := c.CreateTopic(cfg.topic(buffer.Bulk), 2, safe); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bulk is stored", func() bool { return s.Append(soon(t), buffer.Bulk, newPaper().Block) == nil })
	if read := readAll(t, group.ownsOf(buffer.Bulk, 2)); read != 1 {
		t.Errorf("%d blocks are read from bulk, want 1", read)
	}
	group.ownsOf(buffer.Main, 3)
}

// A rolling upgrade: who does not know the lane gets nothing of it, whoever of them leads the group.
func TestMembersThatKnowNoBulkLaneShareTheGroupWithThoseThatDo(t *testing.T) {
	t.Parallel()
	for _, olderFirst := range []bool{true, false} {
		cfg := testConfig(fakeKafka(t).ListenAddrs())
		cfg.Partitions = 4
		s := mustOpen(t, cfg, nil)
		join := func(old bool) *consuming {
			if old {
				return consume(t, s, "g")
			}
			return consumeLanes(t, s, "g", buffer.Main, buffer.Bulk)
		}
		first := join(olderFirst)
		first.ownsOf(buffer.Main, 4)
		second := join(!olderFirst)
		first.ownsOf(buffer.Main, 2)
		second.ownsOf(buffer.Main, 2)
		newer := first
		if olderFirst {
			newer = second
		}
		newer.ownsOf(buffer.Bulk, 4)
	}
}

func TestBulkMaxBytesLeavesASegmentToEachPartition(t *testing.T) {
	t.Parallel()
	cfg := testConfig([]string{"127.0.0.1:1"}) // three partitions
	for bytes, good := range map[settings.Bytes]bool{-1: false, 0: true, 1: false, 3*leastSegmentBytes - 1: false, 3 * leastSegmentBytes: true} {
		cfg.BulkMaxBytes = bytes
		err := cfg.Validate()
		if good != (err == nil) || err != nil && !strings.Contains(err.Error(), "INGESTGW_KAFKA_BULK_MAX_BYTES=") {
			t.Errorf("%d bytes: %v", bytes, err)
		}
	}
}
