// Package disk implements buffer.Store as segment files; FORMAT.md describes them.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/internal/clock"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// Store is a log in a directory of this machine, with one partition per lane, number 0, that is this process's for ever. It
// implements buffer.Store.
type Store struct {
	*shared
	log  *slog.Logger
	lock io.Closer

	opening sync.Mutex // held while a lane is opened, so that nobody else has to wait for the disk

	mu     sync.Mutex
	lanes  map[buffer.Lane]*lane
	closed chan struct{} // closed when all goroutines are gone
}

var _ buffer.Store = (*Store)(nil)

var (
	laneNamePattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	groupNamePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
)

// lanePrefix keeps directories of lanes apart from others, such as lost+found.
const lanePrefix = "lane-"

// Open opens the log in cfg.Dir, or makes one. What is damaged is set aside and told in the log of events; nothing is deleted.
// It fails when another process uses the directory, when a newer version wrote it, when the directory cannot be made or read,
// or when a setting is wrong. Metrics are registered with reg, which may be nil, until Close.
func Open(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	return openOn(osFS{}, cfg, log, reg)
}

func openOn(fsys fileSystem, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := fsys.Mkdir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("make INGESTGW_BUFFER_DIR: %w", err)
	}
	lock, err := fsys.Lock(filepath.Join(cfg.Dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("open the log on disk: %w", err)
	}
	s := &Store{
		shared: &shared{
			fs:       fsys,
			buffers:  &buffers{},
			pendings: &pendings{},
			quota: &quota{space: func() (int64, int64, error) { return fsys.Space(cfg.Dir) }, max: int64(cfg.MaxBytes),
				bulk: cfg.BulkShare},
			cfg:     cfg,
			closing: make(chan struct{}),
		},
		log:    log,
		lock:   lock,
		lanes:  make(map[buffer.Lane]*lane),
		closed: make(chan struct{}),
	}
	s.all = s.opened
	s.metrics = newMetrics(s)
	if err := errors.Join(s.open(), s.metrics.register(reg)); err != nil {
		return nil, errors.Join(fmt.Errorf("open the log in %s: %w", cfg.Dir, err), s.Close(context.Background()))
	}
	return s, nil
}

