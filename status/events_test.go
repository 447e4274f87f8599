package status

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A viewer is a page that is live.
type viewer struct {
	resp  *http.Response
	lines *bufio.Reader
}

func view(t *testing.T, s *Server) *viewer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &viewer{resp, bufio.NewReader(resp.Body)}
}

// next returns the next event.
func (v *viewer) next(t *testing.T) Event {
	t.Helper()
	var e Event
	for {
		line, err := v.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("events ended: %v", err)
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Fatal(err)
			}
			return e
		}
	}
}

func TestEventsTellAllFirstAndThenWhatIsNew(t *testing.T) {
	s, _ := listen(t)
	sc := backlogScene()
	for i := range sc.alarms {
		sc.alarms[i].Since = time.Now() // they are told by the minute
	}
	sc.show(s)
	start(t, s)
	v := view(t, s)
	if kind := v.resp.Header.Get("Content-Type"); v.resp.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("answered %d %s", v.resp.StatusCode, kind)
	}
	first := v.next(t)
	if len(first.Sections) != len(sections) || first.State != "trouble" || !strings.Contains(first.Announce, "vminsert gogc too low at 10.0.0.7") {
		t.Errorf("first: %s, %q, %d parts", first.State, first.Announce, len(first.Sections))
	}
	if !strings.Contains(first.Sections["verdict"], "Start vminsert with GOGC=100") || !strings.Contains(first.Sections["alarms"], "GOGC is about 10") {
		t.Errorf("verdict: %s\nalarms: %s", first.Sections["verdict"], first.Sections["alarms"])
	}
	second := v.next(t)
	for _, name := range []string{"verdict", "alarms"} { // in which somebody may have marked text
		if _, again := second.Sections[name]; again {
			t.Errorf("%s has not changed and is told again", name)
		}
	}
	if _, there := second.Sections["now"]; !there {
		t.Error("the time of the reading is not told again")
	}
}

func TestEveryPartThatEventsReplaceIsOnThePage(t *testing.T) {
	text := wellScene().html(t)
	for _, name := range sections {
		if strings.Count(text, `data-live="`+name+`"`) != 1 {
			t.Errorf("%s is not on the page once", name)
		}
	}
	if n := strings.Count(text, "data-live="); n != len(sections) {
		t.Errorf("%d parts on the page, %d in events", n, len(sections))
	}
}

func TestEventsEndWithTheServer(t *testing.T) {
	s, _ := listen(t)
	served := make(chan error, 1)
	go func() { served <- s.Serve() }() // ends with Shutdown
	v := view(t, s)
	v.next(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown had to cut off a viewer: %v", err)
	}
	if _, err := io.Copy(io.Discard, v.lines); err != nil {
		t.Errorf("events did not end in good order: %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestOnlySoManyPagesAreLive(t *testing.T) {
	s, _ := serve(t)
	var all []*viewer
	for range mostViewers {
		v := view(t, s)
		v.next(t)
		all = append(all, v)
	}
	over := view(t, s)
	if over.resp.StatusCode != 503 || over.resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: answered %d", over.resp.StatusCode)
	}
	all[0].resp.Body.Close()
	for { // the server learns of it when it writes next
		v := view(t, s)
		if v.resp.StatusCode == 200 {
			v.next(t)
			return
		}
		v.resp.Body.Close()
	}
}

func TestEventsGoOnAfterTheTimeoutsOfOtherAnswers(t *testing.T) {
	s, _ := listen(t)
	s.http.ReadTimeout, s.http.WriteTimeout = 200*time.Millisecond, 200*time.Millisecond
	start(t, s)
	v := view(t, s)
	v.next(t)
	v.next(t) // two seconds later
}
