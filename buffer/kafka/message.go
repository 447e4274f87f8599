package kafka

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/ingestgw/ingestgw/buffer"
)

// The headers of a message, which FORMAT.md describes.
const (
	headerVersion  = "ingestgw"
	headerReceived = "received"
	headerRecords  = "records"
	headerSamples  = "samples"

	messageVersion = 1
	// overhead is more than a block takes in a topic beside its own bytes: the head of the batch (61 bytes), that of the
	// message, and the headers.
	overhead = 512
)

// headers are what a message says about its block.
func headers(b *buffer.Block) []kafka.Header {
	number := func(name string, n int64) kafka.Header {
		return kafka.Header{Key: name, Value: strconv.AppendInt(nil, n, 10)}
	}
	return []kafka.Header{
		number(headerVersion, messageVersion),
		number(headerReceived, b.Received.UnixMilli()),
		number(headerRecords, int64(b.Records)),
		number(headerSamples, int64(b.Samples)),
	}
}

// blockOf is the block of a message without its bytes. A message that somebody else has put into the topic has other headers or
// none: then the block was received when Kafka got it, and its reader finds out that the bytes are none of ours. The error wraps
// buffer.ErrNewerVersion when its version is above newest.
func blockOf(m *kafka.Record, newest int64) (buffer.Block, error) {
	b := buffer.Block{Offset: buffer.Offset(m.Offset), Received: m.Time}
	for _, h := range m.Headers {
		n, err := strconv.ParseInt(string(h.Value), 10, 64)
		if err != nil || n < 0 {
			continue
		}
		switch h.Key {
		case headerVersion:
			if n > newest {
				return b, fmt.Errorf("message of version %d at offset %d, known is up to %d: %w", n, m.Offset, newest, buffer.ErrNewerVersion)
			}
		case headerReceived:
			b.Received = time.UnixMilli(n)
		case headerRecords:
			b.Records = int(n)
		case headerSamples:
			b.Samples = int(n)
		}
	}
	return b, nil
}

// A value is a block's bytes as kafka-go reads them, once, in a goroutine of its own that goes on when nobody waits for it any
// more. After withdraw it finds nothing.
type value struct {
	mu        sync.Mutex
	rest      []byte
	withdrawn bool
}

// errWithdrawn ends a request that had not been written when it was given up.
var errWithdrawn = fmt.Errorf("%w: the block has been taken back", buffer.ErrUnavailable)

// Read implements io.Reader.
func (v *value) Read(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.withdrawn {
		return 0, errWithdrawn
	}
	if len(v.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, v.rest)
	v.rest = v.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (*value) Close() error { return nil }

// Len is how many bytes are still to be read.
func (v *value) Len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.rest)
}

// withdraw returns when nobody reads the bytes, and nobody will.
func (v *value) withdraw() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rest, v.withdrawn = nil, true
}
