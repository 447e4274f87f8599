package forge

import (
	gobytes "bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"

	"github.com/ingestgw/ingestgw/loadtest/verify"
)

const requests = 300

func world(seed uint64) *World {
	return New(Config{
		Seed: seed, Tenants: 40, Start: time.UnixMilli(1_700_000_000_000), MaxLabels: 30, Huge: 50_000, Certificates: 4,
		Sign: func(account, project uint32) string { return fmt.Sprintf("signed-for-%d-%d", account, project) },
	})
}

// A gateway decides what becomes of requests: what it hands to store is in the cluster then.
type gateway struct {
	w     *World
	store func(tenant string, labels map[string]string, s prompb.Sample)
	// What a right one does, and wrong ones leave out.
	authorize, strip, tag, drop bool
}

func (g *gateway) tenantOf(r *Request) (t *Tenant, by *Trusted, ok bool) {
	authorization := r.Header.Get("Authorization")
	for i := range g.w.Trusted {
		if authorization == "Bearer "+g.w.Trusted[i].Token {
			return nil, &g.w.Trusted[i], true
		}
	}
	rest, inPath := strings.CutPrefix(r.Path, "/insert/")
	id, _, _ := strings.Cut(rest, "/")
	for i := range g.w.Tenants {
		t := &g.w.Tenants[i]
		if (!inPath || id == t.ID()) && (t.has(authorization, r.Certificate) || inPath && !g.authorize) {
			return t, nil, true
		}
	}
	return nil, nil, false
}

func (t *Tenant) has(authorization, certificate string) bool {
	return slices.ContainsFunc(t.Credentials, func(c Credential) bool {
		if authorization != "" {
			return authorization == c.Authorization
		}
		return certificate != "" && certificate == c.Certificate
	})
}

