package remotewrite_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

func TestTheTenantIsWrittenLast(t *testing.T) {
	tenant := labels("vm_account_id", "12", "vm_project_id", "4294967295")
	fields := join(number(11, 12), number(12, math.MaxUint32))
	for _, tc := range []struct {
		promise   string
		tags      []remotewrite.Label
		msg, want []byte
		labels    int
	}{
		{"an empty message", nil, nil, nil, 0},
		{"behind the last label", nil, timeseries(up, labels("z", "1"), sample(1, now)), timeseries(up, labels("z", "1"), tenant, sample(1, now)), 4},
		{"behind labels behind samples", nil, timeseries(sample(1, now), up, sample(2, now), labels("z", "1")),
			timeseries(sample(1, now), up, sample(2, now), labels("z", "1"), tenant), 4},
		{"behind tags", tags("org", "acme"), timeseries(up, labels("org", "evil"), sample(1, now)), timeseries(up, labels("org", "acme"), tenant, sample(1, now)), 4},
		{"behind labels that go", tags("org", "acme"), timeseries(labels("org", "evil"), up, sample(1, now), labels("org", "evil")),
			timeseries(up, sample(1, now), labels("org", "acme"), tenant), 4},
		{"into each series", nil, join(timeseries(up), text(9, "?"), timeseries(up, labels("a", "1"))),
			join(timeseries(up, tenant), timeseries(up, labels("a", "1"), tenant)), 4},
		{"vmrange counts", nil, timeseries(up, integerHistogram), timeseries(up, tenant, integerHistogram), 4},
		{"into metadata", nil, metadata(number(11, 5), text(2, "up"), number(12, 0), number(11, 7)), metadata(text(2, "up"), fields), 0},
		{"into empty metadata", nil, metadata(), metadata(fields), 0},
	} {
		t.Run(tc.promise, func(t *testing.T) {
			got, labels, err := remotewrite.AppendPacked([]byte("dst"), tc.msg, 12, math.MaxUint32, tc.tags)
			if err != nil || !bytes.Equal(got, join([]byte("dst"), tc.want)) || labels != tc.labels {
				t.Errorf("got  %q, %d labels, %v\nwant %q, %d", got, labels, err, tc.want, tc.labels)
			}
		})
	}
}

// Records come from a disk: what cannot be walked is an error.
func TestAppendPackedRefusesWhatItCannotWalk(t *testing.T) {
	good := timeseries(up, sample(1, now))
	for promise, bad := range map[string][]byte{
		"a cut message":              good[:len(good)-1],
		"a cut series":               message(1, up[:len(up)-1]),
		"a cut label":                timeseries(message(1, labels("a", "b")[2:4])),
		"labels of a wrong type":     timeseries(up, number(1, 3)),
		"metadata with a cut number": message(3, field(11, varint, 0x80)),
		"a group":                    field(9, group),
		"a field without a number":   timeseries(up, field(0, delimited, 0)),
	} {
		dst := []byte("dst")
		got, labels, err := remotewrite.AppendPacked(dst, join(good, bad), 1, 2, tags("a", "1"))
		var e *remotewrite.Error
		if !errors.Is(err, remotewrite.ErrMalformed) || !errors.As(err, &e) || e.Offset < len(good) || string(got) != "dst" || labels != 0 {
			t.Errorf("%s: got %q, %d, %v", promise, got, labels, err)
		}
	}
}

func TestPackedSizeIsEnoughWhenLengthsGrow(t *testing.T) {
	for n := range 300 {
		pad := strings.Repeat("x", n)
		for _, msg := range [][]byte{metadata(text(4, pad)), timeseries(text(50, pad)), metadata(), timeseries(up, labels("a", pad))} {
			packed, _, err := remotewrite.AppendPacked(nil, msg, 1, math.MaxUint32, nil)
			series := 0
			if entriesSlowly(msg)[0].outer == 1 {
				series = 1
			}
			size := remotewrite.PackedSize(len(msg), series, 1-series, 1, math.MaxUint32, nil)
			if err != nil || len(packed) > size || size > len(packed)+2 {
				t.Errorf("%q becomes %d bytes, at most %d were announced; %v", msg, len(packed), size, err)
			}
		}
	}
}

