package tenant

import (
	"strings"
	"testing"
)

// series is one by its labels.
type series map[string]string

func (s series) Get(name string) []byte {
	if value, ok := s[name]; ok {
		return []byte(value)
	}
	return nil
}

func TestARuleFitsWhatASelectorWouldFind(t *testing.T) {
	node := series{"__name__": "up", "job": "node", "instance": "10.0.0.1:9100"}
	for rule, want := range map[string]bool{
		`up`:                                   true,
		`upp`:                                  false,
		`{__name__="up"}`:                      true,
		`{__name__=~"u."}`:                     true,
		`{__name__=~"u"}`:                      false, // anchored
		`{__name__=~".*p|down"}`:               true,
		`{__name__=~"up|upper"}`:               true,
		`{__name__=~"u(x|p)"}`:                 true,
		`{__name__=~"(?i)UP"}`:                 true,
		`{__name__=~"u\\.*p"}`:                 true,
		`{__name__=~"p"}`:                      false,
		`{__name__!~"upp.*"}`:                  true,
		`up{job="node"}`:                       true,
		`up{job="node",instance="10.0.0.2"}`:   false,
		`up{job!="node"}`:                      false,
		`up{job!="other"}`:                     true,
		`up{instance=~"10\\..*"}`:              true,
		`up{instance!~"10\\..*"}`:              false,
		`up{instance!~"11\\..*"}`:              true,
		`up{absent=""}`:                        true, // a label that is not there is empty
		`up{absent!=""}`:                       false,
		`up{absent=~"|x"}`:                     true,
		`up{absent!="x"}`:                      true,
		`up{absent=~".+"}`:                     false,
		`{job="other" or job="node"}`:          true, // MetricsQL
		`{job="other" or instance="10.0.0.2"}`: false,
		`{"up"}`:                               true, // as Prometheus 3 writes names
		`{"up","job"="node"}`:                  true,
	} {
		r, err := ParseRule(rule)
		if err != nil {
			t.Errorf("%s: %v", rule, err)
			continue
		}
		if r.Fits(node) != want || r.String() != rule {
			t.Errorf("%s is %s and fits: %v, want %v", rule, r, !want, want)
		}
	}
}

func TestWhatPicksNoSeriesIsNoRule(t *testing.T) {
	for _, rule := range []string{
		"", " ", "{}", `sum(up)`, `up + 1`, `1`, `"up"`, `up[5m]`, `up offset 5m`, `up{`, `up{job="(}`, `{job=~"("}`, `{job=~"a)(?:b"}`, `up{job~"x"}`, `up or down`,
		`up @ 5`, `{job="a" or}`, "\xff", `rate(up)`, `with (x = up) x + x`,
	} {
		if r, err := ParseRule(rule); err == nil {
			t.Errorf("%q: got %s, want an error", rule, r)
		} else if !strings.HasPrefix(err.Error(), "rule ") {
			t.Errorf("%q: the error does not say what is wrong: %v", rule, err)
		}
	}
}

// A rule that fits everything would drop all that a tenant sends.
func TestARuleThatCouldFitEverythingIsSeen(t *testing.T) {
	for rule, refused := range map[string]bool{
		`{}`:                       true,
		`{__name__=~".*"}`:         true,
		`{__name__!=""}`:           true,
		`{job=~".*"}`:              true,
		`{job=""}`:                 false,
		`{job=~".+"}`:              false,
		`{job="x" or job=~".*"}`:   true,
		`{job=~".*",env="test"}`:   false,
		`up{job=~".*"}`:            false,
		`{__name__=~".+",job="x"}`: false,
	} {
		if _, err := ParseRule(rule); (err != nil) != refused {
			t.Errorf("%s: refused is %v (%v), want %v", rule, err != nil, err, refused)
		}
	}
}

// FuzzRule: nothing that a tenant's rule may be panics, neither when it is read nor when it is used.
func FuzzRule(f *testing.F) {
	for _, s := range []string{`up{job="node"}`, `{a=~"b.*|c",d!="e" or f!~"g"}`, `{"up"}`, `sum(up)`, `{`, "with (x={a=\"b\"}) x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			return
		}
		r.Fits(series{"__name__": "up", "a": "b"})
		if r.String() != text {
			t.Fatalf("%q became %q", text, r)
		}
	})
}

func BenchmarkRuleFits(b *testing.B) {
	for name, metric := range map[string]string{"yes": "go_goroutines", "no": "node_cpu_seconds_total"} {
		b.Run(name, func(b *testing.B) { benchmarkRule(b, []byte(metric)) })
	}
}

func benchmarkRule(b *testing.B, name []byte) {
	r, err := ParseRule(`{__name__=~"go_.*",job!="x"}`)
	if err != nil {
		b.Fatal(err)
	}
	job := []byte("node")
	labels := get(func(label string) []byte {
		if label == "job" {
			return job
		}
		return name
	})
	b.ReportAllocs()
	for b.Loop() {
		r.Fits(labels)
	}
}

type get func(string) []byte

func (g get) Get(name string) []byte { return g(name) }
