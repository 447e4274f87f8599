package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/settings"
)

// answerTimeout is how long each request of a check may take. A healthy server answers within milliseconds.
const answerTimeout = 10 * time.Second

// A check reaches everything that the settings name, once, and says per line what it found. It changes nothing, but for one
// sample that it writes when there are vmselects to read it from.
type check struct {
	cfg      *config
	out      io.Writer
	log      *slog.Logger // for the parts that want one
	resolver *downstream.Resolver
	gateway  *http.Client // for the ingestgw on this machine
	running  bool         // there is one

	credentials *downstream.Credentials // for vminsert and vmstorage
	anonymous   *downstream.Credentials // for vmselect: no more than what certificates to trust

	failures, warnings int
}

func checkCommand(stdout io.Writer) int {
	c := &check{out: stdout, log: slog.New(slog.DiscardHandler)} // the lines say it all
	cfg, err := load()
	if err != nil {
		for _, one := range settings.Flatten(err) {
			c.fail("settings", "%v", one)
		}
		return exitFailed
	}
	c.cfg = cfg
	c.ok("settings", "all valid")
	c.run(context.Background())
	say(stdout, "%d failed, %d to look at\n", c.failures, c.warnings)
	if c.failures > 0 {
		return exitFailed
	}
	return exitOK
}

// run checks in the direction in which samples flow.
func (c *check) run(ctx context.Context) {
	c.gateway = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, // it is this machine, under another name
	}}
	c.running = c.gatewayRuns(ctx)
	c.checkMemory()
	c.checkListeners()
	c.checkOperators()
	c.checkAlarms(ctx)
	if c.cfg.Process.receives() {
		c.checkTenants(ctx)
	}
	if c.cfg.Process.Buffer == bufferKafka {
		c.checkKafka(ctx)
	} else {
		c.checkBuffer()
	}
	if !c.loadCredentials() {
		return
	}
	c.resolver = downstream.NewResolver(nil, c.log, prometheus.NewRegistry())
	var inserts []target
	if c.cfg.Process.forwards() { // else they are for those to check that forward
		inserts = c.checkInserts(ctx)
		c.checkStorages(ctx, inserts)
	}
	c.checkSample(ctx, inserts)
}

func (c *check) loadCredentials() bool {
	var errs []error
	var err error
	if c.cfg.Process.forwards() {
		c.credentials, err = downstream.LoadCredentials(c.cfg.Forward.ClientConfig, c.log)
		errs = append(errs, err)
	}
	if len(c.cfg.Vmselect.URLs) > 0 {
		c.anonymous, err = selectCredentials(c.cfg, c.log)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		c.failAll("credentials", err)
		return false
	}
	return true
}

// selectCredentials are for vmselects: they get no more than what their URL holds.
func selectCredentials(cfg *config, log *slog.Logger) (*downstream.Credentials, error) {
	return downstream.LoadCredentials(downstream.ClientConfig{TLS: cfg.Forward.TLS}, log)
}

func (c *check) ok(what, format string, args ...any) { c.line("ok", what, format, args...) }
func (c *check) warn(what, format string, args ...any) {
	c.warnings++
	c.line("warn", what, format, args...)
}
func (c *check) fail(what, format string, args ...any) {
	c.failures++
	c.line("FAIL", what, format, args...)
}

// failAll is fail for each of the errors that err joins.
func (c *check) failAll(what string, err error) {
	for _, one := range settings.Flatten(err) {
		c.fail(what, "%v", one)
	}
}

func (c *check) line(verdict, what, format string, args ...any) {
	say(c.out, "%-4s  %s: %s\n", verdict, what, fmt.Sprintf(format, args...))
}

// reason is what went wrong with a request, without the URL that net/http puts before it, which may hold secrets.
func reason(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %s", answerTimeout)
	}
	return err
}

// A doer sends requests: an http.Client, or a downstream.Client.
type doer interface {
	Do(*http.Request) (*http.Response, error)
}

// ask sends a request and returns status and body, of which at most a mebibyte is read.
func ask(ctx context.Context, client doer, method string, u *url.URL, header http.Header, body io.Reader) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return 0, nil, errors.New("the URL cannot be requested")
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, reason(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("read the answer: %w", reason(err))
	}
	return resp.StatusCode, answer, nil
}

// answered is a status with what fits into a line of the text that came with it.
func answered(status int, text []byte) string {
	const most = 600 // VictoriaMetrics says first where it was asked what by whom
	line, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
	return strings.TrimSpace(fmt.Sprintf("%d %s", status, line[:min(len(line), most)]))
}
