package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// samplesWithin is how long the first samples may take: two scrapes and the seconds until vmstorage shows new rows are usual, and
// a backlog of an earlier run goes along.
const samplesWithin = 2 * time.Minute

// ownTenant is who the samples that the scene scrapes belong to.
const ownTenant = "0:0"

// newest is when the newest sample of each job was scraped; count is how many samples the last hour brought.
const (
	newest = `max(timestamp(up)) by (job)`
	count  = `sum(count_over_time({__name__!=""}[1h])) by (job)`
)

// showSamples waits until samples that were scraped after the start can be queried, and shows what the cluster holds.
func (s *scene) showSamples(ctx context.Context) error {
	began := time.Now()
	kept := "on disk"
	if s.kafka {
		kept = "in Kafka"
	}
	fmt.Fprintf(s.out, "\nWaiting for samples on the whole way: vmagent → ingestgw (%s) → vminsert → vmstorage → vmselect\n", kept)
	if err := s.awaitSamples(ctx, began); err != nil {
		return err
	}
	rows, err := s.query(ctx, ownTenant, count)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "They are there after %s. The last hour by now, as %s:\n", time.Since(began).Round(100*time.Millisecond), count)
	s.showCounts(rows)
	return nil
}

func (s *scene) showCounts(rows []row) {
	for _, row := range rows {
		fmt.Fprintf(s.out, "  %-12s %.0f samples\n", row.job(), row.number())
	}
}

func (s *scene) awaitSamples(ctx context.Context, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, samplesWithin)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		rows, err := s.query(ctx, ownTenant, newest)
		if err == nil {
			err = s.fresh(rows, since)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("nothing arrived within %s: %w%s", samplesWithin, last, lastWords(s.gateway))
		}
	}
}

// fresh returns nil when every job has a sample that was scraped after since, else an error that names the others.
func (s *scene) fresh(rows []row, since time.Time) error {
	missing := s.jobs()
	for _, row := range rows {
		if row.number() >= float64(since.Unix()) {
			delete(missing, row.Metric["job"])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no sample of %s is newer than %s", slices.Sorted(maps.Keys(missing)), since.Format(time.TimeOnly))
	}
	return nil
}

func (s *scene) showLinks() {
	vmui := s.vmselect.URL() + "/select/0/vmui/#/?" + url.Values{"g0.expr": {"rate(ingestgw_ingest_samples_total)"}}.Encode()
	ledger := filepath.Join(s.dir, "ledger.json")
	fmt.Fprintf(s.out, `
Open
  http://%s/
      whether all is well, and if not, what is wrong and what to do (ingestgw); what changes something there wants the token in
      %s
  http://%s/metrics
      the figures behind that
  %s
      queries and graphs (vmselect, tenant 0:0)
  %s/targets
      what vmagent scrapes
Send remote-write to
  %s/api/v1/write                                for tenant 0:0
  %s/insert/42:0/prometheus/api/v1/write         for tenant 42:0
Offer load, then see that nothing of it was lost
  go run ./loadtest send -url %s -ledger %s
  go run ./loadtest verify -url %s -ledger %s
Ctrl-C stops everything.
`, s.gateway.AddrOf("admin"), s.token(), s.gateway.AddrOf("admin"), vmui, s.vmagent.URL(), s.gateway.URL(), s.gateway.URL(), s.gateway.URL(), ledger,
		s.vmselect.URL(), ledger)
}

// A row is one element of an instant query's answer
// (https://prometheus.io/docs/prometheus/latest/querying/api/#instant-vectors).
type row struct {
	Metric map[string]string
	Value  [2]json.RawMessage // the time, and the number as a string
}

func (r row) number() float64 {
	var n float64
	_, _ = fmt.Sscan(strings.Trim(string(r.Value[1]), `"`), &n) // 0 when it is none
	return n
}

// job is where the samples are from. What somebody else sends may have no such label.
func (r row) job() string {
	if job := r.Metric["job"]; job != "" {
		return job
	}
	return "(no job)"
}

// query asks vmselect for what tenant has now. Without nocache, vmselect hides the last 30 seconds.
func (s *scene) query(ctx context.Context, tenant, expr string) ([]row, error) {
	at := s.vmselect.URL() + "/select/" + tenant + "/prometheus/api/v1/query?" + url.Values{"query": {expr}, "nocache": {"1"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("query %s: %s: %s", expr, resp.Status, text)
	}
	var answer struct{ Data struct{ Result []row } }
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	return answer.Data.Result, nil
}
