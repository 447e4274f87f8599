package downstream

import "time"

const (
	// hurryInterval is the time between polls of a server that looks unwell.
	hurryInterval = 1 << 4 * pollInterval
	// hurryFor is for how long it is polled like that at most, and hurryRest for how long after that it is not.
	hurryFor  = 2 * time.Minute
	hurryRest = 10 * time.Minute
	// hurryWell is how long nobody has to have called Hurry for a server to count as well in between.
	hurryWell = 5 * time.Minute
	// hurryPolls is how many polls one call is good for: rates are between two of them.
	hurryPolls = 2
)

// Hurry says that a vminsert looks unwell: a request to it failed, or takes long. Its metrics are then read at the next two moments of a
// grid of 16 s, which all processes share, if that is sooner than they would be anyway; with further calls, for 2 minutes from the first one.
// After that calls change nothing for ten minutes, or until there was none for five. Where polls fail already, nothing changes either.
//
// It is safe for concurrent use, waits for nobody, and costs less than a microsecond, so that it may be called for each request.
//
// What it costs: where a page of 18 MB (200,000 tenants) is polled every 128 s, it is read 8 times as often for these 2 minutes, which is
// 0.4 CPU-seconds of the vminsert each time, and 0.01 for each further process: with 30 of them some 4 % of a core.
//
// KNOWN GAP: processes that meet trouble at different times share no pages, so that then each costs the vminsert as much.
func (w *Watch) Hurry(ep Endpoint) {
	name := ep.String()
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.nodes[name]
	if t == nil {
		return
	}
	now := time.Now()
	if t.hurry.ask(now) && t.due.Sub(now) > hurryInterval {
		signal(t.sooner)
	}
}

// A hurry is whether a server is to be polled sooner than usual.
type hurry struct {
	begun time.Time // the first call that counted, of the last ones; zero when there was none
	asked time.Time // the last call
	until time.Time // the last moment that calls ask for
}

// ask notes a call and says whether it counts.
func (h *hurry) ask(now time.Time) bool {
	well := now.Sub(h.asked) >= hurryWell
	if h.begun.IsZero() || well || now.Sub(h.begun) >= hurryFor+hurryRest {
		h.begun = now
	}
	h.asked = now
	if now.Sub(h.begun) >= hurryFor {
		return false
	}
	h.until = now.Add(hurryPolls * hurryInterval)
	if end := h.begun.Add(hurryFor); h.until.After(end) {
		h.until = end
	}
	return true
}
