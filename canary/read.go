package canary

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/tenant"
)

// A source is a vmselect.
type source struct {
	ep     downstream.Endpoint
	client client

	// The term's mutex guards what follows.
	busy         bool
	newest       map[key]sighting // what can be read there
	read         time.Time        // when it was last asked, with success
	good         bool             // the last time was with success
	failed       string           // why not
	failingSince time.Time
	lacks        string // why its answer was partial, if it was
}

// A sighting is that a sample could be read.
type sighting struct {
	at  time.Time // when it was written; zero: none could be read
	own bool      // in this term
}

// later is the newer one. What is of this term is newer than what is not, whatever clocks say.
func (s sighting) later(o sighting) sighting {
	if o.own != s.own {
		if o.own {
			return o
		}
		return s
	}
	if o.at.After(s.at) {
		return o
	}
	return s
}

// resolve finds the vmselects.
func (t *term) resolve() {
	found, err := t.c.resolver.Resolve(t.ctx, t.c.selects)
	if t.ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.unresolved
	t.unresolved = ""
	if err != nil {
		t.unresolved = shown(err, downstream.Endpoint{})
	}
	if t.unresolved != "" && was == "" {
		t.c.log.Error("cannot resolve all of INGESTGW_VMSELECT_URLS", "err", t.unresolved, "resolved", len(found))
	}
	before := t.selects
	t.selects = make(map[string]*source, len(found))
	for _, ep := range found {
		name := ep.String()
		s := before[name]
		if s == nil {
			s = &source{ep: ep, client: t.c.dial(ep), newest: map[key]sighting{}}
		}
		t.selects[name] = s
		t.c.metrics.readFailures.WithLabelValues(name)
	}
	for name, s := range before {
		if t.selects[name] == nil {
			t.forgetSource(name, s)
		}
	}
}

func (t *term) forgetSource(name string, s *source) {
	s.client.Close()
	t.c.metrics.readFailures.DeleteLabelValues(name)
}

// read asks every vmselect that has answered the question before.
func (t *term) read() {
	for _, s := range t.listSources() {
		t.begin(&s.busy, func() { t.readFrom(s) })
	}
}

func (t *term) listSources() []*source {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Values(t.selects))
}

// readFrom notes what can be read at one vmselect.
func (t *term) readFrom(s *source) {
	begun := time.Now()
	from, to := t.window(s, begun)
	ctx, cancel := context.WithTimeout(t.ctx, t.c.cfg.Timeout)
	defer cancel()
	newest := map[key]sighting{}
	note := func(series *Series) {
		k := key{path: series.Metric["path"], node: series.Metric["node"]}
		newest[k] = newest[k].later(t.newestOf(series.Timestamps))
	}
	err, lacks := t.c.export(ctx, s, from, to, note), ""
	if refused := (*statusError)(nil); errors.As(err, &refused) && refused.status >= 500 && t.c.query(ctx, s, from, to, note) == nil {
		lacks, err = shown(err, s.ep), nil
	}
	if t.ctx.Err() != nil { // we have ended it ourselves
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failedAt(s, begun, err)
		return
	}
	if s.failed != "" {
		t.c.log.Info("a vmselect answers the canary again", "vmselect", s.ep.String())
	}
	s.good, s.read, s.failed, s.failingSince, s.lacks = true, begun, "", time.Time{}, lacks
	for k := range t.paths {
		s.newest[k] = s.newest[k].later(newest[k])
	}
	for k := range s.newest {
		if t.paths[k] == nil {
			delete(s.newest, k)
		}
	}
}

// failedAt notes that the vmselect cannot tell. t.mu is held.
func (t *term) failedAt(s *source, at time.Time, err error) {
	name := s.ep.String()
	t.c.metrics.readFailures.WithLabelValues(name).Inc()
	if t.selects[name] != s {
		t.c.metrics.readFailures.DeleteLabelValues(name)
		return
	}
	if s.failed == "" {
		s.failingSince = at
		t.c.log.Warn("the read path is at fault: a vmselect cannot be asked how fresh its samples are", "vmselect", name,
			"err", shown(err, s.ep))
	}
	s.good, s.failed, s.lacks = false, shown(err, s.ep), ""
}

