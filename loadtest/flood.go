package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ingestgw/ingestgw/internal/stack"
	"github.com/ingestgw/ingestgw/loadtest/offer"
	"github.com/ingestgw/ingestgw/loadtest/roster"
	"github.com/ingestgw/ingestgw/loadtest/verify"
)

// A flood lets one tenant send many times its limit while others send as always, and compares what the others see with a calm phase
// right before.
//
//	others  ──▶ ingestgw ──▶ tap ──▶ vminsert ──▶ vmstorage
//	flooder ──▶
//
// The tap lets through more than the others and the flooder's sustained rate, and less than what the flooder is allowed at most, so
// that its bulk has to wait.
type flood struct {
	*scene
	others         offer.Config
	calm, duration time.Duration
	limit, times   float64
	capacity       float64

	cluster *stack.Cluster
	gateway *stack.Process
	tap     *tap
}

// The metrics that are sent, by who sends when.
const (
	calmMetric   = "loadtest_calm"
	othersMetric = "loadtest_others"
	floodMetric  = "loadtest_flood"
)

func floodOthers(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("flood")
	f := &flood{scene: newScene(out, flags), others: offer.Config{FirstAccount: 1000, Labels: 12, Senders: 64}}
	flags.IntVar(&f.others.Tenants, "tenants", 1000, "number of tenants that send as always")
	flags.IntVar(&f.others.Series, "series", 10, "series of each, in one request")
	flags.Float64Var(&f.others.Rate, "rate", 10_000, "samples per second of all of them together")
	flags.DurationVar(&f.calm, "calm", 30*time.Second, "how long they send alone")
	flags.DurationVar(&f.duration, "duration", 2*time.Minute, "how long another tenant floods then")
	flags.Float64Var(&f.limit, "limit", 5000, "samples per second that the flooder may send; up to twice as many are taken, as bulk")
	flags.Float64Var(&f.times, "times", 20, "how many times its limit it sends")
	flags.Float64Var(&f.capacity, "capacity", 0, "samples per second that pass to vminsert; 0: those of all within their limits, and half of the flooder's bulk")
	if err := parse(flags, args); err != nil {
		return err
	}
	f.others.PerRequest = f.others.Series
	if f.capacity == 0 {
		f.capacity = f.others.Rate + 1.5*f.limit
	}
	if f.limit <= 0 || f.others.Rate <= 0 || f.times <= 1 || f.calm <= 0 || f.duration <= 0 || f.capacity <= 0 {
		return errors.New("flood: want a limit, a rate, a capacity and durations above 0, and more than 1 times the limit")
	}
	return f.play(ctx, f.run)
}

func (f *flood) run(ctx context.Context) (err error) {
	if f.cluster, err = f.startCluster(ctx, stack.ClusterSpec{}); err != nil {
		return err
	}
	if f.tap, err = openTap(f.cluster.InsertURLs()[0], f.capacity); err != nil {
		return err
	}
	stop := inBackground(ctx, f.tap.serve)
	defer func() { err = errors.Join(err, stop()) }()
	if err := f.startFlooded(ctx); err != nil {
		return err
	}
	return f.measure(ctx)
}

// startFlooded starts the gateway, which knows everybody.
func (f *flood) startFlooded(ctx context.Context) error {
	file := filepath.Join(f.dir, "tenants.yml")
	if err := f.writeRoster(file); err != nil {
		return err
	}
	var err error
	f.gateway, err = f.startGateway(ctx, "ingestgw", "FORWARD_URLS="+f.tap.url(), "FORWARD_SETTLE=0s", "TENANT_MODE=file", "TENANT_FILE="+file)
	return err
}

func (f *flood) writeRoster(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	plans := map[string]roster.Limits{
		"usual": {"samples_per_second": 10 * f.others.Rate / float64(f.others.Tenants)},
		// With a burst of a second: what is within it goes with everybody's, and would hide for a while what the lanes do.
		"flooded": {"samples_per_second": f.limit, "samples_burst": f.limit, "samples_hard": 2 * f.limit},
	}
	err = roster.Write(file, plans, func(yield func(roster.Tenant) bool) {
		for i := range f.others.Tenants {
			if !yield(roster.Tenant{ID: fmt.Sprintf("%d:0", f.others.FirstAccount+i), Plan: "usual", Credentials: roster.Bearer(token(i, 0))}) {
				return
			}
		}
		yield(roster.Tenant{ID: fmt.Sprintf("%d:0", flooderAccount), Plan: "flooded", Credentials: roster.Bearer(flooderToken)})
	})
	if err != nil {
		return err
	}
	return file.Close()
}

