package status

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A lineTo is a connection to a viewer, who takes so many bytes and then no more.
type lineTo struct {
	header   http.Header
	room     int // bytes
	deadline time.Time
	at       []time.Time // when events were written
	open     int         // bytes that the server holds for the viewer now
	most     int         // that it has held at one time
}

func (l *lineTo) Header() http.Header                 { return l.header }
func (*lineTo) WriteHeader(int)                       {}
func (*lineTo) FlushError() error                     { return nil }
func (*lineTo) SetReadDeadline(time.Time) error       { return nil }
func (l *lineTo) SetWriteDeadline(at time.Time) error { l.deadline = at; return nil }
func (l *lineTo) Write(event []byte) (n int, err error) {
	l.at = append(l.at, time.Now())
	l.open += len(event)
	l.most = max(l.most, l.open)
	defer func() { l.open -= len(event) }()
	if l.room -= len(event); l.room < 0 {
		time.Sleep(time.Until(l.deadline)) // of the bubble: as long as the kernel would let it wait
		return 0, os.ErrDeadlineExceeded
	}
	return len(event), nil
}

// counted counts how often metrics are gathered.
type counted struct {
	board
	times atomic.Int32
}

func (c *counted) Gather() ([]*dto.MetricFamily, error) {
	c.times.Add(1)
	return c.board.Gather()
}

func TestASlowViewerHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{History: time.Hour}, "v1.2.3", slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		sc := backlogScene()
		sc.show(s)
		metrics := &counted{board: sc.now}
		s.watcher.gatherer = metrics
		ctx, leave := context.WithCancel(t.Context())
		watch := func(l *lineTo) (gone chan time.Duration) {
			l.header = http.Header{}
			gone = make(chan time.Duration, 1)
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/api/v1/events", nil)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			go func() { // ends when the viewer is given up, or with ctx
				s.answerEvents(l, r)
				gone <- time.Since(began)
			}()
			return gone
		}
		slow := &lineTo{room: 10}
		slowGone := watch(slow)
		var others []*lineTo
		for range mostViewers - 1 {
			l := &lineTo{room: 1 << 30}
			others = append(others, l)
			watch(l)
		}
		const minute = 30 // events
		time.Sleep(minute*eventEvery - time.Second)
		synctest.Wait()

		if after := <-slowGone; after != eventTimeout {
			t.Errorf("the slow viewer was given up after %s, want %s", after, eventTimeout)
		}
		if len(slow.at) != 1 || slow.open != 0 {
			t.Errorf("%d events were written to the slow viewer, of which %d bytes are held; want one, given up", len(slow.at), slow.open)
		}
		for i, l := range others {
			if len(l.at) != minute {
				t.Fatalf("viewer %d had %d events within a minute, want %d", i, len(l.at), minute)
			}
			for j := range l.at[1:] {
				if pause := l.at[j+1].Sub(l.at[j]); pause != eventEvery {
					t.Errorf("viewer %d waited %s for event %d", i, pause, j+1)
				}
			}
			if l.most > 64<<10 {
				t.Errorf("%d bytes were held for viewer %d", l.most, i)
			}
		}
		if n := metrics.times.Load(); n > minute {
			t.Errorf("metrics were gathered %d times for %d rounds of events", n, minute)
		}
		if n := s.viewers.n.Load(); n != mostViewers-1 {
			t.Errorf("%d viewers are counted, want %d", n, mostViewers-1)
		}
		leave()
		synctest.Wait()
		if n := s.viewers.n.Load(); n != 0 {
			t.Errorf("%d viewers are counted after all have left", n)
		}
	})
}
