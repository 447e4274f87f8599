package canary

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const someExport = `{"metric":{"__name__":"ingestgw_canary","group":"g","path":"buffer"},"values":[1,null,"Infinity"],"timestamps":[1700000000000,1700000010000,1700000020000]}
{"metric":{"__name__":"ingestgw_canary","group":"g","node":"vminsert-0/10.0.0.7:8480","path":"vminsert"},"values":[1],"timestamps":[1700000000001]}
`

func TestReadExport(t *testing.T) {
	var all []Series
	if err := ReadExport(strings.NewReader(someExport+"\n"), func(s *Series) { all = append(all, *s) }); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Metric["path"] != "buffer" || len(all[0].Timestamps) != 3 || all[0].Timestamps[2] != 1700000020000 ||
		all[1].Metric["node"] != "vminsert-0/10.0.0.7:8480" {
		t.Errorf("read %+v", all)
	}
	if err := ReadExport(strings.NewReader(""), func(*Series) { t.Error("a series in nothing") }); err != nil {
		t.Errorf("an export without series: %v", err)
	}
}

func TestReadExportRefusesWhatIsNone(t *testing.T) {
	broken := errors.New("connection reset")
	for name, r := range map[string]io.Reader{
		"no export":          strings.NewReader("<html>\n<body>"),
		"no metric":          strings.NewReader(`{"status":"success","data":{}}`),
		"cannot unmarshal":   strings.NewReader(`{"metric":{"__name__":"a"},"timestamps":["x"]}`),
		"line is longer":     strings.NewReader(strings.Repeat("x", maxLine+1)),
		"longer than 16 MiB": io.LimitReader(endless{}, maxExport+100),
		"connection reset":   io.MultiReader(strings.NewReader(someExport), iotest.ErrReader(broken)),
	} {
		err := ReadExport(r, func(*Series) {})
		if err == nil || !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), "no export") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// endless is an export without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	const line = `{"metric":{"__name__":"a"},"timestamps":[1]}` + "\n"
	n := 0
	for len(p)-n >= len(line) {
		n += copy(p[n:], line)
	}
	if n == 0 {
		n = copy(p, "\n")
	}
	return n, nil
}

// Whatever a vmselect, or what stands in its place, answers: an error or series with a name.
func FuzzReadExport(f *testing.F) {
	f.Add(someExport)
	f.Add("")
	f.Add("{}")
	f.Add(`{"metric":null,"timestamps":null}`)
	f.Add(`{"metric":{"__name__":"a"},"timestamps":[1e400]}`)
	f.Add(`{"status":"error","error":"x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		_ = ReadExport(strings.NewReader(text), func(s *Series) {
			if s.Metric["__name__"] == "" {
				t.Errorf("a series without a name in %q", text)
			}
		})
	})
}

const someVector = `{"status":"success","isPartial":true,"data":{"resultType":"vector","result":[{"metric":{"path":"buffer"},` +
	`"value":[1795662429,"1795662425.044"]},{"metric":{"node":"a","path":"vminsert"},"value":[1795662429,"1795662425"]}]},"stats":{}}`

func TestReadVector(t *testing.T) {
	var all []Series
	if err := readVector(strings.NewReader(someVector), func(s *Series) { all = append(all, *s) }); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Metric["path"] != "buffer" || all[0].Timestamps[0] != 1795662425044 || all[1].Timestamps[0] != 1795662425000 {
		t.Errorf("read %+v", all)
	}
	for _, bad := range []string{
		"", "{}", "<html>", `{"status":"error","error":"no"}`, `{"data":{"resultType":"vector","result":[{"value":[1]}]}}`,
		`{"data":{"resultType":"vector","result":[{"value":[1,"NaN"]}]}}`, `{"data":{"resultType":"vector","result":[{"value":[1,"+Inf"]}]}}`,
	} {
		if err := readVector(strings.NewReader(bad), func(*Series) {}); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

// Whatever stands in the place of a vmselect answers: an error or times that are some.
func FuzzReadVector(f *testing.F) {
	f.Add(someVector)
	f.Add("{}")
	f.Add(`{"data":{"resultType":"vector","result":[{"metric":null,"value":[null,null]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		_ = readVector(strings.NewReader(text), func(s *Series) {
			if len(s.Timestamps) != 1 || s.Timestamps[0] > maxSeconds*1000 || s.Timestamps[0] < -maxSeconds*1000 {
				t.Errorf("%+v in %q", s, text)
			}
		})
	})
}

func BenchmarkReadExport(b *testing.B) {
	// An hour's samples of a hundred vminserts: what is read when one of them has been stuck so long.
	line := `{"metric":{"__name__":"ingestgw_canary","group":"ingestgw","node":"vminsert-0/10.0.0.7:8480","path":"vminsert"},"values":[1700000000.123` +
		strings.Repeat(",1700000000.123", 359) + `],"timestamps":[1700000000123` + strings.Repeat(",1700000000123", 359) + "]}\n"
	text := strings.Repeat(line, 100)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if err := ReadExport(strings.NewReader(text), func(*Series) {}); err != nil {
			b.Fatal(err)
		}
	}
}
