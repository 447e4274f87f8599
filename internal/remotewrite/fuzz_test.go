package remotewrite_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// fuzz runs check with messages as they are, and with what generate makes of programs. The seeds are small: a fuzzer spends its
// time on making them so.
func fuzz(f *testing.F, check func(*testing.T, []byte)) {
	for _, tc := range accepted {
		if len(tc.msg) < 1000 {
			f.Add(tc.msg, false)
		}
	}
	for _, tc := range refused {
		if len(tc.msg) < 1000 {
			f.Add(tc.msg, false)
		}
	}
	rng := rand.New(rand.NewPCG(9, 10))
	for range 64 {
		f.Add(randomProgram(rng), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, program bool) {
		if program {
			data = generate(data)
		}
		check(t, data)
	})
}

func randomProgram(rng *rand.Rand) []byte {
	program := make([]byte, 20+rng.IntN(250))
	for i := range program {
		program[i] = byte(rng.Uint32())
	}
	return program
}

// The fuzz targets' promises, for some thousands of messages whenever tests run.
func TestScanAndWhatRewritesAgreeWithTheOthers(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	var total remotewrite.Counts
	var program []byte
	defer func() {
		if t.Failed() {
			t.Logf("program %x", program)
		}
	}()
	valid, messages := 0, 1500
	for range messages {
		program = randomProgram(rng)
		msg := generate(program)
		if counts, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); err == nil {
			valid++
			total.Histograms += counts.Histograms
			total.Reserved += counts.Reserved
		}
		checkAgainstVictoriaMetrics(t, msg)
		checkAgainstProtobuf(t, msg)
		checkStrip(t, msg)
		checkSplit(t, msg)
		checkViews(t, msg)
		checkEdit(t, msg)
		checkDivide(t, msg)
		checkPack(t, msg)
		checkSift(t, msg)
	}
	if valid < messages/5 || total.Histograms < messages/5 || total.Reserved < messages/5 {
		t.Errorf("%d of %d messages were valid, with %+v: not worth the name of a test", valid, messages, total)
	}
}

// What Scan accepts, VictoriaMetrics decodes to the same series with samples, and in no more memory than Scan reckoned.
func FuzzScanAgreesWithVictoriaMetrics(f *testing.F) {
	fuzz(f, checkAgainstVictoriaMetrics)
}

func checkAgainstVictoriaMetrics(t *testing.T, msg []byte) {
	if _, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); err != nil {
		return
	}
	want, err := decode(msg)
	if err != nil {
		t.Fatalf("protobuf refuses what Scan accepts: %v", err)
	}
	whole, memory := decodeVictoriaMetrics(t, msg)
	var single []string
	i := 0
	for series := range remotewrite.Series(msg) {
		rows, _ := decodeVictoriaMetrics(t, message(1, series))
		if s := want.series[i]; len(s.samples) > 0 && !slices.Equal(rows, []string{s.String()}) {
			t.Fatalf("series %d:\ngot  %q\nwant %q", i, rows, s)
		}
		single = append(single, rows...)
		i++
	}
	if i != len(want.series) || !slices.Equal(whole, single) {
		t.Fatalf("%d of %d series by Series; all at once:\n%q\none by one:\n%q", i, len(want.series), whole, single)
	}
	if memory > 1 {
		_, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{Expanded: memory - 1})
		if !errors.Is(err, remotewrite.ErrTooLarge) {
			t.Fatalf("VictoriaMetrics fills %d bytes, Scan with a limit of one less says: %v", memory, err)
		}
	}
}

func (s decodedSeries) String() string {
	text := ""
	for _, l := range s.labels {
		text += fmt.Sprintf("%q=%q ", l.name, l.value)
	}
	for _, p := range s.samples {
		text += fmt.Sprintf("%x@%d ", p.bits, p.timestamp)
	}
	return text
}

