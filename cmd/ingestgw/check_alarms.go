package main

import (
	"context"

	"github.com/ingestgw/ingestgw/alarm/notify"
)

// checkAlarms says whether those who are to be told of alarms can be.
func (c *check) checkAlarms(ctx context.Context) {
	const what = "alarms"
	trials, err := notify.Try(ctx, c.cfg.Notify, c.log)
	if err != nil {
		c.failAll(what, err)
		return
	}
	for _, t := range trials {
		if t.Err != nil {
			c.fail(what, "the Alertmanager at %s takes no alerts (INGESTGW_ALARM_ALERTMANAGER_URLS): %v", t.Target, t.Err)
			continue
		}
		c.ok(what, "the Alertmanager at %s takes alerts", t.Target)
	}
	if c.cfg.Notify.WebhookURL.URL.URL != nil {
		c.ok(what, "the webhook is not tried: whoever is behind it would be told something")
	}
	if len(trials) == 0 && c.cfg.Notify.WebhookURL.URL.URL == nil {
		c.ok(what, "nobody is told of them (INGESTGW_ALARM_ALERTMANAGER_URLS, INGESTGW_ALARM_WEBHOOK_URL): they are in the log, in /metrics and on the page")
	}
}
