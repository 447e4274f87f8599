package tenant

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTagsAreWhatTheyWereMadeOf(t *testing.T) {
	for name, c := range map[string]struct {
		labels map[string]string
		text   string
	}{
		"none":               {nil, "{}"},
		"one":                {map[string]string{"org": "acme"}, `{org="acme"}`},
		"in order":           {map[string]string{"b": "2", "a": "1", "c": "3", "B": "0"}, `{B="0", a="1", b="2", c="3"}`},
		"of any characters":  {map[string]string{"größe": "x\"y\n", "a b": "\x00"}, `{a b="\x00", größe="x\"y\n"}`},
		"longer than a byte": {map[string]string{"n": strings.Repeat("v", 300)}, `{n="` + strings.Repeat("v", 300) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			tags, err := NewTags(c.labels)
			if err != nil {
				t.Fatal(err)
			}
			if err := tags.Check(); err != nil {
				t.Errorf("Check: %v", err)
			}
			if tags.String() != c.text {
				t.Errorf("got %s, want %s", tags, c.text)
			}
			got := map[string]string{}
			for name, value := range tags.All() {
				got[string(name)] = string(value)
			}
			if !maps.Equal(got, c.labels) {
				t.Errorf("All yields %q, want %q", got, c.labels)
			}
		})
	}
}

func TestWhatIsNoTagIsRefused(t *testing.T) {
	refused := map[string]map[string]string{
		"no name":   {"": "x"},
		"no value":  {"x": ""},
		"a metric":  {"__name__": "up"},
		"a bucket":  {"vmrange": "1...2"},
		"an equals": {"a=b": "x"},
		"no UTF-8":  {"a\xff": "x"},
		"bad value": {"a": "\xff"},
		"too large": {
			"a": strings.Repeat("x", MaxTagValue), "b": strings.Repeat("x", MaxTagValue),
			"c": strings.Repeat("x", MaxTagValue), "d": strings.Repeat("x", MaxTagValue),
		},
		"among good":  {"a": "b", "vm_account_id": "1"},
		"one of many": {"a": "b", "c": "", "d": "e"},
	}
	for _, name := range Reserved {
		refused[name] = map[string]string{name: "1"}
	}
	for name, labels := range refused {
		if tags, err := NewTags(labels); err == nil {
			t.Errorf("%s: got %s, want an error", name, tags)
		}
	}
}

// numbered are n labels.
func numbered(n int) map[string]string {
	labels := map[string]string{}
	for i := range n {
		labels[fmt.Sprintf("label_%02d", i)] = "x"
	}
	return labels
}

func TestATagThatVminsertWouldCutIsNamedWithItsLengthAndTheLimit(t *testing.T) {
	for want, labels := range map[string]map[string]string{
		"": {strings.Repeat("n", 256): strings.Repeat("v", 4096)},
		`tag "` + strings.Repeat("n", 40) + `"…: a name of 257 bytes: at most 256 are allowed`: {strings.Repeat("n", 257): "v"},
		`tag "org": a value of 4097 bytes: at most 4096 are allowed`:                           {"org": strings.Repeat("v", 4097)},
		"21 tags: at most 20 are allowed":                                                      numbered(21),
	} {
		_, err := NewTags(labels)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := NewTags(numbered(20)); err != nil {
		t.Error(err)
	}
}

// written encodes texts as tags are, in the order they have.
func written(texts ...string) (t Tags) {
	for _, s := range texts {
		t = append(binary.AppendUvarint(t, uint64(len(s))), s...)
	}
	return t
}

func many(n int) (t Tags) {
	for i := range n {
		t = append(t, written(fmt.Sprintf("label_%02d", i), "x")...)
	}
	return t
}

func TestCheckFindsWhatNewTagsDoesNotMake(t *testing.T) {
	good := written("a", "1", "b", "2")
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, tags := range map[string]Tags{
		"a name without value":      written("a"),
		"a name after others":       written("a", "1", "b"),
		"an empty name":             written("", "1"),
		"an empty value":            written("a", ""),
		"not in order":              written("b", "2", "a", "1"),
		"a name twice":              written("a", "1", "a", "2"),
		"a reserved name":           written("vm_project_id", "1"),
		"a metric name":             written("__name__", "up"),
		"a length beyond the end":   append(slices.Clone(good), 5, 'x'),
		"a length of many bytes":    append(slices.Clone(good), slices.Repeat([]byte{0xff}, 10)...),
		"a length that is too long": {0x81, 0x00, 'a', 1, '1'},
		"bytes after the end":       append(slices.Clone(good), 0),
		"too long a value":          written("a", strings.Repeat("x", MaxTagValue+1)),
		"too long a name":           written(strings.Repeat("x", MaxTagName+1), "a"),
		"too many":                  many(MaxTagCount + 1),
	} {
		if err := tags.Check(); err == nil {
			t.Errorf("%s: %q passes", name, tags)
		}
	}
	for n := 1; n < len(good); n++ {
		if err := good[:n].Check(); err == nil && n != len(written("a", "1")) {
			t.Errorf("the first %d bytes pass", n)
		}
	}
}

func TestAllEndsWhenItsReaderDoes(t *testing.T) {
	n := 0
	for range written("a", "1", "b", "2").All() {
		n++
		break
	}
	if n != 1 {
		t.Errorf("%d tags", n)
	}
}

// FuzzTags: what passes Check is exactly what NewTags makes of the same labels, and nothing panics.
func FuzzTags(f *testing.F) {
	f.Add([]byte(written("a", "1", "b", "2")))
	f.Add([]byte(written("b", "1", "a", "2")))
	f.Add([]byte{0x81, 0x00, 'a', 1, '1'})
	f.Add([]byte{1, 'a', 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		tags := Tags(b)
		labels := map[string]string{}
		for name, value := range tags.All() {
			labels[string(name)] = string(value)
		}
		_ = tags.String()
		if tags.Check() != nil {
			return
		}
		made, err := NewTags(labels)
		if err != nil || string(made) != string(tags) {
			t.Fatalf("%q passes, and NewTags makes %q, %v of it", tags, made, err)
		}
	})
}

func BenchmarkTags(b *testing.B) {
	labels := map[string]string{}
	for i := range 5 {
		labels[fmt.Sprint("label", i)] = "a value"
	}
	tags, err := NewTags(labels)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for name := range tags.All() {
			n += len(name)
		}
	}
}
