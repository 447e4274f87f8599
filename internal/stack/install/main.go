// Command install installs parts of the stack and prints where they are, one path per line. Without arguments it installs all
// servers that the tests need.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/ingestgw/ingestgw/internal/stack"
)

func main() {
	if err := install(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func install(names []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	parts := stack.Servers()
	if len(names) > 0 {
		parts = nil
		for _, name := range names {
			parts = append(parts, stack.Part(name))
		}
	}
	for _, p := range parts {
		path, err := stack.Install(ctx, p, func(s string) { fmt.Fprintln(os.Stderr, s) })
		if err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}
