package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/ingestgw/ingestgw/status"
)

const (
	// askTimeout is how long a process that runs may take to say how it is.
	askTimeout = 10 * time.Second
	// watchEvery is how often ingestgw status -watch asks.
	watchEvery = 2 * time.Second
	// maxStatus bounds what is read of an answer.
	maxStatus = 64 << 20
	// clearScreen puts the cursor to the top and clears the terminal.
	clearScreen = "\x1b[H\x1b[2J"
)

// A look is what ingestgw status is to do.
type look struct {
	base   string // such as http://127.0.0.1:8482
	socket string // instead of base
	watch  bool
	json   bool
}

// statusCommand prints how a process that runs is. It exits with 0 if that is well enough for nobody to have to get up.
func statusCommand(args []string, stdout, stderr io.Writer) int {
	l, err := parseLook(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		say(stderr, "ingestgw status: %v\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	colour := !l.json && isTerminal(stdout)
	for {
		code := l.once(ctx, stdout, stderr, colour)
		if !l.watch {
			return code
		}
		select {
		case <-time.After(watchEvery):
		case <-ctx.Done():
			return code
		}
	}
}

// parseLook reads the arguments. What they leave open, the settings say.
func parseLook(args []string, stderr io.Writer) (look, error) {
	var l look
	flags := flag.NewFlagSet("ingestgw status", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&l.base, "url", "", "base `URL` of a process's listener for operators (default: INGESTGW_ADMIN_SOCKET if set, else this machine at the port of INGESTGW_ADMIN_LISTEN)")
	flags.StringVar(&l.socket, "socket", "", "`path` of its unix socket, instead of -url")
	flags.BoolVar(&l.watch, "watch", false, "go on until Ctrl-C, every 2 s")
	flags.BoolVar(&l.json, "json", false, "print what /api/v1/status answers")
	if err := flags.Parse(args); err != nil {
		return look{}, err
	}
	if flags.NArg() > 0 {
		return look{}, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if l.base != "" && l.socket != "" {
		return look{}, errors.New("-url and -socket are given: want one of them")
	}
	if l.base == "" && l.socket == "" {
		cfg, _ := load() // what is wrong with other settings is not to be found out here
		l.socket, l.base = cfg.Admin.Socket, localURL(string(cfg.Admin.Listen))
	}
	if l.socket != "" {
		l.base = "http://socket"
	}
	return l, nil
}

// localURL is where a process on this machine answers that listens at an address.
func localURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || port == "" || port == "0" {
		port = "8482"
	}
	if unspecified(host) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// once asks and prints.
func (l look) once(ctx context.Context, stdout, stderr io.Writer, colour bool) int {
	text, err := l.ask(ctx)
	if err != nil {
		if ctx.Err() == nil {
			say(stderr, "ingestgw status: %v\n", err)
		}
		return exitFailed
	}
	var st status.Status
	if err := json.Unmarshal(text, &st); err != nil {
		say(stderr, "ingestgw status: %s answers something else than a status, as another version may: %v\n", l.where(), err)
		return exitFailed
	}
	var out bytes.Buffer
	if l.json {
		out.Write(text)
	} else {
		if l.watch && colour {
			out.WriteString(clearScreen)
		}
		_ = status.Print(&out, &st, colour) // into memory
	}
	say(stdout, "%s", out.Bytes())
	if !st.Healthy {
		return exitFailed
	}
	return exitOK
}

func (l look) where() string {
	if l.socket != "" {
		return l.socket
	}
	return l.base
}

// ask returns what the process says of itself.
func (l look) ask(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if l.socket != "" {
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.socket)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(l.base, "/")+"/api/v1/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the process at %s (-url and -socket name another): %w", l.where(), err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, fmt.Errorf("read what %s answers: %w", l.where(), err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s: %.200s", l.where(), resp.Status, text)
	}
	return text, nil
}

// isTerminal says whether somebody looks at w, rather than a file or a program.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
