package forward

import (
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

// Which storages the vminserts reach, and whether all of those are seen here. vminsert names its storages by the addresses that it
// writes to, and their metrics are read at others. Where both have a host in common, by its name or its address, the storages of
// that host are compared; where not, all there are.
//
// KNOWN GAP: numbers are compared, of a host or of all. A storage that is watched at two addresses, or that no vminsert uses, hides
// one that is not seen, if INGESTGW_FORWARD_STORAGE_URLS gives the storages other names than vminsert does.

// hosts are how many storages there are at each host.
type hosts map[string]int

// hostsOf counts the storages of a vminsert that are wanted, each once however many queues lead to it.
func hostsOf(r *downstream.Reading, wanted func(downstream.Passage) bool) hosts {
	counted, h := map[string]bool{}, hosts{}
	for path, p := range r.Paths {
		if wanted(p) && !counted[path.Addr] {
			counted[path.Addr] = true
			h[path.Host()]++
		}
	}
	return h
}

func reached(p downstream.Passage) bool { return !p.Unreachable }

func named(downstream.Passage) bool { return true }

func (h hosts) all() int {
	n := 0
	for _, storages := range h {
		n += storages
	}
	return n
}

// A census is of storages that are watched: those of some kind.
type census struct {
	addrs map[string]bool
	at    hosts // 0 where one is watched that is not of the kind
}

func newCensus() *census { return &census{addrs: map[string]bool{}, at: hosts{}} }

func (c *census) take(ep downstream.Endpoint, ofTheKind bool) {
	n := 0
	if ofTheKind {
		c.addrs[ep.Addr] = true
		n = 1
	}
	for _, host := range ep.Hosts() {
		c.at[host] += n
	}
}

// covers is whether all of the storages may be among those of the census.
func (c *census) covers(h hosts) bool {
	for host, n := range h {
		if seen, watched := c.at[host]; watched && seen < n {
			return false
		}
	}
	return h.all() <= len(c.addrs)
}

// coversAt is whether all of the storages at one host are sure to be.
func (c *census) coversAt(host string, h hosts) bool {
	if seen, watched := c.at[host]; watched {
		return seen >= h[host]
	}
	return h.all() <= len(c.addrs)
}

// partings are the hosts of the storages that a vminsert was connected to at some time between two readings, and then lost: those
// that it reached and does not reach any more, and those whose connection broke, even if it came and went in between.
func partings(before, now *downstream.Reading) []string {
	same := now.SameProcess(before)
	var list []string
	note := func(path downstream.Path, was, is downstream.Passage) {
		broke := is.ConnectionErrors > was.ConnectionErrors
		connected := !was.Unreachable || is.Sent > was.Sent || broke
		if connected && (broke || is.Unreachable) {
			list = append(list, path.Host())
		}
	}
	for path, is := range now.Paths {
		was, known := before.Paths[path]
		if !known || !same { // it counts from 0
			was = downstream.Passage{Unreachable: !known || was.Unreachable}
		}
		note(path, was, is)
	}
	for path, was := range before.Paths {
		if _, still := now.Paths[path]; !still {
			note(path, was, downstream.Passage{Unreachable: true})
		}
	}
	return list
}

// judgePartings looks for storages that vminserts lost the connection to and that are not seen: whoever cannot be asked whether it
// is the same process still has lost what it held in memory.
func (e *evidence) judgePartings(alive *census, now time.Time) {
	for _, n := range e.nodes {
		for _, host := range n.parted {
			if !alive.coversAt(host, n.named) {
				e.storagesChanged(storageUnseen, now)
				return
			}
		}
	}
}

// judgeCover finds out whether all storages that the vminserts reach are seen alive.
func (e *evidence) judgeCover(known, alive *census, jumping bool, now time.Time) {
	uncovered, neverSeen := jumping, false
	for _, n := range e.nodes {
		uncovered = uncovered || !alive.covers(n.reached) || n.byTime && len(alive.addrs) == 0
		neverSeen = neverSeen || !known.covers(n.reached) || n.byTime && len(known.addrs) == 0
	}
	if !uncovered {
		if !e.uncoveredSince.IsZero() && len(alive.addrs) <= e.uncoveredAlive {
			e.storagesChanged(storageUnseen, now) // none came into sight: the one that was not seen is gone
		}
		e.uncoveredSince, e.blind, e.storeTime = time.Time{}, false, false
		return
	}
	e.unbroken, e.uncoveredAlive = now, len(alive.addrs)
	if e.uncoveredSince.IsZero() {
		e.uncoveredSince = now
	}
	grace := goneGrace
	if neverSeen {
		grace = unseenGrace
	}
	e.blind = jumping || now.Sub(e.uncoveredSince) >= grace
	e.storeTime = e.blind && e.cfg.SettleMode == settleAuto
}
