package alarm

import (
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// A Finding is what a rule sees at one moment.
type Finding struct {
	// Node is the server that it is about; empty for the whole.
	Node string
	// Server is what it is called in the list of servers, if that is another name.
	Server string
	// Severity is that of the rule when empty.
	Severity Severity
	Summary  string
	Next     string
	Evidence []Evidence

	all bool // servers of the kind have it
}

// A Rule finds one thing that may be wrong.
type Rule struct {
	// Name is what the alarm is called, and Means what is wrong then, for a list of all of them.
	Name, Means string
	Severity    Severity
	// After is for how long it has to be seen before it is told, and Until for how long not before it is over.
	After, Until time.Duration
	// Explains are the symptoms that it is a reason for.
	Explains []string
	// Covers are rules whose findings follow from this one. What ends in * are all that begin so. Those about a server of the same kind
	// are covered only for the same server, unless this one is about the whole.
	Covers []string
	// Last says that this is a reason only when nothing else explains the symptoms.
	Last bool
	// All is the severity when all servers of the kind have it; that of the findings when empty. AllAfter is After then, unless it is 0.
	All      Severity
	AllAfter time.Duration
	// Find looks. Findings are of different nodes.
	Find func(r *Readings) []Finding
}

// Kinds of nodes, as the names of rules about them begin.
const (
	kindInsert  = "vminsert"
	kindStorage = "vmstorage"
)

// kind is the kind of node that the rule is about, empty for none.
func (r *Rule) kind() string {
	for _, kind := range []string{kindInsert, kindStorage} {
		if strings.HasPrefix(r.Name, kind+"_") {
			return kind
		}
	}
	return ""
}

// covers says whether a finding of r about node makes one of other, about otherNode, follow from it.
func (r *Rule) covers(node string, other *Rule, otherNode string) bool {
	if !slices.ContainsFunc(r.Covers, func(name string) bool { return fits(name, other.Name) }) {
		return false
	}
	return node == "" || otherNode == "" || r.kind() != other.kind() || node == otherNode
}

// fits says whether a name is meant by a pattern, which is a name or the beginning of one and *.
func fits(pattern, name string) bool {
	if begin, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, begin)
	}
	return pattern == name
}

// count is how many servers of a kind there are.
func (r *Readings) count(kind string) int {
	switch kind {
	case kindInsert:
		return len(r.inserts())
	case kindStorage:
		n := 0
		for i := range r.Storages {
			if s := &r.Storages[i]; s.Seen > 0 || s.Own != nil && !s.Own.Read.IsZero() { // else it may be one of the others, by a wrong guess
				n++
			}
		}
		return n
	}
	return 0
}

// An insert is a vminsert: by its own metrics, nil when they are not watched, and as our own requests find it, nil when there are none.
type insert struct {
	at   time.Time // of the readings
	name string
	own  *downstream.Vitals
	node *Node
}

// inserts are the vminserts that samples are sent to.
func (r *Readings) inserts() []insert {
	var all []insert
	at := map[string]int{}
	for i := range r.Nodes {
		at[r.Nodes[i].Name] = len(all)
		all = append(all, insert{at: r.At, name: r.Nodes[i].Name, node: &r.Nodes[i]})
	}
	for i := range r.Servers {
		v := &r.Servers[i]
		if v.Kind != downstream.VMInsert {
			continue
		}
		if j, ok := at[v.Server]; ok {
			all[j].own = v
			continue
		}
		all = append(all, insert{at: r.At, name: v.Server, own: v})
	}
	return all
}

// one makes a list of what is found once.
func one(find func(*Readings) *Finding) func(*Readings) []Finding {
	return func(r *Readings) []Finding {
		if f := find(r); f != nil {
			return []Finding{*f}
		}
		return nil
	}
}

// each looks at one vminsert after the other.
func each(find func(i *insert) *Finding) func(*Readings) []Finding {
	return func(r *Readings) []Finding {
		var all []Finding
		for _, i := range r.inserts() {
			if f := find(&i); f != nil {
				f.Node = i.name
				all = append(all, *f)
			}
		}
		return all
	}
}

// eachStorage looks at one vmstorage after the other.
func eachStorage(find func(r *Readings, s *downstream.StorageView) *Finding) func(*Readings) []Finding {
	return func(r *Readings) []Finding {
		var all []Finding
		for i := range r.Storages {
			if f := find(r, &r.Storages[i]); f != nil {
				f.Node, f.Server = r.Storages[i].Storage, r.Storages[i].Server
				all = append(all, *f)
			}
		}
		return all
	}
}
