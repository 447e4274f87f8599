package forward

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/buffer"
	"github.com/ingestgw/ingestgw/downstream"
)

var simulations = flag.Int("settle.simulations", 16, "how many clusters TestWhatIsCalledSettledIsOnDisk simulates, 40 minutes each")

// simStep is how finely time passes in a simulation.
const simStep = 50 * time.Millisecond

// A sim is a VictoriaMetrics cluster as its source describes it (v1.100.0-cluster:app/vminsert/netstorage/netstorage.go, lib/storage/partition.go),
// as far as it matters to what is lost: vminsert's queue per storage with one batch on its way and one waiting, replicas,
// other storages in the place of those that are away, connections that are found broken only by sending; vmstorage's memory and
// disk; pages that are cached for a second; processes that are killed and that stand still.
type sim struct {
	mu       sync.Mutex
	rnd      *rand.Rand
	replicas int
	storages []*simStorage
	inserts  []*simInsert
	lastID   int // start times are different, as the seconds of the real thing nearly always are
}

// A simRow is one row of a block. Sending it again makes the same row.
type simRow struct {
	block buffer.Offset
	n     int
}

type simProcess struct {
	start    int // 0: down
	frozen   bool
	upAt     time.Time // when it starts again, if it is down
	thawAt   time.Time
	killThen bool      // after it thaws, or at dieAt
	dieAt    time.Time // zero: at no time
	deafTill time.Time
}

type simStorage struct {
	simProcess
	memory   map[simRow]time.Duration // how much longer it has to live to bring the row to disk
	disk     map[simRow]bool
	fullTill time.Time // it is read-only until then
}

type simInsert struct {
	simProcess
	paths  []*simPath
	page   *downstream.Reading
	pageAt time.Time
}

type simPath struct {
	downstream.Passage
	connected int // the start of the storage it is connected to; 0: not connected
	queue     []simRow
	batch     []simRow
	nextLook  time.Time
	nextCheck time.Time // whether the storage is read-only still
	cutTill   time.Time // nothing gets through until then, in either direction

	// The batch on its way:
	copies   int // still to be made
	tried    int // storages tried for this copy
	used     map[int]bool
	target   int // the storage it is being sent to now; -1: none
	doneAt   time.Time
	deadline time.Time
	sender   *simPath // whose batch uses this path's connection now
}

func newSim(seed uint64) *sim {
	s := &sim{rnd: rand.New(rand.NewPCG(seed, 1)), lastID: 100}
	storages := 1 + s.rnd.IntN(3)
	s.replicas = min(storages, 1+s.rnd.IntN(2))
	for range storages {
		s.storages = append(s.storages, &simStorage{disk: map[simRow]bool{}})
		s.startStorage(s.storages[len(s.storages)-1])
	}
	for range 1 + s.rnd.IntN(2) {
		s.inserts = append(s.inserts, &simInsert{})
		s.startInsert(s.inserts[len(s.inserts)-1])
	}
	return s
}

func (s *sim) id() int {
	s.lastID = max(s.lastID+1, int(time.Now().Unix()%100000))
	return s.lastID
}

func (s *sim) between(from, to time.Duration) time.Duration { return between(s.rnd, from, to) }

func between(rnd *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rnd.Int64N(int64(to-from)))
}

func (s *sim) startStorage(st *simStorage) {
	st.simProcess = simProcess{start: s.id()}
	st.memory = map[simRow]time.Duration{}
}

func (s *sim) startInsert(in *simInsert) {
	in.simProcess = simProcess{start: s.id()}
	in.paths, in.page = nil, nil
	for range s.storages {
		in.paths = append(in.paths, &simPath{target: -1})
	}
}

// kill ends a process; what it had in memory is gone.
func (p *simProcess) kill(upAt time.Time) { *p = simProcess{upAt: upAt} }

// step lets simStep pass.
func (s *sim) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, st := range s.storages {
		switch {
		case st.start == 0 && now.After(st.upAt):
			s.startStorage(st)
		case st.start == 0:
		case !st.dieAt.IsZero() && now.After(st.dieAt):
			st.kill(now.Add(s.between(0, 3*time.Minute)))
		case st.frozen && now.After(st.thawAt):
			s.thaw(&st.simProcess, now)
		case !st.frozen:
			st.flush()
		}
	}
	for _, in := range s.inserts {
		switch {
		case in.start == 0 && now.After(in.upAt):
			s.startInsert(in)
		case in.start == 0:
		case in.frozen && now.After(in.thawAt):
			s.thaw(&in.simProcess, now)
		case in.killThen && !in.dieAt.IsZero() && now.After(in.dieAt):
			in.kill(now.Add(s.between(0, 5*time.Second)))
		case !in.frozen:
			for i := range in.paths {
				s.work(in, i, now)
			}
		}
	}
}

