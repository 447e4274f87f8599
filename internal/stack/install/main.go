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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	parts := stack.Servers()
	if len(os.Args) > 1 {
		parts = nil
		for _, name := range os.Args[1:] {
			parts = append(parts, stack.Part(name))
		}
	}
	say := func(s string) { fmt.Fprintln(os.Stderr, s) }
	for _, p := range parts {
		path, err := stack.Install(ctx, p, say)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(path)
	}
}