const (
	flooderAccount = 7
	flooderToken   = "the-secret-of-the-flooder"
)

// A phase is what one who sends has got.
type phase struct {
	ledger *offer.Ledger
	report offer.Report
}

func (f *flood) send(ctx context.Context, metric string, duration time.Duration) (phase, error) {
	cfg := f.others
	cfg.URL, cfg.Metric, cfg.Duration = f.gateway.URL(), metric, duration
	cfg.Token = func(i int) string { return token(i, 0) }
	ledger, report, err := offer.Run(ctx, cfg)
	return phase{ledger, report}, err
}

func (f *flood) sendFlood(ctx context.Context) (phase, error) {
	cfg := offer.Config{
		URL: f.gateway.URL(), Metric: floodMetric, Tenants: 1, FirstAccount: flooderAccount, Series: 10_000, PerRequest: 1000, Labels: 12,
		Rate: f.times * f.limit, Duration: f.duration, Senders: 16, Token: func(int) string { return flooderToken },
	}
	ledger, report, err := offer.Run(ctx, cfg)
	return phase{ledger, report}, err
}

func (f *flood) measure(ctx context.Context) error {
	fmt.Fprintf(f.out, "%d tenants send %.0f samples/s together for %v alone, then for %v while another sends %.0f/s and may send %.0f/s; "+
		"%.0f/s pass\n", f.others.Tenants, f.others.Rate, f.calm, f.duration, f.times*f.limit, f.limit, f.capacity)
	calm, err := f.send(ctx, calmMetric, f.calm)
	if err != nil {
		return err
	}
	before, err := f.readGateway(ctx)
	if err != nil {
		return err
	}
	var flooded phase
	done := make(chan error, 1)
	go func() { // ends after f.duration, or with ctx
		var err error
		flooded, err = f.sendFlood(ctx)
		done <- err
	}()
	others, err := f.send(ctx, othersMetric, f.duration)
	if err := errors.Join(err, <-done); err != nil {
		return err
	}
	after, err := f.readGateway(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := drained(ctx, f.gateway); err != nil {
		return err
	}
	fmt.Fprintf(f.out, "all that waited then was forwarded within %v\n\n", time.Since(began).Round(100*time.Millisecond))
	if err := f.tap.fault(); err != nil {
		return err
	}
	fault := errors.Join(f.compareOthers(calm, others), f.showFlood(flooded), f.showScheduler(before, after))
	return errors.Join(fault, f.readBack(ctx, calm, others, flooded))
}

// compareOthers prints what the others have seen in both phases. The error is that something of theirs was refused.
func (f *flood) compareOthers(calm, others phase) error {
	table := tabwriter.NewWriter(f.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "the others\tcalm\twhile flooded\tof calm\t")
	row := func(what string, a, b time.Duration) {
		fmt.Fprintf(table, "%s\t%v\t%v\t%.2f\t\n", what, a.Round(100*time.Microsecond), b.Round(100*time.Microsecond), float64(b)/float64(a))
	}
	row("acknowledged after, p50", calm.report.P50, others.report.P50)
	row("p99", calm.report.P99, others.report.P99)
	row("at most", calm.report.Most, others.report.Most)
	a, b := f.ages(calm), f.ages(others)
	for _, q := range []struct {
		what string
		part float64
	}{{"age when vminsert has it, p50", 0.5}, {"p99", 0.99}, {"at most", 1}} {
		row(q.what, quantile(a, q.part), quantile(b, q.part))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if n := calm.report.Refused + others.report.Refused; n > 0 {
		return fmt.Errorf("%d samples of the others were not acknowledged: answers %v, %v", n, calm.report.Answers, others.report.Answers)
	}
	return nil
}

// ages are how old samples were when vminsert had answered, from when they were due to be sent, sorted.
func (f *flood) ages(p phase) []time.Duration {
	f.tap.mu.Lock()
	defer f.tap.mu.Unlock()
	var all []time.Duration
	for a, at := range f.tap.arrivals[p.ledger.Config.Metric] {
		all = append(all, at.Sub(p.ledger.Due(a.account-p.ledger.Config.FirstAccount, 0, a.round)))
	}
	slices.Sort(all)
	return all
}

func quantile(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}

func (f *flood) showFlood(p phase) error {
	total := 0
	for _, n := range p.report.Answers {
		total += n
	}
	var parts []string
	for _, answer := range slices.Sorted(maps.Keys(p.report.Answers)) {
		n := p.report.Answers[answer]
		parts = append(parts, fmt.Sprintf("%s %d (%.1f %%)", answer, n, 100*float64(n)/float64(total)))
	}
	_, err := fmt.Fprintf(f.out, "\nthe flood: %d requests of %d samples: %s\n", total, p.ledger.Config.PerRequest, strings.Join(parts, ", "))
	return err
}

// readGateway reads the metrics of the gateway.
func (f *flood) readGateway(ctx context.Context) (page, error) {
	return readPage(ctx, admin(f.gateway)+"/metrics", func(name string) bool { return strings.HasPrefix(name, "ingestgw_") })
}

// What the scheduler counts for each lane.
const (
	permitsMetric   = "ingestgw_forward_permits_total"
	contendedMetric = "ingestgw_forward_permits_contended_total"
	beyondMetric    = "ingestgw_forward_permits_beyond_share_total"
	waitedMetric    = "ingestgw_forward_permit_wait_seconds_total"
)

// showScheduler prints what the gateway has counted while it was flooded. The error is that main waited behind bulk, or was full.
func (f *flood) showScheduler(before, after page) error {
	during := func(name string, labels ...string) float64 {
		return after.sum(name, labels...) - before.sum(name, labels...)
	}
	table := tabwriter.NewWriter(f.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\nthe scheduler\tpermits\twhile the other waited\tof these beyond its share\tseconds of waiting\tunsent at the end\t")
	for _, lane := range []string{"main", "bulk"} {
		l := fmt.Sprintf("lane=%q", lane)
		fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.0f blocks\t\n", lane, during(permitsMetric, l), during(contendedMetric, l),
			during(beyondMetric, l), during(waitedMetric, l), after.sum("ingestgw_forward_unsent_blocks", l))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprint(f.out, "requests answered:")
	const answers = "ingestgw_ingest_requests_total"
	for _, series := range slices.Sorted(maps.Keys(after)) {
		if n := after[series] - before[series]; strings.HasPrefix(series, answers+"{") && n > 0 {
			fmt.Fprintf(f.out, " %.0f %s", n, strings.TrimPrefix(series, answers))
		}
	}
	fmt.Fprintln(f.out)
	var errs []error
	if after.sum(permitsMetric) == 0 {
		errs = append(errs, fmt.Errorf("the gateway counts no %s", permitsMetric))
	}
	if n := during(beyondMetric, `lane="bulk"`); n > 0 {
		errs = append(errs, fmt.Errorf("bulk got %.0f permits beyond its share while main waited", n))
	}
	if n := during(answers, `answer="buffer_full"`); n > 0 {
		errs = append(errs, fmt.Errorf("%.0f requests found the buffer full", n))
	}
	if len(errs) == 0 {
		fmt.Fprintln(f.out, "main never waited behind bulk, and the buffer was never full")
	}
	return errors.Join(errs...)
}

// readBack reads back everything that was acknowledged.
func (f *flood) readBack(ctx context.Context, all ...phase) error {
	cluster := &verify.Cluster{URL: f.cluster.Select.URL()}
	for _, p := range all {
		var report verify.Report
		err := eventually(ctx, time.Minute, func() (err error) {
			if err = f.cluster.Flush(ctx); err != nil {
				return err
			}
			report, err = cluster.Check(ctx, verify.Offered(p.ledger))
			if err == nil && !report.OK() {
				err = fmt.Errorf("not all that was acknowledged is there: %v", report)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", p.ledger.Config.Metric, err)
		}
		fmt.Fprintf(f.out, "read back, %s: %v\n", p.ledger.Config.Metric, report)
	}
	return nil
}
