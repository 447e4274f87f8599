package buffer

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// model is Progress as a set of offsets below modelSize.
type model [modelSize]bool

const modelSize = 60

func (m *model) set(s Span, done bool) {
	for o := max(s.From, 0); o < min(s.To, modelSize); o++ {
		m[o] = done
	}
}

func (m *model) committed() Offset {
	for o, done := range m {
		if !done {
			return Offset(o)
		}
	}
	return modelSize
}

func TestProgressIsASetOfOffsets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var p Progress
		var m model
		for range 40 {
			s := Span{From: Offset(rnd.IntN(modelSize+5) - 5)}
			s.To = min(s.From+Offset(rnd.IntN(12)-1), modelSize)
			if rnd.IntN(3) > 0 {
				p.Add(s)
				m.set(s, true)
			} else {
				p.Remove(s)
				m.set(s, false)
			}
			compare(t, p, &m)
		}
	}
}

func compare(t *testing.T, p Progress, m *model) {
	t.Helper()
	if err := p.check(); err != nil || len(p.Done) == 0 {
		t.Fatalf("%v: %v", p.Done, err)
	}
	if p.Committed() != m.committed() {
		t.Fatalf("%v: committed %d, want %d", p.Done, p.Committed(), m.committed())
	}
	for o := range Offset(modelSize) {
		if p.Contains(o) != m[o] {
			t.Fatalf("%v: contains %d: %v, want %v", p.Done, o, p.Contains(o), m[o])
		}
		gap := p.NextGap(o)
		for x := o; x < min(gap.To, modelSize); x++ {
			if m[x] != (x < gap.From) {
				t.Fatalf("%v: gap at or after %d is %v", p.Done, o, gap)
			}
		}
		if gap.To < modelSize && !m[gap.To] {
			t.Fatalf("%v: gap at or after %d is %v and ends early", p.Done, o, gap)
		}
	}
	if gap := p.NextGap(modelSize); gap != (Span{From: modelSize, To: math.MaxInt64}) {
		t.Fatalf("%v: the last gap is %v", p.Done, gap)
	}
}

func TestProgressSurvivesItsBinaryForm(t *testing.T) {
	for _, p := range []Progress{
		{Done: []Span{{}}},
		{Log: "a-log", Done: []Span{{0, 7}}},
		{Log: strings.Repeat("x", MaxLogName), Done: []Span{{0, 1}, {2, 3}, {1 << 40, 1 << 41}, {math.MaxInt64 - 1, math.MaxInt64}}},
	} {
		data, err := p.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		var got Progress
		if err := got.UnmarshalBinary(data); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%v became %v, %v", p, got, err)
		}
	}
}

func TestTooManySpansAreForgottenAndNeverInvented(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var p Progress
	p.Log = strings.Repeat("x", MaxLogName)
	p.Add(Span{0, 1}) // the committed offset stays, though nothing is shorter
	at := Offset(1)
	for range 5000 {
		at += 1 + Offset(rnd.Int64N(1<<40))
		n := 1 + Offset(rnd.Int64N(1<<40))
		p.Add(Span{at, at + n})
		at += n
	}
	data, err := p.AppendBinary(nil)
	if err != nil || len(data) > MaxProgressSize {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	var got Progress
	if err := got.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if len(got.Done) != maxSpans || got.Committed() != 1 {
		t.Errorf("%d spans, committed %d", len(got.Done), got.Committed())
	}
	shortest := Offset(math.MaxInt64)
	for _, s := range got.Done[1:] {
		if !p.Contains(s.From) || !p.Contains(s.To-1) {
			t.Errorf("%v was never done", s)
		}
		shortest = min(shortest, s.To-s.From)
	}
	longer := 0
	for _, s := range p.Done[1:] {
		if s.To-s.From > shortest {
			longer++
		}
	}
	if longer >= maxSpans {
		t.Errorf("%d spans are longer than the shortest of those that were kept", longer)
	}
}

func FuzzProgress(f *testing.F) {
	for _, p := range []Progress{{}, {Log: "l", Done: []Span{{0, 3}, {5, 9}}}} {
		data, err := p.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{2})
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Progress
		if err := p.UnmarshalBinary(data); err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNewerVersion) || p.Done != nil {
				t.Fatalf("%v, %v", p, err)
			}
			return
		}
		again, err := p.AppendBinary(nil)
		if err != nil {
			t.Fatalf("%v cannot be encoded again: %v", p, err)
		}
		var q Progress
		if err := q.UnmarshalBinary(again); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%v became %v, %v", p, q, err)
		}
	})
}
