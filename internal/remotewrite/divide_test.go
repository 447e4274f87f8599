package remotewrite_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// byOrg numbers the parts by the label org, as they come.
func byOrg() (of func(remotewrite.View) int) {
	numbers := map[string]int{}
	return func(v remotewrite.View) int {
		org := v.Get("org")
		n, known := numbers[string(org)]
		if !known {
			n = len(numbers)
			numbers[string(org)] = n
		}
		return n
	}
}

func nowhere(remotewrite.MetadataView) int { return -1 }

func TestDivideGivesEachPartItsOwn(t *testing.T) {
	series := func(name, org string, more ...[]byte) []byte {
		return timeseries(labels("__name__", name, "org", org, "vm_account_id", "7"), join(more...))
	}
	clean := func(name, org string, more ...[]byte) []byte {
		return timeseries(labels("__name__", name, "org", org), join(more...))
	}
	msg := join(series("a", "x", sample(1, now)), text(9, "?"), series("b", "y"), metadata(text(2, "a"), number(11, 1), number(12, 2), number(11, 3)),
		series("c", "x", sample(2, now+1), sample(3, now-1), number(50, 5)), metadata(text(2, "lost")), series("d", "z", integerHistogram))
	of := byOrg()
	var d remotewrite.Divider
	out, parts := d.Divide([]byte("before"), msg,
		func(v remotewrite.View) int {
			if string(v.Get("vm_account_id")) != "7" {
				t.Errorf("%q does not show what is reserved", []byte(v))
			}
			return of(v)
		},
		func(m remotewrite.MetadataView) int {
			if account, project, ok := m.Tenant(); ok && account == 3 && project == 2 {
				return 4
			}
			return -1
		})
	want := []remotewrite.Part{
		{Message: join(clean("a", "x", sample(1, now)), clean("c", "x", sample(2, now+1), sample(3, now-1), number(50, 5))),
			Counts: counts{Series: 2, Samples: 3, Labels: 2, Newest: now + 1, Oldest: now - 1}},
		{Message: clean("b", "y"), Counts: counts{Series: 1, Labels: 2}},
		{Message: clean("d", "z", integerHistogram), Counts: counts{Series: 1, Histograms: 1, Labels: 3, Newest: now, Oldest: now}},
		{},
		{Message: metadata(text(2, "a")), Counts: counts{Metadata: 1}},
	}
	if len(parts) != len(want) {
		t.Fatalf("%d parts, want %d", len(parts), len(want))
	}
	joined := []byte("before")
	for i, p := range parts {
		if !bytes.Equal(p.Message, want[i].Message) || p.Counts != want[i].Counts {
			t.Errorf("part %d: got  %q, %+v\nwant %q, %+v", i, p.Message, p.Counts, want[i].Message, want[i].Counts)
		}
		if cap(p.Message) != len(p.Message) {
			t.Errorf("part %d: appending to it would overwrite the next", i)
		}
		joined = append(joined, p.Message...)
	}
	if !bytes.Equal(out, joined) {
		t.Errorf("the parts do not stand one behind the other: %q", out)
	}
}

func TestWhatBelongsNowhereIsLeftOut(t *testing.T) {
	var d remotewrite.Divider
	msg := join(timeseries(up), metadata(text(2, "up")))
	out, parts := d.Divide(nil, msg, func(remotewrite.View) int { return -1 }, nowhere)
	if len(out) != 0 || len(parts) != 0 {
		t.Errorf("got %q, %d parts", out, len(parts))
	}
	if out, parts = d.Divide(nil, nil, byOrg(), nowhere); len(out) != 0 || len(parts) != 0 {
		t.Errorf("an empty message: got %q, %d parts", out, len(parts))
	}
}

func TestADividerForgetsTheMessageBefore(t *testing.T) {
	var d remotewrite.Divider
	first := join(timeseries(labels("__name__", "a", "org", "1"), sample(1, now)), timeseries(labels("__name__", "b", "org", "2"), sample(1, now)))
	d.Divide(nil, first, byOrg(), nowhere)
	second := timeseries(up, sample(1, 5))
	_, parts := d.Divide(nil, second, func(remotewrite.View) int { return 1 }, nowhere)
	if len(parts) != 2 || len(parts[0].Message) != 0 || parts[0].Counts != (counts{}) || !bytes.Equal(parts[1].Message, second) ||
		parts[1].Counts != (counts{Series: 1, Samples: 1, Labels: 1, Newest: 5, Oldest: 5}) {
		t.Errorf("got %+v", parts)
	}
}

