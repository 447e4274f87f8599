package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// series is one line of /api/v1/export
// (https://docs.victoriametrics.com/victoriametrics/single-server-victoriametrics/#how-to-export-data-in-json-line-format).
// A value is null where it is NaN, and a string where it is infinite.
type series struct {
	Metric     map[string]string `json:"metric"`
	Values     []json.RawMessage `json:"values"`
	Timestamps []int64           `json:"timestamps"`
}

// export reads all of a tenant's series that match, one at a time. from and to are milliseconds.
func (c *Cluster) export(ctx context.Context, tenant, match string, from, to int64, each func(*series) error) error {
	query := url.Values{
		"match[]": {match},
		"start":   {strconv.FormatFloat(float64(from)/1000, 'f', 3, 64)},
		"end":     {strconv.FormatFloat(float64(to)/1000, 'f', 3, 64)},
		// Without it, vmselect leaves out what it believes to be there in another block of the answer.
		"reduce_mem_usage": {"1"},
	}
	body, err := c.get(ctx, "/select/"+tenant+"/prometheus/api/v1/export?"+query.Encode())
	if err != nil {
		return fmt.Errorf("read tenant %s back: %w", tenant, err)
	}
	defer body.Close()
	lines := json.NewDecoder(bufio.NewReaderSize(body, 1<<20))
	for {
		var s series
		err := lines.Decode(&s)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tenant %s back: %w", tenant, err)
		}
		if err := each(&s); err != nil {
			return err
		}
	}
}

// tenants lists those that have any data.
func (c *Cluster) tenants(ctx context.Context) ([]string, error) {
	body, err := c.get(ctx, "/admin/tenants")
	if err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	defer body.Close()
	var answer struct{ Data []string }
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("list tenants: %w", err)
	}
	return answer.Data, nil
}

func (c *Cluster) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(c.URL, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return nil, fmt.Errorf("vmselect answered %s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return resp.Body, nil
}

// number reads an exported value. isNaN tells the values that JSON has no word for.
func number(raw json.RawMessage) (v float64, isNaN bool, err error) {
	text := strings.Trim(string(raw), `"`)
	if text == "null" || strings.EqualFold(text, "NaN") {
		return 0, true, nil
	}
	v, err = strconv.ParseFloat(strings.Replace(text, "Infinity", "Inf", 1), 64)
	if err != nil {
		return 0, false, fmt.Errorf("value %s of an exported sample: %w", raw, err)
	}
	return v, false, nil
}
