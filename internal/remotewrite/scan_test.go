package remotewrite_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

type counts = remotewrite.Counts

var (
	up       = labels("__name__", "up")
	now      = int64(1_790_000_000_000)
	staleNaN = math.Float64frombits(0x7ff0000000000002)
)

func exemplar(parts ...[]byte) []byte  { return message(3, join(parts...)) }
func histogram(parts ...[]byte) []byte { return message(4, join(parts...)) }
func metadata(parts ...[]byte) []byte  { return message(3, join(parts...)) }

func bucketSpan(offset int64, length uint64) []byte {
	return join(number(1, zigzag(offset)), number(2, length))
}

func deltas(of ...int64) []byte {
	var b []byte
	for _, d := range of {
		b = append(b, uvarint(zigzag(d))...)
	}
	return b
}

func doubles(of ...float64) []byte {
	var b []byte
	for _, v := range of {
		b = append(b, float(v)...)
	}
	return b
}

// manyLabels are n labels that descend.
func manyLabels(n int) []byte {
	var b []byte
	for i := n; i > 0; i-- {
		b = append(b, labels(fmt.Sprintf("label_%08d_of_many_labels", i), "v")...)
	}
	return b
}

var (
	integerHistogram = histogram(number(1, 8), double(3, 18.4), number(4, zigzag(1)), double(5, 1e-9), number(6, 1),
		message(8, bucketSpan(-2, 1)), message(9, deltas(2)),
		message(11, bucketSpan(0, 2)), message(11, bucketSpan(3, 1)), message(12, deltas(1, 1, 0)),
		number(14, 3), number(15, uint64(now)))
	floatHistogram = histogram(double(2, 7.5), double(3, 1), number(4, zigzag(0)), double(7, 0.5),
		message(11, bucketSpan(0, 2)), message(13, doubles(3, 4)), number(15, uint64(now)))
	customHistogram = histogram(number(1, 6), number(4, zigzag(-53)), message(11, bucketSpan(1, 2)), message(12, deltas(2, 2)),
		message(16, doubles(0.5, 1)), number(15, uint64(now)))
)

