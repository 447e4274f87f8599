package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Spec says how a server is started. In Args, Env, Files and Ready, "{name}" stands for the address that Listen gives that name,
// and "{dir}" for Dir.
type Spec struct {
	// Name tells the process from others in errors and names its log, such as "vminsert-0".
	Name string
	// Part is what to run, installed when needed; or Binary is the path of a program.
	Part   Part
	Binary string
	// Args and Env (KEY=VALUE) are the program's. Of the parent's environment it sees only PATH, HOME and TMPDIR.
	Args, Env []string
	// Listen names the addresses that the program listens at. "" is any free port of Host, anything else is the address that
	// is wished for; when somebody has it, any free port of that host. "http" is what Addr and URL return.
	Listen map[string]string
	// Dir is the program's working folder. It is made when needed and is kept. The log lies beside it, as <Dir>.log.
	Dir string
	// Files are written into Dir before each start.
	Files map[string]string
	// Ready is a URL that answers 200 once the program works. Empty: it works once its process runs.
	Ready string
	// Answers, when not nil, is asked in place of Ready, for a program that does not speak HTTP; nil is its answer once it works.
	Answers func(context.Context, *Process) error
	// ReadyWithin bounds the wait for Ready or Answers. 0 is a minute.
	ReadyWithin time.Duration
	// StopStatus is the exit status of a program that SIGTERM has ended in order. A JVM always ends with 143.
	StopStatus int
	// Say, when not nil, is told what takes long: that a part is being installed.
	Say func(string)
}

// A Process is a server that has been started, and that may have ended since. Its methods are safe for concurrent use, but
// starting and ending it is for one goroutine at a time.
type Process struct {
	spec  Spec
	ports map[string]*port

	mu  sync.Mutex
	run *run // the newest one
}

// run is one life of a Process.
type run struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // how; to be read after ended
}

