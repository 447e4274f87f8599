package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// FORMAT.md describes what is in this file.
const (
	segmentMagic  = "\x89IGWSEG\n"
	footerMagic   = "IGWEND\r\n"
	formatVersion = 1

	headerSize  = 128      // one copy of a segment's header
	headerCopy  = 4096     // where the second copy is
	framesStart = 2 * 4096 // where frames begin

	frameHeadSize  = 40
	indexFixedSize = 32
	indexEntrySize = 16
	footerSize     = 16

	kindBlock = 0
	kindIndex = 1

	// indexInterval is the bytes of frames for which there is one index entry: 16 bytes of memory per MiB.
	indexInterval = 1 << 20
)

// errHeader: neither copy of a segment's header is valid.
var errHeader = errors.New("neither copy of the segment's header is valid")

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

type key [16]byte

// checksums are the states of CRC32C after the key: what keyed checksums begin with.
type checksums struct{ whole, head, data uint32 }

func (k key) checksums() checksums {
	return checksums{
		whole: crc32.Checksum(k[:], castagnoli),
		head:  crc32.Checksum(k[:8], castagnoli),
		data:  crc32.Checksum(k[8:], castagnoli),
	}
}

// segmentHeader is what a segment says of itself.
type segmentHeader struct {
	log     logID
	lane    string
	first   buffer.Offset
	key     key
	created time.Time
}

// encode returns the bytes before the first frame: both copies.
func (h segmentHeader) encode() []byte {
	b := make([]byte, framesStart)
	copy(b, segmentMagic)
	le.PutUint32(b[8:], formatVersion)
	copy(b[16:32], h.log[:])
	le.PutUint64(b[32:], uint64(h.first))
	copy(b[40:56], h.key[:])
	le.PutUint64(b[56:], uint64(h.created.UnixMilli()))
	copy(b[64:96], h.lane)
	le.PutUint32(b[12:], headerChecksum(b[:headerSize]))
	copy(b[headerCopy:], b[:headerSize])
	return b
}

func headerChecksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:])
}

// decodeSegmentHeader reads the first valid copy from the bytes before the first frame, of which some may be missing. The
// error wraps errHeader or buffer.ErrNewerVersion.
func decodeSegmentHeader(b []byte) (segmentHeader, error) {
	for _, at := range []int{0, headerCopy} {
		if len(b) < at+headerSize {
			continue
		}
		c := b[at : at+headerSize]
		if string(c[:8]) != segmentMagic || le.Uint32(c[12:]) != headerChecksum(c) {
			continue
		}
		if v := le.Uint32(c[8:]); v != formatVersion {
			return segmentHeader{}, fmt.Errorf("segment of version %d, known is %d: %w", v, formatVersion, buffer.ErrNewerVersion)
		}
		return segmentHeader{
			log:     logID(c[16:32]),
			first:   buffer.Offset(le.Uint64(c[32:])),
			key:     key(c[40:56]),
			created: time.UnixMilli(int64(le.Uint64(c[56:]))),
			lane:    string(bytes.TrimRight(c[64:96], "\x00")),
		}, nil
	}
	return segmentHeader{}, errHeader
}

// frameHead is the fixed part of a frame.
type frameHead struct {
	offset   buffer.Offset
	received int64 // Unix milliseconds
	size     int   // bytes of data
	records  uint32
	samples  uint32
	kind     uint32
	dataSum  uint32
}

// frameSize is the bytes of head and data.
func (h frameHead) frameSize() int64 { return frameHeadSize + int64(h.size) }

func blockHead(offset buffer.Offset, b *buffer.Block) frameHead {
	return frameHead{
		offset:   offset,
		received: b.Received.UnixMilli(),
		size:     len(b.Data),
		records:  clamp32(b.Records),
		samples:  clamp32(b.Samples),
		kind:     kindBlock,
	}
}

func clamp32(n int) uint32 { return uint32(min(max(int64(n), 0), math.MaxUint32)) }

// put writes the head of a frame with that data to b, which has frameHeadSize bytes.
func (h frameHead) put(b []byte, sums checksums, data []byte) {
	le.PutUint64(b[8:], uint64(h.offset))
	le.PutUint64(b[16:], uint64(h.received))
	le.PutUint32(b[24:], uint32(len(data)))
	le.PutUint32(b[28:], h.records)
	le.PutUint32(b[32:], h.samples)
	le.PutUint32(b[36:], h.kind)
	le.PutUint32(b[4:], crc32.Update(crc32.Update(sums.data, castagnoli, b[8:frameHeadSize]), castagnoli, data))
	le.PutUint32(b[0:], crc32.Update(sums.head, castagnoli, b[4:frameHeadSize]))
}

// parseHead reads the head at the start of b and says whether its checksum is right.
func parseHead(b []byte, sums checksums) (frameHead, bool) {
	h := frameHead{
		dataSum:  le.Uint32(b[4:]),
		offset:   buffer.Offset(le.Uint64(b[8:])),
		received: int64(le.Uint64(b[16:])),
		size:     int(le.Uint32(b[24:])),
		records:  le.Uint32(b[28:]),
		samples:  le.Uint32(b[32:]),
		kind:     le.Uint32(b[36:]),
	}
	return h, le.Uint32(b) == crc32.Update(sums.head, castagnoli, b[4:frameHeadSize])
}

// dataValid says whether the frame, of which b holds all bytes, has the data that its head promises.
func (h frameHead) dataValid(b []byte, sums checksums) bool {
	return h.dataSum == crc32.Update(sums.data, castagnoli, b[8:h.frameSize()])
}

