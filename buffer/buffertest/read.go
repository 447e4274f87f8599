package buffertest

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/ingestgw/ingestgw/buffer"
)

func readPromises() []promise {
	return []promise{
		{"AppendedIsReadableAtOnce", nothing, appendedIsReadableAtOnce},
		{"ReadReturnsAtLeastOneBlock", nothing, readReturnsAtLeastOneBlock},
		{"ReadReturnsWhatFits", nothing, readReturnsWhatFits},
		{"ReadWaitsForTheNext", nothing, readWaitsForTheNext},
		{"ReadersDoNotDisturbEachOther", nothing, readersDoNotDisturbEachOther},
		{"BatchIsValidUntilRelease", nothing, batchIsValidUntilRelease},
		{"ReadTellsWhatIsLost", damage, readTellsWhatIsLost},
	}
}

func appendedIsReadableAtOnce(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	parts := s.consume("readers", buffer.Main)
	for i := range 20 {
		m := s.append(buffer.Main, 1000)
		if n := s.find(s.readAll(parts), m); n != 1 {
			s.Fatalf("block %d was read %d times right after it was acknowledged", i, n)
		}
	}
}

func readReturnsAtLeastOneBlock(s *scene) {
	s.open(0)
	all := s.appendMany(5, 100_000)
	parts := s.consume("readers", buffer.Main)
	for _, maxBytes := range []int{0, 1, 99_999} {
		read := 0
		for _, p := range parts {
			_, next := s.bounds(p)
			for from := range next {
				batch, err := p.Read(s.soon(), from, maxBytes)
				if err != nil {
					s.Fatal(err)
				}
				if len(batch.Blocks) != 1 || batch.Blocks[0].Offset != from || batch.Next != from+1 {
					s.Errorf("Read(%d, %d bytes) returned %d blocks, next %d", from, maxBytes, len(batch.Blocks), batch.Next)
				}
				batch.Release()
				read++
			}
		}
		if read != len(all) {
			s.Errorf("%d blocks were read, %d had been appended", read, len(all))
		}
	}
}

func readReturnsWhatFits(s *scene) {
	s.open(0)
	s.appendMany(50, 10_000)
	for _, p := range s.consume("readers", buffer.Main) {
		_, next := s.bounds(p)
		for _, maxBytes := range []int{25_000, 100_000, 1 << 20} {
			reads := 0
			for from := buffer.Offset(0); from < next; reads++ {
				batch, err := p.Read(s.soon(), from, maxBytes)
				if err != nil {
					s.Fatal(err)
				}
				s.checkBatch(p, from, batch)
				if len(batch.Blocks)*10_000 > maxBytes {
					s.Fatalf("%d blocks of 10,000 bytes were read, asked for at most %d bytes", len(batch.Blocks), maxBytes)
				}
				from = batch.Next
				batch.Release()
			}
			if next >= 10 && reads >= int(next) {
				s.Errorf("%v: %d blocks of 10,000 bytes took %d reads of up to %d bytes", p.ID(), next, reads, maxBytes)
			}
		}
	}
}

func readWaitsForTheNext(s *scene) {
	s.open(0)
	s.append(buffer.Main, 100)
	parts := s.consume("readers", buffer.Main)
	type answer struct {
		data []byte
		err  error
	}
	ctx, cancel := context.WithCancel(s.soon())
	defer cancel()
	answers := make(chan answer, len(parts))
	for _, p := range parts { // which partition gets the next block is the Store's affair
		_, next := s.bounds(p)
		go func() { // ends with an answer, or with ctx
			batch, err := p.Read(ctx, next, 1<<20)
			if err == nil {
				err = s.badBatch(next, batch)
			}
			if err != nil {
				answers <- answer{err: err}
				return
			}
			answers <- answer{data: bytes.Clone(batch.Blocks[0].Data)}
			batch.Release()
		}()
	}
	m := s.append(buffer.Main, 500)
	if got := <-answers; got.err != nil || !bytes.Equal(got.data, m.want.Data) {
		s.Fatalf("the waiting Read returned %d bytes, %v", len(got.data), got.err)
	}
	cancel() // the end of the context alone ends the wait of the others
	for range len(parts) - 1 {
		if got := <-answers; !errors.Is(got.err, context.Canceled) {
			s.Errorf("Read whose context ended: %v", got.err)
		}
	}
	s.readUntilCancelled(parts[0])
}

