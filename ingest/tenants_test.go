package ingest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/tenant"
	"github.com/ingestgw/ingestgw/tenant/access"
)

// A world is a table of tenants, with the token "token-<name>" for each credential of that name.
const world = `
plans:
  narrow: {active_series: 3}
  slow: {samples_per_second: 10, samples_burst: 100, samples_hard: 20}
  alone: {concurrent_requests: 1}
tenants:
  - {id: "1:0", name: one, credentials: [{bearer_sha256: TOKEN-one}]}
  - {id: "2:0", name: tagged, tags: {org: two, region: eu}, credentials: [{bearer_sha256: TOKEN-tagged}]}
  - {id: "3:0", name: dropping, drop: ['{job="noise"}', '{__name__=~"go_.*"}'], credentials: [{bearer_sha256: TOKEN-dropping}]}
  - {id: "4:0", name: narrow, plan: narrow, credentials: [{bearer_sha256: TOKEN-narrow}]}
  - {id: "5:0", name: slow, plan: slow, credentials: [{bearer_sha256: TOKEN-slow}]}
  - {id: "6:0", name: alone, plan: alone, credentials: [{bearer_sha256: TOKEN-alone}]}
credentials:
  - {name: hosts, bearer_sha256: TOKEN-hosts, tenants_from: {label: org, values: table, table: {acme: "1:0", globex: "2:0", initech: "3:0", hooli: "5:0"}, missing: refuse}}
  - {name: agent, bearer_sha256: TOKEN-agent, tenants_from: {labels: [vm_account_id, vm_project_id], missing: "9:9"}}
`

// inWorld runs a Server for the tenants of the world.
func inWorld(t *testing.T, cfg Config, store buffer.Store) *gateway {
	t.Helper()
	return startWith(t, cfg, accessToWorld(t), 64<<20, store)
}

func accessToWorld(t *testing.T) *access.Access {
	t.Helper()
	text := world
	for _, name := range []string{"one", "tagged", "dropping", "narrow", "slow", "alone", "hosts", "agent"} {
		hash := sha256.Sum256([]byte("token-" + name))
		text = strings.ReplaceAll(text, "TOKEN-"+name, hex.EncodeToString(hash[:]))
	}
	path := filepath.Join(t.TempDir(), "tenants.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	who, err := access.New(access.Config{Mode: access.ModeFile, File: path}, nil, nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// sendAs posts a message with the token of a credential.
func (g *gateway) sendAs(t *testing.T, who string, message []byte) (*http.Response, string) {
	t.Helper()
	return g.post(t, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, message)), "Authorization", "Bearer token-"+who)
}

// freshly is a message of series that have one sample of now each, their labels given as name, value, … .
func freshly(series ...[]string) []byte { return sampledAt(series, time.Now()) }

func sampledAt(series [][]string, at time.Time) []byte {
	var wr prompb.WriteRequest
	for _, labels := range series {
		var ts prompb.TimeSeries
		for i := 0; i < len(labels); i += 2 {
			ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
		}
		ts.Samples = []prompb.Sample{{Value: 1, Timestamp: at.UnixMilli()}}
		wr.Timeseries = append(wr.Timeseries, ts)
	}
	return wr.MarshalProtobuf(nil)
}

// named is a series with a name and further labels.
func named(name string, labels ...string) []string {
	return append([]string{"__name__", name}, labels...)
}

// stored lists what is in the records, as "tenant lane {labels} tags".
func (g *gateway) stored(t *testing.T) (list []string) {
	t.Helper()
	for _, r := range g.shelf.records(t) {
		message, err := snappy.Decode(nil, r.Payload)
		if err != nil {
			t.Fatal(err)
		}
		var u prompb.WriteRequestUnmarshaler
		wr, err := u.UnmarshalProtobuf(message)
		if err != nil {
			t.Fatal(err)
		}
		if r.Decoded != len(message) || r.Series != len(wr.Timeseries) {
			t.Errorf("a record says %d series in %d bytes, and has %d in %d", r.Series, r.Decoded, len(wr.Timeseries), len(message))
		}
		for _, ts := range wr.Timeseries {
			var labels []string
			for _, l := range ts.Labels {
				labels = append(labels, l.Name+"="+l.Value)
			}
			list = append(list, fmt.Sprintf("%s %s %s", r.Tenant, strings.Join(labels, ","), r.Tags))
		}
	}
	slices.Sort(list)
	return list
}

