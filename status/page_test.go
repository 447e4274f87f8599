package status

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/ingestgw/ingestgw/downstream"
)

var update = flag.Bool("update", false, "write testdata anew; look at what has changed")

// scenes are the situations that the page is looked at in.
var scenes = map[string]func() scene{"well": wellScene, "backlog": backlogScene, "nothing": nothingScene}

// status is what the Server says in the scene.
func (sc scene) status(t *testing.T) Status {
	t.Helper()
	return sc.server(t).describe(sc.span())
}

// html is the page in the scene, with two points of history unless nothing is known.
func (sc scene) html(t *testing.T) string {
	t.Helper()
	v := pageOf(sc.status(t))
	v.HasToken = sc.then != nil
	h := newHistory(time.Hour)
	if sc.then != nil {
		h.add(morning.Add(-10*time.Second), pointOf(span{now: sc.span().then}))
		h.add(morning, pointOf(sc.span()))
	}
	v.History = historyTable(h.show(historyRows))
	var b bytes.Buffer
	if err := page.Execute(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// golden holds got against what testdata has.
func golden(t *testing.T, name, got string) {
	t.Helper()
	got = regexp.MustCompile(`\?v=[0-9a-f]+`).ReplaceAllString(got, "?v=…")
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	for i := range min(len(gotLines), len(wantLines)) {
		if gotLines[i] != wantLines[i] {
			t.Fatalf("%s, line %d:\n got %s\nwant %s\n(go test ./status -update writes it anew)", name, i+1, gotLines[i], wantLines[i])
		}
	}
	t.Fatalf("%s has %d lines, want %d", name, len(gotLines), len(wantLines))
}

func TestThePageSaysWhatIsTheCase(t *testing.T) {
	for name, sc := range scenes {
		t.Run(name, func(t *testing.T) { golden(t, "page-"+name+".html", sc().html(t)) })
	}
}

func TestTheTerminalSaysWhatIsTheCase(t *testing.T) {
	for name, sc := range scenes {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(sc().status(t)) // it comes over the wire
			if err != nil {
				t.Fatal(err)
			}
			var st Status
			if err := json.Unmarshal(text, &st); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := Print(&b, &st, false); err != nil {
				t.Fatal(err)
			}
			golden(t, "terminal-"+name+".txt", b.String())
		})
	}
}

func TestColoursAreForTerminalsAloneAndNobodyElseCanSendSome(t *testing.T) {
	sc := backlogScene()
	sc.alarms[1].Summary = "red \x1b[31m and \x07 a bell \u009b2J"
	sc.vitals[0].Notes = []string{"clear \x1b[2J"}
	st := sc.status(t)
	var without, with bytes.Buffer
	if err := Print(&without, &st, false); err != nil {
		t.Fatal(err)
	}
	if err := Print(&with, &st, true); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(without.String(), "\x1b\x07\u009b") {
		t.Errorf("somebody moves the cursor: %q", without.String())
	}
	ours := regexp.MustCompile(`\x1b\[(1;3[123]m|1m|0m)`)
	if stripped := ours.ReplaceAllString(with.String(), ""); stripped != without.String() {
		t.Errorf("with colours:\n%q\nwithout:\n%q", stripped, without.String())
	}
	if !strings.HasPrefix(with.String(), red+"TROUBLE"+plain) {
		t.Errorf("it begins with %.40q", with.String())
	}
}

// What others have written into alarms, names of servers and the like stays text.
func TestNobodyCanWriteMarkupIntoThePage(t *testing.T) {
	const evil = `<script>alert(1)</script><img src=x onerror=alert(1)>"'`
	sc := backlogScene()
	a := &sc.alarms[1]
	a.Name, a.Node, a.Summary, a.Next, a.Symptoms, a.Evidence[0].Text = evil, evil, evil, evil, []string{evil}, evil
	sc.vitals[0].Version, sc.vitals[0].Notes = evil, []string{evil}
	text := sc.html(t)
	if strings.Contains(text, "<script>alert") || strings.Contains(text, "<img") {
		t.Error("the page has markup of others")
	}
	if n := strings.Count(text, "&lt;script&gt;alert(1)"); n < 9 {
		t.Errorf("the text of others is there %d times", n)
	}
}

