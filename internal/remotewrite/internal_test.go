package remotewrite

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestASCIISeesEveryByte(t *testing.T) {
	for n := range 200 {
		b := []byte(strings.Repeat("\x7f", n))
		if !ascii(b) {
			t.Errorf("%d bytes of ASCII: false", n)
		}
		for i := range b {
			b[i] = 0x80
			if ascii(b) {
				t.Errorf("%d bytes, not ASCII at %d: true", n, i)
			}
			b[i] = 0x7f
		}
	}
}

func TestFirst8SortsAsNamesDo(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	name := func() (text string, first uint64) {
		b := make([]byte, 1+rng.IntN(12))
		for i := range b {
			b[i] = "\x00a\xff"[rng.IntN(3)]
		}
		behind := strings.Repeat("\xee", rng.IntN(10)) // the name may be the last thing in the message, or not
		return string(b), first8([]byte("xx"+string(b)+behind), newSpan(2, 2+len(b)))
	}
	for range 100_000 {
		a, firstA := name()
		b, firstB := name()
		if firstA < firstB && a >= b || firstA > firstB && a <= b || a == b && firstA != firstB {
			t.Fatalf("%q is %x, %q is %x", a, firstA, b, firstB)
		}
	}
}

func TestUsualTimesAreWhatTheirVarintsSay(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	b := make([]byte, 20)
	last := usualTime(0)
	for range 100_000 {
		for i := range b {
			b[i] = byte(rng.IntN(2)<<7 | rng.IntN(2))
		}
		n := 1 + rng.IntN(8)
		v, size := binary.Uvarint(b[len(b)-n:])
		got := endingAs(b, n)
		if usual := size == n && b[len(b)-1] != 0; got.usual(n) != usual {
			t.Fatalf("%x, last %d: %t", b, n, !usual)
		} else if !usual {
			continue
		}
		if got.milliseconds() != int64(v) || (got < last) != (got.milliseconds() < last.milliseconds()) {
			t.Fatalf("%x, last %d: %d ms, want %d; %x before", b, n, got.milliseconds(), v, last)
		}
		last = got
	}
}

func TestScannerKeepsLittle(t *testing.T) {
	var series []byte
	label := func(name, value string) {
		text := fmt.Sprintf("\x0a%c%s\x12%c%s", len(name), name, len(value), value)
		series = append(series, fmt.Sprintf("\x0a%c%s", len(text), text)...)
	}
	for i := 20_000; i > 0; i-- {
		label(fmt.Sprintf("label_%07d", i), "v")
	}
	label("__name__", "up")
	msg := append(binary.AppendUvarint([]byte{0x0a}, uint64(len(series))), series...)
	var s Scanner
	if _, err := s.Scan(msg, Limits{}); err != nil {
		t.Fatal(err)
	}
	if cap(s.hashes) > maxHashes || s.msg != nil {
		t.Errorf("kept %d hashes and %d bytes of the message", cap(s.hashes), len(s.msg))
	}
}
