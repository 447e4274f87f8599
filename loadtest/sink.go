package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// sink stands in for a vminsert that costs nothing: it reads bodies, answers 204, and counts. It decodes nothing, so that it
// does not become the bottleneck of what is measured.
func sink(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("loadtest sink", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "`address` to listen at; port 0: any free one")
	if err := parse(flags, args); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintf(out, "listening at http://%s; GET /counted tells requests and bytes\n", listener.Addr())
	var requests, bytes atomic.Int64
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodGet && r.URL.Path == "/counted":
				fmt.Fprintf(w, "%d %d\n", requests.Load(), bytes.Load())
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
			requests.Add(1)
			bytes.Add(n)
			w.WriteHeader(http.StatusNoContent)
		}),
	}
	stopped := make(chan error, 1)
	go func() { // ends with ctx, which ends at the latest when Serve has failed
		<-ctx.Done()
		stopped <- server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	fmt.Fprintf(out, "%d requests, %d bytes\n", requests.Load(), bytes.Load())
	return <-stopped
}
