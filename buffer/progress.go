package buffer

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// The bounds of progress in its binary form; FORMAT.md describes it.
const (
	// MaxProgressSize is the bytes that a Store has to keep for one Progress.
	MaxProgressSize = 3 << 10
	// MaxLogName is the most bytes in Progress.Log.
	MaxLogName = 64

	maxSpans        = 128
	progressVersion = 1
)

// A Span is the offsets from From up to, not including, To.
type Span struct{ From, To Offset }

// Progress says which blocks of one partition are done: nobody has to send them any more. All others are still to be sent.
// The zero value has none done. It is not safe for concurrent use; copies share Done until Clone.
type Progress struct {
	// Log is the PartitionID.Log that the offsets belong to, at most MaxLogName bytes.
	Log string
	// Done is sorted, disjoint and without adjacent spans. Done[0] starts at 0 and ends at the committed offset; it is always
	// there, if only as an empty span, once anything was added or loaded.
	Done []Span
}

// Committed is the offset before which everything is done.
func (p Progress) Committed() Offset {
	if len(p.Done) == 0 {
		return 0
	}
	return p.Done[0].To
}

// Contains says whether the block at o is done.
func (p Progress) Contains(o Offset) bool {
	i := p.endingAfter(o)
	return i < len(p.Done) && p.Done[i].From <= o
}

// NextGap is the first range that is not done at or after from. Its To is math.MaxInt64 when nothing is done behind it.
func (p Progress) NextGap(from Offset) Span {
	from = max(from, 0)
	i := p.endingAfter(from)
	if i < len(p.Done) && p.Done[i].From <= from {
		from = p.Done[i].To
		i++
	}
	if i < len(p.Done) {
		return Span{From: from, To: p.Done[i].From}
	}
	return Span{From: from, To: math.MaxInt64}
}

// endingAfter is the index of the first span that ends behind o.
func (p Progress) endingAfter(o Offset) int {
	i, _ := slices.BinarySearchFunc(p.Done, o, func(s Span, o Offset) int {
		if s.To <= o {
			return -1
		}
		return 1
	})
	return i
}

// Clone returns a copy that shares nothing with p.
func (p Progress) Clone() Progress {
	return Progress{Log: p.Log, Done: slices.Clone(p.Done)}
}

// Add marks s done. Offsets below 0 do not exist, and an empty span adds nothing.
func (p *Progress) Add(s Span) {
	p.begin()
	s.From = max(s.From, 0)
	if s.From >= s.To {
		return
	}
	// What s overlaps or touches becomes one span with it.
	first := p.endingAfter(s.From - 1)
	end := first
	for ; end < len(p.Done) && p.Done[end].From <= s.To; end++ {
		s.From = min(s.From, p.Done[end].From)
		s.To = max(s.To, p.Done[end].To)
	}
	p.Done = slices.Replace(p.Done, first, end, s)
}

// Remove marks s not done, so that it is sent again.
func (p *Progress) Remove(s Span) {
	p.begin()
	s.From = max(s.From, 0)
	if s.From >= s.To {
		return
	}
	first := p.endingAfter(s.From)
	end := first
	var kept []Span
	for ; end < len(p.Done) && p.Done[end].From < s.To; end++ {
		if d := p.Done[end]; d.From < s.From || d.From == 0 {
			kept = append(kept, Span{From: d.From, To: s.From})
		}
		if d := p.Done[end]; d.To > s.To {
			kept = append(kept, Span{From: s.To, To: d.To})
		}
	}
	p.Done = slices.Replace(p.Done, first, end, kept...)
}

// begin puts the span of the committed offset in its place.
func (p *Progress) begin() {
	if len(p.Done) == 0 {
		p.Done = append(p.Done, Span{})
	}
}

// Shortened returns p with at most n spans behind the first: the longest, and of equally long ones the older. What is left out is
// sent once more.
func (p Progress) Shortened(n int) Progress {
	if len(p.Done) == 0 {
		return p
	}
	return Progress{Log: p.Log, Done: append([]Span{p.Done[0]}, p.longest(n)...)}
}

