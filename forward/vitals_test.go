package forward

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/memory"
)

// Settling by the clock, or not at all, needs no metrics; alarms do.
func TestVitalsAreReadWhereSettlingDoesNotNeedThem(t *testing.T) {
	polled := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("process_start_time_seconds 1795486741\nvm_rpc_rows_sent_total{addr=\"127.0.0.1:1\"} 1\n"))
		polled <- struct{}{}
	}))
	t.Cleanup(server.Close)
	for name, settle := range map[string]SettleConfig{
		"no settling":           {Settle: 0, SettleMode: settleAuto, LostAfter: time.Minute, Pollers: 1},
		"settling by the clock": {Settle: 30 * time.Second, SettleMode: settleTime, LostAfter: time.Minute, Pollers: 1},
	} {
		for _, watch := range []bool{true, false} {
			settle.Watch = watch
			cfg := Config{
				URLs: urls(t, server.URL), ResolveInterval: time.Minute, Concurrency: 1, Timeout: time.Second, MaxLabels: 30,
				RetryMin: time.Second, RetryMax: time.Second, SettleConfig: settle,
			}
			reg := prometheus.NewPedanticRegistry()
			f, err := New(cfg, newFakeStore(), memory.NewBudget(8<<20), slog.New(slog.DiscardHandler), reg)
			if err != nil {
				t.Fatal(err)
			}
			if f.settle.(*settler).watch != nil {
				t.Errorf("%s: settling looks at the metrics", name)
			}
			if !watch {
				if v := f.Vitals(); v != nil || f.watchesAlone() {
					t.Errorf("%s: %d servers watched although none shall be", name, len(v))
				}
				continue
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- f.Run(ctx, "forward") }() // ends with cancel
			<-polled
			<-polled // the first one has been taken in
			v := f.Vitals()
			if len(v) == 0 || v[0].Kind != downstream.VMInsert || v[0].Health != downstream.HealthGood {
				t.Errorf("%s: got %+v, want a vminsert in good health", name, v)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for len(polled) > 0 {
				<-polled
			}
		}
	}
}
