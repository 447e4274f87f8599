package tenant

import (
	"encoding/json"
	"strings"
	"testing"
)

func limitsOf(t *testing.T, said map[string]string) Limits {
	t.Helper()
	var l Limits
	for key, text := range said {
		if known, err := l.Set(key, text); !known || err != nil {
			t.Fatalf("%s: %s: known: %v, %v", key, text, known, err)
		}
	}
	return l
}

func TestEveryKeyOfAPlanIsTakenAndToldAgain(t *testing.T) {
	want := Plan{
		Name:         "all",
		Samples:      Rate{PerSecond: 1, Burst: 2, Hard: 3},
		Bytes:        Rate{PerSecond: 1 << 20, Burst: 5, Hard: 6e6},
		Requests:     Rate{PerSecond: 0.5, Burst: 8, Hard: 9},
		ActiveSeries: 10,
		Concurrent:   11,
	}
	l := limitsOf(t, map[string]string{
		"samples_per_second": "1", "samples_burst": "2", "samples_hard": "3",
		"bytes_per_second": "1MiB", "bytes_burst": "5", "bytes_hard": "6e6",
		"requests_per_second": "0.5", "requests_burst": "8", "requests_hard": "9",
		"active_series": "10", "concurrent_requests": "11",
	})
	got, err := l.Plan("all")
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	text, err := json.Marshal(got)
	if err != nil || strings.Count(string(text), ":") != 1+len(limitKeys) {
		t.Errorf("told as %s, %v", text, err)
	}
	var again Plan
	if err := json.Unmarshal(text, &again); err != nil || again != got {
		t.Errorf("%s became %+v, %v", text, again, err)
	}
}

func TestWhatAPlanDoesNotSayIsNotLimited(t *testing.T) {
	p, err := limitsOf(t, map[string]string{"samples_per_second": "10"}).Plan("small")
	want := Plan{Name: "small", Samples: Rate{PerSecond: 10, Burst: 150, Hard: 20}}
	if err != nil || p != want {
		t.Errorf("got %+v, %v, want %+v", p, err, want)
	}
	text, err := json.Marshal(p)
	if err != nil || string(text) != `{"name":"small","samples_burst":150,"samples_hard":20,"samples_per_second":10}` {
		t.Errorf("told as %s, %v", text, err)
	}
}

func TestALimitThatCannotBeSaysWhy(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"samples_per_second", "", "want a number, 0 or more"},
		{"samples_per_second", "many", `want a number, 0 or more, got "many"`},
		{"samples_per_second", "1MiB", "want a number, 0 or more"},
		{"samples_burst", "-1", "want a number, 0 or more"},
		{"requests_hard", "NaN", "want a number, 0 or more"},
		{"bytes_hard", "Inf", "want a number, 0 or more"},
		{"bytes_per_second", "-1", "want a number, 0 or more"},
		{"bytes_per_second", "3parsec", `"3parsec" is no number of bytes`},
		{"active_series", "0.5", "want a whole number"},
		{"active_series", "3e9", "want a whole number"},
		{"concurrent_requests", "1KiB", "want a number, 0 or more"},
	} {
		var l Limits
		known, err := l.Set(c.key, c.text)
		if !known || err == nil || !strings.Contains(err.Error(), c.want) || l != (Limits{}) {
			t.Errorf("%s: %q: got %v, %v, want %q", c.key, c.text, known, err, c.want)
		}
	}
	if _, err := limitsOf(t, map[string]string{"bytes_per_second": "2", "bytes_hard": "1"}).Plan("x"); err == nil || !strings.HasPrefix(err.Error(), "bytes_per_second: the hard limit") {
		t.Errorf("got %v", err)
	}
	for _, key := range []string{"", "samples", "concurrent", "name", "Samples_hard"} {
		var l Limits
		if known, err := l.Set(key, "1"); known || err != nil || l != (Limits{}) {
			t.Errorf("%q: known: %v, %v", key, known, err)
		}
	}
}

func TestLimitsOverOthersTakeTheirPlace(t *testing.T) {
	base := map[string]string{"samples_per_second": "10", "samples_burst": "20", "samples_hard": "30", "active_series": "5"}
	for name, c := range map[string]struct{ over, want map[string]string }{
		"nothing":              {nil, base},
		"another rate":         {map[string]string{"samples_per_second": "1"}, map[string]string{"samples_per_second": "1", "active_series": "5"}},
		"another rate in full": {map[string]string{"samples_hard": "3", "samples_burst": "2", "samples_per_second": "1"}, map[string]string{"samples_per_second": "1", "samples_burst": "2", "samples_hard": "3", "active_series": "5"}},
		"another burst":        {map[string]string{"samples_burst": "0"}, map[string]string{"samples_per_second": "10", "samples_burst": "0", "samples_hard": "30", "active_series": "5"}},
		"no limit of series":   {map[string]string{"active_series": "0"}, map[string]string{"samples_per_second": "10", "samples_burst": "20", "samples_hard": "30", "active_series": "0"}},
		"a limit more":         {map[string]string{"requests_per_second": "7"}, map[string]string{"samples_per_second": "10", "samples_burst": "20", "samples_hard": "30", "active_series": "5", "requests_per_second": "7"}},
	} {
		if got, want := limitsOf(t, c.over).Over(limitsOf(t, base)), limitsOf(t, c.want); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestAPlanInJSONIsReadAsThatInAFile(t *testing.T) {
	small := Plan{Name: "small", Bytes: Rate{PerSecond: 1 << 20, Burst: 15 << 20, Hard: 2 << 20}}
	for text, want := range map[string]Plan{
		`{"name":"small","bytes_per_second":1048576}`:                   small,
		`{"name":"small","bytes_per_second":"1MiB"}`:                    small,
		`{"name":"small","bytes_per_second":1048576,"bytes_hard":null}`: small,
		`{"concurrent_requests":"3"}`:                                   {Concurrent: 3},
		`{}`:                                                            {},
		`null`:                                                          {},
	} {
		var got Plan
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		`{"name":"small","samples_per_second":-1}`:                 `plan "small": samples_per_second: want a number, 0 or more`,
		`{"name":"small","samples_per_second":true}`:               `got "true"`,
		`{"name":"small","active_series":{"most":3}}`:              `plan "small": active_series: want a number`,
		`{"name":"small","requests_hard":3}`:                       `plan "small": requests_per_second: burst and hard need a rate`,
		`{"name":"small","bytes_per_second":10,"bytes_hard":5}`:    `plan "small": bytes_per_second: the hard limit of 5 a second`,
		`{"name":["small"],"bytes_per_second":10,"bytes_hard":20}`: `the name of a plan`,
		`{"name":"small","sample_per_second":10}`:                  `plan "small": unknown key "sample_per_second"`,
		`[]`: `array`,
	} {
		was := small
		if err := json.Unmarshal([]byte(text), &was); err == nil || !strings.Contains(err.Error(), want) || was != small {
			t.Errorf("%s: got %+v, %v, want %q", text, was, err, want)
		}
	}
}
