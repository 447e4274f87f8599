package buffertest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

func TestMemoryKeepsThePromises(t *testing.T) {
	Run(t, Harness{
		Open:   func(_ *testing.T, maxBytes int64) buffer.Store { return NewMemory(maxBytes) },
		Reopen: func(_ *testing.T, s buffer.Store, _ bool) buffer.Store { return s.(*Memory).Reopen() },
		Fail:   func(_ *testing.T, s buffer.Store, f Fault) { s.(*Memory).FailNext(f) },

		FailSave: func(_ *testing.T, s buffer.Store, f Fault) { s.(*Memory).FailNextSave(f) },
		Damage: func(_ *testing.T, s buffer.Store, id buffer.PartitionID, at buffer.Offset) {
			s.(*Memory).Drop(id.Lane, buffer.Span{From: at, To: at + 1}, "damaged")
		},
		Lose: func(_ *testing.T, s buffer.Store) { s.(*Memory).Lose() },
	})
}

func block(data string) *buffer.Block {
	return buffer.NewBlock(time.UnixMilli(1), 1, 1, []byte(data), nil)
}

// partition returns the Main lane as a group has it, for as long as the test runs.
func partition(t *testing.T, m *Memory) buffer.Partition {
	t.Helper()
	got := make(chan buffer.Partition, 1)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with ctx
		done <- m.Consume(ctx, "test", []buffer.Lane{buffer.Main}, func(ctx context.Context, p buffer.Partition) error {
			got <- p
			<-ctx.Done()
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return <-got
}

func TestMemoryTellsWhatWasDropped(t *testing.T) {
	m := NewMemory(0)
	for _, data := range []string{"0", "1", "2", "3", "4"} {
		if err := m.Append(t.Context(), buffer.Main, block(data)); err != nil {
			t.Fatal(err)
		}
	}
	m.Drop(buffer.Main, buffer.Span{From: 1, To: 3}, "dropped to make room")
	batch, err := partition(t, m).Read(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(batch.Blocks) != 3 || batch.Blocks[1].Offset != 3 || batch.Next != 5 {
		t.Errorf("got %+v", batch.Blocks)
	}
	if len(batch.Lost) != 1 || batch.Lost[0].Span != (buffer.Span{From: 1, To: 3}) || batch.Lost[0].Reason == "" {
		t.Errorf("lost %+v", batch.Lost)
	}
}

func TestMemorySpoilsReleasedBytes(t *testing.T) {
	m := NewMemory(0)
	if err := m.Append(t.Context(), buffer.Main, block("abc")); err != nil {
		t.Fatal(err)
	}
	p := partition(t, m)
	for range 2 { // the block itself stays as it was
		batch, err := p.Read(t.Context(), 0, 1)
		if err != nil || string(batch.Blocks[0].Data) != "abc" {
			t.Fatalf("%q, %v", batch.Blocks[0].Data, err)
		}
		batch.Release()
		if string(batch.Blocks[0].Data) == "abc" {
			t.Error("bytes can still be used after Release")
		}
	}
}

func TestMemoryFences(t *testing.T) {
	m := NewMemory(0)
	p := partition(t, m)
	m.Fence()
	if err := p.Save(t.Context(), buffer.Progress{Log: p.ID().Log}); !errors.Is(err, buffer.ErrFenced) {
		t.Error(err)
	}
}

func TestMemoryRefusesProgressOfAnotherLog(t *testing.T) {
	p := partition(t, NewMemory(0))
	if err := p.Save(t.Context(), buffer.Progress{Log: "another"}); err == nil {
		t.Error("saved")
	}
}

func TestMemoryHoldsAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(0)
		resume := m.Hold()
		done := make(chan error, 1)
		go func() { done <- m.Append(t.Context(), buffer.Main, block("held")) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Append returned while it is held: %v", err)
		default:
		}
		resume()
		if err := <-done; err != nil {
			t.Error(err)
		}
		m.Hold()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Append(ctx, buffer.Main, block("held")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("held until its context ended: %v", err)
		}
	})
}
