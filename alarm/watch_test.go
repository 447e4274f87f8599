package alarm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/internal/gathered"
)

func TestAnAlarmIsLoggedWhenItBeginsAndWhenItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		reg := prometheus.NewRegistry()
		held := prometheus.NewGauge(prometheus.GaugeOpts{Name: gathered.OnHold})
		reg.MustRegister(held)
		w := New(Config{Every: step, Patience: 1}, Sources{Metrics: reg}, slog.New(slog.NewTextHandler(&log, nil)), reg)
		ctx, cancel := context.WithCancel(t.Context())
		told := 0
		ended := make(chan error)
		go func() { ended <- w.Run(ctx, func([]Alarm) { told++ }) }()

		time.Sleep(time.Minute)
		held.Set(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		const line = "# HELP ingestgw_alarm 1 for each alarm that fires: what is wrong, how bad it is, and which server it is about. Those that are not told yet and those that are over are not shown.\n" +
			"# TYPE ingestgw_alarm gauge\ningestgw_alarm{alarm=\"partition_on_hold\",node=\"\",severity=\"page\"} 1\n"
		if err := testutil.GatherAndCompare(reg, strings.NewReader(line), "ingestgw_alarm"); err != nil {
			t.Error(err)
		}
		if w.Readings().OnHold != 1 || len(w.Alarms()) != 1 {
			t.Errorf("readings %v, alarms %v", w.Readings().OnHold, w.Alarms())
		}
		held.Set(0)
		time.Sleep(20 * time.Minute)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}

		if text := log.String(); strings.Count(text, "alarm: ") != 1 || strings.Count(text, "alarm resolved") != 1 || strings.Count(text, "level=ERROR") != 1 ||
			!strings.Contains(text, "alarm=partition_on_hold") || !strings.Contains(text, "next=") {
			t.Errorf("log:\n%s", text)
		}
		if told < 240 || len(w.Alarms()) != 0 || len(w.told) != 0 {
			t.Errorf("told %d times; left: %v, %v", told, w.Alarms(), w.told)
		}
	})
}

// What cannot be read must not keep the rest from being looked at.
func TestMetricsThatFailAreToldAndTheRestIsLookedAt(t *testing.T) {
	reg := prometheus.NewRegistry()
	held := prometheus.NewGauge(prometheus.GaugeOpts{Name: gathered.OnHold})
	held.Set(1)
	reg.MustRegister(held, broken{})
	w := New(Config{Every: step, Patience: 1}, Sources{Metrics: reg}, slog.New(slog.DiscardHandler), reg)
	if all := w.look(); len(all) != 1 || all[0].Name != "partition_on_hold" || all[0].State != Pending {
		t.Errorf("alarms: %+v", all)
	}
	if got := w.failures.Load(); got != 1 {
		t.Errorf("%d failures", got)
	}
}

// broken is a collector that fails.
type broken struct{}

func (broken) Describe(ch chan<- *prometheus.Desc) { ch <- brokenDesc }
func (broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(brokenDesc, errors.New("broken"))
}

var brokenDesc = prometheus.NewDesc("ingestgw_broken", "", nil, nil)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	if err := (Config{Every: 5 * time.Second, Patience: 1}).Validate(); err != nil {
		t.Error(err)
	}
	err := Config{Every: time.Hour, Patience: 0}.Validate()
	if err == nil || !strings.Contains(err.Error(), "INGESTGW_ALARM_EVERY=1h0m0s") || !strings.Contains(err.Error(), "INGESTGW_ALARM_PATIENCE=0") {
		t.Errorf("%v", err)
	}
}
