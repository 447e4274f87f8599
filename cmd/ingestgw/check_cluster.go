package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/forward"
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
	return t.URL("/insert/" + c.Access.Default.String() + "/prometheus/api/v1/write")
}

// checkInserts looks at every address of INGESTGW_FORWARD_URLS, and returns those.
func (c *check) checkInserts(ctx context.Context) []target {
	var all []target
	for _, ep := range c.resolve(ctx, "INGESTGW_FORWARD_URLS", urlsOf(c.cfg.Forward.URLs)) {
		t := target{Endpoint: ep, client: downstream.NewClient(ep, c.credentials, 1)}
		t.reading = c.checkInsertMetrics(ctx, t)
		c.checkWriteURL(ctx, t)
		c.checkMultitenantURL(ctx, t)
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
		c.unreadable(what, unread(err))
		return nil
	}
	c.checkOneProcess(ctx, what, t, r)
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

// unread is why metrics could not be read, without what the line says already.
func unread(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return reason(err)
}

// checkOneProcess reads a node again, by another connection.
func (c *check) checkOneProcess(ctx context.Context, what string, t target, r *downstream.Reading) {
	again, err := t.client.Read(ctx, t.Endpoint, "node")
	if err == nil && !again.SameProcess(r) && !r.SameProcess(again) {
		c.unreadable(what, errors.New("several processes answer at this address: list each one's own in INGESTGW_FORWARD_URLS"))
	}
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
		c.ok(what, "version %s, reaches all of its %d storages, as far as it has noticed", versionOf(r), len(reached))
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
	c.checkLabelLimits(what, r.Flags)
}

// A labelLimit is a flag by which vminsert drops series (1.151) or cuts them (1.100), and tells senders nothing of it.
type labelLimit struct {
	flag, of string
	setting  string
	ours     int // what the setting lets through
}

// labelLimits are those that matter to what this process does.
func (c *check) labelLimits() (list []labelLimit) {
	if c.cfg.Process.receives() {
		list = append(list,
			labelLimit{"maxLabelsPerTimeseries", "%s labels", "INGESTGW_INGEST_MAX_LABELS", c.cfg.Ingest.MaxLabels},
			labelLimit{"maxLabelNameLen", "names of %s bytes", "INGESTGW_INGEST_MAX_LABEL_NAME", c.cfg.Ingest.MaxLabelName},
			labelLimit{"maxLabelValueLen", "values of %s bytes", "INGESTGW_INGEST_MAX_LABEL_VALUE", c.cfg.Ingest.MaxLabelValue})
	}
	if c.cfg.Forward.Pack {
		list = append(list, labelLimit{"maxLabelsPerTimeseries", "%s labels", "INGESTGW_FORWARD_MAX_LABELS", c.cfg.Forward.MaxLabels})
	}
	return list
}

func (c *check) checkLabelLimits(what string, flags map[string]string) {
	var same []string
	for _, limit := range c.labelLimits() {
		value := flags[limit.flag]
		if value == "" {
			continue
		}
		text := fmt.Sprintf(limit.of, value) + " (-" + limit.flag + ")"
		if n, err := strconv.Atoi(value); err == nil && n < limit.ours {
			c.warn(what, "takes series of up to %s, and %s=%d lets larger ones through: it drops those, or cuts them, and answers 2xx; set both alike",
				text, limit.setting, limit.ours)
			continue
		}
		if !slices.Contains(same, text) {
			same = append(same, text)
		}
	}
	if len(same) > 0 {
		c.ok(what, "takes series of up to %s; larger ones do not get that far", strings.Join(same, ", "))
	}
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
		c.fail(what, "answered %s: set INGESTGW_FORWARD_BASIC_AUTH_USER and its password, INGESTGW_FORWARD_BEARER_TOKEN_FILE or "+
			"INGESTGW_FORWARD_HEADERS", answered(status, answer))
	case status/100 == 4:
		c.fail(what, "an empty request to %s is answered %s: the URL is wrong; look at the path in INGESTGW_FORWARD_URLS",
			settings.MaskURL(u), answered(status, answer))
	default:
		c.fail(what, "an empty request is answered %s", answered(status, answer))
	}
}

// checkStorages looks at the vmstorages: those that are configured, else those that the vminserts name.
func (c *check) checkStorages(ctx context.Context, inserts []target) {
	urls, from := urlsOf(c.cfg.Forward.StorageURLs), "INGESTGW_FORWARD_STORAGE_URLS"
	if len(urls) == 0 {
		urls, from = namedStorages(inserts), "storages that vminsert names"
	}
	read := 0
	for _, ep := range c.resolve(ctx, from, urls) {
		if c.checkStorage(ctx, ep) {
			read++
		}
	}
	c.checkCover(inserts, read)
}

