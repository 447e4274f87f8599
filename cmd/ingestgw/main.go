// Command ingestgw receives Prometheus remote-write for many tenants, buffers it, and forwards it to vminsert.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/ingestgw/ingestgw/internal/logs"
	"github.com/ingestgw/ingestgw/internal/settings"

	"github.com/ingestgw/ingestgw/alarm"
)

// What the process exits with.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `ingestgw receives Prometheus remote-write for many tenants, buffers it, and forwards it to vminsert.

usage:
  ingestgw                    serve
  ingestgw config             print every setting with its meaning, default and current value
  ingestgw config -markdown   print the reference of all settings as Markdown
  ingestgw alarms -markdown   print the list of all alarms as Markdown
  ingestgw check              check the settings, and reach everything they name once
  ingestgw status             print how a process that runs is, and what is wrong (-watch, -json, -url, -socket)
  ingestgw version            print the version
  ingestgw help               print this

Settings are environment variables that begin with INGESTGW_. SIGTERM stops in good order, SIGHUP reads the tenants again.
`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: its arguments, where it prints, where it logs and complains, and what it exits with.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "status" {
		return statusCommand(args[1:], stdout, stderr)
	}
	switch strings.Join(args, " ") {
	case "":
		if len(args) == 0 {
			return serveCommand(stderr)
		}
	case "config":
		return configCommand(stdout, stderr)
	case "config -markdown", "config --markdown":
		return markdownCommand(stdout, stderr)
	case "alarms -markdown", "alarms --markdown":
		say(stdout, "%s", alarm.Markdown())
		return exitOK
	case "check":
		return checkCommand(stdout)
	case "version":
		say(stdout, "ingestgw %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return exitOK
	case "help", "-h", "-help", "--help":
		say(stdout, "%s", usage)
		return exitOK
	}
	say(stderr, "ingestgw: unknown command %q\n\n%s", args, usage)
	return exitUsage
}

// say prints; there is nobody to tell when that fails.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

func serveCommand(stderr io.Writer) int {
	cfg, err := load()
	if err != nil {
		sayErrors(stderr, err)
		return exitFailed
	}
	log, end := logs.New(cfg.Log, stderr)
	defer end()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	// Runs as long as the process: a second signal, or the end of the time, has to end it whatever it is busy with.
	go func() {
		log.Info("stopping: the next signal ends the process at once", "signal", (<-signals).String())
		stop()
		select {
		case s := <-signals:
			log.Error("ended by a second signal before the stop was complete", "signal", s.String())
		case <-time.After(cfg.Shutdown.Timeout):
			log.Error("ended before the stop was complete, as INGESTGW_SHUTDOWN_TIMEOUT is over", "timeout", cfg.Shutdown.Timeout)
		}
		end()
		os.Exit(exitFailed)
	}()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	if err := serve(ctx, cfg, log, reload); err != nil {
		log.Error("ingestgw failed", "err", err)
		return exitFailed
	}
	log.Info("stopped")
	return exitOK
}

// sayErrors prints what is wrong with the settings, one per line.
func sayErrors(w io.Writer, err error) {
	say(w, "ingestgw: the settings are wrong (ingestgw config describes them):\n")
	for _, one := range settings.Flatten(err) {
		say(w, "  %v\n", one)
	}
}

func configCommand(stdout, stderr io.Writer) int {
	cfg, wrong := load()
	if err := settings.Print(stdout, settings.Describe(prefix, cfg.groups()...)); err != nil {
		say(stderr, "ingestgw: print the settings: %v\n", err)
		return exitFailed
	}
	sayMemory(stdout, cfg)
	if wrong != nil {
		sayErrors(stderr, wrong)
		return exitFailed
	}
	return exitOK
}

func markdownCommand(stdout, stderr io.Writer) int {
	cfg := new(config)
	say(stdout, "%s", markdownHead)
	if err := settings.Markdown(stdout, settings.Describe(prefix, cfg.groups()...)); err != nil {
		say(stderr, "ingestgw: print the settings: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// release is what `make build` calls the build. The linker sets it (-ldflags "-X main.release=v1.2.3").
var release string

// version is what the build calls itself: the release, else the module's version, or what the Go command makes of the commit.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}