// readUntilCancelled waits for a block that does not come, with a context that ends.
func (s *scene) readUntilCancelled(p buffer.Partition) {
	s.Helper()
	_, next := s.bounds(p)
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	returned := make(chan error, 1)
	go func() { // ends with ctx
		_, err := p.Read(ctx, next, 1<<20)
		returned <- err
	}()
	cancel()
	if err := <-returned; !errors.Is(err, context.Canceled) {
		s.Errorf("Read whose context ended: %v", err)
	}
}

func readersDoNotDisturbEachOther(s *scene) {
	s.open(0)
	first := s.append(buffer.Main, 100)
	parts := s.consume("readers", buffer.Main)
	acked, _, errs := s.appendAtOnce(s.soon(), 4, 20, 5000)
	if len(errs) > 0 {
		s.Fatal(errors.Join(errs...))
	}
	acked = append(acked, first)

	more := make(chan []made, 1)
	ctx := s.soon()
	go func() { // ends when its appends have
		m, _, _ := s.appendAtOnce(ctx, 4, 20, 5000)
		more <- m
	}()
	var all sync.WaitGroup
	for _, maxBytes := range []int{1, 12_000, 50_000, 1 << 20} {
		for _, p := range parts {
			_, next := s.bounds(p)
			all.Go(func() { s.readInOrder(p, next, maxBytes) })
		}
	}
	all.Wait()
	acked = append(acked, <-more...)
	s.wantExactly(s.readAll(parts), acked)
}

// readInOrder reads from 0 up to next and checks every batch. It does not end the test, as it runs beside it.
func (s *scene) readInOrder(p buffer.Partition, next buffer.Offset, maxBytes int) {
	for from := buffer.Offset(0); from < next; {
		batch, err := p.Read(s.soon(), from, maxBytes)
		if err == nil {
			err = s.badBatch(from, batch)
		}
		if err != nil {
			s.Errorf("Read of %v from %d, at most %d bytes at a time: %v", p.ID(), from, maxBytes, err)
			return
		}
		from = batch.Next
		batch.Release()
	}
}

func batchIsValidUntilRelease(s *scene) {
	s.open(0)
	all := s.appendMany(20, 20_000)
	parts := s.consume("readers", buffer.Main)
	held := make(map[place]buffer.Block)
	var batches []buffer.Batch
	for _, p := range parts {
		_, next := s.bounds(p)
		for from := buffer.Offset(0); from < next; {
			batch, err := p.Read(s.soon(), from, 100_000)
			if err != nil {
				s.Fatal(err)
			}
			s.checkBatch(p, from, batch)
			batches = append(batches, batch)
			for _, b := range batch.Blocks {
				held[place{p.ID(), b.Offset}] = b
			}
			from = batch.Next
		}
	}
	// While the batches are held, others are read and released, and the blocks themselves may go.
	s.appendMany(20, 20_000)
	s.readAll(parts)
	s.saveDone(parts)
	s.appendMany(20, 20_000)
	s.wantExactly(held, all)
	for _, b := range batches {
		b.Release()
	}
}

// readTellsWhatIsLost damages a block in the midst of each partition.
func readTellsWhatIsLost(s *scene) {
	s.open(0)
	s.appendMany(30, 1000)
	parts := s.consume("readers", buffer.Main)
	before := s.readAll(parts)
	for _, p := range parts {
		_, next := s.bounds(p)
		if next < 3 {
			continue
		}
		damaged := next / 2
		s.harness.Damage(s.T, s.store.Store, p.ID(), damaged)
		for _, from := range []buffer.Offset{0, damaged} {
			blocks, lost := s.readFrom(p, from, 10_000)
			gone := s.lostOf(p, lost)
			if !gone[damaged] || len(blocks) == 0 {
				s.Errorf("%v: block %d of %d was damaged; %d blocks were read from %d on, lost %v",
					p.ID(), damaged, next, len(blocks), from, lost)
			}
			for _, b := range blocks {
				if was := before[place{p.ID(), b.Offset}]; string(was.Data) != string(b.Data) {
					s.Errorf("%v: block %d is not as it was before another one was damaged", p.ID(), b.Offset)
				}
			}
			if len(blocks)+len(gone) != int(next-from) {
				s.Errorf("%v: %d blocks were read and %d are lost from %d up to %d", p.ID(), len(blocks), len(gone), from, next)
			}
		}
	}
}

// lostOf is the offsets within lost, of which there are not more than the partition has.
func (s *scene) lostOf(p buffer.Partition, lost []buffer.Loss) map[buffer.Offset]bool {
	s.Helper()
	_, next := s.bounds(p)
	gone := make(map[buffer.Offset]bool)
	for _, l := range lost {
		for o := l.From; o < min(l.To, next); o++ {
			gone[o] = true
		}
	}
	return gone
}
