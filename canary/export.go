package canary

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

const (
	// maxExport bounds what is read of an answer: two hundred vminserts with an hour's samples each fit in four times.
	maxExport = 16 << 20
	// maxLine bounds one series, or a block of one.
	maxLine = 1 << 20
	// maxSeconds is more than any time, and few enough for milliseconds to be exact.
	maxSeconds = 1 << 40
)

// Series is what a line of /api/v1/export holds that matters here: some samples of a series. The values are left out.
type Series struct {
	Metric     map[string]string `json:"metric"`
	Timestamps []int64           `json:"timestamps"` // milliseconds since 1970-01-01 UTC
}

// errTooMuch is that an answer goes on beyond maxExport.
var errTooMuch = fmt.Errorf("the answer is longer than %d MiB", maxExport>>20)

// ReadExport reads what /api/v1/export answers (https://docs.victoriametrics.com/victoriametrics/#how-to-export-data-in-json-line-format)
// and hands each line to each, which may keep nothing of it. The error says that it is no export, is cut off, or longer than 16 MiB, or
// one line of it longer than 1 MiB.
func ReadExport(r io.Reader, each func(*Series)) error {
	limited := &io.LimitedReader{R: r, N: maxExport + 1}
	lines := bufio.NewScanner(limited)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		if limited.N == 0 {
			return errTooMuch
		}
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		s, err := parseSeries(line)
		if err != nil {
			return err
		}
		each(s)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("the answer is no export: a line is longer than %d bytes", maxLine)
	case err != nil:
		return fmt.Errorf("read the export: %w", err)
	case limited.N == 0:
		return errTooMuch
	}
	return nil
}

func parseSeries(line []byte) (*Series, error) {
	s := new(Series)
	if err := json.Unmarshal(line, s); err != nil {
		return nil, fmt.Errorf("the answer is no export: it has the line %.100q", line)
	}
	if s.Metric["__name__"] == "" {
		return nil, fmt.Errorf("the answer is no export: no metric in the line %.100q", line)
	}
	return s, nil
}

// readVector reads what /api/v1/query answers to a query for the newest timestamp of each series, in seconds, and hands each series to
// each.
func readVector(r io.Reader, each func(*Series)) error {
	var answer struct {
		Data struct {
			ResultType string `json:"resultType"`
			Result     []struct {
				Metric map[string]string `json:"metric"`
				Value  []json.RawMessage `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(io.LimitReader(r, maxExport)).Decode(&answer); err != nil {
		return fmt.Errorf("the answer is no result of a query: %w", err)
	}
	if answer.Data.ResultType != "vector" {
		return fmt.Errorf("the answer is no result of a query: its type is %.100q", answer.Data.ResultType)
	}
	for _, one := range answer.Data.Result {
		if len(one.Value) != 2 {
			return fmt.Errorf("the answer is no result of a query: a value has %d parts", len(one.Value))
		}
		at, err := strconv.ParseFloat(strings.Trim(string(one.Value[1]), `"`), 64)
		if err != nil || !(math.Abs(at) <= maxSeconds) {
			return fmt.Errorf("the answer is no result of a query: it has the time %.100q", one.Value[1])
		}
		each(&Series{Metric: one.Metric, Timestamps: []int64{int64(math.Round(at * 1000))}})
	}
	return nil
}
