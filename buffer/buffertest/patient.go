package buffertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// errHangs is what a call of the Store under test is answered when it does not return.
var errHangs = errors.New("the call does not return")

// patient is the Store under test, for promises that end even if it hangs: a call that goes on for another patience after its
// context has ended is given up with errHangs.
type patient struct {
	buffer.Store
	patience time.Duration
}

func (s *patient) Append(ctx context.Context, lane buffer.Lane, b *buffer.Block) error {
	return inTime(ctx, s.patience, "Append", func() error { return s.Store.Append(ctx, lane, b) })
}

func (s *patient) Consume(
	ctx context.Context, group string, lanes []buffer.Lane, fn func(context.Context, buffer.Partition) error,
) error {
	return inTime(ctx, s.patience, "Consume", func() error {
		return s.Store.Consume(ctx, group, lanes, func(ctx context.Context, p buffer.Partition) error {
			return fn(ctx, &patientPartition{Partition: p, patience: s.patience})
		})
	})
}

func (s *patient) Stats(ctx context.Context) ([]buffer.PartitionStats, error) {
	return answerInTime(ctx, s.patience, "Stats", func() ([]buffer.PartitionStats, error) { return s.Store.Stats(ctx) })
}

func (s *patient) Close(ctx context.Context) error {
	return inTime(ctx, s.patience, "Close", func() error { return s.Store.Close(ctx) })
}

type patientPartition struct {
	buffer.Partition
	patience time.Duration
}

func (p *patientPartition) Bounds(ctx context.Context) (first, next buffer.Offset, err error) {
	span, err := answerInTime(ctx, p.patience, "Bounds", func() (buffer.Span, error) {
		first, next, err := p.Partition.Bounds(ctx)
		return buffer.Span{From: first, To: next}, err
	})
	return span.From, span.To, err
}

func (p *patientPartition) Read(ctx context.Context, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	return answerInTime(ctx, p.patience, "Read", func() (buffer.Batch, error) { return p.Partition.Read(ctx, from, maxBytes) })
}

func (p *patientPartition) Load(ctx context.Context) (buffer.Progress, error) {
	return answerInTime(ctx, p.patience, "Load", func() (buffer.Progress, error) { return p.Partition.Load(ctx) })
}

func (p *patientPartition) Save(ctx context.Context, progress buffer.Progress) error {
	return inTime(ctx, p.patience, "Save", func() error { return p.Partition.Save(ctx, progress) })
}

// inTime is answerInTime for calls that answer nothing but an error.
func inTime(ctx context.Context, patience time.Duration, name string, call func() error) error {
	_, err := answerInTime(ctx, patience, name, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// answerInTime returns what call does, or errHangs. What was given up goes on by itself, in a test that has failed.
func answerInTime[T any](ctx context.Context, patience time.Duration, name string, call func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() { // ends when call returns; nobody waits for one that does not
		value, err := call()
		answered <- answer{value, err}
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-late.C:
		var none T
		return none, fmt.Errorf("%s, %v after its context ended: %w", name, patience, errHangs)
	}
}
