package forward

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ingestgw/ingestgw/downstream"
)

const (
	// unusablePolls is how many polls have to say in a row that the metrics of a node that never showed any cannot be used.
	unusablePolls = 3
	// unseenGrace is how long a storage that vminsert reaches and nobody here ever saw is waited for; goneGrace is the same for one
	// that was seen before: longer than it takes vminsert to notice that it is gone. And for a vminsert that takes connections and
	// does not answer.
	unseenGrace = 15 * time.Second
	goneGrace   = 5 * time.Minute
	// complainEvery is how often a trouble that lasts is logged again.
	complainEvery = 5 * time.Minute
)

// What made blocks dirty, as a metric label.
const (
	nodeRestarted    = "vminsert_restarted"
	nodeLost         = "vminsert_lost"
	nodeGone         = "vminsert_gone"
	storageRestarted = "vmstorage_restarted"
	storageLost      = "vmstorage_lost"
	storageGone      = "vmstorage_gone"
	storageAppeared  = "vmstorage_appeared"
	storageUnseen    = "vmstorage_unseen"
)

// evidence is what is concluded from the readings about the processes. An epoch is a number that changes with everything after
// which rows may be gone: what was sent in an earlier epoch, and is not known to be safe, is dirty.
type evidence struct {
	cfg     SettleConfig
	started time.Time

	nodes     map[string]*nodeEvidence
	nodeEpoch int // of the last change of any node

	stores       map[string]*storageEvidence
	storageEpoch int
	storageCause string // of the last change
	ready        bool   // all storages have been asked at least once, or were waited for long enough

	lastRestart time.Time
	settle      time.Duration // FORWARD_SETTLE, or what the storages need when that is more

	// The storages together, for clause (c):
	seen      time.Time // until when all that vminserts reach were seen alive
	unbroken  time.Time // since when; now, while some are not
	storeTime bool      // they cannot be watched: by the clock

	uncoveredSince time.Time // vminserts reach storages that are not seen; zero when not
	uncoveredAlive int       // how many were seen alive then
	blind          bool      // for so long that it will not mend itself
	raised         bool      // that settle is more than FORWARD_SETTLE was logged
	complained     time.Time
}

// A process is who answered when a target was last looked at.
type process struct {
	generation int // of the target
	restarts   int
	jumping    bool
	lost       bool // has not answered for so long that it counts as dead
}

// replaced takes in who answers now and says whether it is another one. While several take turns, every poll may look like a
// restart and tells nothing. What was sent then counts as lost when it is over.
func (p *process) replaced(t *downstream.Target) bool {
	restarted, jumps, jumped := p.restarts != t.Restarts, p.jumping && t.Jumping, p.jumping && !t.Jumping
	p.restarts, p.jumping = t.Restarts, t.Jumping
	return restarted && !jumps || jumped
}

// nodeEvidence is what is concluded about one vminsert.
type nodeEvidence struct {
	process
	epoch   int
	cause   string // of the last change
	byTime  bool
	reading *downstream.Reading // the last good one; nil when there is none or the node is lost

	reached hosts    // the storages that it reaches
	named   hosts    // all that it had at the reading before
	parted  []string // hosts of those that it lost the connection to since then
}

// storageEvidence is what is concluded about one vmstorage.
type storageEvidence struct {
	process
	known bool // there was a good poll
}

func newProcess(t *downstream.Target) process {
	return process{generation: t.Generation, restarts: t.Restarts}
}

func newEvidence(cfg SettleConfig, now time.Time) *evidence {
	return &evidence{
		cfg:     cfg,
		started: now,
		nodes:   map[string]*nodeEvidence{},
		stores:  map[string]*storageEvidence{},
		settle:  cfg.Settle,
	}
}

// setNodes forgets the nodes that are not on the list. Blocks that were sent there find them missing.
func (e *evidence) setNodes(list []downstream.Endpoint) {
	listed := map[string]bool{}
	for _, ep := range list {
		listed[ep.String()] = true
	}
	for name := range e.nodes {
		if !listed[name] {
			delete(e.nodes, name)
			e.lastRestart = time.Now()
		}
	}
}

