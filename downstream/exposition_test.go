package downstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLinesAreTakenApart(t *testing.T) {
	for _, test := range []struct{ text, name, labels, value string }{
		{"up 1", "up", "", "1"},
		{"up\t1", "up", "", "1"},
		{`up{a="b"} 1`, "up", `a="b"`, "1"},
		{`up{a="b"} 1 1700000000000`, "up", `a="b"`, "1"},
		{`up{a="}\"{"}  2.5e3` + "\r", "up", `a="}\"{"`, "2.5e3"},
		{`up{} NaN`, "up", "", "NaN"},
		{`up{a="b"}1`, "up", `a="b"`, "1"},
	} {
		l, ok, err := parseLine([]byte(test.text))
		if err != nil || !ok || string(l.name) != test.name || string(l.labels) != test.labels || string(l.value) != test.value {
			t.Errorf("%q: got %q %q %q, %v, %v", test.text, l.name, l.labels, l.value, ok, err)
		}
	}
	for _, text := range []string{"", "  ", "# HELP up is up", "#"} {
		if _, ok, err := parseLine([]byte(text)); ok || err != nil {
			t.Errorf("%q: got %v, %v; want neither a sample nor an error", text, ok, err)
		}
	}
	for _, text := range []string{"up", "up ", `up{a="b" 1`, `up{a="b"}`, `{a="b"} 1`, `up{a="b\"} 1`, "<html>"} {
		if _, _, err := parseLine([]byte(text)); !errors.Is(err, errNotMetrics) {
			t.Errorf("%q: got %v; want errNotMetrics", text, err)
		}
	}
}

func TestLabelsAreFoundByName(t *testing.T) {
	l := line{labels: []byte(`name="vminsert", addr="127.0.0.1:8400",rpc_call="writeRows_v1",quoted="a,addr=\"x\""`)}
	for name, want := range map[string]string{"name": "vminsert", "addr": "127.0.0.1:8400", "rpc_call": "writeRows_v1", "quoted": `a,addr=\"x\"`} {
		if got, ok := l.label(name); !ok || string(got) != want {
			t.Errorf("label %s is %q, %v; want %q", name, got, ok, want)
		}
	}
	if got, ok := l.label("add"); ok {
		t.Errorf("found a label that is not there: %q", got)
	}
}

// collect returns what scan finds as text, with a buffer of the given size.
func collect(r io.Reader, buf int) (string, error) {
	var found strings.Builder
	_, err := scan(r, make([]byte, buf), 1<<20, takeAll, func(l line) error {
		fmt.Fprintf(&found, "%s|%s|%s\n", l.name, l.labels, l.value)
		return nil
	})
	return found.String(), err
}

func TestScanFindsTheSameHoweverThePageArrives(t *testing.T) {
	page, err := os.ReadFile("testdata/vminsert-v1.100.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	want, err := collect(bytes.NewReader(page), len(page)+1)
	if err != nil || strings.Count(want, "\n") < 400 {
		t.Fatalf("%d samples, %v", strings.Count(want, "\n"), err)
	}
	got, err := collect(iotest.OneByteReader(bytes.NewReader(page)), 16<<10)
	if err != nil || got != want {
		t.Errorf("byte by byte it is another page: %v", err)
	}
	got, err = collect(iotest.DataErrReader(bytes.NewReader(page)), 16<<10)
	if err != nil || got != want {
		t.Errorf("with the error beside the last bytes it is another page: %v", err)
	}
}

func TestScanPassesOverLinesThatAreTooLong(t *testing.T) {
	long := "long{a=\"" + strings.Repeat("x", 1000) + "\"} 1\n"
	for _, r := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.HalfReader, func(r io.Reader) io.Reader { return r }} {
		got, err := collect(r(strings.NewReader("a 1\n"+long+long+"b 2\n")), 64)
		if want := "a||1\nb||2\n"; err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestPageThatWasCutOffIsAnError(t *testing.T) {
	for _, page := range []string{"a 1\nb 2", "a 1\nb{x=\"y", "a"} {
		if _, err := collect(strings.NewReader(page), 64); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: got %v; want io.ErrUnexpectedEOF", page, err)
		}
	}
	broken := io.MultiReader(strings.NewReader("a 1\n"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := collect(broken, 64); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

func TestEndlessPageIsGivenUp(t *testing.T) {
	if _, err := collect(endless{}, 100); !errors.Is(err, errNotMetrics) {
		t.Errorf("got %v; want errNotMetrics", err)
	}
}

// endless is a line without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func takeAll([]byte) bool { return false }

func TestScanDoesNotAllocatePerLine(t *testing.T) {
	page := tenantPage(10000)
	buf := make([]byte, 16<<10)
	r := bytes.NewReader(nil)
	allocs := testing.AllocsPerRun(5, func() {
		r.Reset(page)
		if _, err := scan(r, buf, maxPage, takeAll, func(line) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations for 10000 lines", allocs)
	}
}

// tenantPage is a page as a vminsert shows it that has seen so many tenants.
func tenantPage(tenants int) []byte {
	page, err := os.ReadFile("testdata/vminsert-v1.100.0.txt")
	if err != nil {
		panic(err)
	}
	for i := range tenants {
		page = fmt.Appendf(page, "vm_tenant_inserted_rows_total{type=\"promremotewrite\",accountID=\"%d\",projectID=\"0\"} %d\n", i, 1000+i)
	}
	return page
}

func FuzzScan(f *testing.F) {
	page, err := os.ReadFile("testdata/vmstorage-v1.100.0.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page[:2000], 100)
	f.Add([]byte("a{b=\"c\"} 1\n# x\n\nlong{x=\"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"} 3\nd 2 5\n"), 20)
	f.Add([]byte("a{b=\"\\\"}\"} 1"), 3)
	f.Fuzz(func(t *testing.T, page []byte, buf int) {
		buf = max(1, buf%4096)
		whole, errWhole := collect(bytes.NewReader(page), buf)
		split, errSplit := collect(iotest.OneByteReader(bytes.NewReader(page)), buf)
		if (errWhole == nil) != (errSplit == nil) {
			t.Fatalf("whole: %v, byte by byte: %v", errWhole, errSplit)
		}
		if errWhole == nil && whole != split {
			t.Fatalf("whole: %q, byte by byte: %q", whole, split)
		}
		if r, err := newReader().read(bytes.NewReader(page)); err == nil && r.Start == "" {
			t.Fatal("a reading without a start time")
		}
	})
}

func BenchmarkScanPageOf100kTenants(b *testing.B) {
	page := tenantPage(100000)
	rd := newReader()
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rd.read(bytes.NewReader(page)); err != nil {
			b.Fatal(err)
		}
	}
}
