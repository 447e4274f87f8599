package buffertest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// A breakage is a way of breaking a promise, and what the promise then says.
type breakage struct{ how, promise, says string }

func breakages() []breakage {
	return []breakage{
		{"a bit flips", "BlocksComeBackAsTheyWere", "was read 0 times"},
		{"counts are not kept", "BlocksComeBackAsTheyWere", "2 records, 10 samples; was"},
		{"offsets have a hole", "OffsetsHaveNoHoles", "offsets 6 to 7 where 5 comes next"},
		{"blocks change places", "OffsetsFollowTheOrderOfAppends", "an offset before it append 1"},
		{"bounds lag behind", "NextIsWhatTheNextBlockGets", "another one is next"},
		{"lanes are mixed", "LanesAreIndependent", "Stats names no partition of lane bulk"},
		{"lanes share their room", "FullBulkLeavesRoomInMain", "of main, while bulk is full"},
		{"lanes share their progress", "ALaneThatStandsStillHoldsNoOther", "changed that of lane"},
		{"a block is not counted", "StatsCountWhatIsHeld", "Stats counts 11 blocks"},
		{"what is removed is counted", "StatsCountWhatIsHeld", "not within 1s: Stats says the same as Bounds"},
		{"all logs have one name", "LogsAreToldApart", "two logs have the same name"},
		{"full is another error", "FullIsErrFullAndRecovers", "buffer is unavailable"},
		{"full blocks are kept", "FullIsErrFullAndRecovers", "blocks were read"},
		{"full is for ever", "FullIsErrFullAndRecovers", "not within 1s: room"},
		{"too large is another error", "TooLargeIsErrTooLarge", "one byte more than MaxBlock: buffer is full"},
		{"what is refused is released twice", "TooLargeIsErrTooLarge", "released 2 times"},
		{"bytes are used after release", "AppendOwnsBytesUntilRelease", "was read 0 times"},
		{"a block is released twice", "AppendOwnsBytesUntilRelease", "released 2 times"},
		{"a block is never released", "AppendOwnsBytesUntilRelease", "released 0 times"},
		{"what is given up is stored twice", "AppendEndsWithItsContext", "was read 2 times"},
		{"append hangs when its context ends", "AppendEndsWithItsContext", "Append, 1s after its context ended"},
		{"stored after the answer", "AppendedIsReadableAtOnce", "right after it was acknowledged"},
		{"a batch may be empty", "ReadReturnsAtLeastOneBlock", "returned 0 blocks"},
		{"a batch has no bound", "ReadReturnsWhatFits", "asked for at most 25000 bytes"},
		{"a batch is one block", "ReadReturnsWhatFits", "blocks of 10,000 bytes took 50 reads"},
		{"a read does not wait", "ReadWaitsForTheNext", "nothing there"},
		{"a read waits for ever", "ReadWaitsForTheNext", "Read, 1s after its context ended"},
		{"a reader skips when another reads", "ReadersDoNotDisturbEachOther", "as the next offset, it ends at"},
		{"a batch changes when others go", "BatchIsValidUntilRelease", "was read 0 times"},
		{"releasing a batch spoils another", "BatchIsValidUntilRelease", "was read 0 times"},
		{"losses are not told", "ReadTellsWhatIsLost", "offsets 16 to 17 where 15 comes next"},
		{"losses have no reason", "ReadTellsWhatIsLost", "a loss without a reason"},
		{"losses are told in another place", "ReadTellsWhatIsLost", "where 15 comes next"},
		{"a new group begins at the end", "LoadBeginsAtTheFirstBlock", "a new group begins with"},
		{"a newer group begins at 0", "LoadBeginsAtTheFirstBlock", "a newer group begins with"},
		{"progress is not saved", "SaveLoadRoundTrip", "loaded"},
		{"progress only grows", "SaveLoadRoundTrip", "loaded"},
		{"groups share their progress", "GroupsAreIndependent", "another group's Save"},
		{"blocks go once one group has them done", "GroupsAreIndependent", "was read 0 times"},
		{"everything before a done one goes", "OnlyDoneBlocksMayGo", "is not there any more"},
		{"first is not kept", "OnlyDoneBlocksMayGo", "it is not there"},
		{"progress is of any log", "ProgressBelongsToItsLog", "progress of another log made"},
		{"spans are joined", "ManySpansAreSaved", "was never done"},
		{"many spans are refused", "ManySpansAreSaved", "too many"},
		{"a partition is handed out twice", "ConsumeRunsOncePerPartitionAndStops", "was handed out 2 times"},
		{"lanes take turns", "ConsumeRunsOncePerPartitionAndStops", "does not hand out a partition"},
		{"consume does not wait", "ConsumeRunsOncePerPartitionAndStops", "of its functions run"},
		{"consume ends with its functions", "ConsumeGoesOnWithoutItsFunctions", "returned while its context goes on"},
		{"a partition comes again", "ConsumeGoesOnWithoutItsFunctions", "handed out again"},
		{"only old lanes are consumed", "ConsumeFindsLanesThatComeLater", "does not hand out a partition"},
		{"consume hides errors", "ConsumeReturnsTheErrorOfItsFunction", "Consume returned <nil>"},
		{"what is lost can be saved", "LostPartitionsEndAndComeBack", "Save by who has lost the partition: <nil>"},
		{"what is lost goes on", "LostPartitionsEndAndComeBack", "not within 1s: the context of who had"},
		{"what is lost stays lost", "LostPartitionsEndAndComeBack", "does not hand out a partition"},
		{"one call at a time", "MethodsAreSafeAtOnce", "another one is going on"},
		{"closing does not refuse", "CloseRefusesAndWaits", "append after Close: <nil>"},
		{"closing waits for ever", "CloseEndsWithItsContext", "Close, 1s after its context ended"},
		{"closing loses the last", "CloseKeepsWhatWasAcknowledged", "was read 0 times"},
		{"closing leaves a goroutine", "CloseLeavesNothingRunning", "goroutines are gone"},
		{"reopening loses the last", "ReopenKeepsBlocksOffsetsProgress", "stands for another block now"},
		{"a crash loses the last", "CrashKeepsBlocksOffsetsProgress", "stands for another block now"},
		{"a crash loses progress", "CrashKeepsBlocksOffsetsProgress", "in round 1"},
		{"a crash loses what was seen", "DurableBeforeReadable", "is not there any more"},
		{"an emptied log begins anew", "OffsetsAreNeverUsedAgain", "was opened again at 0"},
		{"a crash empties the log", "OffsetsAreNeverUsedAgainAfterACrash", "was opened again at 0"},
		{"what failed is there", "FaultDidNotHappen", "the failed block was read 1 times"},
		{"what failed is there twice", "FaultHappenedAnswerLost", "the failed block was read 2 times"},
		{"what failed is acknowledged", "FaultAmongManyDidNotHappen", "was read 0 times"},
		{"what failed is there twice", "FaultAmongManyHappenedAnswerLost", "was read 2 times"},
		{"a refused save is there", "SaveFaultDidNotHappen", "after a failed Save"},
		{"a failed save forgets all", "SaveFaultHappenedAnswerLost", "after a failed Save"},
	}
}

