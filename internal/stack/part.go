package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// A Part is what is installed in exactly one version: a program, from its Go module, Kafka's jars, by Maven, or a script, by npm. Only
// the browser is of the version that the machine or its Debian has.
type Part string

// The parts. Their versions stand in Module and nowhere else.
const (
	Vminsert     Part = "vminsert"
	Vmstorage    Part = "vmstorage"
	Vmselect     Part = "vmselect"
	Vmagent      Part = "vmagent"
	Prometheus   Part = "prometheus"
	Alertmanager Part = "alertmanager"
	KafkaJars    Part = "kafka"
	Chromium     Part = "chromium"
	AxeCore      Part = "axe-core" // a script that looks for what keeps people from using a page
	GolangciLint Part = "golangci-lint"
)

// Servers are the parts that tests need.
func Servers() []Part {
	return []Part{Vmstorage, Vminsert, Vmselect, Vmagent, Prometheus, Alertmanager, KafkaJars, Chromium, AxeCore}
}

// Module is the main package that a part is built from and the version of its module; for Kafka, Maven's name of the broker, for
// axe-core npm's, and for Chromium Debian's.
func (p Part) Module() (pkg, version string, err error) {
	const (
		victoria     = "github.com/VictoriaMetrics/VictoriaMetrics/app/"
		cluster      = "v1.100.0-cluster" // the newest cluster version that the public module proxy serves
		vmagent      = "v1.151.0"         // the newest that builds with Go 1.26
		prometheus   = "v0.316.0"
		alertmanager = "v0.31.1" // later ones embed a page that their modules lack
		kafka        = "4.4.0"
		axe          = "4.14.1"
		lint         = "v2.15.0"
	)
	switch p {
	case Vminsert, Vmstorage, Vmselect:
		return victoria + string(p), cluster, nil
	case Vmagent:
		return victoria + string(p), vmagent, nil
	case Prometheus:
		return "github.com/prometheus/prometheus/cmd/prometheus", prometheus, nil
	case Alertmanager:
		return "github.com/prometheus/alertmanager/cmd/alertmanager", alertmanager, nil
	case KafkaJars:
		return "org.apache.kafka:kafka_2.13", kafka, nil
	case Chromium:
		return "chromium", "installed", nil
	case AxeCore:
		return "axe-core", axe, nil
	case GolangciLint:
		return "github.com/golangci/golangci-lint/v2/cmd/golangci-lint", lint, nil
	}
	return "", "", fmt.Errorf("%q is no part of the stack", string(p))
}

// Installed is where a part's program, or the folder of Kafka's jars, lies once Install has put it there: below the user's cache
// folder, named by version, so that several versions and several checkouts get on with each other.
func (p Part) Installed() (string, error) {
	_, version, err := p.Module()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder for %s: %w", p, err)
	}
	return filepath.Join(cache, "ingestgw", string(p)+"-"+version, string(p)), nil
}

// Install returns the path that Installed tells, and sees to it that the part is there. `go install` takes from half a minute (the
// VictoriaMetrics parts) to nine minutes (Prometheus) on two cores, once; Maven fetches Kafka in ten seconds. Kafka needs Java:
// where that, Maven, npm or Chromium is missing, Debian's packages of it are installed when we may do that. say, which may be nil, is
// told before any of this begins. Any number of processes may install at the same time: one does it, the others wait for it.
func Install(ctx context.Context, p Part, say func(string)) (string, error) {
	path, err := p.Installed()
	if err != nil {
		return "", err
	}
	if p.usable(ctx, path) {
		return path, nil
	}
	if say == nil {
		say = func(string) {}
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("install %s: %w", p, err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return "", fmt.Errorf("install %s: %w", p, err)
	}
	defer unlock()
	if p.usable(ctx, path) { // somebody else was quicker
		return path, nil
	}
	if err := p.put(ctx, path, say); err != nil {
		return "", fmt.Errorf("install %s: %w", p, err)
	}
	return path, nil
}

// put puts the part at path.
func (p Part) put(ctx context.Context, path string, say func(string)) error {
	switch p {
	case KafkaJars:
		return fetch(ctx, p, path, say)
	case Chromium:
		return findChromium(ctx, path, say)
	case AxeCore:
		return unpackScript(ctx, p, path, say)
	}
	return build(ctx, p, path, say)
}

// usable is whether the part can be run as it is.
func (p Part) usable(ctx context.Context, path string) bool {
	if _, err := os.Stat(path); err != nil {
		return false
	}
	return p != KafkaJars || findJava(ctx) == nil
}

// build makes the program with `go install` at path.
func build(ctx context.Context, p Part, path string, say func(string)) error {
	pkg, version, err := p.Module()
	if err != nil {
		return err
	}
	return inPlace(path, func(tmp string) (string, error) {
		say(fmt.Sprintf("go install %s@%s", pkg, version))
		cmd := exec.CommandContext(ctx, "go", "install", pkg+"@"+version)
		cmd.Dir = tmp // outside of every module
		cmd.Env = append(os.Environ(), "GOBIN="+tmp, "GOFLAGS=-mod=mod -buildvcs=false", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go install %s@%s: %w\n%s", pkg, version, err, tail(out))
		}
		return string(p), nil
	})
}

// inPlace lets make work in a folder of its own beside path and renames what it names there to path, so that path is never half made.
func inPlace(path string, make func(tmp string) (made string, err error)) error {
	tmp, err := os.MkdirTemp(filepath.Dir(path), "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	made, err := make(tmp)
	if err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, made), path)
}

// lock waits until path is locked by nobody else and locks it. The kernel gives the lock back when the process dies.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for another process that installs it: %w", ctx.Err())
		}
	}
}

// GoBuild builds a main package of this module (such as "./cmd/ingestgw", relative to dir) as out. flags go to `go build`,
// such as "-race".
func GoBuild(ctx context.Context, dir, pkg, out string, flags ...string) error {
	args := append([]string{"build", "-o", out}, flags...)
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = dir
	if msg, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", pkg, err, tail(msg))
	}
	return nil
}

// tailSize is how much of what a program has printed is shown, in bytes.
const tailSize = 4 << 10

// tail is the last tailSize bytes of b, from the start of a line when b is longer.
func tail(b []byte) []byte {
	if len(b) <= tailSize {
		return b
	}
	b = b[len(b)-tailSize:]
	for i, c := range b {
		if c == '\n' {
			return b[i+1:]
		}
	}
	return b
}
