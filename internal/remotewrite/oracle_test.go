package remotewrite_test

import (
	"math"
	"math/bits"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// The oracle is a second opinion: Google's decoder with a descriptor of its own, and the rules written for the decoded message,
// plainly and slowly.

type (
	fieldType  = descriptorpb.FieldDescriptorProto_Type
	protoField = descriptorpb.FieldDescriptorProto
)

const (
	typeString = descriptorpb.FieldDescriptorProto_TYPE_STRING
	typeDouble = descriptorpb.FieldDescriptorProto_TYPE_DOUBLE
	typeInt64  = descriptorpb.FieldDescriptorProto_TYPE_INT64
	typeUint32 = descriptorpb.FieldDescriptorProto_TYPE_UINT32
	typeUint64 = descriptorpb.FieldDescriptorProto_TYPE_UINT64
	typeSint32 = descriptorpb.FieldDescriptorProto_TYPE_SINT32
	typeSint64 = descriptorpb.FieldDescriptorProto_TYPE_SINT64
)

func one(name string, number int32, typ fieldType) *protoField {
	return &protoField{
		Name: proto.String(name), Number: proto.Int32(number), Type: typ.Enum(),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}
}

func oneOf(index int32, f *protoField) *protoField {
	f.OneofIndex = proto.Int32(index)
	return f
}

func many(name string, number int32, typ fieldType) *protoField {
	f := one(name, number, typ)
	f.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	return f
}

func manyOf(name string, number int32, message string) *protoField {
	f := many(name, number, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
	f.TypeName = proto.String(".prometheus." + message)
	return f
}

func messageType(name string, oneofs []string, fields ...*protoField) *descriptorpb.DescriptorProto {
	d := &descriptorpb.DescriptorProto{Name: proto.String(name), Field: fields}
	for _, o := range oneofs {
		d.OneofDecl = append(d.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: proto.String(o)})
	}
	return d
}

// writeRequest describes prometheus.WriteRequest. Enums stand as the integers that they are on the wire.
var writeRequest = sync.OnceValue(func() protoreflect.MessageDescriptor {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("remote.proto"), Package: proto.String("prometheus"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			messageType("WriteRequest", nil, manyOf("timeseries", 1, "TimeSeries"), manyOf("metadata", 3, "MetricMetadata")),
			messageType("TimeSeries", nil, manyOf("labels", 1, "Label"), manyOf("samples", 2, "Sample"),
				manyOf("exemplars", 3, "Exemplar"), manyOf("histograms", 4, "Histogram")),
			messageType("Label", nil, one("name", 1, typeString), one("value", 2, typeString)),
			messageType("Sample", nil, one("value", 1, typeDouble), one("timestamp", 2, typeInt64)),
			messageType("Exemplar", nil, manyOf("labels", 1, "Label"), one("value", 2, typeDouble), one("timestamp", 3, typeInt64)),
			messageType("BucketSpan", nil, one("offset", 1, typeSint32), one("length", 2, typeUint32)),
			messageType("Histogram", []string{"count", "zero_count"},
				oneOf(0, one("count_int", 1, typeUint64)), oneOf(0, one("count_float", 2, typeDouble)),
				one("sum", 3, typeDouble), one("schema", 4, typeSint32), one("zero_threshold", 5, typeDouble),
				oneOf(1, one("zero_count_int", 6, typeUint64)), oneOf(1, one("zero_count_float", 7, typeDouble)),
				manyOf("negative_spans", 8, "BucketSpan"), many("negative_deltas", 9, typeSint64), many("negative_counts", 10, typeDouble),
				manyOf("positive_spans", 11, "BucketSpan"), many("positive_deltas", 12, typeSint64), many("positive_counts", 13, typeDouble),
				one("reset_hint", 14, typeUint64), one("timestamp", 15, typeInt64), many("custom_values", 16, typeDouble)),
			messageType("MetricMetadata", nil, one("type", 1, typeUint32), one("metric_family_name", 2, typeString),
				one("help", 4, typeString), one("unit", 5, typeString), one("account", 11, typeUint32), one("project", 12, typeUint32)),
		},
	}, nil)
	if err != nil {
		panic(err)
	}
	return file.Messages().ByName("WriteRequest")
})

type decodedLabel struct{ name, value string }

type decodedSample struct {
	bits      uint64
	timestamp int64
}

