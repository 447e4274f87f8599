package main

import (
	"maps"
	"strings"
	"testing"
)

const somePage = `# HELP rows_total Rows.
# TYPE rows_total counter
rows_total{type="a", lane="main"} 12
rows_total{type="b",lane="bulk"} 3.5 1700000000000
rows_totals 1e9
process_cpu_seconds_total 0.25
odd{text="} 7 {"} +Inf
`

func TestAPageIsSummedByNameAndLabels(t *testing.T) {
	p, err := parsePage(strings.NewReader(somePage), func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   float64
		name   string
		labels []string
	}{
		{15.5, "rows_total", nil},
		{12, "rows_total", []string{`lane="main"`}},
		{3.5, "rows_total", []string{`lane="bulk"`, `type="b"`}},
		{0, "rows_total", []string{`ype="a"`}},
		{0.25, "process_cpu_seconds_total", nil},
		{0, "nothing", nil},
	} {
		if got := p.sum(c.name, c.labels...); got != c.want {
			t.Errorf("%s%v: %v, want %v", c.name, c.labels, got, c.want)
		}
	}
	few, err := parsePage(strings.NewReader(somePage), named("process_cpu_seconds_total"))
	if want := (page{"process_cpu_seconds_total": 0.25}); err != nil || !maps.Equal(few, want) {
		t.Errorf("%v, %v", few, err)
	}
	for _, bad := range []string{"a b\n", "a{}\n"} {
		if _, err := parsePage(strings.NewReader(bad), named("a")); err == nil {
			t.Errorf("%q is a page", bad)
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add(somePage)
	f.Fuzz(func(_ *testing.T, text string) {
		p, err := parsePage(strings.NewReader(text), func(string) bool { return true })
		if err == nil {
			p.sum("rows_total", `lane="main"`)
		}
	})
}
