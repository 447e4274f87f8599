package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ingestgw/ingestgw/loadtest/offer"
)

const defaultLedger = "loadtest-ledger.json"

func send(ctx context.Context, args []string, out io.Writer) error {
	var cfg offer.Config
	flags := newFlags("send")
	flags.StringVar(&cfg.URL, "url", "http://127.0.0.1:8480", "base `URL` of the receiver; requests go to /insert/<account>:0/prometheus/api/v1/write below it")
	flags.StringVar(&cfg.Metric, "metric", "", "`name` of all series; a new one for each run (default: loadtest_ and the time)")
	flags.IntVar(&cfg.Tenants, "tenants", 10, "number of tenants")
	flags.IntVar(&cfg.FirstAccount, "first-account", 1000, "account of the first tenant; the others follow")
	flags.IntVar(&cfg.Series, "series", 1000, "series per tenant; each gets one sample per round")
	flags.IntVar(&cfg.PerRequest, "per-request", 1000, "samples per request")
	flags.IntVar(&cfg.Labels, "labels", 12, "labels per series")
	flags.Float64Var(&cfg.Rate, "rate", 10_000, "samples per second; 0: as fast as they are acknowledged")
	flags.IntVar(&cfg.Rounds, "rounds", 0, "most samples per series; 0: no bound")
	flags.DurationVar(&cfg.Duration, "duration", 30*time.Second, "how long to send; 0: no bound")
	flags.IntVar(&cfg.Senders, "senders", 8, "requests on their way at one time")
	flags.IntVar(&cfg.PerConnection, "per-connection", 0, "requests after which a connection is closed, on average; 0: they are kept")
	flags.DurationVar(&cfg.Patience, "patience", time.Minute, "how long a request that is refused with 5xx or not answered is tried again")
	path := flags.String("ledger", defaultLedger, "`file` to write down in what was acknowledged, for loadtest verify; empty: none")
	if err := parse(flags, args); err != nil {
		return err
	}
	if cfg.Metric == "" {
		cfg.Metric = fmt.Sprintf("loadtest_%d", time.Now().Unix())
	}
	ledger, report, err := offer.Run(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, report)
	if *path != "" {
		if err := ledger.Save(*path); err != nil {
			return err
		}
		fmt.Fprintf(out, "series %s; read them back with: loadtest verify -ledger %s\n", cfg.Metric, *path)
	}
	if report.Refused > 0 {
		return fmt.Errorf("%d samples were refused", report.Refused)
	}
	return nil
}
