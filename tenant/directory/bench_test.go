package directory

import (
	"fmt"
	"hash/crc32"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// checked is a line of the cache file with this text.
func checked(text string) []byte {
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum([]byte(text), castagnoli), text)
}

// filled returns a Directory that knows n credentials, with the tokens 0, 1, ….
func filled(b *testing.B, n int) *Directory {
	cfg := config(b)
	cfg.MaxEntries = max(n, 1)
	d, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		d.remember(b, BearerToken(fmt.Sprint(i)).key, fmt.Sprintf(`{"name":"sender %d","tenants":["%d"],"plan":{"name":"gold","samples_per_second":100},"tags":{"org":"org-%d"}}`, i, i, i))
	}
	return d
}

func (d *Directory) remember(b *testing.B, k key, text string) {
	v, err := decode([]byte(text), k)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	d.share(v.answer)
	d.memory.put(&entry{key: k, answer: v.answer, cost: v.cost, heard: now, fresh: now.Add(time.Hour), asked: d.memory.turn})
}

func BenchmarkLookupOfAKnownToken(b *testing.B) {
	d := filled(b, 0)
	token := strings.Repeat("token", 10)
	d.remember(b, BearerToken(token).key, `{"tenants":["1"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Lookup(b.Context(), BearerToken(token)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupOfAKnownLabel(b *testing.B) {
	d := filled(b, 0)
	value := []byte("999")
	d.remember(b, labelKey("org", value), `{"tenants":["1"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.LookupLabel(b.Context(), "org", value); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory tells what an answer takes.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		d := filled(b, 100_000)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(d.memory.hits.Len()), "bytes/answer")
		b.ReportMetric(float64(d.memory.bytes)/float64(d.memory.hits.Len()), "counted-bytes/answer")
		runtime.KeepAlive(d)
	}
}

// BenchmarkSave tells how long the lock is held and how long writing takes, for 100,000 answers.
func BenchmarkSave(b *testing.B) {
	d := filled(b, 100_000)
	f := &file{name: b.TempDir() + "/answers", log: slog.New(slog.DiscardHandler), metrics: d.metrics}
	for b.Loop() {
		d.dirty = true
		began := time.Now()
		list := d.unsaved()
		locked := time.Since(began)
		if err := f.write(list); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(locked.Milliseconds()), "locked-ms")
	}
}