func (g *gateway) want(t *testing.T, want ...string) {
	t.Helper()
	if got := g.stored(t); !slices.Equal(got, want) {
		t.Errorf("stored:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestCredentialDecidesTheTenant(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	send := func(path string, headers ...string) (*http.Response, string) {
		t.Helper()
		return g.post(t, path, bytes.NewReader(snappy.Encode(nil, freshly(named("m")))), headers...)
	}
	if resp, text := send("/api/v1/write"); resp.StatusCode != 401 || len(resp.Header.Values("WWW-Authenticate")) != 2 {
		t.Errorf("no credential: got %s %q, WWW-Authenticate %q", resp.Status, text, resp.Header.Values("WWW-Authenticate"))
	}
	if resp, text := send("/api/v1/write", "Authorization", "Bearer guess"); resp.StatusCode != 401 || g.requests(t, "unauthorized") != 2 {
		t.Errorf("a wrong credential: got %s %q", resp.Status, text)
	}
	if resp, text := send("/insert/2:0/prometheus/api/v1/write", "Authorization", "Bearer token-one"); resp.StatusCode != 403 {
		t.Errorf("another's tenant: got %s %q", resp.Status, text)
	}
	if resp, text := send("/insert/multitenant/prometheus/api/v1/write", "Authorization", "Bearer token-one"); resp.StatusCode != 403 || g.requests(t, "forbidden") != 2 {
		t.Errorf("multitenant without being trusted: got %s %q", resp.Status, text)
	}
	g.want(t)
	for _, path := range []string{"/api/v1/write", "/insert/1:0/prometheus/api/v1/write", "/insert/1/prometheus"} {
		if resp, text := send(path, "Authorization", "Bearer token-one"); resp.StatusCode != 204 {
			t.Errorf("%s: got %s %q", path, resp.Status, text)
		}
	}
	g.want(t, "1:0 __name__=m {}", "1:0 __name__=m {}", "1:0 __name__=m {}")
}

// The log says whose credential it was that was used for what it may not do.
func TestWhoIsRefusedIsLoggedByName(t *testing.T) {
	var lines lockedBuffer
	g := startLogging(t, defaults(), accessToWorld(t), 64<<20, &shelf{}, slog.New(slog.NewTextHandler(&lines, nil)))
	for _, c := range []struct {
		path, token string
		status      int
		want        []string
	}{
		{"/insert/2:0/prometheus/api/v1/write", "one", 403, []string{"tenant=1:0", "credential=one", "answer=forbidden"}},
		{"/insert/multitenant/prometheus/api/v1/write", "one", 403, []string{"tenant=1:0", "credential=one"}},
		{"/insert/77:0/prometheus/api/v1/write", "hosts", 403, []string{`tenant=""`, "credential=hosts"}},
		{"/api/v1/write", "nobody", 401, []string{`tenant=""`, `credential=""`}},
	} {
		lines.Reset()
		resp, text := g.post(t, c.path, body(1), "Authorization", "Bearer token-"+c.token)
		if resp.StatusCode != c.status {
			t.Errorf("%s: got %s %q", c.path, resp.Status, text)
		}
		for _, want := range c.want {
			if !strings.Contains(lines.String(), want) {
				t.Errorf("%s: %s does not say %s", c.path, lines.String(), want)
			}
		}
	}
	if d, ok := g.limits.Describe(tenant.ID{Account: 1}); ok {
		t.Errorf("it counts as the tenant's: %+v", d)
	}
}

// A lockedBuffer is for a logger.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func (b *lockedBuffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Buffer.Reset()
}

func TestWhoIsNotLetInIsNotListenedTo(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	if resp, _ := g.post(t, "/api/v1/write", bytes.NewReader(nil), "Content-Encoding", "gzip"); resp.StatusCode != 401 {
		t.Errorf("got %s", resp.Status)
	}
	if used := g.budget.Used(); used != 0 {
		t.Errorf("%d bytes held", used)
	}
}

func TestTagsTravelBesideTheMessage(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	message := freshly(named("m", "org", "evil"), named("n"))
	if resp, text := g.sendAs(t, "tagged", message); resp.StatusCode != 204 {
		t.Fatalf("got %s %q", resp.Status, text)
	}
	g.want(t, `2:0 __name__=m,org=evil {org="two", region="eu"}`, `2:0 __name__=n {org="two", region="eu"}`)
	if r := g.shelf.records(t); !bytes.Equal(r[0].Payload, snappy.Encode(nil, message)) {
		t.Error("the message was rewritten")
	}
}

