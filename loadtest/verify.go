package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ingestgw/ingestgw/loadtest/offer"
	"github.com/ingestgw/ingestgw/loadtest/verify"
)

func check(ctx context.Context, args []string, out io.Writer) error {
	flags := newFlags("verify")
	url := flags.String("url", "http://127.0.0.1:8481", "base `URL` of a vmselect; one with -dedup.minScrapeInterval shows what users see, one without shows copies")
	path := flags.String("ledger", defaultLedger, "`file` that loadtest send has written")
	patience := flags.Duration("patience", time.Minute, "how long to read again while samples are missing: they may still be on their way")
	if err := parse(flags, args); err != nil {
		return err
	}
	ledger, err := offer.Load(*path)
	if err != nil {
		return err
	}
	cluster := &verify.Cluster{URL: *url}
	deadline := time.Now().Add(*patience)
	for {
		report, err := cluster.Check(ctx, verify.Offered(ledger))
		if err != nil {
			return err
		}
		if report.Missing == 0 || time.Now().After(deadline) {
			return tell(out, report)
		}
		fmt.Fprintf(out, "%d samples right, %d not there yet\n", report.Right, report.Missing)
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
			return tell(out, report)
		}
	}
}

func tell(out io.Writer, report verify.Report) error {
	fmt.Fprintln(out, report)
	if !report.OK() {
		return fmt.Errorf("not everything is as it was sent")
	}
	return nil
}