func (s *sim) thaw(p *simProcess, now time.Time) {
	p.frozen = false
	if p.killThen {
		p.killThen = false
		p.kill(now.Add(s.between(0, 5*time.Second)))
	}
}

func (st *simStorage) flush() {
	for row, left := range st.memory {
		if left -= simStep; left > 0 {
			st.memory[row] = left
			continue
		}
		delete(st.memory, row)
		st.disk[row] = true
	}
}

// work is one turn of the loop that vminsert runs for each storage.
func (s *sim) work(in *simInsert, i int, now time.Time) {
	p := in.paths[i]
	s.checkReadOnly(p, s.storages[i], now)
	if len(p.batch) == 0 {
		if now.Before(p.nextLook) {
			return
		}
		p.nextLook = now.Add(200 * time.Millisecond)
		s.dial(p, i)
		if len(p.queue) == 0 {
			return
		}
		p.batch, p.queue = p.queue, nil
		p.copies, p.tried, p.used = s.replicas, 0, map[int]bool{}
	}
	s.send(in, i, now)
}

// checkReadOnly asks a storage that said so, twice a minute.
func (s *sim) checkReadOnly(p *simPath, st *simStorage, now time.Time) {
	if now.Before(p.nextCheck) {
		return
	}
	p.nextCheck = now.Add(30 * time.Second)
	if p.connected == st.start && !st.frozen && now.After(p.cutTill) && now.After(st.fullTill) {
		p.ReadOnly = false
	}
}

// dial connects a path that is not connected.
func (s *sim) dial(p *simPath, i int) {
	if p.connected != 0 {
		return
	}
	if st := s.storages[i]; st.start != 0 && !st.frozen && time.Now().After(p.cutTill) {
		p.connected, p.Unreachable = st.start, false
		return
	}
	p.Unreachable = true
	p.DialErrors++
}

// send brings the batch of in.paths[i] further.
func (s *sim) send(in *simInsert, i int, now time.Time) {
	p := in.paths[i]
	if p.target < 0 && !s.pick(in, i, now) {
		return
	}
	to, st := in.paths[p.target], s.storages[p.target]
	switch {
	case st.start != to.connected || now.After(p.deadline): // the connection is found broken
		to.ConnectionErrors++
		to.connected, to.Unreachable, to.sender = 0, true, nil
		p.target = -1
	case st.frozen || now.Before(p.doneAt) || now.Before(to.cutTill):
	case now.Before(st.fullTill): // it says so, and the next one is tried
		to.ReadOnly, to.sender = true, nil
		p.target = -1
	default:
		for _, row := range p.batch {
			if !st.disk[row] {
				st.memory[row] = s.between(time.Second, 14*time.Second)
			}
		}
		to.Sent += float64(len(p.batch))
		to.sender = nil
		p.used[p.target] = true
		p.target, p.tried = -1, 0
		if p.copies--; p.copies == 0 {
			p.batch = nil
		}
	}
}

// pick chooses the storage that the batch is sent to next, and says whether there is one to send to now.
func (s *sim) pick(in *simInsert, i int, now time.Time) bool {
	p := in.paths[i]
	if now.Before(p.nextLook) && p.tried == 0 && len(p.used) == 0 && !p.Ready() {
		return false // all were tried; once more in a moment
	}
	for ; p.tried < len(in.paths); p.tried++ {
		j := (i + p.tried) % len(in.paths)
		to := in.paths[j]
		if p.used[j] || !to.Ready() || to.connected == 0 {
			continue
		}
		if to.sender != nil {
			return false // wait for the connection
		}
		p.target, to.sender = j, p
		p.doneAt, p.deadline = now.Add(s.between(0, 200*time.Millisecond)), now.Add(s.between(60*time.Second, 120*time.Second))
		p.tried++
		return true
	}
	p.tried = 0
	p.nextLook = now.Add(200 * time.Millisecond)
	if len(p.used) > 0 {
		p.batch = nil // some copies are all there will be
	} else {
		s.dial(p, i)
	}
	return false
}