// vminsert would count a sender's label and the tag in its place as two.
func TestTagsAreWrittenIntoSeriesThatHaveNoRoomForMoreLabels(t *testing.T) {
	cfg := defaults()
	cfg.MaxLabels = 4
	g := inWorld(t, cfg, &shelf{})
	message := freshly(
		named("fits", "a", "1"),
		named("replaced", "a", "1", "org", "evil"),
		named("full", "a", "1", "b", "2"))
	resp, text := g.sendAs(t, "tagged", message)
	if resp.StatusCode != 400 || g.requests(t, "series_refused") != 1 || resp.Header.Get("Retry-After") != "" {
		t.Errorf("got %s %q", resp.Status, text)
	}
	for _, want := range []string{"of 3 series 1 has more than 4 labels", "INGESTGW_INGEST_MAX_LABELS", "the others are stored"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	g.want(t, "2:0 __name__=fits,a=1,org=two,region=eu {}", "2:0 __name__=replaced,a=1,org=two,region=eu {}")
}

func TestSeriesThatVminsertWouldDropAreRefusedAndTheirNeighboursStored(t *testing.T) {
	cfg := defaults()
	cfg.MaxLabels, cfg.MaxLabelName, cfg.MaxLabelValue = 5, 200, 300
	g := inWorld(t, cfg, &shelf{})
	for name, series := range map[string][]string{
		"too many labels": named("m", "a", "1", "b", "1", "c", "1", "d", "1", "e", "1"),
		"a long name":     named("m", strings.Repeat("n", 201), "1"),
		"a long value":    named("m", "a", strings.Repeat("v", 301)),
	} {
		g.shelf.blocks = nil
		if resp, text := g.sendAs(t, "one", freshly(series, named("neighbour"))); resp.StatusCode != 400 || !strings.Contains(text, "of 2 series 1 has") {
			t.Errorf("%s: got %s %q", name, resp.Status, text)
		}
		g.want(t, "1:0 __name__=neighbour {}")
	}
	g.shelf.blocks = nil
	if resp, text := g.sendAs(t, "one", freshly(named("m", "a", "1", "b", "1", "c", "1", "d", strings.Repeat("v", 300)))); resp.StatusCode != 204 {
		t.Errorf("all at the limit: got %s %q", resp.Status, text)
	}
}

func TestRulesDropSeriesWithoutAWord(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	message := freshly(named("up", "job", "noise"), named("go_gc", "job", "node"), named("up", "job", "node"))
	if resp, text := g.sendAs(t, "dropping", message); resp.StatusCode != 204 {
		t.Errorf("got %s %q", resp.Status, text)
	}
	g.want(t, "3:0 __name__=up,job=node {}")
	if resp, text := g.sendAs(t, "dropping", freshly(named("go_gc"))); resp.StatusCode != 204 {
		t.Errorf("nothing left: got %s %q", resp.Status, text)
	}
	g.want(t, "3:0 __name__=up,job=node {}")
}

func TestKnownSeriesGoOnWhenThereMayBeNoMore(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	known := freshly(named("a"), named("b"), named("c"))
	if resp, text := g.sendAs(t, "narrow", known); resp.StatusCode != 204 {
		t.Fatalf("got %s %q", resp.Status, text)
	}
	resp, text := g.sendAs(t, "narrow", freshly(named("a"), named("d"), named("b")))
	if resp.StatusCode != 400 || !strings.Contains(text, "of 3 series 1 would be new") || !strings.Contains(text, "active_series") {
		t.Errorf("got %s %q", resp.Status, text)
	}
	if resp, text := g.sendAs(t, "narrow", known); resp.StatusCode != 204 {
		t.Errorf("got %s %q", resp.Status, text)
	}
	g.want(t, "4:0 __name__=a {}", "4:0 __name__=a {}", "4:0 __name__=a {}", "4:0 __name__=b {}", "4:0 __name__=b {}", "4:0 __name__=b {}",
		"4:0 __name__=c {}", "4:0 __name__=c {}")
}

// many is a message of n series with one sample each, so old.
func many(n int, age time.Duration) []byte {
	var wr prompb.WriteRequest
	for i := range n {
		wr.Timeseries = append(wr.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: "m"}, {Name: "i", Value: strconv.Itoa(i)}},
			Samples: []prompb.Sample{{Value: 1, Timestamp: time.Now().Add(-age).UnixMilli()}},
		})
	}
	return wr.MarshalProtobuf(nil)
}

