package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

// What is wrong with bytes that do not decode. The kinds are told apart because they are dealt with differently: the reader of
// a newer version waits to be upgraded, malformed bytes will never decode.
var (
	// ErrNewerVersion: a newer ingestgw wrote this; an upgrade is needed to read it, and nothing is wrong with it.
	ErrNewerVersion = errors.New("written by a newer version")
	// ErrMalformed: no version wrote this.
	ErrMalformed = errors.New("malformed")
)

// Encoding says how a payload is compressed.
type Encoding uint8

// Snappy is snappy's block format (https://github.com/google/snappy/blob/main/format_description.txt).
const Snappy Encoding = 1

func (e Encoding) String() string {
	if e == Snappy {
		return "snappy"
	}
	return fmt.Sprintf("encoding %d", uint8(e))
}

// A Record is what one sender sent for one tenant: an envelope and the message as it came.
type Record struct {
	Tenant tenant.ID
	// Received is when the request arrived, by this machine's clock. Whole milliseconds are kept.
	Received time.Time
	// Tags are put on every series of the Payload, and win over labels of the same name in it. Empty is none.
	Tags tenant.Tags
	// Encoding says how Payload is compressed.
	Encoding Encoding
	// Series and Samples count what Payload holds. Histograms count as samples.
	Series, Samples int
	// Decoded is the bytes of the message once decompressed.
	Decoded int
	// Payload is a compressed remote-write 1.0 message, prometheus.WriteRequest in protobuf.
	Payload []byte
}

// The format is described in FORMAT.md.
const (
	magic         = "igb"
	plainVersion  = 1 // of a block in which no record has tags
	taggedVersion = 2 // of a block in which one has: the first that knows them
	headerSize    = 24
	minRecord     = 8             // bytes: one for each field, and neither tags nor payload
	maxCount      = math.MaxInt32 // of series, samples and bytes in one record
	tagged        = 0x80          // in the byte of the encoding: tags follow
	// maxEnvelope is the most bytes of a record besides its tags and its payload: account and project, receive time, encoding, four
	// counts.
	maxEnvelope = 2*binary.MaxVarintLen32 + binary.MaxVarintLen64 + 1 + 4*binary.MaxVarintLen32
)

// encodedSize is the bytes that appendRecord appends. The error says what the format cannot hold, or what no reader would take.
func (r *Record) encodedSize() (int, error) {
	for _, n := range [...]int{r.Series, r.Samples, r.Decoded, len(r.Payload)} {
		if n < 0 || n > maxCount {
			return 0, fmt.Errorf("record of %d series, %d samples, %d bytes (%d decoded): %w: each must be from 0 to %d",
				r.Series, r.Samples, len(r.Payload), r.Decoded, ErrTooLarge, maxCount)
		}
	}
	if !whole(r.Tags) {
		return 0, fmt.Errorf("record of tenant %v: %d bytes of tags: %w", r.Tenant, len(r.Tags), ErrMalformed)
	}
	ms := r.Received.UnixMilli()
	return uvarintSize(uint64(r.Tenant.Account)) + uvarintSize(uint64(r.Tenant.Project)) +
		uvarintSize(uint64(ms<<1)^uint64(ms>>63)) + 1 + tagsSize(r.Tags) +
		uvarintSize(uint64(r.Series)) + uvarintSize(uint64(r.Samples)) + uvarintSize(uint64(r.Decoded)) +
		uvarintSize(uint64(len(r.Payload))) + len(r.Payload), nil
}

// tagsSize is the bytes that tags take in a record: none when there are none.
func tagsSize(tags tenant.Tags) int {
	if len(tags) == 0 {
		return 0
	}
	return uvarintSize(uint64(len(tags))) + len(tags)
}

// whole says whether tags are names and values up to their end, and not too many. What the names are is up to who writes them
// (tenant.NewTags).
func whole(tags tenant.Tags) bool {
	in := reader{rest: tags}
	for len(in.rest) > 0 && in.err == nil {
		in.bytes("name", in.uvarint("size of the name", tenant.MaxTags))
		in.bytes("value", in.uvarint("size of the value", tenant.MaxTags))
	}
	return in.err == nil && len(tags) <= tenant.MaxTags
}

