package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/crowd"
	"github.com/ingestgw/ingestgw/loadtest/roster"
)

// A census measures what very many tenants cost an ingestgw: memory for each that sends, CPU for a sample against the same load of
// one tenant, and the time to read a file with all of them. What it forwards to takes everything and costs nothing.
//
//	the same requests, of one tenant     ──▶ ingestgw ──▶ drain
//	                   of many tenants   ──▶ ingestgw ──▶
//
// The two gateways are measured in turn, so that what else the machine does hits both.
type census struct {
	*scene
	crowd  crowd.Config
	rounds int
	window int // requests in one measurement
	drain  *drain
}

func tenants(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("tenants")
	c := &census{scene: newScene(out, flags), crowd: crowd.Config{FirstAccount: 1, Metric: "loadtest_tenants"}}
	flags.IntVar(&c.crowd.Tenants, "tenants", 500_000, "number of tenants")
	flags.IntVar(&c.crowd.Series, "series", 10, "series per tenant; a request brings one sample of each")
	flags.IntVar(&c.crowd.Labels, "labels", 12, "labels per series")
	flags.IntVar(&c.crowd.Bodies, "bodies", 20_000, "different requests, which tenants share; 0: one for each tenant")
	flags.IntVar(&c.crowd.Connections, "connections", 64, "connections that the tenants share")
	flags.IntVar(&c.rounds, "rounds", 5, "how often CPU is measured")
	flags.IntVar(&c.window, "requests", 100_000, "requests in one measurement of CPU")
	modes := flags.String("modes", "path,file", "`modes`: the tenant in the path, or bearer tokens that a file knows")
	if err := parse(flags, args); err != nil {
		return err
	}
	if c.rounds < 1 || c.window < 1 {
		return errors.New("tenants: want at least one round and one request")
	}
	return c.play(ctx, func(ctx context.Context) error { return c.run(ctx, list(*modes)) })
}

func (c *census) run(ctx context.Context, modes []string) (err error) {
	if c.drain, err = openDrain("127.0.0.1:0"); err != nil {
		return err
	}
	stop := inBackground(ctx, c.drain.serve)
	defer func() { err = errors.Join(err, stop()) }()
	for _, mode := range modes {
		if err := c.measure(ctx, mode); err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
	}
	return nil
}

// A side is one of the two gateways, and who sends to it.
type side struct {
	gateway *stack.Process
	senders *crowd.Crowd
	cpu     []float64 // microseconds per sample
}

func (c *census) measure(ctx context.Context, mode string) error {
	settings := []string{"FORWARD_URLS=" + c.drain.url(), "FORWARD_SETTLE=0s"}
	crowdOf := c.crowd
	file := filepath.Join(c.dir, "tenants.yml")
	switch mode {
	case "path":
	case "file":
		if err := c.writeRoster(file, 0); err != nil {
			return err
		}
		crowdOf.Token = func(i int) string { return token(i, 0) }
		// Reading it again, which is measured, is asked for.
		settings = append(settings, "TENANT_MODE=file", "TENANT_FILE="+file, "TENANT_FILE_INTERVAL=0s")
	default:
		return errors.New("want path or file")
	}
	fmt.Fprintf(c.out, "\n%d tenants of %d series of %d labels, named by %s\n", c.crowd.Tenants, c.crowd.Series, c.crowd.Labels, mode)
	many, err := c.startSide(ctx, mode+"-many", crowdOf, settings)
	if err != nil {
		return err
	}
	defer many.senders.Close()
	if err := c.measureMemory(ctx, many); err != nil {
		return err
	}
	crowdOf.Alone = true
	one, err := c.startSide(ctx, mode+"-one", crowdOf, settings)
	if err != nil {
		return err
	}
	defer one.senders.Close()
	if err := c.measureCPU(ctx, one, many); err != nil {
		return err
	}
	one.gateway.Kill()
	if mode == "file" {
		err = c.measureReload(ctx, many, file)
	}
	many.gateway.Kill()
	return err
}

