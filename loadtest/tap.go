package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
)

// A tap stands before a vminsert, lets through what comes, at most so many samples per second, and notes when the first series of
// each tenant arrived with which round (see package offer). Requests that are there at the same time share what may pass: a small
// one does not wait for a large one that came before it, as with a vminsert that is busy.
type tap struct {
	listener net.Listener
	server   *http.Server
	to       *httputil.ReverseProxy
	pace     *pace
	zstd     *zstd.Decoder

	mu       sync.Mutex
	arrivals map[string]map[arrival]time.Time // by metric
	samples  int
	failed   error // the first request that could not be read
}

// An arrival is what came: the account, and the round of its series 0.
type arrival struct{ account, round int }

func openTap(vminsert string, perSecond float64) (*tap, error) {
	to, err := url.Parse(vminsert)
	if err != nil {
		return nil, err
	}
	t := &tap{to: httputil.NewSingleHostReverseProxy(to), pace: &pace{perSecond: perSecond}, arrivals: map[string]map[arrival]time.Time{}}
	if t.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0)); err != nil {
		return nil, err
	}
	t.server = &http.Server{Handler: t, ReadHeaderTimeout: 10 * time.Second}
	if t.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return t, nil
}

func (t *tap) url() string { return "http://" + t.listener.Addr().String() }

func (t *tap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		t.to.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	seen, samples, err := t.read(r.Header.Get("Content-Encoding"), body)
	if err != nil {
		t.mu.Lock()
		t.failed = cmp.Or(t.failed, err)
		t.mu.Unlock()
	}
	if err := t.pace.wait(r.Context(), samples); err != nil {
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := &answer{ResponseWriter: w}
	t.to.ServeHTTP(answer, r)
	if answer.status/100 == 2 {
		t.note(seen, samples)
	}
}

// An answer remembers its status.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// read decodes a request.
func (t *tap) read(encoding string, body []byte) (seen map[string][]arrival, samples int, err error) {
	var message []byte
	if encoding == "zstd" {
		message, err = t.zstd.DecodeAll(body, nil)
	} else {
		message, err = snappy.Decode(nil, body)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("a forwarded request: %w", err)
	}
	var u prompb.WriteRequestUnmarshaler
	wr, err := u.UnmarshalProtobuf(message)
	if err != nil {
		return nil, 0, fmt.Errorf("a forwarded request: %w", err)
	}
	seen = map[string][]arrival{}
	for _, ts := range wr.Timeseries {
		samples += len(ts.Samples)
		metric, account, first := offered(ts.Labels)
		if !first {
			continue
		}
		for _, s := range ts.Samples {
			seen[metric] = append(seen[metric], arrival{account, int(s.Value)})
		}
	}
	return seen, samples, nil
}

// offered reads the labels of a series that package offer made: whether it is the first of its account.
func offered(labels []prompb.Label) (metric string, account int, first bool) {
	for _, l := range labels {
		switch l.Name {
		case "__name__":
			metric = l.Value
		case "account":
			account, _ = strconv.Atoi(l.Value) // a number in all that we send
		case "series":
			first = l.Value == "0"
		}
	}
	return metric, account, first
}

func (t *tap) note(seen map[string][]arrival, samples int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.samples += samples
	for metric, all := range seen {
		if t.arrivals[metric] == nil {
			t.arrivals[metric] = map[arrival]time.Time{}
		}
		for _, a := range all {
			if _, before := t.arrivals[metric][a]; !before { // the first time counts
				t.arrivals[metric][a] = now
			}
		}
	}
}

// fault is the first request that could not be read; nil when all could be.
func (t *tap) fault() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// serve runs until ctx ends.
func (t *tap) serve(ctx context.Context) error {
	return serveUntil(ctx, t.server, t.listener)
}

// A pace lets so many samples through per second, by small shares in turn. 0: as many as come.
type pace struct {
	perSecond float64

	mu   sync.Mutex
	next time.Time
}

// share is how many samples of a request pass before others get their turn.
const share = 100

func (p *pace) wait(ctx context.Context, samples int) error {
	for left := samples; p.perSecond > 0 && left > 0; left -= share {
		p.mu.Lock()
		at := time.Now()
		if p.next.After(at) {
			at = p.next
		}
		p.next = at.Add(time.Duration(float64(min(left, share)) / p.perSecond * float64(time.Second)))
		p.mu.Unlock()
		pause(ctx, time.Until(at))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}