// window is which timestamps can be news, in milliseconds: from the oldest of what was seen last on each path. After a clock was put
// back, timestamps are not in the order of their rounds.
func (t *term) window(s *source, now time.Time) (from, to int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	start := now
	for k := range t.paths {
		if at := s.newest[k].at; at.Before(start) {
			start = at
		}
	}
	if now.Sub(start) > t.reach() {
		start = now.Add(-t.reach())
	}
	from, to = start.UnixMilli(), now.UnixMilli()
	for ms, at := range t.rounds {
		if !at.Before(start) {
			from, to = min(from, ms), max(to, ms)
		}
	}
	return from, to
}

// newestOf is the newest of the samples with these timestamps, in milliseconds. Samples from before the term count, whoever wrote them:
// they tell how long nothing has come through when this process has just started. Others that are not of this term do not, as they are
// by the clock of another process.
func (t *term) newestOf(timestamps []int64) sighting {
	t.mu.Lock()
	defer t.mu.Unlock()
	var newest sighting
	for _, ms := range timestamps {
		if at, own := t.rounds[ms]; own {
			newest = newest.later(sighting{at: at, own: true})
		} else if ms < t.since.UnixMilli() {
			newest = newest.later(sighting{at: time.UnixMilli(ms)})
		}
	}
	return newest
}

// export hands each series of the canary that has samples between from and to, in milliseconds, to each.
func (c *Canary) export(ctx context.Context, s *source, from, to int64, each func(*Series)) error {
	u := ExportURL(s.ep, c.cfg.Tenant)
	q := u.Query()
	q.Set("match[]", c.selector())
	q.Set("start", seconds(from))
	q.Set("end", seconds(to))
	q.Set("reduce_mem_usage", "1") // as it is stored: no deduplication, which may hide ours behind another's
	u.RawQuery = q.Encode()
	return c.ask(ctx, s, u, func(body io.Reader) error { return ReadExport(body, each) })
}

// query is export for a vmselect that cannot reach all of its vmstorages: it refuses to export then, and answers queries in part. Of each
// series it tells the newest timestamp only.
func (c *Canary) query(ctx context.Context, s *source, from, to int64, each func(*Series)) error {
	u := apiURL(s.ep, c.cfg.Tenant, "query")
	q := u.Query()
	q.Set("query", fmt.Sprintf("tlast_over_time(%s[%dms])", c.selector(), to-from+1))
	q.Set("time", seconds(to))
	q.Set("latency_offset", "1ms") // by default the last 30 s are hidden
	q.Set("nocache", "1")
	u.RawQuery = q.Encode()
	return c.ask(ctx, s, u, func(body io.Reader) error { return readVector(body, each) })
}

func (c *Canary) selector() string { return fmt.Sprintf("%s{group=%q}", seriesName, c.group) }

// ask has read read what a vmselect answers.
func (c *Canary) ask(ctx context.Context, s *source, u *url.URL, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return errors.New("cannot make a URL of it") // err would repeat what may be secret
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := s.client.Do(req)
	if err != nil {
		return tooLate(ctx, c.cfg.Timeout, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return answered(resp)
	}
	if err := read(resp.Body); err != nil {
		return tooLate(ctx, c.cfg.Timeout, err)
	}
	return nil
}

// seconds writes milliseconds as VictoriaMetrics reads times.
func seconds(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// ExportURL is where a vmselect exports what a tenant has. A path in the endpoint's URL is taken for the one before /api/v1, and then
// the tenant is up to it.
func ExportURL(ep downstream.Endpoint, t tenant.ID) *url.URL { return apiURL(ep, t, "export") }

func apiURL(ep downstream.Endpoint, t tenant.ID, what string) *url.URL {
	if ep.Base.Path == "" || ep.Base.Path == "/" {
		return ep.Base.JoinPath("select", t.String(), "prometheus/api/v1", what)
	}
	return ep.Base.JoinPath("api/v1", what)
}