func TestAppendPackedAllocatesNothing(t *testing.T) {
	msg := benchRequest(10, true)
	long := tags("org", strings.Repeat("acme", 300))
	dst := make([]byte, 0, remotewrite.PackedSize(len(msg), 200, 0, 1, 2, long))
	if n := testing.AllocsPerRun(10, func() { _, _, _ = remotewrite.AppendPacked(dst, msg, 1, 2, long) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A record that is packed and one that goes by URL are the same series to vminsert.
func FuzzPackedIsTheSameAsByURL(f *testing.F) {
	fuzz(f, checkPack)
}

func checkPack(t *testing.T, msg []byte) {
	checkPackOfAnything(t, msg)
	whole, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{})
	if err != nil {
		return
	}
	msg = remotewrite.Strip(nil, msg)
	neighbour, _, err := remotewrite.AppendPacked(nil, timeseries(up, sample(1, now)), 9, 9, nil)
	if err != nil {
		t.Fatal(err)
	}
	tags := tagsFor(msg)
	account, project := uint32(math.MaxUint32)>>(len(msg)%32), uint32(len(msg)%3)
	packed, most, err := remotewrite.AppendPacked(slices.Clone(neighbour), msg, account, project, tags)
	if err != nil || !bytes.HasPrefix(packed, neighbour) {
		t.Fatalf("%v, or the neighbour has changed", err)
	}
	packed = packed[len(neighbour):]
	want := rewriteSlowly(msg, slowly{tags: tags, tenant: []uint32{account, project}, bare: true})
	if !bytes.Equal(packed, want) {
		t.Fatalf("got  %x\nwant %x", packed, want)
	}
	size := remotewrite.PackedSize(len(msg), whole.Series, whole.Metadata, account, project, tags)
	counts, err := new(remotewrite.Scanner).Scan(packed, remotewrite.Limits{})
	if err != nil || counts.Labels != most || len(packed) > size {
		t.Fatalf("%d bytes of at most %d, %d labels; Scan says %+v, %v", len(packed), size, most, counts, err)
	}
	got, direct := vminsertMultitenant(t, packed), vminsertByURL(t, msg, account, project, tags)
	if !slices.Equal(got, direct) {
		t.Fatalf("packed:\n%q\nby URL:\n%q", got, direct)
	}
}

// checkPackOfAnything holds AppendPacked to its promise about what is malformed.
func checkPackOfAnything(t *testing.T, msg []byte) {
	packed, most, err := remotewrite.AppendPacked([]byte("before"), msg, 1, 2, tagsFor(msg))
	if !bytes.HasPrefix(packed, []byte("before")) || err != nil && (len(packed) > len("before") || most != 0) {
		t.Fatalf("%q, %d, %v", packed, most, err)
	}
}

// vminsertByURL is what vminsert makes of a message that is sent to the tenant's URL with tags as extra_label
// (v1.100.0-cluster:app/vminsert/promremotewrite/request_handler.go:45-60).
func vminsertByURL(t *testing.T, msg []byte, account, project uint32, tags []remotewrite.Label) (rows []string) {
	r, done := unmarshal(t, msg)
	defer done()
	for _, ts := range r.Timeseries {
		added := slices.Clone(ts.Labels)
		for _, tag := range tags {
			added = append(added, prompb.Label{Name: string(tag.Name), Value: string(tag.Value)})
		}
		rows = append(rows, row(account, project, added, ts.Samples))
	}
	for _, m := range r.Metadata {
		m.AccountID, m.ProjectID = account, project
		rows = append(rows, fmt.Sprintf("%+v", m))
	}
	return rows
}

// vminsertMultitenant is what vminsert makes of a message that is sent to the multitenant URL
// (v1.100.0-cluster:app/vminsert/netstorage/insert_ctx.go:275-310).
func vminsertMultitenant(t *testing.T, msg []byte) (rows []string) {
	r, done := unmarshal(t, msg)
	defer done()
	for _, ts := range r.Timeseries {
		var account, project uint32
		var left []prompb.Label
		for _, l := range ts.Labels {
			if l.Value == "" {
				continue
			}
			n, _ := strconv.ParseUint(l.Value, 10, 32)
			switch l.Name {
			case "vm_account_id":
				account = uint32(n)
				continue
			case "vm_project_id":
				project = uint32(n)
				continue
			case "VictoriaMetrics_AccountID":
				account = uint32(n)
			case "VictoriaMetrics_ProjectID":
				project = uint32(n)
			}
			left = append(left, l)
		}
		rows = append(rows, row(account, project, left, ts.Samples))
	}
	for _, m := range r.Metadata {
		rows = append(rows, fmt.Sprintf("%+v", m))
	}
	return rows
}

// row is a series as vmstorage keeps it: of labels of one name the last, none without a value. The order of labels matters too,
// since vminsert chooses the vmstorage by it; apart from vmrange, which vminsert adds itself before extra_label.
func row(account, project uint32, labels []prompb.Label, samples []prompb.Sample) string {
	text := fmt.Sprintf("%d:%d {", account, project)
	var vmrange string
	for i, l := range labels {
		later := slices.ContainsFunc(labels[i+1:], func(other prompb.Label) bool { return other.Name == l.Name && other.Value != "" })
		switch {
		case l.Value == "" || later:
		case l.Name == "vmrange":
			vmrange = l.Value
		default:
			text += fmt.Sprintf("%q=%q ", l.Name, l.Value)
		}
	}
	text += vmrange + "}"
	for _, p := range samples {
		text += fmt.Sprintf(" %x@%d", math.Float64bits(p.Value), p.Timestamp)
	}
	return text
}

func unmarshal(t *testing.T, msg []byte) (r *prompb.WriteRequest, done func()) {
	t.Helper()
	u := prompb.GetWriteRequestUnmarshaler()
	r, err := u.UnmarshalProtobuf(msg)
	if err != nil {
		t.Fatal(err)
	}
	return r, func() { prompb.PutWriteRequestUnmarshaler(u) }
}

func decodeMetadata(t *testing.T, msg []byte) []prompb.MetricMetadata {
	t.Helper()
	r, done := unmarshal(t, msg)
	defer done()
	return slices.Clone(r.Metadata)
}
