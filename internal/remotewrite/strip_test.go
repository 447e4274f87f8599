package remotewrite_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

func TestStripTakesOutWhatIsReservedAndNothingElse(t *testing.T) {
	long := labels("pod", strings.Repeat("x", 120)) // with it, the series' length takes two bytes, without account_id one
	for _, tc := range []struct {
		promise   string
		msg, want []byte
	}{
		{"an empty message", nil, nil},
		{"nothing reserved", timeseries(up, sample(1, now)), timeseries(up, sample(1, now))},
		{"all four labels", timeseries(labels("vm_account_id", "1"), up, labels("vm_project_id", "", "VictoriaMetrics_AccountID", "x"),
			sample(1, now), labels("VictoriaMetrics_ProjectID", "2")), timeseries(up, sample(1, now))},
		{"the length shrinks by a byte", timeseries(up, long, labels("vm_account_id", "1")), timeseries(up, long)},
		{"order and unknown fields stay", timeseries(sample(1, now), number(99, 5), labels("vm_account_id", "1"), labels("z", "1"), text(50, "?"), up),
			timeseries(sample(1, now), number(99, 5), labels("z", "1"), text(50, "?"), up)},
		{"the name that counts is the last", timeseries(up, message(1, join(text(1, "a"), text(1, "vm_account_id"))),
			message(1, join(text(1, "vm_project_id"), text(1, "a")))), timeseries(up, message(1, join(text(1, "vm_project_id"), text(1, "a"))))},
		{"exemplars keep theirs", timeseries(up, exemplar(labels("vm_account_id", "1"))), timeseries(up, exemplar(labels("vm_account_id", "1")))},
		{"metadata", metadata(number(11, 1), text(2, "up"), number(12, 1<<31), number(11, 2)), metadata(text(2, "up"))},
		{"only what is reserved is left", metadata(number(11, 1)), metadata()},
		{"one series of many", join(text(9, "?"), timeseries(up), timeseries(up, labels("vm_account_id", "1")), timeseries(up), metadata()),
			join(text(9, "?"), timeseries(up), timeseries(up), timeseries(up), metadata())},
		{"a padded length shrinks too", join([]byte{0x0a, 0x80 | byte(len(up)+len(labels("vm_account_id", "1"))), 0x80, 0x00}, up, labels("vm_account_id", "1")),
			timeseries(up)},
		{"an odd tag stays", join([]byte{0x8a, 0x00}, timeseries(up, labels("vm_account_id", "1"))[1:]),
			join([]byte{0x8a, 0x00}, timeseries(up)[1:])},
	} {
		t.Run(tc.promise, func(t *testing.T) {
			if _, err := new(remotewrite.Scanner).Scan(tc.msg, remotewrite.Limits{}); err != nil {
				t.Fatal(err)
			}
			if got := remotewrite.Strip([]byte("dst"), tc.msg); !bytes.Equal(got, append([]byte("dst"), tc.want...)) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
			if got := remotewrite.Strip(tc.msg[:0], tc.msg); !bytes.Equal(got, tc.want) {
				t.Errorf("in place: got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestSeriesYieldsEachSeriesInOrder(t *testing.T) {
	first, second := join(up, sample(1, now)), join(labels("__name__", "b"))
	msg := join(text(9, "?"), timeseries(first), metadata(), timeseries(second), timeseries(first))
	var got [][]byte
	for s := range remotewrite.Series(msg) {
		got = append(got, s)
		if cap(s) != len(s) {
			t.Error("appending to a series would overwrite the next")
		}
	}
	if !slices.EqualFunc(got, [][]byte{first, second, first}, bytes.Equal) {
		t.Errorf("got %q", got)
	}
	for s := range remotewrite.Series(msg) {
		if !bytes.Equal(s, first) {
			t.Errorf("got %q", s)
		}
		break
	}
}

func TestSeriesAllocatesNothingPerSeries(t *testing.T) {
	few, many := slices.Repeat(timeseries(up), 10), slices.Repeat(timeseries(up), 1000)
	walk := func(msg []byte) float64 {
		return testing.AllocsPerRun(10, func() {
			for range remotewrite.Series(msg) {
			}
		})
	}
	if walk(few) != walk(many) {
		t.Errorf("%v allocations for 10 series, %v for 1000", walk(few), walk(many))
	}
}
