package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/crowd"
)

// A comparison measures what the same load of very many small tenants costs a vminsert, by the way on which it comes there:
//
//	direct     one request per tenant                        ──▶ vminsert ──▶ vmstorage
//	vmagent    vmagent, for many tenants, batches              ──▶
//	packed     ingestgw with FORWARD_PACK=true                 ──▶
//	unpacked   ingestgw with FORWARD_PACK=false                ──▶
//
// All of them in turn, again and again, to the same vminsert, so that whatever else the machine does hits all of them. Every tenant
// has been seen before anything counts: a vminsert of that version takes very long for each new one, on whatever way.
type comparison struct {
	*scene
	crowd   crowd.Config
	rounds  int
	passes  int // of all tenants in one measurement
	ways    []way
	cluster *stack.Cluster
	senders *crowd.Crowd
	reading float64 // CPU-seconds that one reading of vminsert's /metrics costs it
}

// A way is how samples get to vminsert.
type way struct {
	name, url string
	results   []cost
}

// A cost is what one measurement saw at vminsert.
type cost struct{ cpu, rows, requests, bytes float64 }

// perMillion is CPU-seconds per million samples.
func (c cost) perMillion() float64 { return c.cpu / c.rows * 1e6 }

func compare(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("compare")
	c := &comparison{scene: newScene(out, flags), crowd: crowd.Config{FirstAccount: 1000, Metric: "loadtest_compare"}}
	flags.IntVar(&c.crowd.Tenants, "tenants", 20_000, "number of tenants")
	flags.IntVar(&c.crowd.Series, "series", 10, "series per tenant; a request brings one sample of each")
	flags.IntVar(&c.crowd.Labels, "labels", 12, "labels per series")
	flags.Float64Var(&c.crowd.Rate, "rate", 50_000, "samples per second; 0: as fast as they are acknowledged")
	flags.IntVar(&c.crowd.Connections, "connections", 32, "connections that the tenants share")
	flags.IntVar(&c.rounds, "rounds", 5, "how often each way is measured")
	flags.IntVar(&c.passes, "passes", 2, "samples per series in one measurement")
	ways := flags.String("ways", "direct,vmagent,packed,unpacked", "`ways` to compare; direct has to be one of them")
	if err := parse(flags, args); err != nil {
		return err
	}
	if !slices.Contains(list(*ways), "direct") || c.rounds < 1 || c.passes < 1 {
		return errors.New("compare: want direct among the ways, and at least one round and one pass")
	}
	return c.play(ctx, func(ctx context.Context) error { return c.run(ctx, list(*ways)) })
}

func (c *comparison) run(ctx context.Context, ways []string) error {
	if err := c.prepare(ctx, ways); err != nil {
		return err
	}
	defer c.senders.Close()
	for round := range c.rounds {
		for i := range c.ways {
			if err := c.measure(ctx, &c.ways[(round+i)%len(c.ways)]); err != nil {
				return err
			}
		}
		fmt.Fprintf(c.out, "round %d of %d is done\n", round+1, c.rounds)
	}
	return c.print()
}

