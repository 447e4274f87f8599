package ingest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/tenant"
)

// invalidSeries are series that break a rule, each of one sample, with further labels.
func invalidSeries(labels ...string) map[string][]byte {
	both := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "m"}}, Samples: []prompb.Sample{{Value: 1}}}
	for i := 0; i < len(labels); i += 2 {
		both.Labels = append(both.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	return map[string][]byte{
		"a label twice":       freshly(append(named("m", "a", "1", "a", "2"), labels...)),
		"no name":             freshly(append([]string{"a", "1"}, labels...)),
		"an empty name":       freshly(append(named(""), labels...)),
		"an empty label":      freshly(append(named("m", "", "1"), labels...)),
		"not UTF-8":           freshly(append(named("m", "a", "\xff"), labels...)),
		"a name, no UTF-8":    freshly(append(named("m", "a\xc3", "1"), labels...)),
		"the only name again": freshly(append(named("m", "__name__", "m"), labels...)),
	}
}

func (g *gateway) invalid(account uint32) (samples uint64, lastError string) {
	d, _ := g.limits.Describe(tenant.ID{Account: account})
	return d.Refused["invalid"].Samples, d.LastError
}

func TestInvalidSeriesAreRefusedAndTheirNeighboursStored(t *testing.T) {
	for name, invalid := range invalidSeries() {
		g := inWorld(t, defaults(), &shelf{})
		body := slices.Concat(freshly(named("first")), invalid, freshly(named("second")), invalid)
		resp, text := g.sendAs(t, "one", body)
		want := "of 4 series 2 break rules, the first of them: invalid series: series 1"
		if resp.StatusCode != 400 || !strings.Contains(text, want) || !strings.HasSuffix(text, "; the others are stored\n") || g.requests(t, "series_refused") != 1 {
			t.Errorf("%s: got %s %q, want %q", name, resp.Status, text, want)
		}
		g.want(t, "1:0 __name__=first {}", "1:0 __name__=second {}")
		if samples, last := g.invalid(1); samples != 2 || !strings.Contains(last, want) {
			t.Errorf("%s: %d samples counted as invalid, last error %q", name, samples, last)
		}
	}
}

func TestARequestOfInvalidSeriesOnlyIsRefusedAndStoresNothing(t *testing.T) {
	for name, invalid := range invalidSeries() {
		g := inWorld(t, defaults(), &shelf{})
		if resp, text := g.sendAs(t, "one", invalid); resp.StatusCode != 400 || !strings.Contains(text, "the only series of the request breaks a rule") {
			t.Errorf("%s: got %s %q", name, resp.Status, text)
		}
		if resp, text := g.sendAs(t, "one", append(invalid, invalid...)); resp.StatusCode != 400 || !strings.HasSuffix(text, "; none is stored\n") {
			t.Errorf("%s, twice: got %s %q", name, resp.Status, text)
		}
		if resp, text := g.sendAs(t, "hosts", append(invalid, invalid...)); resp.StatusCode != 400 || !strings.Contains(text, "none is stored") {
			t.Errorf("%s, of a trusted sender: got %s %q", name, resp.Status, text)
		}
		g.want(t)
		if samples, _ := g.invalid(1); samples != 3 {
			t.Errorf("%s: %d samples counted as invalid, want 3", name, samples)
		}
	}
}

func TestAnInvalidSeriesOfOneTenantDoesNotKeepTheOthersInTheSameBody(t *testing.T) {
	for name, invalid := range invalidSeries("org", "globex") {
		g := inWorld(t, defaults(), &shelf{})
		body := slices.Concat(freshly(named("a", "org", "acme")), invalid, freshly(named("b", "org", "acme")))
		resp, text := g.sendAs(t, "hosts", body)
		want := "of 3 series 1 breaks a rule: invalid series: series 1"
		if resp.StatusCode != 400 || !strings.Contains(text, want) || !strings.Contains(text, "the others are stored") {
			t.Errorf("%s: got %s %q, want %q", name, resp.Status, text, want)
		}
		g.want(t, "1:0 __name__=a,org=acme {}", "1:0 __name__=b,org=acme {}")
		if samples, last := g.invalid(2); samples != 1 || !strings.Contains(last, "breaks a rule: invalid series: series 1") {
			t.Errorf("%s: %d samples counted as invalid of the tenant, last error %q", name, samples, last)
		}
		if samples, last := g.invalid(1); samples != 0 || last != "" {
			t.Errorf("%s: %d samples counted as invalid of its neighbour, last error %q", name, samples, last)
		}
	}
}

func TestAnInvalidSeriesThatNamesTwoTenantsIsNobodys(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	for _, labels := range [][]string{{"org", "acme", "org", "globex"}, {"org", "\xff"}, {"a", "1", "a", "2"}} {
		resp, text := g.sendAs(t, "hosts", freshly(named("a", "org", "initech"), named("b", labels...)))
		if resp.StatusCode != 400 || !strings.Contains(text, "of 2 series 1 breaks a rule") {
			t.Errorf("%q: got %s %q", labels, resp.Status, text)
		}
	}
	for account := range uint32(4) {
		if samples, last := g.invalid(account); samples != 0 || last != "" {
			t.Errorf("tenant %d: %d samples counted as invalid, last error %q", account, samples, last)
		}
	}
}

func TestAMalformedMessageIsRefusedAsAWhole(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	for _, who := range []string{"one", "hosts"} {
		body := append(freshly(named("a", "org", "acme"), named("m", "a", "1", "a", "2")), 0x0a)
		if resp, text := g.sendAs(t, who, body); resp.StatusCode != 400 || !strings.Contains(text, "malformed") {
			t.Errorf("%s: got %s %q", who, resp.Status, text)
		}
	}
	g.want(t)
	if samples, _ := g.invalid(1); samples != 0 {
		t.Errorf("%d samples counted as invalid", samples)
	}
}

// What is refused is found in what is told of the tenant too, with the number that was met and where it is set.
func TestTenantsAreToldWhyTheirSeriesWereRefused(t *testing.T) {
	cfg := defaults()
	cfg.MaxLabels, cfg.MaxLabelName, cfg.MaxLabelValue, cfg.Reserved = 3, 200, 300, reservedRefuse
	for name, c := range map[string]struct {
		who     string
		account uint32
		series  []string
		want    []string
	}{
		"too many labels": {"one", 1, named("m", "a", "1", "b", "1", "c", "1"), []string{"more than 3 labels", "INGESTGW_INGEST_MAX_LABELS"}},
		"a long value":    {"one", 1, named("m", "a", strings.Repeat("v", 301)), []string{"longer than 300", "INGESTGW_INGEST_MAX_LABEL_VALUE"}},
		"a long name":     {"one", 1, named("m", strings.Repeat("n", 201), "1"), []string{"longer than 200", "INGESTGW_INGEST_MAX_LABEL_NAME"}},
		"a tenant": {"one", 1, named("m", "VictoriaMetrics_ProjectID", "1"),
			[]string{"vm_account_id, vm_project_id, VictoriaMetrics_AccountID, VictoriaMetrics_ProjectID", "INGESTGW_INGEST_RESERVED"}},
		"a new one": {"narrow", 4, named("m"), []string{`tenant 4:0 ("narrow")`, `plan "narrow" allows 3`, "active_series"}},
	} {
		g := inWorld(t, cfg, &shelf{})
		if resp, text := g.sendAs(t, c.who, freshly(named("a"), named("b"), named("c"))); resp.StatusCode != 204 {
			t.Fatalf("got %s %q", resp.Status, text)
		}
		resp, text := g.sendAs(t, c.who, freshly(named("a"), c.series))
		d, _ := g.limits.Describe(tenant.ID{Account: c.account})
		if resp.StatusCode != 400 || strings.TrimSpace(text) != d.LastError || !strings.Contains(text, "of 2 series 1 ") {
			t.Errorf("%s: got %s %q, last error %q", name, resp.Status, text, d.LastError)
		}
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q does not say %q", name, text, want)
			}
		}
		if resp, text := g.sendAs(t, c.who, freshly(c.series)); resp.StatusCode != 400 || strings.Contains(text, "stored") {
			t.Errorf("%s, alone: got %s %q", name, resp.Status, text)
		}
	}
}