// brokenVariable names the breakage that TestBroken is to show, in a process that TestRunFindsBrokenStores starts.
const brokenVariable = "BUFFERTEST_BREAKAGE"

// TestRunFindsBrokenStores breaks every promise of a Store that keeps them all otherwise, and wants to see that promise fail for
// that reason. The failures happen in processes of their own.
func TestRunFindsBrokenStores(t *testing.T) {
	found := make(map[string]bool)
	for _, b := range breakages() {
		found[b.promise] = true
		t.Run(b.promise+"/"+b.how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBroken$/^"+b.promise+"$", "-test.timeout=30s")
			cmd.Env = append(os.Environ(), brokenVariable+"="+b.how)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestBroken/"+b.promise) {
				t.Fatalf("it was not noticed: %v\n%s", err, out)
			}
			if !strings.Contains(string(out), b.says) {
				t.Errorf("it was noticed for another reason than %q:\n%s", b.says, out)
			}
		})
	}
	for _, p := range promises() {
		if !found[p.name] {
			t.Errorf("no breakage shows that %s can fail", p.name)
		}
	}
}

func TestBroken(t *testing.T) {
	how := os.Getenv(brokenVariable)
	var patience time.Duration
	if how != "" { // otherwise nothing is broken, and every promise is kept
		patience = time.Second
	}
	Run(t, Harness{
		Open:     func(_ *testing.T, maxBytes int64) buffer.Store { return open(how, maxBytes) },
		Reopen:   func(_ *testing.T, s buffer.Store, crash bool) buffer.Store { return s.(*broken).reopen(crash) },
		Fail:     func(_ *testing.T, s buffer.Store, f Fault) { s.(*broken).fail(f) },
		FailSave: func(_ *testing.T, s buffer.Store, f Fault) { s.(*broken).failSave(f) },
		Damage:   func(_ *testing.T, s buffer.Store, _ buffer.PartitionID, at buffer.Offset) { s.(*broken).damage(at) },
		Lose:     func(_ *testing.T, s buffer.Store) { s.(*broken).Lose() },
		Patience: patience,
	})
}

