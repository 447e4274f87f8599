package status

import (
	"fmt"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

// backlogOf is the backlog of the series that match.
func backlogOf(f *figures, match ...string) Backlog {
	g := f.Backlog(match...)
	return Backlog{
		Seconds:           downstream.Figure(g.Age),
		Bytes:             downstream.Figure(g.Bytes),
		Blocks:            downstream.Figure(g.Blocks),
		Samples:           downstream.Figure(g.Samples),
		ArrivingPerSecond: downstream.Figure(g.Arriving),
		SentPerSecond:     downstream.Figure(g.Sent),
		DrainSeconds:      downstream.Figure(g.Drain),
		Trend:             trendOf(&g),
		Growing:           trendOf(&g) == trendGrowing,
	}
}

// waits is the age from which on what is unsent is a backlog, and not on its way.
const waits = 5

// trendOf says where it goes.
func trendOf(b *gathered.Backlog) string {
	switch {
	case !b.Blocks.Known():
		return trendUnknown
	case b.Blocks == 0, b.Age.Or(0) < waits:
		return trendEmpty
	case !b.Arriving.Known() || !b.Sent.Known():
		return trendUnknown
	case b.Growing():
		return trendGrowing
	case b.Shrinking():
		return trendShrinking
	}
	return trendSteady
}

// mainOf is the backlog that makes samples late. What waits in bulk is old, or more than its tenant may send.
func mainOf(st *Status) Backlog {
	for i := range st.Lanes {
		if st.Lanes[i].Name == "main" && st.Lanes[i].Backlog.Blocks.Known() {
			return st.Lanes[i].Backlog
		}
	}
	return st.Backlog
}

// sentence says how much is waiting and how it goes on.
func (b Backlog) sentence() string {
	return fmt.Sprintf("the oldest of %s unsent was received %s ago, and %s.", size(b.Bytes), lasting(b.Seconds), b.outlook())
}

// outlook says where the backlog goes.
func (b Backlog) outlook() string {
	switch b.Trend {
	case trendEmpty:
		return "nothing is waiting"
	case trendGrowing:
		return "it grows"
	case trendShrinking:
		return "it will be gone in " + b.goneIn()
	case trendSteady:
		return "it does not get less"
	}
	return "it is not known yet where it goes"
}

// waiting says what waits: in main, which makes samples late, and in bulk if something does.
func (st *Status) waiting() string {
	said := mainOf(st).inShort()
	for i := range st.Lanes {
		if b := st.Lanes[i].Backlog; st.Lanes[i].Name == "bulk" && b.Trend != trendEmpty && b.Trend != trendUnknown {
			said += "; in bulk " + b.inShort()
		}
	}
	return said
}

// inShort says how much is waiting, and where that goes, in as few words as can be.
func (b Backlog) inShort() string {
	switch b.Trend {
	case trendEmpty:
		return "nothing waits"
	case trendUnknown:
		return "not known yet"
	}
	how := map[string]string{
		trendGrowing:   "growing",
		trendShrinking: "gone in " + b.goneIn(),
		trendSteady:    "not getting less",
	}[b.Trend]
	return fmt.Sprintf("%s and %s, %s", lasting(b.Seconds), how, size(b.Bytes))
}

// goneIn says when nothing will be unsent. That it never will be is not told in JSON, where only the trend is left to say so.
func (b Backlog) goneIn() string {
	if !b.DrainSeconds.Finite() && (b.Trend == trendGrowing || b.Trend == trendSteady) {
		return "never"
	}
	return lasting(b.DrainSeconds)
}