func TestADroppedSeriesIsNotCalledStored(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	invalid := freshly(named("m", "a", "1", "a", "2"))
	resp, text := g.sendAs(t, "dropping", append(freshly(named("go_gc")), invalid...))
	if resp.StatusCode != 400 || !strings.HasSuffix(text, "; none is stored\n") {
		t.Errorf("got %s %q", resp.Status, text)
	}
	g.want(t)
}

// What is stored without its invalid series is what was sent without them, also when it is so large that it has to be split.
func TestSplitPartsHaveNoInvalidSeries(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{maxBlock: 64 << 10})
	invalid := freshly(named("m", "a", "1", "a", "2"))
	valid := noise(200_000)
	body := snappy.Encode(nil, slices.Concat(invalid, valid, invalid))
	resp, text := g.post(t, "/api/v1/write", bytes.NewReader(body), "Authorization", "Bearer token-one")
	if resp.StatusCode != 400 || !strings.Contains(text, "2 break rules") {
		t.Errorf("got %s %q", resp.Status, text)
	}
	var stored []byte
	for _, r := range g.shelf.records(t) {
		message, err := snappy.Decode(nil, r.Payload)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, message...)
	}
	if len(stored) != len(valid) || len(g.shelf.records(t)) < 2 {
		t.Errorf("%d bytes stored in %d records, want %d in several", len(stored), len(g.shelf.records(t)), len(valid))
	}
}

// A sender that comes again with the same series gets the same answer, and only what is refused anew is counted anew.
func TestRefusedSeriesAreRefusedEachTime(t *testing.T) {
	g := inWorld(t, defaults(), &shelf{})
	body := append(freshly(named("a")), sampledAt([][]string{named("m", "a", "1", "a", "2")}, time.Now().Add(-time.Hour))...)
	for range 2 {
		if resp, text := g.sendAs(t, "one", body); resp.StatusCode != 400 {
			t.Errorf("got %s %q", resp.Status, text)
		}
	}
	if samples, _ := g.invalid(1); samples != 2 {
		t.Errorf("%d samples counted as invalid", samples)
	}
}
