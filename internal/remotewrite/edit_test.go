package remotewrite_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

func TestTagsWinOverTheSendersLabels(t *testing.T) {
	put := labels("org", "acme", "region", "eu")
	for _, tc := range []struct {
		promise   string
		msg, want []byte
	}{
		{"an empty message", nil, nil},
		{"behind the last label", timeseries(up, labels("z", "1"), sample(1, now)), timeseries(up, labels("z", "1"), put, sample(1, now))},
		{"the sender's go", timeseries(labels("org", "evil"), up, labels("region", ""), sample(1, now)), timeseries(up, put, sample(1, now))},
		{"the sender's go from behind samples", timeseries(up, sample(1, now), labels("org", "evil"), sample(2, now)),
			timeseries(up, sample(1, now), put, sample(2, now))},
		{"however they are written", timeseries(up, message(1, join(text(2, "evil"), text(1, "org"))), message(1, join(text(1, "a"), text(1, "region"))),
			message(1, text(1, "org"))), timeseries(up, put)},
		{"names that only begin so stay", timeseries(up, labels("org2", "1", "or", "2")), timeseries(up, labels("org2", "1", "or", "2"), put)},
		{"what is reserved goes too", timeseries(up, labels("vm_project_id", "7", "org", "evil")), timeseries(up, put)},
		{"on every series", join(timeseries(up, sample(1, now)), metadata(text(2, "up")), timeseries(up, labels("org", "evil")), text(9, "?")),
			join(timeseries(up, put, sample(1, now)), metadata(text(2, "up")), timeseries(up, put), text(9, "?"))},
		{"exemplars keep theirs", timeseries(up, exemplar(labels("org", "x"))), timeseries(up, put, exemplar(labels("org", "x")))},
	} {
		t.Run(tc.promise, func(t *testing.T) {
			edit := remotewrite.Edit{Tags: tags("org", "acme", "region", "eu")}
			if got, _ := edit.Apply([]byte("dst"), tc.msg); !bytes.Equal(got, join([]byte("dst"), tc.want)) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestWhatIsDroppedGoesWithAllThatIsInIt(t *testing.T) {
	gone := timeseries(labels("__name__", "gone", "vm_account_id", "1"), sample(1, now), sample(2, now+9), exemplar(labels("a", "b")))
	goneToo := timeseries(labels("__name__", "gone"), integerHistogram)
	stays := timeseries(up, labels("vm_project_id", "1"), sample(1, now+5), exemplar(labels("a", "b")))
	msg := join(gone, stays, metadata(text(2, "gone"), number(11, 3)), goneToo, goneToo, text(9, "?"))
	edit := remotewrite.Edit{Drop: func(v remotewrite.View) bool { return string(v.Get("__name__")) == "gone" }}
	want := join(timeseries(up, sample(1, now+5), exemplar(labels("a", "b"))), metadata(text(2, "gone")), text(9, "?"))
	wantEdited := remotewrite.Edited{
		Kept:    counts{Series: 1, Samples: 1, Exemplars: 1, Metadata: 1, Labels: 1, Newest: now + 5, Oldest: now + 5},
		Dropped: counts{Series: 3, Samples: 2, Histograms: 2, Exemplars: 1},
	}
	for _, dst := range [][]byte{nil, slices.Clone(msg)[:0]} {
		from := msg
		if dst != nil {
			from = dst[:len(msg)] // in place
		}
		if got, edited := edit.Apply(dst, from); !bytes.Equal(got, want) || edited != wantEdited {
			t.Errorf("got  %q, %+v\nwant %q, %+v", got, edited, want, wantEdited)
		}
	}
	all := remotewrite.Edit{Drop: func(remotewrite.View) bool { return true }}
	if got, edited := all.Apply(nil, join(gone, stays)); len(got) != 0 || edited.Kept != (counts{}) || edited.Dropped.Series != 2 {
		t.Errorf("got %q, %+v", got, edited)
	}
}

func TestEditSaysHowManyLabelsASeriesWillHave(t *testing.T) {
	edit := remotewrite.Edit{Tags: tags("org", "acme", "region", "eu")}
	for want, v := range map[int]remotewrite.View{
		3: view(up, sample(1, now)),
		4: view(up, labels("org", "x", "vm_account_id", "1", "job", "1")),
		5: view(up, labels("job", "1"), integerHistogram), // vmrange
	} {
		if got := edit.Labels(v); got != want {
			t.Errorf("%q: got %d, want %d", []byte(v), got, want)
		}
	}
}

func TestEditAllocatesNothing(t *testing.T) {
	msg := benchRequest(1, true)
	edit := remotewrite.Edit{
		Drop: func(v remotewrite.View) bool { return v.Get("no such label") != nil },
		Tags: tags("org", strings.Repeat("acme", 300)),
	}
	dst := make([]byte, 0, edit.Size(len(msg), 2000))
	if n := testing.AllocsPerRun(10, func() { edit.Apply(dst, msg) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Apply changes what an Edit says and nothing else, and says itself what is left.
func FuzzEditLeavesTheRest(f *testing.F) {
	fuzz(f, checkEdit)
}

func checkEdit(t *testing.T, msg []byte) {
	whole, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{})
	if err != nil {
		return
	}
	series := slices.Collect(remotewrite.Series(msg))
	goes := func(v remotewrite.View) bool { return v.Hash()%5 == 0 }
	seen := 0
	edit := remotewrite.Edit{Tags: tagsFor(msg), Drop: func(v remotewrite.View) bool {
		if !bytes.Equal(v, series[seen]) || cap(v) != len(v) {
			t.Fatalf("Drop sees %x, want %x", []byte(v), []byte(series[seen]))
		}
		seen++
		return goes(v)
	}}
	entries := entriesSlowly(msg)
	want := rewriteSlowly(msg, slowly{strip: true, tags: edit.Tags, gone: func(entry int) bool {
		return entries[entry].outer == 1 && goes(entries[entry].content)
	}})
	got, edited := edit.Apply([]byte("before"), msg)
	if !bytes.Equal(got, join([]byte("before"), want)) || seen != len(series) {
		t.Fatalf("%d of %d series seen;\ngot  %x\nwant %x", seen, len(series), got, want)
	}
	checkEdited(t, want, edited, whole)
	if len(want) > edit.Size(len(msg), whole.Series) {
		t.Fatalf("%d bytes, at most %d were announced", len(want), edit.Size(len(msg), whole.Series))
	}
}

func checkEdited(t *testing.T, out []byte, edited remotewrite.Edited, whole counts) {
	t.Helper()
	kept := edited.Kept
	if kept.Series+kept.Metadata > 0 {
		scanned, err := new(remotewrite.Scanner).Scan(out, remotewrite.Limits{})
		if err != nil || scanned != kept {
			t.Fatalf("kept %+v; Scan says %+v, %v", kept, scanned, err)
		}
	} else if kept != (counts{}) {
		t.Fatalf("nothing is kept, but %+v", kept)
	}
	sum := add(kept, edited.Dropped)
	if sum.Series != whole.Series || sum.Samples != whole.Samples || sum.Histograms != whole.Histograms ||
		sum.Exemplars != whole.Exemplars || sum.Metadata != whole.Metadata {
		t.Fatalf("kept %+v and dropped %+v of %+v", kept, edited.Dropped, whole)
	}
}
