package status

import (
	"cmp"
	"slices"
	"strings"

	"github.com/ingestgw/ingestgw/alarm"
	"github.com/ingestgw/ingestgw/downstream"
	"github.com/ingestgw/ingestgw/internal/gathered"
)

// A NodeVitals is what the watch on downstream knows of one server.
type NodeVitals struct {
	// Name is the server's address as the node label of ingestgw_forward_node_state has it.
	Name string
	// Kind is "vminsert" or "vmstorage".
	Kind string
	// Up says whether its metrics can be read.
	Up bool
	Vitals
}

// nodesOf lists the servers: first those that are not well.
func nodesOf(f span, vitals []NodeVitals) []Node {
	nodes := []Node{}
	samples, all, taken := f.rates(gathered.ForwardSamples, "node"), f.rates(gathered.ForwardRequests, "node"), f.rates(gathered.ForwardRequests, "node", "code", "2xx")
	states, busy, seconds := statesOf(f.now), f.now.By(gathered.NodeInFlight, "node"), f.means(gathered.ForwardDuration, "node")
	for _, name := range f.now.Values(gathered.NodeState, "node") {
		nodes = append(nodes, Node{Name: name, Kind: "vminsert", State: cmp.Or(states[name], "unknown"), Vitals: unknownVitals(),
			SamplesPerSecond: valueOf(samples, name), FailuresPerSecond: max(0, valueOf(all, name)-valueOf(taken, name).OrZero()),
			AnswerSeconds: valueOf(seconds, name), InFlight: downstream.Figure(busy[name])})
	}
	at := map[string]int{}
	for i, n := range nodes {
		at[n.Name] = i
	}
	for _, v := range vitals {
		i, there := at[v.Name]
		if !there || v.Kind != "vminsert" {
			nodes = append(nodes, Node{Name: v.Name, Kind: v.Kind, State: map[bool]string{true: "up", false: "down"}[v.Up],
				SamplesPerSecond: downstream.Unknown(), FailuresPerSecond: downstream.Unknown(), AnswerSeconds: downstream.Unknown(), InFlight: downstream.Unknown()})
			i = len(nodes) - 1
		}
		nodes[i].Vitals = v.Vitals
		nodes[i].Notes = append([]string{}, v.Notes...)
	}
	sortNodes(nodes)
	return nodes
}

// sortNodes puts those that are not well first.
func sortNodes(nodes []Node) {
	slices.SortStableFunc(nodes, func(a, b Node) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), cmp.Compare(doing(a), doing(b)), strings.Compare(a.Name, b.Name))
	})
}

// mark notes at each server which alarms name it.
func mark(nodes []Node, alarms []Alarm) {
	for i := range nodes {
		for _, a := range alarms {
			if a.State == alarm.Firing && a.Server == nodes[i].Name && a.Server != "" {
				nodes[i].Notes = append([]string{strings.ReplaceAll(a.Name, "_", " ")}, nodes[i].Notes...)
			}
		}
	}
	sortNodes(nodes)
}

// doing is smaller for a node that is worse.
func doing(n Node) int {
	switch {
	case n.State == "paused" || n.State == "down":
		return 0
	case len(n.Notes) > 0:
		return 1
	case n.State != "ready" && n.State != "up":
		return 2
	}
	return 3
}

func valueOf(m map[string]downstream.Figure, name string) downstream.Figure {
	if v, ok := m[name]; ok {
		return v
	}
	return downstream.Unknown()
}

func unknownVitals() Vitals {
	return Vitals{UptimeSeconds: downstream.Unknown(), GCShare: downstream.Unknown(), AssistShare: downstream.Unknown(), CPUCores: downstream.Unknown(), AvailableCores: downstream.Unknown(), MemoryBytes: downstream.Unknown(),
		LimitBytes: downstream.Unknown(), Inserts: downstream.Unknown(), InsertCapacity: downstream.Unknown(), PendingBytes: downstream.Unknown(), RowsPerSecond: downstream.Unknown(), Notes: []string{}}
}

// statesOf is the state of each node.
func statesOf(f *figures) map[string]string {
	states := map[string]string{}
	for _, s := range f.Of(gathered.NodeState) {
		if s.Value == 1 {
			states[s.Label("node")] = s.Label("state")
		}
	}
	return states
}
