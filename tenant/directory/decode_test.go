package directory

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/tenant"
)

var anybody = BearerToken("token").key

// full is an answer that says all there is to say.
const full = `{"name":"acme","tenants":["12:3",7,{"id":"8:1","name":"Acme","plan":{"name":"silver","requests_per_second":3},"tags":{},"drop":[]}],` +
	`"tenants_from":{"label":"org","values":"table","table":{"x":"12:3","y":7},"missing":"8:1"},` +
	`"plan":{"name":"gold","samples_per_second":10,"samples_burst":20,"samples_hard":30,"bytes_per_second":"1MB","active_series":5,"concurrent_requests":6},` +
	`"tags":{"org":"acme","region":"eu"},"drop":["up","{job=\"x\"}"],"ttl":"60s","later":{"than":["this"]}}`

func TestAnAnswerSaysAllThereIsToSay(t *testing.T) {
	v, err := decode([]byte(full), anybody)
	if err != nil {
		t.Fatal(err)
	}
	a := v.answer
	if v.ttl != time.Minute || a.Name != "acme" || a.tenants() != "12:3 7:0 8:1 by label org" {
		t.Errorf("%v, %s, %s", v.ttl, a.Name, a.tenants())
	}
	gold := tenant.Plan{
		Name:         "gold",
		Samples:      tenant.Rate{PerSecond: 10, Burst: 20, Hard: 30},
		Bytes:        tenant.Rate{PerSecond: 1e6, Burst: 15e6, Hard: 2e6},
		ActiveSeries: 5,
		Concurrent:   6,
	}
	for _, p := range []*tenant.Profile{a.Tenants[0], a.Tenants[1], &a.Naming.Base} {
		if *p.Plan != gold || p.Tags.String() != `{org="acme", region="eu"}` || len(p.Drop) != 2 {
			t.Errorf("%s: %+v, %s, %v", p.ID, p.Plan, p.Tags, p.Drop)
		}
	}
	own := a.Tenant(tenant.ID{Account: 8, Project: 1})
	if own.Name != "Acme" || own.Plan.Name != "silver" || own.Plan.Samples.Limits() || len(own.Tags) != 0 || len(own.Drop) != 0 {
		t.Errorf("%+v", own)
	}
	n := a.Naming
	if n.Values != ByTable || n.Table["y"] != (tenant.ID{Account: 7}) || *n.Missing != own.ID {
		t.Errorf("%+v", n)
	}
}

func TestTheExampleInTheProtocolIsAnAnswer(t *testing.T) {
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := bytes.Cut(text, []byte("    {\"name\":"))
	example, _, _ = bytes.Cut(example, []byte("\n\n"))
	v, err := decode(append([]byte(`{"name":`), example...), anybody)
	if err != nil {
		t.Fatal(err)
	}
	want := tenant.Plan{Name: "gold", Samples: tenant.Rate{PerSecond: 10_000, Burst: 150_000, Hard: 20_000}, ActiveSeries: 200_000}
	if a := v.answer; a.tenants() != "12:3" || *a.Tenants[0].Plan != want {
		t.Errorf("%s: %+v", a.tenants(), a.Tenants[0].Plan)
	}
}

func TestWhatAnAnswerDoesNotSayIsTheUsual(t *testing.T) {
	for text, want := range map[string]string{
		`{"tenants":[]}`:                   "none",
		`{"tenants":["1:2"]}`:              "1:2",
		`{"tenants_from":{"label":"org"}}`: "by label org",
		`{"tenants_from":{"labels":["a","b"],"values":"number","missing":"refuse"}}`: "by label a, b",
		`{"tenants":[1],"tenants_from":{"label":"o","table":{}}}`:                    "1:0 by label o",
	} {
		v, err := decode([]byte(text), anybody)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if a := v.answer; a.tenants() != want || a.Name != anybody.String() || v.ttl != 0 {
			t.Errorf("%s: %s of %s for %v", text, a.tenants(), a.Name, v.ttl)
		}
		for _, p := range v.answer.Tenants {
			if p.Plan != nil || len(p.Tags)+len(p.Drop) > 0 {
				t.Errorf("%s: %+v", text, p)
			}
		}
	}
}

func TestATTLIsKeptWithinBounds(t *testing.T) {
	for text, want := range map[string]time.Duration{"1ns": time.Second, "-5m": time.Second, "90s": 90 * time.Second, "99999h": maxStale} {
		v, err := decode([]byte(`{"tenants":[],"ttl":"`+text+`"}`), anybody)
		if err != nil || v.ttl != want {
			t.Errorf("%s: %v, %v, want %v", text, v.ttl, err, want)
		}
	}
}

