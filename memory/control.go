package memory

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// A Control holds GOGC, the memory limit and the budgets that follow from it. They can be changed while the process runs, and Run
// watches what comes of it:
//
//   - A change that makes collecting garbage cost more than INGESTGW_MEMORY_GC_MAX_SHARE of the CPU used for
//     INGESTGW_MEMORY_GC_MAX_TIME is taken back: the last good values are put in force again. What is configured is good until it has
//     cost too much itself; what was changed live is good when it has been in force for that long under load (a quarter of the
//     cores) without costing too much, and with room for what is live. What was good and costs too much later, at the next peak, is good no more, and taken back as
//     well. If nothing good is left, the values stay, and View says that they are costly.
//   - In a death spiral (the limit leaves so little room that collecting again and again gains nothing), whoever has set the limit,
//     the budgets are halved first, step by step, down to an eighth but not below what the largest request takes. They grow back when
//     it is over.
//
// A Control is safe for concurrent use. Changes are forgotten when the process ends.
type Control struct {
	configured State
	hands      hands
	log        *slog.Logger

	mu        sync.Mutex
	container int64 // as it was found last
	meter     meter
	guard     *guard
	reading   Reading
	changed   *Changed
	reverted  *Reverted
	reverts   uint64
	pressed   time.Time // since when budgets are smaller; zero when they are not
	budgets   []sized
}

// hands is what a Control sees and touches of the world.
type hands struct {
	around
	clock func() time.Time
	read  func() sample
	put   func(State)
}

// sized is a budget that follows the limit.
type sized struct {
	name   string
	budget *Budget
	size   func(State) int64
	least  int64
}

// A Changed says who has changed the values last.
type Changed struct {
	At time.Time `json:"at"`
	By string    `json:"by"`
}

// A Reverted says that a change was taken back.
type Reverted struct {
	// At is when that was.
	At time.Time `json:"at"`
	// By is who had made the change.
	By string `json:"by"`
	// From are the values that cost too much, To those that are in force again.
	From State `json:"from"`
	To   State `json:"to"`
	// GCShare is what collecting took of the CPU used, 0 to 1, and AssistShare the part of it that held up the real work.
	GCShare     float64 `json:"gc_share"`
	AssistShare float64 `json:"assist_share"`
	// MaxShare is what it may take.
	MaxShare float64 `json:"max_share"`
}

// A View is all that there is to know at one moment.
type View struct {
	// Configured is what the settings say, InForce what holds.
	Configured State `json:"configured"`
	InForce    State `json:"in_force"`
	// Differs says whether InForce has other values than Configured: a restart would change something.
	Differs bool `json:"differs"`
	// Standing says whether the values in force may stay, and LastGood which ones would be put back; nil if there are none.
	Standing Standing `json:"standing"`
	LastGood *State   `json:"last_good"`
	// Changed is the last change by somebody; nil if there was none.
	Changed *Changed `json:"changed"`
	// Reverted is the last change that was taken back; nil if there was none, or if somebody has changed something since.
	Reverted *Reverted `json:"reverted"`
	// Reverts is how many there were.
	Reverts uint64 `json:"reverts"`
	// Container is the memory limit of the container in bytes, as it was at the start or the last change; 0 if there is none.
	Container int64 `json:"container_bytes"`
	// MaxShare is the most that collecting may take of the CPU used after a change, 0 to 1.
	MaxShare float64 `json:"gc_max_share"`
	// Now is what is measured.
	Now Reading `json:"now"`
	// Pressed says that there is a death spiral, or was a moment ago, so that the budgets are smaller than they should be; nil if
	// they are not.
	Pressed *Pressed `json:"pressed"`
	// Budgets are the bounds on bytes held.
	Budgets []BudgetView `json:"budgets"`
}

// Pressed says how budgets are kept small.
type Pressed struct {
	Since time.Time `json:"since"`
	// Halved is how often they were halved.
	Halved int `json:"halved"`
}

