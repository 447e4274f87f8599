package forge

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ingestgw/ingestgw/loadtest/verify"
)

// nobody is the owner of series that may be stored nowhere.
const nobody = -1

// A series is one of somebody's, as it is sent.
type series struct {
	owner  int // whose it has to become, by place in World.Tenants; or nobody
	labels []label
	odd    bool // labels are written as no usual sender does
	// stored is how it has to read afterwards, as verify.Name writes it; empty when it has to be dropped.
	stored string
}

// finish sets what has to become of the series.
func (w *World) finish(s *series) *series {
	w.random.Shuffle(len(s.labels), func(i, j int) { s.labels[i], s.labels[j] = s.labels[j], s.labels[i] })
	if s.owner != nobody {
		s.stored = w.Tenants[s.owner].stores(s.labels)
	}
	return s
}

// stores is how a series of the tenant reads in the end, empty when it is dropped.
func (t *Tenant) stores(labels []label) string {
	set := map[string]string{}
	for _, l := range labels {
		set[l.name] = l.value
	}
	for _, name := range Reserved {
		delete(set, name)
	}
	if t.Drops && set[DropLabel] != "" {
		return ""
	}
	for name, value := range t.Tags {
		set[name] = value
	}
	return verify.Name(set)
}

// honest makes a series without any trick. Tenants share names and values, so that only its tenant tells one from another's.
func (w *World) honest(owner int) *series {
	s := &series{owner: owner, labels: []label{
		{"__name__", "forge_" + []string{"requests_total", "up", "größe", "heap_bytes"}[w.random.IntN(4)]},
		{"instance", fmt.Sprintf("10.0.0.%d:9100", w.random.IntN(250))},
		{"job", "node exporter"},
	}}
	for i := range w.random.IntN(9) {
		s.labels = append(s.labels, label{"label_" + strconv.Itoa(i), w.text()})
	}
	if w.random.IntN(10) == 0 {
		s.labels = append(s.labels, label{"empty", ""})
	}
	if w.random.IntN(20) == 0 {
		s.labels = append(s.labels, label{DropLabel, "yes"})
	}
	return w.finish(s)
}

func (w *World) text() string {
	switch w.random.IntN(8) {
	case 0:
		return strings.Repeat("long ", 1+w.random.IntN(100))
	case 1:
		return []string{`quotes "`, `back\slash`, "new\nline", "snow ☃ man", "a=b&c=d", "{}", "null", " "}[w.random.IntN(8)]
	}
	return "value-" + strconv.Itoa(w.random.IntN(1000))
}

// full has as many labels as are allowed, or one or two less. Among them are some of the owner's tags, which these replace.
func (w *World) full(owner int) *series {
	return w.crowded(owner, w.cfg.MaxLabels-w.random.IntN(3))
}

// overfull has more labels than are allowed.
func (w *World) overfull(owner int) *series {
	s := w.crowded(owner, w.cfg.MaxLabels+1+w.random.IntN(3))
	s.owner, s.stored = nobody, ""
	return s
}

// crowded has so many labels, the owner's tags included.
func (w *World) crowded(owner, labels int) *series {
	t := &w.Tenants[owner]
	s := &series{owner: owner, labels: []label{{"__name__", "forge_full"}, {"n", strconv.Itoa(w.random.IntN(1000))}}}
	labels -= len(s.labels) + len(t.Tags)
	for _, name := range slices.Sorted(maps.Keys(t.Tags)) {
		if w.random.IntN(2) == 0 {
			s.labels = append(s.labels, label{name, "of the sender"})
		}
	}
	for i := range labels {
		s.labels = append(s.labels, label{fmt.Sprintf("filler_%02d", i), "x"})
	}
	return w.finish(s)
}

// forged tries to be another tenant's.
func (w *World) forged(owner int) *series {
	s := w.honest(owner)
	other := w.other(owner)
	s.odd = w.random.IntN(2) == 0
	for _, i := range w.random.Perm(len(Reserved))[:1+w.random.IntN(len(Reserved))] {
		s.labels = append(s.labels, label{Reserved[i], w.claim(other, i%2 == 0)})
	}
	switch w.random.IntN(4) {
	case 0: // are nothing but labels
		s.labels = append(s.labels, label{"VM_ACCOUNT_ID", w.claim(other, true)}, label{"vm_Project_Id", w.claim(other, false)},
			label{"victoriametrics_accountid", w.claim(other, true)}, label{"vm_account_id ", w.claim(other, true)})
	case 1:
		for _, name := range slices.Sorted(maps.Keys(other.Tags)) {
			s.labels = append(s.labels, label{name, other.Tags[name]})
		}
	case 2:
		s.labels = append(s.labels, label{OrgLabel, other.Org})
	}
	return w.finish(s)
}

// claim is an account, or a project, of somebody, in one of the ways in which it could be written.
func (w *World) claim(of Tenant, account bool) string {
	n := strconv.FormatUint(uint64(of.Project), 10)
	if account {
		n = strconv.FormatUint(uint64(of.Account), 10)
	}
	switch w.random.IntN(8) {
	case 0:
		return "0" + n
	case 1:
		return []string{"", "-1", "4294967296", "abc", of.ID()}[w.random.IntN(5)]
	}
	return n
}

// entrusted is a series in the body of a trusted sender, who names its owner. Whether the sender's own way to name tenants is used
// alone or among claims in the other ways must not matter.
func (w *World) entrusted(by Trusted) *series {
	s := w.honest(w.anybody())
	if w.random.IntN(30) == 0 {
		s.owner = by.Default
		return w.finish(s)
	}
	of := w.Tenants[s.owner]
	if by.Labels[0] == OrgLabel {
		name := of.ID()
		if by.ByOrg {
			name = of.Org
		}
		s.labels = append(s.labels, label{OrgLabel, name})
		if w.random.IntN(4) == 0 {
			other := w.other(s.owner)
			s.labels = append(s.labels, label{Reserved[w.random.IntN(len(Reserved))], w.claim(other, true)})
		}
		return w.finish(s)
	}
	s.labels = append(s.labels, label{Reserved[0], strconv.FormatUint(uint64(of.Account), 10)},
		label{Reserved[1], strconv.FormatUint(uint64(of.Project), 10)})
	if w.random.IntN(4) == 0 {
		s.labels = append(s.labels, label{Reserved[2], w.claim(w.other(s.owner), true)}, label{OrgLabel, w.other(s.owner).Org})
	}
	return w.finish(s)
}
