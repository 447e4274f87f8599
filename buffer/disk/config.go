package disk

import (
	"errors"
	"fmt"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// What Config.WhenFull may say.
const (
	whenFullRefuse     = "refuse"
	whenFullDropOldest = "drop-oldest"
)

const (
	// maxBlock is the most bytes in one block: twice the largest request body that is accepted by default.
	maxBlock = 32 << 20
	// minSegmentBytes keeps the share of headers and the number of files small.
	minSegmentBytes = 64 << 10
	// quotaSegments is how many segments a quota holds at least: space comes back by whole segments.
	quotaSegments = 8
	// shareSegments is how many of the smallest segments a lane's share of BUFFER_MAX_BYTES holds at least.
	shareSegments = 2
	// maxBulkShare leaves a quarter of the log to the main lane at least.
	maxBulkShare = 75
)

// Config is the settings of the disk buffer, read with prefix BUFFER.
type Config struct {
	Dir          string         `default:"data" desc:"Directory of the log on disk. One process at a time; it has to survive restarts and be on a local disk."`
	MaxBytes     settings.Bytes `split_words:"true" default:"0" unit:"bytes" desc:"Most bytes that the log may take on disk. 0 means what the disk allows, less a reserve of 10 % of it or 5GiB, whichever is smaller."`
	WhenFull     string         `split_words:"true" default:"refuse" desc:"What happens when the log is full: refuse answers senders 503 until there is room, drop-oldest deletes the oldest blocks though nobody has forwarded them."`
	BulkShare    int            `split_words:"true" default:"25" unit:"%" desc:"Largest part of the log that the bulk lane may take: what tenants send above their sustained rate, and what is old already when it comes. All that bulk does not hold is for what tenants send within their limits. 1 to 75."`
	SegmentBytes settings.Bytes `split_words:"true" default:"64MiB" unit:"bytes" desc:"Size of one file of the log; space comes back in such pieces. At most an eighth of BUFFER_MAX_BYTES, or of what the disk allows, is used. Least value 64KiB."`
}

// Validate says everything that is wrong, naming the variables.
func (c Config) Validate() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("INGESTGW_BUFFER_DIR is empty: give a directory"))
	}
	share := part(int64(c.MaxBytes), c.BulkShare)
	switch {
	case c.MaxBytes < 0 || c.MaxBytes > 0 && c.MaxBytes < quotaSegments*minSegmentBytes:
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER_MAX_BYTES is %v: give at least %v, or 0 for what the disk allows",
			c.MaxBytes, settings.Bytes(quotaSegments*minSegmentBytes)))
	case c.BulkShare < 1 || c.BulkShare > maxBulkShare:
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER_BULK_SHARE is %d: give 1 to %d", c.BulkShare, maxBulkShare))
	case c.MaxBytes > 0 && share < shareSegments*minSegmentBytes:
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER_BULK_SHARE=%d leaves %v of INGESTGW_BUFFER_MAX_BYTES=%v: at least %v are needed",
			c.BulkShare, settings.Bytes(share), c.MaxBytes, settings.Bytes(shareSegments*minSegmentBytes)))
	}
	if c.WhenFull != whenFullRefuse && c.WhenFull != whenFullDropOldest {
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER_WHEN_FULL is %q: give %s or %s",
			c.WhenFull, whenFullRefuse, whenFullDropOldest))
	}
	if c.SegmentBytes < minSegmentBytes {
		errs = append(errs, fmt.Errorf("INGESTGW_BUFFER_SEGMENT_BYTES is %v: give at least %v",
			c.SegmentBytes, settings.Bytes(minSegmentBytes)))
	}
	return errors.Join(errs...)
}
