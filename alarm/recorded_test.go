package alarm

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// recorded reads readings that were kept of a real gateway: what GET /debug/readings answered every few seconds, one after the other.
func recorded(t *testing.T, path string) []*Readings {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []*Readings
	for d := json.NewDecoder(strings.NewReader(string(text))); ; {
		r := new(Readings)
		if err := d.Decode(r); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: readings %d: %v", path, len(all), err)
		}
		r.own()
		all = append(all, r)
	}
}

// own finds the storages' own vitals, which are told once in JSON.
func (r *Readings) own() {
	for i := range r.Storages {
		for j := range r.Servers {
			if r.Servers[j].Server == r.Storages[i].Server {
				r.Storages[i].Own = &r.Servers[j]
			}
		}
	}
}

// later is the same at a later time.
func (r *Readings) later(d time.Duration) *Readings {
	moved := *r
	moved.At = r.At.Add(d)
	moved.Servers, moved.Storages = slices.Clone(r.Servers), slices.Clone(r.Storages)
	for i := range moved.Servers {
		if v := &moved.Servers[i]; !v.FailingSince.IsZero() {
			v.FailingSince = v.FailingSince.Add(d)
		}
	}
	moved.own()
	return &moved
}

// Each recording is of a gateway with which all was well, on a machine that had enough to do, played again and again for an hour.
func TestARecordedCalmHourFiresNothing(t *testing.T) {
	files, err := filepath.Glob("testdata/calm-*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		all := recorded(t, file)
		if len(all) < 20 {
			t.Fatalf("%s: %d readings", file, len(all))
		}
		length := all[len(all)-1].At.Sub(all[0].At) + step
		e := NewEngine(1)
		for passed := time.Duration(0); passed < time.Hour; passed += length {
			for _, r := range all {
				later := r.later(passed)
				for _, a := range e.Step(later) {
					if a.State == Firing {
						t.Fatalf("%s, %s after its begin: %+v", file, later.At.Sub(all[0].At), a)
					}
				}
			}
		}
	}
}
