package directory

import (
	"context"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/settings"
	"github.com/ingestgw/ingestgw/tenant/directory/directorytest"
)

// TestTheDirectoryIsAskedThroughTLSAndWithOurToken speaks to a real server.
func TestTheDirectoryIsAskedThroughTLSAndWithOurToken(t *testing.T) {
	var far directorytest.Directory
	far.Bearer("a", `{"tenants":["1"]}`)
	far.Require("ours")
	server := httptest.NewTLSServer(&far)
	defer server.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, c := range map[string]struct {
		token     string
		authority []byte
		want      string
	}{
		"right":                  {"ours", authority, "1:0"},
		"a token that is wrong":  {"theirs", authority, "503"},
		"no token":               {"", authority, "503"},
		"the system's authority": {"ours", nil, "503"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t)
			cfg.URL = parse(t, server.URL)
			cfg.BearerTokenFile = written(t, c.token)
			cfg.TLS.CAFile = written(t, string(c.authority))
			d := running(t, cfg)
			if got := said(d.Lookup(t.Context(), BearerToken("a"))); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	var far directorytest.Directory
	far.Bearer("a", `{"tenants":["1"]}`)
	elsewhere := far.Serve(t)
	server := httptest.NewServer(http.RedirectHandler(elsewhere, http.StatusPermanentRedirect))
	defer server.Close()
	cfg := config(t)
	cfg.URL = parse(t, server.URL)
	d := running(t, cfg)
	if got := said(d.Lookup(t.Context(), BearerToken("a"))); got != "503" {
		t.Errorf("got %s", got)
	}
	if asked, _ := far.Asked(); asked != 0 {
		t.Error("the question went where nobody has configured it to go")
	}
}

func parse(t *testing.T, text string) settings.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return settings.URL{URL: u}
}

// written returns the name of a file; no name for no content.
func written(t *testing.T, content string) string {
	t.Helper()
	if content == "" {
		return ""
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// running returns a Directory that runs until the test ends.
func running(t *testing.T, cfg Config) *Directory {
	t.Helper()
	d, err := New(cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	return d
}
