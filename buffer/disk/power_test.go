package disk

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/ingestgw/ingestgw/buffer"
)

var powerCuts = flag.String("power-cuts", "some", "all: try every variant of every power cut, and a second one at each operation of the recovery")

const testGroup = "forward"

func testLanes() []buffer.Lane { return []buffer.Lane{buffer.Main, buffer.Bulk} }

// A ledger is what somebody outside knows of a log.
type ledger struct {
	readable map[buffer.Lane]map[buffer.Offset]string // what could be read once
	first    map[buffer.Lane]buffer.Offset            // what lies before may be gone
	saved    map[buffer.Lane]buffer.Progress          // by a Save that returned nil
	refused  map[string]bool                          // blocks that Append returned an error for
}

func newLedger() ledger {
	l := ledger{
		readable: make(map[buffer.Lane]map[buffer.Offset]string),
		first:    make(map[buffer.Lane]buffer.Offset),
		saved:    make(map[buffer.Lane]buffer.Progress),
		refused:  make(map[string]bool),
	}
	for _, lane := range testLanes() {
		l.readable[lane] = make(map[buffer.Offset]string)
	}
	return l
}

func (l ledger) clone() ledger {
	c := ledger{maps.Clone(l.readable), maps.Clone(l.first), maps.Clone(l.saved), maps.Clone(l.refused)}
	for lane, blocks := range c.readable {
		c.readable[lane] = maps.Clone(blocks)
	}
	return c
}

// highest is the offset behind all that could be read.
func (l ledger) highest(lane buffer.Lane) (next buffer.Offset) {
	for o := range l.readable[lane] {
		next = max(next, o+1)
	}
	return next
}

// A moment of a run: the disk, and which step is under way.
type moment struct {
	disk *simFS
	step int
}

// A run is a log being used, and recorded.
type run struct {
	t       *testing.T
	cfg     Config
	sim     *simFS
	fs      *mortal // of the process that uses it now
	store   *Store
	now     ledger
	made    int
	moments []moment
	ledgers []ledger // before each step
}

// record is called by the file system after each operation.
func (r *run) record() {
	r.moments = append(r.moments, moment{disk: r.sim.cutLocked(killed), step: len(r.ledgers) - 1})
}

// step does something, and notes what is known afterwards.
func (r *run) step(do func()) {
	r.t.Helper()
	r.sim.mu.Lock() // steps begin and end between operations
	r.ledgers = append(r.ledgers, r.now.clone())
	r.sim.mu.Unlock()
	do()
	if r.store == nil {
		return
	}
	for _, lane := range testLanes() {
		l := r.store.lanes[lane]
		if l == nil {
			continue
		}
		p := &partition{lane: l, group: newGroup("", "")}
		maps.Copy(r.now.readable[lane], readAll(r.t, p, r.now.highest(lane)).blocks)
		r.now.first[lane], _ = p.bounds()
	}
}

func (r *run) open() {
	r.t.Helper()
	r.step(func() {
		r.fs = &mortal{fileSystem: r.sim}
		r.store = mustOpen(r.t, r.fs, r.cfg)
	})
}

// join lets the group count, from now on.
func (r *run) join() {
	r.t.Helper()
	r.step(func() {
		for _, lane := range testLanes() {
			partitionOf(r.t, r.store, lane, testGroup)
		}
	})
}

// end ends the process, by Close or by kill.
func (r *run) end(kill bool) {
	r.t.Helper()
	r.step(func() {
		if kill {
			r.fs.kill(r.t, r.store)
		}
		mustClose(r.t, r.store)
		r.store = nil
	})
}

// block returns bytes like no others.
func (r *run) block(size int) []byte {
	r.made++
	rnd := rand.NewChaCha8([32]byte{byte(r.made), byte(r.made >> 8)})
	b := make([]byte, size)
	_, _ = rnd.Read(b) // never fails
	return b
}

// append stores blocks at once, so that some are written together.
func (r *run) append(lane buffer.Lane, sizes ...int) {
	r.t.Helper()
	r.step(func() {
		var all sync.WaitGroup
		for _, size := range sizes {
			b := r.block(size)
			all.Go(func() {
				if err := appendTo(r.store, lane, b); err != nil {
					r.t.Errorf("append: %v", err)
				}
			})
		}
		all.Wait()
	})
}

