package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
	"github.com/ingestgw/ingestgw/loadtest/verify"
)

// last is how the last line begins that is printed before Ctrl-C.
const last = "Ctrl-C stops everything"

// whole marks a test that starts real servers.
func whole(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real servers; left out with -short")
	}
}

// built is the path of a program of this module, freshly built.
func built(t *testing.T, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if err := stack.GoBuild(t.Context(), ".", "github.com/ingestgw/ingestgw/"+pkg, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// during runs everything, calls do with what has been printed once all is there, and then presses Ctrl-C.
func during(t *testing.T, o options, do func(printed string)) (printed string) {
	t.Helper()
	ctx, interrupt := context.WithTimeout(t.Context(), 3*time.Minute)
	defer interrupt()
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, o, write)
		write.Close()
		ended <- err
	}()
	var text strings.Builder
	for lines := bufio.NewScanner(read); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), last) {
			do(text.String())
			interrupt()
		}
	}
	if err := <-ended; err != nil {
		t.Fatalf("%v\n%s", err, text.String())
	}
	return text.String()
}

// apart runs everything in a process of its own, and returns when all is there, with what has been printed.
func apart(t *testing.T, o options) (p *stack.Process, printed string) {
	t.Helper()
	spec := stack.Spec{Name: "run", Binary: built(t, "internal/stack/run"), Args: []string{
		"-dir", o.dir, "-host", o.host, "-ingestgw", built(t, "cmd/ingestgw"), fmt.Sprintf("-kafka=%t", o.kafka),
	}}
	if cache := os.Getenv("XDG_CACHE_HOME"); cache != "" {
		spec.Env = []string{"XDG_CACHE_HOME=" + cache} // where the servers are installed
	}
	p = stack.Start(t, spec)
	for deadline := time.Now().Add(3 * time.Minute); !strings.Contains(p.Log(), last); time.Sleep(50 * time.Millisecond) {
		if !p.Running() || time.Now().After(deadline) {
			t.Fatalf("nothing says %q:\n%s", last, p.Log())
		}
	}
	return p, p.Log()
}

// after is the word that follows a text.
func after(t *testing.T, printed, text string) string {
	t.Helper()
	_, rest, found := strings.Cut(printed, text)
	word := strings.Fields(rest)
	if !found || len(word) == 0 {
		t.Fatalf("nothing follows %q in\n%s", text, printed)
	}
	return word[0]
}

func TestNextRunGoesOnWithTheData(t *testing.T) {
	whole(t)
	for name, end := range map[string]func(*stack.Process) error{
		"of one that was stopped": func(p *stack.Process) error { return p.Stop(t.Context()) },
		"of one that was killed":  func(p *stack.Process) error { p.Kill(); return nil }, // and all servers with it
	} {
		t.Run(name, func(t *testing.T) {
			printed := goesOn(t, options{}, end)
			inOrder(t, printed, "Building ingestgw", "They are there", last, "Stopping", "vmagent ", "ingestgw ", "vminsert ", "vmstorage-0 ", "All stopped")
		})
	}
}

func TestNextRunOnKafkaGoesOnWithTheData(t *testing.T) {
	whole(t)
	printed := goesOn(t, options{kafka: true}, func(p *stack.Process) error { p.Kill(); return nil })
	inOrder(t, printed, "kafka-0 ", "ingestgw ", "ingestgw (in Kafka)", "They are there", last,
		"Stopping", "vmagent ", "ingestgw ", "kafka-0 ", "vminsert ", "All stopped")
}

// goesOn offers samples to a first run and ends it, finds them all in a second one, and returns what that one has printed.
func goesOn(t *testing.T, o options, end func(*stack.Process) error) (printed string) {
	t.Helper()
	o.dir, o.host = t.TempDir(), stack.Host()
	first, printed := apart(t, o)
	ledger := offered(t, after(t, printed, "loadtest send -url "))
	if err := end(first); err != nil {
		t.Fatal(err)
	}
	return during(t, o, func(printed string) {
		pageIsThere(t, after(t, printed, "\nOpen\n"))
		allThere(t, after(t, printed, "loadtest verify -url "), ledger)
	})
}

// pageIsThere holds that what is to be opened first is the page of ingestgw.
func pageIsThere(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "<strong>ingestgw</strong>") {
		t.Errorf("%s answers %s, %v: %.200s", url, resp.Status, err, text)
	}
}

// offered sends 3000 samples, all of which are acknowledged.
func offered(t *testing.T, url string) *offer.Ledger {
	t.Helper()
	ledger, report, err := offer.Run(t.Context(), offer.Config{
		URL: url, Metric: "offered", Tenants: 3, FirstAccount: 1000,
		Series: 100, PerRequest: 50, Labels: 12, Rounds: 10, Senders: 2, Patience: time.Minute,
	})
	if err != nil || report.Acknowledged != 3000 {
		t.Fatalf("%v, %v", report, err)
	}
	return ledger
}

// allThere waits until what was offered can be read back.
func allThere(t *testing.T, url string, ledger *offer.Ledger) {
	t.Helper()
	var r verify.Report
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		var err error
		if r, err = (&verify.Cluster{URL: url}).Check(t.Context(), verify.Offered(ledger)); err != nil {
			t.Error(err)
			return
		}
		if r.OK() && r.Right == 3000 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("of what the first run acknowledged, the second one has: %v", r)
			return
		}
	}
}

// inOrder fails unless the texts follow each other in what was printed.
func inOrder(t *testing.T, printed string, texts ...string) {
	t.Helper()
	rest := printed
	for _, text := range texts {
		_, behind, found := strings.Cut(rest, text)
		if !found {
			t.Errorf("%q does not follow in\n%s", text, printed)
			return
		}
		rest = behind
	}
}

// started is a scene in which everything runs.
func started(t *testing.T) *scene {
	t.Helper()
	s := &scene{options: options{dir: t.TempDir(), host: stack.Host(), ingestgw: built(t, "cmd/ingestgw")}, out: io.Discard}
	t.Cleanup(s.close)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSamplesWithoutAJobAreNamedToo(t *testing.T) {
	var answer struct{ Data struct{ Result []row } }
	text := `{"data":{"result":[{"metric":{"job":"vmagent"},"value":[1,"7"]},{"metric":{},"value":[1,"3000"]}]}}`
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	(&scene{out: &out}).showCounts(answer.Data.Result)
	if want := "  vmagent      7 samples\n  (no job)     3000 samples\n"; out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

func TestDeathOfAServerIsTold(t *testing.T) {
	whole(t)
	s := started(t)
	s.vminsert.Kill()
	err := s.show(t.Context())
	if err == nil {
		t.Fatal("nothing is said of a vminsert that was killed")
	}
	inOrder(t, err.Error(), "vminsert has ended by itself: signal: killed", s.vminsert.LogPath()+" ends with", "starting server at")
}

func TestTakenPortIsTold(t *testing.T) {
	whole(t)
	l, err := net.Listen("tcp4", stack.Host()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	var out strings.Builder
	s := &scene{options: options{dir: t.TempDir(), host: stack.Host()}, out: &out}
	defer s.close()
	p, err := s.launch(t.Context(), stack.VmstorageSpec("vmstorage-0"), map[string]int{"http": taken})
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("port %d for http is taken, so that is at %s", taken, p.Addr()); !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in\n%s", want, out.String())
	}
}

func TestTwoRunsDoNotShareAFolder(t *testing.T) {
	dir := t.TempDir()
	release, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), options{dir: dir}, io.Discard); err == nil || !strings.Contains(err.Error(), "in use by another run") {
		t.Errorf("a second run: %v", err)
	}
	release()
	again, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