// post is a request with a block's rows, and says whether the answer is 204.
func (s *sim) post(node int, off buffer.Offset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.inserts[node]
	if in.start == 0 || in.frozen {
		return false
	}
	for n := range rowsOf(off) {
		home := in.paths[(int(off)+n)%len(in.paths)]
		home.Received++
		to := home
		if !home.Ready() {
			ready := slices.DeleteFunc(slices.Clone(in.paths), func(p *simPath) bool { return !p.Ready() })
			if len(ready) == 0 {
				return false // the real thing waits; the request times out
			}
			to = ready[s.rnd.IntN(len(ready))]
			to.Received++
		}
		to.queue = append(to.queue, simRow{off, n})
	}
	return true
}

func rowsOf(off buffer.Offset) int { return 1 + int(off)%3 }

// missing is the rows of a block that are on no disk.
func (s *sim) missing(off buffer.Offset) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := 0
	for n := range rowsOf(off) {
		if !slices.ContainsFunc(s.storages, func(st *simStorage) bool { return st.disk[simRow{off, n}] }) {
			missing++
		}
	}
	return missing
}

// read is how the Watch sees it.
func (s *sim) read(ctx context.Context, ep downstream.Endpoint, kind downstream.Kind) (*downstream.Reading, error) {
	begun := time.Now()
	i, _ := strconv.Atoi(ep.Base.Port())
	s.mu.Lock()
	delay := s.between(5*time.Millisecond, 60*time.Millisecond)
	s.mu.Unlock()
	for {
		if err := sleepFor(ctx, delay); err != nil {
			return nil, err
		}
		r, frozen, err := s.page(kind, i)
		if err != nil {
			return nil, err
		}
		if !frozen {
			r.Begun, r.Ended = begun, time.Now()
			return r, nil
		}
		delay = simStep
	}
}

func (s *sim) page(kind downstream.Kind, i int) (r *downstream.Reading, frozen bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.storages[i%len(s.storages)].simProcess
	if kind == downstream.VMInsert {
		p = &s.inserts[i].simProcess
	}
	switch {
	case p.start == 0:
		return nil, false, errors.New("connection refused")
	case time.Now().Before(p.deafTill):
		return nil, false, errors.New("answered 503")
	case p.frozen:
		return nil, true, nil
	}
	page := downstream.Reading{Start: strconv.Itoa(p.start), Flags: map[string]string{"inmemoryDataFlushInterval": "5s"}}
	if kind == downstream.VMInsert {
		page.Paths = s.inserts[i].cachedPaths()
	}
	return &page, false, nil
}

// cachedPaths is at most a second old.
func (in *simInsert) cachedPaths() map[downstream.Path]downstream.Passage {
	if in.page == nil || time.Since(in.pageAt) > downstream.CacheAge {
		in.page = &downstream.Reading{Paths: map[downstream.Path]downstream.Passage{}}
		in.pageAt = time.Now()
		for i, p := range in.paths {
			p.PendingRows = float64(len(p.queue))
			in.page.Paths[downstream.Path{Addr: strconv.Itoa(i)}] = p.Passage
		}
	}
	return in.page.Paths
}

// harm does something to some process.
func (s *sim) harm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	st, in := s.storages[s.rnd.IntN(len(s.storages))], s.inserts[s.rnd.IntN(len(s.inserts))]
	freeze := func(p *simProcess, d time.Duration) {
		if p.start != 0 {
			p.frozen, p.thawAt, p.killThen = true, now.Add(d), s.rnd.IntN(2) == 0
		}
	}
	switch s.rnd.IntN(12) {
	case 10, 11: // the network; vminsert may die of it
		for _, p := range in.paths[:s.rnd.IntN(len(in.paths)+1)] {
			p.cutTill = now.Add(s.between(time.Second, 3*time.Minute))
		}
		in.killThen, in.dieAt = s.rnd.IntN(2) == 0, now.Add(s.between(30*time.Second, 2*time.Minute))
	case 0, 1:
		st.kill(now.Add(s.between(0, 15*time.Second)))
	case 2:
		st.kill(now.Add(s.between(time.Minute, 4*time.Minute)))
	case 3, 4:
		in.kill(now.Add(s.between(0, 10*time.Second)))
	case 5, 6:
		freeze(&st.simProcess, s.between(time.Second, 15*time.Second))
	case 7:
		freeze(&st.simProcess, s.between(time.Minute, 3*time.Minute))
	case 8:
		freeze(&in.simProcess, s.between(time.Second, 90*time.Second))
	case 9:
		in.deafTill = now.Add(s.between(5*time.Second, 90*time.Second))
	}
}

// A trouble is harm that lasts, and ends in a death as often as not.
type trouble func(*simRun)

