package remotewrite_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// sift is Sift of a copy, and the errors of what was taken out.
func sift(msg []byte, lim remotewrite.Limits) (kept []byte, got counts, out []string, err error) {
	kept, got, err = new(remotewrite.Scanner).Sift(bytes.Clone(msg), lim, func(v remotewrite.View, why func() *remotewrite.Error) {
		samples, histograms := v.Samples()
		out = append(out, fmt.Sprintf("%d: %v", samples+histograms, why()))
	})
	return kept, got, out, err
}

func TestSiftTakesOutInvalidSeriesAndKeepsTheOthers(t *testing.T) {
	first, last := timeseries(up, labels("a", "1"), sample(1, now)), timeseries(up, labels("a", "2"), sample(1, now))
	meta := metadata(text(2, "up"))
	for _, tc := range refused {
		var e *remotewrite.Error
		_, err := new(remotewrite.Scanner).Scan(tc.msg, remotewrite.Limits{})
		if !errors.As(err, &e) || !errors.Is(err, remotewrite.ErrInvalidSeries) {
			continue
		}
		bad := timeseries(slices.Collect(remotewrite.Series(tc.msg))[e.Series])
		kept, got, out, err := sift(join(bad, first, meta, bad, bad, last, bad), remotewrite.Limits{})
		want := join(first, meta, last)
		wanted, _ := new(remotewrite.Scanner).Scan(want, remotewrite.Limits{})
		if err != nil || !bytes.Equal(kept, want) || got != wanted || len(out) != 4 {
			t.Errorf("%s: kept %x, %+v, taken out %q, %v\nwant %x, %+v", tc.promise, kept, got, out, err, want, wanted)
		}
		if kept, got, out, err := sift(bad, remotewrite.Limits{}); err != nil || len(kept) != 0 || got != (counts{}) || len(out) != 1 {
			t.Errorf("%s, alone: kept %x, %+v, taken out %q, %v", tc.promise, kept, got, out, err)
		}
	}
}

func TestSiftSaysWhichSeriesIsInvalidAndWhy(t *testing.T) {
	msg := join(timeseries(up, sample(1, now)), timeseries(labels("a", "1", "a", "2"), up, sample(1, now), sample(2, now)), timeseries(up),
		timeseries(labels("a", "1"), integerHistogram))
	_, _, out, err := sift(msg, remotewrite.Limits{})
	want := []string{
		`2: invalid series: series 1 ("up"), label "a", byte 50: the name stands twice in the series`,
		`1: invalid series: series 3, byte 126: no __name__ label with a value`,
	}
	if err != nil || !slices.Equal(out, want) {
		t.Errorf("got  %q, %v\nwant %q", out, err, want)
	}
}

func TestSiftRefusesAMessageThatIsMalformedWhereverThatIs(t *testing.T) {
	invalid := labels("a", "1", "a", "2")
	for name, msg := range map[string][]byte{
		"behind an invalid series":                join(timeseries(invalid, up), []byte{0x0a}),
		"in an invalid series":                    timeseries(labels("a", ""), labels("", "1"), up, message(2, number(1, 1))),
		"in a label behind one that is not UTF-8": timeseries(up, labels("a", "\xff"), message(1, number(1, 1))),
		"in a series without a name":              timeseries(message(3, number(1, 1))),
	} {
		if _, _, _, err := sift(msg, remotewrite.Limits{}); !errors.Is(err, remotewrite.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, _, err := sift(slices.Repeat(timeseries(invalid), 3), remotewrite.Limits{Series: 2}); !errors.Is(err, remotewrite.ErrTooManySeries) {
		t.Errorf("too many series, all of them invalid: %v", err)
	}
}

func TestSiftOfAValidMessageIsScan(t *testing.T) {
	for _, tc := range accepted {
		kept, got, out, err := sift(tc.msg, remotewrite.Limits{})
		if err != nil || !bytes.Equal(kept, tc.msg) || got != tc.want || out != nil {
			t.Errorf("%s: %+v, %q, %v", tc.promise, got, out, err)
		}
	}
	var s remotewrite.Scanner
	msg := benchRequest(10, false)
	ignore := func(remotewrite.View, func() *remotewrite.Error) {}
	if n := testing.AllocsPerRun(10, func() { _, _, _ = s.Sift(msg, remotewrite.Limits{}, ignore) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOnceTellsWhichLabelsStandTwice(t *testing.T) {
	series := remotewrite.View(join(labels("a", "1", "b", "2", "a", "1", "c", ""), up))
	for name, want := range map[string]string{"a": "false", "b": `true "2"`, "c": `true ""`, "d": `true ""`} {
		got := "false"
		if value, ok := series.Once(name); ok {
			got = fmt.Sprintf("true %q", value)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// What Sift keeps passes Scan, and is the message without the series that do not pass it alone.
func FuzzSiftKeepsWhatIsValid(f *testing.F) { fuzz(f, checkSift) }

func checkSift(t *testing.T, msg []byte) {
	kept, got, out, err := sift(msg, remotewrite.Limits{})
	decoded, malformed := decode(msg)
	if err != nil {
		if _, strictly := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); strictly == nil {
			t.Fatalf("Sift: %v, but Scan accepts it", err)
		}
		return
	}
	if malformed != nil && len(out) == 0 {
		t.Fatalf("protobuf refuses what Sift accepts: %v", malformed)
	}
	if counted, err := new(remotewrite.Scanner).Scan(kept, remotewrite.Limits{}); err != nil || counted != got {
		t.Fatalf("kept %x: %v, counted %+v, Sift says %+v", kept, err, counted, got)
	}
	if malformed != nil { // because of text that is not UTF-8
		return
	}
	valid := 0
	for _, s := range decoded.series {
		if s.valid() {
			valid++
		}
	}
	if got.Series != valid || len(out) != len(decoded.series)-valid {
		t.Fatalf("kept %d series and took out %d, want %d of %d", got.Series, len(out), valid, len(decoded.series))
	}
}
