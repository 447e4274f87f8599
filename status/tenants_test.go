package status

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/tenant"
)

// desk knows tenant 12:3 and writes down what it was asked to do.
type desk struct {
	invalidated []tenant.ID
	reloads     int
	err         error
}

func (d *desk) Describe(id tenant.ID) (any, bool) {
	return map[string]any{"tenant": id.String(), "samples": 5}, id == tenant.ID{Account: 12, Project: 3}
}

func (d *desk) Invalidate(_ context.Context, id tenant.ID) error {
	d.invalidated = append(d.invalidated, id)
	return d.err
}

func (d *desk) Reload() error {
	d.reloads++
	return d.err
}

func post(t *testing.T, s *Server, path string) (code int) {
	t.Helper()
	code, _ = do(t, s, http.MethodPost, path, "Authorization", "Bearer "+token)
	return code
}

func TestOneTenantIsDescribedAsJSON(t *testing.T) {
	s, _ := serve(t)
	if code, text := get(t, s, "/api/v1/tenants/12:3"); code != 503 || !strings.Contains(text, "INGESTGW_ROLE") {
		t.Errorf("before there are tenants: got %d %q", code, text)
	}
	s.SetTenants(&desk{})
	code, text := get(t, s, "/api/v1/tenants/12:3")
	var got struct {
		Tenant  string
		Samples int
	}
	if err := json.Unmarshal([]byte(text), &got); code != 200 || err != nil || got.Tenant != "12:3" || got.Samples != 5 {
		t.Errorf("got %d %q, %v", code, text, err)
	}
	for path, want := range map[string]int{"/api/v1/tenants/12": 404, "/api/v1/tenants/x": 400, "/api/v1/tenants/": 404} {
		if code, text := get(t, s, path); code != want {
			t.Errorf("%s: got %d %q, want %d", path, code, text, want)
		}
	}
}

func TestTenantsAreInvalidatedAndReloadedByPostAlone(t *testing.T) {
	s, _ := serve(t)
	d := &desk{}
	s.SetTenants(d)
	if code := post(t, s, "/api/v1/tenants/12:3/invalidate"); code != 204 || len(d.invalidated) != 1 || d.invalidated[0].Account != 12 {
		t.Errorf("invalidate: got %d, %v", code, d.invalidated)
	}
	if code := post(t, s, "/-/reload"); code != 200 || d.reloads != 1 {
		t.Errorf("reload: got %d, %d reloads", code, d.reloads)
	}
	d.err = errors.New("line 3 is bad")
	if code := post(t, s, "/api/v1/tenants/12:3/invalidate"); code != 503 {
		t.Errorf("invalidate that fails: got %d", code)
	}
	if code := post(t, s, "/-/reload"); code != 500 {
		t.Errorf("reload that fails: got %d", code)
	}
	for _, path := range []string{"/api/v1/tenants/12:3/invalidate", "/-/reload"} {
		if code, _ := get(t, s, path); code != 405 {
			t.Errorf("GET %s: got %d, want 405", path, code)
		}
	}
	if d.reloads != 2 || len(d.invalidated) != 2 {
		t.Errorf("%d reloads, %d invalidations", d.reloads, len(d.invalidated))
	}
}
