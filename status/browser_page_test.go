package status

import (
	"bytes"
	"flag"
	"fmt"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var screenshots = flag.String("screenshots", "", "write pictures of the page in each situation to this `directory`, to be looked at")

// TestThePageInABrowser looks at the page as people do: in each situation, at the figures, by keyboard, by ear, and without scripts.
// All is in one test, so that one browser is started.
func TestThePageInABrowser(t *testing.T) {
	b := openBrowser(t)
	t.Run("at", func(t *testing.T) {
		for i, one := range nights {
			t.Run(one.name, func(t *testing.T) {
				t.Parallel()
				looksRight(t, b, i)
			})
		}
		for name, test := range map[string]func(*testing.T, *browser){
			"its figures are those of the metrics": figuresAreThoseOfTheMetrics,
			"it can be used by keyboard":           usableByKeyboard,
			"it can be heard":                      canBeHeard,
			"it is a plain table without scripts":  plainWithoutScripts,
			"it leaves readers where they are":     leavesReadersWhereTheyAre,
			"it says when it is not live":          saysWhenItIsNotLive,
			"it says when it is outdated":          saysWhenItIsOutdated,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, b)
			})
		}
	})
}

// looksRight holds what is true of the page in every window. In one of them, another one in each night, it asks axe-core, which takes
// longer than all the rest.
func looksRight(t *testing.T, b *browser, night int) {
	name, page := nights[night].name, nights[night].page
	s, _ := nights[night].make(time.Now()).serve(t)
	p := b.open(t, s, phone)
	for i, w := range []window{phone, phone.inTheDark(), wall.inTheDark(), wall} {
		p.resize(w)
		p.drawn()
		p.wants("at "+w.String(), ask[[]string](p, "misfits()"))
		if i == night%4 {
			p.wants("at "+w.String()+", by axe-core", ask[[]string](p, "barriers()"))
		}
		if w.width == phone.width {
			p.saysFirst(page)
		}
		p.picture(name + "-" + w.String())
	}
}

// saysFirst holds that what is wrong, why and what to do is seen without scrolling.
func (p *tab) saysFirst(why bool) {
	p.t.Helper()
	said := ask[map[string]float64](p, "below()")
	if why && len(said) != 4 {
		p.t.Errorf("first is said: %v; want what is wrong, why, what to do and how much waits", said)
	}
	for text, below := range said {
		if below > 0 {
			p.t.Errorf("%q ends %.0f pixels below the first window of a phone", text, below)
		}
	}
}

// drawn waits until the charts are there in the size and colours of the window, and holds that there is something on them.
func (p *tab) drawn() {
	p.t.Helper()
	p.wait("charts have the width and colours of the window", p.b.probe+".fits()")
	for name, empty := range ask[map[string]bool](p, "drawn()") {
		if empty || !strings.Contains(name, " now ") {
			p.t.Errorf("a chart is empty (%t) or does not say what is on it: %s", empty, name)
		}
	}
}

// picture writes what is seen of the page: the first window of it, and all of it.
func (p *tab) picture(name string) {
	p.t.Helper()
	if *screenshots == "" {
		return
	}
	for kind, action := range map[string]chromedp.Action[[]byte]{"first": chromedp.CaptureScreenshot(), "all": chromedp.FullScreenshot(100)} {
		content := read(p, action)
		if _, err := png.DecodeConfig(bytes.NewReader(content)); err != nil {
			p.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*screenshots, name+"-"+kind+".png"), content, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}

// scraped is the values of /metrics by their lines.
type scraped map[string]float64

// metricsOf is what /metrics says now.
func metricsOf(t *testing.T, s *Server) scraped {
	t.Helper()
	_, text := get(t, s, "/metrics")
	all := scraped{}
	for line := range strings.Lines(text) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && !strings.HasPrefix(line, "#") {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			all[line[:at]] = v
		}
	}
	return all
}

// of joins the values of a metric's series whose labels contain the text.
func (b scraped) of(metric, labels string, join func(a, b float64) float64) float64 {
	total := math.NaN()
	for _, line := range slices.Sorted(maps.Keys(b)) { // in the order of /metrics, for sums are not the same in every order
		name, rest, _ := strings.Cut(line, "{")
		switch {
		case name != metric || !strings.Contains(rest, labels):
		case math.IsNaN(total):
			total = b[line]
		default:
			total = join(total, b[line])
		}
	}
	return total
}

func (b scraped) sum(metric, labels string) float64 {
	return b.of(metric, labels, func(a, b float64) float64 { return a + b })
}
func (b scraped) most(metric, labels string) float64 { return b.of(metric, labels, math.Max) }

