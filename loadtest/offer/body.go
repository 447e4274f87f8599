package offer

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
)

// timestampSize is the bytes of a timestamp as a varint: 6 for every time from 2005 to 2109 in milliseconds.
const timestampSize = 6

// A template is a write request of one sample per series, whose values and timestamps are overwritten for each round. That
// makes a request cost little more than its compression.
type template struct {
	message []byte
	samples []int // where the value of each series stands; its timestamp follows, behind a tag
	series  []int // the number of each series
}

// newTemplate makes the request for the series from first on. The bytes are those that lib/prompb makes, so that the place of a
// value is found by marking it.
func newTemplate(cfg *Config, account, first, n int) *template {
	const mark = 0x1.0badcafep+40
	t := &template{}
	var wr prompb.WriteRequest
	for i := first; i < first+n; i++ {
		wr.Timeseries = append(wr.Timeseries, prompb.TimeSeries{
			Labels:  cfg.labels(account, i),
			Samples: []prompb.Sample{{Value: mark, Timestamp: 1 << 40}},
		})
		t.series = append(t.series, i)
	}
	t.message = wr.MarshalProtobuf(nil)
	marked := binary.LittleEndian.AppendUint64(nil, math.Float64bits(mark))
	for at := 0; at+len(marked)+1+timestampSize <= len(t.message); at++ {
		if string(t.message[at:at+len(marked)]) == string(marked) {
			t.samples = append(t.samples, at)
		}
	}
	if len(t.samples) != n {
		panic(fmt.Sprintf("offer: %d series but %d values in the message", n, len(t.samples)))
	}
	return t
}

// body appends the compressed request for a round.
func (t *template) body(dst []byte, round int, timestamp int64) []byte {
	for i, at := range t.samples {
		binary.LittleEndian.PutUint64(t.message[at:], math.Float64bits(Value(t.series[i], round)))
		binary.PutUvarint(t.message[at+9:at+9+timestampSize], uint64(timestamp))
	}
	return snappy.Encode(dst[:cap(dst)], t.message)
}

// Value is the value of a series' sample of that round: a whole number that tells both, up to 10 million rounds.
func Value(series, round int) float64 { return float64(series)*1e7 + float64(round) }

// labels are a series' labels, sorted: the metric name, the account, the number, and others of ordinary length that fill up to
// cfg.Labels.
func (cfg *Config) labels(account, series int) []prompb.Label {
	list := []prompb.Label{
		{Name: "__name__", Value: cfg.Metric},
		{Name: "account", Value: strconv.Itoa(account)},
	}
	for i := len(list) + 1; i < cfg.Labels; i++ {
		list = append(list, prompb.Label{
			Name:  fmt.Sprintf("label_%02d", i),
			Value: fmt.Sprintf("value-%d-of-%d", series%(i*7), i*1000),
		})
	}
	return append(list, prompb.Label{Name: "series", Value: strconv.Itoa(series)})
}