type decodedSpan struct {
	offset int32
	length uint32
}

type decodedBuckets struct {
	spans  []decodedSpan
	deltas []int64
	counts []float64
}

type decodedHistogram struct {
	integers, floats           bool
	count, zeroCount           uint64
	countFloat, zeroCountFloat float64
	sum, zeroThreshold         float64
	schema                     int32
	negative, positive         decodedBuckets
	customValues               []float64
	timestamp                  int64
}

type decodedSeries struct {
	labels     []decodedLabel
	samples    []decodedSample
	histograms []decodedHistogram
	exemplars  int
}

type decodedRequest struct {
	series   []decodedSeries
	metadata int
	reserved int    // labels, and metadata fields with a value other than 0
	wire     []byte // the message written anew, as proto writes it
}

func decode(msg []byte) (decodedRequest, error) {
	m := dynamicpb.NewMessage(writeRequest())
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(msg, m); err != nil {
		return decodedRequest{}, err
	}
	r := decodedRequest{metadata: list(m, "metadata").Len()}
	for m := range messages(m, "timeseries") {
		r.series = append(r.series, decodeSeries(m))
	}
	for _, s := range r.series {
		for _, l := range s.labels {
			if isReserved(l.name) {
				r.reserved++
			}
		}
	}
	for m := range messages(m, "metadata") {
		for _, name := range []protoreflect.Name{"account", "project"} {
			if has(m, name) {
				r.reserved++
			}
		}
	}
	var err error
	r.wire, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return r, err
}

func isReserved(name string) bool {
	return name == "vm_account_id" || name == "vm_project_id" ||
		name == "VictoriaMetrics_AccountID" || name == "VictoriaMetrics_ProjectID"
}

func get(m protoreflect.Message, name protoreflect.Name) protoreflect.Value {
	return m.Get(m.Descriptor().Fields().ByName(name))
}

func has(m protoreflect.Message, name protoreflect.Name) bool {
	return m.Has(m.Descriptor().Fields().ByName(name))
}

func list(m protoreflect.Message, name protoreflect.Name) protoreflect.List {
	return get(m, name).List()
}

func messages(m protoreflect.Message, name protoreflect.Name) func(func(protoreflect.Message) bool) {
	return func(yield func(protoreflect.Message) bool) {
		for i := range list(m, name).Len() {
			if !yield(list(m, name).Get(i).Message()) {
				return
			}
		}
	}
}

func floats(m protoreflect.Message, name protoreflect.Name) (out []float64) {
	for i := range list(m, name).Len() {
		out = append(out, list(m, name).Get(i).Float())
	}
	return out
}

func decodeSeries(m protoreflect.Message) decodedSeries {
	s := decodedSeries{exemplars: list(m, "exemplars").Len()}
	for l := range messages(m, "labels") {
		s.labels = append(s.labels, decodedLabel{get(l, "name").String(), get(l, "value").String()})
	}
	for p := range messages(m, "samples") {
		s.samples = append(s.samples, decodedSample{math.Float64bits(get(p, "value").Float()), get(p, "timestamp").Int()})
	}
	for h := range messages(m, "histograms") {
		s.histograms = append(s.histograms, decodeHistogram(h))
	}
	return s
}

func decodeHistogram(m protoreflect.Message) decodedHistogram {
	h := decodedHistogram{
		integers:   has(m, "count_int") || has(m, "zero_count_int"),
		floats:     has(m, "count_float") || has(m, "zero_count_float"),
		count:      get(m, "count_int").Uint(),
		countFloat: get(m, "count_float").Float(),
		zeroCount:  get(m, "zero_count_int").Uint(), zeroCountFloat: get(m, "zero_count_float").Float(),
		sum:           get(m, "sum").Float(),
		zeroThreshold: get(m, "zero_threshold").Float(),
		schema:        int32(get(m, "schema").Int()),
		negative:      decodeBuckets(m, "negative_"),
		positive:      decodeBuckets(m, "positive_"),
		customValues:  floats(m, "custom_values"),
		timestamp:     get(m, "timestamp").Int(),
	}
	h.integers = h.integers || len(h.negative.deltas)+len(h.positive.deltas) > 0
	h.floats = h.floats || len(h.negative.counts)+len(h.positive.counts) > 0
	return h
}