// appendBadly appends a block while the disk has a fault, once.
func (r *run) appendBadly(lane buffer.Lane, size int, op string, bad fault) {
	r.t.Helper()
	r.step(func() {
		b := r.block(size)
		r.sim.mu.Lock()
		r.ledgers[len(r.ledgers)-1].refused[string(b)] = true
		r.now.refused[string(b)] = true
		r.sim.mu.Unlock()
		r.sim.obey(once(op, bad))
		if err := appendTo(r.store, lane, b); err == nil {
			r.t.Errorf("%s failed with %v, but the block was taken", op, bad.err)
		}
		r.sim.obey(nil)
	})
}

// once is a rule for one fault, in the nth such operation.
func once(op string, bad fault) func(op, path string) *fault {
	n := 0
	return func(o, _ string) *fault {
		if o != op {
			return nil
		}
		if n++; n != max(bad.nth, 1) {
			return nil
		}
		return &bad
	}
}

func (r *run) save(lane buffer.Lane, spans ...buffer.Span) {
	r.t.Helper()
	r.step(func() {
		p := partitionOf(r.t, r.store, lane, testGroup)
		progress := p.progress(p.group)
		for _, s := range spans {
			progress.Add(s)
		}
		if err := p.Save(context.Background(), progress); err != nil {
			r.t.Errorf("save: %v", err)
		}
		r.now.saved[lane] = progress
	})
}

// usualLife is what a log goes through: everything that changes something on the disk.
func (r *run) usualLife() {
	r.open()
	for i := range 6 {
		if i == 1 {
			r.join()
		}
		r.append(buffer.Main, 700+i, 9000+i, 20, 5000+i)
		r.append(buffer.Bulk, 8000+i)
	}
	r.append(buffer.Main, 70_000) // more than a segment
	r.append(buffer.Main, 1, 4096, 512)
	r.save(buffer.Main, buffer.Span{To: 3})
	for i := range 3 {
		r.append(buffer.Main, 30_000+i)
	}
	r.save(buffer.Main, buffer.Span{From: 5, To: 27}, buffer.Span{From: 28, To: 29}) // a segment goes, and an older one stays
	r.save(buffer.Main, buffer.Span{To: 27})
	r.end(false)
	r.open()
	r.append(buffer.Bulk, 100, 200)
	r.append(buffer.Main, 20_000)
	r.end(true)
	r.open()
	r.appendBadly(buffer.Main, 3000, "sync", fault{err: syscall.EIO, sync: dropped, nth: 2}) // the first one is for the header
	r.append(buffer.Main, 3000)
	r.append(buffer.Main, 5000, 300)
	r.appendBadly(buffer.Main, 2600, "sync", fault{err: syscall.EIO, sync: dropped})
	r.append(buffer.Main, 400)
	r.appendBadly(buffer.Main, 2000, "sync", fault{err: syscall.EIO, sync: kept})
	r.appendBadly(buffer.Main, 2500, "create", fault{err: syscall.EIO})
	r.append(buffer.Main, 1500)
	r.appendBadly(buffer.Main, 4000, "write", fault{err: syscall.ENOSPC, bytes: 4040})
	r.append(buffer.Main, 900)
	r.appendBadly(buffer.Main, 4000, "write", fault{err: syscall.EIO, bytes: 1000})
	r.append(buffer.Main, 800)
	r.sim.obey(once("create", fault{err: syscall.ENOSPC}))
	r.append(buffer.Main, 64_000) // in a segment made of the spare one
	r.sim.obey(nil)
	r.append(buffer.Main, 64_000)
	r.save(buffer.Main, buffer.Span{To: r.now.highest(buffer.Main)}) // segments go that bound others
	r.append(buffer.Main, 600)
	r.end(true)
	r.open()
	r.append(buffer.Main, 700)
	r.save(buffer.Bulk, buffer.Span{To: r.now.highest(buffer.Bulk)})
	r.append(buffer.Bulk, 60_000)
	r.append(buffer.Bulk, 60_000)
	r.end(false)
}

// fullLife is that of a log that drops its oldest blocks, each lane its own and then one the other's.
func (r *run) fullLife() {
	r.cfg.WhenFull, r.cfg.MaxBytes = whenFullDropOldest, quotaSegments*minSegmentBytes
	r.open()
	r.append(buffer.Bulk, 1000)
	for i := range 24 {
		r.append(buffer.Main, 30_000+i)
	}
	for i := range 6 {
		r.append(buffer.Bulk, 25_000+i)
	}
	r.end(true)
	r.open()
	r.save(buffer.Main, buffer.Span{To: 10}, buffer.Span{From: 16, To: 18})
	for i := range 8 {
		r.append(buffer.Main, 15_000+i, 15_100+i)
	}
	r.end(false)
}

func lives() map[string]func(*run) {
	return map[string]func(*run){"usual": (*run).usualLife, "full": (*run).fullLife}
}