func (g *gateway) take(t *testing.T, r *Request) (status int) {
	t.Helper()
	owner, by, ok := g.tenantOf(r)
	if !ok {
		return 403
	}
	message, err := snappy.Decode(nil, r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var u prompb.WriteRequestUnmarshaler
	wr, err := u.UnmarshalProtobuf(message)
	if err != nil {
		t.Fatalf("VictoriaMetrics does not understand a request of kind %q: %v", r.Kind, err)
	}
	status = 204
	for _, ts := range wr.Timeseries {
		labels := map[string]string{}
		for _, l := range ts.Labels {
			labels[l.Name] = l.Value
		}
		whose := owner
		if by != nil {
			whose = g.named(by, labels)
		}
		if whose == nil || g.tooMany(whose, labels) {
			status = 400
			continue
		}
		g.keep(*whose, labels, ts.Samples)
	}
	return status
}

func (g *gateway) tooMany(of *Tenant, labels map[string]string) bool {
	all := maps.Clone(labels)
	maps.Copy(all, of.Tags)
	for _, name := range Reserved {
		delete(all, name)
	}
	return len(all) > g.w.cfg.MaxLabels
}

// named is whom a trusted sender names, nil when that is nobody.
func (g *gateway) named(by *Trusted, labels map[string]string) *Tenant {
	none := true
	for _, name := range by.Labels {
		none = none && labels[name] == ""
	}
	if none {
		if by.Default < 0 {
			return nil
		}
		return &g.w.Tenants[by.Default]
	}
	for i := range g.w.Tenants {
		if by.names(&g.w.Tenants[i], labels) {
			return &g.w.Tenants[i]
		}
	}
	return nil
}

func (by *Trusted) names(t *Tenant, labels map[string]string) bool {
	switch {
	case by.ByOrg:
		return labels[OrgLabel] == t.Org
	case len(by.Labels) == 1:
		return labels[OrgLabel] == t.ID()
	}
	return labels[Reserved[0]] == strconv.Itoa(int(t.Account)) && labels[Reserved[1]] == strconv.Itoa(int(t.Project))
}

func (g *gateway) keep(of Tenant, labels map[string]string, samples []prompb.Sample) {
	id := of.ID()
	for _, name := range Reserved {
		if v, there := labels[name]; there && g.strip {
			delete(labels, name)
		} else if there && strings.HasSuffix(strings.ToLower(name), "account_id") {
			id = v + ":" + strconv.Itoa(int(of.Project))
		}
	}
	if g.drop && of.Drops && labels[DropLabel] != "" {
		return
	}
	if g.tag {
		for name, value := range of.Tags {
			labels[name] = value
		}
	}
	for _, s := range samples {
		g.store(id, labels, s)
	}
}

// play lets a gateway take requests and reads everything back.
func play(t *testing.T, w *World, change func(*gateway)) (verdicts map[verify.Verdict]int, missing int, wrong []error) {
	t.Helper()
	verdicts = map[verify.Verdict]int{}
	g := &gateway{w: w, authorize: true, strip: true, tag: true, drop: true}
	var stored []verify.Sample
	g.store = func(tenant string, labels map[string]string, s prompb.Sample) {
		stored = append(stored, verify.Sample{Tenant: tenant, Series: verify.Name(labels), Timestamp: s.Timestamp, Value: s.Value})
	}
	if change != nil {
		change(g)
	}
	for range requests {
		r := w.Next()
		if err := w.Book().Answered(r, g.take(t, r)); err != nil {
			wrong = append(wrong, err)
		}
	}
	for _, s := range stored {
		verdicts[w.Book().See(s)]++
	}
	w.Book().Missing(func(string, string) { missing++ })
	return verdicts, missing, wrong
}

func TestARightGatewayIsFoundRight(t *testing.T) {
	for seed := range uint64(3) {
		w := world(seed)
		verdicts, missing, wrong := play(t, w, nil)
		if len(verdicts) != 1 || verdicts[verify.Right] == 0 || missing != 0 || len(wrong) != 0 {
			t.Errorf("seed %d: %v, %d missing, %v", seed, verdicts, missing, wrong)
		}
		if n := w.Book().Acknowledged(); n != verdicts[verify.Right] || w.Book().SeenBothWays() == 0 {
			t.Errorf("seed %d: %d acknowledged, %d series seen both ways", seed, n, w.Book().SeenBothWays())
		}
		taken := w.Book().Taken()
		for _, kind := range Kinds {
			if refused := kind == WrongTenant || kind == WrongToken; (taken[kind] > 0) == refused {
				t.Errorf("seed %d: %d of kind %q were taken", seed, taken[kind], kind)
			}
		}
	}
}

func TestEveryMistakeOfAGatewayIsFound(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*gateway)
		want   verify.Verdict
	}{
		{"reserved labels move series", func(g *gateway) { g.strip = false }, verify.Foreign},
		{"tags are left out", func(g *gateway) { g.tag = false }, verify.Changed},
		{"what is to be dropped is kept", func(g *gateway) { g.drop = false }, verify.Foreign},
		{"credentials are not looked at", func(g *gateway) { g.authorize = false }, verify.Foreign},
		{"everything comes twice", func(g *gateway) {
			once := g.store
			g.store = func(tenant string, labels map[string]string, s prompb.Sample) {
				once(tenant, labels, s)
				once(tenant, labels, s)
			}
		}, verify.Again},
		{"values are rounded", func(g *gateway) {
			right := g.store
			g.store = func(tenant string, labels map[string]string, s prompb.Sample) {
				s.Value += 0.5
				right(tenant, labels, s)
			}
		}, verify.Changed},
		{"one tenant gets what is another's", func(g *gateway) {
			right := g.store
			g.store = func(tenant string, labels map[string]string, s prompb.Sample) {
				if tenant == "1:1" {
					tenant = "11:1"
				}
				right(tenant, labels, s)
			}
		}, verify.Foreign},
	} {
		if verdicts, _, wrong := play(t, world(1), c.change); verdicts[c.want] == 0 {
			t.Errorf("%s: %v, %v", c.name, verdicts, wrong)
		}
	}
	verdicts, missing, _ := play(t, world(1), func(g *gateway) {
		right, n := g.store, 0
		g.store = func(tenant string, labels map[string]string, s prompb.Sample) {
			if n++; n%1000 != 0 {
				right(tenant, labels, s)
			}
		}
	})
	if missing == 0 || len(verdicts) != 1 {
		t.Errorf("one in a thousand is lost: %d missing, %v", missing, verdicts)
	}
}

