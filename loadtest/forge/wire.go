package forge

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// Fields of remote-write 1.0 (https://github.com/prometheus/prometheus/blob/main/prompb/remote.proto, types.proto), and the two by
// which VictoriaMetrics lets metadata name a tenant.
const (
	requestSeries, requestMetadata = 1, 3

	seriesLabel, seriesSample = 1, 2

	labelName, labelValue = 1, 2

	sampleValue, sampleTime = 1, 2

	metadataType, metadataMetric, metadataHelp, metadataAccount, metadataProject = 1, 2, 4, 11, 12
)

// Wire types.
const (
	varint = 0
	fixed  = 1
	bytes  = 2
)

func appendText(b []byte, field int, text string) []byte {
	b = binary.AppendUvarint(b, uint64(field<<3|bytes))
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}

func appendMessage(b []byte, field int, message []byte) []byte {
	return appendText(b, field, string(message))
}

func appendNumber(b []byte, field int, n uint64) []byte {
	b = binary.AppendUvarint(b, uint64(field<<3|varint))
	return binary.AppendUvarint(b, n)
}

// A label as it is sent.
type label struct{ name, value string }

func (l label) encode() []byte {
	return appendText(appendText(nil, labelName, l.name), labelValue, l.value)
}

// encodeOddly writes the same label as no usual sender does. Decoders have to understand all of it: fields come in any order, of one
// that stands twice the last counts, unknown ones are passed over, and a varint may be padded
// (https://protobuf.dev/programming-guides/encoding/).
func (l label) encodeOddly(random *rand.Rand) []byte {
	switch random.IntN(5) {
	case 0:
		return appendText(appendText(nil, labelValue, l.value), labelName, l.name)
	case 1:
		return append(label{"harmless", "0"}.encode(), l.encode()...)
	case 2:
		return appendNumber(l.encode(), 15, 4711)
	case 3:
		return append(appendText(nil, labelName, "harmless"), l.encode()...)
	}
	b := []byte{labelName<<3 | bytes | 0x80, 0} // the tag in two bytes
	b = append(binary.AppendUvarint(b, uint64(len(l.name))), l.name...)
	return appendText(b, labelValue, l.value)
}

func encodeSample(value float64, timestamp int64) []byte {
	b := binary.LittleEndian.AppendUint64([]byte{sampleValue<<3 | fixed}, math.Float64bits(value))
	return appendNumber(b, sampleTime, uint64(timestamp))
}

// encodeMetadata describes a metric, in the name of another tenant.
func encodeMetadata(metric string, of Tenant) []byte {
	b := appendNumber(nil, metadataType, 1)
	b = appendText(b, metadataMetric, metric)
	b = appendText(b, metadataHelp, "What somebody says of it.")
	b = appendNumber(b, metadataAccount, uint64(of.Account))
	return appendNumber(b, metadataProject, uint64(of.Project))
}
