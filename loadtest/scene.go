package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
)

// A scene is the servers that a measurement needs, in a folder that goes when it is over.
type scene struct {
	out     io.Writer
	dir     string
	gateway string // path of the program; empty until it is built
	most    time.Duration
	started []*stack.Process
}

// newScene adds the flags that every scene has.
func newScene(out io.Writer, flags *flag.FlagSet) *scene {
	s := &scene{out: out}
	flags.StringVar(&s.gateway, "ingestgw", "", "`path` of the program; empty: it is built from the module in the working folder")
	flags.DurationVar(&s.most, "timeout", time.Hour, "how long all of it may take before it is given up")
	return s
}

// play makes the folder and lets do measure, for as long as it may take. Whatever comes of it, the processes and the folder go.
func (s *scene) play(ctx context.Context, do func(context.Context) error) (err error) {
	if s.dir, err = os.MkdirTemp("", "loadtest-"); err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeoutCause(ctx, s.most, fmt.Errorf("given up after %v (-timeout)", s.most))
	defer cancel()
	err = do(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// close kills what runs and removes the folder.
func (s *scene) close() {
	for _, p := range slices.Backward(s.started) {
		p.Close()
	}
	os.RemoveAll(s.dir)
}

func (s *scene) say(what string) { fmt.Fprintln(s.out, what) }

func (s *scene) start(ctx context.Context, spec stack.Spec) (*stack.Process, error) {
	spec.Dir, spec.Say = filepath.Join(s.dir, spec.Name), s.say
	p, err := stack.Launch(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.started = append(s.started, p)
	return p, nil
}

func (s *scene) startCluster(ctx context.Context, spec stack.ClusterSpec) (*stack.Cluster, error) {
	spec.Dir, spec.Say = s.dir, s.say
	c, err := stack.LaunchCluster(ctx, spec)
	if err != nil {
		return nil, err
	}
	s.started = append(s.started, slices.Concat(c.Storages, c.Inserts, []*stack.Process{c.Select, c.Raw})...)
	return c, nil
}

// operatorsToken is what each gateway that is started here wants from its operators.
const operatorsToken = "of-the-operators-of-loadtest"

// startGateway starts an ingestgw with the disk buffer. Settings are NAME=value, without the prefix.
func (s *scene) startGateway(ctx context.Context, name string, settings ...string) (*stack.Process, error) {
	if s.gateway == "" {
		path := filepath.Join(s.dir, "ingestgw-built")
		if err := stack.GoBuild(ctx, ".", "github.com/ingestgw/ingestgw/cmd/ingestgw", path); err != nil {
			return nil, err
		}
		s.gateway = path
	}
	token := filepath.Join(s.dir, "operators")
	if err := os.WriteFile(token, []byte(operatorsToken), 0o600); err != nil {
		return nil, err
	}
	settings = append([]string{"ADMIN_TOKEN_FILE=" + token}, settings...)
	env := make([]string, len(settings))
	for i, setting := range settings {
		env[i] = "INGESTGW_" + setting
	}
	return s.start(ctx, stack.IngestgwSpec(name, s.gateway, env...))
}

// admin is the base URL of a gateway's listener for operators.
func admin(gateway *stack.Process) string { return "http://" + gateway.AddrOf("admin") }

// drained returns when a gateway has forwarded all that it has.
func drained(ctx context.Context, gateway *stack.Process) error {
	const blocks = "ingestgw_forward_uncommitted_blocks"
	return eventually(ctx, 10*time.Minute, func() error {
		p, err := readPage(ctx, admin(gateway)+"/metrics", named(blocks))
		if err != nil {
			return err
		}
		if n := p.sum(blocks); n > 0 || len(p) == 0 {
			return fmt.Errorf("%s still has %v blocks to forward", gateway.Name(), n)
		}
		return nil
	})
}

// inBackground runs something until stop is called, which returns how it ended. stop has to be called once.
func inBackground(ctx context.Context, run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }() // ends with stop, or ctx
	return func() error {
		cancel()
		return <-ended
	}
}

// eventually tries until it gets no error, and returns the last one when the time is over.
func eventually(ctx context.Context, within time.Duration, try func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// pause returns earlier when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// list splits "a,b".
func list(text string) []string {
	return slices.DeleteFunc(strings.Split(text, ","), func(s string) bool { return s == "" })
}