// A BudgetView is one budget at one moment, in bytes.
type BudgetView struct {
	Name string `json:"name"`
	// Full is its size as it follows from the memory limit, Limit its size now, Used what is held.
	Full  int64 `json:"full_bytes"`
	Limit int64 `json:"limit_bytes"`
	Used  int64 `json:"used_bytes"`
}

// New decides as Decide does, puts it in force, logs it, and registers metrics.
func New(cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Control, error) {
	c, err := newControl(cfg, timingOf(cfg.GCMaxTime), hands{
		around: around{container: memlimit.FromCgroup, goLimit: debug.SetMemoryLimit(-1)},
		clock:  time.Now,
		read:   newSampler().read,
		put:    put,
	}, log)
	if err != nil {
		return nil, err
	}
	reg.MustRegister(c)
	return c, nil
}

func newControl(cfg Config, t timing, h hands, log *slog.Logger) (*Control, error) {
	s, err := h.decide(cfg.GOGC, cfg.Limit)
	if err != nil {
		return nil, err
	}
	h.put(s)
	log.Info("memory settings in force", "gogc", s.gogc(), "gogc_from", s.GOGCFrom, "limit", s.limit(), "limit_from", s.LimitFrom)
	if why := s.Doubt(cfg); why != "" {
		log.Warn(why)
	}
	c := &Control{configured: s, hands: h, log: log, container: h.containerLimit(), meter: meter{window: t.window}}
	now := h.clock()
	c.guard = newGuard(t, float64(cfg.GCMaxShare)/100, now, s)
	c.reading = c.meter.add(now, h.read())
	return c, nil
}

// Budget returns a new budget whose size follows from what is in force, and registers its metrics. In a death spiral it is smaller,
// but not smaller than least if it can ever be as large: what the largest of those who take from it takes at once.
func (c *Control) Budget(name string, size func(State) int64, least int64, reg prometheus.Registerer) *Budget {
	c.mu.Lock()
	b := sized{name, NewBudget(0), size, least}
	b.budget.SetLimit(b.now(c.guard.inForce, c.guard.level))
	c.budgets = append(c.budgets, b)
	c.mu.Unlock()
	b.budget.Register(reg, name) // not under mu, which Collect takes
	return b.budget
}

// now is the size of a budget that has been halved so often.
func (b sized) now(s State, halved int) int64 {
	full := b.size(s)
	return max(min(full, b.least), full>>halved, 1)
}

// Set puts a change in force. The error is ErrChange, or about a container limit that cannot be read; nothing has changed then.
func (c *Control) Set(ctx context.Context, change Change) (View, error) {
	if err := ctx.Err(); err != nil {
		return View{}, fmt.Errorf("change memory settings: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.guard.inForce
	s, err := change.apply(was, c.hands.around)
	if err != nil {
		return View{}, fmt.Errorf("change memory settings: %w", err)
	}
	now := c.hands.clock()
	c.changed, c.reverted = &Changed{At: now, By: change.By}, nil
	c.enforce(now, s)
	c.log.Info("memory settings changed live", "by", change.By, "gogc", s.gogc(), "limit", s.limit(), "limit_from", s.LimitFrom,
		"gogc_before", was.gogc(), "limit_before", was.limit(), "differs_from_settings", !s.same(c.configured))
	c.doubt(s)
	return c.view(), nil
}

// enforce puts s in force; mu is held.
func (c *Control) enforce(now time.Time, s State) {
	c.hands.put(s)
	c.guard.change(now, s)
	c.meter.forget()
	c.resize()
}

// resize gives all budgets the size that they should have now; mu is held.
func (c *Control) resize() {
	for _, b := range c.budgets {
		b.budget.SetLimit(b.now(c.guard.inForce, c.guard.level))
	}
}

// doubt warns of what s may lead to; mu is held.
func (c *Control) doubt(s State) {
	c.container = c.hands.containerLimit()
	if whole := c.container; whole > 0 && (s.Limit == 0 || s.Limit > whole) {
		c.log.Warn("the container's limit is below the memory limit: the kernel may kill the process before it collects garbage harder",
			"limit", s.limit(), "container", settings.Bytes(whole))
	}
	for _, b := range c.budgets {
		if full := b.size(s); full < b.least {
			c.log.Warn("the memory limit leaves less than the largest request can take, so such requests may always be answered 503",
				"limit", s.limit(), "budget", b.name, "size", settings.Bytes(full), "largest_request", settings.Bytes(b.least))
		}
	}
}

// Run watches until ctx ends, and returns its error.
func (c *Control) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.guard.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			c.step(c.hands.clock(), c.hands.read())
		}
	}
}

