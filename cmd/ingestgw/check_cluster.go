package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/settings"
)

const (
	dedupFlag = "dedup.minScrapeInterval"
	// storagePort is where vmstorage serves its metrics by default (-httpListenAddr).
	storagePort = "8482"
)

// A target is one address that is written to.
type target struct {
	downstream.Endpoint
	client  *downstream.Client
	reading *downstream.Reading // nil when it could not be read
}

// writeURL is where forwarding posts the records of a tenant.
func (t target) writeURL(c *config) *url.URL {
	return t.URL("/insert/" + c.Tenant.Default.String() + "/prometheus/api/v1/write")
}

// checkInserts looks at every address of INGESTGW_FORWARD_URLS, and returns those.
func (c *check) checkInserts(ctx context.Context) []target {
	var all []target
	for _, ep := range c.resolve(ctx, "INGESTGW_FORWARD_URLS", urlsOf(c.cfg.Forward.URLs)) {
		t := target{Endpoint: ep, client: downstream.NewClient(ep, c.credentials, 1)}
		t.reading = c.checkInsertMetrics(ctx, t)
		c.checkWriteURL(ctx, t)
		all = append(all, t)
	}
	return all
}

func urlsOf(list settings.URLs) []*url.URL {
	urls := make([]*url.URL, len(list))
	for i, u := range list {
		urls[i] = u.URL
	}
	return urls
}

// resolve looks the names up one by one, so that each is told apart.
func (c *check) resolve(ctx context.Context, what string, urls []*url.URL) []downstream.Endpoint {
	var all []downstream.Endpoint
	for _, u := range urls {
		found, err := c.resolver.Resolve(ctx, []*url.URL{u})
		if err != nil {
			c.fail(what, "%s: %v", settings.MaskURL(u), err)
			continue
		}
		names := make([]string, len(found))
		for i, ep := range found {
			names[i] = ep.Addr
		}
		c.ok(what, "%s is %s", settings.MaskURL(u), strings.Join(names, ", "))
		all = append(all, found...)
	}
	return all
}

// unreadable tells of metrics that cannot be read. Settling needs them, unless the settings say that it goes without.
func (c *check) unreadable(what string, err error) {
	if c.cfg.Forward.Settle == 0 || c.cfg.Forward.SettleMode == "time" {
		c.warn(what, "%v; INGESTGW_FORWARD_SETTLE=%s and INGESTGW_FORWARD_SETTLE_MODE=%s go without, but its flags stay unknown", err,
			c.cfg.Forward.Settle, c.cfg.Forward.SettleMode)
		return
	}
	c.fail(what, "%v", err)
}

func (c *check) checkInsertMetrics(ctx context.Context, t target) *downstream.Reading {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	what := "vminsert " + t.String()
	r, err := t.client.Read(ctx, t.Endpoint, "node") // of any kind
	if err != nil {
		c.unreadable(what, err)
		return nil
	}
	switch {
	case r.IsVMInsert():
		c.checkReach(what, r)
	case r.IsVMStorage():
		c.ok(what, "metrics read, version %s; it stores by itself", versionOf(r))
		c.checkStorageFlags(what, r)
	default:
		c.unreadable(what, fmt.Errorf("its metrics are those of neither a vminsert nor a storage"))
	}
	c.checkInsertFlags(what, r)
	return r
}

func versionOf(r *downstream.Reading) string {
	if r.Version == "" {
		return "unknown"
	}
	return r.Version
}

// checkReach says which storages a vminsert reaches.
func (c *check) checkReach(what string, r *downstream.Reading) {
	reached := map[string]bool{}
	for path, passage := range r.Paths {
		reached[path.Addr] = reached[path.Addr] || !passage.Unreachable
	}
	var away []string
	for _, addr := range slices.Sorted(maps.Keys(reached)) {
		if !reached[addr] {
			away = append(away, addr)
		}
	}
	switch {
	case len(away) == len(reached):
		c.fail(what, "version %s, reaches none of its storages (%s): it takes requests and keeps them waiting", versionOf(r), strings.Join(away, ", "))
	case len(away) > 0:
		c.warn(what, "version %s, does not reach %s of its %d storages", versionOf(r), strings.Join(away, ", "), len(reached))
	default:
		c.ok(what, "version %s, reaches all of its %d storages", versionOf(r), len(reached))
	}
}

// checkInsertFlags compares what a vminsert allows with what we let in.
func (c *check) checkInsertFlags(what string, r *downstream.Reading) {
	if r.Flags["dropSamplesOnOverload"] == "true" {
		c.fail(what, "-dropSamplesOnOverload is set: it answers 2xx to samples that it drops, and nothing can tell; start it without")
	}
	if size := r.Flags["maxInsertRequestSize"]; size != "" {
		c.checkRequestSize(what, size)
	}
	if labels := r.Flags["maxLabelsPerTimeseries"]; labels != "" {
		c.ok(what, "takes series of up to %s labels (-maxLabelsPerTimeseries)%s; larger ones are cut or dropped there", labels,
			valueLength(r.Flags["maxLabelValueLen"]))
	}
}

