// Package buffer keeps accepted records until they are forwarded.
package buffer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Lane is a queue of its own inside a Store: what waits in one lane never waits behind another.
type Lane string

const (
	// Main is the lane of what tenants send within their limits.
	Main Lane = "main"
	// Bulk is the lane of what is above a tenant's sustained rate, and of what is old already when it comes. It is stored and
	// forwarded as well, but never makes Main wait, or full: it has a small share of the Store.
	Bulk Lane = "bulk"
)

// What a Store answers when it does not keep a block. They are few, because each is a decision of the caller's; the error
// that is returned wraps one of them and says the rest in its text.
var (
	// ErrFull: the lane, or the whole Store, has reached its quota. The sender is to come back later.
	ErrFull = errors.New("buffer is full")
	// ErrTooLarge: the block is larger than MaxBlock, perhaps since a moment ago. It can be stored only in parts.
	ErrTooLarge = errors.New("block is too large for the buffer")
	// ErrUnavailable: the disk or the brokers cannot take the block now; it may have been stored all the same.
	ErrUnavailable = errors.New("buffer is unavailable")
	// ErrFenced: another process owns the partition now.
	ErrFenced = errors.New("partition belongs to another process now")
	// ErrClosed: the Store is closed or closing.
	ErrClosed = errors.New("buffer is closed")
)

// Offset numbers the blocks of a partition, from 0, without holes, in the order in which they became durable. An offset that
// was once readable never stands for another block, not even after a crash.
type Offset int64

// A Block is the unit of everything in a Store: one write, one acknowledgement, one offset. The bytes are made by a Gatherer
// and read by DecodeBlock; to a Store they are opaque.
type Block struct {
	// Offset is set by the Store, on what it reads back.
	Offset Offset
	// Received is when the oldest record in the block arrived, by this machine's clock, in whole milliseconds.
	Received time.Time
	// Records and Samples count what the block holds, so that lag can be told without decoding. Histograms count as samples.
	Records, Samples int
	// Data is the encoded block.
	Data []byte

	release func()
}

// NewBlock returns a block for Store.Append. release, which may be nil, is called once, when the Store needs data no more.
func NewBlock(received time.Time, records, samples int, data []byte, release func()) *Block {
	return &Block{Received: received, Records: records, Samples: samples, Data: data, release: release}
}

// Release gives the bytes back to whoever made the block. It is called once by the Store that Append handed it to.
func (b *Block) Release() {
	if b.release != nil {
		b.release()
	}
}

// PartitionID names one sequence of blocks.
type PartitionID struct {
	// Log tells one log from another that was made anew in the same place: an offset means something only within its log.
	Log string
	// Lane is the lane whose blocks it holds.
	Lane Lane
	// Number tells the partitions of a lane apart. The disk buffer has one per lane, number 0.
	Number int
}

func (id PartitionID) String() string { return fmt.Sprintf("%s/%d", id.Lane, id.Number) }

// A Store keeps blocks until they are forwarded. All methods are safe for concurrent use.
//
// Gathering records into blocks and their encoding live once, in this package, above every Store.
type Store interface {
	// MaxBlock is the most bytes that Append takes in one block. It may change while the Store is open, and is cheap to ask.
	MaxBlock() int

	// Append stores b at the end of some partition of the lane. nil means durable: b survives kill -9 and power loss, and only
	// then can it be read. Any other result wraps ErrFull, ErrTooLarge, ErrUnavailable, ErrClosed or ctx.Err(); after
	// ErrUnavailable and ctx.Err() the block may turn out to be stored, which is harmless.
	//
	// The Store owns b from the call on and calls b.Release once when it needs the bytes no more: before Append returns, or
	// after it when ctx ended first. Until then nobody may change b.Data.
	Append(ctx context.Context, lane Lane, b *Block) error

	// Consume runs fn, in goroutines of its own, for each partition of the lanes that is this process's within the group, and
	// again whenever it gets one. fn's context ends when the partition is lost or ctx ends; Consume returns when ctx has ended
	// and every fn has returned. An error of fn ends everything and is returned.
	Consume(ctx context.Context, group string, lanes []Lane, fn func(context.Context, Partition) error) error

	// Stats says what the Store holds. With an error comes what is known all the same: one lane does not wait for another.
	Stats(ctx context.Context) ([]PartitionStats, error)

	// Close refuses new blocks, waits for the ones under way or for ctx, and returns when the Store's goroutines are gone.
	// Whoever consumes has stopped before.
	Close(ctx context.Context) error
}

// A Partition is a sequence of blocks that its owner reads, and remembers how far it came. Methods are safe for concurrent use.
type Partition interface {
	ID() PartitionID

	// Bounds is the half-open range of offsets that can be read now: first is the oldest still kept, next is the one that the
	// next durable block will get.
	Bounds(ctx context.Context) (first, next Offset, err error)

	// Read returns whole blocks from the offset on, in order: at least one, further ones while they fit in maxBytes. It waits
	// when there is none yet. It passes over what is lost (removed while unread, or damaged) and says so in the Batch, which
	// has no block when all there is was lost. Errors wrap ErrUnavailable (try again), ErrNewerVersion when the next block is one
	// that only a newer version can read, ErrFenced when the partition is ours no more, ErrClosed or ctx.Err().
	Read(ctx context.Context, from Offset, maxBytes int) (Batch, error)

	// Load returns the group's progress as last saved, or the progress that starts at the first block kept when there is none
	// that fits this log. Errors are those of Read.
	Load(ctx context.Context) (Progress, error)

	// Save replaces the group's progress, durably. Blocks that every group has done may then be removed. Errors wrap
	// ErrFenced when another process owns the partition, ErrFull or ErrUnavailable (try again), ErrClosed or ctx.Err(), or say
	// that p belongs to another log; the progress that was saved before still counts then.
	Save(ctx context.Context, p Progress) error
}

// A Batch is what one Read returned. Its blocks' bytes are valid until Release.
type Batch struct {
	Blocks []Block
	// Lost is what lay in the range read and cannot be had any more, in ascending order.
	Lost []Loss
	// Next is where the following Read goes on.
	Next Offset

	release func()
}

// NewBatch is for Stores. release, which may be nil, is called once, when the reader needs the bytes no more.
func NewBatch(blocks []Block, lost []Loss, next Offset, release func()) Batch {
	return Batch{Blocks: blocks, Lost: lost, Next: next, release: release}
}

// Release gives the bytes of all blocks back to the Store.
func (b Batch) Release() {
	if b.release != nil {
		b.release()
	}
}

// A Loss is a range of blocks that can never be read, and why.
type Loss struct {
	Span
	Reason string // such as "damaged" or "dropped to make room"
}

// PartitionStats says what one partition holds.
type PartitionStats struct {
	ID PartitionID
	// First and Next are as Partition.Bounds returns them.
	First, Next Offset
	// Bytes is what the partition takes of its storage, MaxBytes what the lane may take; 0 when the Store has no such bound.
	Bytes, MaxBytes int64
}
