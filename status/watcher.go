package status

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/gathered"
)

const (
	// every is how often history gets a point.
	every = 10 * time.Second
	// pastPoints is how many of the last readings are kept for rates, which are over 30 to 40 s then.
	pastPoints = 4
	// fresh is how long a reading is good for everybody who asks.
	fresh = time.Second
	// leastSpan is the shortest time that a rate is made from.
	leastSpan = 2 * time.Second
)

// A watcher reads the metrics of the process for all who look at them, and keeps what they were.
type watcher struct {
	gatherer prometheus.Gatherer
	log      *slog.Logger
	history  *history

	mu   sync.Mutex // one reads at a time
	past []*figures // the oldest first
	last *figures
}

func newWatcher(g prometheus.Gatherer, length time.Duration, log *slog.Logger) *watcher {
	return &watcher{gatherer: g, log: log, history: newHistory(length)}
}

// run adds a point to history every ten seconds, until ctx ends. Server.Serve starts it and waits for it.
func (w *watcher) run(ctx context.Context) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		w.note()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// note adds a point to history.
func (w *watcher) note() {
	s := w.read()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history.add(s.now.At, pointOf(s))
	if w.past = append(w.past, s.now); len(w.past) > pastPoints {
		w.past = append(w.past[:0:0], w.past[1:]...)
	}
}

// read returns the figures of now, at most one second old, and those of half a minute ago.
func (w *watcher) read() span {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil || time.Since(w.last.At) >= fresh {
		now, err := gathered.Read(w.gatherer)
		if err != nil { // what could be read is there
			w.log.Warn("not all metrics can be read for the page", "err", err)
		}
		w.last = &figures{now}
	}
	s := span{now: w.last}
	if len(w.past) > 0 && w.last.At.Sub(w.past[0].At) >= leastSpan {
		s.then = w.past[0]
	}
	return s
}
