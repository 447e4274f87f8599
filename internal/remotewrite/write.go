package remotewrite

import (
	"encoding/binary"
	"math"
	"time"
)

// AppendSample appends a series of one sample to dst, which is a message, empty or not. labels are written as they are, in their order:
// for Scan to accept the message they have to be valid.
func AppendSample(dst []byte, labels []Label, value float64, at time.Time) []byte {
	const valueSize = 1 + 8
	timestamp := uint64(at.UnixMilli())
	sample := valueSize + 1 + len(binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64), timestamp))
	dst = append(dst, tagTimeseries)
	dst = binary.AppendUvarint(dst, uint64(labelsSize(labels)+2+sample))
	for i := range labels {
		dst = appendLabel(dst, labels[i].Name, labels[i].Value)
	}
	dst = append(dst, tagSample, byte(sample), tagSampleValue)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(value))
	return binary.AppendUvarint(append(dst, tagSampleTimestamp), timestamp)
}
