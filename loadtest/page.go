package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A page is what a /metrics page says
// (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format): the value of each series, by its name and
// labels as they are written there.
type page map[string]float64

// readPage reads the series at url of which wanted is true, by name. A page of many tenants has hundreds of thousands.
func readPage(ctx context.Context, url string, wanted func(name string) bool) (page, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read metrics: GET %s: %s", url, resp.Status)
	}
	p, err := parsePage(resp.Body, wanted)
	if err != nil {
		return nil, fmt.Errorf("read metrics of %s: %w", url, err)
	}
	return p, nil
}

func parsePage(r io.Reader, wanted func(name string) bool) (page, error) {
	p := page{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		name := line[:max(0, strings.IndexAny(line, "{ "))]
		if name == "" || name[0] == '#' || !wanted(name) {
			continue
		}
		series, value := line[:len(name)], line[len(name):]
		if end := strings.LastIndexByte(line, '}'); end > 0 {
			series, value = line[:end+1], line[end+1:]
		}
		words := strings.Fields(value) // the second would be a timestamp
		if len(words) == 0 {
			return nil, fmt.Errorf("no value in %q", line)
		}
		v, err := strconv.ParseFloat(words[0], 64)
		if err != nil {
			return nil, fmt.Errorf("the value in %q: %w", line, err)
		}
		p[series] = v
	}
	return p, lines.Err()
}

// sum adds up all series of that name that have all of the labels, each written as name="value".
func (p page) sum(name string, labels ...string) float64 {
	total := 0.0
	for series, v := range p {
		if rest, ok := strings.CutPrefix(series, name); ok && (rest == "" || rest[0] == '{') && hasAll(rest, labels) {
			total += v
		}
	}
	return total
}

func hasAll(text string, labels []string) bool {
	for _, l := range labels {
		if !strings.Contains(text, "{"+l) && !strings.Contains(text, ","+l) && !strings.Contains(text, ", "+l) {
			return false
		}
	}
	return true
}

// named wants just these.
func named(names ...string) func(string) bool {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return func(name string) bool { return set[name] }
}
