package status

import (
	"testing"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

func TestWhatWaitsIsSaidInShort(t *testing.T) {
	behind := func(trend string) Backlog {
		return Backlog{Seconds: 125, Bytes: 3 << 20, Blocks: 9, DrainSeconds: 60, Trend: trend}
	}
	for name, c := range map[string]struct {
		main, bulk Backlog
		want       string
	}{
		"nothing":       {Backlog{Trend: trendEmpty}, Backlog{Trend: trendEmpty}, "nothing waits"},
		"growing":       {behind(trendGrowing), Backlog{Trend: trendEmpty}, "2 min 5 s and growing, 3 MiB"},
		"shrinking":     {behind(trendShrinking), Backlog{Trend: trendUnknown}, "2 min 5 s and gone in 1 min, 3 MiB"},
		"standing":      {behind(trendSteady), Backlog{Trend: trendEmpty}, "2 min 5 s and not getting less, 3 MiB"},
		"bulk alone":    {Backlog{Trend: trendEmpty}, behind(trendGrowing), "nothing waits; in bulk 2 min 5 s and growing, 3 MiB"},
		"nothing known": {Backlog{Trend: trendUnknown}, Backlog{Trend: trendUnknown}, "not known yet"},
	} {
		st := Status{Lanes: []Lane{{Name: "main", Backlog: c.main}, {Name: "bulk", Backlog: c.bulk}}}
		if got := st.waiting(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestTrendsOfABacklog(t *testing.T) {
	for name, c := range map[string]struct {
		b    gathered.Backlog
		want string
	}{
		"unknown":          {gathered.Backlog{Blocks: downstream.Unknown()}, trendUnknown},
		"empty":            {gathered.Backlog{Blocks: 0, Age: 0}, trendEmpty},
		"on its way":       {gathered.Backlog{Blocks: 3, Age: 1, Arriving: 9, Sent: 1}, trendEmpty},
		"growing":          {gathered.Backlog{Blocks: 3, Age: 9, Arriving: 9, Sent: 1}, trendGrowing},
		"shrinking":        {gathered.Backlog{Blocks: 3, Age: 9, Arriving: 1, Sent: 9}, trendShrinking},
		"the same":         {gathered.Backlog{Blocks: 3, Age: 9, Arriving: 100, Sent: 101}, trendSteady},
		"nothing moves":    {gathered.Backlog{Blocks: 3, Age: 9}, trendSteady},
		"rates not known":  {gathered.Backlog{Blocks: 3, Age: 9, Arriving: downstream.Unknown(), Sent: 1}, trendUnknown},
		"age is not known": {gathered.Backlog{Blocks: 3, Age: downstream.Unknown(), Arriving: 9, Sent: 1}, trendEmpty},
	} {
		if got := trendOf(&c.b); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
