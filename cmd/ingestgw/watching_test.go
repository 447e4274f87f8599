package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// BenchmarkWatching says what watching costs the whole process: the metrics of 100 vminserts, alarms, and which of 500,000 tenants are the
// busiest. Nothing is sent while it is measured, so that all CPU that is used is for that, and for what any idle process does:
//
//	go test -run '^$' -bench Watching -benchtime 1x ./cmd/ingestgw
func BenchmarkWatching(b *testing.B) {
	const vminserts, tenants = 100, 500_000
	loadtest := loadtestBinary(b)
	urls := serveVminserts(b, vminserts, tenants/vminserts) // tenants stick to a vminsert
	for _, watch := range []bool{true, false} {
		b.Run(fmt.Sprintf("watch=%t", watch), func(b *testing.B) {
			gateway := stack.Start(b, stack.IngestgwSpec("ingestgw", binary(b), "INGESTGW_FORWARD_URLS="+strings.Join(urls, ","),
				"INGESTGW_FORWARD_SETTLE=0", fmt.Sprintf("INGESTGW_FORWARD_WATCH=%t", watch)))
			offerTenants(b, loadtest, gateway, tenants)
			committed(b, gateway, 5*time.Minute)
			const idle = time.Minute
			for b.Loop() {
				before := used(b, gateway)
				time.Sleep(idle) // it is measured what happens then
				b.ReportMetric(100*(used(b, gateway).CPU-before.CPU).Seconds()/idle.Seconds(), "%-of-a-core")
			}
			if !strings.Contains(textOf("http://"+gateway.AddrOf("admin")+"/metrics"), fmt.Sprintf("\ningestgw_tenants %d\n", tenants)) {
				b.Fatal("it has not met all tenants")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// serveVminserts serves so many vminserts that have met so many tenants each, and returns their URLs.
func serveVminserts(b *testing.B, n, tenants int) []string {
	b.Helper()
	page, err := os.ReadFile("../../downstream/testdata/vminsert-v1.100.0.txt")
	if err != nil {
		b.Fatal(err)
	}
	for i := range tenants {
		page = fmt.Appendf(page, "vm_tenant_inserted_rows_total{type=\"promremotewrite\",accountID=\"%d\",projectID=\"0\"} %d\n", i, 1000+i)
	}
	var urls []string
	for range n {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/metrics" {
				w.WriteHeader(http.StatusNoContent)
				return
			}
			_, _ = w.Write(page)
		}))
		b.Cleanup(s.Close)
		urls = append(urls, s.URL)
	}
	return urls
}

// offerTenants sends a sample of each of so many tenants.
func offerTenants(b *testing.B, loadtest string, gateway *stack.Process, n int) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), loadtest, "send", "-url", gateway.URL(), "-rate=0", "-ledger=", fmt.Sprintf("-tenants=%d", n), "-series=1",
		"-per-request=1", "-senders=64", "-duration=100s")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
}
