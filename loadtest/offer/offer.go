// Package offer sends numbered samples of many tenants by remote-write, at a kept rate, and remembers what was acknowledged.
package offer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Config says what to send.
type Config struct {
	// URL is the receiver's base URL, such as http://127.0.0.1:8480. Requests go to /insert/<account>:0/prometheus/api/v1/write.
	URL string
	// Metric is the name of all series. It should be a new one for each run.
	Metric string
	// Tenants have the accounts from FirstAccount on, project 0.
	Tenants, FirstAccount int
	// Series is how many each tenant has. In each round each of them gets one sample.
	Series int
	// PerRequest is how many series, and so samples, are in a request.
	PerRequest int
	// Labels is how many each series has, at least 3.
	Labels int
	// Rate is the samples per second to send; 0 sends as fast as they are acknowledged.
	Rate float64
	// Rounds is how many samples each series gets at most; 0 means no bound.
	Rounds int
	// Duration bounds the whole; 0 means no bound. One of Rounds and Duration has to be set.
	Duration time.Duration
	// Senders is how many requests are on their way at one time.
	Senders int
	// PerConnection is after how many requests, on average, a connection is closed and a new one opened; 0 keeps them.
	PerConnection int
	// Token, when not nil, is the bearer token of the i-th tenant.
	Token func(tenant int) string `json:"-"`
	// Patience is how long a request that is refused with 5xx, or not answered, is tried again. 0 tries once.
	Patience time.Duration
}

// Validate says everything that is wrong.
func (cfg *Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(cfg.Metric != "", "no metric name")
	need(cfg.Tenants > 0, "%d tenants: at least 1", cfg.Tenants)
	need(cfg.FirstAccount >= 0, "account %d: 0 or more", cfg.FirstAccount)
	need(cfg.Series > 0 && cfg.Series < 1e8, "%d series per tenant: 1 to 100 million", cfg.Series)
	need(cfg.PerRequest > 0, "%d samples per request: at least 1", cfg.PerRequest)
	need(cfg.Labels >= 3, "%d labels: at least 3", cfg.Labels)
	need(cfg.Rate >= 0, "rate %v: 0 or more", cfg.Rate)
	need(cfg.Rounds > 0 || cfg.Duration > 0, "neither rounds nor duration are bounded")
	need(cfg.Senders > 0, "%d senders: at least 1", cfg.Senders)
	need(cfg.PerConnection >= 0, "%d requests per connection: 0 or more", cfg.PerConnection)
	return errors.Join(errs...)
}

// requests is how many requests hold one round of a tenant.
func (cfg *Config) requests() int { return (cfg.Series + cfg.PerRequest - 1) / cfg.PerRequest }

// step is the time between two rounds, as far as timestamps go.
func (cfg *Config) step() time.Duration {
	if cfg.Rate == 0 {
		return 10 * time.Millisecond
	}
	perRound := float64(cfg.Tenants * cfg.Series)
	return max(time.Millisecond, time.Duration(perRound/cfg.Rate*1000)*time.Millisecond)
}

// after is how long after the start the n-th request is due.
func (cfg *Config) after(n int) time.Duration {
	return time.Duration(float64(n) * float64(cfg.PerRequest) / cfg.Rate * float64(time.Second))
}

// A Report is what became of what was sent.
type Report struct {
	// Acknowledged and Refused count samples. Refused ones got a 4xx, or nothing better for as long as Config.Patience.
	Acknowledged, Refused int
	// Answers counts requests, retries included, by what came back: a status, or "no answer".
	Answers map[string]int
	// Took is how long it took, and P50, P99 and Most how long an acknowledgement took, retries included. With a Rate it is counted
	// from when a request was due: a receiver that stalls is not credited for what it kept waiting at the door.
	Took, P50, P99, Most time.Duration
}

func (r Report) String() string {
	return fmt.Sprintf("%d samples acknowledged (%.0f/s), %d refused, acknowledgement after p50 %v, p99 %v, at most %v; answers %v",
		r.Acknowledged, float64(r.Acknowledged)/r.Took.Seconds(), r.Refused, r.P50.Round(time.Microsecond),
		r.P99.Round(time.Microsecond), r.Most.Round(time.Microsecond), r.Answers)
}

// Run sends until the bounds of cfg are reached or ctx ends, and waits for the answers. The error is about cfg.
func Run(ctx context.Context, cfg Config) (*Ledger, Report, error) {
	if err := cfg.Validate(); err != nil {
		return nil, Report{}, fmt.Errorf("offer load: %w", err)
	}
	if cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.Duration)
		defer cancel()
	}
	r := newRun(cfg)
	turns := make(chan turn)
	var senders sync.WaitGroup
	for range cfg.Senders {
		senders.Go(func() { r.send(ctx, turns) })
	}
	r.schedule(ctx, turns)
	close(turns)
	senders.Wait()
	return r.ledger, r.report(), nil
}

// A turn is one request to be sent.
type turn struct {
	request, round int
	due            time.Time
}

