package offer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
)

const (
	// timestampSize is the bytes of a timestamp as a varint: 6 for every time from 2004 to 2109 in milliseconds.
	timestampSize = 6
	// blockSize keeps a block below the 64 KiB that snappy compresses at a time.
	blockSize = 60 << 10
	// blockSeries is how many series a block has at most: as many as there are last bytes of a timestamp to tell them apart by.
	blockSeries = 127
)

// A Body is a compressed write request of one sample per series, whose values and timestamps are overwritten in the compressed
// bytes: a request then costs its sender next to nothing, and one core can offer more than any receiver takes.
//
// Snappy leaves bytes that it has not seen before as they are. So the request is compressed with random bits for values and
// timestamps, which are found again in what comes out.
//
// It is not safe for concurrent use.
type Body struct {
	bytes   []byte
	samples []int // where in bytes the sample of each series stands: the value, a tag, the timestamp
	series  []int // the number of each series
}

// NewBody makes the request for n series of an account, numbered from first on. Of cfg it takes the Metric and the number of Labels.
func NewBody(cfg *Config, account, first, n int) *Body {
	t := &Body{}
	random := rand.New(rand.NewPCG(uint64(account), uint64(first)))
	var compressed []byte
	size := 0
	for next := first; next < first+n; {
		b := newBlock(cfg, account, next, first+n)
		part, at := b.compress(random)
		for i, within := range at {
			t.samples = append(t.samples, len(compressed)+within)
			t.series = append(t.series, next+i)
		}
		compressed = append(compressed, part...)
		size += b.size
		next += len(at)
	}
	head := binary.AppendUvarint(nil, uint64(size)) // snappy's block format begins with the size when decompressed
	for i := range t.samples {
		t.samples[i] += len(head)
	}
	t.bytes = slices.Concat(head, compressed)
	return t
}

// Fill returns the compressed request for a round, with one timestamp, in milliseconds. The next call overwrites it.
func (b *Body) Fill(round int, timestamp int64) []byte {
	for i, at := range b.samples {
		put(b.bytes[at:], Value(b.series[i], round), timestamp)
	}
	return b.bytes
}

// put writes value and timestamp where they stand in a message, leaving the tag between them.
func put(at []byte, value float64, timestamp int64) {
	binary.LittleEndian.PutUint64(at, math.Float64bits(value))
	binary.PutUvarint(at[9:9+timestampSize], uint64(timestamp))
}

// A block is as many series as snappy compresses at a time.
type block struct {
	series [][]prompb.Label
	size   int // of the message
}

// newBlock takes in series from first on, at most until end.
func newBlock(cfg *Config, account, first, end int) *block {
	b := &block{}
	for i := first; i < end && b.size < blockSize && len(b.series) < blockSeries; i++ {
		b.series = append(b.series, cfg.labels(account, i))
		one := block{series: b.series[len(b.series)-1:]}
		b.size += len(one.message([]prompb.Sample{{Value: 1, Timestamp: 1 << 40}}))
	}
	return b
}

func (b *block) message(samples []prompb.Sample) []byte {
	var wr prompb.WriteRequest
	for i, labels := range b.series {
		wr.Timeseries = append(wr.Timeseries, prompb.TimeSeries{Labels: labels, Samples: samples[i : i+1]})
	}
	return wr.MarshalProtobuf(nil)
}

// compress returns the compressed block without the size before it, and where the sample of each series stands in it. Random bits can
// look like others for a few bytes; then other ones are taken.
func (b *block) compress(random *rand.Rand) (compressed []byte, at []int) {
	for range 100 {
		drawn := b.draw(random)
		compressed = snappy.Encode(nil, b.message(drawn))
		if at = find(compressed, drawn); at != nil && b.survives(compressed, at, b.draw(random)) {
			_, head := binary.Uvarint(compressed)
			for i := range at {
				at[i] -= head
			}
			return compressed[head:], at
		}
	}
	panic("offer: snappy compresses random bits")
}

// draw makes random samples whose first and last bytes differ from those of their neighbours, so that snappy does not draw
// them into what it has seen around them.
func (b *block) draw(random *rand.Rand) []prompb.Sample {
	drawn := make([]prompb.Sample, len(b.series))
	for i := range drawn {
		drawn[i].Value = math.Float64frombits(random.Uint64()&^0xff | uint64(i&0xff))
		drawn[i].Timestamp = int64(1+i)<<35 | random.Int64N(1<<35)
	}
	return drawn
}

// find returns where each of the samples stands, or nil when one does not stand there as it is.
func find(compressed []byte, samples []prompb.Sample) []int {
	var at []int
	from := 0
	for _, s := range samples {
		want := make([]byte, 9+timestampSize)
		want[8] = 2 << 3 // the tag of the timestamp: field 2, a varint
		put(want, s.Value, s.Timestamp)
		i := bytes.Index(compressed[from:], want)
		if i < 0 {
			return nil
		}
		at = append(at, from+i)
		from += i + len(want)
	}
	return at
}

// survives is whether the block still decompresses to the same series when other samples are written into it. It is left with them.
func (b *block) survives(compressed []byte, at []int, other []prompb.Sample) bool {
	for i, s := range other {
		put(compressed[at[i]:], s.Value, s.Timestamp)
	}
	message, err := snappy.Decode(nil, compressed)
	return err == nil && bytes.Equal(message, b.message(other))
}

// Value is the value of a series' sample of that round: a whole number that tells both, up to 10 million rounds.
func Value(series, round int) float64 { return float64(series)*1e7 + float64(round) }

// labels are a series' labels, sorted: the metric name, the account, the number, and others that fill up to cfg.Labels, in the first
// place those that a scrape of machines in Kubernetes has.
func (cfg *Config) labels(account, series int) []prompb.Label {
	all := []prompb.Label{
		{Name: "__name__", Value: cfg.Metric},
		{Name: "account", Value: strconv.Itoa(account)},
		{Name: "series", Value: strconv.Itoa(series)},
		{Name: "instance", Value: fmt.Sprintf("10.%d.%d.%d:9100", account%200, series/250%250, series%250)},
		{Name: "job", Value: "node-exporter"},
		{Name: "pod", Value: fmt.Sprintf("node-exporter-%05x", series*7919%0xfffff)},
		{Name: "namespace", Value: "monitoring"},
		{Name: "device", Value: fmt.Sprintf("nvme%dn1", series%8)},
		{Name: "mode", Value: []string{"idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"}[series%8]},
		{Name: "container", Value: "node-exporter"},
		{Name: "cluster", Value: "eu-central-1a"},
		{Name: "env", Value: "production"},
	}
	for i := len(all); i < cfg.Labels; i++ {
		all = append(all, prompb.Label{Name: fmt.Sprintf("label_%02d", i), Value: fmt.Sprintf("value-%d-of-%d", series%(i*7), i*1000)})
	}
	list := all[:cfg.Labels]
	slices.SortFunc(list, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) })
	return list
}