// decodeVictoriaMetrics returns the series that VictoriaMetrics makes of msg, and the bytes of its structs.
func decodeVictoriaMetrics(t *testing.T, msg []byte) (rows []string, memory int) {
	t.Helper()
	u := prompb.GetWriteRequestUnmarshaler()
	defer prompb.PutWriteRequestUnmarshaler(u)
	r, err := u.UnmarshalProtobuf(msg)
	if err != nil {
		t.Fatalf("VictoriaMetrics refuses what Scan accepts: %v", err)
	}
	for _, ts := range r.Timeseries {
		var s decodedSeries
		for _, l := range ts.Labels {
			s.labels = append(s.labels, decodedLabel{l.Name, l.Value})
			memory += 32
		}
		for _, p := range ts.Samples {
			s.samples = append(s.samples, decodedSample{math.Float64bits(p.Value), p.Timestamp})
			memory += 16
		}
		rows = append(rows, s.String())
		memory += 48
	}
	return rows, memory + 64*len(r.Metadata)
}

// What Scan accepts, Google's protobuf decodes, it counts the same, and it breaks no rule. The other way round, a message that
// breaks no rule and is written as protobuf writes it is accepted.
func FuzzScanAgreesWithProtobuf(f *testing.F) {
	fuzz(f, checkAgainstProtobuf)
}

func checkAgainstProtobuf(t *testing.T, msg []byte) {
	var s remotewrite.Scanner
	got, scanErr := s.Scan(msg, remotewrite.Limits{})
	want, err := decode(msg)
	if err != nil {
		if scanErr == nil {
			t.Fatalf("Scan accepts what protobuf refuses: %v", err)
		}
		return
	}
	if scanErr == nil {
		got.Reserved = 0 // protobuf cannot tell a field that is 0 or stands twice
		if got != want.counts() || !want.valid() {
			t.Fatalf("got %+v, want %+v, valid %t", got, want.counts(), want.valid())
		}
	}
	got, err = s.Scan(want.wire, remotewrite.Limits{})
	if (err == nil) != want.valid() {
		t.Fatalf("written by protobuf: valid %t, Scan says: %v", want.valid(), err)
	}
	wantCounts := want.counts()
	wantCounts.Reserved = want.reserved
	if err == nil && got != wantCounts {
		t.Fatalf("written by protobuf: got %+v, want %+v", got, wantCounts)
	}
}

// The pieces that Split makes hold together what the message holds, for Google's protobuf and for VictoriaMetrics.
func FuzzSplitLosesNothing(f *testing.F) {
	fuzz(f, checkSplit)
}

// Strip takes out what is reserved and nothing else.
func FuzzStripLeavesTheRest(f *testing.F) {
	fuzz(f, checkStrip)
}

func checkStrip(t *testing.T, msg []byte) {
	var s remotewrite.Scanner
	before, err := s.Scan(msg, remotewrite.Limits{})
	if err != nil {
		return
	}
	original := slices.Clone(msg)
	stripped := remotewrite.Strip([]byte("before"), msg)
	if !bytes.Equal(msg, original) || !bytes.HasPrefix(stripped, []byte("before")) {
		t.Fatal("Strip changed its input, or what was in dst")
	}
	stripped = stripped[len("before"):]
	if before.Reserved == 0 && !bytes.Equal(stripped, msg) {
		t.Fatal("nothing is reserved, but the message has changed")
	}
	after, err := s.Scan(stripped, remotewrite.Limits{})
	before.Reserved = 0
	before.Labels, before.LongestName, before.LongestValue = after.Labels, after.LongestName, after.LongestValue
	if err != nil || after != before {
		t.Fatalf("after Strip: %+v, %v; want %+v", after, err, before)
	}
	want := rewriteSlowly(msg, slowly{strip: true})
	if !bytes.Equal(stripped, want) {
		t.Fatalf("got  %x\nwant %x", stripped, want)
	}
	if got := remotewrite.Strip(original[:0], original); !bytes.Equal(got, want) {
		t.Fatalf("in place: got  %x\nwant %x", got, want)
	}
}