func decodeBuckets(m protoreflect.Message, side protoreflect.Name) (b decodedBuckets) {
	for s := range messages(m, side+"spans") {
		b.spans = append(b.spans, decodedSpan{int32(get(s, "offset").Int()), uint32(get(s, "length").Uint())})
	}
	for i := range list(m, side+"deltas").Len() {
		b.deltas = append(b.deltas, list(m, side+"deltas").Get(i).Int())
	}
	b.counts = floats(m, side+"counts")
	return b
}

// counts is what Scan has to count, apart from Reserved.
func (r decodedRequest) counts() remotewrite.Counts {
	c := remotewrite.Counts{Metadata: r.metadata}
	for _, s := range r.series {
		c = add(c, s.counts())
	}
	return c
}

func (s decodedSeries) counts() remotewrite.Counts {
	c := remotewrite.Counts{Series: 1, Samples: len(s.samples), Histograms: len(s.histograms), Exemplars: s.exemplars, Labels: len(s.labels)}
	if len(s.histograms) > 0 {
		c.Labels++
	}
	for _, l := range s.labels {
		if n := len(l.name); n > 127 {
			c.LongestName = max(c.LongestName, n)
		}
		if n := len(l.value); n > 127 {
			c.LongestValue = max(c.LongestValue, n)
		}
	}
	var times []int64
	for _, p := range s.samples {
		times = append(times, p.timestamp)
	}
	for _, h := range s.histograms {
		times = append(times, h.timestamp)
	}
	if len(times) > 0 {
		c.Newest, c.Oldest = slices.Max(times), slices.Min(times)
	}
	return c
}

func (r decodedRequest) valid() bool {
	for _, s := range r.series {
		if !s.valid() {
			return false
		}
	}
	return true
}

func (s decodedSeries) valid() bool {
	names := map[string]string{}
	for _, l := range s.labels {
		if _, again := names[l.name]; again || l.name == "" {
			return false
		}
		names[l.name] = l.value
	}
	for _, h := range s.histograms {
		if !h.valid() {
			return false
		}
	}
	return names["__name__"] != "" && (len(s.samples) == 0 || len(s.histograms) == 0)
}

func (h decodedHistogram) valid() bool {
	if h.integers && h.floats || h.countFloat < 0 {
		return false
	}
	if h.schema == -53 {
		if len(h.negative.spans) > 0 || h.negative.number() > 0 || h.zeroThreshold != 0 || h.zeroCount != 0 || h.zeroCountFloat != 0 {
			return false
		}
		if !h.boundsValid() {
			return false
		}
	} else if h.schema < -9 || h.schema > 52 || len(h.customValues) > 0 || h.zeroCountFloat < 0 {
		return false
	}
	negative, negativeOK := h.negative.observations()
	positive, positiveOK := h.positive.observations()
	if !negativeOK || !positiveOK {
		return false
	}
	if h.floats {
		return true
	}
	sum, carry := bits.Add64(negative, positive, 0)
	sum, carry2 := bits.Add64(sum, h.zeroCount, 0)
	return carry+carry2 == 0 && (sum == h.count || math.IsNaN(h.sum) && sum < h.count)
}

func (h decodedHistogram) boundsValid() bool {
	for i, v := range h.customValues {
		if math.IsNaN(v) || math.IsInf(v, 1) || i > 0 && v <= h.customValues[i-1] {
			return false
		}
	}
	end := int64(0)
	for i, s := range h.positive.spans {
		if i == 0 && s.offset < 0 {
			return false
		}
		end += int64(s.offset) + int64(s.length)
	}
	return end <= int64(len(h.customValues))+1
}

func (b decodedBuckets) number() int { return len(b.deltas) + len(b.counts) }

func (b decodedBuckets) observations() (n uint64, ok bool) {
	room, end := uint64(0), int64(0)
	for i, s := range b.spans {
		room += uint64(s.length)
		end += int64(s.offset) + int64(s.length)
		if i > 0 && s.offset < 0 || end-1 > math.MaxInt32 {
			return 0, false
		}
	}
	for _, c := range b.counts {
		if c < 0 {
			return 0, false
		}
	}
	last, carry := int64(0), uint64(0)
	for _, d := range b.deltas {
		if last += d; last < 0 {
			return 0, false
		}
		if n, carry = bits.Add64(n, uint64(last), 0); carry != 0 {
			return 0, false
		}
	}
	return n, room == uint64(b.number())
}
