package canary

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/stack"
)

// A direct gateway has no buffer: what is appended goes to the first vminsert.
type direct struct{ nodes []Node }

func (*direct) Leads() bool     { return true }
func (g *direct) Nodes() []Node { return g.nodes }

func (g *direct) Append(ctx context.Context, _ buffer.Lane, r buffer.Record, _ func()) error {
	to := g.nodes[0].Endpoint.URL("/insert/" + r.Tenant.String() + "/prometheus/api/v1/write")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(r.Payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Encoding", "snappy")
	resp, err := g.nodes[0].Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

func endpoint(t *testing.T, p *stack.Process) downstream.Endpoint {
	t.Helper()
	base, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	return downstream.Endpoint{Base: base, Addr: p.Addr()}
}

// eventually waits until check says nothing against a View.
func eventually(t *testing.T, c *Canary, check func(View) string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		v := c.View()
		wrong := check(v)
		if wrong == "" {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("after a minute: %s: %+v", wrong, v)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fresh says which path but those of the nodes left out has no age below a few seconds.
func fresh(v View, except ...string) string {
	if len(v.Paths) == 0 {
		return "no path"
	}
	for _, p := range v.Paths {
		if (p.Readable.IsZero() || !(p.Age < 10)) && (p.Node == "" || !strings.Contains(strings.Join(except, " "), p.Node)) {
			return fmt.Sprintf("the age of %s %s is %v, of a sample of %v", p.Path, p.Node, p.Age, p.Readable)
		}
	}
	return ""
}

func TestCanaryInARealCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	t.Parallel()
	cluster := stack.StartCluster(t, stack.ClusterSpec{Storages: 2, Inserts: 2, SelectArgs: []string{"-search.denyPartialResponse=false"}})
	log := slog.New(slog.DiscardHandler)
	credentials, err := downstream.LoadCredentials(downstream.ClientConfig{}, log)
	if err != nil {
		t.Fatal(err)
	}
	gateway := &direct{}
	for _, p := range cluster.Inserts {
		ep := endpoint(t, p)
		gateway.nodes = append(gateway.nodes, Node{Endpoint: ep, Do: downstream.NewClient(ep, credentials, 1).Do})
	}
	c, err := New(Config{Every: 2 * time.Second, Timeout: 3 * time.Second}, "test", []*url.URL{endpoint(t, cluster.Select).Base}, gateway,
		downstream.NewResolver(nil, log, prometheus.NewRegistry()), credentials, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }() // ends with cancel
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	}()
	begun := time.Now()
	eventually(t, c, func(v View) string { return fresh(v) })
	t.Logf("all is fresh after %v: %v", time.Since(begun), c.View().Paths)

	frozen := cluster.Inserts[1]
	if err := frozen.Freeze(); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, func(v View) string {
		for _, p := range v.Paths {
			if p.Node == frozen.Addr() && p.Age > 12 && p.WriteError != "" {
				return fresh(v, frozen.Addr())
			}
		}
		return "the frozen vminsert is not told"
	})
	if err := frozen.Thaw(); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, func(v View) string { return fresh(v) })

	cluster.Storages[0].Kill()
	eventually(t, c, func(v View) string {
		if !v.Selects[0].Answers || !strings.Contains(v.Selects[0].Partial, cluster.Storages[0].AddrOf("vmselect")) {
			return "it does not answer in part"
		}
		return fresh(v)
	})
	t.Logf("with a vmstorage away: %+v", c.View().Selects)

	cluster.Select.Kill()
	eventually(t, c, func(v View) string {
		if !strings.Contains(v.ReadPath, cluster.Select.Addr()) || v.Paths[0].Age.Known() {
			return "the read path is not named"
		}
		return ""
	})
	t.Logf("without vmselect: %s", c.View().ReadPath)
}
