package status

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// patience is how long a browser may take for anything, on a machine that has other things to do.
const patience = 60 * time.Second

// A browser is a Chromium without a window.
type browser struct {
	ctx context.Context
	// probe and axe are scripts that are evaluated in pages.
	probe, axe string
}

// openBrowser starts a Chromium that ends with the test.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a browser; left out with -short")
	}
	program := installed(t, stack.Chromium)
	ctx, end := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), // it asks nobody else, whatever it is told to
		chromedp.Flag("disable-gpu", true),
	)...)
	t.Cleanup(end) // waits for it
	ctx, stop := chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	return &browser{ctx: ctx, probe: fileText(t, "testdata/probe.js"), axe: fileText(t, installed(t, stack.AxeCore))}
}

func installed(t *testing.T, part stack.Part) string {
	t.Helper()
	path, err := stack.Install(t.Context(), part, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func fileText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A tab is one page in the browser. What the page does wrong by itself fails the test when that ends.
type tab struct {
	t    *testing.T
	ctx  context.Context
	b    *browser
	host string

	mu     sync.Mutex
	faults []string
}

// A window says how somebody looks at a page.
type window struct {
	width, height int64
	dark          bool
	noScripts     bool
}

// The windows that the page is made for: a phone and a large screen.
var (
	phone = window{width: 380, height: 740}
	wall  = window{width: 1600, height: 1000}
)

func (w window) inTheDark() window {
	w.dark = true
	return w
}

func (w window) String() string {
	return fmt.Sprintf("%d-%s", w.width, map[bool]string{true: "dark", false: "light"}[w.dark])
}

// open shows the page of s.
func (b *browser) open(t *testing.T, s *Server, w window) *tab {
	t.Helper()
	p := &tab{t: t, b: b, host: s.Addr().String()}
	ctx, leave := chromedp.NewContext(b.ctx, chromedp.WithListener(p.hear))
	p.ctx = ctx
	t.Cleanup(func() {
		leave()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, fault := range p.faults {
			t.Error(fault)
		}
	})
	p.resize(w)
	p.do(chromedp.Navigate("http://" + p.host + "/"))
	if !w.noScripts {
		p.wait("it is live and charts are drawn", `document.getElementById("live").textContent === "Live" && document.querySelectorAll("#charts canvas").length === 6`)
		p.do(chromedp.Evaluate[chromedp.Void](b.axe))
	}
	return p
}

// hear notes what the page does wrong.
func (p *tab) hear(event any) {
	fault := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		fault = "the page throws: " + thrown(e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		fault = "the page writes to the console: " + string(e.Type)
		for _, a := range e.Args {
			fault += fmt.Sprintf(" %s%s", a.Value, a.Description)
		}
	case *log.EventEntryAdded:
		fault = fmt.Sprintf("the browser writes to the console: %s: %s (%s)", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *network.EventRequestWillBeSent:
		if to, err := url.Parse(e.Request.URL); err != nil || to.Host != p.host && to.Scheme != "data" {
			fault = "the page asks somebody else: " + e.Request.URL
		}
	}
	if fault != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = append(p.faults, fault)
	}
}

func thrown(e *runtime.ExceptionDetails) string {
	if e.Exception != nil && e.Exception.Description != "" {
		return e.Exception.Description
	}
	return e.Text
}

// resize makes the window another one.
func (p *tab) resize(w window) {
	p.t.Helper()
	options := []chromedp.EmulateViewportOption{chromedp.EmulatePortrait}
	if w.width < 600 {
		options = append(options, chromedp.EmulateMobile, chromedp.EmulateTouch)
	}
	scheme := map[bool]string{true: "dark", false: "light"}[w.dark]
	p.do(chromedp.EmulateViewport(w.width, w.height, options...))
	read(p, answer(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}))
	read(p, answer(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})) // all tabs are in front
	read(p, answer(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: w.noScripts}))
}

// answer is a command of the protocol as an action.
func answer[P, R any](command cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	}
}

func (p *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	read(p, chromedp.Steps(steps...))
}

// read does something in a tab and returns what comes of it.
func read[V any](p *tab, action chromedp.Action[V]) V {
	p.t.Helper()
	if p.ctx.Err() == nil && chromedp.FromContext(p.ctx).Target == nil { // else the tab would end with the time-out
		if err := chromedp.Do(p.ctx); err != nil {
			p.t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// ask evaluates one of the questions in probe.js, such as "figures()".
func ask[V any](p *tab, question string) V {
	p.t.Helper()
	return read(p, chromedp.Evaluate[V](p.b.probe+"."+question, chromedp.EvalAwaitPromise))
}

// wait waits until an expression is true.
func (p *tab) wait(what, expression string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if _, err := chromedp.Run(ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(0))); err != nil {
		p.t.Fatalf("wait until %s: %v", what, err)
	}
}

// press presses keys, one after the other.
func (p *tab) press(keys string) {
	p.t.Helper()
	p.do(chromedp.KeyEvent(keys))
}

// wants fails the test if there are faults.
func (p *tab) wants(where string, faults []string) {
	p.t.Helper()
	if len(faults) > 0 {
		p.t.Errorf("%s there are %d faults:\n%s", where, len(faults), strings.Join(faults[:min(12, len(faults))], "\n"))
	}
}
