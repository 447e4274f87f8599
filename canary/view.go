package canary

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// patience is for how long nothing need be readable of a new path before that counts: less would look as if something were.
const patience = 30 * time.Second

// A View is what the canary has seen so far. Nothing in it changes any more.
type View struct {
	// Leads is whether this process probes. Where it does not, the rest is empty.
	Leads bool `json:"leads"`
	// Since is since when it does so without a break.
	Since time.Time `json:"since,omitzero"`
	// Every is the time between two samples, in seconds. Half of it is the age when all is well.
	Every downstream.Figure `json:"every_seconds"`
	// ReadPath says why nothing can be told: no vmselect answers. Empty: at least one does, or none has been asked yet.
	ReadPath string `json:"read_path,omitempty"`
	// Paths are the ways in: the one through the buffer, then every vminsert by itself.
	Paths []Path `json:"paths"`
	// Selects are the vmselects, by name.
	Selects []Select `json:"vmselects"`
}

// A Path is one way in.
type Path struct {
	// Path is "buffer" or "vminsert"; Node names the vminsert.
	Path string `json:"path"`
	Node string `json:"node,omitempty"`
	// Sent is when the newest sample was written that was taken there; zero while none was.
	Sent time.Time `json:"sent,omitzero"`
	// WriteError says why the last sample was not taken; empty when it was.
	WriteError string `json:"write_error,omitempty"`
	// Readable is when the newest sample was written that can be read at the best vmselect of those that answer; zero while there is none.
	Readable time.Time `json:"readable,omitzero"`
	// Age is how old that was when it was read, in seconds. While nothing of the path could ever be read, it is the time from the first
	// sample to the last reading, once that is more than 30 s: the truth is more. Unknown before, and while no vmselect answers.
	Age downstream.Figure `json:"age_seconds"`
	// At is the same at each vmselect, in the order of View.Selects.
	At []Sight `json:"at"`
}

// A Sight is what of a path can be read at one vmselect. Fields are as in Path.
type Sight struct {
	Vmselect string            `json:"vmselect"`
	Readable time.Time         `json:"readable,omitzero"`
	Age      downstream.Figure `json:"age_seconds"`
}

// A Select is one vmselect.
type Select struct {
	Name string `json:"name"`
	// Answers is whether it has answered the last time. Error says why not: the read path is at fault then, not the way in. Both are
	// empty while it has not been asked.
	Answers bool   `json:"answers"`
	Error   string `json:"error,omitempty"`
	// Partial says why its answer leaves something out, as when it cannot reach one of its vmstorages. Empty: it does not.
	Partial string `json:"partial,omitempty"`
	// FailingSince is when it was asked the first time of those in a row that it has not answered.
	FailingSince time.Time `json:"failing_since,omitzero"`
	// Read is when it was asked the last time that it has answered.
	Read time.Time `json:"read,omitzero"`
	// Age is that of the freshest sample of any path there, in seconds.
	Age downstream.Figure `json:"age_seconds"`
}

// View returns what has been seen so far. It is safe for concurrent use.
func (c *Canary) View() View {
	v := View{Every: downstream.Figure(c.cfg.Every.Seconds()), Paths: []Path{}, Selects: []Select{}}
	if t := c.current(); t != nil {
		t.view(&v)
	}
	return v
}

func (t *term) view(v *View) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v.Leads, v.Since = true, t.since
	names := slices.Sorted(maps.Keys(t.selects))
	for _, name := range names {
		v.Selects = append(v.Selects, t.selects[name].view())
	}
	v.ReadPath = t.readPath(v.Selects)
	for _, p := range t.paths {
		v.Paths = append(v.Paths, t.viewPath(p, names))
	}
	slices.SortFunc(v.Paths, func(a, b Path) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Node, b.Node)) })
	for i := range v.Selects {
		for j := range v.Paths {
			v.Selects[i].Age = lesser(v.Selects[i].Age, v.Paths[j].At[i].Age)
		}
	}
}

func (s *source) view() Select {
	return Select{Name: s.ep.String(), Answers: s.good, Error: s.failed, Partial: s.lacks, FailingSince: s.failingSince, Read: s.read,
		Age: downstream.Unknown()}
}

// readPath says what keeps everything from being read, if anything does. t.mu is held.
func (t *term) readPath(all []Select) string {
	if len(all) == 0 && t.unresolved != "" {
		return "the read path is at fault: the address of no vmselect is known: " + t.unresolved
	}
	for _, s := range all {
		if s.Error == "" {
			return ""
		}
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("the read path is at fault: none of %d vmselects answers; %s: %s", len(all), all[0].Name, all[0].Error)
}

// viewPath is one path as the vmselects of those names show it. t.mu is held.
func (t *term) viewPath(p *path, names []string) Path {
	v := Path{Path: p.key.path, Node: p.key.node, Sent: p.sent, WriteError: p.failed, Age: downstream.Unknown()}
	var best sighting
	for _, name := range names {
		s := t.selects[name]
		seen := s.newest[p.key]
		sight := Sight{Vmselect: name, Readable: seen.at, Age: s.age(p)}
		v.At = append(v.At, sight)
		if s.good {
			best = best.later(seen)
			v.Age = lesser(v.Age, sight.Age)
		}
	}
	v.Readable = best.at
	return v
}

// age is how old the freshest sample of the path was when the vmselect was asked last.
func (s *source) age(p *path) downstream.Figure {
	at := s.newest[p.key].at
	never := at.IsZero()
	if never {
		at = p.begun
	}
	switch age := s.read.Sub(at); {
	case !s.good || at.IsZero() || age < 0 || never && age < patience:
		return downstream.Unknown()
	default:
		return downstream.Figure(age.Seconds())
	}
}

// lesser is the lesser of those that are known.
func lesser(a, b downstream.Figure) downstream.Figure {
	if !a.Known() || b < a {
		return b
	}
	return a
}