// Launch starts a server and returns when it is ready. The caller ends it with Kill or Stop, and gives its ports back with Close.
func Launch(ctx context.Context, spec Spec) (*Process, error) {
	p, err := prepare(ctx, spec)
	if err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// prepare is Launch without the start: the program is installed and the addresses are known.
func prepare(ctx context.Context, spec Spec) (*Process, error) {
	if spec.Binary == "" {
		path, err := Install(ctx, spec.Part, spec.Say)
		if err != nil {
			return nil, err
		}
		spec.Binary = path
	}
	dir, err := filepath.Abs(spec.Dir)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	spec.Dir = dir
	p := &Process{spec: spec, ports: map[string]*port{}}
	if err := p.takePorts(); err != nil {
		p.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return p, nil
}

func (p *Process) takePorts() error {
	for name, wish := range p.spec.Listen {
		if wish == "" {
			wish = Host() + ":0"
		}
		taken, err := takePort(wish)
		if err != nil {
			host, _, split := net.SplitHostPort(wish)
			if split != nil {
				return split
			}
			if taken, err = takePort(net.JoinHostPort(host, "0")); err != nil {
				return err
			}
		}
		p.ports[name] = taken
	}
	return nil
}

// start begins a new life and waits until it is ready.
func (p *Process) start(ctx context.Context) error {
	fill := p.filler()
	if err := p.writeFiles(fill); err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	log, err := os.OpenFile(p.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.spec.Binary, fillAll(fill, p.spec.Args)...)
	cmd.Dir, cmd.Env = p.spec.Dir, append(environment(), fillAll(fill, p.spec.Env)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes()
	r, err := begin(cmd)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	p.mu.Lock()
	p.run = r
	p.mu.Unlock()
	if err := p.awaitReady(ctx, r); err != nil {
		p.Kill()
		return fmt.Errorf("start %s: %w\n%s", p.spec.Name, err, p.Log())
	}
	return nil
}

// begin starts cmd and waits for its end in a goroutine of its own, which ends with the child. The goroutine keeps its thread,
// because the child dies with the thread that started it.
func begin(cmd *exec.Cmd) (*run, error) {
	r := &run{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			r.err = cmd.Wait()
			close(r.ended)
		}
	}()
	return r, <-started
}

func (p *Process) awaitReady(ctx context.Context, r *run) error {
	answers := p.spec.Answers
	if answers == nil {
		if p.spec.Ready == "" {
			return nil
		}
		url := p.filler().Replace(p.spec.Ready)
		answers = func(ctx context.Context, _ *Process) error { return answersOK(ctx, url) }
	}
	within := p.spec.ReadyWithin
	if within == 0 {
		within = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := answers(ctx, p)
		if err == nil {
			return nil
		}
		select {
		case <-r.ended:
			return fmt.Errorf("it ended before it was ready: %w", ending(r.err))
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", within, err)
		case <-tick.C:
		}
	}
}

// ending is err, or says that there was none.
func ending(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

func answersOK(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}

func (p *Process) writeFiles(fill *strings.Replacer) error {
	if err := os.MkdirAll(p.spec.Dir, 0o755); err != nil {
		return err
	}
	for name, text := range p.spec.Files {
		if err := os.WriteFile(filepath.Join(p.spec.Dir, name), []byte(fill.Replace(text)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// filler replaces the placeholders that Spec describes.
func (p *Process) filler() *strings.Replacer {
	pairs := []string{"{dir}", p.spec.Dir}
	for name, port := range p.ports {
		pairs = append(pairs, "{"+name+"}", port.addr)
	}
	return strings.NewReplacer(pairs...)
}

func fillAll(fill *strings.Replacer, texts []string) []string {
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = fill.Replace(text)
	}
	return out
}

// environment is what every child sees of ours: enough to run, nothing that changes what it does.
func environment() []string {
	var env []string
	for _, key := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+value)
		}
	}
	return env
}

// Name is the Spec's.
func (p *Process) Name() string { return p.spec.Name }

// Dir is the folder that holds the process's files.
func (p *Process) Dir() string { return p.spec.Dir }

// AddrOf is the address, "ip:port", that the process listens at under that name of Spec.Listen. It never changes.
func (p *Process) AddrOf(name string) string {
	port, ok := p.ports[name]
	if !ok {
		panic(fmt.Sprintf("stack: %s listens at %v, not at %q", p.spec.Name, slices.Sorted(maps.Keys(p.ports)), name))
	}
	return port.addr
}

// Addr is AddrOf("http").
func (p *Process) Addr() string { return p.AddrOf("http") }

// URL is "http://" and Addr.
func (p *Process) URL() string { return "http://" + p.Addr() }

func (p *Process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// PID is the process's number; after its end, the number it had.
func (p *Process) PID() int { return p.current().cmd.Process.Pid }

// Running says whether the process has not ended (it may be frozen).
func (p *Process) Running() bool {
	select {
	case <-p.Ended():
		return false
	default:
		return true
	}
}

// Ended is closed when the present life of the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.current().ended }

// Wait waits until the process has ended by itself or by a signal, and returns nil when its exit status was 0, else an
// *exec.ExitError.
func (p *Process) Wait(ctx context.Context) error {
	r := p.current()
	select {
	case <-r.ended:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of %s: %w", p.spec.Name, ctx.Err())
	}
}

// Kill ends the process with SIGKILL and returns when it is gone. A process that has ended is left alone.
func (p *Process) Kill() {
	r := p.current()
	if r == nil {
		return
	}
	_ = r.cmd.Process.Kill() // fails only when it has ended
	<-r.ended
}

// Stop asks the process to end, with SIGTERM, and returns when it is gone. The error is not nil when it does not end before ctx,
// or does not end well (an *exec.ExitError, with the last lines of the log). A frozen process is thawed first.
func (p *Process) Stop(ctx context.Context) error {
	if !p.Running() {
		return nil
	}
	_ = p.Signal(syscall.SIGCONT)
	_ = p.Signal(syscall.SIGTERM)
	if err := p.Wait(ctx); err != nil && !p.stoppedWell(err) {
		return fmt.Errorf("stop %s: %w\n%s", p.spec.Name, err, p.Log())
	}
	return nil
}

// stoppedWell is whether err, which Wait has returned, is how the program ends when it ends in order.
func (p *Process) stoppedWell(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == p.spec.StopStatus
}

// Freeze stops the process where it stands, with SIGSTOP: its connections stay open and nobody answers.
// It returns when the process stands: the signal alone only asks for that.
func (p *Process) Freeze() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !standsStill(p.PID()) {
		select {
		case <-tick.C:
		case <-p.Ended():
			return fmt.Errorf("freeze %s: it has ended", p.spec.Name)
		}
	}
	return nil
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Signal sends a signal. The error is not nil when the process has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.current().cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("send %s to %s: %w", sig, p.spec.Name, err)
	}
	return nil
}

// Restart starts the process again, with the same ports and files, and returns when it is ready. One that still runs is stopped
// first. change, which may be nil, edits the Spec, for instance its Env or Args; Name, Listen and Dir stay as they are.
func (p *Process) Restart(ctx context.Context, change func(*Spec)) error {
	if err := p.Stop(ctx); err != nil {
		return err
	}
	if change != nil {
		spec := p.spec
		spec.Args, spec.Env, spec.Files = slices.Clone(spec.Args), slices.Clone(spec.Env), maps.Clone(spec.Files)
		change(&spec)
		spec.Name, spec.Listen, spec.Dir = p.spec.Name, p.spec.Listen, p.spec.Dir
		p.spec = spec
	}
	return p.start(ctx)
}

// Close kills the process if it still runs, and gives its ports back.
func (p *Process) Close() {
	p.Kill()
	for _, port := range p.ports {
		port.release()
	}
}

// LogPath is the file that gets the output of all lives of the process.
func (p *Process) LogPath() string { return p.spec.Dir + ".log" }

// Log is the end of the output, at most 4 KiB, whole lines.
func (p *Process) Log() string {
	f, err := os.Open(p.LogPath())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-tailSize-1), io.SeekStart)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(tail(text))
}
