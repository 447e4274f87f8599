package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// A drain stands in for a vminsert that costs nothing: it reads bodies, answers 204, and counts. It decodes nothing, so that it
// does not become the bottleneck of what is measured.
type drain struct {
	server          *http.Server
	listener        net.Listener
	requests, bytes atomic.Int64
}

// openDrain listens at an address; port 0 is any free one.
func openDrain(address string) (*drain, error) {
	d := &drain{}
	d.server = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: d}
	var err error
	if d.listener, err = net.Listen("tcp", address); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return d, nil
}

// url is its base URL.
func (d *drain) url() string { return "http://" + d.listener.Addr().String() }

// serve runs until ctx ends.
func (d *drain) serve(ctx context.Context) error { return serveUntil(ctx, d.server, d.listener) }

// serveUntil serves until ctx ends, and cuts off what is not done then.
func serveUntil(ctx context.Context, server *http.Server, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { // ends with ctx, which ends at the latest when Serve has failed
		<-ctx.Done()
		stopped <- server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return <-stopped
}

func (d *drain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/counted":
		fmt.Fprintf(w, "%d %d\n", d.requests.Load(), d.bytes.Load())
		return
	case r.Method != http.MethodPost:
		http.Error(w, "GET /counted, or POST anything", http.StatusNotFound)
		return
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.requests.Add(1)
	d.bytes.Add(n)
	w.WriteHeader(http.StatusNoContent)
}

func sink(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("sink")
	listen := flags.String("listen", "127.0.0.1:0", "`address` to listen at; port 0: any free one")
	if err := parse(flags, args); err != nil {
		return err
	}
	d, err := openDrain(*listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "listening at %s; GET /counted tells requests and bytes\n", d.url())
	if err := d.serve(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d requests, %d bytes\n", d.requests.Load(), d.bytes.Load())
	return nil
}