// ticket says what is known of a node. ok is false when nothing may be posted there now.
func (e *evidence) ticket(node string) (t ticket, ok bool) {
	n := e.nodes[node]
	switch {
	case n == nil || !e.ready:
		return ticket{}, false
	case n.byTime:
		return ticket{node: node, byTime: true, epoch: n.epoch, storages: e.storageEpoch}, true
	case n.reading == nil:
		return ticket{}, false
	}
	return ticket{node: node, epoch: n.epoch, storages: e.storageEpoch, before: n.reading}, true
}

// update takes in what the Watch knows now.
func (e *evidence) update(state downstream.State, now time.Time) {
	for name, t := range state.Nodes {
		if n := e.nodes[name]; n == nil || n.generation != t.Generation {
			e.nodeEpoch++
			e.nodes[name] = &nodeEvidence{process: newProcess(&t), epoch: e.nodeEpoch, cause: nodeGone}
		}
		e.updateNode(e.nodes[name], &t, now)
	}
	maps.DeleteFunc(e.nodes, func(name string, _ *nodeEvidence) bool { _, still := state.Nodes[name]; return !still })
	e.updateStorages(state.Storages, now)
	e.judgeStorages(state.Storages, now)
}

func (e *evidence) updateNode(n *nodeEvidence, t *downstream.Target, now time.Time) {
	change := func(cause string) {
		e.nodeEpoch++
		n.epoch, n.cause, e.lastRestart = e.nodeEpoch, cause, now
	}
	if n.replaced(t) {
		change(nodeRestarted)
	}
	if isLost(t, e.cfg.LostAfter, now) {
		if !n.lost && t.Last != nil {
			change(nodeLost)
		}
		n.lost = true
	} else if t.Err == nil {
		n.lost = false
	}
	n.byTime = e.cfg.SettleMode == settleAuto && (n.jumping || n.unreadable(t, now))
	n.look(t)
}

// unreadable is whether the node is there, and its metrics are not to be had.
func (n *nodeEvidence) unreadable(t *downstream.Target, now time.Time) bool {
	switch {
	case t.Unusable():
		return n.lost || t.Last == nil && t.Polls >= unusablePolls
	case t.Busy():
		return n.lost
	case t.Mute(): // or it stands still, and would only keep posts waiting
		return n.lost && now.Sub(t.FailingSince) >= goneGrace
	}
	return false
}

// look takes in the node's last reading.
func (n *nodeEvidence) look(t *downstream.Target) {
	before := n.reading
	n.reading, n.parted = t.Last, nil
	switch {
	case n.lost || t.Last == nil:
		n.reading, n.reached = nil, nil
	case n.reading == before:
	default:
		n.reached = hostsOf(n.reading, reached)
		if before != nil && !n.jumping {
			n.named, n.parted = hostsOf(before, named), partings(before, n.reading)
		}
	}
}

// isLost is whether a server has not answered for so long that it counts as dead. One poll that failed proves nothing, however long
// it took.
func isLost(t *downstream.Target, after time.Duration, now time.Time) bool {
	return t.FailedPolls > 1 && now.Sub(t.FailingSince) >= after
}

// storagesChanged notes that a storage may have lost what it held in memory.
func (e *evidence) storagesChanged(cause string, now time.Time) {
	e.storageEpoch++
	e.storageCause, e.lastRestart = cause, now
}

func (e *evidence) updateStorages(all map[string]downstream.Target, now time.Time) {
	for name, s := range e.stores {
		if t, still := all[name]; still && t.Generation == s.generation {
			continue
		}
		if s.known && !s.lost {
			e.storagesChanged(storageGone, now)
		}
		delete(e.stores, name)
	}
	for name, t := range all {
		s := e.stores[name]
		if s == nil {
			s = &storageEvidence{process: newProcess(&t)}
			e.stores[name] = s
		}
		replaced := s.replaced(&t)
		switch {
		case t.Last == nil:
		case !s.known: // it may have come and gone before it was first seen
			s.known = true
			e.storagesChanged(storageAppeared, now)
		case replaced:
			e.storagesChanged(storageRestarted, now)
		}
		switch lost := isLost(&t, e.cfg.LostAfter, now); {
		case lost && s.known && !s.lost:
			s.lost = true
			e.storagesChanged(storageLost, now)
		case t.Err == nil:
			s.lost = false
		}
	}
}