func TestWhatIsAboveTheSustainedRateGoesToTheBulkLane(t *testing.T) {
	lanes := &shelf{}
	g := inWorld(t, defaults(), lanes)
	for range 3 { // the burst is 100 samples, and 200 of the hard limit; either lets a request through as long as there is something left
		if resp, text := g.sendAs(t, "slow", many(90, 0)); resp.StatusCode != 204 {
			t.Fatalf("got %s %q", resp.Status, text)
		}
	}
	if got := lanes.samples(); got[buffer.Main] != 180 || got[buffer.Bulk] != 90 {
		t.Errorf("by lane %v", got)
	}
	resp, text := g.sendAs(t, "slow", many(10, 0))
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != 429 || g.requests(t, "over_limit") != 1 || seconds < 1 || seconds > 30 {
		t.Errorf("above the hard limit: got %s %q, Retry-After %d", resp.Status, text, seconds)
	}
	for _, want := range []string{"5:0", "slow", "20/s", "samples"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	// Prometheus drops what is answered 429, and it has kept these samples for long.
	if resp, text := g.sendAs(t, "slow", many(10, time.Hour)); resp.StatusCode != 503 || g.requests(t, "over_limit_old") != 1 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("old and above the hard limit: got %s %q", resp.Status, text)
	}
	mixed := append(many(50, 0), many(1, 15*time.Minute)...)
	if resp, text := g.sendAs(t, "slow", mixed); resp.StatusCode != 503 || g.requests(t, "over_limit_old") != 2 || g.requests(t, "over_limit") != 1 {
		t.Errorf("one of them old, above the hard limit: got %s %q", resp.Status, text)
	}
}

func TestOldSamplesGoToTheBulkLane(t *testing.T) {
	lanes := &shelf{}
	g := inWorld(t, defaults(), lanes)
	for age, want := range map[time.Duration]buffer.Lane{0: buffer.Main, 4 * time.Minute: buffer.Main, 6 * time.Minute: buffer.Bulk, -time.Hour: buffer.Main} {
		before := lanes.samples()[want]
		if resp, text := g.sendAs(t, "one", many(3, age)); resp.StatusCode != 204 {
			t.Fatalf("got %s %q", resp.Status, text)
		}
		if got := lanes.samples()[want] - before; got != 3 {
			t.Errorf("of %v: %d samples in lane %s, want 3", age, got, want)
		}
	}
}

func TestRequestsOfATenantAtOneTimeAreBounded(t *testing.T) {
	store := &shelf{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	g := inWorld(t, defaults(), store)
	first := make(chan int)
	go func() {
		resp, _ := g.sendAs(t, "alone", freshly(named("m")))
		first <- resp.StatusCode
	}()
	<-store.entered
	if resp, text := g.sendAs(t, "alone", freshly(named("n"))); resp.StatusCode != 503 || g.requests(t, "too_many_at_once") != 1 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %s %q", resp.Status, text)
	}
	store.leave <- struct{}{}
	if got := <-first; got != 204 {
		t.Errorf("the first got %d", got)
	}
	go func() { <-store.entered; store.leave <- struct{}{} }()
	if resp, text := g.sendAs(t, "alone", freshly(named("n"))); resp.StatusCode != 204 {
		t.Errorf("after it: got %s %q", resp.Status, text)
	}
}

// What was not stored is sent again, and does not count against the tenant twice.
func TestWhatIsNotStoredDoesNotCountAgainstTheLimit(t *testing.T) {
	full := true
	store := &shelf{answer: func() error {
		if full {
			return fmt.Errorf("no room: %w", buffer.ErrFull)
		}
		return nil
	}}
	g := inWorld(t, defaults(), store)
	for range 20 {
		if resp, text := g.sendAs(t, "slow", many(100, 0)); resp.StatusCode != 503 || g.requests(t, "over_limit") != 0 {
			t.Fatalf("got %s %q", resp.Status, text)
		}
	}
	full = false
	if resp, text := g.sendAs(t, "slow", many(100, 0)); resp.StatusCode != 204 || store.samples()[buffer.Main] != 100 {
		t.Errorf("got %s %q, by lane %v", resp.Status, text, store.samples())
	}
}

func TestTrustedSendersNameTenantsInTheirData(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	message := freshly(
		named("a", "org", "acme"), named("b", "org", "globex"), named("go_c", "org", "initech"), named("d", "org", "initech"), named("e", "org", "acme"))
	if resp, text := g.sendAs(t, "hosts", message); resp.StatusCode != 204 {
		t.Errorf("got %s %q", resp.Status, text)
	}
	g.want(t, "1:0 __name__=a,org=acme {}", "1:0 __name__=e,org=acme {}", `2:0 __name__=b,org=globex {org="two", region="eu"}`, "3:0 __name__=d,org=initech {}")
}

