package main

import (
	"context"

	"github.com/ingestgw/ingestgw/buffer/kafka"
)

// checkKafka reaches the brokers and looks at the topic.
func (c *check) checkKafka(ctx context.Context) {
	for _, f := range kafka.Check(ctx, c.cfg.Kafka, c.log) {
		switch {
		case f.Err == nil:
			c.ok(f.What, "%s", f.Text)
		case f.Unsafe:
			c.warn(f.What, "acknowledged samples are not safe: %v", f.Err)
		default:
			c.fail(f.What, "%v", f.Err)
		}
	}
}
