package status

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func pointWith(v float64) (p point) {
	for i := range p {
		p[i] = v
	}
	return p
}

func TestHistoryKeepsTheLastHoursAndNoMore(t *testing.T) {
	h := newHistory(10 * time.Minute) // 60 points
	for i := range 150 {
		h.add(morning.Add(time.Duration(i)*every), pointWith(float64(i)))
	}
	got := h.show(1000)
	if len(got.At) != 60 || got.At[0] != morning.Add(90*every).Unix() || got.At[59] != morning.Add(149*every).Unix() {
		t.Errorf("%d points, from %v", len(got.At), got.At)
	}
	for _, c := range got.columns() {
		if len(*c) != 60 || (*c)[0] != 90 || (*c)[59] != 149 {
			t.Errorf("a column is %v", *c)
		}
	}
	if cap(h.points) != 60 || cap(h.at) != 60 {
		t.Errorf("room for %d points", cap(h.points))
	}
}

func TestFewerPointsAreTheGreatestOfThoseTheyStandFor(t *testing.T) {
	h := newHistory(10 * time.Minute)
	if got := h.show(5); len(got.At) != 0 || got.BacklogSeconds == nil {
		t.Errorf("nothing yet: %+v", got)
	}
	for i, v := range []float64{1, math.NaN(), 7, 2, math.NaN(), math.NaN(), 3} {
		h.add(morning.Add(time.Duration(i)*every), pointWith(v))
	}
	for n, want := range map[int]string{7: "[1,null,7,2,null,null,3]", 4: "[1,7,2,3]", 3: "[1,7,3]", 1: "[7]", 100: "[1,null,7,2,null,null,3]"} {
		got := h.show(n)
		text, err := json.Marshal(got.GCShare)
		if err != nil || string(text) != want {
			t.Errorf("%d points: %s, want %s", n, text, want)
		}
		if last := got.At[len(got.At)-1]; last != morning.Add(6*every).Unix() {
			t.Errorf("%d points: the last is of %d", n, last)
		}
	}
}

func TestEveryFigureOfAPointHasItsColumn(t *testing.T) {
	if n := reflect.TypeFor[History]().NumField() - 1; n != drawn {
		t.Fatalf("%d columns for %d figures", n, drawn)
	}
	p := pointOf(backlogScene().span())
	if p[backlogSeconds] != 4324 || p[backlogBytes] != 2.9e9 || p[backlogBlocks] != 61234 || p[samplesIn] != 5e4 || p[refusedRequests] != 4 ||
		p[gcShare] != 0.043 || p[memoryBytes] != 310<<20 {
		t.Errorf("point %v", p)
	}
}

func TestTheWatcherWritesHistoryUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var samples atomic.Int64
		w := newWatcher(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			return board{"ingestgw_ingest_samples_total": float64(samples.Load()), "ingestgw_forward_unsent_blocks": 3}.Gather()
		}), time.Hour, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { // ends with ctx
			w.run(ctx)
			close(done)
		}()
		for range 12 {
			synctest.Wait()
			samples.Add(1000)
			time.Sleep(every)
		}
		synctest.Wait()
		cancel()
		<-done
		h := w.history.show(100)
		if len(h.At) != 13 || h.SamplesIn[0].Known() || h.SamplesIn[12] != 100 || h.BacklogBlocks[12] != 3 {
			t.Errorf("history %+v", h)
		}
		if len(w.past) != pastPoints {
			t.Errorf("%d readings are kept", len(w.past))
		}
	})
}

func TestManyWhoLookReadTheMetricsOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatcher(board{}, time.Hour, slog.New(slog.DiscardHandler))
		first := w.read().now
		time.Sleep(fresh - time.Nanosecond)
		if w.read().now != first {
			t.Error("read again within a second")
		}
		time.Sleep(time.Nanosecond)
		if w.read().now == first {
			t.Error("not read again after a second")
		}
	})
}

func TestTheAPITellsHistory(t *testing.T) {
	s, _ := serve(t)
	for i := range 20 {
		s.watcher.history.add(morning.Add(time.Duration(i)*every), pointWith(1))
	}
	code, text := get(t, s, "/api/v1/history?points=3")
	var h History
	if err := json.Unmarshal([]byte(text), &h); code != 200 || err != nil || len(h.At) != 3 || len(h.MemoryBytes) != 3 {
		t.Errorf("answered %d %s, %v", code, text, err)
	}
	for _, n := range []string{"0", "-1", "x", "20001", "99999999999999999999"} {
		if code, text := get(t, s, "/api/v1/history?points="+n); code != 400 || !strings.Contains(text, "1 to 20000") {
			t.Errorf("points=%s: answered %d %s", n, code, text)
		}
	}
}
