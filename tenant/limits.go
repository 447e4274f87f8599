package tenant

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// Limits are a plan as people write it, under the same keys in the file of tenants (access/FORMAT.md), in the answers of a directory
// (directory/PROTOCOL.md), and in what is told of a tenant. The zero Limits say nothing. Those that say the same are equal.
type Limits [len(limitKeys)]limit

type limit struct {
	value float64
	said  bool
}

var limitKeys = [...]string{
	samplesAt: "samples_per_second", "samples_burst", "samples_hard",
	bytesAt: "bytes_per_second", "bytes_burst", "bytes_hard",
	requestsAt: "requests_per_second", "requests_burst", "requests_hard",
	activeSeriesAt: "active_series",
	concurrentAt:   "concurrent_requests",
}

// Where each stands in Limits. A rate is followed by its burst and its hard limit.
const (
	samplesAt      = 0
	bytesAt        = 3
	requestsAt     = 6
	activeSeriesAt = 9
	concurrentAt   = 10
)

// Set notes what stands at a key: a number, or for bytes also a text such as "1MiB". known is false for a key that is none.
func (l *Limits) Set(key, text string) (known bool, err error) {
	at := slices.Index(limitKeys[:], key)
	if at < 0 {
		return false, nil
	}
	value, err := parseLimit(at, text)
	if err == nil {
		l[at] = limit{value: value, said: true}
	}
	return true, err
}

func parseLimit(at int, text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil && bytesAt <= at && at < requestsAt:
		b, err := settings.ParseBytes(text)
		return float64(b), err
	case err != nil || math.IsNaN(n) || math.IsInf(n, 0) || n < 0:
		return 0, fmt.Errorf("want a number, 0 or more, got %.100q", text)
	case at >= activeSeriesAt && (n > math.MaxInt32 || n != math.Trunc(n)):
		return 0, fmt.Errorf("want a whole number from 0 to %d, got %v", math.MaxInt32, n)
	}
	return n, nil
}

// Over is base with what l says in its place. Who says another rate has not said its burst and its hard limit by those of base.
func (l Limits) Over(base Limits) Limits {
	for at, one := range l {
		if !one.said {
			continue
		}
		if at < activeSeriesAt && at%3 == 0 {
			base[at+1], base[at+2] = limit{}, limit{}
		}
		base[at] = one
	}
	return base
}

// Plan fills in what l does not say, see NewRate. The error says what cannot be.
func (l Limits) Plan(name string) (p Plan, err error) {
	p = Plan{Name: name, ActiveSeries: int(l[activeSeriesAt].value), Concurrent: int(l[concurrentAt].value)}
	for at, r := range p.rates() {
		if *r, err = NewRate(l[at].value, l[at+1].value, l[at+2].value); err != nil {
			return p, fmt.Errorf("%s: %w", limitKeys[at], err)
		}
	}
	return p, nil
}

// MarshalJSON writes the name and what is limited, under the keys of Limits.
func (p Plan) MarshalJSON() ([]byte, error) {
	values := [len(limitKeys)]float64{activeSeriesAt: float64(p.ActiveSeries), concurrentAt: float64(p.Concurrent)}
	for at, r := range p.rates() {
		values[at], values[at+1], values[at+2] = r.PerSecond, r.Burst, r.Hard
	}
	said := map[string]any{}
	if p.Name != "" {
		said["name"] = p.Name
	}
	for at, value := range values {
		if value != 0 {
			said[limitKeys[at]] = value
		}
	}
	return json.Marshal(said)
}

// UnmarshalJSON reads what MarshalJSON writes, and fills in what is left out, see Limits.Plan. Another key is an error: it may be a
// limit that somebody has misspelt, and no limit would come of it.
func (p *Plan) UnmarshalJSON(b []byte) error {
	var said map[string]json.RawMessage
	if err := json.Unmarshal(b, &said); err != nil {
		return err
	}
	var name string
	if text, ok := said["name"]; ok {
		if err := json.Unmarshal(text, &name); err != nil {
			return fmt.Errorf("the name of a plan: %w", err)
		}
	}
	var l Limits
	for _, key := range limitKeys {
		text := said[key]
		if text == nil || string(text) == "null" {
			continue
		}
		if _, err := l.Set(key, string(bytes.Trim(text, `"`))); err != nil {
			return fmt.Errorf("plan %q: %s: %w", name, key, err)
		}
	}
	for key := range said {
		if key != "name" && !slices.Contains(limitKeys[:], key) {
			return fmt.Errorf("plan %q: unknown key %.100q", name, key)
		}
	}
	made, err := l.Plan(name)
	if err != nil {
		return fmt.Errorf("plan %q: %w", name, err)
	}
	*p = made
	return nil
}

// rates yields where each rate begins in Limits, and the rate.
func (p *Plan) rates() iter.Seq2[int, *Rate] {
	return func(yield func(int, *Rate) bool) {
		_ = yield(samplesAt, &p.Samples) && yield(bytesAt, &p.Bytes) && yield(requestsAt, &p.Requests)
	}
}
