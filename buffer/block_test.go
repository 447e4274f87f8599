package buffer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
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
	if rnd.IntN(3) == 0 {
		r.Tags = randomTags(rnd)
	}
	for i := range r.Payload {
		r.Payload[i] = byte(rnd.Uint32())
	}
	return r
}

func randomTags(rnd *rand.Rand) tenant.Tags {
	labels := make(map[string]string)
	for i := range rnd.IntN(4) {
		labels[fmt.Sprintf("label%d", i)] = strings.Repeat("v", 1+rnd.IntN(200))
	}
	return tagsOf(labels)
}

func tagsOf(labels map[string]string) tenant.Tags {
	tags, err := tenant.NewTags(labels)
	if err != nil {
		panic(err)
	}
	return tags
}

func same(a, b Record) bool {
	return a.Tenant == b.Tenant && bytes.Equal(a.Tags, b.Tags) && a.Received.Equal(b.Received) && a.Encoding == b.Encoding && a.Series == b.Series &&
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
	for _, tags := range []tenant.Tags{nil, tagsOf(map[string]string{"org": "a", "region": "b"})} {
		data := encode(Record{Encoding: Snappy, Payload: []byte("first")}, Record{Encoding: Snappy, Tags: tags, Samples: 5, Payload: []byte("second")})
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
}

// What an older version wrote, and reads: as long as no tenant has tags, it can come back.
func TestBlockWithoutTagsIsTheBlockOfVersion1ByteForByte(t *testing.T) {
	data := encode(
		Record{Tenant: tenant.ID{Account: 300, Project: 7}, Received: time.UnixMilli(1_700_000_000_000), Encoding: Snappy, Series: 1, Samples: 200, Decoded: 40, Payload: []byte("abc")},
		Record{Received: time.UnixMilli(-1), Encoding: Snappy, Tags: tenant.Tags{}, Samples: 3})
	want := "igb\x01" + "\x02\x00\x00\x00" + "\xcb\x00\x00\x00\x00\x00\x00\x00" + "\xff\xff\xff\xff\xff\xff\xff\xff" +
		"\xac\x02" + "\x07" + "\x80\xa0\xab\xfe\xf9\x62" + "\x01" + "\x01" + "\xc8\x01" + "\x28" + "\x03abc" +
		"\x00" + "\x00" + "\x01" + "\x01" + "\x00" + "\x03" + "\x00" + "\x00"
	if string(data) != want {
		t.Errorf("got  %q\nwant %q", data, want)
	}
}

func TestOneRecordWithTagsMakesABlockOfVersion2AndChangesNoOther(t *testing.T) {
	plain := Record{Received: time.UnixMilli(0), Encoding: Snappy, Samples: 3, Payload: []byte("abc")}
	with := Record{Received: time.UnixMilli(0), Encoding: Snappy, Tags: tagsOf(map[string]string{"org": "a"}), Samples: 4, Payload: []byte("d")}
	data := encode(plain, with)
	if !bytes.HasPrefix(data, []byte("igb\x02")) {
		t.Errorf("the block begins with %q", data[:4])
	}
	want := "\x00\x00\x00" + "\x01" + "\x00\x03\x00\x03abc" +
		"\x00\x00\x00" + "\x81\x06\x03org\x01a" + "\x00\x04\x00\x01d"
	if got := string(data[headerSize:]); got != want {
		t.Errorf("records are\n%q, want\n%q", got, want)
	}
}

func TestMalformedTagsAreNotDecoded(t *testing.T) {
	good := tagsOf(map[string]string{"org": "a"})
	long := tenant.Tags(append([]byte("\x01a\x80\x80\x01"), make([]byte, tenant.MaxTags)...))
	for name, tags := range map[string]tenant.Tags{
		"a name without a value": good[:4],
		"a value cut short":      good[:5],
		"a length cut short":     append(bytes.Clone(good), 0x80),
		"bytes behind them":      append(bytes.Clone(good), 1),
		"too many":               long,
	} {
		data := encode(Record{Encoding: Snappy, Payload: []byte("before")}, Record{Encoding: Snappy, Tags: tags, Payload: []byte("abc")})
		if _, err := DecodeBlock(data, nil); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: decoded with %v", name, err)
		}
		r := Record{Encoding: Snappy, Tags: tags}
		if _, err := r.encodedSize(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: encoded with %v", name, err)
		}
	}
}

func TestTheVersionSaysWhetherThereAreTags(t *testing.T) {
	plain := encode(Record{Encoding: Snappy})
	plain[3] = taggedVersion
	if _, err := DecodeBlock(plain, nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("version 2 without tags: %v", err)
	}
	with := encode(Record{Encoding: Snappy, Tags: tagsOf(map[string]string{"org": "a"})})
	with[3] = plainVersion
	if records, err := DecodeBlock(with, nil); err == nil {
		t.Errorf("version 1 with tags decodes to %+v", records)
	}
}

func TestNewerBlockIsNotMalformed(t *testing.T) {
	newer := encode(Record{Encoding: Snappy})
	newer[3] = taggedVersion + 1
	unknown := encode(Record{Encoding: Snappy + 1})
	unknownWithTags := encode(Record{Encoding: Snappy + 1, Tags: tagsOf(map[string]string{"org": "a"})})
	for name, data := range map[string][]byte{
		"version": newer, "only magic and version": newer[:4], "encoding": unknown, "encoding of a record with tags": unknownWithTags,
	} {
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
	f.Add([]byte("igb\x03"))
	f.Add(encode(Record{Encoding: Snappy, Tags: tagsOf(map[string]string{"org": "a", "region": "b"}), Payload: []byte("abc")}, Record{Encoding: Snappy}))
	f.Add(encode(Record{Encoding: Snappy, Tags: tenant.Tags("\x01a\x80"), Payload: []byte("abc")}))
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
			if _, err := records[i].encodedSize(); err != nil {
				t.Fatalf("record %d cannot be written: %v", i, err)
			}
		}
	})
}

func BenchmarkDecodeBlock(b *testing.B) {
	for _, c := range []struct {
		name string
		tags tenant.Tags
	}{{"plain", nil}, {"tagged", tagsOf(map[string]string{"org": "4711", "region": "eu-west-1"})}} {
		b.Run(c.name, func(b *testing.B) {
			records := make([]Record, 2000)
			for i := range records {
				records[i] = Record{Encoding: Snappy, Tags: c.tags, Series: 10, Samples: 10, Payload: make([]byte, 500)}
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
		})
	}
}
