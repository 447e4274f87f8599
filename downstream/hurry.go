package downstream

import "time"

const (
	// hurryInterval is the time between polls of a server that looks unwell.
	hurryInterval = 1 << 4 * pollInterval
	// hurryFor is for how long it is polled like that at most, and hurryRest for how long after that it is not. Rates are known from the second
	// poll on.
	hurryFor  = 3 * hurryInterval
	hurryRest = 10 * time.Minute
	// hurryWell is how long nobody has to have called Hurry for a server to count as well in between.
	hurryWell = 5 * time.Minute
	// hurryPolls is how many polls one call is good for: rates are between two of them.
	hurryPolls = 2
)

// Hurry says that a vminsert looks unwell: a request to it failed, or takes long. Its metrics are then read at the next two moments of a
// grid of 16 s, which all processes share, if that is sooner than they would be anyway, and at the third one if it is called again until
// then. After that calls change nothing for ten minutes, or until there was none for five. Where polls fail already, nothing changes either.
//
// It is safe for concurrent use, waits for nobody, and costs less than a microsecond, so that it may be called for each request.
//
// What it costs: where a page of 18 MB (200,000 tenants) is polled every 128 s by 30 processes, it is read three times more often in 11 minutes,
// at 0.7 CPU-seconds of the vminsert each: 0.3 % of a core while trouble lasts, beside the 0.6 % of the usual polls.
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