func TestDivideAllocatesNothingPerSeries(t *testing.T) {
	var d remotewrite.Divider
	msg := benchParts(2000, 100)
	dst := make([]byte, 0, len(msg))
	if n := testing.AllocsPerRun(10, func() { d.Divide(dst, msg, byNumber, nowhere) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTenThousandPartsAreAllThere(t *testing.T) {
	var d remotewrite.Divider
	msg := benchParts(20_000, 10_000)
	_, parts := d.Divide(nil, msg, byNumber, nowhere)
	if len(parts) != 10_000 {
		t.Fatalf("%d parts", len(parts))
	}
	for i, p := range parts {
		counts, err := new(remotewrite.Scanner).Scan(p.Message, remotewrite.Limits{})
		if err != nil || counts != p.Counts || counts.Series != 2 {
			t.Fatalf("part %d: got %+v, Scan says %+v, %v", i, p.Counts, counts, err)
		}
		for v := range remotewrite.Series(p.Message) {
			if string(v.Get("org")) != strconv.Itoa(i) {
				t.Fatalf("part %d has a series of %s", i, v.Get("org"))
			}
		}
	}
}

// benchParts is a message of so many series of as many tenants, which take turns.
func benchParts(series, tenants int) []byte {
	var msg []byte
	source := benchRequest(1, true)
	i := 0
	for i < series {
		for v := range remotewrite.Series(source) {
			if i == series {
				break
			}
			msg = append(msg, timeseries(labels("org", fmt.Sprint(i%tenants)), v)...)
			i++
		}
	}
	return msg
}

func byNumber(v remotewrite.View) int {
	n := 0
	for _, c := range v.Get("org") {
		n = 10*n + int(c-'0')
	}
	return n
}

// The parts together are the whole without what is reserved.
func FuzzDivideLosesNothing(f *testing.F) {
	fuzz(f, checkDivide)
}

func checkDivide(t *testing.T, msg []byte) {
	whole, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{})
	if err != nil {
		return
	}
	entries := entriesSlowly(msg)
	for _, left := range []int{0, 1} { // parts -1 to 2, or 0 to 3
		part := func(content []byte) int {
			return int(binary.LittleEndian.Uint32(append(bytes.Clone(content), 0, 0, 0, 0)))>>3%4 - left
		}
		var seen int
		see := func(outer int, content []byte) int {
			if e := entries[seen]; e.outer != outer || !bytes.Equal(e.content, content) {
				t.Fatalf("entry %d is shown as %x, want %x", seen, content, e.content)
			}
			seen++
			return part(content)
		}
		var d remotewrite.Divider
		out, parts := d.Divide([]byte("before"), msg,
			func(v remotewrite.View) int { return see(1, v) }, func(m remotewrite.MetadataView) int { return see(3, m) })
		if seen != len(entries) || len(out) > len("before")+len(msg) {
			t.Fatalf("%d of %d entries seen, %d bytes of %d", seen, len(entries), len(out), len(msg))
		}
		var sum counts
		for n, p := range parts {
			want := rewriteSlowly(msg, slowly{strip: true, bare: true, gone: func(entry int) bool { return part(entries[entry].content) != n }})
			if !bytes.Equal(p.Message, want) {
				t.Fatalf("part %d:\ngot  %x\nwant %x", n, p.Message, want)
			}
			if scanned, err := new(remotewrite.Scanner).Scan(p.Message, remotewrite.Limits{}); err != nil || scanned != p.Counts {
				t.Fatalf("part %d: counted %+v; Scan says %+v, %v", n, p.Counts, scanned, err)
			}
			sum = add(sum, p.Counts)
		}
		if left > 0 {
			continue
		}
		whole.Reserved = 0
		whole.Labels, whole.LongestName, whole.LongestValue = sum.Labels, sum.LongestName, sum.LongestValue
		if sum != whole {
			t.Fatalf("the parts hold %+v, the whole %+v", sum, whole)
		}
	}
}