func TestSeriesOfNoTenantAreRefusedAndNeverGoTo0(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	resp, text := g.sendAs(t, "hosts", freshly(named("a", "org", "acme"), named("b"), named("c", "org", "nobody"), named("d", "vm_account_id", "5")))
	if resp.StatusCode != 400 || !strings.Contains(text, "of 4 series 3 of no tenant") || !strings.Contains(text, "org") {
		t.Errorf("got %s %q", resp.Status, text)
	}
	g.want(t, "1:0 __name__=a,org=acme {}")
}

func TestLabelsThatNameTheTenantAreTakenOut(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	message := freshly(
		named("a", "vm_account_id", "5", "vm_project_id", "6"),
		named("b", "vm_account_id", "5", "vm_project_id", "6", "VictoriaMetrics_AccountID", "1"),
		named("c"))
	message = append(message, metadataOf("a", 5, 6)...)
	message = append(message, metadataOf("c", 0, 0)...)
	for _, path := range []string{"/insert/multitenant/prometheus/api/v1/write", "/api/v1/write"} {
		g.shelf.blocks = nil
		resp, text := g.post(t, path, bytes.NewReader(snappy.Encode(nil, message)), "Authorization", "Bearer token-agent")
		if resp.StatusCode != 204 {
			t.Errorf("got %s %q", resp.Status, text)
		}
		g.want(t, "5:6 __name__=a {}", "5:6 __name__=b {}", "9:9 __name__=c {}")
		for _, r := range g.shelf.records(t) {
			decoded, _ := snappy.Decode(nil, r.Payload)
			var u prompb.WriteRequestUnmarshaler
			wr, err := u.UnmarshalProtobuf(decoded)
			if err != nil {
				t.Fatal(err)
			}
			family := map[string]string{"5:6": "a", "9:9": "c"}[r.Tenant.String()]
			if len(wr.Metadata) != 1 || wr.Metadata[0].MetricFamilyName != family || wr.Metadata[0].AccountID != 0 {
				t.Errorf("metadata of %s: %+v", r.Tenant, wr.Metadata)
			}
		}
	}
}

// metadataOf is an entry as it stands in a message.
func metadataOf(family string, account, project uint32) []byte {
	wr := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: family, Help: "help", AccountID: account, ProjectID: project}}}
	return wr.MarshalProtobuf(nil)
}

// One tenant's flood is that tenant's problem, also when somebody else sends for it.
func TestLimitOfOneTenantDoesNotKeepTheOthersInTheSameBody(t *testing.T) {
	lanes := &shelf{}
	g := inWorld(t, defaults(), lanes)
	mixed := func() []byte {
		series := [][]string{named("a", "org", "acme")}
		for i := range 300 {
			series = append(series, named("flood", "org", "hooli", "i", strconv.Itoa(i)))
		}
		return freshly(series...)
	}
	if resp, text := g.sendAs(t, "hosts", mixed()); resp.StatusCode != 204 {
		t.Fatalf("within the burst: got %s %q", resp.Status, text)
	}
	resp, text := g.sendAs(t, "hosts", mixed())
	if resp.StatusCode != 400 || !strings.Contains(text, "300 of tenants that send too much") || !strings.Contains(text, "5:0") {
		t.Errorf("got %s %q", resp.Status, text)
	}
	if got := lanes.samples(); got[buffer.Main]+got[buffer.Bulk] != 302 {
		t.Errorf("by lane %v, want both samples of the other tenant and one flood", got)
	}
	resp, text = g.sendAs(t, "hosts", freshly(named("flood", "org", "hooli")))
	if resp.StatusCode != 429 || !strings.Contains(text, "5:0") || resp.Header.Get("Retry-After") == "" {
		t.Errorf("nothing but the flood: got %s %q", resp.Status, text)
	}
}