// indexEntry says where a block's frame begins.
type indexEntry struct {
	offset buffer.Offset
	pos    int64
}

// totals is what the blocks of a segment hold.
type totals struct{ blocks, records, samples int64 }

// encodeIndex returns index frame and footer of a segment whose blocks end before end.
func encodeIndex(sums checksums, end buffer.Offset, t totals, entries []indexEntry) []byte {
	data := make([]byte, 0, indexFixedSize+len(entries)*indexEntrySize)
	for _, n := range []int64{t.blocks, t.records, t.samples, int64(len(entries))} {
		data = le.AppendUint64(data, uint64(n))
	}
	for _, e := range entries {
		data = le.AppendUint64(data, uint64(e.offset))
		data = le.AppendUint64(data, uint64(e.pos))
	}
	b := make([]byte, frameHeadSize, frameHeadSize+len(data)+footerSize)
	frameHead{offset: end, kind: kindIndex}.put(b, sums, data)
	b = append(b, data...)
	size := len(b)
	b = append(b, footerMagic...)
	b = le.AppendUint32(b, uint32(size))
	return le.AppendUint32(b, crc32.Update(sums.whole, castagnoli, b[size:]))
}

// parseFooter returns the bytes of the index frame in front of it.
func parseFooter(b []byte, sums checksums) (size int64, ok bool) {
	ok = string(b[:8]) == footerMagic && le.Uint32(b[12:]) == crc32.Update(sums.whole, castagnoli, b[:12])
	return int64(le.Uint32(b[8:])), ok
}

// parseIndex reads the data of an index frame that ends at offset end and begins at byte pos.
func parseIndex(data []byte, first, end buffer.Offset, pos int64) (totals, []indexEntry, error) {
	if len(data) < indexFixedSize {
		return totals{}, nil, fmt.Errorf("index of %d bytes is too short", len(data))
	}
	n := func(i int) int64 { return int64(le.Uint64(data[8*i:])) }
	t := totals{blocks: n(0), records: n(1), samples: n(2)}
	rest := data[indexFixedSize:]
	if n(3) < 0 || n(3) != int64(len(rest)/indexEntrySize) || len(rest)%indexEntrySize != 0 {
		return totals{}, nil, fmt.Errorf("index of %d bytes claims %d entries", len(data), n(3))
	}
	entries := make([]indexEntry, 0, len(rest)/indexEntrySize)
	last := indexEntry{offset: first - 1, pos: framesStart - 1}
	for ; len(rest) > 0; rest = rest[indexEntrySize:] {
		e := indexEntry{offset: buffer.Offset(le.Uint64(rest)), pos: int64(le.Uint64(rest[8:]))}
		if e.offset <= last.offset || e.pos <= last.pos || e.offset >= end || e.pos >= pos {
			return totals{}, nil, fmt.Errorf("index entry %v does not fit behind %v", e, last)
		}
		entries = append(entries, e)
		last = e
	}
	return t, entries, nil
}

// logID tells one log from every other.
type logID [16]byte

func (id logID) String() string { return hex.EncodeToString(id[:]) }

func parseLogID(s string) (logID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(logID{}) {
		return logID{}, fmt.Errorf("log id %q: want 32 hexadecimal digits", s)
	}
	return logID(b), nil
}

// encodeIdentity is the text of the file "log".
func encodeIdentity(id logID) []byte {
	text := fmt.Sprintf("ingestgw-log %d %s ", formatVersion, id)
	return fmt.Appendf(nil, "%s%08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

func decodeIdentity(b []byte) (logID, error) {
	text := strings.TrimSuffix(string(b), "\n")
	i := strings.LastIndexByte(text, ' ') + 1
	if sum, err := strconv.ParseUint(text[i:], 16, 32); err != nil || uint32(sum) != crc32.Checksum([]byte(text[:i]), castagnoli) {
		return logID{}, fmt.Errorf("identity %q: %w: its checksum does not fit", b, buffer.ErrMalformed)
	}
	fields := strings.Fields(text)
	if len(fields) != 4 || fields[0] != "ingestgw-log" {
		return logID{}, fmt.Errorf("identity %q: %w", b, buffer.ErrMalformed)
	}
	if fields[1] != strconv.Itoa(formatVersion) {
		return logID{}, fmt.Errorf("log of version %s, known is %d: %w", fields[1], formatVersion, buffer.ErrNewerVersion)
	}
	return parseLogID(fields[2])
}

// The endings of file names.
const (
	segmentEnding  = ".segment"
	progressEnding = ".progress"
	newEnding      = ".new"
	damagedEnding  = ".damaged"
	foreignEnding  = ".foreign"
	tailEnding     = ".tail-"
)

// maxOffset is above all offsets that a log can reach; it leaves room for arithmetic.
const maxOffset = 1 << 62

func segmentName(first buffer.Offset) string {
	return fmt.Sprintf("%020d%s", int64(first), segmentEnding)
}

// parseSegmentName reads the first offset from the name of a segment, or of what was set aside of one. rest is what follows
// ".segment".
func parseSegmentName(name string) (first buffer.Offset, rest string, ok bool) {
	digits, rest, ok := strings.Cut(name, segmentEnding)
	if !ok || len(digits) != 20 {
		return 0, "", false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return buffer.Offset(n), rest, err == nil && n >= 0 && n < maxOffset && digits[0] != '+'
}