func TestAnAnswerThatMustNotBeIsTold(t *testing.T) {
	w := world(3)
	for range requests {
		r := w.Next()
		for status, may := range map[int]bool{
			204: r.Want == Taken || r.Want == Either, 400: r.Want != Taken, 401: r.Want != Taken, 403: r.Want != Taken, 429: true, 503: true, 0: true,
		} {
			if err := w.Book().Answered(r, status); (err == nil) != may {
				t.Errorf("kind %q, answered %d: %v", r.Kind, status, err)
			}
		}
	}
}

func TestTheSameSeedMakesTheSameWorld(t *testing.T) {
	a, b, other := world(7), world(7), world(8)
	differs := false
	for range 100 {
		ra, rb, ro := a.Next(), b.Next(), other.Next()
		if !gobytes.Equal(ra.Body, rb.Body) || ra.Path != rb.Path || fmt.Sprint(ra.Header) != fmt.Sprint(rb.Header) {
			t.Fatalf("%q is not the same again", ra.Kind)
		}
		differs = differs || !gobytes.Equal(ra.Body, ro.Body)
	}
	if !differs {
		t.Error("another seed makes the same")
	}
}

func TestTenantsAndCredentialsDiffer(t *testing.T) {
	w := New(Config{Seed: 1, Tenants: 3000, MaxLabels: 30, Certificates: 10})
	seen := map[string]bool{"0:0": true}
	add := func(what string) {
		if seen[what] {
			t.Errorf("%s is there twice", what)
		}
		seen[what] = true
	}
	for _, tenant := range w.Tenants {
		add(tenant.ID())
		for _, c := range tenant.Credentials {
			if !c.shared {
				add(c.Authorization + c.Certificate)
			}
		}
		add(tenant.Org)
	}
	for _, trusted := range w.Trusted {
		add(trusted.Token)
	}
}

func TestFullSeriesHaveAsManyLabelsAsFit(t *testing.T) {
	w := world(2)
	most := 0
	for i, tenant := range w.Tenants {
		for series, may := range map[*series][2]int{w.full(i): {28, 30}, w.overfull(i): {31, 33}} {
			names := maps.Clone(tenant.Tags)
			if names == nil {
				names = map[string]string{}
			}
			for _, l := range series.labels {
				names[l.name] = l.value
			}
			if len(names) < may[0] || len(names) > may[1] {
				t.Errorf("tenant %d: %d labels with the tags, want %v", i, len(names), may)
			}
			most = max(most, len(series.labels))
		}
	}
	if most > 33 {
		t.Errorf("%d labels", most)
	}
}

func TestOddEncodingsMeanTheSame(t *testing.T) {
	w := world(1)
	for range 200 {
		want := label{"some_name", w.text()}
		var u prompb.WriteRequestUnmarshaler
		wr, err := u.UnmarshalProtobuf(appendMessage(nil, requestSeries,
			append(appendMessage(nil, seriesLabel, want.encodeOddly(w.random)), appendMessage(nil, seriesSample, encodeSample(1, 2))...)))
		if err != nil {
			t.Fatal(err)
		}
		if got := wr.Timeseries[0].Labels; !slices.Equal(got, []prompb.Label{{Name: want.name, Value: want.value}}) {
			t.Errorf("%v, want %v", got, want)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	w := world(rand.Uint64())
	b.ReportAllocs()
	for b.Loop() {
		w.Next()
	}
}
