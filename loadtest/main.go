// Command loadtest offers load by remote-write and checks that nothing that was acknowledged was lost.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// A command is one of the things that loadtest does.
type command struct {
	name, does string
	run        func(ctx context.Context, args []string, out io.Writer) error
}

func commands() []command {
	return []command{
		{"send", "send numbered samples of many tenants at a kept rate", send},
		{"verify", "read everything back and list what is missing, doubled, changed, or under a wrong tenant", check},
		{"compare", "show what many small tenants cost vminsert when their samples are packed, and when they are not", compare},
		{"tenants", "show what very many tenants cost ingestgw: memory, CPU, and reading their file", tenants},
		{"flood", "show what others see while one tenant sends many times its limit", floodOthers},
		{"sink", "take everything that a gateway forwards, answer 204, and count it", sink},
	}
}

func main() {
	// SIGPIPE: whoever read the output has gone, such as head. All of them let the servers be ended first.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit status: 0, 1 when something is wrong or missing, 2 when the command line is.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return status(c.run(ctx, args[1:], out), errOut)
			}
		}
	}
	fmt.Fprintln(errOut, "usage: loadtest <command> [flags]   (loadtest <command> -help lists the flags)")
	for _, c := range commands() {
		fmt.Fprintf(errOut, "  %-7s %s\n", c.name, c.does)
	}
	if len(args) > 0 && (args[0] == "help" || args[0] == "-help" || args[0] == "-h") {
		return 0
	}
	return 2
}

func status(err error, errOut io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	fmt.Fprintln(errOut, "loadtest:", err)
	return 1
}

// errUsage is about the command line; the flag package has said already what is wrong with it.
var errUsage = errors.New("wrong usage")

// newFlags is a command's, which says on -help what the command does.
func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet("loadtest "+name, flag.ContinueOnError)
	flags.Usage = func() {
		for _, c := range commands() {
			if c.name == name {
				fmt.Fprintf(flags.Output(), "loadtest %s: %s\n", name, c.does)
			}
		}
		flags.PrintDefaults()
	}
	return flags
}

// parse reads the flags of a command, which takes no other arguments.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "unexpected argument %q\n", flags.Arg(0))
		return errUsage
	}
	return nil
}