func open(how string, maxBytes int64) *broken {
	b := &broken{Memory: NewMemory(maxBytes), how: how}
	switch how {
	case "all logs have one name":
		b.log = "memory"
	case "closing leaves a goroutine":
		go func() { select {} }()
	}
	return b
}

// broken is a Memory with a defect.
type broken struct {
	*Memory
	how string

	mu       sync.Mutex
	failNext bool   // the next Append goes wrong in the way of how
	busy     int    // calls under way
	readers  int    // Reads so far
	held     []byte // of the first batch that was read
}

func (b *broken) fail(f Fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.how == "what failed is there" && f == Refused:
		b.FailNext(AnswerLost)
	case b.how == "what failed is there twice", b.how == "what failed is acknowledged":
		b.failNext = true
	default:
		b.FailNext(f)
	}
}

// failing says, once, whether this Append is to go wrong.
func (b *broken) failing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	failing := b.failNext
	b.failNext = false
	return failing
}

func (b *broken) failSave(f Fault) {
	if b.how == "a refused save is there" {
		f = AnswerLost
	}
	b.FailNextSave(f)
}

func (b *broken) damage(at buffer.Offset) {
	switch b.how {
	case "losses are not told":
		b.Drop(buffer.Main, buffer.Span{From: at, To: at + 1}, "damaged")
		b.lanes[buffer.Main].lost = nil
	case "losses have no reason":
		b.Drop(buffer.Main, buffer.Span{From: at, To: at + 1}, "")
	default:
		b.Drop(buffer.Main, buffer.Span{From: at, To: at + 1}, "damaged")
	}
}

// again is the block once more, for a Store that is careless with it.
func again(block *buffer.Block, release func()) *buffer.Block {
	return buffer.NewBlock(block.Received, block.Records, block.Samples, block.Data, release)
}

func (b *broken) Append(ctx context.Context, lane buffer.Lane, block *buffer.Block) error {
	for _, spoil := range []func(context.Context, buffer.Lane, *buffer.Block) (bool, error){b.misplace, b.misuse, b.misjudge} {
		if answered, err := spoil(ctx, lane, block); answered {
			return err
		}
	}
	return b.Memory.Append(ctx, lane, block)
}

