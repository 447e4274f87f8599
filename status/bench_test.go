package status

import (
	"fmt"
	"testing"

	"github.com/ingestgw/ingestgw/internal/gathered"
)

// A page that is live costs this every two seconds, beside reading the metrics: with 100 vminserts, 100 partitions and 1000 tenants.
func BenchmarkPage(b *testing.B) {
	sc := wellScene()
	big := sc.now.With(nil)
	for i := range 100 {
		for _, code := range []string{"2xx", "3xx", "4xx", "5xx", "timeout", "unreachable"} {
			big[fmt.Sprintf(`ingestgw_forward_requests_total{code="%s",node="10.0.1.%d:8480"}`, code, i)] = 10
		}
		for _, state := range []string{"ready", "starting", "paused", "unknown"} {
			big[fmt.Sprintf(`ingestgw_forward_node_state{node="10.0.1.%d:8480",state="%s"}`, i, state)] = 0
		}
		for _, name := range []string{gathered.ForwardSamples, gathered.NodeInFlight, gathered.ForwardDuration + "_sum", gathered.ForwardDuration + "_count"} {
			big[fmt.Sprintf(`%s{node="10.0.1.%d:8480"}`, name, i)] = 10
		}
		for _, name := range []string{gathered.UnsentBlocks, gathered.UnsentBytes, gathered.UnsentSamples, gathered.UnsentAge, gathered.ArrivingBlocks, gathered.SentBlocks, gathered.TimeToDrain, gathered.UncommittedBlocks} {
			big[fmt.Sprintf(`%s{lane="main",partition="%d"}`, name, i)] = 10
		}
	}
	for i := range 1000 {
		big[fmt.Sprintf(`ingestgw_tenant_samples_total{tenant="%d:0"}`, i)] = float64(i)
	}
	f := scene{then: sc.then, now: big}.span()
	s := new(Server)
	b.ReportAllocs()
	for b.Loop() {
		v := pageOf(s.describe(f))
		for _, name := range sections {
			if _, err := renderSection(name, v); err != nil {
				b.Fatal(err)
			}
		}
	}
}
