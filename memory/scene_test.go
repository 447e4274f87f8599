package memory

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/ingestgw/ingestgw/internal/settings"
)

// A scene is a Control in a world in which time passes and CPU is used as the test says.
type scene struct {
	*Control
	t      *testing.T
	now    time.Time
	sample sample
	inGo   State // what was put in force last
	logged bytes.Buffer
	// how is what a second of the world does.
	how load
}

// load is how a process of four cores spends them.
type load struct {
	used, gc, assist float64 // in cores; gc is a part of used, assist one of gc
	idleMark         float64 // in cores, a part of used beside gc
	live             int64
	limiter          bool // Go limits collecting
	noCycle          bool // no collection ends, so that no CPU is told
}

var (
	busy     = load{used: 3, gc: 0.3, live: 20 << 20}
	dear     = load{used: 3, gc: 1.5, assist: 0.6, live: 20 << 20}
	idle     = load{used: 0.02, gc: 0.018, live: 5 << 20}
	spiral   = load{used: 4, gc: 2, assist: 0.9, live: 90 << 20, limiter: true}
	relieved = load{used: 3, gc: 0.3, live: 30 << 20}
)

// play returns a scene with GOGC 100 and a limit of 512 MiB configured, in a container of 2 GiB.
func play(t *testing.T) *scene {
	t.Helper()
	cfg := auto(t)
	cfg.GOGC, cfg.Limit = 100, Limit{Size: settings.Size{Bytes: 512 << 20}}
	return playWith(t, cfg, memlimit.Limit(2<<30))
}

func playWith(t *testing.T, cfg Config, container memlimit.Provider) *scene {
	t.Helper()
	s := &scene{t: t, now: time.Unix(1e9, 0), how: busy, sample: sample{procs: 4, all: 60 << 20, objects: 40 << 20, free: 10 << 20}}
	var err error
	s.Control, err = newControl(cfg, timingOf(cfg.GCMaxTime), hands{
		around: around{container: container, goLimit: math.MaxInt64},
		clock:  func() time.Time { return s.now },
		read:   func() sample { return s.sample },
		put: func(st State) {
			s.inGo = st
			s.sample.limit = orMax(st.Limit)
		},
	}, slog.New(slog.NewTextHandler(&s.logged, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pass lets seconds go by under a load, and calls each after every one.
func (s *scene) pass(seconds int, how load, each ...func()) {
	s.how = how
	for range seconds {
		s.second()
		for _, f := range each {
			f()
		}
	}
}

func (s *scene) second() {
	s.now = s.now.Add(time.Second)
	s.sample.live = s.how.live
	if !s.how.noCycle {
		s.sample.total += 4
		s.sample.idle += 4 - s.how.used
		s.sample.gc += s.how.gc + s.how.idleMark
		s.sample.gcIdle += s.how.idleMark
		s.sample.assist += s.how.assist
		s.sample.cycles += 5
		if s.how.limiter {
			s.sample.limiter = s.sample.cycles
		}
	}
	s.step(s.now, s.sample)
}

func (s *scene) set(change string) View {
	s.t.Helper()
	v, err := s.trySet(change)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *scene) trySet(text string) (View, error) {
	change, err := ParseChange([]byte(text))
	if err != nil {
		return View{}, err
	}
	change.By = "10.0.0.9:1234"
	return s.Set(context.Background(), change)
}

// inForce fails unless these values hold, in the View and in Go.
func (s *scene) inForce(gogc Percent, limit int64, standing Standing) {
	s.t.Helper()
	v := s.View()
	if want := (State{GOGC: gogc, Limit: limit}); !v.InForce.same(want) || !s.inGo.same(want) || v.Standing != standing {
		s.t.Fatalf("in force %s, %s, Go has %s; want GOGC %d, limit %d, %s", v.InForce, v.Standing, s.inGo, gogc, limit, standing)
	}
}

var errDisk = errors.New("input/output error")
