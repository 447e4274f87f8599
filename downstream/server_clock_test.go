package downstream

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestClocksAreComparedAsFinelyAsADateAllows(t *testing.T) {
	asked := time.Date(2026, 3, 1, 12, 0, 0, 300e6, time.UTC)
	date := func(ahead time.Duration) http.Header {
		return http.Header{"Date": {asked.Add(ahead).Format(http.TimeFormat)}} // rounds down
	}
	with := func(h http.Header, name, value string) http.Header {
		h.Set(name, value)
		return h
	}
	for name, c := range map[string]struct {
		answer http.Header
		trip   time.Duration
		want   Figure
	}{
		"the same":                       {date(0), 10 * time.Millisecond, 0},
		"a second ahead":                 {date(time.Second), 10 * time.Millisecond, 0},
		"a second behind":                {date(-time.Second), 10 * time.Millisecond, 0},
		"a minute ahead":                 {date(time.Minute), 0, 60.2}, // of the half second that is rounded down, 0.3 are known here
		"a minute behind":                {date(-time.Minute), 0, -59.8},
		"an hour ahead, in two seconds":  {date(time.Hour), 2 * time.Second, 3599.2},
		"nine seconds, in ten":           {date(9 * time.Second), 10 * time.Second, 0},
		"no date":                        {http.Header{}, 0, Unknown()},
		"no date that can be understood": {http.Header{"Date": {"yesterday"}}, 0, Unknown()},
		"through a proxy":                {with(date(time.Minute), "Via", "1.1 proxy"), 0, Unknown()},
		"out of a cache":                 {with(date(time.Minute), "Age", "60"), 0, Unknown()},
		"before there were clocks":       {http.Header{"Date": {"Mon, 01 Jan 0001 00:00:00 GMT"}}, 0, Figure(-9223372036.854775)},
	} {
		got := toldBy(c.answer, asked, asked.Add(c.trip)).ahead()
		if got.Known() != c.want.Known() || got.Known() && !near(got, float64(c.want)) {
			t.Errorf("%s: %v s ahead, want %v", name, float64(got), float64(c.want))
		}
	}
}

func TestAServersClockIsReadFromItsAnswers(t *testing.T) {
	ahead := 0 * time.Second
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		fmt.Fprintf(w, newInsertPage, 1)
	}))
	defer server.Close()
	ep := endpointOf(t, server, "http://vm.invalid")
	rec := newRecord(ep, VMInsert)
	look := func() Figure {
		r, err := NewClient(ep, load(t, ClientConfig{}), 1).Read(t.Context(), ep, VMInsert)
		if err != nil {
			t.Fatal(err)
		}
		rec.good(r, time.Minute)
		return rec.vitals(time.Now(), everySecond).ClockAhead
	}
	if got := look(); got != 0 {
		t.Errorf("%v s ahead of itself", got)
	}
	ahead = -2 * time.Hour
	if got := look(); !near(got, -7200) {
		t.Errorf("%v s ahead, want -7200", got)
	}
	if got := rec.vitals(time.Now().Add(time.Hour), everySecond).ClockAhead; got.Known() {
		t.Errorf("an hour later: %v s ahead", got)
	}
}
