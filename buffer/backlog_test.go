package buffer

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func TestLagCountsFromTheCommittedOffset(t *testing.T) {
	for _, test := range []struct{ first, next, committed, want Offset }{
		{0, 0, 0, 0},
		{0, 10, 0, 10},
		{0, 10, 7, 3},
		{5, 10, 7, 3},
		{8, 10, 7, 2},   // removed before it was committed
		{10, 10, 7, 0},  // all of it
		{0, 10, 12, 0},  // the end of the log was lost
		{0, 10, 10, 0},  // nothing to do
		{10, 10, 10, 0}, // and everything removed
	} {
		if got := Lag(test.first, test.next, test.committed); got != test.want {
			t.Errorf("Lag(%d, %d, %d) is %d, want %d", test.first, test.next, test.committed, got, test.want)
		}
	}
}

// A flow is a partition in which blocks arrive and are sent in order, in seconds that pass at once.
type flow struct {
	Backlog
	now  time.Time
	next Offset
	sent int64
}

// pass lets seconds pass, with so many blocks arriving and sent in each.
func (f *flow) pass(seconds int, arriving, sent int64) {
	for range seconds {
		f.now = f.now.Add(time.Second)
		f.next += Offset(arriving)
		f.sent += min(sent, int64(f.next)-f.sent)
		f.mark()
	}
}

func (f *flow) mark() {
	oldest := Offset(f.sent)
	f.Add(Mark{At: f.now, Next: f.next, Sent: f.sent, Unsent: f.next - oldest, Oldest: oldest})
}

func newFlow(backlog Offset) *flow {
	f := &flow{now: time.Unix(1000, 0), next: backlog}
	f.mark()
	return f
}

func wantDrain(t *testing.T, b *Backlog, want float64) {
	t.Helper()
	if got, known := b.TimeToDrain(); !known || math.Abs(got-want) > 1e-9 && got != want {
		t.Errorf("time to drain is %v, known %v, want %v", got, known, want)
	}
}

func TestTimeToDrainIsOfTheSameMinuteForBothRates(t *testing.T) {
	f := newFlow(10_000)
	f.pass(100, 50, 0) // a night of which nothing is to be seen a minute later
	f.pass(60, 10, 110)
	if r, known := f.Rates(); !known || r != (Rates{Arriving: 10, Sent: 110}) {
		t.Errorf("rates are %v, known %v", r, known)
	}
	wantDrain(t, &f.Backlog, (10_000+5_000-6_000)/100.0)

	f.pass(30, 30, 90) // half of the window
	if r, _ := f.Rates(); r != (Rates{Arriving: 20, Sent: 100}) {
		t.Errorf("rates are %v", r)
	}
	wantDrain(t, &f.Backlog, (9_000-30*60)/80.0)
	if n := len(f.marks); n != 61 {
		t.Errorf("%d marks are kept, want those of a minute", n)
	}
}

func TestNothingDrainsWhenAsManyArriveAsAreSent(t *testing.T) {
	for _, sent := range []int64{0, 9, 10} {
		f := newFlow(100)
		f.pass(60, 10, sent)
		wantDrain(t, &f.Backlog, math.Inf(1))
	}
}

func TestRatesAreKnownFromTheSecondMarkOn(t *testing.T) {
	var b Backlog
	if _, known := b.TimeToDrain(); known {
		t.Error("a time is known before anything was told")
	}
	f := newFlow(100)
	if _, known := f.Rates(); known {
		t.Error("rates are known from one mark")
	}
	if _, known := f.TimeToDrain(); known {
		t.Error("a time is known from one mark")
	}
	f.mark() // no time has passed
	if _, known := f.Rates(); known {
		t.Error("rates are known of no time at all")
	}
	f.pass(1, 0, 10)
	wantDrain(t, &f.Backlog, 9)
	empty := newFlow(0)
	wantDrain(t, &empty.Backlog, 0)
}

func TestRatesAreNewAfterAPauseLongerThanTheWindow(t *testing.T) {
	f := newFlow(1000)
	f.pass(10, 0, 10)
	f.now = f.now.Add(time.Hour)
	f.mark()
	if r, known := f.Rates(); known {
		t.Errorf("rates are %v from a mark an hour after the others", r)
	}
	f.pass(10, 0, 5)
	wantDrain(t, &f.Backlog, (900-50)/5.0)
}

