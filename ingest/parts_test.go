package ingest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/tenant"
)

// parts returns what g's shelf has of message, in its order, and that as one message. It fails when a part is no range of
// message, or does not hold what its envelope says.
func (g *gateway) parts(t *testing.T, message []byte) (parts []buffer.Record, joined []byte) {
	t.Helper()
	type part struct {
		at      int
		decoded []byte
		record  buffer.Record
	}
	var found []part
	for _, r := range g.shelf.records(t) {
		decoded, err := snappy.Decode(nil, r.Payload)
		if err != nil {
			t.Fatal(err)
		}
		var u prompb.WriteRequestUnmarshaler
		wr, err := u.UnmarshalProtobuf(decoded)
		if err != nil || len(wr.Timeseries) != r.Series || r.Samples != r.Series || r.Decoded != len(decoded) {
			t.Errorf("record of %d series, %d samples, %d bytes holds %d series in %d bytes: %v",
				r.Series, r.Samples, r.Decoded, len(wr.Timeseries), len(decoded), err)
		}
		at := bytes.Index(message, decoded)
		if at < 0 {
			t.Fatal("a part is no range of the message")
		}
		found = append(found, part{at, decoded, r})
	}
	slices.SortFunc(found, func(a, b part) int { return cmp.Compare(a.at, b.at) })
	for _, p := range found {
		parts, joined = append(parts, p.record), append(joined, p.decoded...)
	}
	return parts, joined
}

func metadata(name string) []byte {
	wr := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{Type: prompb.MetricTypeCounter, MetricFamilyName: name, Help: "What it counts."}}}
	return wr.MarshalProtobuf(nil)
}

func TestRequestLargerThanABlockIsStoredInParts(t *testing.T) {
	clean := slices.Concat(metadata("a"), noise(60_000), message(500), metadata("b"), noise(40_000))
	forged := slices.Concat(metadata("a"), noise(60_000, "vm_account_id", "1"), message(500, "vm_project_id", "2"), metadata("b"), noise(40_000))
	for name, c := range map[string]struct {
		message  []byte
		reserved float64
	}{
		"as it came":           {clean, 0},
		"with labels to strip": {forged, 506},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, defaults(), 64<<20, &shelf{maxBlock: 30_000})
			sent := snappy.Encode(nil, c.message)
			before := time.Now().Truncate(time.Millisecond)
			if resp, text := g.post(t, "/insert/1:2/prometheus", bytes.NewReader(sent)); resp.StatusCode != 204 {
				t.Fatal(resp.Status, text)
			}
			parts, joined := g.parts(t, clean)
			if len(parts) < 4 || !bytes.Equal(joined, clean) {
				t.Errorf("%d parts hold %d bytes, not the %d of the request", len(parts), len(joined), len(clean))
			}
			for _, r := range parts {
				if r.Tenant != (tenant.ID{Account: 1, Project: 2}) || r.Encoding != buffer.Snappy ||
					!r.Received.Equal(parts[0].Received) || r.Received.Before(before) {
					t.Errorf("a part's envelope says %v, %v, %v", r.Tenant, r.Encoding, r.Received)
				}
			}
			for _, b := range g.shelf.blocks {
				if len(b) > g.shelf.MaxBlock() {
					t.Errorf("a block has %d bytes", len(b))
				}
			}
			for what, got := range map[string][2]float64{
				"requests": {float64(g.requests(t, accepted)), 1},
				"bytes":    {testutil.ToFloat64(g.metrics.bytes), float64(len(sent))},
				"series":   {testutil.ToFloat64(g.metrics.series), 510},
				"samples":  {testutil.ToFloat64(g.metrics.samples), 510},
				"metadata": {testutil.ToFloat64(g.metrics.metadata), 2},
				"reserved": {testutil.ToFloat64(g.metrics.reserved), c.reserved},
			} {
				if got[0] != got[1] {
					t.Errorf("%v %s counted, want %v", got[0], what, got[1])
				}
			}
		})
	}
}

// A message that fits once we compress it is not split, however badly its sender did.
func TestBadlyCompressedRequestIsNotSplit(t *testing.T) {
	msg := message(500)
	literal := compressPeriodic(msg, 1)
	g := start(t, defaults(), 64<<20, &shelf{maxBlock: len(literal)})
	if resp, text := g.post(t, "/api/v1/write", bytes.NewReader(literal)); resp.StatusCode != 204 {
		t.Fatal(resp.Status, text)
	}
	if parts, joined := g.parts(t, msg); len(parts) != 1 || !bytes.Equal(joined, msg) {
		t.Errorf("%d parts hold %d bytes, want one of %d", len(parts), len(joined), len(msg))
	}
}

// Whatever a request holds and whatever a block takes: all of it is stored, or nothing because one series does not fit.
func TestPartsHoldTheWholeRequest(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var whole, split, refused int
	for range 60 {
		var msg []byte
		fields := 1 + random.IntN(60)
		for i := range fields {
			field := metadata(fmt.Sprint("m", i))
			if random.IntN(4) > 0 {
				field = message(1, "n", fmt.Sprint(i), "text", randomText(random, random.IntN(300)))
			}
			msg = append(msg, field...)
		}
		maxBlock := 100 + random.IntN(3000)
		g := start(t, defaults(), 64<<20, &shelf{maxBlock: maxBlock})
		resp, text := g.post(t, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, msg)))
		parts, joined := g.parts(t, msg)
		switch {
		case resp.StatusCode == 204 && bytes.Equal(joined, msg):
			whole++
			if len(parts) > 1 {
				split++
			}
		case resp.StatusCode == 400 && len(parts) == 0:
			refused++
		default:
			t.Fatalf("%d fields in blocks of %d: got %s %q, and %d of %d bytes are stored", fields, maxBlock, resp.Status, text, len(joined), len(msg))
		}
	}
	if split < 20 || whole == split || refused < 5 {
		t.Errorf("%d stored, %d of them in parts, %d refused: not worth the name of a test", whole, split, refused)
	}
}