// Old samples above the limit make the whole body come again. The other tenants pay for what is theirs once.
func TestWhatComesAgainBecauseOfAnotherTenantCountsOnce(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	g.sendAs(t, "slow", freshly(slices.Repeat([][]string{named("flood")}, 300)...))
	old := sampledAt(slices.Repeat([][]string{named("flood", "org", "hooli")}, 300), time.Now().Add(-time.Hour))
	body := append(freshly(named("a", "org", "acme")), old...)
	one := tenant.ID{Account: 1}
	for range 5 {
		if resp, text := g.sendAs(t, "hosts", body); resp.StatusCode != 503 || !strings.Contains(text, "5:0") {
			t.Fatalf("got %s %q", resp.Status, text)
		}
	}
	d, _ := g.limits.Describe(one)
	if d.Refused["unavailable"].Requests != 5 || d.LastError != errComesAgain.Error() {
		t.Errorf("the neighbour's part was given back %d times, want 5; last error %q, which has to be neutral", d.Refused["unavailable"].Requests, d.LastError)
	}
}

func TestWhoNamesAnotherTenantInTheDataIsTakenOutOrRefused(t *testing.T) {
	forged := [][]string{named("a", "vm_account_id", "7"), named("b"), named("c", "VictoriaMetrics_ProjectID", ""), named("d", "VM_account_id", "7")}
	body := append(freshly(forged...), metadataOf("a", 7, 7)...)
	for mode, want := range map[string][]string{
		"strip":  {"1:0 __name__=a {}", "1:0 __name__=b {}", "1:0 __name__=c {}", "1:0 __name__=d,VM_account_id=7 {}"},
		"refuse": {"1:0 __name__=b {}", "1:0 __name__=d,VM_account_id=7 {}"},
	} {
		cfg := defaults()
		cfg.Reserved = mode
		g := inWorld(t, cfg, &shelf{})
		resp, text := g.sendAs(t, "one", body)
		status := map[string]int{"strip": 204, "refuse": 400}[mode]
		if resp.StatusCode != status || mode == "refuse" && !strings.Contains(text, "of 4 series 2 have labels that name a tenant") {
			t.Errorf("%s: got %s %q, want %d", mode, resp.Status, text, status)
		}
		g.want(t, want...)
		d, _ := g.limits.Describe(tenant.ID{Account: 1})
		if d.Reserved != 4 || int(d.Refused["reserved_labels"].Samples) != 4-len(want) {
			t.Errorf("%s: described as %d reserved, refused %v", mode, d.Reserved, d.Refused)
		}
		if resp, text := g.sendAs(t, "agent", freshly(named("e", "vm_account_id", "1", "vm_project_id", "0"))); resp.StatusCode != 204 {
			t.Errorf("%s: a sender that may name tenants got %s %q", mode, resp.Status, text)
		}
	}
}

func TestTenantsFindWhatWasRefusedInTheirOwnAccount(t *testing.T) {
	cfg := defaults()
	cfg.Gateway = "gw-0"
	g := inWorld(t, cfg, &shelf{})
	if resp, text := g.sendAs(t, "tagged", freshly(named("m"))); resp.StatusCode != 204 {
		t.Fatalf("got %s %q", resp.Status, text)
	}
	if resp, text := g.sendAs(t, "dropping", freshly(named("go_gc"), named("go_threads"))); resp.StatusCode != 204 {
		t.Fatalf("got %s %q", resp.Status, text)
	}
	g.shelf.blocks = nil
	for profile, discarded := range g.limits.Discarded() {
		if err := g.writeDiscarded(t.Context(), profile, discarded); err != nil {
			t.Fatal(err)
		}
	}
	g.want(t, "3:0 __name__=ingest_discarded_samples_total,gateway=gw-0,reason=drop_rule {}")
}

func TestTellingWhatWasRefusedEndsWithTheServer(t *testing.T) {
	cfg := defaults()
	cfg.Discarded = true
	inWorld(t, cfg, &shelf{}) // Cleanup waits for Serve
}

// A secretive Access knows more of an error than senders are told.
type secretive struct{}

func (secretive) Identify(context.Context, *http.Request, access.Name) (*tenant.Sender, error) {
	return nil, fmt.Errorf("identify: %w", tenant.Hidden(tenant.ErrUnavailable, errors.New("dial tcp 10.1.2.3:9000: refused")))
}

func TestTheLogSaysWhatSendersAreNotTold(t *testing.T) {
	var text bytes.Buffer // read when the request has been answered, which is after it was logged
	g := startLogging(t, defaults(), secretive{}, 64<<20, &shelf{}, slog.New(slog.NewTextHandler(&text, nil)))
	resp, answer := g.sendAs(t, "one", freshly(named("m")))
	if resp.StatusCode != 503 || strings.Contains(answer, "10.1.2.3") || !strings.Contains(text.String(), "10.1.2.3") {
		t.Errorf("told %s %q, logged %q", resp.Status, answer, text.String())
	}
}
