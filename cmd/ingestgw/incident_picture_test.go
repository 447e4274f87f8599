//go:build linux

package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/ingestgw/ingestgw/internal/stack"
)

var incidentPictures = flag.String("incident-pictures", "", "write pictures of the page while each incident lasts to this `directory`, to be looked at")

// picture shows the page as it is now, on a phone and on a large screen, if anybody wants to look at it. That no figure on it is wrong and
// nobody is kept from reading it is what the tests of package status hold.
func (s *site) picture() {
	s.t.Helper()
	if *incidentPictures == "" {
		return
	}
	program, err := stack.Install(s.t.Context(), stack.Chromium, func(string) {})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, end := chromedp.NewExecAllocator(s.t.Context(), append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox)...)
	defer end()
	for width, name := range map[int64]string{380: "phone", 1600: "screen"} {
		s.photograph(ctx, width, name)
	}
}

func (s *site) photograph(ctx context.Context, width int64, name string) {
	s.t.Helper()
	tab, leave := chromedp.NewContext(ctx)
	defer leave()
	tab, cancel := context.WithTimeout(tab, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(tab, chromedp.EmulateViewport(width, 900), chromedp.Navigate(s.admin()+"/")); err != nil {
		s.t.Fatal(err)
	}
	content, err := chromedp.Run(tab, chromedp.FullScreenshot(100))
	if err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(*incidentPictures, strings.ReplaceAll(s.t.Name(), "/", "-")+"-"+name+".png")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		s.t.Fatal(err)
	}
}
