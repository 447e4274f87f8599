package main

import (
	"context"

	"github.com/ingestgw/ingestgw/buffer/kafka"
)

// checkKafka reaches the brokers, and looks at the topic and at the group that forwards.
func (c *check) checkKafka(ctx context.Context) {
	forwarding := kafka.Elsewhere
	switch {
	case c.cfg.Process.forwards() && c.running:
		forwarding = kafka.UnderWay
	case c.cfg.Process.forwards():
		forwarding = kafka.Possible
	}
	for _, f := range kafka.Check(ctx, c.cfg.Kafka, forwarding, c.log) {
		switch f.Verdict {
		case kafka.Good:
			c.ok(f.What, "%s", f.Text)
		case kafka.Doubtful:
			c.warn(f.What, "%s", f.Text)
		default:
			c.fail(f.What, "%s", f.Text)
		}
	}
}
