// Command run starts a VictoriaMetrics cluster, ingestgw and a vmagent that scrapes all of them, on this machine, until Ctrl-C. With
// -kafka, ingestgw keeps its backlog in an Apache Kafka, which is started too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/ingestgw/ingestgw/internal/stack"
)

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", ".run", "`folder` for all data and logs; a later run goes on with what is there")
	flag.StringVar(&o.ingestgw, "ingestgw", "", "`path` of the ingestgw to run; empty: built first")
	flag.StringVar(&o.host, "host", "127.0.0.1", "`address` that everything listens at")
	flag.BoolVar(&o.kafka, "kafka", false, "start Apache Kafka, and let ingestgw buffer there instead of on disk")
	flag.Parse()
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(interrupted, stop) // a second Ctrl-C ends this process at once, and the servers with it
	if err := run(interrupted, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "\n"+err.Error())
		os.Exit(1)
	}
}

type options struct {
	dir, ingestgw, host string
	kafka               bool
}

// run returns nil when ctx has ended and everything has stopped in order.
func run(ctx context.Context, o options, out io.Writer) error {
	unlock, err := claim(o.dir)
	if err != nil {
		return err
	}
	defer unlock()
	s := &scene{options: o, out: out}
	defer s.close()
	err = s.start(ctx)
	if err == nil {
		err = s.show(ctx)
	}
	if ctx.Err() != nil { // Ctrl-C, which also fails whatever was under way
		err = nil
	}
	return errors.Join(err, s.stop())
}

// build returns the path of the ingestgw to run.
func build(ctx context.Context, o options, out io.Writer) (string, error) {
	if o.ingestgw != "" {
		return filepath.Abs(o.ingestgw)
	}
	path, err := filepath.Abs(filepath.Join(o.dir, "bin", "ingestgw"))
	if err != nil {
		return "", err
	}
	fmt.Fprintln(out, "Building ingestgw")
	return path, stack.GoBuild(ctx, ".", "github.com/ingestgw/ingestgw/cmd/ingestgw", path)
}

// claim keeps a second run out of the folder for as long as this one lives.
func claim(dir string) (release func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another run: stop that one, or start this one as bin/run -dir <another folder>", dir)
	}
	return func() { f.Close() }, nil
}