// In peace, what has just arrived is on its way: it would be a false alarm to say that it never drains.
func TestBlocksOnTheirWayAreNoBacklog(t *testing.T) {
	f := newFlow(0)
	f.next = 4
	f.pass(1, 0, 0)
	for range 120 {
		f.pass(1, 10, 10)
		wantDrain(t, &f.Backlog, 0)
	}
	f.pass(4, 10, 0)
	wantDrain(t, &f.Backlog, 0)
	f.pass(2, 10, 0)
	wantDrain(t, &f.Backlog, math.Inf(1))
}

func TestOneOldBlockIsABacklogAmongManyNewOnes(t *testing.T) {
	var b Backlog
	for i := range 30 { // block 0 is to be sent again
		n := Offset(100 + 10*i)
		b.Add(Mark{At: time.Unix(int64(i), 0), Next: n, Sent: int64(n), Unsent: 1, Oldest: 0})
	}
	wantDrain(t, &b, math.Inf(1))
}

// After an unclean election, or when settling finds everything dirty.
func TestRatesAreNeverNegative(t *testing.T) {
	var b Backlog
	b.Add(Mark{At: time.Unix(0, 0), Next: 100, Sent: 50, Unsent: 50})
	b.Add(Mark{At: time.Unix(1, 0), Next: 90, Sent: 60, Unsent: 40})
	if r, _ := b.Rates(); r != (Rates{Arriving: 0, Sent: 10}) {
		t.Errorf("rates are %v", r)
	}
	wantDrain(t, &b, 4)
}

func sized(samples, bytes int) *Block {
	return &Block{Samples: samples, Data: make([]byte, bytes)}
}

func TestTheMeanIsOfAllBlocksAtFirstAndMovesLater(t *testing.T) {
	var m BlockMean
	want := func(blocks Offset, wantSamples, wantBytes float64, wantKnown bool) {
		t.Helper()
		samples, bytes, known := m.Estimate(blocks)
		if math.Abs(samples-wantSamples) > 1e-3 || math.Abs(bytes-wantBytes) > 1e-3 || known != wantKnown {
			t.Errorf("%d blocks: %v samples, %v bytes, known %v, want %v, %v, %v", blocks, samples, bytes, known, wantSamples, wantBytes, wantKnown)
		}
	}
	want(0, 0, 0, true)
	want(3, 0, 0, false)
	for _, samples := range []int{10, 20, 60} {
		m.Add(sized(samples, 10*samples))
	}
	want(4, 4*30, 4*300, true)
	want(0, 0, 0, true)
	for range 2000 {
		m.Add(sized(500, 100))
	}
	want(2, 1000, 200, true)
	m.Add(sized(600, 0)) // weighs a hundredth
	want(100, 50_100, 9_900, true)
}

func TestBacklogAndMeanAllocateNothingOnceTheWindowIsFull(t *testing.T) {
	f := newFlow(1000)
	f.pass(300, 10, 10)
	var m BlockMean
	b := sized(1, 1)
	if n := testing.AllocsPerRun(100, func() { m.Add(b) }); n != 0 {
		t.Errorf("the mean allocates %v times a block", n)
	}
	if n := testing.AllocsPerRun(500, func() { f.pass(1, 10, 10) }); n != 0 {
		t.Errorf("a mark allocates %v times", n)
	}
}

func ExampleBacklog() {
	var b Backlog
	b.Add(Mark{At: time.Unix(0, 0), Next: 1000, Sent: 0, Unsent: 1000})
	b.Add(Mark{At: time.Unix(60, 0), Next: 1600, Sent: 900, Unsent: 700, Oldest: 900})
	rates, _ := b.Rates()
	seconds, _ := b.TimeToDrain()
	fmt.Printf("%v blocks/s arrive, %v are sent, %v s to go\n", rates.Arriving, rates.Sent, seconds)
	// Output: 10 blocks/s arrive, 15 are sent, 140 s to go
}