// step takes one sample and does what has to be done.
func (c *Control) step(now time.Time, s sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = c.meter.add(now, s)
	a := c.guard.step(now, c.reading)
	if a.level != 0 {
		c.stepLevel(now, a.level > 0)
	}
	switch s := c.guard.inForce; {
	case a.revert != nil:
		c.revert(now, *a.revert)
	case a.costly:
		c.log.Warn("garbage collection costs too much, and there are no good memory settings to go back to",
			slog.Group("", c.costs()...), "for", c.guard.trial, "gogc", s.gogc(), "limit", s.limit())
	case a.proved:
		c.log.Info("memory settings have proved good", "gogc", s.gogc(), "limit", s.limit())
	}
}

// revert puts the last good values in force; mu is held.
func (c *Control) revert(now time.Time, to State) {
	from := c.guard.inForce
	c.reverted = &Reverted{
		At: now, By: c.changed.By, From: from, To: to,
		GCShare: c.reading.GCShare, AssistShare: c.reading.AssistShare, MaxShare: c.guard.maxShare,
	}
	c.reverts++
	c.enforce(now, to)
	c.log.Error("garbage collection cost too much after a change of memory settings, the last good ones are in force again",
		slog.Group("", c.costs()...), "for", c.guard.trial, "changed_by", c.changed.By,
		"gogc_tried", from.gogc(), "limit_tried", from.limit(), "gogc", to.gogc(), "limit", to.limit())
}

// costs is what a log line tells of the reading.
func (c *Control) costs() []any {
	return []any{
		"gc_share", round(c.reading.GCShare), "assist_share", round(c.reading.AssistShare), "max_share", c.guard.maxShare,
		"live", settings.Bytes(c.reading.Live), "counted", settings.Bytes(c.reading.Counted),
	}
}

// round keeps what somebody reads of a share.
func round(share float64) float64 { return math.Round(share*1000) / 1000 }

// stepLevel makes budgets smaller or larger; mu is held.
func (c *Control) stepLevel(now time.Time, halved bool) {
	c.resize()
	level := c.guard.level
	switch {
	case halved && level == 1:
		c.pressed = now
	case level == 0:
		c.pressed = time.Time{}
	}
	if !halved {
		c.log.Info("the memory limit leaves room again, budgets of bytes held are doubled", "still_halved", level)
		return
	}
	c.log.Warn("the memory limit is too low for what is live: budgets of bytes held are halved until there is room again",
		slog.Group("", c.costs()...), "limit", c.guard.inForce.limit(), "room", settings.Bytes(c.reading.Room), "halved", level)
}

// View is what holds now.
func (c *Control) View() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view()
}

func (c *Control) view() View {
	v := View{
		Configured: c.configured,
		InForce:    c.guard.inForce,
		Differs:    !c.guard.inForce.same(c.configured),
		Standing:   c.guard.standing,
		LastGood:   c.guard.lastGood(),
		Changed:    c.changed,
		Reverted:   c.reverted,
		Reverts:    c.reverts,
		Container:  c.container,
		MaxShare:   c.guard.maxShare,
		Now:        c.reading,
		Budgets:    make([]BudgetView, 0, len(c.budgets)),
	}
	if c.guard.level > 0 {
		v.Pressed = &Pressed{Since: c.pressed, Halved: c.guard.level}
	}
	for _, b := range c.budgets {
		v.Budgets = append(v.Budgets, BudgetView{b.name, b.size(v.InForce), b.budget.Limit(), b.budget.Used()})
	}
	return v
}
