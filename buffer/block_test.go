package buffer

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

func encode(records ...Record) []byte {
	var h header
	data := make([]byte, headerSize)
	for i := range records {
		h.add(&records[i])
		data = appendRecord(data, &records[i])
	}
	h.put(data)
	return data
}

func randomRecord(rnd *rand.Rand) Record {
	r := Record{
		Tenant:   tenant.ID{Account: rnd.Uint32() >> rnd.IntN(32), Project: rnd.Uint32() >> rnd.IntN(32)},
		Received: time.UnixMilli(rnd.Int64N(1<<50) - 1<<49),
		Encoding: Snappy,
		Series:   rnd.IntN(maxCount + 1), Samples: rnd.IntN(maxCount + 1), Decoded: rnd.IntN(maxCount + 1),
		Payload: make([]byte, rnd.IntN(300)),
	}
	for i := range r.Payload {
		r.Payload[i] = byte(rnd.Uint32())
	}
	return r
}

func same(a, b Record) bool {
	return a.Tenant == b.Tenant && a.Received.Equal(b.Received) && a.Encoding == b.Encoding && a.Series == b.Series &&
		a.Samples == b.Samples && a.Decoded == b.Decoded && bytes.Equal(a.Payload, b.Payload)
}

func TestBlockDecodesToTheRecordsThatWereEncoded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		records := make([]Record, 1+rnd.IntN(20))
		size := headerSize
		for i := range records {
			records[i] = randomRecord(rnd)
			n, err := records[i].encodedSize()
			if err != nil {
				t.Fatal(err)
			}
			size += n
		}
		data := encode(records...)
		if len(data) != size {
			t.Fatalf("encoded to %d bytes, encodedSize says %d", len(data), size)
		}
		got, err := DecodeBlock(data, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(records) {
			t.Fatalf("%d records became %d", len(records), len(got))
		}
		for i := range got {
			if !same(got[i], records[i]) {
				t.Fatalf("record %d: got %+v, want %+v", i, got[i], records[i])
			}
		}
	}
}

func TestBlockThatIsCutOrLongerIsMalformed(t *testing.T) {
	data := encode(Record{Encoding: Snappy, Payload: []byte("first")}, Record{Encoding: Snappy, Samples: 5, Payload: []byte("second")})
	before := []Record{{Series: 7}}
	for n := range data {
		if got, err := DecodeBlock(data[:n], before); !errors.Is(err, ErrMalformed) || len(got) != 1 {
			t.Errorf("%d of %d bytes: got %d records, %v", n, len(data), len(got), err)
		}
	}
	if _, err := DecodeBlock(append(bytes.Clone(data), 0), nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestNewerBlockIsNotMalformed(t *testing.T) {
	newer := encode(Record{Encoding: Snappy})
	newer[3] = blockVersion + 1
	unknown := encode(Record{Encoding: Snappy + 1})
	for name, data := range map[string][]byte{"version": newer, "only magic and version": newer[:4], "encoding": unknown} {
		if _, err := DecodeBlock(data, nil); !errors.Is(err, ErrNewerVersion) || errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCountsThatTheFormatCannotHoldAreRefused(t *testing.T) {
	for _, r := range []Record{{Series: -1}, {Samples: math.MaxInt32 + 1}, {Decoded: -5}} {
		if _, err := r.encodedSize(); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte{})
	f.Add(encode(Record{Encoding: Snappy}))
	f.Add(encode(Record{Encoding: Snappy, Samples: 3, Payload: []byte("abc")}, Record{Tenant: tenant.ID{Account: 1 << 30, Project: 300}, Encoding: Snappy}))
	f.Add(append([]byte("igb\x01\xff\xff\xff\xff"), make([]byte, 40)...))
	f.Add([]byte("igb\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		records, err := DecodeBlock(data, nil)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNewerVersion) || len(records) != 0 {
				t.Fatalf("%d records, %v", len(records), err)
			}
			return
		}
		again, err := DecodeBlock(encode(records...), nil)
		if err != nil || len(again) != len(records) {
			t.Fatalf("%d records encoded again are %d, %v", len(records), len(again), err)
		}
		for i := range records {
			if !same(records[i], again[i]) {
				t.Fatalf("record %d: %+v became %+v", i, records[i], again[i])
			}
		}
	})
}

func BenchmarkDecodeBlock(b *testing.B) {
	small := Record{Encoding: Snappy, Series: 10, Samples: 10, Payload: make([]byte, 500)}
	var records []Record
	for range 2000 {
		records = append(records, small)
	}
	data := encode(records...)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if records, err = DecodeBlock(data, records[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