// shown is what the page has to show when /metrics says this, by its words. Rates are not among it.
func (b scraped) shown() map[string]float64 {
	want := map[string]float64{}
	waiting := func(prefix, oldest, in, out, labels string) {
		want[prefix+oldest] = b.most("ingestgw_forward_oldest_unsent_age_seconds", labels)
		want[prefix+"Gone in"] = b.most("ingestgw_forward_time_to_drain_seconds", labels)
		want[prefix+"Not sent"] = b.sum("ingestgw_forward_unsent_bytes_estimate", labels)
		want[prefix+"Blocks"] = b.sum("ingestgw_forward_unsent_blocks", labels)
		if in != "" {
			want[prefix+in] = b.sum("ingestgw_forward_arriving_blocks_per_second", labels)
			want[prefix+out] = b.sum("ingestgw_forward_sent_blocks_per_second", labels)
		}
	}
	waiting("backlog/", "Oldest not sent", "Blocks in / s", "Blocks out / s", "")
	want["backlog/Samples, about"] = b.sum("ingestgw_forward_unsent_samples_estimate", "")
	for lane, partitions := range map[string]int{"main": 6, "bulk": 3} {
		of := fmt.Sprintf("lane=%q", lane)
		waiting("lanes/"+lane+"/", "Oldest", "", "", of)
		want["lanes/"+lane+"/Waiting for a server"] = b.sum("ingestgw_forward_waiting_for_permit", of)
		want["lanes/"+lane+"/On disk"] = b.sum("ingestgw_disk_bytes", of)
		want["lanes/"+lane+"/Of"] = b.sum("ingestgw_disk_quota_bytes", of)
		for i := range partitions {
			prefix, labels := fmt.Sprintf("partitions/%s/%d/", lane, i), fmt.Sprintf(`%s,partition="%d"`, of, i)
			waiting(prefix, "Oldest", "In / s", "Out / s", labels)
			want[prefix+"Not committed"] = b.sum("ingestgw_forward_uncommitted_blocks", labels)
		}
	}
	for budget, name := range map[string]string{"requests": "requests", "read_ahead": "read ahead"} {
		want["memory/"+name+"/Used"] = b.sum("ingestgw_memory_budget_used_bytes", fmt.Sprintf("budget=%q", budget))
		want["memory/"+name+"/Of"] = b.sum("ingestgw_memory_budget_bytes", fmt.Sprintf("budget=%q", budget))
	}
	for name, metric := range map[string]string{"GC of the CPU used": "gc_share", "Work held up by GC": "gc_assist_share", "GOGC": "gogc_percent",
		"Memory limit": "limit_bytes", "Counts against it": "counted_bytes"} {
		want["memory/"+name] = b.sum("ingestgw_memory_"+metric, "")
	}
	want["memory/Resident"] = b.sum("process_resident_memory_bytes", "")
	want["stages/settle/Takes"] = b.sum("ingestgw_forward_unsettled_seconds", "")
	return want
}

// differ says what on the page is not as /metrics has it.
func differ(page map[string]string, metrics scraped) []string {
	var faults []string
	want := metrics.shown()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		got, err := strconv.ParseFloat(page[name], 64)
		if err != nil || got != want[name] {
			faults = append(faults, fmt.Sprintf("%s is %q on the page, and /metrics says %v", name, page[name], want[name]))
		}
	}
	return faults
}

// figuresAreThoseOfTheMetrics reads every figure from the page that is one of /metrics, at first and after a change that an event tells of.
func figuresAreThoseOfTheMetrics(t *testing.T, b *browser) {
	n := gogcNight(time.Now())
	s, sc := n.serve(t)
	p := b.open(t, s, wall)
	first := ask[map[string]string](p, "figures()")
	p.wants("at first", differ(first, metricsOf(t, s)))
	if rate, err := strconv.ParseFloat(first["stages/receive/Per second"], 64); err != nil || rate > nightRate*1.001 || rate < nightRate/4 {
		t.Errorf("%v samples per second come in, want %d at most, and not much less: %v", rate, nightRate, err)
	}
	later := growingNight(n.at)
	later.set("ingestgw_memory_gc_share", 0.123)
	later.set(`ingestgw_memory_budget_used_bytes{budget="requests"}`, 987654321)
	sc.change(later.scene)
	p.wait("an event tells of the change", `document.querySelector('[data-live="memory"]').textContent.includes("12.3 %")`)
	p.wants("after a change", differ(ask[map[string]string](p, "figures()"), metricsOf(t, s)))
	if now := ask[map[string]string](p, "written()"); !strings.Contains(now["alarms"], "cause unknown") || !strings.Contains(now["now"], "1 h 26 min and growing, 7.97 GiB") {
		t.Errorf("after a change the page says: %q, %q", now["alarms"], now["now"])
	}
}

