package spoken

import (
	"math"
	"testing"
)

func TestFiguresInShort(t *testing.T) {
	for got, want := range map[string]string{
		Lasting(0): "0 s", Lasting(0.0004): "400 µs", Lasting(0.4): "400 ms", Lasting(4.25): "4.2 s", Lasting(42.9): "43 s", Lasting(60): "1 min",
		Lasting(119): "1 min 59 s", Lasting(4324): "1 h 12 min", Lasting(200000): "2 d 7 h", Lasting(math.Inf(1)): "never", Lasting(-4324): "-1 h 12 min", Lasting(math.NaN()): Nothing,
		Size(0): "0 B", Size(1023): "1023 B", Size(1536): "1.5 KiB", Size(2.9e9): "2.7 GiB", Size(1 << 60): "1024 PiB", Size(math.NaN()): Nothing,
		Count(0): "0", Count(7): "7", Count(0.333): "0.33", Count(9999): "9999", Count(61234): "61.2 k", Count(5.5e7): "55 M", Count(2e10): "20 G",
		Count(0.0001): "0.0001", Percent(0.47): "47 %", Percent(0.0434): "4.3 %", Percent(1): "100 %", Percent(math.NaN()): Nothing,
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