// prepare starts everything and sends one pass on each way, the first of them over two connections, that do not count.
func (c *comparison) prepare(ctx context.Context, ways []string) (err error) {
	if c.cluster, err = c.startCluster(ctx, stack.ClusterSpec{}); err != nil {
		return err
	}
	for _, name := range ways {
		url, err := c.startWay(ctx, name)
		if err != nil {
			return err
		}
		c.ways = append(c.ways, way{name: name, url: url})
	}
	fmt.Fprintf(c.out, "%d tenants of %d series are seen for the first time; of tens of thousands that takes minutes\n", c.crowd.Tenants, c.crowd.Series)
	first := c.crowd
	first.Connections, first.Rate = min(2, first.Connections), 0
	if c.senders, err = crowd.New(first); err != nil {
		return err
	}
	if err := c.send(ctx, c.cluster.InsertURLs()[0], 1); err != nil {
		return err
	}
	c.senders.Close()
	if c.senders, err = crowd.New(c.crowd); err != nil {
		return err
	}
	for _, w := range c.ways {
		if err := c.send(ctx, w.url, 1); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return c.measureReading(ctx)
}

func (c *comparison) startWay(ctx context.Context, name string) (url string, err error) {
	insert := c.cluster.InsertURLs()[0]
	var p *stack.Process
	switch name {
	case "direct":
		return insert, nil
	case "vmagent":
		spec := stack.VmagentSpec(name, "", insert+"/insert/multitenant/prometheus/api/v1/write")
		spec.Args = append(spec.Args, "-enableMultitenantHandlers")
		p, err = c.start(ctx, spec)
	case "packed", "unpacked":
		// Without settling, which reads vminsert's metrics too: that costs the same whatever was sent, below 1 % of a core.
		p, err = c.startGateway(ctx, name, "FORWARD_URLS="+insert, "FORWARD_SETTLE=0s", fmt.Sprintf("FORWARD_PACK=%t", name == "packed"))
	default:
		return "", fmt.Errorf("compare: there is no way %q", name)
	}
	if err != nil {
		return "", err
	}
	return p.URL(), nil
}

// send sends passes of all tenants and returns when vmstorage has received them.
func (c *comparison) send(ctx context.Context, url string, passes int) error {
	const received = "vm_vminsert_metrics_read_total" // of vmstorage, whose page is short whatever the tenants
	before, err := readPage(ctx, c.cluster.StorageURLs()[0]+"/metrics", named(received))
	if err != nil {
		return err
	}
	report, err := c.senders.Send(ctx, url, passes*c.crowd.Tenants)
	if err == nil {
		err = report.AllAccepted()
	}
	if err != nil {
		return err
	}
	want := before.sum(received) + float64(report.Samples)
	return eventually(ctx, 2*time.Minute, func() error {
		now, err := readPage(ctx, c.cluster.StorageURLs()[0]+"/metrics", named(received))
		if err == nil && now.sum(received) < want {
			err = fmt.Errorf("vmstorage has received %.0f samples, %.0f were sent", now.sum(received), want)
		}
		return err
	})
}

// read reads what vminsert has spent so far. The page is cached for a second.
func (c *comparison) read(ctx context.Context) (cost, error) {
	pause(ctx, 1100*time.Millisecond)
	const (
		cpu, rows = "process_cpu_seconds_total", "vm_rows_inserted_total"
		requests  = "vm_http_requests_total"
		bytes     = "vm_tcplistener_read_bytes_total"
	)
	p, err := readPage(ctx, c.cluster.InsertURLs()[0]+"/metrics", named(cpu, rows, requests, bytes))
	if err != nil {
		return cost{}, err
	}
	return cost{p.sum(cpu), p.sum(rows), p.sum(requests, `protocol="promremotewrite"`), p.sum(bytes, `name="http"`)}, nil
}

// between reads what vminsert spends while do runs, the readings included.
func (c *comparison) between(ctx context.Context, do func() error) (cost, error) {
	before, err := c.read(ctx)
	if err != nil {
		return cost{}, err
	}
	if err := do(); err != nil {
		return cost{}, err
	}
	after, err := c.read(ctx)
	return cost{after.cpu - before.cpu, after.rows - before.rows, after.requests - before.requests, after.bytes - before.bytes}, err
}

// measureReading finds what a reading costs vminsert itself, which has a line for every tenant.
func (c *comparison) measureReading(ctx context.Context) error {
	var costs []float64
	for range 3 {
		nothing, err := c.between(ctx, func() error { return nil })
		if err != nil {
			return err
		}
		costs = append(costs, nothing.cpu)
	}
	c.reading = median(costs)
	return nil
}

func (c *comparison) measure(ctx context.Context, w *way) error {
	spent, err := c.between(ctx, func() error { return c.send(ctx, w.url, c.passes) })
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	spent.cpu -= c.reading
	w.results = append(w.results, spent)
	return nil
}

func (c *comparison) print() error {
	direct := c.way("direct")
	fmt.Fprintf(c.out, "%d tenants of %d series of %d labels, seen before; %d rounds of %d samples; at vminsert, by its own metrics\n"+
		"(less %.3f CPU-seconds per round for reading them):\n",
		c.crowd.Tenants, c.crowd.Series, c.crowd.Labels, c.rounds, c.passes*c.crowd.Tenants*c.crowd.Series, c.reading)
	table := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "way\tCPU-s per million samples\tof direct\tsamples per request\tbytes per sample\t")
	for _, w := range c.ways {
		var cpu, ratio []float64
		var sum cost
		for i, r := range w.results {
			cpu = append(cpu, r.perMillion())
			ratio = append(ratio, r.perMillion()/direct.results[i].perMillion())
			sum.rows, sum.requests, sum.bytes = sum.rows+r.rows, sum.requests+r.requests, sum.bytes+r.bytes
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.0f\t%.0f\t\n", w.name, spread(cpu), spread(ratio), sum.rows/sum.requests, sum.bytes/sum.rows)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if packed, vmagent := c.way("packed"), c.way("vmagent"); packed != nil && vmagent != nil {
		var ratio []float64
		for i, r := range packed.results {
			ratio = append(ratio, r.perMillion()/vmagent.results[i].perMillion())
		}
		fmt.Fprintf(c.out, "packed by ingestgw costs vminsert %s of what the batches of vmagent do\n", spread(ratio))
	}
	if cpu := direct.results[0].cpu; cpu < 0.5 {
		fmt.Fprintf(c.out, "One measurement is only %.2f CPU-seconds, and vminsert counts hundredths: for figures to rely on, take more -tenants or -passes.\n", cpu)
	}
	return nil
}

// way is nil when it is not compared.
func (c *comparison) way(name string) *way {
	i := slices.IndexFunc(c.ways, func(w way) bool { return w.name == name })
	if i < 0 {
		return nil
	}
	return &c.ways[i]
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// spread is the median, and the least and the most.
func spread(values []float64) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", median(values), slices.Min(values), slices.Max(values))
}