// startSide starts a gateway and sends enough of the first tenant's requests that connections, pools and the heap have their size.
func (c *census) startSide(ctx context.Context, name string, cfg crowd.Config, settings []string) (*side, error) {
	began := time.Now()
	gateway, err := c.startGateway(ctx, name, settings...)
	if err != nil {
		return nil, err
	}
	if cfg.Token != nil {
		fmt.Fprintf(c.out, "ready %s after the start, with the file read\n", time.Since(began).Round(time.Millisecond))
	}
	first := cfg
	first.Alone = true
	warm, err := crowd.New(first)
	if err != nil {
		return nil, err
	}
	defer warm.Close()
	s := &side{gateway: gateway, senders: warm}
	if err := s.send(ctx, c.window); err != nil {
		return nil, err
	}
	if s.senders, err = crowd.New(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// send returns when so many requests are answered and all samples are forwarded.
func (s *side) send(ctx context.Context, requests int) error {
	report, err := s.senders.Send(ctx, s.gateway.URL(), requests)
	if err == nil {
		err = report.AllAccepted()
	}
	if err == nil {
		err = drained(ctx, s.gateway)
	}
	return err
}

// spend returns the CPU that a gateway takes for requests, in microseconds per sample.
func (s *side) spend(ctx context.Context, requests, samples int) (float64, error) {
	before, err := s.gateway.Usage()
	if err != nil {
		return 0, err
	}
	if err := s.send(ctx, requests); err != nil {
		return 0, err
	}
	after, err := s.gateway.Usage()
	return float64((after.CPU - before.CPU).Microseconds()) / float64(samples), err
}

// memory is what a gateway holds right after a garbage collection, in bytes.
type memory struct{ heap, rss float64 }

func (c *census) memory(ctx context.Context, gateway *stack.Process) (memory, error) {
	heap, err := heapOf(ctx, gateway)
	if err != nil {
		return memory{}, err
	}
	used, err := gateway.Usage()
	return memory{heap, float64(used.RSS)}, err
}

// measureMemory lets every tenant send once and tells what that has left behind.
func (c *census) measureMemory(ctx context.Context, s *side) error {
	before, err := c.memory(ctx, s.gateway)
	if err != nil {
		return err
	}
	cpu, err := s.spend(ctx, c.crowd.Tenants, c.crowd.Tenants*c.crowd.Series)
	if err != nil {
		return err
	}
	after, err := c.memory(ctx, s.gateway)
	if err != nil {
		return err
	}
	each := func(b, a float64) float64 { return (a - b) / float64(c.crowd.Tenants) }
	const mib = 1 << 20
	fmt.Fprintf(c.out, "heap %.0f MiB before, %.0f MiB once all have sent: %.0f bytes per active tenant\n",
		before.heap/mib, after.heap/mib, each(before.heap, after.heap))
	fmt.Fprintf(c.out, "RSS  %.0f MiB before, %.0f MiB once all have sent: %.0f bytes per active tenant\n",
		before.rss/mib, after.rss/mib, each(before.rss, after.rss))
	if c.crowd.Tenants < 100_000 {
		fmt.Fprintln(c.out, "(what comes and goes is some 10 MiB, so this says little with fewer than 100000 tenants)")
	}
	fmt.Fprintf(c.out, "the first request of every tenant: %.2f µs of CPU per sample\n", cpu)
	return nil
}

// measureCPU compares the same load of one and of many tenants, all of which have sent before.
func (c *census) measureCPU(ctx context.Context, one, many *side) error {
	for range c.rounds {
		for _, s := range []*side{one, many} {
			cpu, err := s.spend(ctx, c.window, c.window*c.crowd.Series)
			if err != nil {
				return err
			}
			s.cpu = append(s.cpu, cpu)
		}
	}
	var ratio []float64
	for i := range one.cpu {
		ratio = append(ratio, many.cpu[i]/one.cpu[i])
	}
	table := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "%d rounds of %d requests\tµs of CPU per sample\tof one tenant's\t\n", c.rounds, c.window)
	fmt.Fprintf(table, "one tenant\t%s\t%s\t\n", spread(one.cpu), spread([]float64{1}))
	fmt.Fprintf(table, "%d tenants\t%s\t%s\t\n", c.crowd.Tenants, spread(many.cpu), spread(ratio))
	return table.Flush()
}

// measureReload asks for the file to be read again: as it is, and when each hundredth tenant has another token, which then counts.
func (c *census) measureReload(ctx context.Context, s *side, file string) error {
	for _, version := range []int{0, 1} {
		if err := c.writeRoster(file, version); err != nil {
			return err
		}
		began := time.Now()
		if err := post(ctx, admin(s.gateway)+"/-/reload"); err != nil {
			return fmt.Errorf("read the file again: %w", err)
		}
		took := time.Since(began)
		what := "unchanged"
		if version > 0 {
			what = "with one tenant in a hundred changed"
		}
		fmt.Fprintf(c.out, "file of %d tenants read again, %s: %s\n", c.crowd.Tenants, what, took.Round(time.Millisecond))
	}
	fresh := c.crowd
	fresh.Token = func(i int) string { return token(i, 1) }
	senders, err := crowd.New(fresh)
	if err != nil {
		return err
	}
	defer senders.Close()
	report, err := senders.Send(ctx, s.gateway.URL(), min(1000, c.crowd.Tenants))
	if err == nil {
		err = report.AllAccepted()
	}
	if err != nil {
		return fmt.Errorf("with the tokens of the new file: %w", err)
	}
	return nil
}

// token is the i-th tenant's. A hundredth of them have another one in the next version of the file.
func token(i, version int) string {
	if i%100 != 0 {
		version = 0
	}
	return "the-secret-of-" + strconv.Itoa(i) + "-" + strconv.Itoa(version)
}

// wide is a plan that nobody exceeds and that asks for everything to be counted.
var wide = map[string]roster.Limits{"wide": {
	"samples_per_second": 1e8, "bytes_per_second": 1e11, "requests_per_second": 1e7, "active_series": 1e8, "concurrent_requests": 1000,
}}

func (c *census) writeRoster(path string, version int) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	err = roster.Write(f, wide, func(yield func(roster.Tenant) bool) {
		for i := range c.crowd.Tenants {
			if !yield(roster.Tenant{ID: fmt.Sprintf("%d:0", c.crowd.FirstAccount+i), Plan: "wide", Credentials: roster.Bearer(token(i, version))}) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// heapOf is the bytes of live objects, after a garbage collection for which the profile asks.
func heapOf(ctx context.Context, gateway *stack.Process) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, admin(gateway)+"/debug/pprof/heap?gc=1&debug=1", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+operatorsToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("\n# HeapAlloc = "))
	number, _, _ := bytes.Cut(rest, []byte("\n"))
	heap, err := strconv.ParseFloat(string(number), 64)
	if err != nil {
		return 0, fmt.Errorf("the heap profile says nothing of HeapAlloc: %w", err)
	}
	return heap, nil
}

// post asks a gateway to do something, as its operator.
func post(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+operatorsToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		return fmt.Errorf("POST %s: %s: %s", url, resp.Status, text)
	}
	return nil
}