// checkCover compares how many storages vminserts reach with how many were read: settling has to know them all.
func (c *check) checkCover(inserts []target, read int) {
	for _, t := range inserts {
		if t.reading == nil || t.reading.Reached() <= read {
			continue
		}
		c.unreadable("vminsert "+t.String(), fmt.Errorf("it reaches %d storages, but the metrics of only %d can be read: list those of all of them in "+
			"INGESTGW_FORWARD_STORAGE_URLS", t.reading.Reached(), read))
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

// checkStorage says whether the storage's metrics can be read.
func (c *check) checkStorage(ctx context.Context, ep downstream.Endpoint) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	client := downstream.NewClient(ep, c.credentials, 1)
	defer client.Close()
	what := "vmstorage " + ep.String()
	r, err := client.Read(ctx, ep, downstream.VMStorage)
	if err != nil {
		err = unread(err)
		if len(c.cfg.Forward.StorageURLs) == 0 {
			err = fmt.Errorf("%w; set INGESTGW_FORWARD_STORAGE_URLS to where the metrics of vmstorages are", err)
		}
		c.unreadable(what, err)
		return false
	}
	c.ok(what, "version %s", versionOf(r))
	c.checkStorageFlags(what, r)
	return true
}

func (c *check) checkStorageFlags(what string, r *downstream.Reading) {
	c.checkRetention(what, r.Flags["retentionPeriod"])
	flush := r.FlushInterval()
	if least := forward.LeastSettle(flush); c.cfg.Forward.Settle > 0 && least > c.cfg.Forward.Settle {
		c.warn(what, "keeps samples in memory for %s at first (-inmemoryDataFlushInterval), so what was sent counts as safe after %s instead of "+
			"INGESTGW_FORWARD_SETTLE=%s", flush, least, c.cfg.Forward.Settle)
	} else {
		c.ok(what, "keeps samples in memory for %s at first (-inmemoryDataFlushInterval)", flush)
	}
	c.checkDedup(what, r.Flags[dedupFlag])
}

// shortRetention is less than a backlog may become before somebody mends what caused it: a long weekend.
const shortRetention = 4 * 24 * time.Hour

// checkRetention takes the value of -retentionPeriod.
func (c *check) checkRetention(what, value string) {
	keeps, ok := retention(value)
	switch {
	case !ok:
		c.warn(what, "keeps samples for %q (-retentionPeriod), which cannot be understood", value)
	case keeps < shortRetention:
		c.warn(what, "keeps samples for only %s (-retentionPeriod), less than a backlog of %d days needs: it drops older ones after vminsert has "+
			"answered 2xx", withUnit(value), shortRetention/(24*time.Hour))
	default:
		c.ok(what, "keeps samples for %s (-retentionPeriod); older ones, as of a backlog, it drops after vminsert has answered 2xx", withUnit(value))
	}
}

// retention reads a duration as VictoriaMetrics writes it: a number and one of h, d, w, M, y, or nothing for months of 31 days
// (https://docs.victoriametrics.com/victoriametrics/single-server-victoriametrics/#retention).
func retention(value string) (time.Duration, bool) {
	const day = 24 * time.Hour
	units := map[string]time.Duration{"h": time.Hour, "d": day, "w": 7 * day, "M": 31 * day, "": 31 * day, "y": 365 * day}
	digits := strings.TrimRight(value, "hdwMy")
	unit, known := units[value[len(digits):]]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || n < 0 {
		return 0, false
	}
	return time.Duration(min(n*float64(unit), math.MaxInt64/2)), true
}

// withUnit adds the unit that a bare number has.
func withUnit(value string) string {
	switch {
	case value == "1":
		return "1 month"
	case strings.Trim(value, "0123456789.") == "":
		return value + " months"
	}
	return value
}

// checkDedup takes the value of -dedup.minScrapeInterval. Not set, it is 0 or 0s.
func (c *check) checkDedup(what, value string) {
	if d, err := time.ParseDuration(value); value != "" && (err != nil || d > 0) {
		c.ok(what, "deduplicates (-dedup.minScrapeInterval=%s)", value)
		return
	}
	c.fail(what, "does not deduplicate: samples that are sent twice, as after a restart, count twice; start it with -dedup.minScrapeInterval=1ms")
}
