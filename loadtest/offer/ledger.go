package offer

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// A Ledger says what was offered, and which requests were acknowledged. It is safe for concurrent use while Run fills it.
type Ledger struct {
	Config Config
	// Start and Step give the timestamp of a round: Start + round × Step, in milliseconds.
	Start, Step int64
	// Rounds is how many were begun.
	Rounds int

	mu sync.Mutex
	// Acknowledged has a bit for each round of each request; the index is tenant × requests per tenant + request. A request is
	// Config.PerRequest series of one tenant.
	Acknowledged [][]uint64
	// Attempted has a bit where a request was sent at all: such samples may be there although nobody acknowledged them.
	Attempted [][]uint64
}

func newLedger(cfg Config, start time.Time, step time.Duration) *Ledger {
	n := cfg.Tenants * cfg.requests()
	return &Ledger{
		Config: cfg, Start: start.UnixMilli(), Step: step.Milliseconds(),
		Acknowledged: make([][]uint64, n), Attempted: make([][]uint64, n),
	}
}

func (l *Ledger) note(set [][]uint64, request, round int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(set[request]) <= round/64 {
		set[request] = append(set[request], 0)
	}
	set[request][round/64] |= 1 << (round % 64)
	l.Rounds = max(l.Rounds, round+1)
}

func (l *Ledger) has(set [][]uint64, request, round int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return round/64 < len(set[request]) && set[request][round/64]&(1<<(round%64)) != 0
}

// Tenant is the VictoriaMetrics tenant, "<account>:<project>", of the i-th tenant.
func (l *Ledger) Tenant(i int) string { return fmt.Sprintf("%d:0", l.Config.FirstAccount+i) }

// Timestamp is a round's, in milliseconds.
func (l *Ledger) Timestamp(round int) int64 { return l.Start + int64(round)*l.Step }

// Due is when the sample of a tenant's series in a round was to be sent. It means nothing when Config.Rate is 0.
func (l *Ledger) Due(tenant, series, round int) time.Time {
	n := round*l.Config.Tenants*l.Config.requests() + l.request(tenant, series)
	return time.UnixMilli(l.Start).Add(l.Config.after(n))
}

// Round is the inverse of Timestamp; ok is false when no round has that timestamp.
func (l *Ledger) Round(timestamp int64) (round int, ok bool) {
	since := timestamp - l.Start
	if since < 0 || since%l.Step != 0 || since/l.Step >= int64(l.Rounds) {
		return 0, false
	}
	return int(since / l.Step), true
}

// IsAcknowledged is whether the sample of a tenant's series in a round was; WasSent whether it was sent at all.
func (l *Ledger) IsAcknowledged(tenant, series, round int) bool {
	return l.has(l.Acknowledged, l.request(tenant, series), round)
}

// WasSent is whether the sample was sent at all, acknowledged or not.
func (l *Ledger) WasSent(tenant, series, round int) bool {
	return l.has(l.Attempted, l.request(tenant, series), round)
}

func (l *Ledger) request(tenant, series int) int {
	return tenant*l.Config.requests() + series/l.Config.PerRequest
}

// Save writes the ledger to a file.
func (l *Ledger) Save(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	return nil
}

// Load reads what Save wrote.
func Load(path string) (*Ledger, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	l := new(Ledger)
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", path, err)
	}
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", path, err)
	}
	return l, nil
}

func (l *Ledger) check() error {
	if err := l.Config.Validate(); err != nil {
		return err
	}
	if n := l.Config.Tenants * l.Config.requests(); l.Step <= 0 || len(l.Acknowledged) != n || len(l.Attempted) != n {
		return fmt.Errorf("it has %d and %d requests, %d are expected", len(l.Acknowledged), len(l.Attempted), n)
	}
	return nil
}
