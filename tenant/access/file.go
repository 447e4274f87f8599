package access

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/internal/clock"
	"github.com/ingestgw/ingestgw/internal/credentials"
)

// A stamp tells whether a file has changed.
type stamp struct {
	info os.FileInfo
	hash uint64
	// fresh: the file was so new when it was read that a change right after it may show in nothing but its content.
	fresh bool
}

// tick is more than what any filesystem rounds times to.
const tick = 2 * time.Second

var seed = maphash.MakeSeed()

// Run reads the file again when it changes, until ctx ends.
func (a *Access) Run(ctx context.Context) error {
	if !a.hasFile() || a.cfg.FileInterval == 0 {
		<-ctx.Done()
		return nil
	}
	for clock.Sleep(ctx, a.cfg.FileInterval) {
		a.poll()
	}
	return nil
}

// poll reads the file if it has changed and has been left alone since the last poll: one that somebody is writing just now may
// lack half of the tenants, whose samples would be refused for good.
func (a *Access) poll() {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	info, err := os.Stat(a.cfg.File) // follows links: Kubernetes swaps one when it changes a file
	if err == nil && !a.seen.fresh && same(a.seen.info, info) {
		return
	}
	before := a.polled
	a.polled = info
	if err == nil && !same(before, info) {
		return
	}
	_ = a.reread(a.seen) // has been logged
}

// same says whether two looks at a file found the same. It is false for nil.
func same(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Reload reads the file now; without a file it does nothing. When something is wrong with it, what was read before stays in use, and
// the error names the file and the line.
func (a *Access) Reload() error {
	if !a.hasFile() {
		return nil
	}
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.reread(stamp{})
}

// reread is read when there is something to go on with.
func (a *Access) reread(known stamp) error {
	err := a.read(known)
	if err != nil {
		a.log.Error("tenants cannot be read, going on with those read before", "err", err)
	}
	return err
}

// read puts what the file says into use, unless its content is that of known.
func (a *Access) read(known stamp) error {
	began := time.Now()
	text, seen, err := load(a.cfg.File)
	if err == nil && known.info != nil && known.hash == seen.hash {
		a.seen = seen
		return nil
	}
	a.seen = seen // also of a bad one: it is not complained of every few seconds
	var t *table
	if err == nil {
		t, err = parse(text, a.table.Load(), a.directory)
	}
	a.metrics.reload(t, began)
	if err != nil {
		return fmt.Errorf("read tenants (INGESTGW_TENANT_FILE): %s: %w", a.cfg.File, err)
	}
	a.table.Store(t)
	a.log.Info("tenants read", slog.String("file", a.cfg.File), slog.Int("tenants", len(t.tenants)),
		slog.Int("credentials", t.credentialCount()), slog.Duration("took", time.Since(began)))
	return nil
}

func load(name string) (text string, seen stamp, err error) {
	f, err := credentials.Open(name)
	if err != nil {
		return "", stamp{}, withoutName(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", stamp{}, withoutName(err)
	}
	var b strings.Builder
	b.Grow(int(info.Size()))
	if _, err := io.Copy(&b, f); err != nil {
		return "", stamp{}, withoutName(err)
	}
	text = b.String()
	return text, stamp{info: info, hash: maphash.String(seed, text), fresh: time.Since(info.ModTime()).Abs() < tick}, nil
}

// withoutName takes the file's name out of err: who returns it says it.
func withoutName(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	return err
}