// A cut is the end of power, or of the process alone, at one moment of a run.
type cut struct {
	*testing.T
	cfg           Config
	when          string
	before, after ledger                            // when it began, and when the step under way would have been over
	onlySave      bool                              // append nothing afterwards: creating a segment would make other things durable too
	noProgress    bool                              // somebody has deleted the files of progress
	loaded        []map[buffer.Lane]buffer.Progress // by earlier recoveries: may be there, need not
	rnd           *rand.Rand
}

func TestNothingAcknowledgedIsLostInAPowerCut(t *testing.T) {
	t.Parallel()
	for name, life := range lives() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &run{t: t, cfg: testConfig(testDir), sim: newSimFS(), now: newLedger()}
			r.sim.changed = r.record
			life(r)
			r.sim.changed = nil
			r.ledgers = append(r.ledgers, r.now)
			t.Logf("%d steps, %d moments", len(r.ledgers)-1, len(r.moments))
			for i, m := range r.moments {
				if t.Failed() {
					return
				}
				r.cutAt(i, m)
			}
		})
	}
}

// cutAt tries what can be left of one moment.
func (r *run) cutAt(i int, m moment) {
	r.t.Helper()
	seed := uint64(i)
	variants := []survival{killed, killed, nothingSurvives, everythingSurvives}
	for n := range uint64(12) {
		variants = append(variants, someSurvives(seed+n<<32, []int{64, 512, 4096}[n%3]))
	}
	switch {
	case testing.Short():
		variants = variants[i%7 : i%7+1]
	case *powerCuts != "all":
		variants = variants[:7]
	}
	for n, how := range variants {
		c := &cut{
			T: r.t, cfg: r.cfg, before: r.ledgers[m.step], after: r.ledgers[m.step+1], rnd: rand.New(rand.NewPCG(seed, uint64(n))),
			when: fmt.Sprintf("at operation %d (step %d), surviving: %s", i, m.step, how.name),
		}
		disk := m.disk.cut(how)
		if c.noProgress = !how.kill && c.rnd.IntN(3) == 0; c.noProgress {
			for _, lane := range testLanes() {
				disk.Remove(path.Join(testDir, lanePrefix+string(lane), testGroup+progressEnding)) // it may not be there
			}
		}
		var again []moment
		if !c.noProgress && (*powerCuts == "all" || how.kill || c.rnd.IntN(8) == 0) {
			c.onlySave = n == 0
			disk.changed = func() { again = append(again, moment{disk: disk.cutLocked(killed)}) }
		}
		known, ok := c.recover(disk)
		if ok {
			c.cutAgain(again, known)
		}
	}
}

// cutAgain cuts the power once more, in the midst of the recovery and after it.
func (c *cut) cutAgain(moments []moment, known ledger) {
	c.Helper()
	if len(moments) == 0 {
		return
	}
	during, last := moments[:len(moments)-1], moments[len(moments)-1]
	if *powerCuts != "all" {
		during = []moment{moments[c.rnd.IntN(len(moments))]}
	}
	for i, m := range during {
		how := []survival{killed, nothingSurvives, someSurvives(c.rnd.Uint64(), 512)}[c.rnd.IntN(3)]
		// What recovery itself appended may be there or not; what was readable before has to be.
		second := &cut{T: c.T, cfg: c.cfg, before: c.before, after: c.after, rnd: c.rnd,
			when: fmt.Sprintf("%s; again at operation %d of %d of the recovery, surviving: %s", c.when, i, len(moments), how.name)}
		second.loaded = slices.Concat(c.loaded, []map[buffer.Lane]buffer.Progress{c.after.saved})
		second.after.saved, second.after.refused, second.after.first = known.saved, maps.Clone(second.after.refused), known.first
		for lane, blocks := range known.readable {
			for o, b := range blocks {
				if _, ok := c.before.readable[lane][o]; !ok {
					second.after.refused[b] = true
				}
			}
		}
		second.recover(m.disk.cut(how))
	}
	end := &cut{T: c.T, cfg: c.cfg, before: known, after: known, rnd: c.rnd, when: c.when + "; again after the recovery, nothing survives"}
	end.recover(last.disk.cut(nothingSurvives))
}

