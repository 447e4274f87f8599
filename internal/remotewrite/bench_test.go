package remotewrite_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ingestgw/ingestgw/internal/remotewrite"
)

// benchRequest is a request of 2,000 samples with 12 labels, their names 4 to 12 and their values 2 to 20 bytes long, as
// those of a scrape in Kubernetes are.
func benchRequest(samplesPerSeries int, sorted bool) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	text := func(from, to int) string {
		b := make([]byte, from+rng.IntN(to-from+1))
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		return string(b)
	}
	var names [11]string
	for i := range names {
		names[i] = string(rune('a'+2*i)) + text(3, 11)
	}
	var msg []byte
	for range 2000 / samplesPerSeries {
		pairs := []string{"__name__", text(10, 40)}
		for _, name := range names {
			pairs = append(pairs, name, text(2, 20))
		}
		if !sorted {
			rng.Shuffle(len(pairs)/2, func(i, j int) {
				pairs[2*i], pairs[2*j] = pairs[2*j], pairs[2*i]
				pairs[2*i+1], pairs[2*j+1] = pairs[2*j+1], pairs[2*i+1]
			})
		}
		s := labels(pairs...)
		for range samplesPerSeries {
			s = append(s, sample(rng.Float64(), 1_790_000_000_000+rng.Int64N(1e9))...)
		}
		msg = append(msg, timeseries(s)...)
	}
	return msg
}

func BenchmarkScan(b *testing.B) {
	for _, order := range []string{"sorted", "unsorted"} {
		for _, samples := range []int{1, 10} {
			b.Run(fmt.Sprintf("%s/%d", order, samples), func(b *testing.B) {
				benchmarkScan(b, benchRequest(samples, order == "sorted"), remotewrite.Limits{Series: 100_000, Expanded: 256 << 20})
			})
		}
	}
	b.Run("legacynames/1", func(b *testing.B) {
		benchmarkScan(b, benchRequest(1, true), remotewrite.Limits{LegacyNames: true})
	})
}

func BenchmarkSeries(b *testing.B) {
	msg := benchRequest(1, true)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	series := 0
	for b.Loop() {
		for range remotewrite.Series(msg) {
			series++
		}
	}
	b.ReportMetric(float64(series)/b.Elapsed().Seconds(), "samples/s")
}

// One series in ten has a reserved label.
func BenchmarkStrip(b *testing.B) {
	var msg []byte
	samples := 0
	for series := range remotewrite.Series(benchRequest(1, true)) {
		if samples%10 == 0 {
			series = join(labels("vm_account_id", "7"), series)
		}
		msg = append(msg, timeseries(series)...)
		samples++
	}
	var dst []byte
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	rounds := 0
	for b.Loop() {
		dst = remotewrite.Strip(dst[:0], msg)
		rounds++
	}
	b.ReportMetric(float64(rounds*samples)/b.Elapsed().Seconds(), "samples/s")
}

// Active series are counted by their hashes.
func BenchmarkHash(b *testing.B) {
	msg := benchRequest(1, true)
	sum := uint64(0)
	benchmarkRewrite(b, msg, func() {
		for v := range remotewrite.Series(msg) {
			sum += v.Hash()
		}
	})
}

func BenchmarkEdit(b *testing.B) {
	for _, bench := range []struct {
		name string
		edit remotewrite.Edit
	}{
		{"drop", remotewrite.Edit{Drop: func(v remotewrite.View) bool { return v.Get("no such label") != nil }}},
		{"tags", remotewrite.Edit{Tags: tags("org", "acme", "region", "eu-1")}},
	} {
		for _, samples := range []int{1, 10} {
			b.Run(fmt.Sprintf("%s/%d", bench.name, samples), func(b *testing.B) {
				msg := benchRequest(samples, true)
				dst := make([]byte, 0, bench.edit.Size(len(msg), 2000))
				benchmarkRewrite(b, msg, func() { bench.edit.Apply(dst, msg) })
			})
		}
	}
}

func BenchmarkDivide(b *testing.B) {
	for _, parts := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(parts), func(b *testing.B) {
			msg := benchParts(10_000, parts)
			dst := make([]byte, 0, len(msg))
			var d remotewrite.Divider
			benchmarkRewrite(b, msg, func() { d.Divide(dst, msg, byNumber, nowhere) })
		})
	}
}

func BenchmarkAppendPacked(b *testing.B) {
	for name, tags := range map[string][]remotewrite.Label{"bare": nil, "tags": tags("org", "acme", "region", "eu-1")} {
		for _, samples := range []int{1, 10} {
			b.Run(fmt.Sprintf("%s/%d", name, samples), func(b *testing.B) {
				msg := benchRequest(samples, true)
				dst := make([]byte, 0, remotewrite.PackedSize(len(msg), 2000, 0, 12345, 0, tags))
				benchmarkRewrite(b, msg, func() { _, _, _ = remotewrite.AppendPacked(dst, msg, 12345, 0, tags) })
			})
		}
	}
}

func benchmarkRewrite(b *testing.B, msg []byte, rewrite func()) {
	counts, err := new(remotewrite.Scanner).Scan(msg, remotewrite.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	rounds := 0
	for b.Loop() {
		rewrite()
		rounds++
	}
	b.ReportMetric(float64(rounds*counts.Samples)/b.Elapsed().Seconds(), "samples/s")
}

func benchmarkScan(b *testing.B, msg []byte, lim remotewrite.Limits) {
	var s remotewrite.Scanner
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	samples := 0
	for b.Loop() {
		counts, err := s.Scan(msg, lim)
		if err != nil {
			b.Fatal(err)
		}
		samples += counts.Samples
	}
	b.ReportMetric(float64(samples)/b.Elapsed().Seconds(), "samples/s")
}
