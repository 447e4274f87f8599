package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/ingestgw/ingestgw/loadtest/offer"
)

func TestATapNotesWhatArrivesHoweverItIsCompressed(t *testing.T) {
	took, status := 0, http.StatusNoContent
	vminsert := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		took++
		w.WriteHeader(status)
	}))
	defer vminsert.Close()
	tap, err := openTap(vminsert.URL, 0)
	if err != nil {
		t.Fatal(err)
	}
	tap.listener.Close()
	body := offer.NewBody(&offer.Config{Metric: "m", Labels: 12}, 1234, 0, 10)
	encoder, _ := zstd.NewWriter(nil)
	send := func(encoding string, round int) int {
		b := body.Fill(round, 1_700_000_000_000)
		if encoding == "zstd" {
			message, _ := snappy.Decode(nil, b)
			b = encoder.EncodeAll(message, nil)
		}
		r := httptest.NewRequest(http.MethodPost, "/insert/multitenant/prometheus/api/v1/write", bytes.NewReader(b))
		r.Header.Set("Content-Encoding", encoding)
		w := httptest.NewRecorder()
		tap.ServeHTTP(w, r)
		return w.Code
	}
	if a, b, c := send("zstd", 3), send("snappy", 4), send("snappy", 4); a != 204 || b != 204 || c != 204 || took != 3 || tap.samples != 30 {
		t.Errorf("answered %d, %d, %d, %d requests and %d samples passed", a, b, c, took, tap.samples)
	}
	got := tap.arrivals["m"]
	if len(tap.arrivals) != 1 || len(got) != 2 || got[arrival{1234, 3}].IsZero() || got[arrival{1234, 4}].IsZero() {
		t.Errorf("%v", tap.arrivals)
	}
	if err := tap.fault(); err != nil {
		t.Error(err)
	}
	status = http.StatusServiceUnavailable
	if code := send("snappy", 5); code != 503 || len(got) != 2 || tap.samples != 30 {
		t.Errorf("answered %d, and what vminsert refused has arrived: %v", code, got)
	}
	tap.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", strings.NewReader("garbage")))
	if tap.fault() == nil {
		t.Error("garbage was read")
	}
}

func TestWhatPassesIsSharedByThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{perSecond: 1000}
		large := make(chan time.Time, 1)
		began := time.Now()
		go func() { // ends when its samples have passed
			_ = p.wait(t.Context(), 10_000)
			large <- time.Now()
		}()
		synctest.Wait()
		if err := p.wait(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		if small := time.Since(began); small > time.Second {
			t.Errorf("a small request waits %v behind a large one", small)
		}
		if took := (<-large).Sub(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10,000 samples have passed in %v", took)
		}
	})
}

func TestFloodIsMeasuredAndReadBack(t *testing.T) {
	if testing.Short() {
		t.Skip("starts real servers; left out with -short")
	}
	var out, errOut bytes.Buffer
	args := "flood -tenants=50 -rate=500 -limit=1000 -calm=2s -duration=4s"
	if code := run(t.Context(), strings.Fields(args), &out, &errOut); code != 0 {
		t.Fatal(code, out.String(), errOut.String())
	}
	for _, want := range []string{
		"acknowledged after, p50 ", "main never waited behind bulk", "age when vminsert has it, p50 ", ", 429 ", "permits  while the other waited",
		"read back, loadtest_calm: ", "read back, loadtest_others: ", "read back, loadtest_flood: ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestFloodSaysWhatItCannotDo(t *testing.T) {
	for _, args := range []string{"flood -limit=0", "flood -times=1", "flood -calm=0", "flood -capacity=-1", "flood -no-such-flag"} {
		var out, errOut bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &errOut); code == 0 {
			t.Errorf("%s: exit status 0", args)
		}
	}
}
