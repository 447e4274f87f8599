package remotewrite_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// forgeries are ways to write a label. Each means the same to whoever reads the wire as protobuf does.
var forgeries = []struct {
	way   string
	label func(name, value string) []byte
}{
	{"as usual", func(name, value string) []byte { return labels(name, value) }},
	{"the value first", func(name, value string) []byte { return message(1, join(text(2, value), text(1, name))) }},
	{"the last of two names", func(name, value string) []byte {
		return message(1, join(text(1, "harmless"), text(2, value), text(1, name)))
	}},
	{"the last of three names", func(name, value string) []byte {
		return message(1, join(text(1, "a"), text(1, "job"), text(1, name), text(2, value)))
	}},
	{"the last of two values", func(name, value string) []byte {
		return message(1, join(text(1, name), text(2, "x"), text(2, value)))
	}},
	{"unknown fields around", func(name, value string) []byte {
		return message(1, join(number(9, 1), text(1, name), text(70, "?"), text(2, value), double(3, 1)))
	}},
	{"an unknown field that makes it long", func(name, value string) []byte {
		return message(1, join(text(1, name), text(2, value), text(9, strings.Repeat("x", 300))))
	}},
	{"lengths padded with zero bits", func(name, value string) []byte {
		padded := func(number uint64, s string) []byte {
			return join(field(number, delimited, 0x80|byte(len(s)), 0x80, 0x00), []byte(s))
		}
		label := join(padded(1, name), padded(2, value))
		return join([]byte{0x0a, 0x80 | byte(len(label)), 0x00}, label)
	}},
	{"tags padded with zero bits", func(name, value string) []byte {
		label := join([]byte{0x8a, 0x00}, text(1, name)[1:], []byte{0x92, 0x80, 0x00}, text(2, value)[1:])
		return join([]byte{0x8a, 0x80, 0x00, byte(len(label))}, label)
	}},
	// Whoever takes the first byte of the padded length for all of it sees one value up to the end of the label.
	{"behind a length that looks like another", func(name, value string) []byte {
		behind := join(text(2, value), text(1, name))
		behind = append(behind, text(9, strings.Repeat("x", 127-2-len(behind)))...)
		return message(1, join(text(1, "harmless"), field(2, delimited, 0x81, 0x00, 'v'), behind))
	}},
}

// places are where in a series a label can stand.
var places = []struct {
	place  string
	series func(label []byte) []byte
}{
	{"first", func(label []byte) []byte { return join(label, up, labels("z", "1"), sample(1, now)) }},
	{"in the middle", func(label []byte) []byte { return join(up, label, labels("z", "1"), sample(1, now)) }},
	{"last", func(label []byte) []byte { return join(up, labels("z", "1"), label, sample(1, now)) }},
	{"behind the samples", func(label []byte) []byte { return join(up, labels("z", "1"), sample(1, now), label) }},
	{"between samples", func(label []byte) []byte {
		return join(up, labels("z", "1"), number(99, 1), sample(2, now-1), label, sample(1, now))
	}},
	{"beside a histogram", func(label []byte) []byte { return join(up, label, integerHistogram, labels("z", "1")) }},
}

var reservedNames = []string{"vm_account_id", "vm_project_id", "VictoriaMetrics_AccountID", "VictoriaMetrics_ProjectID"}

func TestNoForgedTenantGetsThrough(t *testing.T) {
	for _, name := range reservedNames {
		for _, forgery := range forgeries {
			for _, at := range places {
				t.Run(name+"/"+forgery.way+"/"+at.place, func(t *testing.T) {
					msg := join(timeseries(up), timeseries(at.series(forgery.label(name, "666"))), timeseries(at.series(nil)))
					checkForged(t, msg, join(timeseries(up), timeseries(at.series(nil)), timeseries(at.series(nil))))
				})
			}
		}
	}
}

func TestNoForgedTenantGetsThroughInMetadata(t *testing.T) {
	honest := join(number(1, 2), text(2, "up"), text(4, "Help."))
	for promise, forged := range map[string][]byte{
		"account first":  join(number(11, 666), honest),
		"project last":   join(honest, number(12, 666)),
		"both, twice":    join(number(11, 666), number(12, 666), honest, number(12, 0), number(11, 667)),
		"padded numbers": join(honest, field(11, varint, 0x80|0x1a, 0x80|0x05, 0x80, 0x00), []byte{0xe0, 0x80, 0x00, 0x05}),
	} {
		t.Run(promise, func(t *testing.T) {
			checkForged(t, join(timeseries(up), message(3, forged)), join(timeseries(up), message(3, honest)))
		})
	}
}

// checkForged sends msg through everything that rewrites. Nothing but honest may come out, and of 12:34 when it is packed.
func checkForged(t *testing.T, msg, honest []byte) {
	t.Helper()
	counts, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{})
	if err != nil || counts.Reserved == 0 {
		t.Fatalf("Scan sees nothing: %+v, %v", counts, err)
	}
	if got := remotewrite.Strip(nil, msg); string(got) != string(honest) {
		t.Errorf("Strip: got  %q\nwant %q", got, honest)
	}
	var d remotewrite.Divider
	if got, _ := d.Divide(nil, msg, func(remotewrite.View) int { return 0 }, func(remotewrite.MetadataView) int { return 0 }); string(got) != string(honest) {
		t.Errorf("Divide: got  %q\nwant %q", got, honest)
	}
	org := tags("org", "acme")
	edit := remotewrite.Edit{Tags: org}
	got, _ := edit.Apply(nil, msg)
	if rows, want := vminsertMultitenant(t, got), vminsertByURL(t, honest, 0, 0, org); !slices.Equal(rows, want) {
		t.Errorf("Edit: got  %q\nwant %q", rows, want)
	}
	packed, _, err := remotewrite.AppendPacked(nil, msg, 12, 34, nil) // what was not stripped is not believed either
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range vminsertMultitenant(t, packed) {
		if !strings.HasPrefix(row, "12:34 ") && !strings.Contains(row, "AccountID:12 ProjectID:34") {
			t.Errorf("packed: %s", row)
		}
	}
}

// A sender's label of a tag's name goes however it is written.
func TestNoLabelOfATagsNameStays(t *testing.T) {
	org := tags("org", "acme")
	for _, forgery := range forgeries {
		for _, at := range places {
			t.Run(forgery.way+"/"+at.place, func(t *testing.T) {
				msg := timeseries(at.series(forgery.label("org", "evil")))
				packed, _, err := remotewrite.AppendPacked(nil, msg, 12, 34, org)
				if err != nil || strings.Contains(string(packed), "evil") {
					t.Errorf("got %q, %v", packed, err)
				}
				edit := remotewrite.Edit{Tags: org}
				if got, _ := edit.Apply(nil, msg); strings.Contains(string(got), "evil") {
					t.Errorf("got %q", got)
				}
			})
		}
	}
}