var accepted = []struct {
	promise string
	msg     []byte
	want    counts
}{
	{"an empty message", nil, counts{}},
	{"a series with one sample", timeseries(up, sample(1, now)), counts{Series: 1, Samples: 1, Labels: 1, Newest: now, Oldest: now}},
	{"many samples", timeseries(up, sample(1, now), sample(2, now+1), sample(0, 0), sample(-1, -1)),
		counts{Series: 1, Samples: 4, Labels: 1, Newest: now + 1, Oldest: -1}},
	{"stale markers, NaN, infinities", timeseries(up, sample(staleNaN, now), sample(math.NaN(), now), sample(math.Inf(-1), now)),
		counts{Series: 1, Samples: 3, Labels: 1, Newest: now, Oldest: now}},
	{"a sample without fields", timeseries(up, message(2, nil)), counts{Series: 1, Samples: 1, Labels: 1}},
	{"a sample with its fields turned round", timeseries(up, message(2, join(number(2, 5), double(1, 2)))),
		counts{Series: 1, Samples: 1, Labels: 1, Newest: 5, Oldest: 5}},
	{"a series without samples", timeseries(up), counts{Series: 1, Labels: 1}},
	{"an exemplar without samples", timeseries(up, exemplar(labels("trace_id", "x"), double(2, 1), number(3, 5))),
		counts{Series: 1, Exemplars: 1, Labels: 1}},
	{"an exemplar with a reserved label", timeseries(up, exemplar(labels("vm_account_id", "7"))),
		counts{Series: 1, Exemplars: 1, Labels: 1}},
	{"unsorted labels", timeseries(labels("job", "a", "instance", "b", "__name__", "up")), counts{Series: 1, Labels: 3}},
	{"many unsorted labels", timeseries(up, manyLabels(65)), counts{Series: 1, Labels: 66}},
	{"labels behind samples", timeseries(sample(1, now), labels("b", "1"), sample(2, now), up),
		counts{Series: 1, Samples: 2, Labels: 2, Newest: now, Oldest: now}},
	{"the value of a label before its name", timeseries(message(1, join(text(2, "up"), text(1, "__name__")))),
		counts{Series: 1, Labels: 1}},
	{"the last of two names in one label", timeseries(up, message(1, join(text(1, "__name__"), text(1, "b"), text(2, "1")))),
		counts{Series: 1, Labels: 2}},
	{"a label with an empty value", timeseries(up, labels("a", "")), counts{Series: 1, Labels: 2}},
	{"a label without a value", timeseries(up, message(1, text(1, "a"))), counts{Series: 1, Labels: 2}},
	{"names of any UTF-8", timeseries(labels("__name__", "wärme.°C", "straße", "größe")), counts{Series: 1, Labels: 2}},
	{"long names and values", timeseries(up, labels(strings.Repeat("n", 300), strings.Repeat("v", 70_000), "z", strings.Repeat("é", 100))),
		counts{Series: 1, Labels: 3, LongestName: 300, LongestValue: 70000}},
	{"names that differ behind a zero byte", timeseries(up, labels("a\x00", "1", "a", "2", "a\x00\x00", "3")),
		counts{Series: 1, Labels: 4}},
	{"several series with equal labels", join(timeseries(up, sample(1, now)), timeseries(up, sample(2, now))),
		counts{Series: 2, Samples: 2, Labels: 1, Newest: now, Oldest: now}},
	{"unknown fields of every type", join(field(2, fixed32, 1, 2, 3, 4), timeseries(up, number(9, 1), text(1000, "x"), double(77, 1)),
		text(1<<29-1, "y")), counts{Series: 1, Labels: 1}},
	{"an unknown field that looks like a sample", timeseries(up, message(5, sample(1, now)[2:])), counts{Series: 1, Labels: 1}},
	{"numbers padded with zero bits", timeseries(up, []byte{0x92, 0x00, 0x83, 0x80, 0x00, 0x10, 0x85, 0x00}),
		counts{Series: 1, Samples: 1, Labels: 1, Newest: 5, Oldest: 5}},
	{"metadata", metadata(number(1, 2), text(2, "up"), text(4, "Größe"), text(5, "s"), number(8, 1)),
		counts{Metadata: 1}},
	{"metadata of an unknown type", metadata(number(1, 77)), counts{Metadata: 1}},
	{"reserved metadata fields, counted", metadata(number(11, 7), number(12, 0), number(12, 1)),
		counts{Metadata: 1, Reserved: 3}},
	{"reserved labels, counted", timeseries(up, labels("vm_account_id", "7", "vm_project_id", "", "VictoriaMetrics_AccountID", "x",
		"VictoriaMetrics_ProjectID", "8", "vm_account_ix", "1", "VictoriaMetrics_AccountId", "1")), counts{Series: 1, Reserved: 4, Labels: 7}},
	{"an integer histogram", timeseries(up, integerHistogram), counts{Series: 1, Histograms: 1, Labels: 2, Newest: now, Oldest: now}},
	{"a float histogram", timeseries(up, floatHistogram, floatHistogram), counts{Series: 1, Histograms: 2, Labels: 2, Newest: now, Oldest: now}},
	{"a histogram with custom buckets", timeseries(up, customHistogram), counts{Series: 1, Histograms: 1, Labels: 2, Newest: now, Oldest: now}},
	{"a histogram of many labels", timeseries(up, labels("b", "", "c", "", "d", "", "e", "", "f", "", "g", "", "h", "", "i", "", "j", "",
		"k", "", "l", "", "m", "", "n", "", "o", "", "p", "", "q", "", "r", ""), histogram(number(1, 1), number(6, 1)),
		histogram(number(1, 1), number(6, 1))), counts{Series: 1, Histograms: 2, Labels: 19}},
	{"an empty histogram", timeseries(up, histogram()), counts{Series: 1, Histograms: 1, Labels: 2}},
	{"a stale histogram", timeseries(up, histogram(number(1, 0), double(3, staleNaN))),
		counts{Series: 1, Histograms: 1, Labels: 2}},
	{"a histogram that observed NaN", timeseries(up, histogram(number(1, 5), double(3, math.NaN()), number(6, 2))),
		counts{Series: 1, Histograms: 1, Labels: 2}},
	{"buckets that are not packed", timeseries(up, histogram(number(1, 3), message(11, bucketSpan(0, 2)), number(12, zigzag(1)),
		number(12, zigzag(1))), histogram(double(2, 3), message(11, bucketSpan(0, 1)), double(13, 3))), counts{Series: 1, Histograms: 2, Labels: 2}},
}