// usableByKeyboard reaches every control, and changes memory settings.
func usableByKeyboard(t *testing.T, b *browser) {
	s, _ := growingNight(time.Now()).serve(t)
	d := &dial{}
	s.SetMemory(d)
	p := b.open(t, s, phone)
	p.reachesAll()
	p.do(chromedp.Focus(chromedp.ID("gogc")))
	p.press("150" + kb.Enter)
	p.wait("it asks for the token", `document.activeElement.id === "token" && document.getElementById("token-dialog").open`)
	p.press("not-the-token-of-tests" + kb.Enter)
	p.wait("it says that this was another", `document.activeElement.id === "token" && document.getElementById("token-said").textContent === "That was not the token."`)
	p.press(token + kb.Enter)
	p.wait("it has changed", `document.getElementById("memory-said").textContent.startsWith("Changed.")`)
	if len(d.changes) != 1 || d.changes[0].GOGC == nil || d.changes[0].Limit != nil {
		t.Errorf("changed: %+v", d.changes)
	}
	p.do(chromedp.Focus(chromedp.ID("limit")))
	p.press("2GiB" + kb.Enter)
	p.wait("the next change is made, and is taken out of the form", `document.getElementById("memory-said").textContent.startsWith("Changed.") && document.getElementById("limit").value === ""`)
	if len(d.changes) != 2 || d.changes[1].GOGC != nil || d.changes[1].Limit == nil {
		t.Errorf("changed then: %+v; want the limit alone, not GOGC again", d.changes)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = slices.DeleteFunc(p.faults, func(fault string) bool { return strings.Contains(fault, "401 (Unauthorized)") }) // Chromium writes it down
}

// reachesAll presses Tab until every control had the focus.
func (p *tab) reachesAll() {
	p.t.Helper()
	controls := ask[[]string](p, "controls()")
	reached := map[int]bool{}
	for range len(controls) + 3 {
		p.press(kb.Tab)
		focus := ask[struct {
			At     int
			Faults []string
		}](p, "focus()")
		if focus.At < 0 {
			break // the browser's own controls
		}
		reached[focus.At] = true
		p.wants("with the focus", focus.Faults)
	}
	for i, control := range controls {
		if !reached[i] {
			p.t.Errorf("no Tab leads to %s", control)
		}
	}
	if len(controls) < 20 {
		p.t.Errorf("there are only %d controls: %q", len(controls), controls)
	}
}

// leavesReadersWhereTheyAre marks text, scrolls, unfolds and takes the focus, and holds that events change none of it.
func leavesReadersWhereTheyAre(t *testing.T, b *browser) {
	s, _ := growingNight(time.Now()).serve(t)
	p := b.open(t, s, phone)
	p.do(chromedp.Evaluate[chromedp.Void](`{
		getSelection().selectAllChildren(document.querySelector(".verdict .next"));
		document.querySelector('[data-live="nodes"]').scrollLeft = 200;
		document.querySelector('[data-live="alarms"] summary').click();
		document.querySelector('[data-live="tenants"] a').focus();
		scrollTo(0, 900);
		window.before = Object.fromEntries([...document.querySelectorAll("[data-live]")].map((part) => [part.dataset.live, part.firstElementChild]));
		window.chart = document.querySelector("#charts canvas");
	}`))
	p.resize(window{width: phone.width, height: phone.height - 60}) // as when scrolling brings the bar of addresses back
	p.wait("events have replaced what changes", `["now", "nodes", "tenants"].every((part) => !window.before[part].isConnected)`)
	for what, expression := range map[string]string{
		"the marked text": `getSelection().toString().startsWith("Next step:")`,
		"the table":       `document.querySelector('[data-live="nodes"]').scrollLeft === 200`,
		"the window":      `Math.abs(scrollY - 900) < 2`,
		"what is open":    `document.querySelector('[data-live="alarms"] details').open`,
		"what is drawn":   `window.chart.isConnected`,
		"the focus":       `document.activeElement === document.querySelector('[data-live="tenants"] a')`,
	} {
		if !read(p, chromedp.Evaluate[bool](expression)) {
			t.Errorf("%s is not as the reader had it", what)
		}
	}
}

// canBeHeard reads the tree that screen readers read.
func canBeHeard(t *testing.T, b *browser) {
	n := gogcNight(time.Now())
	s, sc := n.serve(t)
	p := b.open(t, s, phone)
	heard := p.heard()
	if first := heard["heading"]; len(first) < 8 || first[0] != "Trouble Data is refused, lost or late" {
		t.Errorf("headings: %q", first)
	}
	for role, want := range map[string][]string{
		"table":   {"The servers that samples go to, those that are not well first.", "Budgets of bytes held."},
		"region":  {"What is wrong", "Backlog", "Table of servers", "Top tenants"},
		"textbox": {"GOGC, in per cent, or off", "Memory limit, such as 2GiB, 80%, or 0 for none"},
		"button":  {"Change"},
		"main":    {""},
	} {
		for _, name := range want {
			if !slices.Contains(heard[role], name) {
				t.Errorf("no %s is called %q: %q", role, name, heard[role])
			}
		}
	}
	for _, row := range []string{"10.20.1.12:8480 vminsert, ready", "main/0", "receive"} {
		if !slices.Contains(heard["rowheader"], row) {
			t.Errorf("no head of a row is %q: %q", row, heard["rowheader"])
		}
	}
	sc.change(calmNight(n.at).scene)
	p.wait("the end of it is announced", `document.getElementById("announce").textContent === "Well. Backlog: empty."`)
	p.wait("and is in the title", `document.title === "Well – ingestgw ingestgw-2"`)
}

// heard lists the names of all that screen readers tell of, by role.
func (p *tab) heard() map[string][]string {
	p.t.Helper()
	names := map[string][]string{}
	tree := read(p, answer(accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}))
	for _, node := range tree.Nodes {
		if !node.Ignored {
			role := textOf(node.Role)
			names[role] = append(names[role], textOf(node.Name))
		}
	}
	return names
}