func TestSeriesThatFitsIntoNoBlockIsRefused(t *testing.T) {
	help := prompb.WriteRequest{Metadata: []prompb.MetricMetadata{{MetricFamilyName: "m", Help: randomText(rand.New(rand.NewPCG(7, 8)), 10_000)}}}
	for name, c := range map[string]struct {
		message []byte
		says    string
	}{
		"series":   {slices.Concat(message(2), metadata("m"), noise(10_000), message(1)), "series 2 alone takes 10"},
		"metadata": {slices.Concat(message(2), help.MarshalProtobuf(nil)), "a metadata entry alone takes 10"},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, defaults(), 64<<20, &shelf{maxBlock: 9_000})
			resp, text := g.post(t, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, c.message)))
			if resp.StatusCode != 400 || g.requests(t, "too_large") != 1 || resp.Header.Get("Retry-After") != "" {
				t.Errorf("got %s", resp.Status)
			}
			for _, want := range []string{c.says, "INGESTGW_BUFFER_MAX_BYTES", fmt.Sprintf("takes %d in one block", g.gather.MaxPayload(nil))} {
				if !strings.Contains(text, want) {
					t.Errorf("%q does not say %q", text, want)
				}
			}
			if n := len(g.shelf.records(t)); n != 0 {
				t.Errorf("%d records stored of a request that was refused", n)
			}
		})
	}
}

func TestRequestInPartsIsAcknowledgedWhenAllAreDurable(t *testing.T) {
	msg := noise(60_000)
	for _, fails := range []int64{1, 2, 3} {
		for name, keeps := range map[string]bool{"did not happen": false, "happened, answer lost": true} {
			t.Run(fmt.Sprintf("block %d %s", fails, name), func(t *testing.T) {
				var n atomic.Int64
				store := &shelf{maxBlock: 30_000, keeps: keeps, answer: func() error {
					if n.Add(1) == fails {
						return buffer.ErrUnavailable
					}
					return nil
				}}
				g := start(t, defaults(), 64<<20, store)
				resp, text := g.post(t, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, msg)))
				if resp.StatusCode != 503 || g.requests(t, "buffer_unavailable") != 1 || resp.Header.Get("Retry-After") == "" {
					t.Errorf("got %s %q", resp.Status, text)
				}
				if n := testutil.ToFloat64(g.metrics.samples); n != 0 {
					t.Errorf("%v samples counted as accepted", n)
				}
				store.mu.Lock()
				store.blocks = nil
				store.mu.Unlock()
				if resp, text := g.post(t, "/api/v1/write", bytes.NewReader(snappy.Encode(nil, msg))); resp.StatusCode != 204 {
					t.Errorf("sent again: got %s %q", resp.Status, text)
				}
				if _, joined := g.parts(t, msg); !bytes.Equal(joined, msg) {
					t.Errorf("sent again, %d of %d bytes are stored", len(joined), len(msg))
				}
			})
		}
	}
}

func TestWorstAnswerOfTheParts(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("part: %w", err) }
	for _, c := range []struct {
		errs []error
		want error
	}{
		{[]error{nil, nil}, nil},
		{[]error{nil, errTooLarge, nil}, errTooLarge},
		{[]error{errTooLarge, nil, wrap(buffer.ErrClosed)}, buffer.ErrClosed},
		{[]error{wrap(buffer.ErrClosed), wrap(errTooLarge)}, buffer.ErrClosed},
		{[]error{context.Canceled, wrap(buffer.ErrFull), buffer.ErrUnavailable}, buffer.ErrFull},
	} {
		if got := worst(c.errs); !errors.Is(got, c.want) {
			t.Errorf("of %v the worst is %v, want %v", c.errs, got, c.want)
		}
	}
}

// The sender of a request in parts gives up while the store still has them all: what they take is held until the last is released.
func TestBudgetIsHeldUntilTheLastPartIsReleased(t *testing.T) {
	store := &shelf{maxBlock: 30_000, entered: make(chan struct{}, 8), leave: make(chan struct{})}
	g := start(t, defaults(), 64<<20, store)
	sent := snappy.Encode(nil, noise(60_000)) // three blocks of two series
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/api/v1/write", bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	gaveUp := make(chan error)
	go func() {
		_, err := http.DefaultClient.Do(req)
		gaveUp <- err
	}()
	for range 3 {
		<-store.entered
	}
	held := g.budget.Used()
	if held < int64(room(len(sent))+len(sent)) {
		t.Errorf("%d bytes held for a body of %d", held, len(sent))
	}
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for g.requests(t, "aborted") == 0 {
		runtime.Gosched()
	}
	for range 2 {
		store.leave <- struct{}{}
		if used := g.budget.Used(); used != held {
			t.Errorf("%d bytes held, want %d", used, held)
		}
	}
	store.leave <- struct{}{}
} // and then nothing: start sees to that