func TestScanAccepts(t *testing.T) {
	for _, tc := range accepted {
		t.Run(tc.promise, func(t *testing.T) {
			got, err := new(remotewrite.Scanner).Scan(tc.msg, remotewrite.Limits{})
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

const (
	malformed = "malformed remote-write message: "
	invalid   = "invalid series: "
)

var refused = []struct {
	promise string
	msg     []byte
	want    string // the whole text
}{
	{"one byte", []byte{0x0a}, malformed + "byte 0: the length of a field is not a varint"},
	{"a message of unknown fields only", number(4, 1),
		malformed + "byte 0: no known field in 2 bytes: not remote-write 1.0 (2.0 looks like this)"},
	{"field number 0", join(timeseries(up), []byte{0x02, 0x00}), malformed + "byte 18: field number out of range"},
	{"a field number that is too large", field(1<<29, varint, 1), malformed + "byte 0: field number out of range"},
	{"a group", field(9, group), malformed + "byte 0: groups are not allowed"},
	{"the end of a group", field(9, 4), malformed + "byte 0: groups are not allowed"},
	{"a length beyond the message", []byte{0x0a, 0x05, 0x0a},
		malformed + "byte 0: the length of a field goes beyond what encloses it"},
	{"a length of 64 bits", append([]byte{0x0a}, uvarint(math.MaxUint64)...),
		malformed + "byte 0: the length of a field goes beyond what encloses it"},
	{"a varint of 65 bits", field(7, varint, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02),
		malformed + "byte 0: the value of a field is not a varint"},
	{"a varint of 11 bytes", field(7, varint, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00),
		malformed + "byte 0: the value of a field is not a varint"},
	{"a cut fixed64", field(7, fixed64, 1, 2, 3),
		malformed + "byte 0: a fixed-width number goes beyond what encloses it"},
	{"a cut fixed32", field(7, fixed32, 1, 2, 3),
		malformed + "byte 0: a fixed-width number goes beyond what encloses it"},
	{"a series of the wrong wire type", number(1, 1), malformed + "byte 0: timeseries (field 1) has wire type varint"},
	{"metadata of the wrong wire type", number(3, 1), malformed + "byte 0: metadata (field 3) has wire type varint"},
	{"labels of the wrong wire type", timeseries(number(1, 1)),
		malformed + "series 0, byte 2: labels of a series (field 1) has wire type varint"},
	{"samples of the wrong wire type", timeseries(up, double(2, 1)),
		malformed + `series 0 ("up"), byte 18: a field of a series (field 2) has wire type fixed64`},
	{"a label's length beyond its series", timeseries([]byte{0x0a, 0x09, 0x0a, 0x01, 'a'}),
		malformed + "series 0, byte 2: the length of a field goes beyond what encloses it"},
	{"a label that ends in the next series", join(timeseries(up, labels("job", "ingest_x")[:16]), timeseries(up)),
		malformed + `series 0 ("up"), byte 18: the length of a field goes beyond what encloses it`},
	{"a name's length beyond its label", timeseries(up, []byte{0x0a, 0x03, 0x0a, 0x04, 'a', 0x12, 0x01, 'b'}),
		malformed + `series 0 ("up"), byte 20: the length of a field goes beyond what encloses it`},
	{"a label's name of the wrong wire type", timeseries(message(1, number(1, 3))),
		malformed + "series 0, byte 4: name or value of a label (field 1) has wire type varint"},
	{"a sample's value as a varint", timeseries(up, message(2, number(1, 3))),
		malformed + `series 0 ("up"), byte 20: value or timestamp of a sample (field 1) has wire type varint`},
	{"a sample's timestamp as fixed64", timeseries(up, message(2, double(2, 3))),
		malformed + `series 0 ("up"), byte 20: value or timestamp of a sample (field 2) has wire type fixed64`},
	{"a timestamp that does not end", timeseries(up, message(2, join(double(1, 1), []byte{0x10, 0x80, 0x80}))),
		malformed + `series 0 ("up"), byte 29: the value of a field is not a varint`},
	{"a timestamp with a stray byte behind", timeseries(up, message(2, join(double(1, 1), []byte{0x10, 0x01, 0x01}))),
		malformed + `series 0 ("up"), byte 31: field number out of range`},
	{"a cut exemplar", timeseries(up, exemplar([]byte{0x0a})),
		malformed + `series 0 ("up"), byte 20: the length of a field is not a varint`},
	{"an exemplar's labels as a varint", timeseries(up, exemplar(number(1, 1))),
		malformed + `series 0 ("up"), byte 20: labels of an exemplar (field 1) has wire type varint`},
	{"an exemplar's value as a varint", timeseries(up, exemplar(number(2, 1))),
		malformed + `series 0 ("up"), byte 20: value of an exemplar (field 2) has wire type varint`},
	{"an exemplar's timestamp as bytes", timeseries(up, exemplar(text(3, ""))),
		malformed + `series 0 ("up"), byte 20: timestamp of an exemplar (field 3) has wire type length-delimited`},
	{"an exemplar's label name as a varint", timeseries(up, exemplar(message(1, number(1, 1)))),
		malformed + `series 0 ("up"), byte 22: name or value of an exemplar's label (field 1) has wire type varint`},
	{"a cut label of an exemplar", timeseries(up, exemplar(message(1, []byte{0x0a, 0x01}))),
		malformed + `series 0 ("up"), byte 22: the length of a field goes beyond what encloses it`},
	{"metadata's help as a varint", metadata(number(4, 1)),
		malformed + "byte 2: a string in metadata (field 4) has wire type varint"},
	{"metadata's account as bytes", metadata(text(11, "7")),
		malformed + "byte 2: a number in metadata (field 11) has wire type length-delimited"},
	{"a negative metadata type", metadata(number(1, math.MaxUint64)),
		malformed + "byte 2: field 1 of metadata is above 32 bits"},
	{"metadata that is not UTF-8", metadata(text(2, "a\xff")), malformed + "byte 4: field 2 of metadata is not UTF-8"},
	{"cut metadata", metadata([]byte{0x12, 0x05}),
		malformed + "byte 2: the length of a field goes beyond what encloses it"},

	{"a series without labels", timeseries(sample(1, now)),
		invalid + "series 0, byte 2: no __name__ label with a value"},
	{"a series without a name", join(timeseries(up), timeseries(labels("job", "x"))),
		invalid + "series 1, byte 20: no __name__ label with a value"},
	{"an empty metric name", timeseries(labels("__name__", "")),
		invalid + "series 0, byte 2: no __name__ label with a value"},
	{"an empty label name", timeseries(up, labels("", "x")),
		invalid + `series 0 ("up"), byte 20: a label without a name`},
	{"an empty label", timeseries(up, message(1, nil)), invalid + `series 0 ("up"), byte 20: a label without a name`},
	{"a label name twice", timeseries(up, labels("a", "1", "a", "2")),
		invalid + `series 0 ("up"), label "a", byte 30: the name stands twice in the series`},
	{"a label name twice, apart", timeseries(up, labels("a", "1", "b", "2", "a", "1")),
		invalid + `series 0 ("up"), label "a", byte 38: the name stands twice in the series`},
	{"a label name twice, once without a value", timeseries(up, labels("a", ""), labels("a", "1")),
		invalid + `series 0 ("up"), label "a", byte 29: the name stands twice in the series`},
	{"a metric name twice", timeseries(up, up),
		invalid + `series 0 ("up"), label "__name__", byte 22: the name stands twice in the series`},
	{"a long label name twice", timeseries(up, labels("a_long_label_name", "1", "b", "2", "a_long_label_name", "3")),
		invalid + `series 0 ("up"), label "a_long_label_name", byte 54: the name stands twice in the series`},
	{"a label name twice among many", timeseries(up, manyLabels(100), labels("label_00000007_of_many_labels", "1")),
		invalid + `series 0 ("up"), label "label_00000007_of_many_labels", byte 3623: the name stands twice in the series`},
	{"a label name that is not UTF-8", timeseries(up, labels("a\xc3", "1")),
		invalid + `series 0 ("up"), label "a\xc3", byte 22: name or value is not UTF-8`},
	{"a label value that is not UTF-8", timeseries(up, labels("b", "1"), labels("a", "\xed\xa0\x80")),
		invalid + `series 0 ("up"), label "a", byte 33: name or value is not UTF-8`},
	{"a long label value that is not UTF-8", timeseries(up, labels("a", strings.Repeat("v", 200)+"\xff")),
		invalid + `series 0 ("up"), label "a", byte 28: name or value is not UTF-8`},
	{"an exemplar's label that is not UTF-8", timeseries(up, exemplar(labels("a", "\xff"))),
		invalid + `series 0 ("up"), byte 27: name or value of an exemplar's label is not UTF-8`},
	{"samples and histograms in one series", timeseries(up, sample(1, now), integerHistogram),
		invalid + `series 0 ("up"), byte 2: both samples and histograms in one series`},
}

func TestScanRefuses(t *testing.T) {
	for _, tc := range refused {
		t.Run(tc.promise, func(t *testing.T) {
			got, err := new(remotewrite.Scanner).Scan(tc.msg, remotewrite.Limits{})
			checkRefused(t, got, err, tc.want)
		})
	}
}

func checkRefused(t *testing.T, got counts, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %v", err, want)
	}
	if got != (counts{}) {
		t.Errorf("refused, but counted %+v", got)
	}
	kind := remotewrite.ErrMalformed
	if strings.HasPrefix(want, invalid) {
		kind = remotewrite.ErrInvalidSeries
	}
	if !errors.Is(err, kind) {
		t.Errorf("%v does not wrap %v", err, kind)
	}
}

func TestScanRefusesHistogramsThatDoNotAddUp(t *testing.T) {
	custom := number(4, zigzag(-53))
	for _, tc := range []struct {
		histogram []byte
		want      string
	}{
		{join(number(1, 2), number(6, 1)), "fewer observations in buckets than in the count"},
		{join(number(1, 2), number(6, 3)), "more observations in buckets than in the count"},
		{join(number(1, 2), number(6, 3), double(3, math.NaN())), "more observations in buckets than in the count"},
		{join(number(1, 1), number(6, 2), message(11, bucketSpan(0, 1)), message(12, deltas(-1))), "a bucket's count is negative"},
		{join(message(11, bucketSpan(0, 2)), message(12, deltas(math.MaxInt64, 1))), "a bucket's count is negative"},
		{join(message(11, bucketSpan(0, 3)), message(12, deltas(math.MaxInt64, 0, 0))), "the buckets hold more than 64 bits can count"},
		{join(number(1, 1), number(6, math.MaxUint64), message(8, bucketSpan(0, 1)), message(9, deltas(2))), "more observations in buckets than in the count"},
		{join(double(2, 1), message(8, bucketSpan(0, 1)), message(10, doubles(-1))), "a bucket's count is negative"},
		{double(2, -1), "the count is negative"},
		{double(7, -1), "the zero bucket's count is negative"},
		{join(number(1, 1), message(13, doubles(1)), message(11, bucketSpan(0, 1))), "integer and float counts in one histogram"},
		{join(number(1, 0), double(2, 0)), "integer and float counts in one histogram"},
		{message(11, bucketSpan(0, 1)), "positive spans and buckets differ in number"},
		{message(11, bucketSpan(0, math.MaxUint32)), "a span ends beyond the last bucket there can be"},
		{message(8, bucketSpan(0, 1)), "negative spans and buckets differ in number"},
		{message(9, deltas(0)), "negative spans and buckets differ in number"},
		{join(message(11, bucketSpan(0, 0)), message(11, bucketSpan(-1, 0))), "a span begins before the end of the one before"},
		{number(4, zigzag(53)), "unknown schema"},
		{number(4, zigzag(-10)), "unknown schema"},
		{message(16, doubles(1)), "custom bounds in an exponential histogram"},
		{join(custom, message(16, doubles(2, 1))), "custom bounds do not ascend"},
		{join(custom, message(16, doubles(1)), double(16, 1)), "custom bounds do not ascend"},
		{join(custom, message(16, doubles(math.NaN()))), "a custom bound is NaN or +Inf"},
		{join(custom, message(16, doubles(1, math.Inf(1)))), "a custom bound is NaN or +Inf"},
		{join(custom, message(16, doubles(1)), message(11, bucketSpan(0, 3)), message(12, deltas(0, 0, 0))), "more buckets than custom bounds"},
		{join(custom, message(11, bucketSpan(-1, 1)), message(12, deltas(0))), "a bucket below the first custom bound's"},
		{join(custom, message(8, bucketSpan(0, 0))), "negative buckets beside custom bounds"},
		{join(custom, number(1, 1), number(6, 1)), "a zero bucket beside custom bounds"},
		{join(custom, double(5, 1)), "a zero bucket beside custom bounds"},
	} {
		got, err := new(remotewrite.Scanner).Scan(timeseries(up, histogram(tc.histogram)), remotewrite.Limits{})
		at := len(timeseries(up, histogram(tc.histogram))) - len(tc.histogram)
		checkRefused(t, got, err, fmt.Sprintf(`%sseries 0 ("up"), byte %d: histogram: %s`, invalid, at, tc.want))
	}
}

func TestScanRefusesMalformedHistograms(t *testing.T) {
	wrongType := "a field has the wrong wire type"
	for _, tc := range []struct {
		histogram []byte
		want      string
	}{
		{double(1, 0), wrongType}, {number(2, 0), wrongType}, {number(3, 0), wrongType}, {double(4, 0), wrongType},
		{number(5, 0), wrongType}, {text(6, ""), wrongType}, {number(7, 0), wrongType}, {number(8, 0), wrongType},
		{double(9, 0), wrongType}, {number(10, 0), wrongType}, {double(11, 0), wrongType}, {double(12, 0), wrongType},
		{field(13, fixed32, 1, 2, 3, 4), wrongType}, {double(14, 0), wrongType}, {text(15, ""), wrongType}, {number(16, 0), wrongType},
		{message(8, double(1, 0)), wrongType},
		{message(11, double(2, 0)), wrongType},
		{message(11, number(1, math.MaxUint32+1)), "a signed number is above 32 bits"},
		{message(11, number(2, math.MaxUint32+1)), "a span's length is above 32 bits"},
		{number(4, math.MaxUint32+1), "a signed number is above 32 bits"},
		{message(12, []byte{0x80}), "a packed bucket is not a varint"},
		{message(13, []byte{1, 2, 3}), "packed doubles of a length that is no multiple of 8"},
		{message(11, []byte{0x08}), "the value of a field is not a varint"},
		{[]byte{0x08}, "the value of a field is not a varint"},
	} {
		got, err := new(remotewrite.Scanner).Scan(timeseries(up, histogram(tc.histogram)), remotewrite.Limits{})
		at := len(timeseries(up, histogram(tc.histogram))) - len(tc.histogram)
		checkRefused(t, got, err, fmt.Sprintf(`%sseries 0 ("up"), byte %d: histogram: %s`, malformed, at, tc.want))
	}
}

func TestScanHoldsTheLimitOfSeries(t *testing.T) {
	msg := join(timeseries(up), metadata(), timeseries(up))
	for limit, want := range map[int]string{
		0: "", 2: "", 3: "",
		1: "too many series: byte 20: the limit is 1 series per message",
	} {
		_, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{Series: limit})
		if got := fmt.Sprint(err); want != "" && got != want || want == "" && err != nil {
			t.Errorf("limit %d: got %v, want %q", limit, err, want)
		}
		if want != "" && !errors.Is(err, remotewrite.ErrTooManySeries) {
			t.Errorf("limit %d: %v is of the wrong kind", limit, err)
		}
	}
}

func TestScanHoldsTheLimitOfLegacyNames(t *testing.T) {
	const name = "the name must match [a-zA-Z_][a-zA-Z0-9_]*"
	metric := func(text string) string { return "the metric name " + text + " must match [a-zA-Z_:][a-zA-Z0-9_:]*" }
	for _, tc := range []struct{ name, value, want string }{
		{"__name__", "job:up:sum1", ""},
		{"__name__", "wärme", metric(`"wärme"`)},
		{"__name__", "1up", metric(`"1up"`)},
		{"a_Z9", "größe", ""},
		{"_", "", ""},
		{"a:b", "", name},
		{"9a", "", name},
		{"a-b", "", name},
		{"a\x00", "", name},
		{"a@", "", name},
		{"ä", "", name},
	} {
		usual := labels(tc.name, tc.value)
		odd := message(1, join(number(3, 0), text(1, tc.name), text(2, tc.value)))
		for how, label := range map[string][]byte{"usual": usual, "odd": odd} {
			msg := timeseries(label, up)
			if tc.name == "__name__" {
				msg = timeseries(label)
			}
			var e *remotewrite.Error
			_, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{LegacyNames: true})
			if refused := errors.As(err, &e); refused != (tc.want != "") ||
				refused && (e.Reason != tc.want || e.Label != tc.name || !errors.Is(e, remotewrite.ErrInvalidSeries)) {
				t.Errorf("%q=%q, %s: got %v, want %q", tc.name, tc.value, how, err, tc.want)
			}
			if _, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); err != nil {
				t.Errorf("%q=%q, %s, without the limit: %v", tc.name, tc.value, how, err)
			}
		}
	}
}

