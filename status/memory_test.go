package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ingestgw/ingestgw/memory"
)

// dial writes down what it was asked to change.
type dial struct {
	changes []memory.Change
	err     error
}

func (d *dial) View() memory.View {
	return memory.View{InForce: memory.State{GOGC: -1, Limit: 1 << 30}, Differs: len(d.changes) > 0}
}

func (d *dial) Set(_ context.Context, c memory.Change) (memory.View, error) {
	if d.err != nil {
		return memory.View{}, d.err
	}
	d.changes = append(d.changes, c)
	return d.View(), nil
}

func put(t *testing.T, s *Server, path, body string) (code int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+s.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestMemoryIsShownAndChanged(t *testing.T) {
	s, _ := serve(t)
	if code, text := get(t, s, "/api/v1/memory"); code != 503 || !strings.Contains(text, "starting") {
		t.Errorf("before there is memory: %d %s", code, text)
	}
	d := &dial{}
	s.SetMemory(d)
	if code, text := get(t, s, "/api/v1/memory"); code != 200 || !strings.Contains(text, `"gogc": "off"`) || !strings.Contains(text, `"differs": false`) {
		t.Errorf("shown: %d %s", code, text)
	}
	code, text := put(t, s, "/api/v1/memory", `{"gogc": 50, "limit": "512MiB"}`)
	var v memory.View
	if err := json.Unmarshal([]byte(text), &v); code != 200 || err != nil || !v.Differs {
		t.Errorf("changed: %d %s, %v", code, text, err)
	}
	if len(d.changes) != 1 || *d.changes[0].GOGC != 50 || d.changes[0].Limit.Bytes != 512<<20 || !strings.HasPrefix(d.changes[0].By, "127.0.0.1:") {
		t.Errorf("asked for %+v", d.changes)
	}
}

func TestAChangeOfMemoryThatCannotBeIsRefused(t *testing.T) {
	s, _ := serve(t)
	d := &dial{}
	s.SetMemory(d)
	for body, want := range map[string]int{
		"":                           400,
		`{"gogc": 0}`:                400,
		`{"gogc": 5, "colour": 1}`:   400,
		`{"limit": "512"}`:           400,
		strings.Repeat(" ", 5000):    413,
		`{"gogc": 5}` + "\n":         200,
		`{"gogc": "auto"}{}`:         400,
		`{"limit": "a little more"}`: 400,
	} {
		if code, text := put(t, s, "/api/v1/memory", body); code != want || want != 200 && !strings.Contains(text, `"error"`) {
			t.Errorf("%.40q: %d %s", body, code, text)
		}
	}
	if len(d.changes) != 1 {
		t.Errorf("asked for %+v", d.changes)
	}
	for err, want := range map[error]int{
		fmt.Errorf("%w: 50%% of nothing", memory.ErrChange): 400,
		errors.New("the container cannot be read"):          503,
	} {
		d.err = err
		if code, text := put(t, s, "/api/v1/memory", `{"gogc": 5}`); code != want || !strings.Contains(text, err.Error()) {
			t.Errorf("%v: %d %s", err, code, text)
		}
	}
}
