package canary

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
)

// A round with a hundred vminserts over HTTP, the servers included. There is one every 10 s.
func BenchmarkRound(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasPrefix(r.URL.Path, "/insert/") {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		now := time.Now().UnixMilli()
		for i := range 100 {
			fmt.Fprintf(w, `{"metric":{"__name__":"ingestgw_canary","group":"g","node":"vminsert-%d","path":"vminsert"},"values":[1,2],"timestamps":[%d,%d]}`+"\n",
				i, now-10000, now)
		}
	}))
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	credentials, err := downstream.LoadCredentials(downstream.ClientConfig{}, log)
	if err != nil {
		b.Fatal(err)
	}
	s := newScene(nil, 0, 0)
	for i := range 100 {
		named := *base
		named.Host = fmt.Sprintf("vminsert-%d:8480", i)
		ep := downstream.Endpoint{Base: &named, Addr: base.Host}
		client := downstream.NewClient(ep, credentials, 1)
		defer client.Close()
		s.nodes = append(s.nodes, &fakeNode{s: s, ep: ep, real: client.Do})
	}
	s.refused = errRefused
	c, err := New(Config{Every: 10 * time.Second, Timeout: 10 * time.Second}, "g", []*url.URL{base}, s,
		downstream.NewResolver(nil, log, prometheus.NewRegistry()), credentials, log, prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	t := newTerm(b.Context(), c)
	defer t.end()
	b.ReportAllocs()
	for b.Loop() {
		t.write()
		t.working.Wait()
		t.read()
		t.working.Wait()
	}
	if failed := t.listPaths()[1].failed; failed != "" && failed != errRefused.Error() {
		b.Error(failed)
	}
}
