package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/ingestgw/ingestgw/internal/stack"
)

var killRounds = flag.Int("kill-rounds", 25, "how often TestKilledGatewayLosesNothingAcknowledged kills the gateway")

// numbers is a set of samples: which numbers of which writer.
type numbers struct {
	mu  sync.Mutex
	has map[string]map[int]bool
}

func (n *numbers) add(writer string, from, to int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.has == nil {
		n.has = map[string]map[int]bool{}
	}
	if n.has[writer] == nil {
		n.has[writer] = map[int]bool{}
	}
	for i := from; i < to; i++ {
		n.has[writer][i] = true
	}
}

// without counts what is in n and not in other, and names one of them.
func (n *numbers) without(other *numbers) (missing int, example string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	other.mu.Lock()
	defer other.mu.Unlock()
	for writer, set := range n.has {
		for i := range set {
			if !other.has[writer][i] {
				missing++
				example = fmt.Sprintf("sample %d of writer %s", i, writer)
			}
		}
	}
	return missing, example
}

// awaitIn waits until other has all that is in n.
func (n *numbers) awaitIn(t *testing.T, other *numbers) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if missing, example := n.without(other); missing > 0 {
			return fmt.Errorf("%d of %d acknowledged samples never arrived, such as %s", missing, n.count(), example)
		}
		return nil
	})
}

func (n *numbers) count() (total int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, set := range n.has {
		total += len(set)
	}
	return total
}

// keeper stands in for a vminsert whose 2xx can be trusted: it keeps what it takes in memory, outside of what gets killed.
func keeper(t *testing.T, kept *numbers) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost { // it has no metrics
			http.NotFound(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the gateway was killed in the middle of it
		}
		message, err := decompressed(body, r.Header.Get("Content-Encoding"))
		if err != nil {
			t.Errorf("the gateway sent what cannot be decompressed: %v", err)
			return
		}
		var u prompb.WriteRequestUnmarshaler
		wr, err := u.UnmarshalProtobuf(message)
		if err != nil {
			t.Errorf("the gateway sent what does not parse: %v", err)
			return
		}
		for _, ts := range wr.Timeseries {
			for _, sample := range ts.Samples {
				kept.add(valueOf(ts.Labels, "writer"), int(sample.Value), int(sample.Value)+1)
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	return s
}

// decompressed undoes a Content-Encoding: zstd of what is packed, snappy of the rest.
func decompressed(body []byte, encoding string) ([]byte, error) {
	if encoding != "zstd" {
		return snappy.Decode(nil, body)
	}
	z, err := zstd.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return io.ReadAll(z)
}

func valueOf(labels []prompb.Label, name string) string {
	i := slices.IndexFunc(labels, func(l prompb.Label) bool { return l.Name == name })
	if i < 0 {
		return ""
	}
	return labels[i].Value
}

// write sends requests of consecutive numbers until ctx ends, and notes those that were acknowledged. Refused numbers are not
// sent again: they prove nothing. Each has a time, a millisecond later than the one before; those from long ago take the bulk lane.
func write(ctx context.Context, url, writer string, from time.Time, perRequest int, acknowledged *numbers) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for next := 0; ctx.Err() == nil; next += perRequest {
		series := prompb.TimeSeries{Labels: []prompb.Label{{Name: "__name__", Value: "killed"}, {Name: "writer", Value: writer}}}
		for i := next; i < next+perRequest; i++ {
			series.Samples = append(series.Samples, prompb.Sample{Value: float64(i), Timestamp: from.UnixMilli() + int64(i)})
		}
		wr := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series}}
		resp, err := client.Post(url, "application/x-protobuf", bytes.NewReader(snappy.Encode(nil, wr.MarshalProtobuf(nil))))
		if err != nil {
			select { // nobody listens between two lives of the gateway
			case <-time.After(2 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusNoContent {
			acknowledged.add(writer, next, next+perRequest)
		}
	}
}

func TestKilledGatewayLosesNothingAcknowledged(t *testing.T) {
	whole(t)
	var acknowledged, kept numbers
	gateway := stack.Start(t, stack.IngestgwSpec("ingestgw", binary(t),
		"INGESTGW_FORWARD_URLS="+keeper(t, &kept).URL,
		"INGESTGW_FORWARD_SETTLE=0",
		"INGESTGW_BUFFER_SEGMENT_BYTES=1MiB", // so that kills also hit the making and removing of segments
	))
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			from := time.Now().Add(-time.Duration(i%2) * 1000 * time.Hour) // in both lanes
			write(ctx, gateway.URL()+"/insert/1:"+strconv.Itoa(i)+"/prometheus/api/v1/write", strconv.Itoa(i), from, 20*(i+1), &acknowledged)
		})
	}
	for range *killRounds {
		time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond) // the moment of the kill is what is random here
		gateway.Kill()
		if err := gateway.Restart(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	writers.Wait()

	if acknowledged.count() == 0 {
		t.Fatal("nothing was acknowledged, so nothing was tested")
	}
	acknowledged.awaitIn(t, &kept)
	t.Logf("%d kills, %d samples acknowledged, all arrived", *killRounds, acknowledged.count())
}