// noStorageInReach cuts a vminsert off from all storages for longer than the quiet rule takes.
func noStorageInReach(r *simRun) {
	now, in := time.Now(), r.inserts[r.rnd.IntN(len(r.inserts))]
	for _, p := range in.paths {
		p.cutTill = now.Add(r.between(4*time.Minute, 12*time.Minute))
	}
	r.vminsertDies(in)
}

// allStoragesFull makes all storages read-only for as long.
func allStoragesFull(r *simRun) {
	for _, st := range r.storages {
		st.fullTill = time.Now().Add(r.between(4*time.Minute, 12*time.Minute))
	}
	r.vminsertDies(r.inserts[r.rnd.IntN(len(r.inserts))])
}

// storageDeafToUs is a storage that takes rows all the while, and is not seen by the gateway.
func storageDeafToUs(r *simRun) {
	now, st := time.Now(), r.storages[r.rnd.IntN(len(r.storages))]
	st.deafTill = now.Add(r.between(time.Minute, 10*time.Minute))
	if r.rnd.IntN(4) > 0 {
		st.dieAt = now.Add(r.between(50*time.Second, 4*time.Minute))
	}
}

// vminsertDies lets it, in a while, and often nothing is sent until then.
func (r *simRun) vminsertDies(in *simInsert) {
	if r.rnd.IntN(2) == 0 {
		in.killThen, in.dieAt = true, time.Now().Add(r.between(4*time.Minute, 9*time.Minute))
	}
	if r.rnd.IntN(3) > 0 {
		r.pause = time.Now().Add(r.between(4*time.Minute, 9*time.Minute))
	}
}

// A simRun is a gateway in front of a sim.
type simRun struct {
	*sim
	chance  *rand.Rand // of what is in front of the cluster
	settler *settler
	part    *simPart
	next    buffer.Offset
	answers []simAnswer
	pause   time.Time
	trouble trouble // instead of all kinds of harm
}

// A simAnswer is a 204 on its way.
type simAnswer struct {
	off    buffer.Offset
	ticket ticket
	at     time.Time
}

// simPart sends again what is dirty, and checks what is called settled.
type simPart struct {
	sim    *sim
	mu     sync.Mutex
	again  []buffer.Offset
	safe   map[buffer.Offset]bool
	wrong  []string
	resent int
}

func (p *simPart) settled(list []buffer.Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, span := range list {
		for off := span.From; off < span.To; off++ {
			p.safe[off] = true
			if n := p.sim.missing(off); n > 0 {
				p.wrong = append(p.wrong, fmt.Sprintf("block %d was called settled with %d rows on no disk", off, n))
			}
		}
	}
}

func (p *simPart) dirty(list []buffer.Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, span := range list {
		for off := span.From; off < span.To; off++ {
			p.again = append(p.again, off)
			p.resent++
		}
	}
}

// owes is whether something is to be sent again now.
func (p *simPart) owes() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.again) > 0
}

func (p *simPart) take() (buffer.Offset, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.again) == 0 {
		return 0, false
	}
	off := p.again[0]
	p.again = p.again[1:]
	return off, true
}

func newSimRun(t *testing.T, seed uint64) *simRun {
	s := newSim(seed)
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	cfg := SettleConfig{Settle: 30 * time.Second, SettleMode: settleWatch, LostAfter: time.Minute, Pollers: 1}
	watchCfg := downstream.WatchConfig{Pollers: 1, Read: s.read}
	for i := range s.storages {
		watchCfg.StorageURLs = append(watchCfg.StorageURLs, simEndpoint(i, 1).Base)
	}
	r := &simRun{sim: s, chance: rand.New(rand.NewPCG(seed, 2)), part: &simPart{sim: s, safe: map[buffer.Offset]bool{}}}
	r.settler = newSettler(cfg, downstream.NewWatch(watchCfg, downstream.NewResolver(nil, log, reg), nil, log, reg), log, reg)
	r.settler.setNodes(r.endpoints())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.settler.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

func simEndpoint(i, kind int) downstream.Endpoint {
	addr := fmt.Sprintf("10.0.%d.%d:%d", kind, i, i)
	return downstream.Endpoint{Base: &url.URL{Scheme: "http", Host: addr}, Addr: addr}
}

func (r *simRun) endpoints() []downstream.Endpoint {
	var list []downstream.Endpoint
	for i := range r.inserts {
		list = append(list, simEndpoint(i, 0))
	}
	return list
}

// pass lets time pass with traffic, and with harm every so often if there is to be any.
func (r *simRun) pass(d, harmEvery time.Duration) {
	harmAt := time.Now().Add(harmEvery)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(simStep) {
		r.step()
		r.gather()
		if r.chance.IntN(4) == 0 && time.Now().After(r.pause) {
			r.sendOne()
		}
		if harmEvery == 0 || time.Now().Before(harmAt) {
			continue
		}
		harmAt = time.Now().Add(between(r.chance, harmEvery/8, 2*harmEvery))
		r.disturb()
	}
}

// disturb harms the cluster, and sometimes what is in front of it.
func (r *simRun) disturb() {
	if r.trouble != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.trouble(r)
		return
	}
	switch r.chance.IntN(12) {
	case 0:
		r.pause = time.Now().Add(between(r.chance, 10*time.Second, 6*time.Minute))
	case 1:
		r.settler.setNodes(r.endpoints()[1:])
		r.settler.setNodes(r.endpoints())
	case 2:
		r.settler.mu.Lock()
		r.settler.books.coalesce(time.Now())
		r.settler.mu.Unlock()
	default:
		r.harm()
	}
}

