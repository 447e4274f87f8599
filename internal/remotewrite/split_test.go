package remotewrite_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

func TestSplitCutsBetweenSeries(t *testing.T) {
	s, m, unknown := timeseries(up, sample(1, now)), metadata(text(2, "up"), text(4, "Whether it is up.")), text(9, "?")
	long := timeseries(up, labels("pod", string(bytes.Repeat([]byte("x"), 300))))
	for _, tc := range []struct {
		promise string
		msg     []byte
		most    int
		want    [][]byte
	}{
		{"an empty message", nil, 100, nil},
		{"all of it fits", join(s, m, s), len(s) + len(m) + len(s), [][]byte{join(s, m, s)}},
		{"a byte too long", join(s, m, s), len(s) + len(m) + len(s) - 1, [][]byte{join(s, m), s}},
		{"each alone", join(s, m, s), 1, [][]byte{s, m, s}},
		{"no room at all", join(s, m, s), -1, [][]byte{s, m, s}},
		{"as many as fit", join(s, s, s, s, s), 2 * len(s), [][]byte{join(s, s), join(s, s), s}},
		{"one that does not fit is alone", join(s, long, m), len(s) + len(m), [][]byte{s, long, m}},
		{"unknown fields stay beside known ones", join(unknown, s, s, unknown), len(unknown) + len(s), [][]byte{join(unknown, s), join(s, unknown)}},
		{"unknown fields alone are left out", join(s, unknown, long, unknown, unknown), 2 * len(unknown), [][]byte{s, long}},
	} {
		t.Run(tc.promise, func(t *testing.T) {
			if got := slices.Collect(remotewrite.Split(tc.msg, tc.most)); !slices.EqualFunc(got, tc.want, bytes.Equal) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
	for piece := range remotewrite.Split(join(s, s), 1) {
		if cap(piece) != len(piece) {
			t.Error("appending to a piece would overwrite the next")
		}
		break
	}
}

// checkSplit holds Split to its promises for sizes that cut msg in many ways: nothing is lost, doubled or moved.
func checkSplit(t *testing.T, msg []byte) {
	whole, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{})
	if err != nil {
		return
	}
	want, err := decode(msg)
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := decodeVictoriaMetrics(t, msg)
	for _, most := range []int{0, 50, len(msg) / 3, len(msg) - 1, len(msg)} {
		var joined []byte
		var sum remotewrite.Counts
		var gotRows []string
		for piece := range remotewrite.Split(msg, most) {
			counts, err := new(remotewrite.Scanner).Scan(piece, remotewrite.Limits{})
			if err != nil {
				t.Fatalf("at most %d bytes: a piece is refused: %v", most, err)
			}
			if len(piece) > most && counts.Series+counts.Metadata != 1 {
				t.Fatalf("a piece of %d bytes, at most %d wanted, holds %+v", len(piece), most, counts)
			}
			sum = add(sum, counts)
			joined = append(joined, piece...)
			rowsOfPiece, _ := decodeVictoriaMetrics(t, piece)
			gotRows = append(gotRows, rowsOfPiece...)
		}
		got, err := decode(joined)
		if err != nil {
			t.Fatal(err)
		}
		if sum != whole || !bytes.Equal(got.wire, want.wire) || !slices.Equal(gotRows, rows) {
			t.Fatalf("at most %d bytes: the pieces hold %+v\n%q\n%x\nwant %+v\n%q\n%x", most, sum, gotRows, got.wire, whole, rows, want.wire)
		}
	}
}

// add is what a message holds that holds both.
func add(a, b remotewrite.Counts) remotewrite.Counts {
	newest, oldest := max(a.Newest, b.Newest), min(a.Oldest, b.Oldest)
	if a.Samples+a.Histograms == 0 {
		newest, oldest = b.Newest, b.Oldest
	} else if b.Samples+b.Histograms == 0 {
		newest, oldest = a.Newest, a.Oldest
	}
	return remotewrite.Counts{
		Series: a.Series + b.Series, Samples: a.Samples + b.Samples, Histograms: a.Histograms + b.Histograms,
		Exemplars: a.Exemplars + b.Exemplars, Metadata: a.Metadata + b.Metadata, Reserved: a.Reserved + b.Reserved,
		Labels: max(a.Labels, b.Labels), LongestName: max(a.LongestName, b.LongestName), LongestValue: max(a.LongestValue, b.LongestValue),
		Newest: newest, Oldest: oldest,
	}
}
