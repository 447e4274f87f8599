package token

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/ingestgw/ingestgw/internal/credentials"
	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	// fetchTimeout bounds the reading of the key set, and how long a token with a key that is not known waits for it.
	fetchTimeout = 5 * time.Second
	// fetchPause is the least time between two readings because of keys that are not known: anybody can make up such a token. It is
	// also the time until the next try when a reading has failed.
	fetchPause = 10 * time.Second
	// maxKeySet bounds the key set.
	maxKeySet = 1 << 20
	// maxKeyID bounds the name of a key.
	maxKeyID = 256
	// maxAbsent is how many names of keys are remembered that are not in the set.
	maxAbsent = 1000
)

// A remote is the JSON Web Key Set at a URL. Its run reads it; all else is safe for concurrent use.
type remote struct {
	url        string
	shown      settings.URL // the same without its secrets
	every      time.Duration
	algorithms []string
	client     *http.Client
	log        *slog.Logger
	metrics    *metrics
	changed    func([]key) // is called with each new set
	want       chan struct{}

	mu      sync.Mutex
	body    []byte // of the set; nil: none was read yet
	err     error  // of the last reading
	read    time.Time
	reading *reading // that goes on, or that somebody waits for
	next    time.Time
	absent  *simplelru.LRU[string, time.Time] // until when it is taken as known that there is no such key
}

// A reading is one reading of the key set. err is there when done is closed.
type reading struct {
	done chan struct{}
	err  error
}

var (
	errAbsent = errors.New("no such key in the key set")
	errSoon   = fmt.Errorf("no such key in the key set, which was read less than %v ago and may have it by now", fetchPause)
	errUnread = errors.New("the key set could not be read in time")
)

func newRemote(cfg Config, log *slog.Logger, m *metrics, changed func([]key)) (*remote, error) {
	secure, err := credentials.LoadTLS(tlsPrefix, cfg.TLS, log)
	if err != nil {
		return nil, err
	}
	absent, err := simplelru.NewLRU[string, time.Time](maxAbsent, nil)
	if err != nil {
		return nil, err
	}
	return &remote{
		url:        cfg.JwksURL.URL.String(),
		shown:      cfg.JwksURL,
		every:      cfg.Refresh,
		algorithms: cfg.Algorithms,
		client: &http.Client{
			Timeout: fetchTimeout,
			Transport: &http.Transport{
				Proxy:           http.ProxyFromEnvironment,
				TLSClientConfig: secure.Config(cfg.JwksURL.Hostname()),
				MaxIdleConns:    1,
				IdleConnTimeout: 50 * time.Second,
			},
		},
		log:     log,
		metrics: m,
		changed: changed,
		want:    make(chan struct{}, 1),
		absent:  absent,
		reading: &reading{done: make(chan struct{})}, // the first one; tokens that come before it wait
	}, nil
}

// run reads the set at once, then every so often, and when somebody wants it, until ctx ends.
func (r *remote) run(ctx context.Context) {
	for {
		one := r.begin()
		body, err := r.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		r.end(one, body, err)
		pause := r.every
		if err != nil {
			pause = min(pause, fetchPause)
		}
		timer := time.NewTimer(pause - rand.N(pause/10+1)) // so that many processes do not read it together
		select {
		case <-timer.C:
		case <-r.want:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (r *remote) begin() *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.want: // by this one
	default:
	}
	if r.reading == nil {
		r.reading = &reading{done: make(chan struct{})}
	}
	return r.reading
}

// end puts what was read into use. The set from before stays when there is none.
func (r *remote) end(one *reading, body []byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.err
	if err == nil && !bytes.Equal(body, r.body) {
		var keys []key
		if keys, err = parseKeySet(body, r.algorithms); err == nil {
			r.body = body
			r.changed(keys)
			r.log.Info("read the keys of tokens", "url", r.shown, "keys", len(keys))
		}
	}
	if err == nil {
		r.read = time.Now()
	} else if before == nil || before.Error() != err.Error() {
		r.log.Error("cannot read the keys of tokens; those read before stay in use, tokens with others get 503",
			"setting", prefix+"_JWKS_URL", "url", r.shown, "err", err)
	}
	r.metrics.fetched(err)
	r.err, one.err, r.reading = err, err, nil
	close(one.done)
}

func (r *remote) fetch(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		var outer *url.Error // it quotes the URL
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	if err == nil && len(body) > maxKeySet {
		err = fmt.Errorf("a key set of more than %d bytes", maxKeySet)
	}
	return body, err
}

// seek has the set read anew because of a key that is not in it. nil says that it was read since. errAbsent says that there is no
// such key; any other error, that this cannot be told now.
func (r *remote) seek(ctx context.Context, id string) error {
	one, err := r.ask(id)
	if err != nil {
		return err
	}
	timer := time.NewTimer(fetchTimeout)
	defer timer.Stop()
	select {
	case <-one.done:
		return one.err
	case <-timer.C:
		return errUnread
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask returns the reading that will tell whether there is such a key.
func (r *remote) ask(id string) (*reading, error) {
	if len(id) > maxKeyID {
		return nil, errAbsent
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	until, known := r.absent.Get(id)
	switch {
	case known && now.Before(until):
		return nil, errAbsent
	case r.reading != nil:
		return r.reading, nil
	case now.Before(r.next):
		if r.err != nil {
			return nil, r.err
		}
		return nil, errSoon
	}
	r.next = now.Add(fetchPause)
	r.reading = &reading{done: make(chan struct{})}
	select {
	case r.want <- struct{}{}:
	default: // run was told already
	}
	return r.reading, nil
}

// miss remembers that a key is not in the set that was just read.
func (r *remote) miss(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.absent.Add(id, time.Now().Add(fetchPause))
}

// down says whether the set could not be read when that was tried last, or was never read.
func (r *remote) down() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil || r.body == nil
}

// age is the time since the set was read; 0 when it never was.
func (r *remote) age() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.read.IsZero() {
		return 0
	}
	return time.Since(r.read)
}