func TestAnAnswerWhoseTagsOrPlanCannotBeIsMalformed(t *testing.T) {
	tags := `"x":"y"`
	for i := range 20 {
		tags += `,"t` + strconv.Itoa(i) + `":"x"`
	}
	for text, want := range map[string]string{
		`{"tenants":[1],"tags":{"org":"` + strings.Repeat("x", 5000) + `"}}`:    `tag "org": a value of 5000 bytes: at most 4096 are allowed`,
		`{"tenants":[1],"tags":{"` + strings.Repeat("n", 300) + `":"x"}}`:       "a name of 300 bytes: at most 256 are allowed",
		`{"tenants":[1],"tags":{` + tags + `}}`:                                 "21 tags: at most 20 are allowed",
		`{"tenants":[1],"plan":{"name":"gold","sample_per_second":10}}`:         `plan "gold": unknown key "sample_per_second"`,
		`{"tenants":[{"id":1,"plan":{"samples_per_second":1,"Samples":null}}]}`: `unknown key "Samples"`,
	} {
		_, err := read(http.StatusOK, []byte(text), anybody)
		var m *malformed
		if !errors.As(err, &m) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a malformed answer: %s", err, want)
		}
	}
}

func TestALabelStandsForOneTenant(t *testing.T) {
	about := labelKey("org", []byte("acme"))
	for text, good := range map[string]bool{
		`{"tenants":["1"]}`:     true,
		`{"tenants":[]}`:        false,
		`{"tenants":["1","2"]}`: false,
		`{"tenants":["1"],"tenants_from":{"label":"org"}}`:            false,
		`{"tenants_from":{"label":"org","values":"number"}}`:          false,
		`{"name":"` + strings.Repeat("x", 257) + `","tenants":["1"]}`: false,
	} {
		if _, err := decode([]byte(text), about); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzAnswersAreReadAndWrittenTheSame(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`{"unknown":true}`))
	f.Add([]byte(`{"tenants":[{"id":1,"plan":null,"tags":null}],"tags":{"a":"b"},"plan":{"samples_hard":null}}`))
	f.Add([]byte(`{"tenants":[[]],"tenants_from":{"labels":[],"missing":3}}`))
	f.Add([]byte(`{"tenants":["1"],"drop":["{a=~\"(b|c)\"} or {d!=\"\"}"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := decode(text, anybody)
		if err != nil {
			return
		}
		written := encode(v.answer)
		again, err := decode(written, anybody)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		if !bytes.Equal(encode(again.answer), written) || !sameTenants(v.answer, again.answer) {
			t.Errorf("%s became %s", written, encode(again.answer))
		}
	})
}

func FuzzCacheFilesNeverStopTheStart(f *testing.F) {
	v, err := decode([]byte(full), anybody)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	line := appendLine(nil, &entry{key: anybody, answer: v.answer, heard: now}, false)
	f.Add(line)
	f.Add(append(line, line...))
	f.Add([]byte(`00000000 {}` + "\n"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		list, err := readAnswers(bytes.NewReader(append([]byte(fileHead+"\n"), lines...)), Config{MaxEntries: 3, Stale: maxStale}, now)
		if len(list) > 3 {
			t.Errorf("%d answers", len(list))
		}
		for _, e := range list {
			if e.answer == nil || e.heard.After(now) {
				t.Errorf("%+v, %v", e, err)
			}
		}
	})
}

func TestALineOfTheFileIsReadAsItWasWritten(t *testing.T) {
	v, err := decode([]byte(full), anybody)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Round(0).UTC()
	for _, ask := range []bool{false, true} {
		e, err := readLine(appendLine(nil, &entry{key: anybody, answer: v.answer, heard: now}, ask), now)
		if err != nil || e.key != anybody || !e.heard.Equal(now) || !sameAnswer(e.answer, v.answer) || (e.asked == outdatedTurn) != ask {
			t.Errorf("%+v, %v", e, err)
		}
	}
	for _, text := range []string{`{"kind":"bearer","sha256":"00","answer":{"tenants":[]}}`, `{"kind":"x","answer":{"tenants":[]}}`, `{"kind":"bearer","sha256":"` + strings.Repeat("0", 66) + `"}`} {
		line := checked(text)
		if _, err := readLine(line, now); err == nil || strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestUnknownIsSaidInSoManyWords(t *testing.T) {
	for text, want := range map[string]bool{`{"unknown":true}`: true, `{"unknown":false,"tenants":[]}`: false, `{"tenants":[]}`: false} {
		if _, err := decode([]byte(text), anybody); errors.Is(err, errUnknown) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
}