// run is one Run under way.
type run struct {
	cfg    Config
	ledger *Ledger
	client *http.Client
	began  time.Time

	mu      sync.Mutex
	idle    map[int][]*Body // by request: those that no sender uses now
	posts   int
	waits   []time.Duration // of acknowledged requests
	answers map[string]int
	acked   int
	refused int
}

func newRun(cfg Config) *run {
	return &run{
		cfg:    cfg,
		ledger: newLedger(cfg, time.Now(), cfg.step()),
		client: &http.Client{
			Timeout:   30 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: cfg.Senders, DisableCompression: true},
		},
		began:   time.Now(),
		idle:    map[int][]*Body{},
		answers: map[string]int{},
	}
}

// schedule hands out one request after the other, at the rate, whatever became of those before: a receiver that is slow for a
// while is offered what it missed afterwards.
func (r *run) schedule(ctx context.Context, turns chan<- turn) {
	perRound := r.cfg.Tenants * r.cfg.requests()
	for n := 0; r.cfg.Rounds == 0 || n < r.cfg.Rounds*perRound; n++ {
		due := time.Now()
		if r.cfg.Rate > 0 {
			due = r.began.Add(r.cfg.after(n))
			if !wait(ctx, time.Until(due)) {
				return
			}
		}
		select {
		case turns <- turn{request: n % perRound, round: n / perRound, due: due}:
		case <-ctx.Done():
			return
		}
	}
}

func (r *run) send(ctx context.Context, turns <-chan turn) {
	for t := range turns {
		body := r.take(t.request)
		filled := body.Fill(t.round, r.ledger.Timestamp(t.round))
		r.ledger.note(r.ledger.Attempted, t.request, t.round)
		ok := r.deliver(ctx, t.request, filled)
		if ok {
			r.ledger.note(r.ledger.Acknowledged, t.request, t.round)
		}
		r.count(ok, len(body.series), time.Since(t.due))
		r.giveBack(t.request, body)
	}
}

// take returns a Body of the request that nobody else uses. There are as many as were ever used at one time.
func (r *run) take(request int) *Body {
	r.mu.Lock()
	defer r.mu.Unlock()
	if idle := r.idle[request]; len(idle) > 0 {
		r.idle[request] = idle[:len(idle)-1]
		return idle[len(idle)-1]
	}
	r.mu.Unlock()
	defer r.mu.Lock()
	return r.body(request)
}

func (r *run) giveBack(request int, b *Body) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle[request] = append(r.idle[request], b)
}

func (r *run) body(request int) *Body {
	tenant, first := request/r.cfg.requests(), request%r.cfg.requests()*r.cfg.PerRequest
	return NewBody(&r.cfg, r.cfg.FirstAccount+tenant, first, min(r.cfg.PerRequest, r.cfg.Series-first))
}

func (r *run) url(request int) string {
	return r.cfg.URL + "/insert/" + r.ledger.Tenant(request/r.cfg.requests()) + "/prometheus/api/v1/write"
}

func (r *run) count(ok bool, samples int, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !ok {
		r.refused += samples
		return
	}
	r.acked += samples
	r.waits = append(r.waits, took)
}

// deliver posts the body until it is taken, refused for good, or patience is at its end. A request that has begun is not cut
// short by ctx: its answer says whether it counts.
func (r *run) deliver(ctx context.Context, request int, body []byte) bool {
	for began := time.Now(); ; {
		status, after, err := r.post(ctx, request, body)
		r.answered(status, err)
		if err == nil && status/100 == 2 {
			return true
		}
		if err == nil && status/100 == 4 || time.Since(began) >= r.cfg.Patience || !wait(ctx, after) {
			return false
		}
	}
}

// post returns the status, and how long to wait before the next try.
func (r *run) post(ctx context.Context, request int, body []byte) (status int, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, r.url(request), bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.Close = r.isLast()
	if r.cfg.Token != nil {
		req.Header.Set("Authorization", "Bearer "+r.cfg.Token(request/r.cfg.requests()))
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, 100 * time.Millisecond, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return 0, 100 * time.Millisecond, err
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil {
		return resp.StatusCode, 100 * time.Millisecond, nil
	}
	return resp.StatusCode, time.Duration(seconds) * time.Second, nil
}

// isLast is whether the connection is to be closed after this request.
func (r *run) isLast() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.posts++
	return r.cfg.PerConnection > 0 && r.posts%r.cfg.PerConnection == 0
}

func (r *run) answered(status int, err error) {
	what := strconv.Itoa(status)
	if err != nil {
		what = "no answer"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[what]++
}

func (r *run) report() Report {
	rep := Report{Acknowledged: r.acked, Refused: r.refused, Answers: r.answers, Took: time.Since(r.began)}
	if n := len(r.waits); n > 0 {
		slices.Sort(r.waits)
		rep.P50, rep.P99, rep.Most = r.waits[n/2], r.waits[n*99/100], r.waits[n-1]
	}
	return rep
}

// wait returns false when ctx ends before the time is over.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