// open reads the identity and opens the main lane, the bulk lane, and all other lanes that there are.
func (s *Store) open() error {
	entries, err := s.fs.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	names := []string{string(buffer.Main), string(buffer.Bulk)}
	for _, e := range entries {
		name, isLane := strings.CutPrefix(e.name, lanePrefix)
		switch {
		case isLane && e.dir && laneNamePattern.MatchString(name):
			names = append(names, name)
		case e.name != "lock" && e.name != identityName && e.name != identityName+newEnding:
			s.log.Warn("leaving alone what is not part of the log", "path", filepath.Join(s.cfg.Dir, e.name))
		}
	}
	if s.id, err = s.identity(names); err != nil {
		return err
	}
	for _, name := range names { // main first: what is done there and goes may be the room that others need
		_, err := s.lane(buffer.Lane(name))
		if name != string(buffer.Main) && errors.Is(err, buffer.ErrFull) {
			s.log.Error("the disk has no room for the directory of a lane; it is made later", "lane", name, "err", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lane returns a lane, which is opened or made when it is first asked for.
func (s *Store) lane(name buffer.Lane) (*lane, error) {
	if l, err := s.openedLane(name); l != nil || err != nil {
		return l, err
	}
	if !laneNamePattern.MatchString(string(name)) {
		return nil, fmt.Errorf("open lane %q: a lane's name has 1 to 32 of a-z, 0-9 and -", name)
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if l, err := s.openedLane(name); l != nil || err != nil {
		return l, err
	}
	l := &lane{
		shared:  s.shared,
		name:    string(name),
		dir:     filepath.Join(s.cfg.Dir, lanePrefix+string(name)),
		log:     s.log.With("lane", string(name)),
		account: s.quota.account(name == buffer.Main),
		queue:   make(chan *pending, queueBlocks),
		wanted:  make(chan struct{}, 1),
		stopped: make(chan struct{}),
		changed: make(chan struct{}),
		groups:  make(map[string]*group),
	}
	if err := s.fs.Mkdir(l.dir); err != nil {
		return nil, l.failed("make the directory", err)
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes[name] = l // also while the store closes: finish waits for opening
	go l.run()        // ends when l.close has closed its queue; l.close waits for it
	return l, nil
}

// openedLane returns a lane that is open, nil when it is not. The error is ErrClosed.
func (s *Store) openedLane(name buffer.Lane) (*lane, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.lanes[name]; l != nil {
		return l, nil
	}
	select {
	case <-s.closing:
		return nil, fmt.Errorf("open lane %s: %w", name, buffer.ErrClosed)
	default:
		return nil, nil
	}
}

// MaxBlock is 32 MiB, or half of the smallest share that a lane has of BUFFER_MAX_BYTES: one that is empty takes any block.
func (s *Store) MaxBlock() int {
	if s.cfg.MaxBytes == 0 {
		return maxBlock
	}
	return int(min(maxBlock, part(int64(s.cfg.MaxBytes), s.cfg.BulkShare)/2))
}

// Append implements buffer.Store. Blocks of concurrent calls are written together and synced once.
func (s *Store) Append(ctx context.Context, lane buffer.Lane, b *buffer.Block) error {
	if len(b.Data) > s.MaxBlock() {
		defer b.Release()
		return fmt.Errorf("append to lane %s: %w: %v, at most %v (twice that has to fit into the share of INGESTGW_BUFFER_MAX_BYTES that "+
			"INGESTGW_BUFFER_BULK_SHARE says)", lane, buffer.ErrTooLarge, settings.Bytes(len(b.Data)), settings.Bytes(s.MaxBlock()))
	}
	l, err := s.lane(lane)
	if err != nil {
		b.Release()
		return err
	}
	return l.append(ctx, b)
}

// Consume implements buffer.Store. While somebody consumes a lane for a group, another call for the same waits for its turn.
func (s *Store) Consume(ctx context.Context, group string, lanes []buffer.Lane,
	fn func(context.Context, buffer.Partition) error,
) error {
	if !groupNamePattern.MatchString(group) {
		return fmt.Errorf("consume as group %q: a name has 1 to 64 letters, digits, dots, hyphens and underscores", group)
	}
	running, ctx := errgroup.WithContext(ctx)
	for _, name := range lanes {
		running.Go(func() error {
			l, err := s.laneSoon(ctx, name)
			if l == nil {
				return err
			}
			p := &partition{lane: l, group: l.join(group)}
			return p.consume(ctx, fn)
		})
	}
	return running.Wait()
}

// laneSoon returns a lane as soon as the disk has room for its directory, nil when ctx ends before or after an error.
func (s *Store) laneSoon(ctx context.Context, name buffer.Lane) (*lane, error) {
	for {
		l, err := s.lane(name)
		if !errors.Is(err, buffer.ErrFull) {
			return l, err
		}
		if !clock.Sleep(ctx, retryMost) {
			return nil, nil
		}
	}
}

// consume runs fn when it is this caller's turn, and waits for ctx to end.
func (p *partition) consume(ctx context.Context, fn func(context.Context, buffer.Partition) error) error {
	select {
	case p.group.owner <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-p.group.owner }()
	if err := fn(ctx, p); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// Stats implements buffer.Store. A partition's MaxBytes is what its lane may take while the others hold what they do.
func (s *Store) Stats(context.Context) ([]buffer.PartitionStats, error) {
	var list []buffer.PartitionStats
	for _, l := range s.all() {
		st := l.stats()
		st.MaxBytes = l.account.most()
		list = append(list, st)
	}
	return list, nil
}

// opened returns the lanes in the order of their names.
func (s *Store) opened() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*lane, 0, len(s.lanes))
	for _, l := range s.lanes {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *lane) int { return strings.Compare(a.name, b.name) })
	return list
}

// Close implements buffer.Store. When ctx ends first, a disk that does not answer keeps the writers; they hold the lock until
// they or the process end.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	select {
	case <-s.closing:
	default:
		close(s.closing)
		go s.finish() // ends when the lanes' writers have; closed tells
	}
	s.mu.Unlock()
	select {
	case <-s.closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close the log on disk, blocks are still being written: %w", ctx.Err())
	}
}

func (s *Store) finish() {
	defer close(s.closed)
	s.opening.Lock() // whoever came before Close still opens a lane; nobody comes after
	defer s.opening.Unlock()
	var closing sync.WaitGroup
	for _, l := range s.all() {
		closing.Go(l.close)
	}
	closing.Wait()
	s.metrics.unregister()
	if err := s.lock.Close(); err != nil {
		s.log.Warn("cannot release the lock of the log on disk", "err", err)
	}
}
