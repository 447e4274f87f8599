package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/canary"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/forward"
)

// probed is what the canary goes through.
type probed struct {
	*buffer.Gatherer
	forwarder *forward.Forwarder
}

// Leads is whether this process forwards the first partition of the main lane, which one process of a group does.
func (p probed) Leads() bool { return p.forwarder.Owns(buffer.Main, 0) }

// Nodes are those that are forwarded to.
func (p probed) Nodes() []canary.Node {
	nodes := p.forwarder.Nodes()
	list := make([]canary.Node, len(nodes))
	for i, n := range nodes {
		list[i] = canary.Node(n)
	}
	return list
}

// startCanary starts what measures how fresh the samples are that can be read. A process that does not receive gets a Gatherer for it,
// whose metrics would look as if senders had sent something.
func (g *gateway) startCanary(cfg *config, forwarder *forward.Forwarder, reg prometheus.Registerer) error {
	if g.gather == nil {
		g.gather = buffer.NewGatherer(g.store, cfg.Gather, nil)
	}
	credentials, err := selectCredentials(cfg, g.log)
	if err != nil {
		return err
	}
	resolver := downstream.NewResolver(nil, g.log, prometheus.NewRegistry()) // the metric is that of FORWARD_URLS
	prober, err := canary.New(cfg.Canary, cfg.consumers(), urlsOf(cfg.Vmselect.URLs), probed{g.gather, forwarder}, resolver, credentials, g.log, reg)
	if err != nil {
		return err
	}
	g.sources.Lookups = append(g.sources.Lookups, resolver.Failing)
	g.sources.Canary = func() *alarm.Canary { return canaryOf(prober.View()) }
	g.probing = launch("canary", g.ended, prober.Run)
	return nil
}

// canaryOf is what alarms look at of what the canary sees; nil in a process that does not probe.
func canaryOf(v canary.View) *alarm.Canary {
	if !v.Leads {
		return nil
	}
	c := &alarm.Canary{Every: v.Every, Age: downstream.Unknown(), Nodes: map[string]downstream.Figure{}, Selects: map[string]string{}}
	for _, p := range v.Paths {
		if p.Node == "" {
			c.Age, c.WriteError = p.Age, p.WriteError
			continue
		}
		c.Nodes[p.Node] = p.Age
	}
	for _, s := range v.Selects {
		c.Selects[s.Name] = s.Error
	}
	return c
}