func (r *simRun) sendOne() {
	off, again := r.part.take()
	if !again {
		off = r.next
		r.next++
	}
	node := r.chance.IntN(len(r.inserts))
	before, ok := r.settler.begin(simEndpoint(node, 0))
	if !ok || !r.post(node, off) || r.chance.IntN(50) == 0 { // not taken, or the answer was lost
		r.part.mu.Lock()
		r.part.again = append(r.part.again, off)
		r.part.mu.Unlock()
		return
	}
	r.answers = append(r.answers, simAnswer{off, before, time.Now().Add(between(r.chance, 0, 400*time.Millisecond))})
}

// gather takes in the answers that have arrived.
func (r *simRun) gather() {
	r.answers = slices.DeleteFunc(r.answers, func(a simAnswer) bool {
		if time.Now().Before(a.at) {
			return false
		}
		r.settler.sent(r.part, a.off, []ticket{a.ticket})
		return true
	})
}

// mend ends all harm.
func (r *simRun) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, st := range r.storages {
		st.frozen, st.killThen = false, false
		st.upAt, st.dieAt, st.deafTill, st.fullTill = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
	for _, in := range r.inserts {
		in.frozen, in.upAt, in.killThen, in.deafTill = false, time.Time{}, false, time.Time{}
		for _, p := range in.paths {
			p.cutTill = time.Time{}
		}
	}
}

func TestWhatIsCalledSettledIsOnDisk(t *testing.T) {
	clusters := uint64(*simulations)
	if testing.Short() { // meant for the race detector, which makes them forty times as slow
		clusters = min(clusters, 2)
	}
	for seed := range clusters {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

// What no counter of vminsert shows, and what nobody here sees.
func TestWhatIsCalledSettledIsOnDiskAfterLongTroubles(t *testing.T) {
	clusters := uint64(*simulations) / 2
	if testing.Short() {
		clusters = min(clusters, 1)
	}
	for name, what := range map[string]trouble{
		"no storage in reach": noStorageInReach, "all storages full": allStoragesFull, "storage deaf to us": storageDeafToUs,
	} {
		for seed := range clusters {
			t.Run(name+" "+strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := newSimRun(t, seed)
					r.trouble = what
					simulateRun(t, r, 6*time.Minute)
				})
			})
		}
	}
}

func simulate(t *testing.T, seed uint64) {
	harmEvery := []time.Duration{20 * time.Second, time.Minute, 3 * time.Minute}[seed%3]
	simulateRun(t, newSimRun(t, seed), harmEvery)
}

func simulateRun(t *testing.T, r *simRun, harmEvery time.Duration) {
	r.pass(20*time.Minute, harmEvery)
	r.part.mu.Lock()
	early := len(r.part.safe)
	r.part.mu.Unlock()
	r.mend()
	r.pass(12*time.Minute, 0)
	for r.part.owes() {
		r.pass(time.Second, 0)
	}
	r.pause = time.Now().Add(time.Hour)
	r.pass(8*time.Minute, 0)

	r.part.mu.Lock()
	defer r.part.mu.Unlock()
	t.Logf("harm every %s, %d vminserts, %d vmstorages, %d replicas: %d blocks, %d settled meanwhile, %d sent again",
		harmEvery, len(r.inserts), len(r.storages), r.replicas, r.next, early, r.part.resent)
	for _, wrong := range r.part.wrong {
		t.Error(wrong)
	}
	if r.trouble == nil && harmEvery > time.Minute && early < int(r.next)/4 {
		t.Errorf("only %d of %d blocks settled in spite of harm", early, r.next)
	}
	for off := range r.next {
		if !r.part.safe[off] {
			t.Errorf("block %d never settled although all is well again", off)
		}
	}
}
