package downstream

import (
	"cmp"
	"net"
	"slices"
)

// defaultInsertPort is where vmstorages listen for vminserts when nothing else is said.
const defaultInsertPort = "8400"

// A StorageView is one vmstorage as all vminserts see it, and as it sees itself.
type StorageView struct {
	// Storage is the vmstorage as vminserts name it, host:port; or Vitals.Server of one that none of them names.
	Storage string `json:"storage"`
	// Own are its own vitals; nil when its metrics are not read, or it cannot be told which of those that are read it is: then what
	// makes it slow is not visible.
	Own *Vitals `json:"-"`
	// Server is Own's Server, empty without.
	Server string `json:"server,omitempty"`

	// Seen is how many vminserts name it; those whose last good page is too old are not counted. Unreachable and ReadOnly are how many of
	// them take it for disconnected, and for read-only. When ReadOnly or Unreachable is the same as Seen, it is the storage; when it is less, the way there.
	Seen        int `json:"seen"`
	Unreachable int `json:"unreachable"`
	ReadOnly    int `json:"read_only"`
	// UnreachableFrom names some of the vminserts that take it for disconnected, at most 3, sorted.
	UnreachableFrom []string `json:"unreachable_from,omitempty"`
	// Sum adds up their ways here; its SendShare is the worst one, that of WorstFrom. Reachable is whether any reaches it, ReadOnly whether any
	// takes it for read-only.
	Sum       Way    `json:"sum"`
	WorstFrom string `json:"worst_from,omitempty"`
	// MeanSendShare is the mean of the SendShares that are known.
	MeanSendShare Figure `json:"mean_send_share"`

	shares int // how many SendShares are in MeanSendShare, which is their sum until all are seen
}

// maxNamed bounds the names in UnreachableFrom.
const maxNamed = 3

// Storages brings what all vminserts say of the vmstorages together, and what those say of themselves, out of what Watch.Vitals returned.
// Sorted by Storage. Own points into all.
func Storages(all []Vitals) []StorageView {
	views := map[string]*StorageView{}
	for i := range all {
		if v := &all[i]; v.Insert != nil {
			for _, way := range v.Insert.Ways {
				viewOf(views, way.Storage).add(v.Server, way)
			}
		}
	}
	addOwn(views, all)
	list := make([]StorageView, 0, len(views))
	for _, view := range views {
		view.MeanSendShare /= Figure(max(1, view.shares))
		slices.Sort(view.UnreachableFrom)
		view.UnreachableFrom = view.UnreachableFrom[:min(len(view.UnreachableFrom), maxNamed)]
		list = append(list, *view)
	}
	slices.SortFunc(list, func(a, b StorageView) int { return cmp.Compare(a.Storage, b.Storage) })
	return list
}

func viewOf(views map[string]*StorageView, storage string) *StorageView {
	view := views[storage]
	if view == nil {
		view = &StorageView{Storage: storage, MeanSendShare: Unknown(), Sum: unknownWay(storage)}
		views[storage] = view
	}
	return view
}

func unknownWay(storage string) Way {
	u := Unknown()
	return Way{
		Storage: storage, Rows: u, SendShare: u, PendingRows: u, PendingBytes: u, ConnectionErrors: u, DialErrors: u, HandshakeErrors: u,
		ReroutedFrom: u, ReroutedTo: u, DroppedOnOverload: u, DroppedOnUnsupported: u,
	}
}

// add takes in the way of one vminsert.
func (s *StorageView) add(server string, way Way) {
	s.Seen++
	if !way.Reachable {
		s.Unreachable++
		s.UnreachableFrom = append(s.UnreachableFrom, server)
	}
	if way.ReadOnly {
		s.ReadOnly++
	}
	if way.SendShare.Known() {
		s.shares++
		s.MeanSendShare = sum(s.MeanSendShare, way.SendShare)
		if !(s.Sum.SendShare >= way.SendShare) { // the former may be unknown
			s.WorstFrom = server
		}
	}
	s.Sum.add(way)
}

// addOwn finds the views of the vmstorages among all, by their hosts and the port where they listen for vminserts. What two of
// them might be is neither's.
func addOwn(views map[string]*StorageView, all []Vitals) {
	byAddr := map[string][]*Vitals{}
	for i := range all {
		v := &all[i]
		if v.Kind != VMStorage {
			continue
		}
		for _, host := range v.Endpoint.Hosts() {
			addr := net.JoinHostPort(host, portOf(v))
			byAddr[addr] = append(byAddr[addr], v)
		}
	}
	found := map[*Vitals]bool{}
	for _, view := range views {
		if own := byAddr[withPort(view.Storage)]; len(own) == 1 {
			view.Own, view.Server = own[0], own[0].Server
			found[own[0]] = true
		}
	}
	for i := range all {
		if v := &all[i]; v.Kind == VMStorage && !found[v] {
			view := viewOf(views, v.Server)
			view.Own, view.Server = v, v.Server
		}
	}
}

func portOf(v *Vitals) string {
	if v.Storage == nil || v.Storage.Port == "" {
		return defaultInsertPort
	}
	return v.Storage.Port
}

func withPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return net.JoinHostPort(addr, defaultInsertPort)
	}
	return addr
}