func uvarintSize(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

func appendRecord(dst []byte, r *Record) []byte {
	dst = binary.AppendUvarint(dst, uint64(r.Tenant.Account))
	dst = binary.AppendUvarint(dst, uint64(r.Tenant.Project))
	dst = binary.AppendVarint(dst, r.Received.UnixMilli())
	if len(r.Tags) == 0 {
		dst = append(dst, byte(r.Encoding))
	} else {
		dst = append(dst, byte(r.Encoding)|tagged)
		dst = binary.AppendUvarint(dst, uint64(len(r.Tags)))
		dst = append(dst, r.Tags...)
	}
	dst = binary.AppendUvarint(dst, uint64(r.Series))
	dst = binary.AppendUvarint(dst, uint64(r.Samples))
	dst = binary.AppendUvarint(dst, uint64(r.Decoded))
	dst = binary.AppendUvarint(dst, uint64(len(r.Payload)))
	return append(dst, r.Payload...)
}

// A header is what a block says about its records.
type header struct {
	records uint32
	samples uint64
	oldest  int64 // milliseconds since 1970-01-01 UTC
	tagged  bool  // one of the records has tags; the version says so
}

// add counts r in. The zero header has counted none.
func (h *header) add(r *Record) {
	ms := r.Received.UnixMilli()
	if h.records == 0 || ms < h.oldest {
		h.oldest = ms
	}
	h.records++
	h.samples += uint64(r.Samples)
	h.tagged = h.tagged || len(r.Tags) > 0
}

// put writes h to the start of a block, in the lowest version that can say what is in its records.
func (h *header) put(dst []byte) {
	copy(dst, magic)
	dst[3] = plainVersion
	if h.tagged {
		dst[3] = taggedVersion
	}
	binary.LittleEndian.PutUint32(dst[4:], h.records)
	binary.LittleEndian.PutUint64(dst[8:], h.samples)
	binary.LittleEndian.PutUint64(dst[16:], uint64(h.oldest))
}

func readHeader(data []byte) (header, error) {
	if len(data) <= len(magic) || string(data[:len(magic)]) != magic {
		return header{}, fmt.Errorf("block of %d bytes: %w: it does not start with %q and a version", len(data), ErrMalformed, magic)
	}
	v := data[3]
	switch {
	case v > taggedVersion:
		return header{}, fmt.Errorf("block of version %d, known is up to %d: %w", v, taggedVersion, ErrNewerVersion)
	case v < plainVersion:
		return header{}, fmt.Errorf("block of version %d: %w: there is no such version", v, ErrMalformed)
	}
	if len(data) < headerSize {
		return header{}, fmt.Errorf("block of %d bytes: %w: its header has %d", len(data), ErrMalformed, headerSize)
	}
	return header{
		records: binary.LittleEndian.Uint32(data[4:]),
		samples: binary.LittleEndian.Uint64(data[8:]),
		oldest:  int64(binary.LittleEndian.Uint64(data[16:])),
		tagged:  v == taggedVersion,
	}, nil
}

// DecodeBlock appends the records of the block data to into. Tags and payloads point into data and are valid as long as it is. An
// error wraps ErrNewerVersion or ErrMalformed, and into is then returned as it was: a block decodes as a whole or not at all.
// It allocates nothing when into has room; more room is made only for as many records as data can hold.
func DecodeBlock(data []byte, into []Record) ([]Record, error) {
	h, err := readHeader(data)
	if err != nil {
		return into, err
	}
	rest := data[headerSize:]
	if h.records == 0 || uint64(h.records) > uint64(len(rest)/minRecord) {
		return into, fmt.Errorf("block of %d bytes: %w: it claims %d records", len(data), ErrMalformed, h.records)
	}
	records := slices.Grow(into, int(h.records))
	var sum header
	for range h.records {
		in := reader{rest: rest}
		r := in.record(h.tagged)
		if in.err != nil {
			return into, fmt.Errorf("record %d of %d at byte %d of a block: %w",
				sum.records+1, h.records, len(data)-len(rest), in.err)
		}
		rest = in.rest
		sum.add(&r)
		records = append(records, r)
	}
	if len(rest) > 0 || sum != h {
		return into, fmt.Errorf("block of %d bytes: %w: its header says %+v, its records %+v and %d bytes more",
			len(data), ErrMalformed, h, sum, len(rest))
	}
	return records, nil
}

// A reader takes fields off the front of bytes. After an error it yields zeros; the first error stays.
type reader struct {
	rest []byte
	err  error
}

// record takes a record. Only mayTag gives it tags: in a block of a version without them, the bit for them is part of an encoding.
func (in *reader) record(mayTag bool) Record {
	var r Record
	r.Tenant.Account = uint32(in.uvarint("account", math.MaxUint32))
	r.Tenant.Project = uint32(in.uvarint("project", math.MaxUint32))
	r.Received = time.UnixMilli(in.varint("receive time"))
	encoding := in.byte("encoding")
	if mayTag && encoding&tagged != 0 {
		encoding &^= tagged
		r.Tags = in.tags()
	}
	r.Encoding = Encoding(encoding)
	r.Series = int(in.uvarint("series", maxCount))
	r.Samples = int(in.uvarint("samples", maxCount))
	r.Decoded = int(in.uvarint("decoded size", maxCount))
	r.Payload = in.bytes("payload", in.uvarint("payload size", maxCount))
	if in.err == nil && r.Encoding != Snappy {
		in.err = encodingError(r.Encoding)
	}
	return r
}

// tags takes the tags of a record that has some.
func (in *reader) tags() tenant.Tags {
	tags := tenant.Tags(in.bytes("tags", in.uvarint("size of the tags", tenant.MaxTags)))
	if len(tags) == 0 || !whole(tags) {
		in.fail("tags")
	}
	return tags
}

func encodingError(e Encoding) error {
	if e > Snappy {
		return fmt.Errorf("%w: %v is not known yet", ErrNewerVersion, e)
	}
	return fmt.Errorf("%w: %v is never written", ErrMalformed, e)
}

func (in *reader) uvarint(field string, most uint64) uint64 {
	n, size := binary.Uvarint(in.rest)
	if size <= 0 || n > most {
		in.fail(field)
		return 0
	}
	in.rest = in.rest[size:]
	return n
}

func (in *reader) varint(field string) int64 {
	n, size := binary.Varint(in.rest)
	if size <= 0 {
		in.fail(field)
		return 0
	}
	in.rest = in.rest[size:]
	return n
}

func (in *reader) byte(field string) byte {
	if b := in.bytes(field, 1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// bytes yields n bytes without copying them; appending to the result does not write into what follows it.
func (in *reader) bytes(field string, n uint64) []byte {
	if n > uint64(len(in.rest)) {
		in.fail(field)
		return nil
	}
	b := in.rest[:n:n]
	in.rest = in.rest[n:]
	return b
}

func (in *reader) fail(field string) {
	if in.err == nil {
		in.err = fmt.Errorf("%w: %s is cut short or out of range", ErrMalformed, field)
	}
	in.rest = nil
}
