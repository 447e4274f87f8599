package remotewrite_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

func view(parts ...[]byte) remotewrite.View { return join(parts...) }

func TestViewGetsTheValueThatCounts(t *testing.T) {
	long := strings.Repeat("v", 5000)
	v := view(sample(1, now), labels("job", "node", "empty", ""), sample(2, now), message(1, text(1, "bare")), number(99, 1),
		message(1, join(text(2, "turned"), text(1, "round"))),
		message(1, join(text(1, "first"), text(2, "1"), text(1, "second"), text(2, "2"))),
		message(1, join(text(1, "odd"), number(7, 7), text(2, "x"))),
		exemplar(labels("trace", "t")), labels("long", long), up)
	for name, want := range map[string]string{
		"__name__": "up", "job": "node", "empty": "", "bare": "", "round": "turned", "second": "2", "odd": "x", "long": long,
	} {
		if got := v.Get(name); got == nil || string(got) != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"", "jo", "jobs", "first", "trace", "node"} {
		if got := v.Get(name); got != nil {
			t.Errorf("%s: got %q, want nil", name, got)
		}
	}
}

func TestViewCountsAsScanDoes(t *testing.T) {
	v := view(up, labels("a", "1"), sample(1, now), sample(2, now))
	if samples, histograms := v.Samples(); samples != 2 || histograms != 0 || v.Labels() != 2 {
		t.Errorf("%d samples, %d histograms, %d labels", samples, histograms, v.Labels())
	}
	v = view(up, integerHistogram, floatHistogram)
	if samples, histograms := v.Samples(); samples != 0 || histograms != 2 || v.Labels() != 2 {
		t.Errorf("%d samples, %d histograms, %d labels; want vmrange among them", samples, histograms, v.Labels())
	}
	if name, value := view(up, labels("a", "123", strings.Repeat("n", 200), "x")).Longest(); name != 200 || value != 3 {
		t.Errorf("the longest are %d, %d", name, value)
	}
}

func TestHashIsThatOfTheLabelsAlone(t *testing.T) {
	l, more := labels("__name__", "up", "job", "a"), labels("z", "1")
	series := view(l, more, sample(1, now))
	for promise, same := range map[string]remotewrite.View{
		"other samples":          view(l, more, sample(2, now+15000), sample(3, now+30000)),
		"no samples":             view(l, more),
		"samples first":          view(sample(1, now), l, more),
		"samples between":        view(l, sample(1, now), more),
		"samples all around":     view(sample(1, now), l, sample(1, now), more, sample(1, now)),
		"exemplars and unknowns": view(number(99, 3), l, exemplar(labels("trace", "1")), more, integerHistogram, text(50, "x")),
	} {
		if same.Hash() != series.Hash() {
			t.Errorf("%s: another hash", promise)
		}
	}
	for promise, other := range map[string]remotewrite.View{
		"another value":   view(labels("__name__", "up", "job", "b"), more, sample(1, now)),
		"a label less":    view(l, sample(1, now)),
		"the other order": view(more, l, sample(1, now)),
		"nothing":         nil,
	} {
		if other.Hash() == series.Hash() {
			t.Errorf("%s: the same hash", promise)
		}
	}
}

func TestViewsAllocateNothing(t *testing.T) {
	usual := view(up, labels("job", "node", "instance", "x"), sample(1, now))
	apart := view(up, sample(1, now), labels("job", "node"), sample(1, now), labels("instance", strings.Repeat("x", 300)))
	for _, v := range []remotewrite.View{usual, apart} {
		if n := testing.AllocsPerRun(10, func() {
			v.Get("instance")
			v.Hash()
			v.Labels()
			v.Longest()
			v.Samples()
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// What a View says is what Google's protobuf decodes.
func FuzzViewsSayWhatIsThere(f *testing.F) {
	fuzz(f, checkViews)
}

func checkViews(t *testing.T, msg []byte) {
	if _, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); err != nil {
		return
	}
	want, err := decode(msg)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for v := range remotewrite.Series(msg) {
		s := want.series[i]
		i++
		name, value := 0, 0
		for _, l := range s.labels {
			name, value = max(name, len(l.name)), max(value, len(l.value))
			if got := v.Get(l.name); got == nil || string(got) != l.value {
				t.Fatalf("%q is %q, want %q", l.name, got, l.value)
			}
		}
		gotName, gotValue := v.Longest()
		samples, histograms := v.Samples()
		if v.Get("no such label") != nil || v.Labels() != s.counts().Labels || samples != len(s.samples) || histograms != len(s.histograms) ||
			gotName != name || gotValue != value {
			t.Fatalf("%d labels, %d samples, %d histograms, longest %d and %d; want %+v", v.Labels(), samples, histograms, gotName, gotValue, s)
		}
		if all := labelsSlowly(v); v.Hash() != xxhash.Sum64(all) || view(sample(5, 5), all).Hash() != v.Hash() {
			t.Fatalf("%x has the hash %x", []byte(v), v.Hash())
		}
	}
	got := slices.Collect(remotewrite.Metadata(msg))
	if entries := slices.Collect(metadataSlowly(msg)); !slices.EqualFunc(got, entries, func(m remotewrite.MetadataView, e []byte) bool { return bytes.Equal(m, e) }) {
		t.Fatalf("the metadata is %x, want %x", got, entries)
	}
	for _, entry := range got {
		checkMetadataView(t, entry)
	}
}

func checkMetadataView(t *testing.T, entry []byte) {
	m := remotewrite.MetadataView(entry)
	request := decodeMetadata(t, message(3, entry))
	account, project, ok := m.Tenant()
	reserved := !bytes.Equal(rewriteSlowly(message(3, entry), slowly{strip: true}), message(3, entry))
	if string(m.Family()) != request[0].MetricFamilyName || account != request[0].AccountID || project != request[0].ProjectID || ok != reserved {
		t.Fatalf("got %q of %d:%d (%t), want %+v", m.Family(), account, project, ok, request[0])
	}
}