// A message of 20 KB makes VictoriaMetrics v1.151.0 allocate 638 MB.
func TestScanRefusesHistogramsThatExpandWithoutMeasure(t *testing.T) {
	const limit = 256 << 20
	buckets := func(n int) []byte {
		return histogram(number(1, uint64(n)), message(11, bucketSpan(0, uint64(n))), message(12, append(deltas(1), make([]byte, n-1)...)))
	}
	var many []byte
	for i := range 1000 {
		many = append(many, labels(fmt.Sprintf("l%03d", i), "v")...)
	}
	bomb := timeseries(up, many, buckets(10_000))
	longName := timeseries(labels("__name__", strings.Repeat("n", 100_000)), slices.Repeat(histogram(), 1000))
	for _, tc := range []struct {
		bomb  string
		msg   []byte
		limit int
	}{
		{"buckets times labels", bomb, limit},
		{"histograms times name", longName, limit},
		{"empty samples", timeseries(up, slices.Repeat(message(2, nil), 1<<20)), 16 << 20},
		{"empty metadata", slices.Repeat(metadata(), 1<<18+1), 16 << 20},
		{"empty spans of a histogram", timeseries(up, histogram(slices.Repeat(message(8, nil), 2<<20))), 16 << 20},
	} {
		_, err := new(remotewrite.Scanner).Scan(tc.msg, remotewrite.Limits{Expanded: tc.limit})
		if !errors.Is(err, remotewrite.ErrTooLarge) {
			t.Errorf("%s, %d bytes: got %v", tc.bomb, len(tc.msg), err)
		}
		if _, err := new(remotewrite.Scanner).Scan(tc.msg, remotewrite.Limits{}); err != nil {
			t.Errorf("%s, %d bytes, without the limit: %v", tc.bomb, len(tc.msg), err)
		}
	}

	var honest []byte
	for range 2000 {
		honest = append(honest, timeseries(labels("__name__", "http_request_duration_seconds"), manyLabels(14), buckets(200))...)
	}
	if _, err := new(remotewrite.Scanner).Scan(honest, remotewrite.Limits{Expanded: limit}); err != nil {
		t.Errorf("honest histograms: %v", err)
	}
}

