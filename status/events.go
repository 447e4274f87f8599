package status

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// mostViewers is how many pages may be live at one time.
	mostViewers = 32
	// eventEvery is how often a page hears of news.
	eventEvery = 2 * time.Second
	// eventTimeout is how long a viewer may take to take an event.
	eventTimeout = 10 * time.Second
)

// viewers counts the pages that are live, and has what they are told, so that many of them cost what one does.
type viewers struct {
	n atomic.Int32

	mu   sync.Mutex // one renders at a time
	at   time.Time
	last Event // with all sections; nobody changes it
}

func (v *viewers) enter() bool {
	if v.n.Add(1) <= mostViewers {
		return true
	}
	v.leave()
	return false
}

func (v *viewers) leave() { v.n.Add(-1) }

// An Event is what the page is told every two seconds.
type Event struct {
	// State is that of the verdict. Announce says it without figures, so that it changes only when there is something to say.
	State    string `json:"state"`
	Announce string `json:"announce"`
	// Sections are parts of the page as HTML, by name: those that have changed since the event before.
	Sections map[string]string `json:"sections"`
}

// answerEvents tells the page of news until the viewer goes, is too slow, or the server stops.
func (s *Server) answerEvents(w http.ResponseWriter, r *http.Request) {
	if !s.viewers.enter() {
		w.Header().Set("Retry-After", "30")
		s.sayError(w, http.StatusServiceUnavailable, fmt.Sprintf("%d pages are live already, and more are not served: reload the page by hand", mostViewers))
		return
	}
	defer s.viewers.leave()
	to := http.NewResponseController(w)
	if err := to.SetReadDeadline(time.Time{}); err != nil { // else the server takes the viewer for gone after its read time-out
		s.log.Warn("events end early", "err", err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	ticker := time.NewTicker(eventEvery)
	defer ticker.Stop()
	told := map[string]string{}
	for {
		if err := s.sendEvent(w, to, told); err != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-s.stopping.Done():
			return
		}
	}
}

// sendEvent sends what is not in told, and puts it there.
func (s *Server) sendEvent(w http.ResponseWriter, to *http.ResponseController, told map[string]string) error {
	if err := to.SetWriteDeadline(time.Now().Add(eventTimeout)); err != nil {
		return err
	}
	whole, err := s.wholeEvent()
	if err != nil {
		s.log.Error("cannot write the parts of the page", "err", err)
		return err
	}
	e := Event{State: whole.State, Announce: whole.Announce, Sections: map[string]string{}}
	for name, html := range whole.Sections {
		if told[name] != html {
			told[name], e.Sections[name] = html, html
		}
	}
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "retry: %s\nevent: page\ndata: %s\n\n", strconv.Itoa(3000), text); err != nil {
		return err
	}
	return to.Flush()
}

// wholeEvent is all that there is to tell, at most one second old.
func (s *Server) wholeEvent() (Event, error) {
	v := &s.viewers
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last.Sections != nil && time.Since(v.at) < fresh {
		return v.last, nil
	}
	view := pageOf(s.look())
	e := Event{State: view.Verdict.State, Announce: view.Announce, Sections: map[string]string{}}
	for _, name := range sections {
		html, err := renderSection(name, view)
		if err != nil {
			return Event{}, fmt.Errorf("part %s: %w", name, err)
		}
		e.Sections[name] = html
	}
	v.at, v.last = time.Now(), e
	return e, nil
}
