// Package direct carries HTTP requests to a handler without a network, so that tests can simulate time.
package direct

import (
	"net/http"
	"net/http/httptest"
)

// To returns a transport for whose requests h is the server, whatever their address. A request ends with its context, though h may
// still be at work.
func To(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	answered := make(chan *http.Response, 1)
	go func() { // ends with the handler; in a synctest bubble the test waits for it
		w := httptest.NewRecorder()
		t.ServeHTTP(w, r)
		answered <- w.Result()
	}()
	select {
	case resp := <-answered:
		if err := r.Context().Err(); err != nil {
			return nil, err
		}
		return resp, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