// judgeStorages sums up the storages for clause (c). One that is away, lost or never seen, holds nothing up: what was sent since
// then has gone to others. But only as long as the vminserts agree that it is away: a storage that they reach and that is not
// seen here may hold rows of which nothing is known.
func (e *evidence) judgeStorages(all map[string]downstream.Target, now time.Time) {
	e.seen = time.Time{}
	known, alive, jumping, asked := newCensus(), newCensus(), false, len(all) > 0
	var flush, interval time.Duration
	for name, t := range all {
		s := e.stores[name]
		isAlive := s.known && !s.lost
		known.take(t.Endpoint, s.known)
		alive.take(t.Endpoint, isAlive)
		asked = asked && t.Polls > 0
		jumping = jumping || t.Jumping
		if !isAlive {
			continue
		}
		if t.Err != nil {
			e.unbroken = now // a gap
			continue
		}
		if t.AliveSince.After(e.unbroken) {
			e.unbroken = t.AliveSince
		}
		if e.seen.IsZero() || t.Last.Begun.Before(e.seen) {
			e.seen = t.Last.Begun
		}
		flush, interval = max(flush, t.Last.FlushInterval()), max(interval, t.Interval)
	}
	if flush > 0 {
		e.settle = max(e.cfg.Settle, leastSettle(flush, interval))
	}
	e.ready = e.ready || asked || now.Sub(e.started) >= unseenGrace
	e.judgePartings(alive, now)
	e.judgeCover(known, alive, jumping, now)
}

// byTime is whether anything is settled by the clock because it cannot be watched.
func (e *evidence) byTime() bool {
	if e.storeTime {
		return true
	}
	for _, n := range e.nodes {
		if n.byTime {
			return true
		}
	}
	return false
}

// complain logs what keeps settling from being sure, when that begins and every few minutes after.
func (e *evidence) complain(log *slog.Logger, now time.Time) {
	if e.settle > e.cfg.Settle && !e.raised {
		e.raised = true
		log.Warn("the vmstorages need longer than INGESTGW_FORWARD_SETTLE to bring rows to disk; waiting as long as they need",
			"setting", e.cfg.Settle, "taken", e.settle)
	}
	trouble := e.troubles()
	if len(trouble) == 0 {
		e.complained = time.Time{}
		return
	}
	if !e.complained.IsZero() && now.Sub(e.complained) < complainEvery {
		return
	}
	e.complained = now
	effect := "what was sent counts as safe after a minute without proof, and is lost if a server dies meanwhile"
	if e.cfg.SettleMode == settleWatch {
		effect = "nothing that was sent there counts as safe, so the buffer cannot be emptied"
	}
	log.Error("cannot watch all of vminsert and vmstorage: "+effect, "trouble", strings.Join(trouble, "; "))
}

func (e *evidence) troubles() []string {
	var list []string
	for name, n := range e.nodes {
		switch {
		case n.jumping:
			list = append(list, "several vminserts answer at "+name+": list each one's own address in INGESTGW_FORWARD_URLS, not a Service or proxy")
		case n.byTime:
			list = append(list, "the metrics of "+name+" cannot be read: see INGESTGW_FORWARD_METRICS_AUTH_KEY_FILE, or INGESTGW_FORWARD_SETTLE_MODE=time")
		}
	}
	hidden := e.blind
	for name, s := range e.stores {
		if s.jumping {
			hidden = false // or so it seems
			list = append(list, "several vmstorages answer at "+name+": list each one's own address in INGESTGW_FORWARD_STORAGE_URLS, not a Service or proxy")
		}
	}
	slices.Sort(list)
	if hidden {
		list = append(list, "vminsert reaches more vmstorages than are seen here: list the metrics of all of them, each by its own address, in "+
			"INGESTGW_FORWARD_STORAGE_URLS")
	}
	return list
}