// AppendBinary appends p's binary form to b: at most MaxProgressSize bytes. Above 128 spans it is that of p Shortened. p itself
// forgets nothing. It is an error when Log or Done is not as Progress says.
func (p Progress) AppendBinary(b []byte) ([]byte, error) {
	if err := p.check(); err != nil {
		return b, fmt.Errorf("encode progress: %w", err)
	}
	b = append(b, progressVersion, byte(len(p.Log)))
	b = append(b, p.Log...)
	end := p.Committed()
	b = binary.AppendUvarint(b, uint64(end))
	rest := p.longest(maxSpans - 1)
	b = append(b, byte(len(rest)))
	for _, s := range rest {
		b = binary.AppendUvarint(b, uint64(s.From-end))
		b = binary.AppendUvarint(b, uint64(s.To-s.From))
		end = s.To
	}
	return b, nil
}

// check says in what way p is not as its comment says.
func (p Progress) check() error {
	if len(p.Log) > MaxLogName {
		return fmt.Errorf("the log's name has %d bytes, at most %d fit", len(p.Log), MaxLogName)
	}
	for i, s := range p.Done {
		ok := s.From == 0 && s.To >= 0
		if i > 0 {
			ok = s.From > p.Done[i-1].To && s.To > s.From
		}
		if !ok {
			return fmt.Errorf("span %d of %v is out of order, empty or adjacent to the one before", i, p.Done)
		}
	}
	return nil
}

// longest returns the n longest spans behind the first, in ascending order.
func (p Progress) longest(n int) []Span {
	if len(p.Done) <= n+1 {
		return p.Done[min(1, len(p.Done)):]
	}
	spans := slices.Clone(p.Done[1:])
	slices.SortStableFunc(spans, func(a, b Span) int { return cmp.Compare(b.To-b.From, a.To-a.From) })
	spans = spans[:n]
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	return spans
}

// UnmarshalBinary reads what AppendBinary wrote. An error wraps ErrNewerVersion or ErrMalformed and leaves p as it was.
func (p *Progress) UnmarshalBinary(data []byte) error {
	in := reader{rest: data}
	switch v := in.byte("version"); {
	case in.err != nil:
		return fmt.Errorf("decode progress: %w", in.err)
	case v > progressVersion:
		return fmt.Errorf("progress of version %d, known is up to %d: %w", v, progressVersion, ErrNewerVersion)
	case v != progressVersion:
		return fmt.Errorf("progress of version %d: %w: there is no such version", v, ErrMalformed)
	}
	read := in.progress()
	if in.err == nil && len(in.rest) > 0 {
		in.err = fmt.Errorf("%w: %d bytes more than there should be", ErrMalformed, len(in.rest))
	}
	if in.err != nil {
		return fmt.Errorf("decode progress of %d bytes: %w", len(data), in.err)
	}
	*p = read
	return nil
}

func (in *reader) progress() Progress {
	var p Progress
	size := in.byte("log length")
	if size > MaxLogName {
		in.fail("log length")
	}
	p.Log = string(in.bytes("log", uint64(size)))
	end := in.uvarint("committed offset", math.MaxInt64)
	n := in.byte("number of spans")
	if n > maxSpans-1 {
		in.fail("number of spans")
	}
	p.Done = append(make([]Span, 0, 1+min(int(n), len(in.rest)/2)), Span{To: Offset(end)})
	for i := 0; i < int(n) && in.err == nil; i++ {
		from := end + in.positive("gap", math.MaxInt64-end)
		end = from + in.positive("length", math.MaxInt64-from)
		p.Done = append(p.Done, Span{From: Offset(from), To: Offset(end)})
	}
	return p
}

func (in *reader) positive(field string, most uint64) uint64 {
	n := in.uvarint(field, most)
	if n == 0 {
		in.fail(field)
	}
	return n
}