func valueLength(n string) string {
	if n == "" {
		return ""
	}
	return " with values of up to " + n + " bytes (-maxLabelValueLen)"
}

func (c *check) checkRequestSize(what, size string) {
	theirs, err := settings.ParseBytes(size)
	if err != nil {
		c.warn(what, "-maxInsertRequestSize=%s cannot be compared with INGESTGW_INGEST_MAX_DECODED=%s", size, c.cfg.Ingest.MaxDecoded)
		return
	}
	if theirs < c.cfg.Ingest.MaxDecoded {
		c.fail(what, "-maxInsertRequestSize=%s is less than INGESTGW_INGEST_MAX_DECODED=%s: requests in between would be accepted here and "+
			"refused there; raise the one or lower the other", size, c.cfg.Ingest.MaxDecoded)
	}
}

// checkWriteURL posts nothing to where records will be posted: a right URL answers 2xx, a wrong one 4xx.
func (c *check) checkWriteURL(ctx context.Context, t target) {
	u := t.writeURL(c.cfg)
	what := "write to " + t.String()
	status, answer, err := ask(ctx, t.client, http.MethodPost, u, remoteWriteHeader(), http.NoBody)
	switch {
	case err != nil:
		c.fail(what, "%v", err)
	case status/100 == 2:
		c.ok(what, "an empty request to %s is answered %d", settings.MaskURL(u), status)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		c.fail(what, "answered %d %s: set INGESTGW_FORWARD_BASIC_AUTH_USER and its password, INGESTGW_FORWARD_BEARER_TOKEN_FILE or "+
			"INGESTGW_FORWARD_HEADERS", status, firstLine(answer))
	case status/100 == 4:
		c.fail(what, "an empty request to %s is answered %d %s: the URL is wrong; look at the path in INGESTGW_FORWARD_URLS",
			settings.MaskURL(u), status, firstLine(answer))
	default:
		c.fail(what, "an empty request is answered %d %s", status, firstLine(answer))
	}
}

// checkStorages looks at the vmstorages: those that are configured, else those that the vminserts name.
func (c *check) checkStorages(ctx context.Context, inserts []target) {
	urls, from := urlsOf(c.cfg.Forward.StorageURLs), "INGESTGW_FORWARD_STORAGE_URLS"
	if len(urls) == 0 {
		urls, from = namedStorages(inserts), "storages that vminsert names"
	}
	for _, ep := range c.resolve(ctx, from, urls) {
		c.checkStorage(ctx, ep)
	}
}

// namedStorages is where the metrics of the storages should be that vminserts send to.
func namedStorages(inserts []target) []*url.URL {
	hosts := map[string]bool{}
	for _, t := range inserts {
		if t.reading == nil {
			continue
		}
		for path := range t.reading.Paths {
			host, _, err := net.SplitHostPort(path.Addr)
			if err != nil {
				host = path.Addr
			}
			hosts[host] = true
		}
	}
	var urls []*url.URL
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		urls = append(urls, &url.URL{Scheme: "http", Host: net.JoinHostPort(host, storagePort)})
	}
	return urls
}

func (c *check) checkStorage(ctx context.Context, ep downstream.Endpoint) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	client := downstream.NewClient(ep, c.credentials, 1)
	defer client.Close()
	what := "vmstorage " + ep.String()
	r, err := client.Read(ctx, ep, downstream.VMStorage)
	if err != nil {
		c.unreadable(what, fmt.Errorf("%w; set INGESTGW_FORWARD_STORAGE_URLS to where its metrics are", err))
		return
	}
	c.ok(what, "version %s", versionOf(r))
	c.checkStorageFlags(what, r)
}

func (c *check) checkStorageFlags(what string, r *downstream.Reading) {
	c.ok(what, "keeps samples for %s (-retentionPeriod), in memory for %s at first (-inmemoryDataFlushInterval)",
		retention(r.Flags["retentionPeriod"]), r.FlushInterval())
	c.checkDedup(what, r.Flags[dedupFlag])
}

// retention adds the unit that a bare number has.
func retention(value string) string {
	switch {
	case value == "":
		return "a time that it does not say"
	case strings.Trim(value, "0123456789.") == "":
		return value + " months"
	default:
		return value
	}
}

// checkDedup takes the value of -dedup.minScrapeInterval. Not set, it is 0 or 0s.
func (c *check) checkDedup(what, value string) {
	if d, err := time.ParseDuration(value); value != "" && (err != nil || d > 0) {
		c.ok(what, "deduplicates (-dedup.minScrapeInterval=%s)", value)
		return
	}
	c.warn(what, "does not deduplicate: samples that are sent twice, as after a restart, count twice; start it with -dedup.minScrapeInterval=1ms")
}