// elements lists the elements of a page.
func elements(t *testing.T, text string) []*html.Node {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			all = append(all, n)
		}
	}
	return all
}

func attribute(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func has(n *html.Node, element string) bool {
	for d := range n.Descendants() {
		if d.Data == element {
			return true
		}
	}
	return false
}

func TestThePageNeedsNoScriptAndHasNoneInline(t *testing.T) {
	for name, sc := range scenes {
		for _, n := range elements(t, sc().html(t)) {
			for _, a := range n.Attr {
				if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(a.Val, "javascript:") {
					t.Errorf("%s: <%s %s> would not pass the policy", name, n.Data, a.Key)
				}
				if strings.Contains(a.Val, "//") && !strings.HasPrefix(a.Val, "data:") {
					t.Errorf("%s: <%s %s=%q> goes elsewhere", name, n.Data, a.Key, a.Val)
				}
			}
			if n.Data == "script" && n.FirstChild != nil || n.Data == "style" {
				t.Errorf("%s: <%s> has its text in the page", name, n.Data)
			}
			id, _ := attribute(n, "id")
			_, hidden := attribute(n, "hidden")
			if needs := id == "charts" || id == "memory-form"; needs != hidden {
				t.Errorf("%s: <%s id=%q> hidden without scripts: %t", name, n.Data, id, hidden)
			}
			if _, open := attribute(n, "open"); id == "history-table" && !open && name != "nothing" {
				t.Errorf("%s: the table of history is folded without scripts", name)
			}
		}
	}
}

func TestThePageCanBeHeardAndUsedByKeyboard(t *testing.T) {
	for name, sc := range scenes {
		count := map[string]int{}
		all := elements(t, sc().html(t))
		ids := map[string]bool{}
		for _, n := range all {
			if id, ok := attribute(n, "id"); ok {
				if ids[id] {
					t.Errorf("%s: two elements are %s", name, id)
				}
				ids[id] = true
			}
		}
		for _, n := range all {
			count[n.Data]++
			label, _ := attribute(n, "aria-labelledby")
			switch n.Data {
			case "table":
				if !has(n, "caption") {
					t.Errorf("%s: a table has no caption", name)
				}
			case "th":
				if scope, _ := attribute(n, "scope"); scope == "" {
					t.Errorf("%s: a head of a table has no scope", name)
				}
			case "section":
				if !ids[label] {
					t.Errorf("%s: a section has no heading %q", name, label)
				}
			case "input":
				id, _ := attribute(n, "id")
				if !strings.Contains(sc().html(t), fmt.Sprintf(`<label for="%s">`, id)) {
					t.Errorf("%s: input %s has no label", name, id)
				}
			}
			if class, _ := attribute(n, "class"); class == "scroll" {
				if at, _ := attribute(n, "tabindex"); at != "0" {
					t.Errorf("%s: what scrolls cannot be reached by keyboard", name)
				}
			}
			if n.Data == "html" {
				if lang, _ := attribute(n, "lang"); lang != "en" {
					t.Errorf("%s: language %q", name, lang)
				}
			}
		}
		for element, want := range map[string]int{"main": 1, "h1": 1, "header": 1, "footer": 1, "nav": 1} {
			if count[element] != want {
				t.Errorf("%s: %d of <%s>, want %d", name, count[element], element, want)
			}
		}
	}
}

// What is heard must not change with figures, or a screen reader would never be silent.
func TestWhatIsHeardChangesOnlyWithTheVerdict(t *testing.T) {
	sc := backlogScene()
	before := pageOf(sc.status(t)).Announce
	sc.now = sc.now.With(board{
		`ingestgw_forward_unsent_blocks{lane="main",partition="0"}`:             70000,
		`ingestgw_forward_oldest_unsent_age_seconds{lane="main",partition="0"}`: 5000,
	})
	if after := pageOf(sc.status(t)).Announce; after != before || before == "" {
		t.Errorf("heard %q and then %q", before, after)
	}
	if well := pageOf(wellScene().status(t)).Announce; well == before {
		t.Errorf("the end of it is not heard: %q", well)
	}
}

// Every figure on the page is one of /metrics, or a sum, rate or maximum of them; those of the backlog are as they are.
// A flood waits in bulk and harms nobody: it is told, and is no reason to get up.
func TestWhatWaitsInBulkAloneIsNotAlarming(t *testing.T) {
	s, _ := floodNight(morning).server(t)
	v := pageOf(s.look())
	backlog, err := renderSection("backlog", v)
	if err != nil {
		t.Fatal(err)
	}
	if v.Backlog.Trend != trendGrowing || v.Announce != "Look at it. tenant flood. Backlog: empty." || strings.Contains(backlog, `class="numbers growing"`) {
		t.Errorf("the backlog is %s, announced is %q, and shown:\n%s", v.Backlog.Trend, v.Announce, backlog)
	}
}

func TestFiguresOfThePageAreThoseOfTheMetrics(t *testing.T) {
	st := backlogScene().status(t)
	for name, c := range map[string]struct{ got, want downstream.Figure }{
		"age":           {st.Backlog.Seconds, 4324},
		"blocks":        {st.Backlog.Blocks, 61234},
		"bytes":         {st.Backlog.Bytes, 2.9e9},
		"samples":       {st.Backlog.Samples, 5.5e7},
		"arriving":      {st.Backlog.ArrivingPerSecond, 12.5},
		"sent":          {st.Backlog.SentPerSecond, 3.25},
		"drain":         {st.Backlog.DrainSeconds, downstream.Figure(math.Inf(1))},
		"bulk's blocks": {st.Lanes[1].Backlog.Blocks, 0},
		"on disk":       {st.Lanes[0].BufferBytes, 3 << 30},
		"samples in":    {st.Stages[0].PerSecond, 5e4},
		"refused":       {st.Stages[0].FailuresPerSecond, 4},
		"failures of a": {st.Nodes[0].FailuresPerSecond, 2},
		"tenants":       {st.Tenants.Known, 20123},
		"the busiest":   {st.Tenants.Top[0].SamplesPerSecond, 3e4},
		"its bulk":      {st.Tenants.Top[0].BulkPerSecond, 2000},
		"refused to b":  {st.Tenants.Top[1].RefusedPerSecond, 1000},
		"gc":            {st.Memory.GCShare, 0.043},
		"limit":         {st.Memory.LimitBytes, 2 << 30},
	} {
		if c.got != c.want && math.Abs(float64(c.got-c.want)) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
	if text := backlogScene().html(t); !strings.Contains(text, `<data value="61234">61.2 k</data>`) || !strings.Contains(text, `<data value="&#43;Inf">never</data>`) {
		t.Error("the page does not have the figures as they are beside those in short")
	}
}

func TestTablesOfAThousandRowsAreCutAndTheAPIHasAll(t *testing.T) {
	sc := wellScene()
	for i := range 300 {
		sc.vitals = append(sc.vitals, vitalsOf(fmt.Sprintf("10.1.0.%d:8482", i), "vmstorage", 0.1))
	}
	st := sc.status(t)
	v := pageOf(st)
	if len(st.Nodes) != 303 || len(v.Nodes) != rows || v.MoreNodes != 203 {
		t.Errorf("%d nodes, of which the page shows %d and leaves out %d", len(st.Nodes), len(v.Nodes), v.MoreNodes)
	}
	html, err := renderSection("nodes", v)
	if err != nil || !strings.Contains(html, "And 203 more") {
		t.Errorf("the page does not say that it leaves something out: %v", err)
	}
}
