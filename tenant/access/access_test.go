package access

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func newAccess(t testing.TB, cfg Config) *Access {
	t.Helper()
	a, err := New(cfg, nil, nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ofText has read text.
func ofText(t testing.TB, text string) *Access {
	t.Helper()
	return newAccess(t, Config{Mode: ModeFile, File: writeFile(t, text)})
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tenants.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// sha is what stands in a file for a secret.
func sha(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// request has the headers, which are names and values by turns.
func request(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/write", nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}
