// Package buffertest checks that a buffer.Store keeps its promises.
//
// Run is one suite of named promises for every Store; what only one of them has (torn files, lost leaders) is tested beside it.
// Memory is a Store for the tests of other packages.
package buffertest

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/ingestgw/ingestgw/buffer"
)

// Fault is a way in which storing something fails. Every fault has two sides, and a caller cannot tell them apart.
type Fault int

const (
	// Refused means that it did not happen. Nothing is stored, and the caller is told so.
	Refused Fault = iota + 1
	// AnswerLost means that it happened, or may have, but the caller is answered with an error.
	AnswerLost
)

// defaultPatience is generous for a Store that talks to brokers on a busy machine. It is waited for only when a promise fails.
const defaultPatience = 10 * time.Second

// A Harness makes the Stores that Run looks at.
type Harness struct {
	// Open returns a new, empty Store whose lanes hold about maxBytes each, or as much as it likes when maxBytes is 0. Run closes
	// it.
	Open func(t *testing.T, maxBytes int64) buffer.Store

	// Reopen returns a Store on what s left behind, with the bound that s had. s has been closed, or, when crash is set, is to
	// end as a killed process does: nothing of it may be flushed, and its Appends may fail but not hang. Nobody consumes s.
	Reopen func(t *testing.T, s buffer.Store, crash bool) buffer.Store

	// Fail makes the next block that s is to store fail in that way, once.
	Fail func(t *testing.T, s buffer.Store, f Fault)

	// FailSave makes the next Save of a partition of s fail in that way, once. Without it, that is not checked.
	FailSave func(t *testing.T, s buffer.Store, f Fault)

	// Damage makes a block of s unreadable, and as few others as possible. Without it, what Read says then is not checked.
	Damage func(t *testing.T, s buffer.Store, id buffer.PartitionID, at buffer.Offset)

	// Lose makes another process own all partitions of s for a moment: it returns when that has happened, and s gets them back
	// by itself. nil is for a Store whose partitions nobody else can own.
	Lose func(t *testing.T, s buffer.Store)

	// Patience is how long the Store may take for anything that a promise waits for; a call that then does not heed the end of
	// its context either is given up after as long again. 0 means 10 s.
	Patience time.Duration

	// Without names the promises that do not apply to this Store, and why. A promise that needs Reopen or Fail and has neither
	// it nor a reason here fails.
	Without map[string]string
}

// A promise is one that every Store makes.
type promise struct {
	name  string
	needs need
	keeps func(*scene)
}

// need is what a promise asks of the Harness besides Open.
type need int

const (
	nothing need = iota
	reopening
	faults
	saveFaults
	damage
	rivals
)

func promises() []promise {
	return slices.Concat(
		appendPromises(), lanePromises(), readPromises(), progressPromises(), lifePromises(), crashPromises(), faultPromises(),
	)
}

// Run checks every promise, each in a subtest of its name over a Store of its own.
func Run(t *testing.T, h Harness) {
	t.Helper()
	all := promises()
	for name, why := range h.Without {
		known := slices.ContainsFunc(all, func(p promise) bool { return p.name == name })
		if !known || why == "" {
			t.Errorf("Harness.Without[%q] = %q: want the name of a promise and a reason", name, why)
		}
	}
	for _, p := range all {
		if why, without := h.Without[p.name]; without {
			t.Logf("%s does not apply: %s", p.name, why)
			continue
		}
		if p.needs.optional() && !h.has(p.needs) {
			t.Logf("%s is not checked: the harness has no way to bring it about", p.name)
			continue
		}
		t.Run(p.name, func(t *testing.T) {
			if !h.has(p.needs) {
				t.Fatal("the harness lacks Reopen or Fail and gives no reason in Without")
			}
			p.keeps(&scene{T: t, harness: h, patience: cmp.Or(h.Patience, defaultPatience)})
		})
	}
}

// optional says whether a Harness may lack it without a reason.
func (n need) optional() bool { return n == saveFaults || n == damage || n == rivals }

func (h Harness) has(n need) bool {
	switch n {
	case reopening:
		return h.Reopen != nil
	case faults:
		return h.Fail != nil
	case saveFaults:
		return h.FailSave != nil
	case damage:
		return h.Damage != nil
	case rivals:
		return h.Lose != nil
	default:
		return true
	}
}