// recover opens what was left and checks it. It returns what is known then.
func (c *cut) recover(disk *simFS) (known ledger, ok bool) {
	c.Helper()
	s, err := openOn(disk, c.cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		c.Errorf("%s: cannot be opened: %v", c.when, err)
		return ledger{}, false
	}
	defer s.Close(context.Background())
	known = newLedger()
	loaded := make(map[buffer.Lane]buffer.Progress)
	c.loaded = append(c.loaded, loaded)
	maps.Copy(known.refused, c.after.refused)
	for _, lane := range testLanes() {
		p := partitionOf(c.T, s, lane, testGroup)
		if !c.noProgress {
			c.checkProgress(p, lane)
		}
		got := readAll(c.T, p, 0)
		c.checkBlocks(lane, got)
		first, next := p.bounds()
		if highest := c.before.highest(lane); next < highest {
			c.Errorf("%s: lane %s goes on at %d, but block %d could be read", c.when, lane, next, highest-1)
		}
		maps.Copy(known.readable[lane], got.blocks)
		known.first[lane] = first
		loaded[lane] = p.progress(p.group)
		known.saved[lane] = loaded[lane]
	}
	for _, lane := range testLanes() {
		if c.onlySave {
			c.saveAgain(s, lane, known)
			continue
		}
		c.appendAgain(s, lane, known)
	}
	for _, lane := range testLanes() { // one lane may have made room for the other
		known.first[lane], _ = partitionOf(c.T, s, lane, testGroup).bounds()
	}
	return known, !c.Failed()
}

// checkProgress checks that what was saved is there, or what was being saved.
func (c *cut) checkProgress(p *partition, lane buffer.Lane) {
	c.Helper()
	got := p.progress(p.group)
	before := c.before.saved[lane]
	may := []buffer.Progress{before, c.after.saved[lane]}
	for _, l := range c.loaded {
		may = append(may, l[lane])
	}
	if slices.ContainsFunc(may, func(m buffer.Progress) bool { return slices.Equal(m.Done, got.Done) }) {
		return
	}
	begins := len(got.Done) == 1 && got.Committed() <= c.after.first[lane]
	if begins && got.Committed() >= before.Committed() && len(before.Done) <= 1 {
		return // a group that has saved nothing begins at the first block
	}
	c.Errorf("%s: lane %s has progress %v, saved was %v, possible is %v", c.when, lane, got.Done, before.Done, may)
}

// checkBlocks checks that whatever could be read can be read, and nothing else, except what was under way.
func (c *cut) checkBlocks(lane buffer.Lane, got contents) {
	c.Helper()
	mayGo := func(o buffer.Offset) bool {
		return o < c.after.first[lane] || c.before.saved[lane].Contains(o) || c.after.saved[lane].Contains(o)
	}
	for o, want := range c.before.readable[lane] {
		if b, ok := got.blocks[o]; !ok && !mayGo(o) || ok && b != want {
			c.Errorf("%s: block %d of lane %s, %d bytes, is there: %v, with %d bytes", c.when, o, lane, len(want), ok, len(b))
		}
	}
	for o, b := range got.blocks {
		_, known := c.before.readable[lane][o]
		if !known && c.after.readable[lane][o] != b && !c.after.refused[b] {
			c.Errorf("%s: block %d of lane %s, %d bytes, was never written there", c.when, o, lane, len(b))
		}
	}
	for _, l := range got.lost {
		for o := l.From; o < l.To; o++ {
			if _, known := c.before.readable[lane][o]; known && !mayGo(o) {
				c.Errorf("%s: lane %s lost %v", c.when, lane, l)
				break
			}
		}
	}
}

// saveAgain checks that progress can be saved.
func (c *cut) saveAgain(s *Store, lane buffer.Lane, known ledger) {
	c.Helper()
	p := partitionOf(c.T, s, lane, testGroup)
	progress := p.progress(p.group)
	first, next := p.bounds()
	progress.Add(buffer.Span{From: first, To: min(first+1, next)})
	if err := p.Save(context.Background(), progress); err != nil {
		c.Errorf("%s: save progress in lane %s: %v", c.when, lane, err)
	}
	known.saved[lane] = progress
}

// appendAgain checks that service goes on: blocks are taken and read.
func (c *cut) appendAgain(s *Store, lane buffer.Lane, known ledger) {
	c.Helper()
	p := partitionOf(c.T, s, lane, testGroup)
	for range 2 {
		b := make([]byte, 100+c.rnd.IntN(3000))
		for i := range b {
			b[i] = byte(c.rnd.Uint32())
		}
		_, next := p.bounds()
		if err := appendTo(s, lane, b); err != nil {
			c.Errorf("%s: append to lane %s: %v", c.when, lane, err)
			return
		}
		got := readAll(c.T, p, next)
		if len(got.blocks) != 1 || !bytes.Equal([]byte(got.blocks[next]), b) {
			c.Errorf("%s: the block appended to lane %s at %d is not read: %d blocks", c.when, lane, next, len(got.blocks))
		}
		known.readable[lane][next] = string(b)
	}
}
