package downstream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Who refuses costs nothing to ask and takes no posts. Who takes the connection may be making a page, and may take posts.
func TestReadTellsSilenceFromRefusal(t *testing.T) {
	ended := make(chan struct{})
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc // none: nobody is there
		want   error
	}{
		{"refused", nil, nil},
		{"busy", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, ErrBusy},
		{"silent", func(http.ResponseWriter, *http.Request) { <-ended }, ErrNoAnswer},
		{"silent in the middle", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("process_start_time_seconds 1\n"))
			_ = http.NewResponseController(w).Flush()
			<-ended
		}, ErrNoAnswer},
		{"broken off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, ErrNoAnswer},
	} {
		server := httptest.NewServer(test.answer)
		t.Cleanup(server.Close)
		if test.answer == nil {
			server.Close()
		}
		ep := endpointOf(t, server, "http://vm.invalid")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := NewClient(ep, load(t, ClientConfig{}), 1).Read(ctx, ep, VMInsert)
		cancel()
		if err == nil {
			t.Errorf("%s: no error", test.name)
		}
		for _, kind := range []error{ErrBusy, ErrNoAnswer, ErrUnusable} {
			if errors.Is(err, kind) != errors.Is(test.want, kind) {
				t.Errorf("%s: got %v; want %v", test.name, err, test.want)
			}
		}
	}
	close(ended)
}