func textOf(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	text, err := strconv.Unquote(string(v.Value))
	if err != nil {
		return ""
	}
	return text
}

// plainWithoutScripts holds that who has no scripts reads the same.
func plainWithoutScripts(t *testing.T, b *browser) {
	s, _ := growingNight(time.Now()).serve(t)
	with := b.open(t, s, phone)
	without := phone
	without.noScripts = true
	p := b.open(t, s, without)
	figures := ask[map[string]string](p, "figures()")
	p.wants("without scripts", differ(figures, metricsOf(t, s)))
	if all := ask[map[string]string](with, "figures()"); !slices.Equal(sortedNames(all), sortedNames(figures)) {
		t.Errorf("with scripts there is %q, without %q", sortedNames(all), sortedNames(figures))
	}
	same, mine := ask[map[string]string](with, "written()"), ask[map[string]string](p, "written()")
	for _, part := range []string{"verdict", "alarms", "backlog", "lanes", "partitions", "memory"} {
		if same[part] != mine[part] || mine[part] == "" {
			t.Errorf("%s with scripts:\n%s\nwithout:\n%s", part, same[part], mine[part])
		}
	}
	for what, want := range map[string]bool{"#history-table table": true, "#live a": true, "#charts": false, "#memory-form": false, "#token-dialog": false} {
		if seen := read(p, chromedp.Evaluate[bool](fmt.Sprintf("document.querySelector(%q).checkVisibility()", what))); seen != want {
			t.Errorf("%s is seen without scripts: %t", what, seen)
		}
	}
	p.wants("without scripts", ask[[]string](p, "misfits()"))
	p.picture("growing-without-scripts")
}

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// saysWhenItIsOutdated lets the page lack a part that the server tells of, as after an upgrade, and holds that it says so from then on.
func saysWhenItIsOutdated(t *testing.T, b *browser) {
	n := calmNight(time.Now())
	s, sc := n.serve(t)
	p := b.open(t, s, phone)
	p.do(chromedp.Evaluate[chromedp.Void](`document.querySelector('[data-live="memory"]').remove()`))
	later := calmNight(n.at)
	later.set("ingestgw_memory_gc_share", 0.123)
	sc.change(later.scene)
	const says = `document.getElementById("live").textContent === "Another version runs now: load again" && document.getElementById("live").className === "stale"`
	p.wait("it says so", says)
	p.do(chromedp.Evaluate[chromedp.Void](`{ window.before = document.querySelector('[data-live="now"]').firstElementChild; }`))
	p.wait("there are more events", `!window.before.isConnected`)
	if !read(p, chromedp.Evaluate[bool](says)) {
		t.Error("with the next event the page passes for live again")
	}
}

// saysWhenItIsNotLive ends the server below a page.
func saysWhenItIsNotLive(t *testing.T, b *browser) {
	s, _ := calmNight(time.Now()).server(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve() }() // ends with Shutdown
	p := b.open(t, s, phone)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	p.wait("it says so", `document.getElementById("live").textContent.startsWith("Not live: ") && document.getElementById("live").className === "stale"`)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = slices.DeleteFunc(p.faults, func(fault string) bool { return strings.Contains(fault, "net::ERR_") }) // Chromium writes it down
}