func TestScanIsQuickWhateverTheLabels(t *testing.T) {
	// Were names compared pair by pair, this would take many minutes. All are alike in length and at both ends.
	msg := timeseries(up, manyLabels(200_000))
	if _, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); err != nil {
		t.Error(err)
	}
	msg = timeseries(up, manyLabels(200_000), labels("label_00000002_of_many_labels", "again"))
	if _, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{}); !errors.Is(err, remotewrite.ErrInvalidSeries) {
		t.Errorf("got %v", err)
	}
}

func TestScanFindsARepeatedNameWhereverItStands(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		n := 2 + rng.IntN(90)
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("%.*s%02d", rng.IntN(20), "kubernetes_namespace_", i)
		}
		rng.Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
		scan := func() error {
			series := slices.Clone(up)
			for _, name := range names {
				series = append(series, labels(name, "v")...)
			}
			_, err := new(remotewrite.Scanner).Scan(timeseries(series), remotewrite.Limits{})
			return err
		}
		if err := scan(); err != nil {
			t.Fatalf("%q: %v", names, err)
		}
		i, j := rng.IntN(n), rng.IntN(n-1)
		if j >= i {
			j++
		}
		names[i] = names[j]
		var e *remotewrite.Error
		if err := scan(); !errors.As(err, &e) || e.Label != names[i] {
			t.Fatalf("%q: got %v, want label %q", names, err, names[i])
		}
	}
}