// misplace stores blocks elsewhere, or at another time, than Append has to.
func (b *broken) misplace(ctx context.Context, lane buffer.Lane, block *buffer.Block) (answered bool, err error) {
	switch b.how {
	case "offsets have a hole":
		if err := b.Memory.Append(ctx, lane, again(block, nil)); err != nil {
			return true, err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if l := b.lanes[lane]; l.next == 5 {
			l.next++
		}
		block.Release()
		return true, nil
	case "blocks change places":
		err := b.Memory.Append(ctx, lane, block)
		if all := b.lanes[lane].blocks; len(all) == 2 {
			all[0], all[1] = all[1], all[0]
			all[0].Offset, all[1].Offset = 0, 1
		}
		return true, err
	case "lanes are mixed":
		return true, b.Memory.Append(ctx, buffer.Main, block)
	case "counts are not kept":
		block.Records++
	case "stored after the answer":
		if b.lane(lane).next == 0 { // the first one, so that there is a partition
			return true, b.Memory.Append(ctx, lane, block)
		}
		time.AfterFunc(50*time.Millisecond, func() { _ = b.Memory.Append(context.WithoutCancel(ctx), lane, block) })
		return true, nil
	case "what is given up is stored twice":
		if ctx.Err() != nil {
			for range 2 {
				_ = b.Memory.Append(context.WithoutCancel(ctx), lane, again(block, nil))
			}
			block.Release()
			return true, ctx.Err()
		}
	case "append hangs when its context ends":
		if ctx.Err() != nil {
			select {}
		}
	}
	return false, nil
}

// misuse goes wrong with the bytes that a block lends.
func (b *broken) misuse(ctx context.Context, lane buffer.Lane, block *buffer.Block) (answered bool, err error) {
	switch b.how {
	case "a block is never released":
		return true, b.Memory.Append(ctx, lane, again(block, nil))
	case "bytes are used after release":
		block.Release()
		return true, b.Memory.Append(ctx, lane, again(block, nil))
	case "a block is released twice":
		defer block.Release()
	case "what is refused is released twice":
		err := b.Memory.Append(ctx, lane, block)
		if err != nil {
			block.Release()
		}
		return true, err
	}
	return false, nil
}

// misjudge refuses what is to be taken, or the other way round.
func (b *broken) misjudge(ctx context.Context, lane buffer.Lane, block *buffer.Block) (answered bool, err error) {
	switch b.how {
	case "lanes share their room":
		for name, l := range b.lanes {
			if name != lane && b.maxBytes > 0 && l.bytes+int64(len(block.Data)) > b.maxBytes {
				block.Release()
				return true, buffer.ErrFull
			}
		}
	case "full is another error":
		if err := b.Memory.Append(ctx, lane, block); err != nil {
			return true, buffer.ErrUnavailable
		}
		return true, nil
	case "full blocks are kept":
		err := b.Memory.Append(ctx, lane, again(block, nil))
		if errors.Is(err, buffer.ErrFull) {
			b.maxBytes += 1 << 20
			_ = b.Memory.Append(ctx, lane, again(block, nil))
			b.maxBytes = 1
		}
		block.Release()
		return true, err
	case "too large is another error":
		if len(block.Data) > b.MaxBlock() {
			block.Release()
			return true, buffer.ErrFull
		}
	case "closing does not refuse":
		b.Memory.mu.Lock()
		b.closed = false
		b.Memory.mu.Unlock()
	case "what failed is there twice":
		if b.failing() {
			_ = b.Memory.Append(ctx, lane, again(block, nil))
			_ = b.Memory.Append(ctx, lane, block)
			return true, buffer.ErrUnavailable
		}
	case "what failed is acknowledged":
		if b.failing() {
			block.Release()
			return true, nil
		}
	}
	return false, nil
}

func (b *broken) Stats(ctx context.Context) ([]buffer.PartitionStats, error) {
	stats, err := b.Memory.Stats(ctx)
	for i := range stats {
		switch {
		case b.how == "a block is not counted" && stats[i].Next > 10:
			stats[i].Next--
		case b.how == "what is removed is counted":
			stats[i].First = 0
		}
	}
	return stats, err
}

func (b *broken) Close(ctx context.Context) error {
	switch b.how {
	case "closing waits for ever":
		if ctx.Err() != nil {
			_ = b.Memory.Close(context.WithoutCancel(ctx))
			select {}
		}
	case "closing loses the last":
		err := b.Memory.Close(ctx)
		b.lanes[buffer.Main].truncate(10)
		return err
	}
	return b.Memory.Close(ctx)
}

func (b *broken) Consume(
	ctx context.Context, group string, lanes []buffer.Lane, fn func(context.Context, buffer.Partition) error,
) error {
	whole := ctx
	run := func(ctx context.Context, p buffer.Partition) error {
		ours := &brokenPartition{memoryPartition: p.(*memoryPartition), b: b}
		switch b.how {
		case "what is lost can be saved":
			ours.term = newTerm()
		case "what is lost goes on":
			return fn(whole, ours)
		case "a partition comes again":
			_ = fn(ctx, ours)
			<-ctx.Done()
		case "what is lost stays lost":
			err := fn(ctx, ours)
			<-whole.Done()
			return err
		}
		return fn(ctx, ours)
	}
	switch b.how {
	case "groups share their progress":
		group = "all"
	case "a partition is handed out twice":
		lanes = []buffer.Lane{lanes[0], lanes[0]}
	case "lanes take turns":
		for _, lane := range lanes {
			if err := b.Memory.Consume(ctx, group, []buffer.Lane{lane}, run); err != nil {
				return err
			}
		}
		return nil
	case "only old lanes are consumed":
		lanes = slices.DeleteFunc(lanes, func(lane buffer.Lane) bool { return b.lanes[lane] == nil })
	case "consume does not wait":
		go func() { _ = b.Memory.Consume(context.WithoutCancel(ctx), group, lanes, run) }()
		<-ctx.Done()
		return nil
	case "consume ends with its functions":
		return run(ctx, &memoryPartition{m: b.Memory, lane: lanes[0], group: group, term: b.term})
	case "consume hides errors":
		_ = b.Memory.Consume(ctx, group, lanes, run)
		return nil
	}
	return b.Memory.Consume(ctx, group, lanes, run)
}

func (b *broken) reopen(crash bool) buffer.Store {
	reopened := &broken{Memory: b.Reopen(), how: b.how}
	for _, l := range reopened.lanes {
		switch {
		case b.how == "reopening loses the last" && !crash, b.how == "a crash loses the last" && crash:
			l.truncate(len(l.blocks) - 1)
		case b.how == "a crash loses progress" && crash:
			clear(l.progress)
		case b.how == "a crash loses what was seen" && crash:
			l.truncate(100)
		case b.how == "an emptied log begins anew" && len(l.blocks) == 0, b.how == "a crash empties the log" && crash:
			l.next, l.blocks = 0, nil
		}
	}
	return reopened
}

// truncate keeps n blocks of a lane that has lost none so far.
func (l *memoryLane) truncate(n int) {
	l.blocks, l.next = l.blocks[:n], buffer.Offset(n)
}

type brokenPartition struct {
	*memoryPartition
	b *broken
}

func (p *brokenPartition) Bounds(ctx context.Context) (first, next buffer.Offset, err error) {
	first, next, err = p.memoryPartition.Bounds(ctx)
	switch p.b.how {
	case "bounds lag behind":
		next = max(next-1, 0)
	case "first is not kept":
		first = max(first-1, 0)
	}
	return first, next, err
}

func (p *brokenPartition) Read(ctx context.Context, from buffer.Offset, maxBytes int) (buffer.Batch, error) {
	switch p.b.how {
	case "a batch has no bound":
		maxBytes = 1 << 30
	case "a batch is one block":
		maxBytes = 0
	case "a batch may be empty":
		if maxBytes < 50_000 {
			return buffer.NewBatch(nil, nil, from, nil), nil
		}
	case "a read does not wait":
		if _, next, _ := p.Bounds(ctx); from >= next {
			return buffer.Batch{}, errors.New("nothing there")
		}
	case "a read waits for ever":
		ctx = context.WithoutCancel(ctx)
	}
	batch, err := p.memoryPartition.Read(ctx, from, maxBytes)
	if err != nil {
		return batch, err
	}
	return p.spoil(batch, maxBytes), nil
}

// spoil makes of a batch what a broken Store returns.
func (p *brokenPartition) spoil(batch buffer.Batch, maxBytes int) buffer.Batch {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.b.readers++
	first := batch.Blocks[0].Data
	if p.b.readers == 1 {
		p.b.held = first
	}
	switch p.b.how {
	case "a bit flips":
		first[0] ^= 4
	case "a reader skips when another reads":
		if p.b.readers > 1 && maxBytes == 1 {
			batch.Next++
		}
	case "releasing a batch spoils another":
		return buffer.NewBatch(batch.Blocks, batch.Lost, batch.Next, func() { clear(p.b.held) })
	case "losses are told in another place":
		for i := range batch.Lost {
			batch.Lost[i].Span = buffer.Span{From: batch.Next - 1, To: batch.Next}
		}
	}
	return batch
}

func (p *brokenPartition) Load(ctx context.Context) (buffer.Progress, error) {
	progress, err := p.memoryPartition.Load(ctx)
	switch {
	case p.b.how == "a new group begins at the end" && progress.Committed() == 0:
		progress.Add(buffer.Span{To: 3})
	case p.b.how == "a newer group begins at 0" && p.group == "newer":
		progress.Done = []buffer.Span{{}}
	}
	return progress, err
}

func (p *brokenPartition) Save(ctx context.Context, progress buffer.Progress) error {
	switch p.b.how {
	case "progress is not saved":
		return nil
	case "progress only grows":
		before, err := p.memoryPartition.Load(ctx)
		if err != nil {
			return err
		}
		progress = progress.Clone()
		for _, s := range before.Done {
			progress.Add(s)
		}
	case "lanes share their progress":
		data, err := progress.AppendBinary(nil)
		if err != nil {
			return err
		}
		p.m.mu.Lock()
		for _, l := range p.m.lanes {
			l.progress[p.group] = data
		}
		p.m.mu.Unlock()
	case "progress is of any log":
		progress.Log = p.ID().Log
	case "spans are joined":
		progress = progress.Clone()
		if len(progress.Done) > 2 {
			progress.Add(buffer.Span{From: progress.Done[1].From, To: progress.Done[2].To})
		}
	case "many spans are refused":
		if len(progress.Done) > 128 {
			return errors.New("too many spans")
		}
	case "everything before a done one goes":
		last := progress.Done[len(progress.Done)-1]
		p.remove(func(o buffer.Offset) bool { return o < last.To })
	case "blocks go once one group has them done":
		p.remove(func(o buffer.Offset) bool { return o%2 == 0 && progress.Contains(o) })
	case "full is for ever":
		p.m.mu.Lock()
		p.m.maxBytes = 1
		p.m.mu.Unlock()
	case "a batch changes when others go":
		clear(p.b.held)
	case "one call at a time":
		return p.saveAlone(ctx, progress)
	case "a failed save forgets all":
		err := p.memoryPartition.Save(ctx, progress)
		if err != nil {
			p.m.mu.Lock()
			clear(p.m.lane(p.lane).progress)
			p.m.mu.Unlock()
		}
		return err
	}
	return p.memoryPartition.Save(ctx, progress)
}

func (p *brokenPartition) remove(gone func(buffer.Offset) bool) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	p.m.lane(p.lane).remove(gone)
}

// saveAlone fails when it is called while it is under way.
func (p *brokenPartition) saveAlone(ctx context.Context, progress buffer.Progress) error {
	enter := func(n int) int {
		p.b.mu.Lock()
		defer p.b.mu.Unlock()
		p.b.busy += n
		return p.b.busy
	}
	defer enter(-1)
	if enter(1) > 1 {
		return errors.New("another one is going on")
	}
	time.Sleep(10 * time.Millisecond) // as a slow disk does
	return p.memoryPartition.Save(ctx, progress)
}