// A message that is cut anywhere is refused, unless it was cut between two fields of the request.
func TestScanRefusesCutMessages(t *testing.T) {
	first := timeseries(up, labels("größe", "x"), sample(1, now), sample(2, now))
	msg := join(first, timeseries(up, integerHistogram, exemplar(labels("a", "b"))), metadata(text(2, "up"), number(11, 300)))
	whole := []int{0, len(first), len(msg) - len(metadata(text(2, "up"), number(11, 300))), len(msg)}
	for n := range len(msg) + 1 {
		_, err := new(remotewrite.Scanner).Scan(msg[:n:n], remotewrite.Limits{})
		if slices.Contains(whole, n) != (err == nil) || err != nil && !errors.Is(err, remotewrite.ErrMalformed) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestScannerForgetsTheMessageBefore(t *testing.T) {
	var s remotewrite.Scanner
	want := map[string]string{}
	for range 3 { // whatever came before
		for _, tc := range accepted {
			if got, err := s.Scan(tc.msg, remotewrite.Limits{Expanded: 8 << 10}); err != nil || got != tc.want {
				t.Errorf("%s: got %+v, %v", tc.promise, got, err)
			}
		}
		for _, tc := range refused {
			_, err := s.Scan(tc.msg, remotewrite.Limits{})
			if before, ok := want[tc.promise]; ok && before != fmt.Sprint(err) {
				t.Errorf("%s: got %v, before %v", tc.promise, err, before)
			}
			want[tc.promise] = fmt.Sprint(err)
		}
	}
}

func TestErrorsQuoteLittle(t *testing.T) {
	long := strings.Repeat("\x00", 10_000)
	_, err := new(remotewrite.Scanner).Scan(timeseries(labels("__name__", long, long, "\xff")), remotewrite.Limits{})
	var e *remotewrite.Error
	if !errors.As(err, &e) || len(e.Label) != 64 || len(e.Metric) != 64 || len(e.Error()) > 1000 {
		t.Errorf("got %v", err)
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	var s remotewrite.Scanner
	for name, msg := range map[string][]byte{
		"sorted":      benchRequest(1, true),
		"unsorted":    benchRequest(10, false),
		"many labels": timeseries(up, manyLabels(1000)),
		"histograms":  timeseries(up, integerHistogram, floatHistogram, customHistogram),
		"odd":         join(metadata(text(2, "up")), timeseries(labels("__name__", "größe", "a", strings.Repeat("v", 200)), exemplar(labels("a", "b")))),
	} {
		lim := remotewrite.Limits{Series: 1e6, Expanded: 1e9}
		if n := testing.AllocsPerRun(10, func() { _, _ = s.Scan(msg, lim) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
